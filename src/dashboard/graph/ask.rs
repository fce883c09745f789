//! What the ledger and the running proxy know of a graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::model::{Facts, Work};
use crate::admin::problem::Problem;
use crate::core::id::Label;
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;
use crate::dashboard::desk::Desk;
use crate::dashboard::here::Here;
use crate::dashboard::text;
use crate::ledger::{CallFilter, CallRow, Figures, IndexError, SpanFilter, View};

/// Calls that are looked at, the newest, for what only calls tell: who was found out to have called
/// whom, and what is on its way.
const CALLS_LOOKED_AT: usize = 500;

/// Whose graph.
#[derive(Clone)]
pub(super) enum Scope {
    Run(Label),
    /// From then until then; none is open.
    Span(Option<Timestamp>, Option<Timestamp>),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run) => f.write_str(&text::plain(run.as_str())),
            Self::Span(..) => f.write_str("in this range"),
        }
    }
}

impl Scope {
    pub(super) fn of_range(here: &Here) -> Self {
        let until = (!here.range.is_open).then_some(here.range.until);
        Self::Span(here.range.since, until)
    }

    /// The calls of it.
    pub(super) fn calls(&self) -> CallFilter {
        match self {
            Self::Run(run) => CallFilter {
                run: Some(run.clone()),
                ..CallFilter::default()
            },
            Self::Span(since, until) => CallFilter {
                since: *since,
                until: *until,
                ..CallFilter::default()
            },
        }
    }

    fn has_trip(&self, trip: &Trip) -> bool {
        match self {
            Self::Run(run) => trip.run.as_ref() == Some(run),
            Self::Span(..) => true,
        }
    }
}

pub(super) struct Asked {
    pub(super) facts: Facts,
    /// There are more edges than were read.
    pub(super) is_cut: bool,
}

/// None where there is no such run.
pub(super) async fn ask(desk: &Desk, scope: Scope) -> Result<Option<Asked>, Problem> {
    let mut trips = desk.state.loops.open_trips();
    trips.retain(|trip| scope.has_trip(trip));
    desk.ask(move |view| {
        let mut asked = match &scope {
            Scope::Run(run) => of_run(view, run)?,
            Scope::Span(since, until) => Some(of_span(view, *since, *until)?),
        };
        if let Some(Asked { facts, .. }) = &mut asked {
            let newest = view.calls(&CallFilter {
                limit: CALLS_LOOKED_AT,
                ..scope.calls()
            })?;
            look_at(&newest.items, facts, matches!(scope, Scope::Span(..)));
            facts.trips = trips;
        }
        Ok(asked)
    })
    .await
}

fn of_run(view: &View, run: &Label) -> Result<Option<Asked>, IndexError> {
    let Some(detail) = view.run(run)? else {
        return Ok(None);
    };
    let work = |totals, open, first_at| Work {
        totals,
        p95_us: None,
        open,
        first_at,
    };
    let agents = detail.by_agent.into_iter();
    let agents = agents.map(|row| (row.agent, work(row.totals, row.open_calls, row.first_at)));
    let edges = detail.edges.into_iter().filter_map(|row| {
        let work = work(row.totals, row.open_calls, row.first_at);
        Some(((row.caller?, row.agent), work))
    });
    Ok(Some(Asked {
        facts: Facts {
            agents: agents.collect(),
            edges: edges.collect(),
            ..Facts::default()
        },
        is_cut: false,
    }))
}

fn of_span(
    view: &View,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Asked, IndexError> {
    let span = SpanFilter {
        since,
        until,
        ..SpanFilter::default()
    };
    let work = |figures: Figures, open, first_at| Work {
        totals: figures.totals,
        p95_us: figures.duration.p95_us,
        open,
        first_at,
    };
    let (agents, edges) = (view.agents(&span)?, view.edges(&span)?);
    let is_cut = agents.next.is_some() || edges.next.is_some();
    // In the order they were ever seen, which stays while the span moves on.
    let ever = view.agents(&SpanFilter::default())?.items.into_iter();
    let ever: BTreeMap<Label, Timestamp> = ever.map(|row| (row.agent, row.first_at)).collect();
    let agents = agents.items.into_iter();
    let agents = agents.map(|row| {
        let first_at = ever.get(&row.agent).copied().unwrap_or(row.first_at);
        (row.agent, work(row.figures, row.open_calls, first_at))
    });
    let edges = edges.items.into_iter();
    let edges = edges.map(|row| ((row.caller, row.agent), work(row.figures, 0, row.first_at)));
    Ok(Asked {
        facts: Facts {
            agents: agents.collect(),
            edges: edges.collect(),
            ..Facts::default()
        },
        is_cut,
    })
}

/// Adds what single calls tell: an edge is inferred if all calls of it that were looked at were, and
/// calls on their way are counted where nobody else does.
fn look_at(calls: &[CallRow], facts: &mut Facts, counts_open: bool) {
    let mut open: BTreeMap<(Label, Label), (u64, Timestamp)> = BTreeMap::new();
    let (mut inferred, mut said) = (BTreeSet::new(), BTreeSet::new());
    for call in calls {
        let Some(caller) = &call.caller else { continue };
        let edge = (caller.clone(), call.agent.clone());
        if call.outcome.is_none() {
            let (count, first_at) = open.entry(edge.clone()).or_default();
            *count += 1;
            *first_at = call.started_at;
        }
        if call.inferred.caller.is_some() {
            inferred.insert(edge);
        } else {
            said.insert(edge);
        }
    }
    facts.inferred = inferred.difference(&said).cloned().collect();
    if counts_open {
        for (edge, (count, first_at)) in open {
            match facts.edges.iter_mut().find(|(known, _)| *known == edge) {
                Some((_, work)) => work.open = count,
                None => facts.edges.push((
                    edge,
                    Work {
                        open: count,
                        first_at,
                        ..Work::default()
                    },
                )),
            }
        }
    }
}
