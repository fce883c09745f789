//! What other settings would have done to recorded runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use bytes::Bytes;
use tokio::runtime::Runtime;

use super::args::BacktestArgs;
use super::source::{self, Source};
use super::table::Align::{Left, Right};
use super::table::{Output, Table};
use super::{Common, Failure, command, format};
use crate::admin::params::CallParams;
use crate::admin::view::{CallList, CallView};
use crate::backtest::recorded::{Recorded, Rereader};
use crate::backtest::{Outcome, Report, Run, Who, lines, replay};
use crate::config::Config;
use crate::core::attribution::Source as Known;
use crate::core::id::Label;
use crate::core::loops::settings::{Preset, Settings};
use crate::core::money::NanoUsd;

/// Runs that are printed one by one.
const SHOWN: usize = 50;
/// The outcome of a call whose answer was there.
const COMPLETED: &str = "completed";

pub(super) fn run(
    common: &Common,
    args: &BacktestArgs,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let (mut config, _) = command::load(common)?;
    if let Some(preset) = args.preset {
        apply(preset, &mut config);
    }
    let runs = match &args.file {
        Some(file) => (from_file(file, &config)?, 0),
        None => from_ledger(common, args, &config)?,
    };
    let (runs, unread_calls) = runs;
    let report = Report {
        unread_calls,
        ..replay(&runs, &config.loops, &config.budgets)
    };
    if let Some(file) = &args.verdicts {
        fs::write(file, report.verdicts())
            .map_err(|error| Failure::Impossible(format!("{}: {error}", file.display())))?;
    }
    if common.json {
        serde_json::to_writer(&mut *out.writer, &report).map_err(source::impossible)?;
        return Ok(writeln!(out.writer)?);
    }
    Ok(print(&report, out)?)
}

fn apply(preset: Preset, config: &mut Config) {
    config.loops.policy.settings = Settings::preset(preset);
    for (_, policy) in &mut config.loops.agents {
        policy.settings = Settings::preset(preset);
    }
}

fn from_file(file: &Path, config: &Config) -> Result<Vec<Run>, Failure> {
    let unreadable =
        |error: &dyn std::fmt::Display| Failure::Impossible(format!("{}: {error}", file.display()));
    let bytes = if file == Path::new("-") {
        io::read_to_string(io::stdin()).map(String::into_bytes)
    } else {
        fs::read(file)
    };
    let bytes = bytes.map_err(|error| unreadable(&error))?;
    let text = if bytes.starts_with(&[0x1f, 0x8b]) {
        io::read_to_string(flate2::read::GzDecoder::new(bytes.as_slice()))
    } else {
        String::from_utf8(bytes).map_err(io::Error::other)
    };
    let text = text.map_err(|error| unreadable(&error))?;
    let runs = lines::read(&text, &config.loops).collect::<Result<Vec<_>, _>>();
    runs.map_err(|error| unreadable(&error))
}

/// Calls of one run, or of all runs of a time, as the ledger has them.
fn from_ledger(
    common: &Common,
    args: &BacktestArgs,
    config: &Config,
) -> Result<(Vec<Run>, usize), Failure> {
    let (runtime, source) = command::open(common)?;
    let mut params = CallParams {
        run: args.run.clone(),
        since: args.since.clone(),
        ..CallParams::default()
    };
    let mut calls: Vec<CallView> = Vec::new();
    loop {
        let body = runtime.block_on(source.list("/api/v1/calls", &params))?;
        let page: CallList = source::parse(&body)?;
        calls.extend(page.calls);
        match page.next {
            Some(next) => params.before = Some(next),
            None => break,
        }
    }
    if let Some(run) = args.run.as_ref().filter(|_| calls.is_empty()) {
        return Err(Failure::Negative(format!(
            "no call of a run {run} is recorded"
        )));
    }
    calls.reverse();
    let (mut by_run, mut unread) = (BTreeMap::<Label, Vec<Recorded>>::new(), 0);
    for call in calls {
        let run = call.run.clone();
        match (run, recorded(&runtime, &source, call)?) {
            (Some(run), Some(call)) => by_run.entry(run).or_default().push(call),
            _ => unread += 1,
        }
    }
    let reader = Rereader::new(config);
    let runs = by_run.into_iter();
    let runs = runs.map(|(run, calls)| reader.run(run.to_string(), calls));
    Ok((runs.collect(), unread))
}

/// None where its request was not recorded.
fn recorded(
    runtime: &Runtime,
    source: &Source,
    call: CallView,
) -> Result<Option<Recorded>, Failure> {
    let body = |side: &str| runtime.block_on(source.get(&body_path(&call, side)));
    let Some(request) = body("request")? else {
        return Ok(None);
    };
    let response = body("response")?.map(|body| {
        let encoding = encoding_of(&body);
        (body, encoding)
    });
    Ok(Some(Recorded {
        id: call.id,
        at: call.started_at,
        duration_us: call.duration_us.unwrap_or(0),
        who: Who {
            run: call.run,
            agent: call.agent,
            caller: call.caller,
            user: call.user,
            model: call.request_model,
            upstream: Some(call.upstream),
            variant: call.variant,
            inferred: call.inferred,
        },
        agent_source: call.agent_source.unwrap_or(Known::Unknown),
        run_source: call.run_source,
        depth: call.depth,
        target: call.target,
        request,
        response,
        status: call.status.unwrap_or(0),
        is_completed: call.outcome == COMPLETED,
        input_tokens: call.usage.input_tokens,
        output_tokens: call.usage.output_tokens,
        nano_usd: call
            .cost_nano_usd
            .and_then(|cost| u64::try_from(cost.get()).ok())
            .unwrap_or(0),
        retry: call.retry,
    }))
}

fn body_path(call: &CallView, side: &str) -> String {
    format!("/api/v1/calls/{}/{side}", call.id)
}

/// Bodies are kept as they came; what is compressed shows by its first bytes.
fn encoding_of(body: &Bytes) -> Option<String> {
    let known: [(&[u8], &str); 2] = [(&[0x1f, 0x8b], "gzip"), (&[0x28, 0xb5, 0x2f, 0xfd], "zstd")];
    let found = known.iter().find(|(magic, _)| body.starts_with(magic));
    found.map(|(_, name)| (*name).to_owned())
}

fn print(report: &Report, out: &mut Output<'_>) -> io::Result<()> {
    let runs = &report.runs;
    let touched: Vec<&Outcome> = runs
        .iter()
        .filter(|run| run.warned_at.is_some() || run.tripped_at.is_some())
        .collect();
    let mut table = Table::new(&[
        ("RUN", Left),
        ("CALLS", Right),
        ("WARNED AT", Right),
        ("STOPPED AT", Right),
        ("SAVED CALLS", Right),
        ("SAVED TOKENS", Right),
        ("WHY", Left),
    ]);
    for run in touched.iter().take(SHOWN) {
        let at = |at: Option<usize>| at.map_or_else(|| "-".to_owned(), |at| (at + 1).to_string());
        table.row([
            run.id.clone(),
            run.calls.to_string(),
            at(run.warned_at),
            at(run.tripped_at),
            run.saved_calls.to_string(),
            format::count(run.saved_tokens),
            run.why
                .clone()
                .or_else(|| run.warning.clone())
                .unwrap_or_default(),
        ]);
    }
    table.write(out)?;
    let more = touched.len().saturating_sub(SHOWN);
    if more > 0 {
        writeln!(out.writer, "... and {more} more; --json has all")?;
    }
    sums(report, out)
}

fn sums(report: &Report, out: &mut Output<'_>) -> io::Result<()> {
    let runs = &report.runs;
    let stopped = runs.iter().filter(|run| run.tripped_at.is_some());
    let saved: u64 = stopped.clone().map(|run| run.saved_tokens).sum();
    let cost: u64 = stopped.clone().map(|run| run.saved_nano_usd).sum();
    let all: u64 = runs.iter().map(|run| run.tokens).sum();
    writeln!(
        out.writer,
        "\n{} of {} runs would have been stopped, {} warned about; {} of {} tokens saved, {}",
        stopped.count(),
        runs.len(),
        runs.iter().filter(|run| run.warned_at.is_some()).count(),
        format::count(saved),
        format::count(all),
        NanoUsd::new(i64::try_from(cost).unwrap_or(i64::MAX)),
    )?;
    if report.unread_calls > 0 {
        let unread = format::count(report.unread_calls as u64);
        writeln!(
            out.writer,
            "{unread} calls are left out: they name no run, or their bodies are not recorded"
        )?;
    }
    for spent in &report.budgets {
        writeln!(
            out.writer,
            "budget \"{}\", {}: {} from {} on: {} calls, {} tokens, {}",
            spent.budget,
            spent.account,
            if spent.is_refused {
                "refused"
            } else {
                "warned"
            },
            spent.call,
            format::count(spent.calls),
            format::count(spent.tokens),
            NanoUsd::new(i64::try_from(spent.nano_usd).unwrap_or(i64::MAX)),
        )?;
    }
    Ok(())
}
