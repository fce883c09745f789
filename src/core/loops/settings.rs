//! Every threshold of loop detection, by name.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantNames};

/// From which count on a signal is said aloud, and from which it trips. A `trip` of 0 never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Threshold {
    pub warn: u32,
    pub trip: u32,
}

/// How far the detector goes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Mode {
    /// Nothing is looked for.
    Off,
    /// Findings are told: header, event, metric.
    Observe,
    /// Calls of a loop are delayed as well.
    Slow,
    /// And refused.
    Break,
}

/// A set of thresholds and a mode under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, EnumString, IntoStaticStr, VariantNames)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Preset {
    Observe,
    Cautious,
    Balanced,
}

/// What counts as a loop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    pub mode: Mode,
    /// The same action with the same result, in a row.
    pub repeat: Threshold,
    /// A pattern of two to eight such pairs, in whole periods.
    pub period: Threshold,
    /// Calls in a row that say and learn nothing new.
    pub stale: Threshold,
    /// As the `trip` of `stale`, when callers and agents of the run go in a circle as well.
    pub stale_in_circle: u32,
    /// As the `trip` of `stale`, for tools that ask whether something is done.
    pub stale_poll: u32,
    /// The same error of one tool, whatever its arguments.
    pub same_error: Threshold,
    /// The same request again, without another answer.
    pub same_request: Threshold,
    /// The same first request with the same answer.
    pub same_answer: Threshold,
    /// Levels by which agents hand one task down.
    pub delegation: Threshold,
    /// Answers in a row that say one piece over and over.
    pub chant: Threshold,
}

impl Settings {
    /// Chosen on recorded runs: the most loops that can be stopped without stopping work.
    pub const BALANCED: Self = Self {
        mode: Mode::Break,
        repeat: Threshold { warn: 3, trip: 5 },
        period: Threshold { warn: 2, trip: 3 },
        stale: Threshold { warn: 8, trip: 12 },
        stale_in_circle: 8,
        stale_poll: 40,
        same_error: Threshold { warn: 4, trip: 8 },
        same_request: Threshold { warn: 5, trip: 10 },
        same_answer: Threshold { warn: 15, trip: 30 },
        delegation: Threshold { warn: 4, trip: 8 },
        chant: Threshold { warn: 1, trip: 2 },
    };

    /// Twice the patience.
    pub const CAUTIOUS: Self = Self {
        repeat: Threshold { warn: 5, trip: 10 },
        period: Threshold { warn: 3, trip: 6 },
        stale: Threshold { warn: 12, trip: 24 },
        stale_in_circle: 16,
        stale_poll: 80,
        same_error: Threshold { warn: 8, trip: 16 },
        same_request: Threshold { warn: 10, trip: 20 },
        same_answer: Threshold { warn: 30, trip: 60 },
        delegation: Threshold { warn: 8, trip: 16 },
        chant: Threshold { warn: 2, trip: 4 },
        ..Self::BALANCED
    };

    pub const fn preset(preset: Preset) -> Self {
        match preset {
            Preset::Balanced => Self::BALANCED,
            Preset::Cautious => Self::CAUTIOUS,
            Preset::Observe => Self {
                mode: Mode::Observe,
                ..Self::BALANCED
            },
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::BALANCED
    }
}

/// What of the settings is otherwise for some tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ToolTraits {
    /// Whether it asks if something is done; none where that is told by its name and arguments.
    pub polls: Option<bool>,
    /// How often it may do the same with the same result, in place of `repeat`.
    pub repeats: Option<u32>,
}
