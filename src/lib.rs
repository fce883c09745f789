//! Open-AIOps: a transparent reverse proxy between AI agents and OpenAI-compatible endpoints.
//!
//! ARCHITECTURE.md is the map of this crate. `core` is pure: no I/O, no clock, no async.

pub mod admin;
pub mod alerts;
pub mod app;
pub mod backtest;
pub mod budgets;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod dashboard;
pub mod demo;
pub mod exchange;
pub mod export;
pub mod launch;
pub mod ledger;
pub mod listener;
pub mod loops;
pub mod metrics;
pub mod otel;
pub mod proxy;
pub mod replay;
pub mod shared;
pub mod sinks;
pub mod suggest;
pub mod tokens;
pub mod upstream;
pub mod wire;
