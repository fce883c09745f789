//! Two groups of runs side by side.

use std::fmt::Write as _;
use std::io;

use super::source;
use super::table::Align::{Left, Right};
use super::table::{Output, Table};
use super::{Common, Failure, command};
use crate::admin::compare::CompareParams;
use crate::core::compare::{
    Compared, ComparedAgent, Comparison, FirstDifference, Unit, Verdict, signed, spoken,
};
use crate::core::text;

const NONE: &str = "-";

pub(super) const EXAMPLES: &str = "\
Examples:
  open-aiops compare --by variant --since 7d
  open-aiops compare --by variant base terse --success 'metric:score>=0.5' --metric score
  open-aiops compare --by tag.prompt v1 v2 --agent planner
  open-aiops compare --by time 2026-11-01..2026-11-08 2026-11-08..2026-11-15
  open-aiops compare nightly-42 nightly-43      two runs, and where they part

Calls name their variant by `x-aiops-variant`, by /variant/<name>/ in the base URL, or by
`open-aiops run --variant`. Below 20 runs of each side nothing is concluded.";

pub(super) fn run(
    common: &Common,
    params: &CompareParams,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let (runtime, source) = command::open(common)?;
    let body = runtime.block_on(source.ask("/api/v1/compare", params))?;
    if common.json {
        return command::raw(&body, out);
    }
    let told: Comparison = source::parse(&body)?;
    Ok(show(&told, out)?)
}

fn show(told: &Comparison, out: &mut Output<'_>) -> io::Result<()> {
    writeln!(out.writer, "{}\n", text::visible(&told.sentence))?;
    let has_both = told.a.as_ref().is_some_and(|arm| arm.runs > 0)
        && told.b.as_ref().is_some_and(|arm| arm.runs > 0);
    if has_both {
        measures(told, out)?;
        if told.by != "run" && told.agents.len() > 1 {
            writeln!(out.writer)?;
            agents(&told.agents, out)?;
        }
    } else {
        arms(told, out)?;
    }
    if let Some(difference) = &told.first_difference {
        writeln!(out.writer, "\n{}", parting(difference))?;
    }
    if !told.notes.is_empty() {
        writeln!(out.writer)?;
    }
    for note in &told.notes {
        writeln!(out.writer, "{note}")?;
    }
    Ok(())
}

fn measures(told: &Comparison, out: &mut Output<'_>) -> io::Result<()> {
    let name = |arm: &Option<crate::core::compare::Arm>| {
        let name = arm.as_ref().map_or(NONE, |arm| arm.name.as_str());
        text::visible(name).into_owned()
    };
    let (a, b) = (name(&told.a), name(&told.b));
    let columns = [
        ("", Left),
        (a.as_str(), Right),
        (b.as_str(), Right),
        ("DIFFERENCE", Right),
        ("95 % INTERVAL", Right),
        ("RUNS", Right),
        ("SAYS", Left),
    ];
    let mut table = Table::new(&columns);
    for it in &told.measures {
        let runs = format!("{}/{}", it.a.n, it.b.n);
        let says = verdict(it.verdict).to_owned();
        let figures = figures(it).into_iter();
        table.row(
            [it.title.clone()]
                .into_iter()
                .chain(figures)
                .chain([runs, says]),
        );
    }
    table.write(out)
}

/// Of a, of b, their difference and its interval.
fn figures(it: &Compared) -> [String; 4] {
    let value = |value: Option<f64>| value.map_or(NONE.to_owned(), |value| spoken(it.unit, value));
    let difference = it
        .difference
        .map_or(NONE.to_owned(), |by| with_share(it, by));
    let interval = it.low.zip(it.high).map_or(NONE.to_owned(), |(low, high)| {
        format!("{} to {}", signed(it.unit, low), signed(it.unit, high))
    });
    [value(it.a.value), value(it.b.value), difference, interval]
}

fn with_share(it: &Compared, by: f64) -> String {
    let share = it.ratio.filter(|_| it.unit != Unit::Share);
    let share = share.map_or_else(String::new, |ratio| {
        format!(" ({:+.0} %)", (ratio - 1.0) * 100.0)
    });
    format!("{}{share}", signed(it.unit, by))
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Lower => "lower",
        Verdict::Higher => "higher",
        Verdict::NoDifferenceShown => "no difference shown",
        Verdict::TooFewRuns => "too few runs",
        Verdict::NotComparable => "nothing to compare",
    }
}

fn agents(agents: &[ComparedAgent], out: &mut Output<'_>) -> io::Result<()> {
    let mut table = Table::new(&[
        ("AGENT", Left),
        ("", Left),
        ("A", Right),
        ("B", Right),
        ("DIFFERENCE", Right),
        ("95 % INTERVAL", Right),
    ]);
    for agent in agents {
        for it in &agent.measures {
            let [a, b, difference, interval] = figures(it);
            let name = text::visible(agent.agent.as_str()).into_owned();
            table.row([name, it.title.clone(), a, b, difference, interval]);
        }
    }
    table.write(out)
}

fn arms(told: &Comparison, out: &mut Output<'_>) -> io::Result<()> {
    if told.arms.is_empty() {
        let how = "Calls name their variant by the header x-aiops-variant, by /variant/<name>/ in the \
                   base URL, or by `open-aiops run --variant <name>`.";
        return writeln!(out.writer, "{how}");
    }
    let mut table = Table::new(&[("FOUND", Left), ("RUNS", Right)]);
    for arm in &told.arms {
        let name = text::visible(&arm.name).into_owned();
        table.row([name, text::grouped(arm.runs)]);
    }
    table.write(out)
}

/// Where two runs part, what each says there, and how to see all of it.
fn parting(it: &FirstDifference) -> String {
    let mut told = format!("They part here: {}.", it.sentence());
    let said = it.departure.said.marked();
    for line in said.lines() {
        _ = write!(told, "\n  {}", text::visible(line));
    }
    for (side, id) in [("A", it.a), ("B", it.b)] {
        if let Some(id) = id {
            _ = write!(told, "\n{side}: open-aiops show {id}");
        }
    }
    told
}
