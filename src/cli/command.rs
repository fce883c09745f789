//! What each command does.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::args::{LogFormat, Serve, Show};
use super::format;
use super::source::{self, Source};
use super::table::Output;
use super::{Common, Failure, call, lists, step};
use crate::admin;
use crate::admin::params::{CallParams, Limit, RunParams, SpanParams};
use crate::admin::view::{AgentList, CallDetail, CallList, EventList, RunDetail, RunList};
use crate::app;
use crate::clock::Clock;
use crate::config::{Config, LedgerConfig, Watcher};
use crate::core::id::{CallId, Label};
use crate::ledger::{self, Damage};
use crate::otel::{self, logs::LogQueue};

pub(super) fn serve(common: &Common, serve: &Serve) -> Result<(), Failure> {
    let (config, watcher) = load(common)?;
    let lines = start_log(serve.log_format, config.otel.logs());
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(source::impossible)?;
    runtime
        .block_on(app::serve(config, watcher, lines))
        .map_err(source::impossible)
}

/// Gives what a collector is to be told of the log.
fn start_log(format: LogFormat, is_told: bool) -> Option<LogQueue> {
    let default = LevelFilter::INFO.into();
    let filter = EnvFilter::builder()
        .with_default_directive(default)
        .from_env_lossy();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let (bridge, told) = is_told.then(otel::logs::bridge).unzip();
    let bridge = bridge.map(|it| it.with_filter(filter_fn(otel::logs::is_told)));
    let log = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(bridge);
    // A log that somebody else has begun goes on.
    log.try_init().ok().and(told)
}

pub(super) fn check_config(common: &Common, out: &mut Output<'_>) -> Result<(), Failure> {
    let config = Config::load(common.config.as_deref())
        .map_err(|problems| Failure::Negative(problems.to_string()))?;
    Ok(write!(out.writer, "{config}")?)
}

pub(super) fn calls(
    common: &Common,
    params: &CallParams,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    list(
        common,
        "/api/v1/calls",
        params,
        out,
        |list: CallList, out| {
            lists::calls(&list.calls, out)?;
            lists::more("--before", list.next, list.partial, out)
        },
    )
}

pub(super) fn runs(
    common: &Common,
    params: &RunParams,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    list(common, "/api/v1/runs", params, out, |list: RunList, out| {
        lists::runs(&list.runs, out)?;
        let span = (params.since.as_ref(), params.until.as_ref());
        lists::span("whole runs that were active", span, out)?;
        lists::more("--before", list.next, list.partial, out)
    })
}

pub(super) fn agents(
    common: &Common,
    params: &SpanParams,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    list(
        common,
        "/api/v1/agents",
        params,
        out,
        |list: AgentList, out| {
            lists::agents(&list.agents, out)?;
            let span = (params.since.as_ref(), params.until.as_ref());
            lists::span("calls that started", span, out)?;
            if list.widened && out.terminal {
                lists::widened((list.since, list.until), out)?;
            }
            lists::more("--before", list.next, false, out)
        },
    )
}

pub(super) fn events(
    common: &Common,
    params: &SpanParams,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    list(
        common,
        "/api/v1/events",
        params,
        out,
        |list: EventList, out| {
            lists::events(&list.events, out)?;
            lists::more("--before", list.next, false, out)
        },
    )
}

pub(super) fn list<T: DeserializeOwned>(
    common: &Common,
    path: &str,
    params: &impl Serialize,
    out: &mut Output<'_>,
    show: impl FnOnce(T, &mut Output<'_>) -> io::Result<()>,
) -> Result<(), Failure> {
    let (runtime, source) = open(common)?;
    let body = runtime.block_on(source.list(path, params))?;
    if common.json {
        return raw(&body, out);
    }
    Ok(show(source::parse(&body)?, out)?)
}

/// Call ids are unmistakable but runs may be named like one: the call is looked for first.
pub(super) fn show(common: &Common, show: &Show, out: &mut Output<'_>) -> Result<(), Failure> {
    let (runtime, source) = open(common)?;
    let id = show.what.parse::<CallId>().ok();
    if show.request || show.response {
        let side = if show.request { "request" } else { "response" };
        let id = id.ok_or_else(|| {
            Failure::Negative(format!(
                "{} is no id of a call: only calls have a {side}",
                show.what
            ))
        })?;
        let body = runtime.block_on(source.get(&format!("/api/v1/calls/{id}/{side}")))?;
        let missing = || Failure::Negative(format!("no {side} body of a call {id} is recorded"));
        return Ok(out.writer.write_all(&body.ok_or_else(missing)?)?);
    }
    if show.step || show.messages || show.headers {
        return step::show(common, show, (&runtime, &source), out);
    }
    if let Some(id) = id
        && let Some(body) = runtime.block_on(source.get(&format!("/api/v1/calls/{id}")))?
    {
        if common.json {
            return raw(&body, out);
        }
        return Ok(call::write(&source::parse::<CallDetail>(&body)?, out)?);
    }
    runtime.block_on(show_run(common, &source, &show.what, out))
}

async fn show_run(
    common: &Common,
    source: &Source,
    run: &str,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let missing = || Failure::Negative(format!("no run and no call {run} is recorded"));
    let label = Label::parse(run).map_err(|_| missing())?;
    let path = format!(
        "/api/v1/runs/{}",
        utf8_percent_encode(label.as_str(), NON_ALPHANUMERIC)
    );
    let body = source.get(&path).await?.ok_or_else(missing)?;
    if common.json {
        return raw(&body, out);
    }
    let params = CallParams {
        run: Some(label),
        limit: Some(Limit::MAX),
        ..CallParams::default()
    };
    let calls: CallList = source::parse(&source.list("/api/v1/calls", &params).await?)?;
    Ok(lists::run(
        &source::parse::<RunDetail>(&body)?,
        &calls,
        out,
    )?)
}

pub(super) fn check_ledger(common: &Common, out: &mut Output<'_>) -> Result<(), Failure> {
    let dir = load(common)?.0.ledger.dir;
    let report = ledger::check::check(&dir).map_err(source::impossible)?;
    if common.json {
        raw(
            &serde_json::to_vec(&report).map_err(source::impossible)?,
            out,
        )?;
    } else {
        lists::check(&report, out)?;
    }
    sound(&report.damages)?;
    if report.index_damaged == Some(true) {
        let advice = "the index is damaged, no record is lost: `ledger rebuild` makes a new one";
        return Err(Failure::Negative(advice.to_owned()));
    }
    Ok(())
}

pub(super) fn rebuild_ledger(common: &Common, out: &mut Output<'_>) -> Result<(), Failure> {
    let dir = load(common)?.0.ledger.dir;
    let report = ledger::check::rebuild(&dir).map_err(source::impossible)?;
    if common.json {
        raw(
            &serde_json::to_vec(&report).map_err(source::impossible)?,
            out,
        )?;
    } else {
        writeln!(
            out.writer,
            "the index holds {} records now",
            format::count(report.records)
        )?;
    }
    sound(&report.damages)
}

fn sound(damages: &[Damage]) -> Result<(), Failure> {
    let Some(first) = damages.first() else {
        return Ok(());
    };
    Err(Failure::Negative(format!(
        "{} damaged parts, the first in segment {} at byte {}: their records are lost",
        damages.len(),
        first.at.segment,
        first.at.offset
    )))
}

pub(super) fn raw(body: &[u8], out: &mut Output<'_>) -> Result<(), Failure> {
    out.writer.write_all(body)?;
    Ok(writeln!(out.writer)?)
}

/// The running server's API, else the same over the files.
pub(super) fn open(common: &Common) -> Result<(Runtime, Source), Failure> {
    let runtime = runtime()?;
    let dir = ledger_dir(common)?;
    let source = if let Some(address) = ledger::running_server(&dir) {
        Source::server(common, address)?
    } else {
        let files = ledger::check::open_read_only(&dir).map_err(source::impossible)?;
        let files = admin::Source::Files(Arc::new(files));
        let (config, _) = load(common)?;
        Source::Files(admin::configured_records(files, Clock::System, config))
    };
    Ok((runtime, source))
}

pub(super) fn runtime() -> Result<Runtime, Failure> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().map_err(source::impossible)
}

/// Where the ledger is. A server goes on when its config file is broken later, and must be found then
/// too: where it is by default.
pub(super) fn ledger_dir(common: &Common) -> Result<PathBuf, Failure> {
    load(common)
        .map(|(config, _)| config.ledger.dir)
        .or_else(|broken| {
            let by_default = || LedgerConfig::default().dir;
            let dir = common.dir.clone().unwrap_or_else(by_default);
            let is_served = ledger::running_server(&dir).is_some();
            if is_served { Ok(dir) } else { Err(broken) }
        })
}

pub(super) fn load(common: &Common) -> Result<(Config, Watcher), Failure> {
    Watcher::load(common.config.as_deref(), common.dir.as_deref())
        .map_err(|problems| Failure::Impossible(problems.to_string()))
}
