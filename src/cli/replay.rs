//! `open-aiops replay RUN`, and `open-aiops run --replay RUN -- ...`.

mod launched;
mod stage;
mod tape;

use std::net::SocketAddr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use strum::VariantNames;

use self::stage::{Stage, Wanted};
use super::args::Launch;
use super::launch::{runtime, say, start_log};
use super::table::Align::{Left, Right};
use super::table::{Output, Table};
use super::{Common, Failure, command, source};
use crate::core::id::Label;
use crate::launch::child::Signals;
use crate::launch::environment::Variables;
use crate::launch::proxy::Log;
use crate::replay::Speed;
use crate::replay::server::{OnDivergence, Report};
use crate::replay::tape::Tape;

pub(super) use self::launched::launch;

/// The program departed from the record, and was stopped there.
const DEPARTED: u8 = 77;
/// Of calls that were not played so many are named.
const SHOWN: usize = 5;

pub(super) const NOTE: &str = "\
A replay answers from the record: no network, no cost, nothing recorded. A request is taken for the
recorded call that asks the same - model, tools, form of the answer, every message - in whichever
order they come; times and ids that change by themselves do not count, unless --strict is given. Where
the program first departs from the record is said, with the difference. Answers have the bytes, the
pieces and, at --speed 1, the times of the recorded ones. --serve answers as often as it is asked; run
--replay plays each call once, but for a client that had no whole answer and asks again (see --repeat).
With --fork-at or --on-divergence forward,
what is not played goes live through the proxy, as a run of its own.

Exit codes: 0, or 77 when the program departed from the record and was stopped, or with --all when
it left recorded calls out.

Examples:
  open-aiops replay nightly-42
  open-aiops replay nightly-42 --serve --speed 10
  open-aiops replay nightly-42 --serve --fork-at 5 --model gpt-4o-mini
  open-aiops run --replay nightly-42 -- pytest";

#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// The recorded run
    pub run: Label,
    /// Answer programs from it, until ctrl-c
    #[arg(long)]
    pub serve: bool,
    /// Where to listen; a free port of this machine when not given
    #[arg(long, value_name = "ADDRESS", requires = "serve")]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub how: How,
}

/// How to replay.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct How {
    /// As fast as recorded (1), so many times faster, or without waiting (max); 1 for --serve, max
    /// for run --replay
    #[arg(long, value_name = "1|10|max")]
    pub speed: Option<Speed>,
    /// What becomes of a request that is not on the record: refused, sent on live, or answered by
    /// the recorded call it comes nearest to; stop when not given
    #[arg(long, value_name = "stop|forward|nearest", value_parser = on_divergence())]
    pub on_divergence: Option<OnDivergence>,
    /// Play only what is asked for by the same body, byte by byte: no other times and ids
    #[arg(long)]
    pub strict: bool,
    /// Play the calls before this one, a number or an id, and go on live
    #[arg(long, value_name = "CALL")]
    pub fork_at: Option<String>,
    /// The model to go on with, where a model answers in text
    #[arg(long, requires = "fork_at")]
    pub model: Option<String>,
    /// Exit with 77 too when recorded calls were not played
    #[arg(long)]
    pub all: bool,
}

/// A launch that is answered from the record.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct LaunchReplay {
    /// Answer the program from the record of this run
    #[arg(long = "replay", value_name = "RUN")]
    pub of: Option<Label>,
    /// Play a recorded call as often as it is asked for, as tests that run again do
    #[arg(long, requires = "of")]
    pub repeat: bool,
    #[command(flatten)]
    pub how: How,
}

fn on_divergence() -> impl TypedValueParser<Value = OnDivergence> {
    PossibleValuesParser::new(OnDivergence::VARIANTS).try_map(|word| word.parse::<OnDivergence>())
}

/// Whether a launch is to be answered from the record.
pub(super) fn is_meant(launch: &Launch) -> Result<bool, Failure> {
    let LaunchReplay { of, how, .. } = &launch.replay;
    if of.is_none() && *how != How::default() {
        let told = "--speed, --on-divergence, --strict, --fork-at, --model and --all come with --replay RUN";
        return Err(Failure::NotLaunched(told.to_owned(), super::launch::FAILED));
    }
    let has_budget = launch.budget_usd.is_some()
        || launch.budget_tokens.is_some()
        || launch.budget_calls.is_some();
    let has_name = launch.name.is_some() || launch.variant.is_some();
    let told = if of.is_none() {
        return Ok(false);
    } else if launch.receipt.is_some() || launch.stay {
        "--receipt and --stay are of a run that is recorded: leave them out with --replay"
    } else if has_budget && !how.goes_live() {
        "a replay costs nothing: --budget-... comes with --fork-at or --on-divergence forward"
    } else if has_name && !how.goes_live() {
        "a replay is not recorded: --name and --variant come with --fork-at or --on-divergence forward"
    } else {
        return Ok(true);
    };
    Err(Failure::NotLaunched(told.to_owned(), super::launch::FAILED))
}

impl How {
    /// Whether what is not played reaches an upstream.
    fn goes_live(&self) -> bool {
        self.fork_at.is_some() || self.on_divergence == Some(OnDivergence::Forward)
    }
}

pub(super) fn run(common: &Common, args: &ReplayArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    if !args.serve && args.how != How::default() {
        let told =
            "--speed, --on-divergence, --strict, --fork-at, --model and --all come with --serve";
        return Err(Failure::Impossible(told.to_owned()));
    }
    let tape = tape::load(common, &args.run)?;
    if !args.serve {
        return list(&tape, common.json, out);
    }
    let listen = args.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    let wanted = Wanted {
        how: &args.how,
        speed: Speed::Times(1),
        listen,
        name: None,
        launch: &Launch::default(),
        variables: &Variables::new(),
        tells: true,
        repeats: true,
    };
    runtime()?.block_on(serve(common, tape, &wanted, out))
}

async fn serve(
    common: &Common,
    tape: Tape,
    wanted: &Wanted<'_>,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    start_log(&Log::of(&command::ledger_dir(common)?));
    let mut signals = Signals::watch().map_err(source::impossible)?;
    let stage = Stage::new(common, tape, wanted).await?;
    say(&stage.opening());
    writeln!(out.writer, "OPENAI_BASE_URL={}/v1", stage.origin())?;
    out.writer.flush()?;
    signals.ended().await;
    let report = stage.end().await;
    if common.json {
        let json = serde_json::to_vec(&report).map_err(source::impossible)?;
        command::raw(&json, out)?;
    } else {
        writeln!(out.writer, "{}", stage::shown(&words(&report)))?;
    }
    let is_short = wanted.how.all && !report.unplayed.is_empty();
    if report.refused > 0 || is_short {
        return Err(Failure::Code(DEPARTED));
    }
    Ok(())
}

/// How it went, for people.
fn words(report: &Report) -> String {
    let (played, calls, left) = (report.played, report.calls, report.unplayed.len());
    let counts = [
        (report.unplayable, "cannot be played"),
        (left, "the program did not ask for"),
        (report.repeated as usize, "played again"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let mut first = vec![format!(
        "replay of {}: {played} of {calls} calls played",
        report.run
    )];
    first.extend(counts.map(|(count, words)| format!("{count} {words}")));
    let mut lines = vec![first.join(", ")];
    match report.changed {
        0 => {}
        1 => lines.push("1 of them was asked for with other times or ids".to_owned()),
        many => lines.push(format!(
            "{many} of them were asked for with other times or ids"
        )),
    }
    if let Some(run) = &report.live_run {
        lines.push(format!("{} went live, as run {run}", report.live));
    }
    match report.refused {
        0 => {}
        1 => lines.push("1 request was refused".to_owned()),
        many => lines.push(format!("{many} requests were refused")),
    }
    let ids = report
        .unplayed
        .iter()
        .take(SHOWN)
        .map(|id| format!("  not played: {id}"));
    lines.extend(ids);
    let more = report.unplayed.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines.extend(
        report
            .departure
            .iter()
            .map(|departure| departure.told.clone()),
    );
    lines.join("\n")
}

/// What is on the tape.
fn list(tape: &Tape, json: bool, out: &mut Output<'_>) -> Result<(), Failure> {
    if json {
        let calls = tape.calls.iter().enumerate().map(|(at, call)| {
            serde_json::json!({"call": at + 1, "id": call.id, "agent": call.agent, "model": call.model,
                "target": call.request.path, "status": call.reply.as_ref().ok().map(|it| it.status),
                "why_not": call.reply.as_ref().err()})
        });
        let calls: Vec<serde_json::Value> = calls.collect();
        let all = serde_json::json!({"run": tape.run, "playable": tape.playable(), "calls": calls});
        return command::raw(all.to_string().as_bytes(), out);
    }
    let mut table = Table::new(&[
        ("CALL", Right),
        ("ID", Left),
        ("AGENT", Left),
        ("MODEL", Left),
        ("PATH", Left),
        ("STATUS", Right),
        ("CHUNKS", Right),
        ("PLAYS", Left),
    ]);
    for (at, call) in tape.calls.iter().enumerate() {
        let reply = call.reply.as_ref();
        let of = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            (at + 1).to_string(),
            call.id.to_string(),
            call.agent.to_string(),
            of(call.model.as_ref().map(ToString::to_string)),
            call.request.path.clone(),
            of(reply.ok().map(|reply| reply.status.to_string())),
            of(reply.ok().map(|reply| reply.chunks.len().to_string())),
            reply
                .err()
                .map_or_else(|| "yes".to_owned(), |why| format!("no: {why}")),
        ]);
    }
    table.write(out)?;
    Ok(writeln!(
        out.writer,
        "\n{} of {} calls of run {} can be played",
        tape.playable(),
        tape.calls.len(),
        tape.run
    )?)
}
