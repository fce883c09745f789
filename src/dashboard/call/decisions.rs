//! What budgets and loops had to do with a call, in the order in which it happened.

use std::collections::HashMap;

use maud::{Markup, html};

use super::super::desk::Desk;
use super::super::here::Here;
use super::super::{figure, link, text};
use super::Known;
use crate::core::budget::{AccountId, AccountName, Charge};
use crate::core::loops::refusal;
use crate::core::loops::trip::Trip;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::ledger::{CallDetail, CallRow, IndexError, SpanFilter, View};

/// Trips around the time of a call that are looked through.
const TRIPS: usize = 200;
/// A trip names calls that came so long before it.
const AFTER_US: i64 = 3_600_000_000;

/// What is known of it beside the records of the call.
#[derive(Default)]
pub(super) struct Judged {
    /// The trips that it is part of.
    trips: Vec<Trip>,
    /// The accounts that it counts against.
    names: HashMap<AccountId, AccountName>,
}

impl Judged {
    pub(super) fn find(view: &View, detail: &CallDetail) -> Result<Self, IndexError> {
        let mut judged = Self {
            trips: trips(view, &detail.row)?,
            names: HashMap::new(),
        };
        let held = detail.admission.iter().flat_map(|it| &it.hold);
        let charged = detail.settlement.iter().flat_map(|it| &it.charges);
        for charge in held.chain(charged) {
            if !judged.names.contains_key(&charge.account)
                && let Some(name) = view.account(charge.account)?.and_then(|it| it.name)
            {
                judged.names.insert(charge.account, name);
            }
        }
        Ok(judged)
    }
}

fn trips(view: &View, row: &CallRow) -> Result<Vec<Trip>, IndexError> {
    let from = row.started_at;
    let filter = SpanFilter {
        since: Some(from),
        until: Some(Timestamp::from_micros(
            from.micros().saturating_add(AFTER_US),
        )),
        limit: TRIPS,
        ..SpanFilter::default()
    };
    let page = view.trips(&filter)?;
    let is_part = |trip: &Trip| trip.id == row.id || trip.evidence.calls.contains(&row.id);
    Ok(page.items.into_iter().filter(is_part).collect())
}

pub(super) fn draw(desk: &Desk, here: &Here, known: &Known) -> Markup {
    let admission = known.detail.admission.as_ref();
    let settlement = known.detail.settlement.as_ref();
    let held = admission.map(|it| it.hold.as_slice()).unwrap_or_default();
    let charged = settlement
        .map(|it| it.charges.as_slice())
        .unwrap_or_default();
    let words = admission.and_then(|it| it.decision.as_deref());
    html! {
        ol.decisions {
            li {
                h3 { "Before it went upstream" }
                @match words {
                    Some(words) => p { (figure::state("warn", "let through with a decision")) " " (text::shown(words)) },
                    None => p { (figure::state("ok", "let through")) },
                }
                @if let Some(retry) = Some(known.detail.row.retry).filter(|retry| *retry > 0) {
                    p { "The client's library repeats it: try " (retry + 1) "." }
                }
                (accounts("Held of its budgets, at most", held, known))
                @if let Some(admission) = admission { @if !admission.tightened.is_empty() {
                    p { "By header its client allows the run: "
                        @for (index, (measure, most)) in admission.tightened.each().enumerate() {
                            @if index > 0 { ", " } (measure.text(most))
                        } "." }
                } }
            }
            @for trip in &known.judged.trips {
                li {
                    h3 { "In a loop" }
                    p { (figure::state("bad", "stopped")) " " (text::shown(&refusal::summary(&trip.evidence))) " "
                        a href=(here.at(&link::trip(trip.id), [])) { "The evidence" } }
                }
            }
            li {
                h3 { "When it ended" }
                @match settlement {
                    None => p { (figure::state("run", "still running")) },
                    Some(settlement) => {
                        p { "Settled " (figure::time(settlement.charged_at(), &desk.zone)) "." }
                        (accounts("Used of its budgets", charged, known))
                    }
                }
            }
        }
        p.muted { "Calls that were refused are answered here and not recorded: " a href=(here.at("/budgets", [])) { "budgets" }
            " and " a href=(here.at("/loops", [])) { "loops" } " count them." }
    }
}

fn accounts(caption: &str, charges: &[Charge], known: &Known) -> Markup {
    html! {
        @if charges.is_empty() { p.muted { (caption) ": nothing, no budget is about it." } } @else {
            div.scroll tabindex="0" role="region" aria-label=(caption) {
                table {
                    thead { tr { th scope="col" { (caption) } th.n scope="col" { "USD" } th.n scope="col" { "Tokens in" }
                        th.n scope="col" { "Tokens out" } th.n scope="col" { "Calls" } } }
                    tbody { @for charge in charges {
                        tr {
                            th scope="row" { @match known.judged.names.get(&charge.account) {
                                Some(name) => { (text::name(name.rule.as_str())) span.muted { ": " (text::name(&name.to_string())) } },
                                None => span.muted { "an account that is not known any more" },
                            } }
                            td.n { (NanoUsd::new(charge.amounts.nano_usd)) }
                            td.n { (charge.amounts.input_tokens) }
                            td.n { (charge.amounts.output_tokens) }
                            td.n { (charge.amounts.calls) }
                        }
                    } }
                }
            }
        }
    }
}
