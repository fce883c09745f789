//! Two groups of runs side by side: what each comes to, by how much they differ, and whether the data
//! says so at all.
//!
//! The unit is the run. Figures of statistics are floating point, of money too (nano-USD a run): they
//! are estimates with an interval, and nothing is accounted by them. What counts money stays whole.
//!
//! Many figures are looked at together, and of twenty one would seem to differ by chance. So intervals
//! are each of 95 %, but a difference is called one only where its level, corrected for how many were
//! looked at (Holm), is at most 5 %.

pub mod bootstrap;
mod by;
mod measure;
mod normal;
mod parting;
mod proportion;
mod report;
mod success;
mod words;

pub use self::by::{By, ByError};
pub use self::measure::{Measure, Unit};
pub use self::parting::{Departure, FirstDifference, What};
pub use self::report::{Arm, Compared, ComparedAgent, Comparison, LeftOut, Side, Verdict};
pub use self::success::{MetricBound, MetricBoundError, Success, SuccessError};
pub use self::words::{signed, spoken};

use std::collections::BTreeMap;

use super::id::Label;
use super::money::NanoUsd;

/// Runs of each arm below which nothing is concluded.
pub const FEW: usize = 20;

/// What one run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFigures {
    pub run: Label,
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_input_tokens: u64,
    /// None where the price of one of its calls is not known.
    pub cost: Option<NanoUsd>,
    /// From its first call to the end of its last one.
    pub duration_us: u64,
    /// The median over its calls; none where no call got an answer.
    pub first_chunk_us: Option<f64>,
    /// A breaker stopped it: a loop of it was stopped, or a budget or a limit refused its calls for good.
    pub is_stopped: bool,
    /// Its last call completed, and neither a breaker nor an operator stopped it.
    pub ended_well: bool,
    /// Custom metrics of it, those that were asked for: of each the mean of its numbers, and of yes and no
    /// as 1 and 0.
    pub metrics: BTreeMap<String, f64>,
    pub agents: BTreeMap<Label, AgentFigures>,
}

/// What one agent did in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentFigures {
    pub calls: u64,
    pub errors: u64,
    /// Input and output.
    pub tokens: u64,
    pub cost: NanoUsd,
    /// Calls of it whose price is not known.
    pub unpriced_calls: u64,
}

#[cfg(test)]
mod tests;
