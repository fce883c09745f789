//! The ledger as a whole, on fake disks.

mod accepting;
mod audit;
mod batches;
mod budgets;
mod compare;
mod crash;
mod damage;
mod ends;
mod erase;
mod erase_any;
mod erase_cases;
mod erase_runs;
mod erase_world;
mod failure;
mod feed;
mod files;
pub(super) mod harness;
mod history;
mod index;
mod lists;
mod measured;
mod recording;
mod redacting;
mod room;
mod runs;
mod slices;
mod tampering;
