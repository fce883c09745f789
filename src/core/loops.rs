//! Loops: repetition without anything new. Pure: no I/O, no clock, no async.
//!
//! A call is read into an [`Ask`](turn::Ask) and an [`Answer`](turn::Answer) of hashes, which a
//! [`Watch`](watch::Watch) of its run compares with what it has seen. Repetition alone is no loop: what
//! brings something new - a result that was not there before, numbers that move on, words nobody
//! said - is progress.

pub mod chant;
mod conversation;
pub mod finding;
pub mod guard;
pub mod limits;
pub mod novelty;
pub mod periods;
pub mod reading;
pub mod refusal;
pub mod settings;
pub mod trip;
pub mod turn;
pub mod watch;

#[cfg(test)]
mod tests;
