//! Repetition with any short period, found in constant time for each token.

/// The longest period that is looked for.
pub const MAX_PERIOD: usize = 8;
const LONGEST: u32 = 8;

/// The last tokens of a sequence, and for each period how long it has held.
#[derive(Clone, Debug, Default)]
pub struct Periods {
    last: [u64; MAX_PERIOD],
    seen: usize,
    /// `runs[p - 1]`: of how many tokens in a row each equals the one `p` before it.
    runs: [u32; MAX_PERIOD],
}

impl Periods {
    /// Takes a token; whether it is the same as the one before.
    pub fn push(&mut self, token: u64) -> bool {
        for period in 1..=MAX_PERIOD.min(self.seen) {
            let before = self.last.get((self.seen - period) % MAX_PERIOD);
            if let Some(run) = self.runs.get_mut(period - 1) {
                *run = if before == Some(&token) { *run + 1 } else { 0 };
            }
        }
        if let Some(slot) = self.last.get_mut(self.seen % MAX_PERIOD) {
            *slot = token;
        }
        self.seen += 1;
        self.runs[0] > 0
    }

    /// The shortest period that goes on, with the number of tokens that it covers; a single token
    /// is a period of one that covers one.
    pub fn shortest(&self) -> (u32, u32) {
        let held = |period: &u32| self.covered(*period) >= 2 * period;
        let period = (1..=LONGEST).find(held).unwrap_or(1);
        (period, self.covered(period))
    }

    /// How many of the last tokens have this period.
    pub fn covered(&self, period: u32) -> u32 {
        let run = self.runs.get(period as usize - 1).copied().unwrap_or(0);
        let seen = u32::try_from(self.seen).unwrap_or(u32::MAX);
        (run + period).min(seen)
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
