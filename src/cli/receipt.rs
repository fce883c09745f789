//! The receipt of a launch: what its run used and cost, by whom, what was slow, what went wrong, and
//! what a breaker refused.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::Failure;
use super::format;
use super::source::{self, Source};
use super::table::{Align, Output, Table, printable};
use crate::admin::params::{CallParams, Limit};
use crate::admin::view::{
    CallList, CallView, MetricView, OPEN, RefusalList, RefusalView, RunDetail, TotalsView,
};
use crate::core::id::{CallId, Label};
use crate::core::money::NanoUsd;

/// How long calls are waited for that the program left open.
const SETTLES: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Runs within runs that are summed up, and pages of calls that are gone through.
const MAX_RUNS: usize = 64;
const MAX_PAGES: usize = 10;
const SLOWEST: usize = 3;
const FAILURES: usize = 3;
const MAX_ERROR_CHARS: usize = 200;

/// What is known of a launch before anybody is asked.
pub(super) struct Story<'a> {
    pub(super) run: &'a Label,
    pub(super) parent: Option<&'a Label>,
    pub(super) variant: Option<&'a Label>,
    pub(super) code: u8,
    pub(super) took_us: u64,
    /// Of the run, where it outlives the launch.
    pub(super) page: Option<String>,
    /// None: whoever is asked for the calls knows.
    pub(super) refusals: Option<Vec<RefusalView>>,
    /// Of the proxy in this process, if it had something to say.
    pub(super) log: Option<PathBuf>,
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Receipt {
    run: Label,
    parent_run: Option<Label>,
    variant: Option<Label>,
    /// The program's own.
    exit_code: u8,
    duration_us: u64,
    is_tripped: bool,
    /// Calls that ended well.
    ok: u64,
    failed: u64,
    /// Those that a breaker refused or ended, and those that were told to wait.
    refused: u64,
    open: u64,
    /// Of the run and those it began.
    totals: TotalsView,
    agents: Vec<Spent>,
    /// Runs that it began.
    runs: Vec<Spent>,
    slowest: Vec<Slow>,
    /// Custom metrics of the run itself and of its calls.
    metrics: Vec<MetricView>,
    warnings: Vec<String>,
    trips: Vec<RefusalView>,
    page: Option<String>,
    log: Option<PathBuf>,
}

/// What an agent, or a run, used.
#[derive(Debug, PartialEq, Serialize)]
struct Spent {
    name: Label,
    #[serde(flatten)]
    totals: TotalsView,
}

#[derive(Debug, PartialEq, Serialize)]
struct Slow {
    call: CallId,
    agent: Label,
    model: Option<Label>,
    duration_us: u64,
}

/// The run and all it began.
#[derive(Default)]
struct Tree {
    own: Option<RunDetail>,
    below: Vec<RunDetail>,
    is_whole: bool,
}

impl Story<'_> {
    /// Asks what the run came to, once its calls have ended.
    pub(super) async fn gather(mut self, source: &Source) -> Result<Receipt, Failure> {
        let tree = settled(source, self.run).await?;
        let refusals = match self.refusals.take() {
            Some(refusals) => refusals,
            None => refusals(source, self.run).await?,
        };
        let calls = match &tree.own {
            Some(_) => calls(source, self.run).await?,
            None => Vec::new(),
        };
        Ok(self.told(&tree, refusals, &calls))
    }

    fn told(self, tree: &Tree, refusals: Vec<RefusalView>, calls: &[CallView]) -> Receipt {
        let every = || tree.own.iter().chain(&tree.below);
        let mut totals = TotalsView::default();
        let (mut agents, mut open) = (BTreeMap::<Label, TotalsView>::new(), 0);
        for run in every() {
            add(&mut totals, &run.run.totals);
            open += run.run.open_calls;
            for agent in &run.by_agent {
                add(
                    agents.entry(agent.agent.clone()).or_default(),
                    &agent.totals,
                );
            }
        }
        let (trips, delays): (Vec<_>, Vec<_>) =
            refusals.into_iter().partition(|refusal| refusal.is_break);
        let count = |of: &[RefusalView]| of.iter().map(|refusal| refusal.calls).sum::<u64>();
        let refused = count(&trips) + count(&delays);
        let mut warnings = self.warnings;
        if totals.calls + open + refused == 0 {
            warnings.push(
                "no call came through the proxy: does the program read OPENAI_BASE_URL, or a base URL of \
                 its own?"
                    .to_owned(),
            );
        }
        warnings.extend(delays.iter().map(|of| {
            format!(
                "{} told to try again later: {}",
                calls_of(of.calls),
                of.message
            )
        }));
        warnings.extend(concerns(&totals, open, calls));
        if !tree.is_whole {
            warnings.push(format!(
                "only the first {MAX_RUNS} runs that it began are summed up"
            ));
        }
        let runs = tree.below.iter().map(|below| Spent {
            name: below.run.run.clone(),
            totals: below.run.totals,
        });
        Receipt {
            run: self.run.clone(),
            parent_run: self.parent.cloned(),
            variant: self.variant.cloned(),
            exit_code: self.code,
            duration_us: self.took_us,
            is_tripped: !trips.is_empty(),
            ok: totals.calls.saturating_sub(totals.errors),
            failed: totals.errors,
            refused,
            open,
            runs: runs.collect(),
            totals,
            agents: dearest(agents),
            slowest: slowest(calls),
            metrics: tree
                .own
                .as_ref()
                .map_or_else(Vec::new, |own| own.run.metrics.clone()),
            warnings,
            trips,
            page: self.page,
            log: self.log,
        }
    }
}

/// Whoever cost most comes first.
fn dearest(agents: BTreeMap<Label, TotalsView>) -> Vec<Spent> {
    let mut agents: Vec<Spent> = agents
        .into_iter()
        .map(|(name, totals)| Spent { name, totals })
        .collect();
    agents.sort_by_key(|spent| std::cmp::Reverse((spent.totals.cost_nano_usd, spent.totals.calls)));
    agents
}

async fn settled(source: &Source, run: &Label) -> Result<Tree, Failure> {
    let look = async {
        loop {
            let tree = tree(source, run).await?;
            let open = tree.own.iter().chain(&tree.below);
            if open.map(|run| run.run.open_calls).sum::<u64>() == 0 {
                return Ok::<_, Failure>(tree);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    match tokio::time::timeout(SETTLES, look).await {
        Ok(tree) => tree,
        Err(_) => tree(source, run).await,
    }
}

async fn tree(source: &Source, run: &Label) -> Result<Tree, Failure> {
    let mut tree = Tree {
        own: detail(source, run).await?,
        is_whole: true,
        ..Tree::default()
    };
    let children = |of: &RunDetail| -> Vec<Label> {
        of.children.iter().map(|child| child.run.clone()).collect()
    };
    let mut next: VecDeque<Label> = tree.own.iter().flat_map(children).collect();
    let mut seen = HashSet::from([run.clone()]);
    while let Some(child) = next.pop_front() {
        if !seen.insert(child.clone()) {
            continue;
        }
        if tree.below.len() == MAX_RUNS {
            tree.is_whole = false;
            break;
        }
        if let Some(child) = detail(source, &child).await? {
            next.extend(children(&child));
            tree.below.push(child);
        }
    }
    Ok(tree)
}

fn path(run: &Label) -> String {
    let run = utf8_percent_encode(run.as_str(), NON_ALPHANUMERIC);
    format!("/api/v1/runs/{run}")
}

async fn detail(source: &Source, run: &Label) -> Result<Option<RunDetail>, Failure> {
    let body = source.get(&path(run)).await?;
    body.as_ref().map(source::parse).transpose()
}

/// Files know of none.
async fn refusals(source: &Source, run: &Label) -> Result<Vec<RefusalView>, Failure> {
    let body = source.get(&format!("{}/refusals", path(run))).await?;
    let list = body
        .as_ref()
        .map(source::parse::<RefusalList>)
        .transpose()?;
    Ok(list.map_or_else(Vec::new, |list| list.refusals))
}

async fn calls(source: &Source, run: &Label) -> Result<Vec<CallView>, Failure> {
    let mut params = CallParams {
        run: Some(run.clone()),
        limit: Some(Limit::MAX),
        ..CallParams::default()
    };
    let mut calls = Vec::new();
    for _ in 0..MAX_PAGES {
        let list: CallList = source::parse(&source.list("/api/v1/calls", &params).await?)?;
        calls.extend(list.calls);
        params.before = list.next;
        if params.before.is_none() {
            break;
        }
    }
    Ok(calls)
}

fn add(sum: &mut TotalsView, of: &TotalsView) {
    sum.calls += of.calls;
    sum.errors += of.errors;
    sum.input_tokens += of.input_tokens;
    sum.output_tokens += of.output_tokens;
    sum.cache_read_input_tokens += of.cache_read_input_tokens;
    sum.cache_write_input_tokens += of.cache_write_input_tokens;
    sum.reasoning_output_tokens += of.reasoning_output_tokens;
    sum.cost_nano_usd = sum.cost_nano_usd.saturating_add(of.cost_nano_usd);
    sum.unpriced_calls += of.unpriced_calls;
    sum.estimated_calls += of.estimated_calls;
    sum.duration_us += of.duration_us;
}

fn slowest(calls: &[CallView]) -> Vec<Slow> {
    let mut slow: Vec<Slow> = calls
        .iter()
        .filter_map(|call| {
            Some(Slow {
                call: call.id,
                agent: call.agent.clone(),
                model: call.model.clone(),
                duration_us: call.duration_us?,
            })
        })
        .collect();
    slow.sort_by_key(|slow| std::cmp::Reverse(slow.duration_us));
    slow.truncate(SLOWEST);
    slow
}

/// What a person should know of calls that went on.
fn concerns(totals: &TotalsView, open: u64, calls: &[CallView]) -> Vec<String> {
    let mut warnings = Vec::new();
    if open > 0 {
        warnings.push(format!("{} had not ended yet", calls_of(open)));
    }
    let mut failures: BTreeMap<String, u64> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.outcome != OPEN) {
        let status = call.status.filter(|status| *status >= 400);
        if ["completed", "client_gone"].contains(&call.outcome.as_str()) && status.is_none() {
            continue;
        }
        let mut text = call.outcome.replace('_', " ");
        if let Some(status) = status {
            text = format!("{text}, {status}");
        }
        if let Some(error) = &call.error {
            let error: String = error.chars().take(MAX_ERROR_CHARS).collect();
            text = format!("{text}, {error}");
        }
        *failures.entry(text).or_default() += 1;
    }
    let mut failures: Vec<_> = failures.into_iter().collect();
    failures.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (text, count) in failures.into_iter().take(FAILURES) {
        warnings.push(format!("{} failed: {text}", calls_of(count)));
    }
    if totals.unpriced_calls > 0 {
        let of = calls_of(totals.unpriced_calls);
        warnings.push(format!("no price is known for {of}: add it as a [[price]]"));
    }
    if totals.estimated_calls > 0 {
        let of = calls_of(totals.estimated_calls);
        warnings.push(format!("the tokens of {of} are estimates"));
    }
    warnings
}

fn calls_of(count: u64) -> String {
    match count {
        1 => "1 call".to_owned(),
        count => format!("{} calls", format::count(count)),
    }
}

/// What is not known is never zero.
fn cost(totals: &TotalsView) -> String {
    let known = totals.cost_nano_usd;
    match totals.unpriced_calls {
        0 => known.to_string(),
        _ if known == NanoUsd::ZERO => "unpriced".to_owned(),
        unpriced => format!("{known} and {} unpriced", format::count(unpriced)),
    }
}

/// Words in colour, where a person reads them on a terminal.
struct Paint(bool);

impl Paint {
    fn put(&self, code: u8, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

const BOLD: u8 = 1;
const RED: u8 = 31;
const YELLOW: u8 = 33;

impl Receipt {
    /// A breaker refused a call of it.
    pub(super) fn is_tripped(&self) -> bool {
        self.is_tripped
    }

    pub(super) fn write(&self, out: &mut Output<'_>, colours: bool) -> io::Result<()> {
        let paint = Paint(colours);
        let run = printable(self.run.as_str());
        let mut head = format!(
            "{}  {}, {}",
            paint.put(BOLD, &format!("open-aiops: run {run}")),
            format::duration(self.duration_us),
            calls_of(self.totals.calls + self.open),
        );
        for (count, what) in [
            (self.failed, "failed"),
            (self.refused, "refused"),
            (self.open, "open"),
        ] {
            if count > 0 {
                // Writing into a text does not fail.
                let _ = write!(head, ", {} {what}", format::count(count));
            }
        }
        writeln!(out.writer, "{head}")?;
        if self.totals.calls + self.open > 0 {
            self.write_spent(out)?;
        }
        for warning in &self.warnings {
            let word = paint.put(YELLOW, "warning");
            writeln!(out.writer, "  {word}  {}", printable(warning))?;
        }
        for trip in &self.trips {
            let word = paint.put(RED, "tripped");
            let message = printable(&trip.message);
            writeln!(
                out.writer,
                "  {word}  {} refused: {message}",
                calls_of(trip.calls)
            )?;
        }
        if let Some(log) = &self.log {
            writeln!(
                out.writer,
                "  log      {}",
                printable(&log.to_string_lossy())
            )?;
        }
        if self.totals.calls + self.open > 0 {
            let quoted = if run.contains([' ', '\'']) {
                format!("'{run}'")
            } else {
                run
            };
            match &self.page {
                Some(page) => writeln!(out.writer, "  page     {page}")?,
                None => writeln!(out.writer, "  look at  open-aiops show {quoted}")?,
            }
        }
        Ok(())
    }

    fn write_spent(&self, out: &mut Output<'_>) -> io::Result<()> {
        let totals = &self.totals;
        writeln!(
            out.writer,
            "  tokens   {} in ({} cached), {} out",
            format::count(totals.input_tokens),
            format::count(totals.cache_read_input_tokens),
            format::count(totals.output_tokens),
        )?;
        writeln!(out.writer, "  cost     {}", cost(totals))?;
        spent("  AGENT", &self.agents, out)?;
        if !self.runs.is_empty() {
            spent("  RUN WITHIN", &self.runs, out)?;
        }
        for (n, slow) in self.slowest.iter().enumerate() {
            let word = if n == 0 { "slowest" } else { "       " };
            let model = slow.model.as_ref().map_or(format::UNKNOWN, Label::as_str);
            writeln!(
                out.writer,
                "  {word}  {}  {}, {}, {}",
                format::duration(slow.duration_us),
                printable(slow.agent.as_str()),
                printable(model),
                slow.call,
            )?;
        }
        self.write_metrics(out)
    }
}

impl Receipt {
    /// In one line.
    fn write_metrics(&self, out: &mut Output<'_>) -> io::Result<()> {
        const SHOWN: usize = 5;
        let one = |it: &MetricView| format!("{} {}", it.name, printable(&it.text));
        let mut texts: Vec<String> = self.metrics.iter().take(SHOWN).map(one).collect();
        if texts.is_empty() {
            return Ok(());
        }
        let more = self.metrics.len().saturating_sub(SHOWN);
        if more > 0 {
            texts.push(format!("and {more} more"));
        }
        writeln!(out.writer, "  metrics  {}", texts.join(", "))
    }
}

fn spent(heading: &'static str, rows: &[Spent], out: &mut Output<'_>) -> io::Result<()> {
    let columns = [
        (heading, Align::Left),
        ("CALLS", Align::Right),
        ("FAILED", Align::Right),
        ("INPUT", Align::Right),
        ("OUTPUT", Align::Right),
        ("COST", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for Spent { name, totals } in rows {
        table.row([
            format!("  {name}"),
            format::count(totals.calls),
            format::count(totals.errors),
            format::count(totals.input_tokens),
            format::count(totals.output_tokens),
            cost(totals),
        ]);
    }
    table.write(out)
}

#[cfg(test)]
mod tests;
