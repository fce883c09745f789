//! What one instance has of an account, what it asks of all, and what it is answered: as text that
//! the scripts in Redis take apart.
//!
//! They count in floating point, which is exact up to 2^53: about 9 million USD in nano-USD.

use std::fmt::Write;
use std::time::Duration;

use super::naming::Account;
use super::redis_error::Away;
use crate::core::budget::{Amounts, Measure, Spent};
use crate::core::time::Timestamp;

const EXACT: i64 = 1 << 53;

/// What this instance has of one account: all of it, not what changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    pub account: Account,
    /// Higher than of any part before.
    pub version: u64,
    pub running: i64,
    pub held: Amounts,
    /// What is held counts for this time if the instance is lost.
    pub bucket: Timestamp,
    pub spent: Vec<(Timestamp, Amounts)>,
    /// How long it is kept when nobody uses it.
    pub keep: Duration,
}

/// What is asked of an account: what counts, and what must fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub from: Timestamp,
    pub to: Timestamp,
    pub keep: Duration,
    pub checks: Vec<Check>,
}

/// One limit, and how much of it a call wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    pub measure: Measure,
    pub limit: i64,
    pub wanted: i64,
}

/// What other instances have of one account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Others {
    pub running: i64,
    pub held: Amounts,
    pub spent: Spent,
}

/// What was answered, of each account in the order it was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub fits: bool,
    /// By the server's clock.
    pub at: Timestamp,
    /// The last deed that anybody told.
    pub deed: String,
    /// Instances that live, this one too.
    pub living: usize,
    pub others: Vec<Others>,
}

impl Contribution {
    pub(super) fn keep_ms(&self) -> u64 {
        millis(self.keep)
    }

    pub(super) fn text(&self, incarnation: u64) -> String {
        let mut text = format!("[{incarnation},{}", self.version);
        push(&mut text, self.running);
        push(&mut text, self.bucket.micros());
        push_amounts(&mut text, self.held);
        for (bucket, amounts) in &self.spent {
            push(&mut text, bucket.micros());
            push_amounts(&mut text, *amounts);
        }
        text.push(']');
        text
    }
}

impl Query {
    pub(super) fn text(&self) -> String {
        let mut text = format!("[{}", exact(self.from.micros()));
        push(&mut text, self.to.micros());
        push(&mut text, i64::try_from(millis(self.keep)).unwrap_or(EXACT));
        for check in &self.checks {
            push(&mut text, code(check.measure));
            push(&mut text, check.limit);
            push(&mut text, check.wanted);
        }
        text.push(']');
        text
    }
}

impl Answer {
    pub(super) fn parse(reply: &[String], accounts: usize) -> Result<Self, Away> {
        let not_understood = || Away::Answer(reply.join(" ").chars().take(200).collect());
        match reply {
            [gone] if gone == "gone" => Err(Away::Unknown),
            [fits, at, deed, living, others @ ..] if others.len() == accounts => {
                let at = at.parse().map_err(|_| not_understood())?;
                let others = others.iter().map(|text| Others::parse(text));
                let others: Option<Vec<Others>> = others.collect();
                Ok(Self {
                    fits: fits == "fits",
                    at: Timestamp::from_micros(at),
                    deed: deed.clone(),
                    living: living.parse().map_err(|_| not_understood())?,
                    others: others.ok_or_else(not_understood)?,
                })
            }
            _ => Err(not_understood()),
        }
    }
}

impl Others {
    fn parse(text: &str) -> Option<Self> {
        let numbers: Result<Vec<i64>, _> = text.split(' ').map(str::parse).collect();
        let numbers = numbers.ok()?;
        let (running, rest) = numbers.split_first()?;
        let (held, rest) = rest.split_at_checked(5)?;
        let mut others = Self {
            running: *running,
            held: amounts(held)?,
            spent: Spent::default(),
        };
        for bucket in rest.chunks(6) {
            let (start, sum) = bucket.split_first()?;
            let start = Timestamp::from_micros(*start);
            others.spent.add(start, amounts(sum)?);
        }
        Some(others)
    }
}

fn amounts(of: &[i64]) -> Option<Amounts> {
    let [nano_usd, input_tokens, output_tokens, calls, micro_metric] = *of else {
        return None;
    };
    Some(Amounts {
        nano_usd,
        input_tokens,
        output_tokens,
        calls,
        micro_metric,
    })
}

fn code(measure: Measure) -> i64 {
    match measure {
        Measure::Usd => 1,
        Measure::InputTokens => 2,
        Measure::OutputTokens => 3,
        Measure::Calls => 4,
        Measure::Metric => 5,
        Measure::Tokens => 6,
        Measure::Concurrent => 7,
    }
}

fn push(text: &mut String, number: i64) {
    // Writing to a text cannot fail.
    let _ = write!(text, ",{}", exact(number));
}

fn push_amounts(text: &mut String, amounts: Amounts) {
    push(text, amounts.nano_usd);
    push(text, amounts.input_tokens);
    push(text, amounts.output_tokens);
    push(text, amounts.calls);
    push(text, amounts.micro_metric);
}

fn exact(number: i64) -> i64 {
    number.clamp(-EXACT, EXACT)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis())
        .unwrap_or(u64::MAX)
        .min(1 << 52)
}
