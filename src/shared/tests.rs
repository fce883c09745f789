//! The scripts against a real server.
