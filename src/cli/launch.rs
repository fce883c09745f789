//! `open-aiops run -- ...`: a program, its run, the proxy it is pointed at, and the receipt.
//!
//! Between the opening line and the receipt nothing is written: stdout is the program's alone, and
//! stderr is too while it runs.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::args::Launch;
use super::receipt::{Receipt, Story};
use super::receipt_file::ReceiptFile;
use super::source::{self, Source};
use super::table::{Output, printable};
use super::{Common, Failure, command, operate, replay};
use crate::admin;
use crate::admin::view::Status;
use crate::clock::Clock;
use crate::config::{Config, UpstreamConfig, Watcher};
use crate::core::budget::{Limits, Measure};
use crate::core::build;
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::launch::child::{self, Signals};
use crate::launch::environment::{self, Behind, Changes, Endpoint, Missing, Variables};
use crate::launch::identity::{Identity, UNQUOTED};
use crate::launch::proxy::{Alone, Log, Own, Proxy, reach, running};
use crate::launch::{LEDGER, RUN, kept_from_child, keys_left};
use crate::ledger;

/// It was not launched, and the program is not to blame.
pub(super) const FAILED: u8 = 125;
/// A breaker refused calls of it.
const TRIPPED: u8 = 76;
/// A proxy goes on for other launches for so long.
const GUEST_LIMIT: Duration = Duration::from_secs(12 * 3600);
/// And for so long if it was told to end itself.
const TOLD_LIMIT: Duration = Duration::from_secs(3);
const LISTENS: Duration = Duration::from_millis(200);

/// Whether these arguments ask for a launch, right or wrong.
pub(super) fn is_meant(arguments: &[OsString]) -> bool {
    let mut ours = arguments.iter().take_while(|word| *word != "--");
    ours.any(|word| word == "run") && arguments.iter().any(|word| word == "--")
}

/// What is told to whoever names a program where pause, resume or stop is expected.
pub(super) const DASHES: &str =
    "To launch a program put -- before it: open-aiops run -- python crew.py";

/// Whether a program was named so.
pub(super) fn lacks_dashes(arguments: &[OsString], wrong: ErrorKind) -> bool {
    let is_word = matches!(
        wrong,
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand
    );
    let is_run = arguments.iter().any(|word| word == "run");
    is_word && is_run && !is_meant(arguments)
}

/// Launches the program and ends as it does.
pub(super) fn run(common: &Common, launch: &Launch) -> Result<(), Failure> {
    if launch.program.is_empty() {
        let told = "run: what to launch comes after --, as in: open-aiops run -- python crew.py";
        return Err(Failure::Impossible(told.to_owned()));
    }
    let launched = if replay::is_meant(launch)? {
        replay::launch(common, launch)
    } else {
        runtime()?.block_on(launched(common, launch))
    };
    match launched {
        Ok(code) => Err(Failure::Code(code)),
        Err(Failure::Impossible(told) | Failure::Negative(told)) => {
            Err(Failure::NotLaunched(told, FAILED))
        }
        Err(other) => Err(other),
    }
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().map_err(failed)
}

async fn launched(common: &Common, launch: &Launch) -> Result<u8, Failure> {
    let receipt = launch.receipt.as_deref().map(ReceiptFile::at).transpose()?;
    let mut signals = Signals::watch().map_err(failed)?;
    let variables = variables();
    let prepared = tokio::select! {
        prepared = Prepared::new(common, launch, &variables) => prepared?,
        code = signals.ended() => return Ok(code),
    };
    if !launch.quiet {
        say(&prepared.opening());
    }
    let clock = Clock::System;
    let since = clock.now();
    let started = child::start(&launch.program, &prepared.changes.set, &prepared.kept);
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            prepared.leave(&mut signals, false).await;
            return Err(Failure::NotLaunched(
                printable(&error.to_string()),
                error.code,
            ));
        }
    };
    let status = child::wait(&mut child, &mut signals)
        .await
        .map_err(failed)?;
    let took_us = clock.now().micros_since(since);
    let code = child::code(status);
    let receipt_of = prepared.receipt((code, took_us)).await;
    let is_tripped = receipt_of.as_ref().is_some_and(Receipt::is_tripped);
    if let Some(written) = receipt_of
        && let Err(error) = write(&written, common.json, receipt)
    {
        // How the program ended is more than that.
        say(&format!("the receipt cannot be written: {error}"));
    }
    prepared.leave(&mut signals, launch.stay).await;
    let tripped = is_tripped && !launch.keep_exit_code;
    Ok(if tripped { TRIPPED } else { code })
}

/// Everything there is before the program starts.
struct Prepared {
    common: Common,
    identity: Identity,
    dir: PathBuf,
    proxy: Proxy,
    source: Source,
    changes: Changes,
    kept: Vec<String>,
    log: Log,
}

/// What the opening line says besides where calls go.
fn notes(is_mute: bool, keys_left: &BTreeSet<String>) -> Vec<String> {
    let mute = "the proxy asks for its admin token, which a launch within a launch does not see: there is no \
                receipt, nor an exit code for what a breaker refuses";
    let left = keys_left.iter().map(|name| {
        format!(
            "the program sees {name}, the key of an upstream, and can call that without the proxy"
        )
    });
    let mute = is_mute.then(|| mute.to_owned());
    mute.into_iter().chain(left).collect()
}

/// The launch that this one is within.
pub(super) struct Parent {
    run: Label,
    dir: PathBuf,
}

impl Parent {
    fn of(variables: &Variables) -> Option<Self> {
        let run = Label::parse(variables.get(RUN)?).ok()?;
        let dir = PathBuf::from(variables.get(LEDGER)?);
        Some(Self { run, dir })
    }
}

impl Prepared {
    async fn new(common: &Common, launch: &Launch, variables: &Variables) -> Result<Self, Failure> {
        let parent = Parent::of(variables);
        let (config, watcher) = configured(common, parent.as_ref())?;
        let log = Log::of(&config.ledger.dir);
        start_log(&log);
        let (kept, keys_left) = (kept_from_child(&config), keys_left(&config));
        let (dir, listen) = (config.ledger.dir.clone(), config.proxy.listen);
        let proxy = match &parent {
            Some(parent) => of_parent(parent).await?,
            None => own_or_running(config, watcher, variables).await?,
        };
        let dir = fs::canonicalize(&dir).map_err(failed)?;
        let (identity, source) = (identity(launch, parent.as_ref())?, source(common, &proxy)?);
        let doors = proxy.doors();
        let own = own_addresses(Some(doors.proxy), listen);
        let is_mute = parent.is_some() && !source.is_open().await?;
        let upstreams = if is_mute {
            Vec::new()
        } else {
            known(&proxy, &source).await?
        };
        let lacking = environment::missing(variables, &upstreams, &own).map_err(failed)?;
        refuse_lacking(&lacking, &proxy)?;
        let scheme = if doors.is_tls { "https" } else { "http" };
        let behind = Behind {
            origin: &format!("{scheme}://{}", doors.proxy),
            upstreams: &upstreams,
            own: &own,
            ledger: &dir.to_string_lossy(),
        };
        let mut changes = environment::changes(variables, &identity, &behind).map_err(failed)?;
        changes.notes.extend(notes(is_mute, &keys_left));
        let prepared = Self {
            common: common.clone(),
            identity,
            dir,
            proxy,
            source,
            changes,
            kept,
            log,
        };
        if !is_mute {
            prepared.begin().await?;
        }
        Ok(prepared)
    }

    /// Makes the run known: what it begins counts against it even before it calls anybody itself.
    async fn begin(&self) -> Result<(), Failure> {
        let Identity {
            run,
            parent,
            limits,
            ..
        } = &self.identity;
        let who = operate::who();
        if let Proxy::Own(own) = &self.proxy {
            let begun = own
                .app()
                .budgets()
                .begin(run, parent.as_ref(), limits, &who);
            return begun.await.map_err(failed);
        }
        let mut order = Map::new();
        order.insert("who".to_owned(), who.into());
        if let Some(parent) = parent {
            order.insert("parent_run".to_owned(), parent.as_str().into());
        }
        for (measure, limit) in limits.each() {
            let amount = match measure {
                Measure::Usd => measure.text(limit).trim_start_matches('$').into(),
                _ => Value::from(limit),
            };
            order.insert(measure.name().to_owned(), amount);
        }
        let run = utf8_percent_encode(run.as_str(), NON_ALPHANUMERIC);
        let path = format!("/api/v1/runs/{run}/begin");
        self.source.post(&path, &order).await.map(drop)
    }

    fn page(&self) -> String {
        let run = utf8_percent_encode(self.identity.run.as_str(), UNQUOTED);
        format!("http://{}/runs/{run}", self.proxy.doors().admin)
    }

    fn opening(&self) -> String {
        let of = match &self.identity.parent {
            Some(parent) => format!(", part of {parent}"),
            None => String::new(),
        };
        let (run, page) = (&self.identity.run, self.page());
        let mut line = format!("run {run}{of}, {page}");
        for note in &self.changes.notes {
            line.push_str("; ");
            line.push_str(note);
        }
        line
    }

    /// What the run came to; none where nobody can be asked, which is said.
    async fn receipt(&self, (code, took_us): (u8, u64)) -> Option<Receipt> {
        let mut story = Story {
            run: &self.identity.run,
            parent: self.identity.parent.as_ref(),
            variant: self.identity.variant.as_ref(),
            code,
            took_us,
            page: None,
            refusals: None,
            log: self.log.has_entries().then(|| self.log.path().to_owned()),
            warnings: Vec::new(),
        };
        let written = match &self.proxy {
            Proxy::Own(own) => {
                let refusals = own.app().budgets().refusals(&self.identity.run);
                story.refusals = Some(refusals.into_iter().map(Into::into).collect());
                story.gather(&self.source).await
            }
            Proxy::Running(running) if running.is_there(&self.dir) => {
                story.page = Some(self.page());
                story.gather(&self.source).await
            }
            Proxy::Running(_) => {
                let ended = "the proxy ended before the program did: calls after that failed";
                story.warnings.push(ended.to_owned());
                match afterwards(&self.common, &self.dir) {
                    Ok(source) => story.gather(&source).await,
                    Err(error) => Err(error),
                }
            }
        };
        match written {
            Ok(receipt) => Some(receipt),
            Err(error) => {
                let why = match error {
                    Failure::Impossible(why) | Failure::Negative(why) => why,
                    _ => "it was not answered".to_owned(),
                };
                let run = &self.identity.run;
                say(&format!("run {run}: no receipt, {}", printable(&why)));
                None
            }
        }
    }

    /// Lets go of the proxy. One of this process goes on as long as other launches use it, or its
    /// page is looked at.
    async fn leave(self, signals: &mut Signals, stay: bool) {
        signals.forget();
        let page = self.page();
        let Proxy::Own(own) = self.proxy else {
            return;
        };
        if stay && !signals.was_told() {
            say(&format!("{page} stays until ctrl-c"));
            signals.ended().await;
        }
        let alone = wait_for_guests(&own, signals).await;
        // Its ledger is open as long as anybody can be asked about it.
        drop(self.source);
        tokio::select! {
            () = own.stop() => {}
            _ = signals.ended() => {}
        }
        drop(alone);
    }
}

async fn wait_for_guests(own: &Own, signals: &mut Signals) -> Option<Alone> {
    let limit = if signals.was_told() {
        TOLD_LIMIT
    } else {
        GUEST_LIMIT
    };
    if own.has_guests() {
        let (hours, seconds) = (GUEST_LIMIT.as_secs() / 3600, limit.as_secs());
        say(&if signals.was_told() {
            format!("other launches use the proxy of this one: it waits {seconds} s for them")
        } else {
            format!(
                "other launches use the proxy of this one: it waits until they end, {hours} h at most; \
                 ctrl-c ends it now"
            )
        });
    }
    tokio::select! {
        alone = own.guests_gone() => alone,
        _ = signals.ended() => None,
        () = tokio::time::sleep(limit) => None,
    }
}

/// The config as for any command; within a launch that of its proxy counts, and a file that is
/// found here may be of anything.
fn configured(common: &Common, parent: Option<&Parent>) -> Result<(Config, Watcher), Failure> {
    let Some(parent) = parent else {
        return command::load(common);
    };
    if common.config.is_some() || common.dir.is_some() {
        let (config, watcher) = command::load(common)?;
        let here = fs::canonicalize(&config.ledger.dir).ok();
        if here == fs::canonicalize(&parent.dir).ok() {
            return Ok((config, watcher));
        }
        return Err(Failure::Impossible(format!(
            "this is within the run {}, whose proxy is used: leave --config and --dir out, or unset {RUN} to \
             launch apart from it",
            printable(parent.run.as_str())
        )));
    }
    let none = Path::new("/dev/null");
    Watcher::load(Some(none), Some(&parent.dir))
        .map_err(|problems| Failure::Impossible(problems.to_string()))
}

async fn of_parent(parent: &Parent) -> Result<Proxy, Failure> {
    let found = running(&parent.dir).await.map_err(failed)?;
    found.map(Proxy::Running).ok_or_else(|| {
        Failure::Impossible(format!(
            "this is within the run {}, and the proxy of that has ended: unset {RUN} to launch apart from \
             it",
            printable(parent.run.as_str())
        ))
    })
}

pub(super) async fn own_or_running(
    config: Config,
    watcher: Watcher,
    variables: &Variables,
) -> Result<Proxy, Failure> {
    let upstreams: Vec<Endpoint> = config.upstreams.iter().map(endpoint).collect();
    let own = own_addresses(None, config.proxy.listen);
    let lacking = environment::missing(variables, &upstreams, &own).map_err(failed)?;
    let accounting = config.accounting.clone();
    let made_up: Vec<UpstreamConfig> = lacking.iter().map(|of| of.upstream(&accounting)).collect();
    let prepare = |watcher: &mut Watcher, config| watcher.launch(made_up, config);
    let reached = reach(config, watcher, prepare).await;
    reached.map_err(failed)
}

/// Addresses at which this proxy is meant: its own, and the configured one where nobody is.
pub(super) fn own_addresses(proxy: Option<SocketAddr>, configured: SocketAddr) -> Vec<SocketAddr> {
    let mut own: Vec<SocketAddr> = proxy.into_iter().collect();
    let is_taken = || TcpStream::connect_timeout(&configured, LISTENS).is_ok();
    if configured.port() != 0 && !own.contains(&configured) && !is_taken() {
        own.push(configured);
    }
    own
}

fn endpoint(upstream: &UpstreamConfig) -> Endpoint {
    Endpoint {
        name: upstream.name.clone(),
        base_url: upstream.base_url.clone(),
        takes_any_key: upstream.takes_any_key(),
    }
}

/// The upstreams of the proxy, which must be of this version: an older one takes tags of the base URL
/// that it does not know for a path.
pub(super) async fn known(proxy: &Proxy, source: &Source) -> Result<Vec<Endpoint>, Failure> {
    if let Proxy::Own(own) = proxy {
        return Ok(own.app().config().upstreams.iter().map(endpoint).collect());
    }
    let status: Status = source::parse(&source.ask("/api/v1/status", &()).await?)?;
    if status.version != build::VERSION {
        return Err(Failure::Impossible(format!(
            "the proxy that runs is open-aiops {}, and this is {}: restart it, or give this launch a ledger of \
             its own by --dir",
            printable(&status.version),
            build::VERSION
        )));
    }
    let upstreams = status.upstreams.into_iter();
    upstreams
        .map(|upstream| {
            Ok(Endpoint {
                name: upstream.name,
                base_url: upstream.base_url.parse().map_err(failed)?,
                takes_any_key: upstream.takes_any_key,
            })
        })
        .collect()
}

/// What the user set must be reached, and a proxy that runs already cannot be given an upstream.
pub(super) fn refuse_lacking(lacking: &[Missing], proxy: &Proxy) -> Result<(), Failure> {
    if lacking.is_empty() {
        return Ok(());
    }
    let mut told = format!(
        "the proxy that runs ({}) lacks an upstream:",
        proxy.doors().proxy
    );
    for of in lacking {
        let Endpoint { name, base_url, .. } = &of.endpoint;
        // Writing into a text does not fail.
        let _ = write!(
            told,
            "\n  {} is set to {}\nAdd it to the config file of the proxy, which takes it over at once:\n  \
             [[upstream]]\n  name = \"{name}\"\n  base_url = \"{base_url}\"",
            of.variable,
            printable(&of.value),
        );
    }
    told.push_str("\nOr give this launch a ledger, and so a proxy, of its own: --dir DIR");
    Err(Failure::Impossible(told))
}

pub(super) fn identity(launch: &Launch, parent: Option<&Parent>) -> Result<Identity, Failure> {
    let id = Clock::System.call_id();
    let run = Identity::name(launch.name.as_ref(), &launch.program, id);
    let mut limits = Limits::default();
    let usd = launch.budget_usd.as_deref().and_then(NanoUsd::parse);
    limits.set(Measure::Usd, usd.map(NanoUsd::get));
    limits.set(Measure::Tokens, launch.budget_tokens);
    limits.set(Measure::Calls, launch.budget_calls);
    Ok(Identity {
        run: run.ok_or_else(|| Failure::Impossible("--name is no name".to_owned()))?,
        parent: parent.map(|parent| parent.run.clone()),
        variant: launch.variant.clone(),
        limits,
    })
}

pub(super) fn source(common: &Common, proxy: &Proxy) -> Result<Source, Failure> {
    match proxy {
        Proxy::Own(own) => {
            let live = admin::Source::Live(own.app().ledger().clone());
            Ok(Source::Files(admin::records(live, Clock::System)))
        }
        Proxy::Running(_) => Source::server(common, proxy.doors().admin),
    }
}

/// Who can be asked once the proxy has ended: another one by now, else the files.
fn afterwards(common: &Common, dir: &Path) -> Result<Source, Failure> {
    if let Some(address) = ledger::running_server(dir) {
        return Source::server(common, address);
    }
    let files = ledger::check::open_read_only(dir).map_err(source::impossible)?;
    let files = admin::Source::Files(std::sync::Arc::new(files));
    Ok(Source::Files(admin::records(files, Clock::System)))
}

/// The environment, as far as it is text.
pub(super) fn variables() -> Variables {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    env::vars_os().filter_map(text).collect()
}

pub(super) fn start_log(log: &Log) {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .from_env_lossy();
    let log = log.clone();
    let began = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || log.clone())
        .with_ansi(false)
        .log_internal_errors(false);
    // A log that somebody else has begun goes on.
    let _ = began.try_init();
}

fn write(receipt: &Receipt, json: bool, file: Option<ReceiptFile>) -> io::Result<()> {
    let Some(file) = file else {
        let mut stderr = io::stderr();
        let colours = stderr.is_terminal() && !is_colourless();
        return write_to(&mut stderr, receipt, json, colours);
    };
    let mut text = Vec::new();
    write_to(&mut text, receipt, json, false)?;
    file.write(&text)
}

fn write_to(
    writer: &mut dyn Write,
    receipt: &Receipt,
    json: bool,
    colours: bool,
) -> io::Result<()> {
    if json {
        let text = serde_json::to_string_pretty(receipt)?;
        return writeln!(writer, "{text}");
    }
    let mut out = Output {
        writer,
        terminal: true,
    };
    receipt.write(&mut out, colours)
}

/// See <https://no-color.org>.
fn is_colourless() -> bool {
    env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// There is nowhere left to complain to when this fails.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "open-aiops: {text}");
}

fn failed(error: impl Into<anyhow::Error>) -> Failure {
    source::impossible(error)
}
