//! When calls are due and when it is over.
//!
//! Times are nanoseconds of the monotonic clock.

use crate::{Mode, Options};

#[derive(Debug)]
pub(crate) struct Schedule {
    mode: Mode,
    first_ns: u64,
    period_ns: f64,
    issued: u64,
    calls: u64,
    /// When measuring starts.
    pub(crate) open_ns: u64,
    /// When measuring ends; no call is due from here on.
    pub(crate) close_ns: u64,
    /// When what is still unanswered is given up.
    pub(crate) deadline_ns: u64,
}

impl Schedule {
    pub(crate) fn new(options: &Options, now: u64) -> Self {
        let counted = options.mode == Mode::Once || options.calls.is_some();
        let open_ns = if counted {
            now
        } else {
            now + nanos(options.warmup)
        };
        let close_ns = if counted {
            u64::MAX
        } else {
            open_ns + nanos(options.seconds)
        };
        let ramp_ns = options.ramp_ms as f64 * 1e6;
        let last_due = match (options.mode, options.calls) {
            (Mode::Once, _) => now + ramp_ns as u64,
            (_, Some(_)) => now,
            _ => close_ns,
        };
        Self {
            mode: options.mode,
            first_ns: now,
            period_ns: match options.mode {
                Mode::Closed => 0.0,
                Mode::Open => 1e9 / options.rate,
                Mode::Once => ramp_ns / options.connections as f64,
            },
            issued: 0,
            calls: match options.mode {
                Mode::Once => options.connections as u64,
                _ => options.calls.unwrap_or(u64::MAX),
            },
            open_ns,
            close_ns,
            deadline_ns: last_due + nanos(options.grace),
        }
    }

    /// When the next call is due; None when no more will start.
    pub(crate) fn next_due(&self, now: u64) -> Option<u64> {
        if self.issued == self.calls || now >= self.close_ns {
            return None;
        }
        let due = self.first_ns + (self.issued as f64 * self.period_ns) as u64;
        (due < self.close_ns).then_some(due)
    }

    /// Takes the next call if it is due: the moment its latency counts from.
    pub(crate) fn take(&mut self, now: u64) -> Option<u64> {
        let due = self
            .next_due(now)
            .filter(|due| *due <= now && now < self.close_ns)?;
        self.issued += 1;
        Some(if self.mode == Mode::Closed { now } else { due })
    }
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn schedule(arguments: &[&str]) -> Schedule {
        let arguments = ["loadgen"].iter().chain(arguments);
        Schedule::new(&Options::parse_from(arguments), 1_000)
    }

    #[test]
    fn late_call_of_an_open_schedule_counts_from_when_it_was_due() {
        let mut open = schedule(&["--mode", "open", "--rate", "1000"]);
        assert_eq!(open.take(5_001_000), Some(1_000));
        assert_eq!(open.take(5_001_000), Some(1_001_000));
    }

    #[test]
    fn early_call_is_not_taken() {
        let mut open = schedule(&["--mode", "open", "--rate", "1000"]);
        open.take(1_000);
        assert_eq!(
            (open.take(2_000), open.next_due(2_000)),
            (None, Some(1_001_000))
        );
    }

    #[test]
    fn late_calls_do_not_start_after_the_end() {
        let open = schedule(&["--mode", "open", "--seconds", "1", "--warmup", "0"]);
        assert_eq!(open.next_due(2_000_000_000), None);
    }

    #[test]
    fn counted_schedule_ends_after_its_calls() {
        let mut closed = schedule(&["--calls", "1"]);
        assert_eq!(closed.take(7_000), Some(7_000));
        assert_eq!((closed.take(7_000), closed.next_due(7_000)), (None, None));
    }
}
