//! Lists: calls, runs, agents; and one run as its tree, its agents and its calls.

use std::fmt::Display;
use std::io;

use super::format::{self, UNKNOWN};
use super::table::{Align, Output, Table, printable};
use super::tree;
use crate::admin::params::When;
use crate::admin::view::{
    AgentView, CallList, CallView, EventView, OPEN, RunDetail, RunView, TotalsView,
};
use crate::core::budget::Control;
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::check::CheckReport;

use Align::{Left, Right};

/// What stands for nothing at all.
const NONE: &str = "-";

pub(super) fn calls(calls: &[CallView], out: &mut Output<'_>) -> io::Result<()> {
    let mut table = Table::new(&[
        ("STARTED (UTC)", Left),
        ("CALL", Left),
        ("RUN", Left),
        ("AGENT", Left),
        ("CALLER", Left),
        ("MODEL", Left),
        ("OUTCOME", Left),
        ("STATUS", Right),
        ("INPUT", Right),
        ("OUTPUT", Right),
        ("COST", Right),
        ("TOOK", Right),
    ]);
    for call in calls {
        let ended = |text: String| {
            if call.outcome == OPEN {
                NONE.to_owned()
            } else {
                text
            }
        };
        table.row([
            format::time(call.started_at),
            call.id.to_string(),
            name(call.run.as_ref()),
            call.agent.to_string(),
            name(call.caller.as_ref()),
            name(call.model.as_ref()),
            call.outcome.clone(),
            call.status
                .map_or_else(|| NONE.to_owned(), |status| status.to_string()),
            ended(format::count(call.usage.input_tokens)),
            ended(format::count(call.usage.output_tokens)),
            ended(format::cost(call.cost_nano_usd)),
            ended(
                call.duration_us
                    .map_or_else(|| UNKNOWN.to_owned(), format::duration),
            ),
        ]);
    }
    table.write(out)
}

pub(super) fn runs(runs: &[RunView], out: &mut Output<'_>) -> io::Result<()> {
    let mut table = Table::new(&[
        ("STARTED (UTC)", Left),
        ("RUN", Left),
        ("PARENT", Left),
        ("STATE", Left),
        ("LASTED", Right),
        ("CALLS", Right),
        ("FAILED", Right),
        ("INPUT", Right),
        ("OUTPUT", Right),
        ("COST", Right),
    ]);
    for run in runs {
        let head = [
            format::time(run.first_at),
            run.run.to_string(),
            name(run.parent_run.as_ref()),
            state(run).to_owned(),
            format::duration(run.last_at.micros_since(run.first_at)),
        ];
        table.row(head.into_iter().chain(figures(&run.totals)));
    }
    table.write(out)
}

fn state(run: &RunView) -> &'static str {
    match run.control {
        Control::Running if run.open_calls > 0 => "active",
        Control::Running => NONE,
        held_up @ (Control::Paused | Control::Stopped) => held_up.into(),
    }
}

pub(super) fn agents(agents: &[AgentView], out: &mut Output<'_>) -> io::Result<()> {
    let rows = agents
        .iter()
        .map(|agent| (&agent.agent, agent.last_at, &agent.figures.totals));
    agent_rows(rows, out)
}

fn agent_rows<'a>(
    rows: impl Iterator<Item = (&'a Label, Timestamp, &'a TotalsView)>,
    out: &mut Output<'_>,
) -> io::Result<()> {
    let mut table = Table::new(&[
        ("AGENT", Left),
        ("LAST SEEN (UTC)", Left),
        ("CALLS", Right),
        ("FAILED", Right),
        ("INPUT", Right),
        ("OUTPUT", Right),
        ("COST", Right),
    ]);
    for (agent, last_at, totals) in rows {
        table.row(
            [agent.to_string(), format::time(last_at)]
                .into_iter()
                .chain(figures(totals)),
        );
    }
    table.write(out)
}

pub(super) fn events(events: &[EventView], out: &mut Output<'_>) -> io::Result<()> {
    let mut table = Table::new(&[
        ("TIME (UTC)", Left),
        ("WHAT", Left),
        ("WHO", Left),
        ("DETAILS", Left),
    ]);
    for event in events {
        table.row([
            format::time(event.at),
            event.what.clone(),
            event.who.clone(),
            event.details.clone().unwrap_or_else(|| NONE.to_owned()),
        ]);
    }
    table.write(out)
}

/// Tells a person what the figures are of, when they asked for a span of time.
pub(super) fn span(
    of: &str,
    (since, until): (Option<&When>, Option<&When>),
    out: &mut Output<'_>,
) -> io::Result<()> {
    let words: Vec<_> = [("since", since), ("before", until)]
        .into_iter()
        .filter_map(|(word, when)| Some(format!("{word} {}", when?.spoken())))
        .collect();
    if words.is_empty() || !out.terminal {
        return Ok(());
    }
    writeln!(out.writer, "\n{of} {}", words.join(" and "))
}

/// Tells a person that there is more, and how to see it.
pub(super) fn more(
    flag: &str,
    next: Option<impl Display>,
    partial: bool,
    out: &mut Output<'_>,
) -> io::Result<()> {
    match next {
        Some(next) if out.terminal && partial => writeln!(
            out.writer,
            "\nlooked at 10,000 only; go on with {flag} {next}"
        ),
        Some(next) if out.terminal => writeln!(out.writer, "\nmore with {flag} {next}"),
        _ => Ok(()),
    }
}

/// Tells a person of which span the figures are, when it is a wider one than they asked for.
pub(super) fn widened(
    (since, until): (Option<Timestamp>, Option<Timestamp>),
    out: &mut Output<'_>,
) -> io::Result<()> {
    let words: Vec<_> = [("from", since), ("to", until)]
        .into_iter()
        .filter_map(|(word, at)| Some(format!("{word} {}", format::time(at?))))
        .collect();
    writeln!(out.writer, "counted whole {} (UTC)", words.join(" "))
}

/// A run: itself and the runs it began, who invoked whom, what each agent used, its latest calls.
pub(super) fn run(run: &RunDetail, made: &CallList, out: &mut Output<'_>) -> io::Result<()> {
    let mut lineage = vec![run.run.clone()];
    lineage.extend(run.children.iter().cloned());
    runs(&lineage, out)?;
    let held_up = match run.run.control {
        Control::Running => None,
        Control::Paused => Some("paused: its new calls wait"),
        Control::Stopped => Some("stopped: its calls are refused"),
    };
    if let Some(held_up) = held_up {
        let name = printable(run.run.run.as_str());
        writeln!(
            out.writer,
            "\n{held_up}; to let it go on: open-aiops run resume '{name}'"
        )?;
    }
    writeln!(out.writer)?;
    tree::write(&run.edges, out)?;
    writeln!(out.writer)?;
    let by_agent = run.by_agent.iter();
    agent_rows(
        by_agent.map(|agent| (&agent.agent, agent.last_at, &agent.totals)),
        out,
    )?;
    writeln!(out.writer)?;
    calls(&made.calls, out)?;
    let Some(next) = made.next else {
        return Ok(());
    };
    let recorded: u64 = run
        .edges
        .iter()
        .map(|edge| edge.totals.calls + edge.open_calls)
        .sum();
    let left = recorded.saturating_sub(made.calls.len() as u64);
    writeln!(
        out.writer,
        "\n... and {} more calls: open-aiops calls --run '{}' --before {next}",
        format::count(left),
        printable(run.run.run.as_str()),
    )
}

/// What the log holds and what of it cannot be read.
pub(super) fn check(report: &CheckReport, out: &mut Output<'_>) -> io::Result<()> {
    let mut table = Table::new(&[("WHAT", Left), ("COUNT", Right)]);
    for (what, count) in [
        (
            "segments",
            u64::try_from(report.segments).unwrap_or(u64::MAX),
        ),
        ("bytes", report.bytes),
        ("contents", report.contents),
        ("admissions", report.admissions),
        ("settlements", report.settlements),
        ("checkpoints", report.checkpoints),
        ("events", report.events),
        ("accounts", report.accounts),
        ("acts", report.acts),
        ("late usages", report.late_usages),
        ("custom metrics", report.measurements),
        ("heads of segments", report.heads),
        ("removals", report.removals),
        ("deleted", report.deleted),
        ("unknown", report.unknown),
        (
            "damaged parts",
            u64::try_from(report.damages.len()).unwrap_or(u64::MAX),
        ),
        ("torn bytes", report.torn_bytes),
    ] {
        table.row([what.to_owned(), format::count(count)]);
    }
    let index = match report.index_damaged {
        None => NONE,
        Some(false) => "sound",
        Some(true) => "damaged",
    };
    table.row(["index".to_owned(), index.to_owned()]);
    table.write(out)
}

fn figures(totals: &TotalsView) -> [String; 5] {
    [
        format::count(totals.calls),
        format::count(totals.errors),
        format::count(totals.input_tokens),
        format::count(totals.output_tokens),
        format::total_cost(totals.cost_nano_usd, totals.unpriced_calls, totals.calls),
    ]
}

fn name(label: Option<&Label>) -> String {
    label.map_or_else(|| NONE.to_owned(), ToString::to_string)
}
