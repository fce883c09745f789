//! Budgets and runs of a running server: how they stand, and what is done to them.

use std::env;
use std::fs;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

use super::args::{Account, By, Raise, RunCommand, RunName};
use super::source::{self, Source};
use super::table::Output;
use super::{Common, Failure, budgets as print, command};
use crate::admin::params::{self, BudgetParams};
use crate::admin::view::{AccountAnswer, BudgetList, Raised, RunControlled};
use crate::clock::Clock;
use crate::core::budget::amounts::parse_micro;
use crate::core::budget::{Dimension, Limits, Measure};
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::ledger;

/// Who orders when nobody is known to.
const ANYBODY: &str = "cli";
const MAX_WHO_BYTES: usize = 128;

pub(super) fn budgets(
    common: &Common,
    params: &BudgetParams,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let (runtime, source) = running(common)?;
    let body = runtime.block_on(source.ask("/api/v1/budgets", params))?;
    if common.json {
        return command::raw(&body, out);
    }
    let list: BudgetList = source::parse(&body)?;
    Ok(print::list(&list.budgets, Clock::System.now(), out)?)
}

pub(super) fn raise(common: &Common, raise: &Raise, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut order = order(&raise.account)?;
    let by = amounts(&raise.by, &mut order);
    post(
        common,
        "/api/v1/budgets/raise",
        &order,
        out,
        |done: Raised| print::raised(&done, &by),
    )
}

pub(super) fn reset(
    common: &Common,
    account: &Account,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let order = order(account)?;
    let path = "/api/v1/budgets/reset";
    post(common, path, &order, out, |done: AccountAnswer| {
        print::reset(&done)
    })
}

pub(super) fn run(
    common: &Common,
    command: &RunCommand,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let (deed, RunName { run }) = match command {
        RunCommand::Pause(run) => ("pause", run),
        RunCommand::Resume(run) => ("resume", run),
        RunCommand::Stop(run) => ("stop", run),
    };
    let run = utf8_percent_encode(run.as_str(), NON_ALPHANUMERIC);
    let path = format!("/api/v1/runs/{run}/{deed}");
    let order = order_by([]);
    post(common, &path, &order, out, |done: RunControlled| {
        print::controlled(&done)
    })
}

pub(super) fn post<T: DeserializeOwned>(
    common: &Common,
    path: &str,
    order: &impl Serialize,
    out: &mut Output<'_>,
    say: impl FnOnce(T) -> String,
) -> Result<(), Failure> {
    let (runtime, source) = running(common)?;
    let body = runtime.block_on(source.post(path, order))?;
    if common.json {
        return command::raw(&body, out);
    }
    Ok(writeln!(out.writer, "{}", say(source::parse(&body)?))?)
}

/// The server that runs: files alone know nothing of what is held, and nobody acts on them.
pub(super) fn running(common: &Common) -> Result<(Runtime, Source), Failure> {
    Ok((command::runtime()?, server(common)?))
}

pub(super) fn server(common: &Common) -> Result<Source, Failure> {
    let why = "only a running server knows how budgets stand and acts on them and on runs";
    server_since(common, why)
}

/// The same, where it takes a server for another reason.
pub(super) fn server_since(common: &Common, why: &str) -> Result<Source, Failure> {
    let dir = command::ledger_dir(common)?;
    let address = ledger::running_server(&dir).ok_or_else(|| {
        Failure::Impossible(format!(
            "no server runs on the ledger in {}: {why}",
            dir.display()
        ))
    })?;
    Source::server(common, address)
}

/// An order in the name of whoever is at this machine.
pub(super) fn order_by<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let who = [("who", who().into())];
    let named = fields.into_iter().chain(who);
    named
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn order(account: &Account) -> Result<Map<String, Value>, Failure> {
    let mut key = Map::new();
    for (dimension, value) in &account.key {
        let value = value.as_ref().map(Label::as_str).into();
        if key.insert(dimension.to_string(), value).is_some() {
            let twice = format!("--key {dimension}=... is given twice");
            return Err(Failure::Impossible(twice));
        }
    }
    let fields = [
        ("rule", account.rule.as_str().into()),
        ("key", key.into()),
        ("who", who().into()),
    ];
    let named = fields.map(|(name, value): (&str, Value)| (name.to_owned(), value));
    Ok(named.into_iter().collect())
}

/// Puts into `order` by how much to raise.
fn amounts(by: &By, order: &mut Map<String, Value>) -> Limits {
    let mut sums = Limits::default();
    if let Some(usd) = &by.usd {
        sums.set(Measure::Usd, NanoUsd::parse(usd).map(NanoUsd::get));
        // As it was written: the server reads it as exactly.
        order.insert(Measure::Usd.name().to_owned(), usd.as_str().into());
    }
    if let Some(metric) = &by.metric {
        sums.set(Measure::Metric, parse_micro(metric));
        order.insert(Measure::Metric.name().to_owned(), metric.as_str().into());
    }
    for (measure, count) in [
        (Measure::Tokens, by.tokens),
        (Measure::InputTokens, by.input_tokens),
        (Measure::OutputTokens, by.output_tokens),
        (Measure::Calls, by.calls),
        (Measure::Concurrent, by.concurrent),
    ] {
        if let Some(count) = count {
            sums.set(measure, Some(count));
            order.insert(measure.name().to_owned(), count.into());
        }
    }
    sums
}

/// `run=nightly-42`, or `user=` for the calls that do not say.
pub(super) fn key_part(text: &str) -> Result<(Dimension, Option<Label>), String> {
    let (dimension, value) = text
        .split_once('=')
        .ok_or_else(|| format!("found `{text}`, expected DIM=VALUE such as run=nightly-42"))?;
    params::key_part(dimension, Some(value))
}

pub(super) fn usd(text: &str) -> Result<String, String> {
    match NanoUsd::parse(text) {
        Some(amount) if amount > NanoUsd::ZERO => Ok(text.to_owned()),
        _ => Err(format!(
            "found `{text}`, expected an amount in USD above 0 with at most nine decimals, such as \
             1.50"
        )),
    }
}

pub(super) fn metric(text: &str) -> Result<String, String> {
    match parse_micro(text) {
        Some(micro) if micro > 0 => Ok(text.to_owned()),
        _ => Err(format!(
            "found `{text}`, expected a number above 0, with up to 9 digits before and 6 after the \
             point"
        )),
    }
}

pub(super) fn count(text: &str) -> Result<i64, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("found `{text}`, expected a whole number above 0"))
}

/// The user at this machine, as far as that is known.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line is one of the two places that read the environment"
)]
pub(super) fn who() -> String {
    let user = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| env::var(name).ok());
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    name(user.as_deref(), host.as_deref())
}

fn name(user: Option<&str>, host: Option<&str>) -> String {
    let usable = |text: &&str| !text.is_empty() && !text.chars().any(char::is_control);
    let user = user.map(str::trim).filter(usable);
    let host = host.map(str::trim).filter(usable);
    let name = match (user, host) {
        (Some(user), Some(host)) => format!("{user}@{host}"),
        (Some(user), None) => user.to_owned(),
        (None, _) => ANYBODY.to_owned(),
    };
    if name.len() > MAX_WHO_BYTES {
        ANYBODY.to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_of_a_user_at_a_machine_or_of_anybody() {
        let long = "x".repeat(MAX_WHO_BYTES + 1);
        for (user, host, expected) in [
            (Some("ada"), Some("build-7\n"), "ada@build-7"),
            (Some("ada"), None, "ada"),
            (Some("ada"), Some("(none)\u{7}"), "ada"),
            (Some(" "), Some("build-7"), "cli"),
            (None, Some("build-7"), "cli"),
            (Some("a\tb"), None, "cli"),
            (Some(long.as_str()), None, "cli"),
        ] {
            assert_eq!(name(user, host), expected, "{user:?} {host:?}");
        }
    }

    #[test]
    fn key_part_may_have_any_value_or_none() {
        let read = |text: &str| {
            let (dimension, value) = key_part(text).unwrap();
            let value = value.map(|value| value.to_string());
            (dimension.to_string(), value)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("run=a=b c/d"), ("run".to_owned(), some("a=b c/d")));
        assert_eq!(read("tag.team="), ("tag.team".to_owned(), None));
        for (text, expected) in [
            ("run", "found `run`, expected DIM=VALUE"),
            ("colour=red", "found `colour`, expected run, agent"),
            ("run=\u{7}", "run: contains a control character"),
        ] {
            let wrong = key_part(text).unwrap_err();
            assert!(wrong.starts_with(expected), "{wrong}");
        }
    }
}
