//! Each format, with odd values.
