//! Budgets as tables, and what was done to them as sentences.

use std::io;

use super::format;
use super::table::{Align, Output, Table, printable};
use crate::admin::view::{AccountAnswer, AccountView, BudgetView, Raised, RunControlled};
use crate::budgets::MeasureRow;
use crate::core::budget::amounts::micro_text;
use crate::core::budget::{Control, Limits, Measure};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;

use Align::{Left, Right};

const NONE: &str = "-";
/// Of a bar.
const CELLS: usize = 10;

/// The signs a bar is made of: used, held, left.
const BLOCKS: [&str; 3] = ["\u{2588}", "\u{2592}", "\u{2591}"];
const SIGNS: [&str; 3] = ["#", "=", "."];

const COLUMNS: [(&str, Align); 9] = [
    ("BUDGET", Left),
    ("KEY", Left),
    ("USED / HELD / LIMIT", Right),
    ("PART", Left),
    ("STATE", Left),
    ("RUN", Right),
    ("WAIT", Right),
    ("REFUSED", Right),
    ("RESETS", Left),
];

/// Each budget under its own head. Into a pipe each row says whose it is instead.
pub(super) fn list(budgets: &[BudgetView], now: Timestamp, out: &mut Output<'_>) -> io::Result<()> {
    if !out.terminal {
        let mut table = Table::new(&COLUMNS);
        for budget in budgets {
            for row in budget.accounts.iter().flat_map(|it| rows(it, now, false)) {
                table.row([budget.name.to_string()].into_iter().chain(row));
            }
        }
        return table.write(out);
    }
    if budgets.is_empty() {
        return writeln!(out.writer, "no budgets are configured");
    }
    for (number, budget) in budgets.iter().enumerate() {
        if number > 0 {
            writeln!(out.writer)?;
        }
        writeln!(out.writer, "{}", printable(&head(budget)))?;
        let [_, columns @ ..] = &COLUMNS;
        let mut table = Table::new(columns);
        for row in budget.accounts.iter().flat_map(|it| rows(it, now, true)) {
            table.row(row);
        }
        table.write(out)?;
        let shown = u64::try_from(budget.accounts.len()).unwrap_or(u64::MAX);
        let left = budget.accounts_total.saturating_sub(shown);
        if left > 0 {
            let left = format::count(left);
            writeln!(
                out.writer,
                "... and {left} more, further from their limits: --limit"
            )?;
        }
    }
    Ok(())
}

/// `"each run": apart by run, window total, break`
fn head(budget: &BudgetView) -> String {
    let apart = if budget.per.is_empty() {
        "all calls together".to_owned()
    } else {
        format!("apart by {}", budget.per.join(", "))
    };
    let mut head = format!("\"{}\": {apart}, window {}", budget.name, budget.window);
    if let Some(zone) = &budget.timezone {
        head = format!("{head} ({zone})");
    }
    head = format!("{head}, {}", budget.action);
    if !budget.matching.is_empty() {
        head = format!("{head}, only {}", budget.matching);
    }
    head
}

/// One row for each limit. A person does not read twice what the first one said.
fn rows(account: &AccountView, now: Timestamp, terminal: bool) -> Vec<[String; 8]> {
    let key = match account.key_text.as_str() {
        "" => "(all calls)".to_owned(),
        key => key.to_owned(),
    };
    let resets = account.resets_at.map_or(NONE.to_owned(), |at| {
        if terminal {
            format!("in {}", format::duration(at.micros_since(now)))
        } else {
            format::time(at)
        }
    });
    let row = |(used, part): (String, String)| {
        [
            key.clone(),
            used,
            part,
            account.state.clone(),
            format::count(account.running),
            format::count(account.waiting),
            format::count(account.refused),
            resets.clone(),
        ]
    };
    let measures: Vec<MeasureRow> = account.measures.iter().map(|it| (*it).into()).collect();
    if measures.is_empty() {
        return vec![row((NONE.to_owned(), NONE.to_owned()))];
    }
    let signs = if terminal { BLOCKS } else { SIGNS };
    let metric = account.metric.as_deref();
    let cells = measures
        .iter()
        .map(|it| (figures(it, metric), bar(it, signs)));
    let mut rows: Vec<_> = cells.map(row).collect();
    if terminal {
        for [key, _, _, others @ ..] in rows.iter_mut().skip(1) {
            key.clear();
            others.iter_mut().for_each(String::clear);
        }
    }
    rows
}

/// `$0.42 / $0.10 / $3.00`, `12 / 1 / 100 calls`
fn figures(row: &MeasureRow, metric: Option<&str>) -> String {
    let amount = |sum| amount(row.measure, sum);
    let (used, held, limit) = (amount(row.used), amount(row.held), amount(row.limit));
    let unit = match row.measure {
        Measure::InputTokens => " input".to_owned(),
        Measure::OutputTokens => " output".to_owned(),
        Measure::Concurrent => " at once".to_owned(),
        measure => unit(measure, metric),
    };
    format!("{used} / {held} / {limit}{unit}")
}

/// `[##=.......]`: used, held and left, in whole cells.
fn bar(row: &MeasureRow, signs: [&str; 3]) -> String {
    let filled = |taken: i64| {
        let cells = i128::from(taken.max(0)) * 10 / i128::from(row.limit.max(1));
        // A limit of nothing is reached.
        let cells = if row.limit <= 0 { 10 } else { cells };
        usize::try_from(cells).map_or(CELLS, |cells| cells.min(CELLS))
    };
    let used = filled(row.used);
    let taken = filled(row.used.saturating_add(row.held)).max(used);
    let [full, held, left] = signs;
    format!(
        "[{}{}{}]",
        full.repeat(used),
        held.repeat(taken - used),
        left.repeat(CELLS - taken)
    )
}

fn amount(measure: Measure, sum: i64) -> String {
    match measure {
        Measure::Usd => NanoUsd::new(sum).to_string(),
        Measure::Metric => micro_text(sum),
        _ if sum < 0 => format!("-{}", format::count(sum.unsigned_abs())),
        _ => format::count(sum.unsigned_abs()),
    }
}

fn unit(measure: Measure, metric: Option<&str>) -> String {
    let unit = match measure {
        Measure::Usd => "",
        Measure::Tokens => " tokens",
        Measure::InputTokens => " input tokens",
        Measure::OutputTokens => " output tokens",
        Measure::Calls => " calls",
        Measure::Concurrent => " calls at once",
        Measure::Metric => return format!(" {}", metric.unwrap_or("of its metric")),
    };
    unit.to_owned()
}

/// `"each run", run nightly-42: raised by $1.00, now $0.42 used of $3.00`
pub(super) fn raised(done: &Raised, by: &Limits) -> String {
    let metric = done.of.account.metric.as_deref();
    let sums: Vec<String> = by
        .each()
        .map(|(measure, sum)| format!("{}{}", amount(measure, sum), unit(measure, metric)))
        .collect();
    let until = done.until.map_or_else(String::new, |until| {
        format!(" until {} (UTC)", format::time(until))
    });
    let now = now(&done.of.account, |it| by.of(it.measure).is_some());
    let who = name(&done.of);
    format!("{who}: raised by {}{until}{now}", sums.join(" and "))
}

/// `"each run", run nightly-42: reset, now $0.00 used of $2.00`
pub(super) fn reset(done: &AccountAnswer) -> String {
    format!("{}: reset{}", name(done), now(&done.account, |_| true))
}

/// `run nightly-42: stopped, 2 running calls ended`
pub(super) fn controlled(done: &RunControlled) -> String {
    let what = match (done.control, done.ended_calls) {
        (Control::Running, _) => "it goes on".to_owned(),
        (Control::Paused, _) => "paused, new calls wait".to_owned(),
        (Control::Stopped, 1) => "stopped, 1 running call ended".to_owned(),
        (Control::Stopped, ended) => {
            format!("stopped, {} running calls ended", format::count(ended))
        }
    };
    printable(&format!("run {}: {what}", done.run))
}

fn name(of: &AccountAnswer) -> String {
    printable(&format!("\"{}\", {}", of.rule, of.account.spoken(&of.rule)))
}

fn now(account: &AccountView, shown: impl Fn(&MeasureRow) -> bool) -> String {
    let measures = account.measures.iter().map(|it| MeasureRow::from(*it));
    let stand: Vec<String> = measures
        .filter(shown)
        .map(|row| {
            let (used, limit) = (
                amount(row.measure, row.used),
                amount(row.measure, row.limit),
            );
            let unit = unit(row.measure, account.metric.as_deref());
            format!("{used} used of {limit}{unit}")
        })
        .collect();
    if stand.is_empty() {
        return String::new();
    }
    format!(", now {}", stand.join(", "))
}
