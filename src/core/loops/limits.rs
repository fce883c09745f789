//! Bounds of a run that are no matter of repetition.

use serde::Serialize;

use super::super::time::Timestamp;

const MINUTE_US: u64 = 60_000_000;

/// How large a run may grow. None is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RunLimits {
    /// Length of the chain of agents.
    pub max_depth: Option<u32>,
    /// Conversations that one agent of a run begins with others.
    pub max_fan_out: Option<u32>,
    pub max_calls: Option<u32>,
    pub max_calls_per_minute: Option<u32>,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            max_depth: Some(32),
            max_fan_out: None,
            max_calls: None,
            max_calls_per_minute: None,
        }
    }
}

/// The bound that a call would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    Depth(u32),
    FanOut(u32),
    Calls(u32),
    /// And seconds until there is room.
    CallsPerMinute(u32, u64),
}

/// Counts calls of the last minute, a little too patiently: by a whole minute and the one before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    minute: u64,
    before: u32,
    now: u32,
}

impl Pace {
    /// Calls in the minute that ends now, as far as two counts tell.
    pub fn calls(&mut self, now: Timestamp) -> u32 {
        let micros = u64::try_from(now.micros()).unwrap_or(0);
        let minute = micros / MINUTE_US;
        match minute.saturating_sub(self.minute) {
            0 => {}
            1 => (self.before, self.now) = (self.now, 0),
            _ => (self.before, self.now) = (0, 0),
        }
        self.minute = self.minute.max(minute);
        let left = MINUTE_US - micros % MINUTE_US;
        let before = u64::from(self.before) * left / MINUTE_US;
        self.now + u32::try_from(before).unwrap_or(u32::MAX)
    }

    pub fn count(&mut self) {
        self.now += 1;
    }
}
