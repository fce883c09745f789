//! Reads what the rules of `core::suggest` ask of recorded calls: how requests are made up, what was
//! answered, what a token cost.
//!
//! A message that many calls repeat is looked into once. Blocks on the disk: call it from a thread
//! that may.

mod contents;
mod prices;

use crate::config::Config;
use crate::core::call::{Operation, Outcome};
use crate::core::id::{CallId, Label};
use crate::core::suggest::change;
use crate::core::suggest::facts::CallFacts;
use crate::core::suggest::{Evidence, Finding, Report, look};
use crate::core::time::Timestamp;
use crate::ledger::{BodyReader, CallDetail, CallFilter, CallRow, IndexError, View};

use self::contents::Contents;
use self::prices::Prices;

/// Calls that are looked at: the newest of the span.
const MAX_CALLS: usize = 20_000;
/// Parts of requests that are held in memory, all together.
const MAX_PARTS: usize = 2_000_000;
/// Bytes of bodies that are read.
const MAX_BYTES: u64 = 2 << 30;
const PAGE: usize = 1000;

/// Which calls to look at.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub agent: Option<Label>,
}

/// Looks at recorded calls.
pub fn suggest(view: &View, question: &Question, config: &Config) -> Result<Report, IndexError> {
    let (calls, is_cut) = read(view, question, &Prices::new(config))?;
    let mut report = look(&calls, &config.suggestions);
    report.is_cut = is_cut;
    for finding in &mut report.findings {
        explain(view, finding)?;
    }
    Ok(report)
}

/// The newest calls of the span that ended, the oldest first, and whether there are more.
fn read(
    view: &View,
    question: &Question,
    prices: &Prices,
) -> Result<(Vec<CallFacts>, bool), IndexError> {
    let mut filter = CallFilter {
        since: question.since,
        until: question.until,
        agent: question.agent.clone(),
        limit: PAGE,
        ..CallFilter::default()
    };
    let mut contents = Contents::default();
    let mut bodies = BodyReader::new(view);
    let (mut found, mut parts, mut bytes) = (Vec::new(), 0, 0);
    loop {
        let page = view.calls(&filter)?;
        for row in page.items {
            let Some(outcome) = row.outcome.filter(|_| is_of_a_model(row.operation)) else {
                continue;
            };
            if found.len() == MAX_CALLS || parts > MAX_PARTS || bytes > MAX_BYTES {
                found.reverse();
                return Ok((found, true));
            }
            bytes += row.request_bytes + row.response_bytes;
            if let Some(detail) = view.call(row.id)? {
                let facts = facts(detail, outcome, prices, &mut contents, &mut bodies)?;
                parts += facts.sent.as_ref().map_or(0, |sent| sent.parts.len());
                found.push(facts);
            }
        }
        match page.next {
            Some(next) => filter.before = Some(next),
            None => break,
        }
    }
    found.sort_by_key(|call: &CallFacts| (call.at, call.id));
    Ok((found, false))
}

fn is_of_a_model(operation: Operation) -> bool {
    !matches!(operation, Operation::Other | Operation::WebSocket)
}

fn facts(
    mut detail: CallDetail,
    outcome: Outcome,
    prices: &Prices,
    contents: &mut Contents,
    bodies: &mut BodyReader<'_>,
) -> Result<CallFacts, IndexError> {
    let request = detail.admission.as_mut().and_then(|it| it.request.take());
    let response = detail.settlement.as_mut().and_then(|it| it.response.take());
    let row = &detail.row;
    let sent = match request {
        Some(stored) => contents.sent(row, bodies.read(stored)?),
        None => None,
    };
    let answered = match response {
        Some(stored) => Contents::answered(bodies.read(stored)?),
        None => None,
    };
    Ok(CallFacts {
        id: row.id,
        at: row.started_at,
        duration_us: row.duration_us.unwrap_or(0),
        rates: prices.rates(row),
        outcome,
        is_cut: is_cut(row),
        sent,
        answered,
        agent: row.agent.clone(),
        run: row.run.clone(),
        conversation: row.conversation.clone(),
        upstream: row.upstream.clone(),
        model: row.model.clone(),
        status: row.status,
        usage: row.usage,
        cost: row.cost_nano_usd.map(crate::core::money::NanoUsd::new),
    })
}

/// As the dialects say it.
fn is_cut(row: &CallRow) -> bool {
    const WORDS: [&str; 5] = [
        "length",
        "max_tokens",
        "MAX_TOKENS",
        "max_output_tokens",
        "max_prompt_tokens",
    ];
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
mod tests;
