//! Runs gathered into arms, to be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use redb::ReadTransaction;

use crate::core::budget::Control;
use crate::core::call::Outcome;
use crate::core::compare::{AgentFigures, By, LeftOut, RunFigures, bootstrap};
use crate::core::id::{CallId, Label};
use crate::core::metric;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::usage::Usage;

use super::super::index::batch::decode;
use super::super::index::{BY_RUN, CALLS, IndexError, RUNS_BY_ACTIVITY, StoredCall};
use super::super::rows::CallRow;
use super::super::summary::{Key, Summary};
use super::super::totals::is_error;
use super::measured::of_run;
use super::{View, summary, table};

/// Runs that are gathered, the newest.
pub const MAX_COMPARED_RUNS: usize = 10_000;
/// Runs that are looked at for those.
const MAX_LOOKED_AT: usize = 50_000;
/// Calls that are read of them.
const MAX_CALLS: usize = 100_000;
/// Measurements of custom metrics that are read of them.
const MAX_MEASURED: usize = 100_000;

/// Which runs, and what tells them apart.
#[derive(Clone, Debug, Default)]
pub struct CompareFilter {
    pub by: By,
    /// By run: only these.
    pub runs: Vec<Label>,
    /// By time: runs that began in these spans, with the names of the spans.
    pub times: Vec<(String, Timestamp, Timestamp)>,
    /// Begun in this span.
    pub since: Option<Timestamp>,
    /// The first moment after the span.
    pub until: Option<Timestamp>,
    /// Only its calls count.
    pub agent: Option<Label>,
    /// Custom metrics that are asked for, by name.
    pub metrics: Vec<String>,
    /// Runs that were active since then are counted: they may go on.
    pub fresh_since: Option<Timestamp>,
}

/// Runs by arm.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    pub runs: BTreeMap<String, Vec<RunFigures>>,
    pub left_out: LeftOut,
    /// Runs with a cost that is not wholly known.
    pub unpriced: u64,
    /// Runs of arms that were active of late.
    pub fresh: u64,
    /// There were more runs, calls or measurements than are read.
    pub partial: bool,
}

impl View {
    /// Gathers runs into arms: those that began in the span, each as a whole, newest first. Reads up to
    /// 100,000 calls and as many measurements; by time, an equal share of them for each span.
    pub fn gather(&self, filter: &CompareFilter) -> Result<Gathered, IndexError> {
        let mut gather = Gather {
            filter,
            found: Gathered::default(),
            left: Left::share_of(1),
        };
        self.index.read(|txn| match filter.by {
            By::Run => filter
                .runs
                .iter()
                .try_for_each(|run| gather.named(txn, run)),
            By::Time => filter.times.iter().try_for_each(|(_, from, until)| {
                gather.left = Left::share_of(filter.times.len());
                gather.span(txn, Some(*from), Some(*until))
            }),
            _ => gather.span(txn, filter.since, filter.until),
        })?;
        Ok(gather.found)
    }
}

/// What may still be read.
struct Left {
    runs: usize,
    looked_at: usize,
    calls: usize,
    measured: usize,
}

impl Left {
    fn share_of(spans: usize) -> Self {
        let spans = spans.max(1);
        Self {
            runs: MAX_COMPARED_RUNS / spans,
            looked_at: MAX_LOOKED_AT / spans,
            calls: MAX_CALLS / spans,
            measured: MAX_MEASURED / spans,
        }
    }

    /// Takes one run to look at; says whether there is room for it.
    fn look_at(&mut self) -> bool {
        let has_room = self.runs > 0 && self.calls > 0 && self.looked_at > 0;
        self.looked_at = self.looked_at.saturating_sub(1);
        has_room
    }
}

struct Gather<'a> {
    filter: &'a CompareFilter,
    found: Gathered,
    left: Left,
}

impl Gather<'_> {
    fn named(&mut self, txn: &ReadTransaction, run: &Label) -> Result<(), IndexError> {
        let Some(summary) = summary(txn, &Key::Run(run.clone()))? else {
            return Ok(());
        };
        self.run(txn, run, &summary)
    }

    fn span(
        &mut self,
        txn: &ReadTransaction,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<(), IndexError> {
        let Some(by_activity) = table(txn, RUNS_BY_ACTIVITY)? else {
            return Ok(());
        };
        let from = since.map_or(i64::MIN, Timestamp::micros);
        let end = until.map_or(i64::MAX, Timestamp::micros).max(from);
        // Whatever began in the span was active after that began: most of it ended in the span, too, and
        // the rest soon after.
        let within = by_activity.range((from, "")..(end, ""))?.rev();
        for entry in within.chain(by_activity.range((end, "")..)?) {
            if !self.left.look_at() {
                self.found.partial = true;
                break;
            }
            let entry = entry?;
            let run = Label::parse(entry.0.value().1).map_err(|_| IndexError::Damaged)?;
            let summary = summary(txn, &Key::Run(run.clone()))?.ok_or(IndexError::Damaged)?;
            let begun = summary.first_at;
            let is_early = since.is_some_and(|since| begun < since);
            if is_early || until.is_some_and(|until| begun >= until) {
                continue;
            }
            self.run(txn, &run, &summary)?;
        }
        Ok(())
    }

    /// Puts a run into its arm, or says why it is in none.
    fn run(
        &mut self,
        txn: &ReadTransaction,
        run: &Label,
        summary: &Summary,
    ) -> Result<(), IndexError> {
        let is_named = match &self.filter.by {
            By::Variant => summary.variant.is_some(),
            By::Tag(name) => summary.may_have_tag(name),
            By::Time => self.time_of(summary.first_at).is_some(),
            _ => true,
        };
        if !is_named {
            self.found.left_out.unnamed += 1;
            return Ok(());
        }
        let single = self.filter.by == By::Run;
        if summary.open_calls > 0 {
            self.found.left_out.running += 1;
            if !single {
                return Ok(());
            }
        }
        let mut parts = Parts::default();
        let is_whole = self.read(txn, run, &mut parts)?;
        if !is_whole || parts.settled < summary.totals.calls {
            self.found.left_out.incomplete += 1;
            if !single {
                return Ok(());
            }
        }
        let (means, is_cut) = Means::of(txn, run, &self.filter.metrics, &mut self.left.measured)?;
        self.found.partial |= is_cut;
        let before = self.left.runs;
        self.place(txn, (run, summary), parts, means)?;
        let since = self.filter.fresh_since;
        let is_fresh = since.is_some_and(|since| summary.last_at >= since);
        self.found.fresh += u64::from(is_fresh && self.left.runs < before);
        Ok(())
    }

    /// Reads the calls of a run; says whether there was room for all of them.
    fn read(
        &mut self,
        txn: &ReadTransaction,
        run: &Label,
        parts: &mut Parts,
    ) -> Result<bool, IndexError> {
        let (Some(by_run), Some(calls)) = (table(txn, BY_RUN)?, table(txn, CALLS)?) else {
            return Ok(true);
        };
        let all = (run.as_str(), 0)..=(run.as_str(), u128::MAX);
        for entry in by_run.range(all)? {
            if self.left.calls == 0 {
                self.found.partial = true;
                return Ok(false);
            }
            self.left.calls -= 1;
            let Some(stored) = calls.get(entry?.0.value().1)? else {
                continue;
            };
            let call: StoredCall = decode(stored.value())?;
            parts.settled += u64::from(call.row.outcome.is_some());
            if self
                .filter
                .agent
                .as_ref()
                .is_some_and(|agent| *agent != call.row.agent)
            {
                continue;
            }
            parts.add(&self.filter.by, &call.row);
        }
        Ok(true)
    }

    fn place(
        &mut self,
        txn: &ReadTransaction,
        (run, summary): (&Label, &Summary),
        parts: Parts,
        mut means: Means,
    ) -> Result<(), IndexError> {
        if parts.whole.calls == 0 {
            self.found.left_out.absent += u64::from(self.filter.agent.is_some());
            return Ok(());
        }
        if self.filter.by == By::Agent {
            for (agent, part) in parts.of_agents {
                let fate = Fate::of(txn, (run, summary), Some(&agent))?;
                let figures = part.figures(run, fate, means.take(Some(&agent)));
                self.put(agent.as_str().to_owned(), figures);
            }
            return Ok(());
        }
        let mut arms = parts.arms;
        let arm = match self.filter.by {
            By::Run => Some(run.as_str().to_owned()),
            By::Time => self.time_of(summary.first_at).map(str::to_owned),
            _ => arms.pop_first(),
        };
        let agent = self.filter.agent.as_ref();
        match arm {
            Some(arm) if arms.is_empty() => {
                let fate = Fate::of(txn, (run, summary), agent)?;
                let figures = parts.whole.figures(run, fate, means.take(agent));
                self.put(arm, figures);
            }
            Some(_) => self.found.left_out.mixed += 1,
            None => self.found.left_out.unnamed += 1,
        }
        Ok(())
    }

    fn put(&mut self, arm: String, figures: RunFigures) {
        self.found.unpriced += u64::from(figures.cost.is_none());
        self.found.runs.entry(arm).or_default().push(figures);
        self.left.runs = self.left.runs.saturating_sub(1);
    }

    fn time_of(&self, at: Timestamp) -> Option<&str> {
        let mut spans = self.filter.times.iter();
        let found = spans.find(|(_, from, until)| at >= *from && at < *until);
        found.map(|(name, ..)| name.as_str())
    }
}

/// What became of a run, or of what an agent did in it, beside its calls.
#[derive(Clone, Copy)]
struct Fate {
    /// A breaker stopped it.
    is_stopped: bool,
    /// An operator did.
    is_ended: bool,
}

impl Fate {
    fn of(
        txn: &ReadTransaction,
        (run, summary): (&Label, &Summary),
        agent: Option<&Label>,
    ) -> Result<Self, IndexError> {
        let is_stopped = |summary: &Summary| summary.trips > 0 || summary.refused > 0;
        let of_run = is_stopped(summary);
        let key = agent.filter(|_| of_run);
        let key = key.map(|agent| Key::RunAgent(run.clone(), agent.clone()));
        let of_agent = key.map(|key| self::summary(txn, &key)).transpose()?;
        Ok(Self {
            is_stopped: of_agent.map_or(of_run, |it| it.as_ref().is_some_and(is_stopped)),
            is_ended: summary.control == Control::Stopped,
        })
    }
}

/// What custom metrics come to for a run, or for an agent in it: the mean of its numbers, and of yes
/// and no as 1 and 0.
#[derive(Default)]
struct Means {
    all: BTreeMap<String, f64>,
    by_agent: BTreeMap<Label, BTreeMap<String, f64>>,
}

impl Means {
    /// Says of what was not read, too, for lack of room.
    fn of(
        txn: &ReadTransaction,
        run: &Label,
        wanted: &[String],
        left: &mut usize,
    ) -> Result<(Self, bool), IndexError> {
        let (mut means, mut is_cut) = (Self::default(), false);
        for name in wanted {
            let found = of_run(txn, run, Some(name), left)?;
            is_cut |= found.all.is_cut;
            let mean = |sum: Option<&metric::Summary>| sum.and_then(metric::Summary::mean);
            if let Some(mean) = mean(found.all.by_name.get(name)) {
                means.all.insert(name.clone(), mean);
            }
            for (agent, sums) in found.by_agent {
                if let (Some(agent), Some(mean)) = (agent, mean(sums.get(name))) {
                    let of_agent = means.by_agent.entry(agent).or_default();
                    of_agent.insert(name.clone(), mean);
                }
            }
        }
        Ok((means, is_cut))
    }

    fn take(&mut self, agent: Option<&Label>) -> BTreeMap<String, f64> {
        match agent {
            Some(agent) => self.by_agent.remove(agent).unwrap_or_default(),
            None => mem::take(&mut self.all),
        }
    }
}

/// The calls of one run, as far as they count.
#[derive(Default)]
struct Parts {
    whole: Part,
    of_agents: BTreeMap<Label, Part>,
    /// All arms that its calls name.
    arms: BTreeSet<String>,
    /// Calls that ended, of all agents.
    settled: u64,
}

impl Parts {
    fn add(&mut self, by: &By, row: &CallRow) {
        let name = match by {
            By::Variant => row.variant.as_ref(),
            By::Tag(name) => row.tags.get(name),
            By::User => row.user.as_ref(),
            By::Model => row.request_model.as_ref().or(row.model.as_ref()),
            By::Upstream => Some(&row.upstream),
            By::Agent | By::Run | By::Time => None,
        };
        if let Some(name) = name.filter(|name| !self.arms.contains(name.as_str())) {
            self.arms.insert(name.as_str().to_owned());
        }
        if *by == By::Agent {
            let part = self.of_agents.entry(row.agent.clone()).or_default();
            part.add(row);
            self.whole.calls += 1;
        } else {
            self.whole.add(row);
        }
    }
}

/// Sums over some calls of a run.
#[derive(Default)]
struct Part {
    calls: u64,
    errors: u64,
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    cost: NanoUsd,
    unpriced_calls: u64,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
    first_chunks: Vec<u64>,
    last: Option<(Timestamp, CallId, bool)>,
    agents: BTreeMap<Label, AgentFigures>,
}

impl Part {
    fn add(&mut self, row: &CallRow) {
        let usage = &row.usage;
        let failed = u64::from(row.outcome.is_some_and(is_error));
        let cost = row.cost_nano_usd.map_or(NanoUsd::ZERO, NanoUsd::new);
        let unpriced = u64::from(*usage != Usage::default() && row.cost_nano_usd.is_none());
        self.calls += 1;
        self.errors += failed;
        self.input_tokens = self.input_tokens.saturating_add(usage.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(usage.output_tokens);
        self.cache_read_input_tokens = self
            .cache_read_input_tokens
            .saturating_add(usage.cache_read_input_tokens);
        self.cost = self.cost.saturating_add(cost);
        self.unpriced_calls += unpriced;
        self.began = Some(
            self.began
                .map_or(row.started_at, |at| at.min(row.started_at)),
        );
        self.ended = self.ended.max(Some(row.last_at()));
        self.first_chunks.extend(row.first_chunk_us);
        let is_well = row.outcome == Some(Outcome::Completed);
        self.last = self.last.max(Some((row.started_at, row.id, is_well)));
        let agent = self.agents.entry(row.agent.clone()).or_default();
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        agent.calls += 1;
        agent.errors += failed;
        agent.tokens = agent.tokens.saturating_add(tokens);
        agent.cost = agent.cost.saturating_add(cost);
        agent.unpriced_calls += unpriced;
    }

    fn figures(self, run: &Label, fate: Fate, metrics: BTreeMap<String, f64>) -> RunFigures {
        let took = self.began.zip(self.ended).map_or(0, |(began, ended)| {
            let took = ended.micros().saturating_sub(began.micros());
            u64::try_from(took).unwrap_or(0)
        });
        RunFigures {
            run: run.clone(),
            calls: self.calls,
            errors: self.errors,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_read_input_tokens: self.cache_read_input_tokens,
            cost: (self.unpriced_calls == 0).then_some(self.cost),
            duration_us: took,
            first_chunk_us: bootstrap::median_of(&self.first_chunks),
            is_stopped: fate.is_stopped,
            ended_well: !fate.is_stopped
                && !fate.is_ended
                && self.last.is_some_and(|(_, _, is_well)| is_well),
            metrics,
            agents: self.agents,
        }
    }
}
