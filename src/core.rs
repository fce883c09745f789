//! The pure heart: what a call is, what it used, what that costs.
//!
//! Nothing here reads a clock, a file, the network, the environment or randomness.

pub mod alert;
pub mod attribution;
pub mod budget;
pub mod build;
pub mod call;
pub mod compare;
pub mod diff;
pub mod digest;
pub mod id;
pub mod latencies;
pub mod lineage;
pub mod loops;
pub mod memo;
pub mod metric;
pub mod money;
pub mod price;
pub mod recorded;
pub mod redaction;
pub mod replay;
pub mod space;
pub mod suggest;
pub mod text;
pub mod time;
pub mod trace;
pub mod usage;
