//! From recorded bodies to findings: ledgers that are made up, of which the right answer is known.

mod cache;
mod healthy;
pub(crate) mod ledger;
mod retries;
mod rules;
