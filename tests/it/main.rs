//! The product from outside: one binary, so that it links once.
//!
//! Each file is one promise. `harness` has the fake upstreams, the real proxy and the clients.
#![cfg(test)]

mod harness;

mod access;
mod alerts;
mod attribution;
mod audit;
mod budget_crash;
mod budget_faults;
mod budget_late;
mod budget_media;
mod budget_metrics;
mod budget_waits;
mod budget_ways;
mod budgets;
mod compare;
mod crash;
mod custom_metrics;
mod deletion;
mod demo;
mod deploy;
mod durable;
mod exchange;
mod export;
mod faults;
mod full_disk;
mod headers;
mod http2;
mod inference;
mod launch;
mod launch_process;
mod lifecycle;
mod loop_commands;
mod loops;
mod memory;
mod metrics;
mod otel;
mod otel_runs;
mod otel_traces;
mod power;
mod records;
mod replay;
mod replay_answers;
mod replay_launch;
mod shared_budgets;
mod shared_deeds;
mod shared_faults;
mod shared_loops;
mod shared_losses;
mod shared_tls;
mod shared_upkeep;
mod sinks;
mod smuggling;
mod steps;
mod streaming;
mod tidy;
mod transparency;
mod tunnel;
mod understood;
mod uploads;
