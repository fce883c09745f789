//! Reads what the rules of `core::suggest` ask of recorded calls: how requests are made up, what was
//! answered, what a token cost.
//!
//! A message that many calls repeat is looked into once. Blocks on the disk: call it from a thread
//! that may.

mod contents;
mod offer;
mod part;
mod prices;

use crate::config::Config;
use crate::core::call::{Operation, Outcome, StoredBody};
use crate::core::id::{CallId, Label};
use crate::core::suggest::change;
use crate::core::suggest::facts::CallFacts;
use crate::core::suggest::{Bound, Evidence, Finding, Report, Window, look};
use crate::core::time::Timestamp;
use crate::ledger::{Body, BodyReader, CallDetail, CallFilter, CallRow, IndexError, View};

use self::contents::Contents;
use self::prices::Prices;

/// Calls that are looked at: the newest of the span.
const MAX_CALLS: usize = 20_000;
/// Bytes of memory for what is held of their contents.
const MAX_HELD: usize = 256 << 20;
/// Bytes of recorded bodies that are read.
const MAX_BYTES: u64 = 2 << 30;
const PAGE: usize = 1000;
const DAY_US: i64 = 86_400_000_000;

/// Which calls to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    pub since: Option<Timestamp>,
    /// The first moment after them: now, where nothing else is asked.
    pub until: Timestamp,
    pub agent: Option<Label>,
}

/// Looks at recorded calls.
pub fn suggest(view: &View, question: &Question, config: &Config) -> Result<Report, IndexError> {
    let prices = Prices::new(config);
    let (calls, cut_by) = read(view, question, &prices)?;
    let window = window(view, question, &calls, cut_by)?;
    let mut report = look(&calls, window, &config.suggestions, &prices);
    report.cut_by = cut_by;
    for finding in &mut report.findings {
        explain(view, finding)?;
    }
    Ok(report)
}

/// The span that calls are all of: what was asked for, or what bounds left of it. Before the first
/// call that there ever was nothing could be spared, so that it begins there, but a day ago at least.
fn window(
    view: &View,
    question: &Question,
    calls: &[CallFacts],
    cut_by: Option<Bound>,
) -> Result<Window, IndexError> {
    let until = question.until;
    let first = calls.first().map_or(until, |call| call.at);
    let day_before = Timestamp::from_micros(until.micros().saturating_sub(DAY_US));
    let from = match question.since {
        _ if cut_by.is_some() => first,
        None => first.min(day_before),
        Some(since) => {
            let before = CallFilter {
                until: Some(since),
                agent: question.agent.clone(),
                limit: 1,
                ..CallFilter::default()
            };
            if view.calls(&before)?.items.is_empty() {
                first.min(day_before).max(since)
            } else {
                since
            }
        }
    };
    Ok(Window { from, until })
}

/// The newest calls of the span that ended, the oldest first, and what bounds them.
fn read(
    view: &View,
    question: &Question,
    prices: &Prices,
) -> Result<(Vec<CallFacts>, Option<Bound>), IndexError> {
    let mut filter = CallFilter {
        since: question.since,
        until: Some(question.until),
        agent: question.agent.clone(),
        limit: PAGE,
        ..CallFilter::default()
    };
    let mut reader = Reader::new(view, prices);
    let mut cut_by = None;
    'pages: loop {
        let page = view.calls(&filter)?;
        for row in page.items {
            let Some(outcome) = row.outcome.filter(|_| is_of_a_model(row.operation)) else {
                continue;
            };
            cut_by = reader.bound();
            if cut_by.is_some() {
                break 'pages;
            }
            if let Some(detail) = view.call(row.id)? {
                reader.push(detail, outcome)?;
            }
        }
        match page.next {
            Some(next) => filter.before = Some(next),
            None => break,
        }
    }
    let mut found = reader.found;
    found.sort_by_key(|call: &CallFacts| (call.at, call.id));
    Ok((found, cut_by))
}

/// Reads calls until a bound is reached.
struct Reader<'a> {
    prices: &'a Prices,
    contents: Contents,
    bodies: BodyReader<'a>,
    bytes: u64,
    found: Vec<CallFacts>,
}

fn is_of_a_model(operation: Operation) -> bool {
    !matches!(operation, Operation::Other | Operation::WebSocket)
}

impl<'a> Reader<'a> {
    fn new(view: &'a View, prices: &'a Prices) -> Self {
        Self {
            prices,
            contents: Contents::default(),
            bodies: BodyReader::new(view),
            bytes: 0,
            found: Vec::new(),
        }
    }

    fn bound(&self) -> Option<Bound> {
        if self.found.len() >= MAX_CALLS {
            Some(Bound::Calls)
        } else if self.bytes >= MAX_BYTES {
            Some(Bound::Bytes)
        } else {
            Some(Bound::Memory).filter(|_| self.contents.size() >= MAX_HELD)
        }
    }

    fn body(&mut self, stored: StoredBody) -> Result<Body, IndexError> {
        let body = self.bodies.read(stored)?;
        self.bytes += body.bytes.len() as u64;
        Ok(body)
    }

    fn push(&mut self, mut detail: CallDetail, outcome: Outcome) -> Result<(), IndexError> {
        let request = detail.admission.as_mut().and_then(|it| it.request.take());
        let response = detail.settlement.as_mut().and_then(|it| it.response.take());
        let row = &detail.row;
        let mut sent = None;
        if let Some(stored) = request {
            let body = self.body(stored)?;
            sent = self.contents.sent(row, body);
        }
        let mut answered = None;
        if let Some(stored) = response {
            let body = self.body(stored)?;
            answered = self.contents.answered(body);
        }
        self.found.push(CallFacts {
            id: row.id,
            at: row.started_at,
            duration_us: row.duration_us.unwrap_or(0),
            rates: self.prices.rates(row),
            outcome,
            is_cut: is_cut(row),
            sent,
            answered,
            agent: row.agent.clone(),
            run: row.run.clone(),
            conversation: row.conversation.clone(),
            variant: row.variant.clone(),
            upstream: row.upstream.clone(),
            model: row.model.clone(),
            status: row.status,
            usage: row.usage,
            cost: row.cost_nano_usd.map(crate::core::money::NanoUsd::new),
        });
        Ok(())
    }
}

/// As the dialects say it.
fn is_cut(row: &CallRow) -> bool {
    const WORDS: [&str; 4] = ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens"];
    let mut reasons = row.finish_reasons.iter();
    reasons.any(|reason| WORDS.contains(&reason.as_str()))
}

/// Looks at the two requests that a finding names, to say how they differ.
fn explain(view: &View, finding: &mut Finding) -> Result<(), IndexError> {
    let Some(pair) = finding.pair else {
        return Ok(());
    };
    let mut texts = Vec::new();
    for id in [pair.before, pair.after] {
        texts.push(part(view, id, pair.part)?);
    }
    let [Some(before), Some(after)] = texts.as_slice() else {
        return Ok(());
    };
    if let Some(change) = change::between(before, after) {
        finding.evidence.push(Evidence {
            what: format!("first difference: {}", change.what),
            value: format!("`{}` became `{}`", change.before, change.after),
        });
    }
    Ok(())
}

fn part(view: &View, id: CallId, index: usize) -> Result<Option<String>, IndexError> {
    let Some(mut detail) = view.call(id)? else {
        return Ok(None);
    };
    let stored = detail.admission.as_mut().and_then(|it| it.request.take());
    let Some(stored) = stored else {
        return Ok(None);
    };
    let body = BodyReader::new(view).read(stored)?;
    Ok(contents::text_of(&detail.row, body, index))
}

#[cfg(test)]
pub(crate) mod tests;
