//! One budget: what it says in words, and its accounts.

use maud::{Markup, html};
use serde_json::Value;

use super::super::desk::Desk;
use super::super::here::Here;
use super::super::table::{Cell, Column, Row, Table};
use super::super::{figure, link, text};
use super::{Known, actions};
use crate::budgets::refusal::key_text;
use crate::budgets::{AccountRow, MeasureRow, RuleRow};
use crate::core::budget::amounts::micro_text;
use crate::core::budget::{Action, Control, Dimension, Measure, OnUnpriced, Rule, Window};
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;

const COLUMNS: [Column; 13] = [
    Column::text("rule", "Budget"),
    Column::text("key", "Account"),
    Column::text("measure", "Of"),
    Column::number("used", "Used"),
    Column::number("held", "Held"),
    Column::number("free", "Free"),
    Column::number("limit", "Limit"),
    Column::number("raised", "Put on top"),
    Column::number("used_permille", "Used, in thousandths"),
    Column::text("state", "State"),
    Column::number("refused_calls", "Refused"),
    Column::text("resets_at", "Resets"),
    Column::number("seconds_to_limit", "To the limit, s"),
];

/// A budget with its accounts.
pub(super) fn section(
    desk: &Desk,
    here: &Here,
    (number, row): (usize, &RuleRow),
    known: &Known,
) -> Markup {
    let rule = &row.rule;
    let more = row.total.saturating_sub(row.accounts.len());
    let id = format!("budget-{number}");
    html! {
        section.card aria-labelledby=(id) {
            h2 id=(id) { a href=(here.with(&[("rule", Some(rule.name.as_str()))])) { (text::name(rule.name.as_str())) } }
            p.muted { (text::shown(&words(rule))) }
            @if row.accounts.is_empty() {
                p { "No call was counted yet." }
            } @else {
                (table(desk, here, row, known))
                @if more > 0 {
                    p.more { (figure::count(more as u64)) " more accounts, less used "
                        @if here.get("rule").is_none() {
                            a href=(here.with(&[("rule", Some(rule.name.as_str()))])) { "Show them" }
                        } }
                }
            }
        }
    }
}

fn table(desk: &Desk, here: &Here, row: &RuleRow, known: &Known) -> Markup {
    let seed = desk.state.ledger.seed();
    html! {
        div.scroll tabindex="0" role="region" aria-label=(format!("Accounts of {}", row.rule.name)) {
            table.accounts {
                thead { tr {
                    th scope="col" { "Account" } th scope="col" { "State" } th scope="col" { "Used, held, free" }
                    th.n scope="col" { "Used" } th.n scope="col" { "Held" } th.n scope="col" { "Limit" } th.n scope="col" { "%" }
                    th scope="col" { "Resets" } th scope="col" { "Limit reached in" } th scope="col" { "Do" }
                } }
                tbody { @for account in &row.accounts {
                    @let id = account.name.id(seed).0.to_string();
                    tr id=(format!("account-{id}")) data-key=(id) class=[is_over(row, account).then_some("bad")] {
                        th scope="row" { (key(here, &account.name.key)) }
                        td { (state(&row.rule, account, known)) }
                        td.meters { @for it in &account.measures { div.line { (meter(&row.rule, it)) } } }
                        td.n { (lines(account, |it| figure(&row.rule, it.measure, it.used))) }
                        td.n { (lines(account, |it| figure(&row.rule, it.measure, it.held))) }
                        td.n { (lines(account, |it| limit(&row.rule, it))) }
                        td.n { (lines(account, |it| html! { (part(it.used, it.limit)) })) }
                        td { @match account.resets_at {
                            Some(at) => (figure::time(at, &desk.zone)),
                            None => span.none { @if row.rule.window == Window::Total { "never" } @else { "-" } },
                        } }
                        td { (lines(account, |it| ahead(row, account, it, known))) }
                        td { (actions(here, account, known)) }
                    }
                } }
            }
        }
    }
}

/// What a budget says.
fn words(rule: &Rule) -> String {
    let limits = rule.limits.each().map(|(of, limit)| rule.text(of, limit));
    let mut limits = limits.collect::<Vec<_>>().join(", ");
    if limits.is_empty() {
        "As much as clients allow their runs by header".clone_into(&mut limits);
    }
    let per: Vec<String> = rule.per.iter().map(ToString::to_string).collect();
    let mut words = vec![limits];
    words.push(match per.as_slice() {
        [] => " for all calls together".to_owned(),
        per => format!(" for each {}", per.join(" and ")),
    });
    words.push(match &rule.window {
        Window::Total => ", for ever".to_owned(),
        Window::Rolling(_) => format!(", in any {}", rule.window),
        Window::Calendar(_, zone) => {
            let zone = zone.iana_name().unwrap_or("local time");
            format!(", each {} ({zone})", rule.window)
        }
    });
    words.extend(rule.matching.iter().map(|(of, globs)| {
        let globs: Vec<String> = globs.iter().map(ToString::to_string).collect();
        format!(", where {of} is {}", globs.join(" or "))
    }));
    words.push(".".to_owned());
    words.push(consequences(rule));
    words.concat()
}

/// What it does before its limit and at it.
fn consequences(rule: &Rule) -> String {
    let warns = rule.warn_at;
    let warns = warns.map(|warn| format!(" Warns from {} % on.", warn / 10));
    let slows = rule.slow.map(|slow| {
        let (from, delay) = (slow.from / 10, figure::duration(slow.max_delay_us));
        format!(" Slows calls from {from} % on, by up to {delay}.")
    });
    let at_limit = match rule.action {
        Action::Break => " At the limit calls are refused.",
        Action::Warn => " At the limit calls go on and say so.",
    };
    let unpriced = match rule.on_unpriced {
        OnUnpriced::Refuse => " Calls of models without a price are refused.",
        OnUnpriced::FallbackPrice | OnUnpriced::CountOnly => "",
    };
    let before = warns.into_iter().chain(slows).collect::<String>();
    [before.as_str(), at_limit, unpriced].concat()
}

fn key(here: &Here, key: &[(Dimension, Option<Label>)]) -> Markup {
    html! {
        @if key.is_empty() { "all calls" }
        @for (index, (of, value)) in key.iter().enumerate() {
            @if index > 0 { ", " }
            span.muted { (text::name(&of.to_string())) " " }
            @match (of, value) {
                (Dimension::Run, Some(run)) => a href=(here.at(&link::run(run), [])) { (text::name(run.as_str())) },
                (_, Some(value)) => (text::name(value.as_str())),
                (_, None) => span.none { "(none)" },
            }
        }
    }
}

fn is_over(row: &RuleRow, account: &AccountRow) -> bool {
    account.state(&row.rule) == "spent"
}

fn state(rule: &Rule, account: &AccountRow, known: &Known) -> Markup {
    let (kind, word) = match account.state(rule) {
        "spent" => ("bad", "spent"),
        "passed" => ("warn", "passed"),
        "warning" => ("warn", "almost used"),
        _ => ("ok", "open"),
    };
    let run = super::run_of(&account.name.key);
    let control = run.and_then(|run| known.controls.get(run));
    html! {
        (figure::state(kind, word))
        @match control {
            Some(Control::Paused) => { br; (figure::state("warn", "run paused")) },
            Some(Control::Stopped) => { br; (figure::state("bad", "run stopped")) },
            _ => {},
        }
        @if account.running > 0 { br; span.muted { (account.running) " running" } }
        @if account.waiting > 0 { br; span.muted { (account.waiting) " waiting" } }
        @if account.refused > 0 { br; span.muted { (figure::count(account.refused)) " refused" } }
    }
}

fn lines(account: &AccountRow, of: impl Fn(&MeasureRow) -> Markup) -> Markup {
    html! { @for it in &account.measures { div.line { (of(it)) } } }
}

/// An amount of a measure, exact in its title.
fn figure(rule: &Rule, measure: Measure, amount: i64) -> Markup {
    let exact = rule.text(measure, amount);
    let count = || figure::count(amount.unsigned_abs());
    let text = match measure {
        Measure::Usd => figure::money(NanoUsd::new(amount)),
        Measure::Tokens => format!("{} tokens", count()),
        Measure::InputTokens => format!("{} in", count()),
        Measure::OutputTokens => format!("{} out", count()),
        Measure::Calls => format!("{} calls", count()),
        Measure::Concurrent => format!("{} at once", count()),
        Measure::Metric => exact.clone(),
    };
    html! { span title=(exact) { (text) } }
}

fn limit(rule: &Rule, row: &MeasureRow) -> Markup {
    html! {
        (figure(rule, row.measure, row.limit))
        @if row.raised > 0 { " " span.muted title=(format!("of which {} was put on top", rule.text(row.measure, row.raised))) { "(raised)" } }
    }
}

fn permille(part: i64, whole: i64) -> u64 {
    let (part, whole) = (i128::from(part.max(0)), i128::from(whole.max(0)));
    if whole == 0 {
        return 1000;
    }
    u64::try_from(part * 1000 / whole).unwrap_or(u64::MAX)
}

fn part(part: i64, whole: i64) -> String {
    if whole <= 0 {
        return "-".to_owned();
    }
    let part = u64::try_from(part.max(0)).unwrap_or(0);
    figure::percent(part, u64::try_from(whole).unwrap_or(1))
}

fn meter(rule: &Rule, row: &MeasureRow) -> Markup {
    // Calls at once are held and used in one.
    let held = if row.measure == Measure::Concurrent {
        0
    } else {
        row.held
    };
    let what = format!(
        "{} of {} used, {} held",
        rule.text(row.measure, row.used),
        rule.text(row.measure, row.limit),
        rule.text(row.measure, held)
    );
    let mark = rule.slow.map(|slow| u64::from(slow.from));
    figure::meter(
        permille(row.used, row.limit),
        permille(held, row.limit),
        mark,
        &what,
    )
}

/// How long it takes to the limit, if things go on as in the last minutes.
fn ahead(row: &RuleRow, account: &AccountRow, measure: &MeasureRow, known: &Known) -> Markup {
    let seconds = known
        .rates
        .seconds_to_limit(&row.rule.name, &account.name.key, measure);
    html! {
        @match seconds {
            Some(seconds) => span title="at the rate of the last 15 minutes" { "~" (coarse(seconds)) },
            None => span.none { "-" },
        }
    }
}

/// So coarse that it does not change from second to second.
fn coarse(seconds: u64) -> String {
    match seconds {
        0..60 => "1 min".to_owned(),
        60..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        172_800..31_536_000 => format!("{} days", seconds / 86_400),
        _ => "years".to_owned(),
    }
}

/// All of it as one table, a row for each limit of an account.
pub(super) fn exported(rows: &[RuleRow], known: &Known) -> Table {
    let mut all = Vec::new();
    for row in rows {
        for account in &row.accounts {
            all.extend(
                account
                    .measures
                    .iter()
                    .map(|it| flat(row, account, it, known)),
            );
        }
    }
    Table {
        name: "budgets",
        caption: "Accounts".to_owned(),
        columns: &COLUMNS,
        rows: all,
        more: None,
        empty: html! {},
    }
}

fn flat(row: &RuleRow, account: &AccountRow, it: &MeasureRow, known: &Known) -> Row {
    let cell = |value: Value| Cell::new(value, html! {});
    let amount = |amount: i64| match it.measure {
        Measure::Usd => cell(NanoUsd::new(amount).to_string().replace('$', "").into()),
        Measure::Metric => cell(micro_text(amount).into()),
        _ => cell(amount.into()),
    };
    let free = it
        .limit
        .saturating_sub(it.used)
        .saturating_sub(it.held)
        .max(0);
    let seconds = known
        .rates
        .seconds_to_limit(&row.rule.name, &account.name.key, it);
    Row {
        key: String::new(),
        class: "",
        cells: vec![
            Cell::text(row.rule.name.as_str()),
            Cell::text(&key_text(&account.name.key)),
            Cell::text(match (&row.rule.metric, it.measure) {
                (Some(metric), Measure::Metric) => metric,
                (_, measure) => measure.name(),
            }),
            amount(it.used),
            amount(it.held),
            amount(free),
            amount(it.limit),
            amount(it.raised),
            cell(permille(it.used, it.limit).into()),
            Cell::text(account.state(&row.rule)),
            cell(account.refused.into()),
            cell(account.resets_at.map(|at: Timestamp| at.to_string()).into()),
            cell(seconds.into()),
        ],
    }
}
