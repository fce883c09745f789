//! Spans of runs and their agents, put together of calls whose clients trace nothing themselves.
//! They are told when a run was silent for a while, and once more when it went on after that.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Link;

use super::conventions::{RUN_NAME, written};
use super::facts::Facts;
use super::span::Made;
use super::value::{attribute, count, text};
use crate::config::Conventions;
use crate::core::digest::DigestSeed;
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::core::trace::{SpanId, TraceId, chain};
use crate::ledger::Bookmark;

/// Runs, agents of one of them and of all, that are put together at once.
const MAX_RUNS: usize = 4096;
const MAX_AGENTS: usize = 1024;
const MAX_ALL_AGENTS: usize = 32 * MAX_AGENTS;
/// Spans that are enough to hand out at once; with those of one more run.
const PORTION: usize = 2048;

pub(super) struct RunSpans {
    seed: DigestSeed,
    conventions: Conventions,
    runs: BTreeMap<Label, Run>,
    /// Agents of all of them.
    agents: usize,
    /// Places that were taken down.
    places: u64,
    told_until: Timestamp,
}

/// From where a call is heard of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// A place in the ledger before it.
    pub(super) place: Bookmark,
    /// What ended before this is not looked for again.
    pub(super) outdated: Timestamp,
}

/// From where the calls of a run can be heard of again.
#[derive(Clone, Copy)]
struct Start {
    place: Bookmark,
    /// When the first of them ended.
    since: Timestamp,
    /// Places that were taken down before: places cannot be compared.
    nth: u64,
}

struct Run {
    start: Start,
    extent: Extent,
    agents: BTreeMap<Vec<Label>, Extent>,
    parent: Option<Label>,
    user: Option<Label>,
    name: Option<Label>,
    /// When the last call of it ended.
    heard: Timestamp,
    /// All that is known of it was told.
    is_told: bool,
    /// Agents that there was no room for.
    lost: u64,
}

#[derive(Clone, Copy)]
struct Extent {
    from: Timestamp,
    to: Timestamp,
    calls: u64,
}

impl Extent {
    fn of(facts: &Facts<'_>) -> Self {
        Self {
            from: facts.admission.started_at,
            to: facts.ended_at(),
            calls: 0,
        }
    }

    fn grow(&mut self, facts: &Facts<'_>) {
        self.from = self.from.min(facts.admission.started_at);
        self.to = self.to.max(facts.ended_at());
    }
}

impl RunSpans {
    /// Those of which no call ended after `told_until` were told before.
    pub(super) fn new(seed: DigestSeed, conventions: Conventions, told_until: Timestamp) -> Self {
        Self {
            seed,
            conventions,
            runs: BTreeMap::new(),
            agents: 0,
            places: 0,
            told_until,
        }
    }

    /// Hears of a call. Gives the spans of runs that have to make room.
    pub(super) fn hear(&mut self, facts: &Facts<'_>, heard: Heard) -> Vec<Span> {
        let attribution = &facts.admission.attribution;
        let Some(run) = attribution.run.as_ref().filter(|_| !facts.place.is_clients) else {
            return Vec::new();
        };
        let is_full = self.runs.len() >= MAX_RUNS && !self.runs.contains_key(run);
        let pushed_out = if is_full || self.agents >= MAX_ALL_AGENTS {
            self.let_go()
        } else {
            Vec::new()
        };
        let start = Start {
            place: heard.place,
            since: facts.ended_at(),
            nth: self.places,
        };
        self.places += 1;
        let run = self.runs.entry(run.clone()).or_insert_with(|| Run {
            start,
            extent: Extent::of(facts),
            agents: BTreeMap::new(),
            parent: None,
            user: None,
            name: None,
            heard: facts.ended_at(),
            is_told: false,
            lost: 0,
        });
        if run.start.since < heard.outdated {
            run.start = start;
        }
        self.agents += run.hear(facts);
        pushed_out
    }

    /// Whether there are runs to tell of that were silent since then.
    pub(super) fn has_silent(&self, idle_since: Timestamp) -> bool {
        let mut runs = self.runs.values();
        runs.any(|run| run.is_silent(idle_since))
    }

    /// The spans of runs that were silent since `idle_since` and have no call `open`, a portion of them;
    /// none when there are no more.
    pub(super) fn silent(&mut self, idle_since: Timestamp, open: &BTreeSet<Label>) -> Vec<Span> {
        let is_over = |name: &Label, run: &Run| run.is_silent(idle_since) && !open.contains(name);
        let spans = self.told(PORTION, is_over);
        if spans.len() < PORTION {
            let told = self.runs.values().filter(|run| run.is_told);
            let last = told.map(|run| run.heard).max();
            self.told_until = self.told_until.max(last.unwrap_or_default());
        }
        spans
    }

    /// Runs of which no call ended after this, nor is open, were told.
    pub(super) fn told_until(&self) -> Timestamp {
        self.told_until
    }

    /// What was heard until now is no news: what was told of it is not told again.
    pub(super) fn were_told(&mut self) {
        for run in self.runs.values_mut() {
            run.is_told = run.heard <= self.told_until;
        }
    }

    /// From where those that were not told can be heard of again.
    pub(super) fn oldest(&self) -> Option<Bookmark> {
        let waiting = self.runs.values().filter(|run| !run.is_told);
        let oldest = waiting.min_by_key(|run| run.start.nth);
        oldest.map(|run| run.start.place)
    }

    fn told(&mut self, enough: usize, is_meant: impl Fn(&Label, &Run) -> bool) -> Vec<Span> {
        let (seed, conventions) = (self.seed, self.conventions);
        let mut spans = Vec::new();
        for (name, run) in &mut self.runs {
            if spans.len() >= enough {
                break;
            }
            if !run.is_told && is_meant(name, run) {
                run.is_told = true;
                spans.extend(run.spans(name, seed, conventions));
            }
        }
        spans
    }

    /// What was not told yet, a portion of it; none when there is no more.
    pub(super) fn rest(&mut self) -> Vec<Span> {
        self.told(PORTION, |_, _| true)
    }

    /// Forgets the runs that were silent for longest, an eighth of all.
    fn let_go(&mut self) -> Vec<Span> {
        let mut active: Vec<_> = self.runs.values().map(Run::activity).collect();
        let eighth = active.len() / 8;
        let (_, eighth, _) = active.select_nth_unstable(eighth);
        let last = *eighth;
        let spans = self.told(usize::MAX, |_, run| run.activity() <= last);
        self.runs.retain(|_, run| run.activity() > last);
        self.agents = self.runs.values().map(|run| run.agents.len()).sum();
        spans
    }
}

impl Run {
    fn is_silent(&self, idle_since: Timestamp) -> bool {
        !self.is_told && self.heard <= idle_since
    }

    /// By this runs stand in a row, no two at one place.
    fn activity(&self) -> (Timestamp, u64) {
        (self.heard, self.start.nth)
    }

    /// Says how many agents are new.
    fn hear(&mut self, facts: &Facts<'_>) -> usize {
        let known = self.agents.len();
        let attribution = &facts.admission.attribution;
        self.heard = self.heard.max(facts.ended_at());
        self.is_told = false;
        self.extent.grow(facts);
        self.extent.calls += 1;
        let keep = |known: &mut Option<Label>, more: Option<&Label>| {
            *known = known.take().or_else(|| more.cloned());
        };
        keep(&mut self.parent, attribution.parent_run.as_ref());
        keep(&mut self.user, attribution.user.as_ref());
        keep(&mut self.name, attribution.tags.get(RUN_NAME));
        let chain = chain(attribution);
        for depth in 1..=chain.len() {
            let Some(path) = chain.get(..depth) else {
                continue;
            };
            let is_known = self.agents.contains_key(path);
            if !is_known && self.agents.len() >= MAX_AGENTS {
                self.lost += 1;
                continue;
            }
            let agent = self.agents.entry(path.to_vec());
            let agent = agent.or_insert_with(|| Extent::of(facts));
            agent.grow(facts);
            agent.calls += u64::from(depth == chain.len());
        }
        self.agents.len() - known
    }

    fn spans(&self, run: &Label, seed: DigestSeed, conventions: Conventions) -> Vec<Span> {
        let trace = TraceId::of_run(seed, run);
        let root = SpanId::of_run(seed, run);
        let mut spans = vec![self.root(run, (trace, root), conventions)];
        if let (Some(parent), Some(span)) = (&self.parent, spans.first_mut()) {
            span.links.push(Link {
                trace_id: TraceId::of_run(seed, parent).to_bytes().into(),
                span_id: SpanId::of_run(seed, parent).to_bytes().into(),
                ..Link::default()
            });
        }
        for (path, extent) in &self.agents {
            let Some((agent, above)) = path.split_last() else {
                continue;
            };
            let parent = if above.is_empty() {
                root
            } else {
                SpanId::of_agent(seed, run, above)
            };
            let mut attributes = self.shared(run, ("invoke_agent", "AGENT", "agent"));
            attributes.extend([
                attribute("gen_ai.agent.name", text(agent.as_str())),
                attribute("aiops.path", text(written(path))),
                attribute("aiops.calls", count(extent.calls)),
            ]);
            let made = Made {
                trace,
                span: SpanId::of_agent(seed, run, path),
                parent: Some(parent),
                name: format!("invoke_agent {agent}"),
                from: extent.from,
                to: extent.to,
                attributes,
            };
            spans.push(made.span());
        }
        spans
    }

    fn root(
        &self,
        run: &Label,
        (trace, span): (TraceId, SpanId),
        conventions: Conventions,
    ) -> Span {
        let mut attributes = self.shared(run, ("invoke_workflow", "CHAIN", "chain"));
        attributes.push(attribute("aiops.calls", count(self.extent.calls)));
        let first = self.agents.keys().find_map(|path| path.first());
        let title = self.name.as_ref().or(first);
        attributes.extend(title.map(|it| attribute("langfuse.trace.name", text(it.as_str()))));
        if let Some(name) = &self.name {
            let key = match conventions {
                Conventions::Semconv141 => "gen_ai.workflow.name",
                Conventions::GenAi01 => "gen_ai.agent.name",
            };
            attributes.push(attribute(key, text(name.as_str())));
        }
        if self.lost > 0 {
            attributes.push(attribute("aiops.agents.left_out", count(self.lost)));
        }
        let made = Made {
            trace,
            span,
            parent: None,
            name: match &self.name {
                Some(name) => format!("invoke_workflow {name}"),
                None => "invoke_workflow".to_owned(),
            },
            from: self.extent.from,
            to: self.extent.to,
            attributes,
        };
        made.span()
    }

    /// What is told of the whole and of each agent: its kind to each of those who look.
    fn shared(
        &self,
        run: &Label,
        (operation, kind, observation): (&str, &str, &str),
    ) -> Vec<KeyValue> {
        let mut attributes = vec![
            attribute("gen_ai.operation.name", text(operation)),
            attribute("openinference.span.kind", text(kind)),
            attribute("langfuse.observation.type", text(observation)),
            attribute("session.id", text(run.as_str())),
            attribute("aiops.run", text(run.as_str())),
        ];
        let user = self.user.as_ref();
        attributes.extend(user.map(|it| attribute("user.id", text(it.as_str()))));
        let parent = self.parent.as_ref();
        attributes.extend(parent.map(|it| attribute("aiops.parent_run", text(it.as_str()))));
        attributes
    }
}
