//! The ledger as a whole, on fake disks.

mod batches;
mod crash;
mod damage;
mod failure;
mod files;
mod harness;
mod history;
mod index;
mod recording;
mod room;
