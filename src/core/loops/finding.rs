//! What the detector found, and how strong it is.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};
use utoipa::ToSchema;

use super::settings::Threshold;

/// Kinds of repetition without anything new.
#[derive(EnumString, IntoStaticStr, ToSchema, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// The same action with the same result.
    #[n(0)]
    Repeat,
    /// A pattern of several actions and results.
    #[n(1)]
    Period,
    /// Nothing new was said or learned.
    #[n(2)]
    Stale,
    /// The same error of one tool, whatever its arguments.
    #[n(3)]
    SameError,
    /// The same request, without another answer.
    #[n(4)]
    SameRequest,
    /// The same first request with the same answer.
    #[n(5)]
    SameAnswer,
    /// Agents hand the same task down.
    #[n(6)]
    Delegation,
    /// An answer says one piece over and over.
    #[n(7)]
    Chant,
}

/// How far a pattern reaches.
#[derive(EnumString, IntoStaticStr, ToSchema, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    #[n(0)]
    Conversation,
    /// One first request of an agent by its caller, within a run.
    #[n(1)]
    Edge,
    #[n(2)]
    Run,
}

/// One signal at or above what is said aloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    pub signal: Signal,
    pub scope: Scope,
    /// Calls of one round.
    pub period: u32,
    /// Rounds, in the unit of the threshold.
    pub count: u32,
    /// Calls that belong to it.
    pub calls: u32,
    pub threshold: Threshold,
}

impl Finding {
    /// None below what is said aloud.
    pub fn of(
        (signal, scope): (Signal, Scope),
        (period, count): (u32, u32),
        calls: u32,
        threshold: Threshold,
    ) -> Option<Self> {
        let finding = Self {
            signal,
            scope,
            period,
            count,
            calls,
            threshold,
        };
        let said = threshold.warn > 0 && count >= threshold.warn;
        (said || finding.trips()).then_some(finding)
    }

    pub fn trips(&self) -> bool {
        self.threshold.trip > 0 && self.count >= self.threshold.trip
    }

    /// How many steps beyond the middle between warning and tripping, from 1; 0 before.
    pub fn slow_steps(&self) -> u32 {
        let Threshold { warn, trip } = self.threshold;
        if trip == 0 {
            return 0;
        }
        let middle = warn + trip.saturating_sub(warn).div_ceil(2);
        (self.count + 1).saturating_sub(middle)
    }
}
