//! Why a call is not let through, in words that a person can act on.

use std::fmt;

use super::bank::Standing;
use crate::core::budget::amounts::micro_text;
use crate::core::budget::decide::Why;
use crate::core::budget::{Dimension, Measure};
use crate::core::id::Label;
use crate::core::loops::finding::Signal;
use crate::core::loops::refusal as loops;
use crate::core::time::Timestamp;

/// A reset further away than this is not worth a client's waiting (seconds).
const WORTH_WAITING: u64 = 60;

/// The policy says no.
#[derive(Debug)]
pub enum Refusal {
    /// What is used leaves no room for the call.
    Spent(Box<Standing>),
    /// The model has no price and the budget is in USD.
    Unpriced(Box<Standing>),
    /// What is left is held by running calls, and they did not end in time.
    Busy(Box<Standing>),
    Paused(Label),
    Stopped(Label),
    /// An answer went on beyond what its budget pays for.
    Overrun(Box<Standing>),
    /// What other instances spent is not known, and nothing is to go on without that.
    Away,
    /// The call is of a loop, or its run grew too large.
    Loop(Box<loops::Refusal>),
}

impl Refusal {
    /// What [`kind`](Self::kind) says, beside the kinds of [`loops::Refusal`].
    pub const KINDS: [&'static str; 7] = [
        "budget_spent",
        "unpriced_model",
        "budget_held",
        "run_paused",
        "run_stopped",
        "budget_overrun",
        "shared_away",
    ];

    pub(super) fn of(standing: Box<Standing>) -> Self {
        match standing.why {
            Some(Why::Unpriced) => Self::Unpriced(standing),
            _ => Self::Spent(standing),
        }
    }

    /// Low-cardinality name: what headers, metrics and logs call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Spent(_) => "budget_spent",
            Self::Unpriced(_) => "unpriced_model",
            Self::Busy(_) => "budget_held",
            Self::Paused(_) => "run_paused",
            Self::Stopped(_) => "run_stopped",
            Self::Overrun(_) => "budget_overrun",
            Self::Away => "shared_away",
            Self::Loop(of) => of.kind(),
        }
    }

    /// The `code` of the error object: what programs look at.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unpriced(_) | Self::Away => self.kind(),
            Self::Spent(_)
            | Self::Busy(_)
            | Self::Paused(_)
            | Self::Stopped(_)
            | Self::Loop(_)
            | Self::Overrun(_) => "circuit_break",
        }
    }

    pub fn rule(&self) -> Option<&Label> {
        self.standing().map(|standing| &standing.rule.name)
    }

    pub fn standing(&self) -> Option<&Standing> {
        match self {
            Self::Spent(standing)
            | Self::Unpriced(standing)
            | Self::Busy(standing)
            | Self::Overrun(standing) => Some(standing),
            Self::Paused(_) | Self::Stopped(_) | Self::Away | Self::Loop(_) => None,
        }
    }

    /// Nothing that passes when the client waits.
    pub fn is_break(&self) -> bool {
        !matches!(self, Self::Busy(_) | Self::Paused(_) | Self::Away)
    }

    /// A breaker ends the run as it is, and no other record says so: that of a stopped loop and
    /// that of an operator who stops a run do.
    pub fn is_final(&self, now: Timestamp) -> bool {
        let is_told = match self {
            Self::Stopped(_) => true,
            Self::Loop(of) => matches!(**of, loops::Refusal::Tripped(_)),
            _ => false,
        };
        self.is_break() && !is_told && self.retry_after(now).is_none()
    }

    /// What gave a loop away that is stopped with this call.
    pub fn stops_loop(&self) -> Option<Signal> {
        match self {
            Self::Loop(of) => of.opens(),
            _ => None,
        }
    }

    /// Seconds after which trying again makes sense; none when a client should give up.
    pub fn retry_after(&self, now: Timestamp) -> Option<u64> {
        match self {
            Self::Away => Some(1),
            Self::Busy(_) => Some(2),
            Self::Paused(_) => Some(10),
            Self::Spent(standing) => {
                let wait = standing.fits_at?.micros_since(now).div_ceil(1_000_000);
                (wait <= WORTH_WAITING).then_some(wait.max(1))
            }
            Self::Loop(of) => of.retry_after(),
            Self::Unpriced(_) | Self::Stopped(_) | Self::Overrun(_) => None,
        }
    }

    /// When there will be room again, as far as time alone makes some.
    pub fn resets_at(&self) -> Option<Timestamp> {
        self.standing().and_then(|standing| standing.fits_at)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spent(standing) => {
                let rule = &standing.rule.name;
                if standing.seat().used_permille() >= 1000 {
                    write!(f, "the budget \"{rule}\" is spent: ")?;
                } else {
                    write!(
                        f,
                        "the budget \"{rule}\" has too little left for this call: "
                    )?;
                }
                account(f, standing)?;
                when(f, standing)?;
                raise(f, standing)
            }
            Self::Unpriced(standing) => write!(
                f,
                "the budget \"{}\" counts USD and what this call costs cannot be known: its model has no \
                 price (add it as a [[price]]), or it is a WebSocket, which is not metered. To let it \
                 pass change on_unpriced of the budget",
                standing.rule.name
            ),
            Self::Busy(standing) => {
                write!(
                    f,
                    "all that is left of the budget \"{}\" is held by {} running calls, and they did \
                     not end in time: ",
                    standing.rule.name, standing.running
                )?;
                account(f, standing)?;
                f.write_str(". Try again when they have ended")?;
                raise(f, standing)
            }
            Self::Paused(run) => write!(
                f,
                "the run {run} is paused. To let it go on: open-aiops run resume {}",
                quoted(run)
            ),
            Self::Stopped(run) => write!(
                f,
                "the run {run} was stopped. To let it go on: open-aiops run resume {}",
                quoted(run)
            ),
            Self::Away => f.write_str(
                "what other instances spent is not known: Redis cannot be reached, and [shared] on_failure \
                 is \"refuse\"; see the log",
            ),
            Self::Loop(of) => of.fmt(f),
            Self::Overrun(standing) => {
                write!(
                    f,
                    "the answer went on beyond its output limit and the budget \"{}\" has no room \
                     for more: ",
                    standing.rule.name
                )?;
                account(f, standing)?;
                raise(f, standing)
            }
        }
    }
}

/// Who used what of what.
fn account(f: &mut fmt::Formatter<'_>, standing: &Standing) -> fmt::Result {
    write!(f, "{} used ", standing.name)?;
    let measure = standing.measure().unwrap_or_else(|| tightest(standing));
    if measure == Measure::Concurrent {
        return write!(f, "{} of {}", standing.running, limit(standing, measure));
    }
    let used = standing.used.of(measure);
    let held = standing.held.of(measure);
    let used = match measure {
        Measure::Usd => measure.text(used),
        Measure::Metric => micro_text(used),
        _ => used.to_string(),
    };
    let text = |amount| standing.rule.text(measure, amount);
    write!(f, "{used} of {}", limit(standing, measure))?;
    if held > 0 {
        write!(f, ", running calls hold {}", text(held))?;
    }
    if standing.needs > 0 && measure != Measure::Calls {
        write!(f, ", this call needs about {}", text(standing.needs))?;
    }
    Ok(())
}

fn limit(standing: &Standing, measure: Measure) -> String {
    let limit = standing.limits.of(measure).unwrap_or_default();
    standing.rule.text(measure, limit)
}

fn tightest(standing: &Standing) -> Measure {
    let part = |(measure, limit): &(Measure, i64)| {
        let taken = standing.used.plus(standing.held).of(*measure);
        i128::from(taken) * 1000 / i128::from((*limit).max(1))
    };
    let limits = standing.limits.each();
    limits
        .max_by_key(part)
        .map_or(Measure::Usd, |(measure, _)| measure)
}

fn when(f: &mut fmt::Formatter<'_>, standing: &Standing) -> fmt::Result {
    match standing.fits_at {
        Some(at) => write!(f, ". There will be room at {at}"),
        None if standing.is_beyond_limit() => f.write_str(", more than there is in all"),
        None => f.write_str(". It does not reset by itself"),
    }
}

fn raise(f: &mut fmt::Formatter<'_>, standing: &Standing) -> fmt::Result {
    write!(
        f,
        ". To raise it: open-aiops budgets raise {}",
        quoted(&standing.rule.name)
    )?;
    for (dimension, value) in &standing.name.key {
        let value = value.as_ref().map_or("", Label::as_str);
        write!(f, " --key {}", shell(&format!("{dimension}={value}")))?;
    }
    let measure = standing.measure().unwrap_or_else(|| tightest(standing));
    let flag = measure.name().replace('_', "-");
    let example = match measure {
        Measure::Usd => "1.00",
        Measure::Tokens | Measure::InputTokens | Measure::OutputTokens => "100000",
        Measure::Calls | Measure::Metric => "100",
        Measure::Concurrent => "1",
    };
    write!(f, " --{flag} {example}")
}

fn quoted(label: &Label) -> String {
    shell(label.as_str())
}

/// A word as a shell takes it.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A key as operators name it: `run=nightly-42`.
pub fn key_text(key: &[(Dimension, Option<Label>)]) -> String {
    let parts: Vec<String> = key
        .iter()
        .map(|(of, value)| format!("{of}={}", value.as_ref().map_or("", Label::as_str)))
        .collect();
    parts.join(",")
}
