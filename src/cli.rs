//! The command line: what can be asked, and nothing of how it is answered.
//!
//! `open-aiops` alone serves. The reading commands ask the running server, or the files of the
//! ledger when none runs; they print the same either way. Budgets and what is done to them and to
//! runs need a running server. Exit codes: 0 done, 1 not found or not in
//! order, 2 wrong usage or impossible; `run -- ...` has those of what it launches.

mod alerts;
mod backtest;
mod budgets;
mod call;
mod command;
mod demo;
mod format;
mod key;
mod launch;
mod lists;
mod loops;
mod operate;
mod receipt;
mod receipt_file;
mod replay;
mod source;
mod step;
mod table;
mod top;
mod tree;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use strum::VariantNames;

pub use self::table::Output;
use crate::admin::alerts::AlertParams;
use crate::admin::params::{BudgetParams, CallParams, RunParams, SpanParams, When};
use crate::core::budget::Dimension;
use crate::core::build::DESCRIPTION;
use crate::core::id::{CallId, Label};
use crate::core::loops::settings::Preset;
use crate::upstream;

const EXAMPLES: &str = "\
Examples:
  open-aiops                                   serve with ./config.toml or the defaults
  open-aiops demo                              see what it does, without a key or a network
  open-aiops top                               watch runs and what they spend, in the terminal
  open-aiops run --budget-usd 2 -- python crew.py
                                               launch a program as a run of its own
  open-aiops check-config --config prod.toml   say what is wrong with a config file
  open-aiops calls --since 1h --agent planner  the calls of one agent in the last hour
  open-aiops runs --since 1d                   what each run of the last 24 hours used and cost
  open-aiops events --since 1d                 why there may be no calls in between
  open-aiops show nightly-42                   a run: its tree, its agents, its calls
  open-aiops show 0193... --response           the recorded response body of a call
  open-aiops budgets                           what is used, held and left of each budget
  open-aiops budgets raise 'each run' --key run=nightly-42 --usd 1.00
  open-aiops run stop nightly-42               end its calls and refuse new ones
  open-aiops loops --since 1d                  what went round in circles, and is refused
  open-aiops backtest --since 7d --preset cautious
                                               what other settings would have done

Agents need one setting: OPENAI_BASE_URL=http://127.0.0.1:8787/v1";

/// A transparent LLM API reverse proxy: the fuse box and flight recorder of AI agents.
#[derive(Debug, Parser)]
#[command(name = "open-aiops", version = DESCRIPTION, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Config file; ./config.toml is read when there is one
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the ledger, instead of the configured one
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print the answer of the JSON API instead of tables
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy until SIGTERM or ctrl-c (also without any command)
    Serve(Serve),
    /// See what it does: a scripted model and a team of agents, without a key or a network
    #[command(after_help = demo::NOTE)]
    Demo(demo::DemoArgs),
    /// Watch runs, agents, budgets and loops in the terminal; pause, resume and stop runs
    #[command(after_help = top::NOTE)]
    Top(top::TopArgs),
    /// Check the config file and print what it comes to, secrets masked
    CheckConfig,
    /// List calls, newest first
    Calls(CallParams),
    /// List runs that were active in a span of time, each with all it used and cost
    Runs(RunParams),
    /// List agents with what their calls of a span of time used and cost
    #[command(after_help = AGENTS_NOTE)]
    Agents(SpanParams),
    /// List what happened to the proxy itself: starts, stops, recoveries, config changes, failures
    Events(SpanParams),
    /// Show one run or one call
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
    /// Show how budgets stand, raise or reset them; needs a running server
    #[command(after_help = BUDGETS_EXAMPLES)]
    Budgets(BudgetsArgs),
    /// Launch a program as a run of its own; pause, resume or stop a run
    #[command(after_help = RUN_NOTE, override_usage = RUN_USAGE)]
    Run(RunArgs),
    /// List loops that were stopped, open and past, newest first; let them go on
    #[command(after_help = LOOPS_EXAMPLES)]
    Loops(LoopsArgs),
    /// List what a person should know of now, open alerts first; send a test
    #[command(after_help = ALERTS_EXAMPLES)]
    Alerts(AlertsArgs),
    /// Go through recorded runs once more: which loops would be stopped, which budgets spent
    #[command(after_help = BACKTEST_NOTE)]
    Backtest(BacktestArgs),
    /// Show what is on record of a run; answer a program that runs again from it
    #[command(after_help = replay::NOTE)]
    Replay(replay::ReplayArgs),
    /// Check or repair the files of the ledger
    #[command(subcommand)]
    Ledger(LedgerCommand),
}

#[derive(Args, Debug, Default)]
pub struct Serve {
    /// How log lines on stderr look; `RUST_LOG` chooses which there are, as in `RUST_LOG=debug`
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

const AGENTS_NOTE: &str = "\
Where the span cuts a minute, hour or day (UTC) that has too many calls to read, or calls that are no
longer kept, that counts as a whole; what the figures are of is then said below them.";

const SHOW_EXAMPLES: &str = "\
Examples:
  open-aiops show nightly-42
  open-aiops show 01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e
  open-aiops show 01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e --step
  open-aiops show 01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e --messages --preview 65536
  open-aiops show 01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e --headers
  open-aiops show 01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e --request | jq .messages

A step is what a call was sent that the call before it in its conversation was not, and what it
answered. Of headers that may carry a secret only the name, the length and a fingerprint are recorded.";

#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Show {
    /// A run, or the id of a call
    #[arg(value_name = "RUN|CALL")]
    pub what: String,
    /// Write the recorded request body of the call, byte for byte
    #[arg(long, conflicts_with_all = ["response", "json"])]
    pub request: bool,
    /// Write the recorded response body of the call, byte for byte
    #[arg(long, conflicts_with = "json")]
    pub response: bool,
    /// What is new in the call, and what it answered
    #[arg(long, conflicts_with_all = ["request", "response", "messages", "headers"])]
    pub step: bool,
    /// All that the call was sent, message by message, and what it answered
    #[arg(long, conflicts_with_all = ["request", "response", "headers"])]
    pub messages: bool,
    /// The headers of request and answer
    #[arg(long, conflicts_with_all = ["request", "response"])]
    pub headers: bool,
    /// Bytes of each text in --step and --messages, up to 262144; 4096 when not given
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=262_144),
        conflicts_with_all = ["request", "response", "headers"])]
    pub preview: Option<u32>,
}

const BUDGETS_EXAMPLES: &str = "\
Examples:
  open-aiops budgets
  open-aiops budgets --rule 'each run' --value nightly-42
  open-aiops budgets raise 'each run' --key run=nightly-42 --usd 1.00
  open-aiops budgets reset 'by team' --key tag.team=search --key user=

A bar shows what is used, then what running calls hold, then what is left.";

const RAISE_NOTE: &str = "\
What is put on top stays for good where the window of the budget is `total`, else until what is
used now counts no more.

Examples:
  open-aiops budgets raise 'each run' --key run=nightly-42 --usd 1.00
  open-aiops budgets raise 'all together' --tokens 100000 --calls 50";

#[derive(Args, Debug)]
pub struct BudgetsArgs {
    #[command(flatten)]
    pub params: BudgetParams,
    #[command(subcommand)]
    pub command: Option<BudgetsCommand>,
}

#[derive(Debug, Subcommand)]
pub enum BudgetsCommand {
    /// Put something on top of the limits of one account
    #[command(after_help = RAISE_NOTE)]
    Raise(Raise),
    /// Forget what was used of one account, and what was put on top of its limits
    Reset(Account),
}

/// The account of a budget.
#[derive(Args, Debug)]
pub struct Account {
    /// The name of the budget
    pub rule: Label,
    /// Which account, once for each dimension the budget counts apart by; nothing after the `=`
    /// stands for calls that do not say
    #[arg(long = "key", value_name = "DIM=VALUE", value_parser = operate::key_part)]
    pub key: Vec<(Dimension, Option<Label>)>,
}

#[derive(Args, Debug)]
pub struct Raise {
    #[command(flatten)]
    pub account: Account,
    #[command(flatten)]
    pub by: By,
}

/// By how much to raise.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct By {
    /// So much more money, such as 1.50
    #[arg(long, value_name = "USD", value_parser = operate::usd)]
    pub usd: Option<String>,
    /// So many more tokens, input and output together
    #[arg(long, value_name = "N", value_parser = operate::count)]
    pub tokens: Option<i64>,
    /// So many more input tokens
    #[arg(long, value_name = "N", value_parser = operate::count)]
    pub input_tokens: Option<i64>,
    /// So many more output tokens
    #[arg(long, value_name = "N", value_parser = operate::count)]
    pub output_tokens: Option<i64>,
    /// So many more calls
    #[arg(long, value_name = "N", value_parser = operate::count)]
    pub calls: Option<i64>,
    /// So many more calls at once
    #[arg(long, value_name = "N", value_parser = operate::count)]
    pub concurrent: Option<i64>,
}

const RUN_USAGE: &str = "open-aiops run [OPTIONS] -- COMMAND [ARGS]...
       open-aiops run pause|resume|stop RUN";

const RUN_NOTE: &str = "\
The program is pointed at the proxy that runs on the ledger, else at one in this process on a free
port. It keeps the terminal, its streams and its signals; a receipt follows on stderr. Clients read
OPENAI_BASE_URL, ANTHROPIC_BASE_URL, ...: what is set already stays the endpoint, behind the proxy.
OPEN_AIOPS_URL is the base URL of the run for what reads no such variable. A launch within a launch
is part of it, and counts against its budget.

Exit codes: the program's own, or 128 and the signal that ended it; 76 when a call of it was refused
by a breaker (see --keep-exit-code); 77 when it departed from the run that --replay names; 125 when it was not launched, 126 when it cannot be run, 127
when it is not there.

Examples:
  open-aiops run -- python crew.py
  open-aiops run --name nightly --variant terse --budget-usd 2 -- npm start
  open-aiops run --json --receipt receipt.json -- ./agents.sh
  open-aiops run stop nightly-4k7xpq";

#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub launch: Launch,
    #[command(subcommand)]
    pub command: Option<RunCommand>,
}

/// What to launch, and how.
#[derive(Args, Debug, Default, PartialEq)]
pub struct Launch {
    /// What the run is called, instead of what the program is; a few letters make it unique
    #[arg(long, value_name = "NAME")]
    pub name: Option<Label>,
    /// The arm of a comparison that it belongs to
    #[arg(long, value_name = "NAME")]
    pub variant: Option<Label>,
    /// What it may cost at most, such as 2 or 0.50
    #[arg(long, value_name = "USD", value_parser = operate::usd, allow_negative_numbers = true)]
    pub budget_usd: Option<String>,
    /// How many tokens it may use at most, input and output together
    #[arg(long, value_name = "N", value_parser = operate::count, allow_negative_numbers = true)]
    pub budget_tokens: Option<i64>,
    /// How many calls it may make at most
    #[arg(long, value_name = "N", value_parser = operate::count, allow_negative_numbers = true)]
    pub budget_calls: Option<i64>,
    /// Write the receipt into this file instead of to stderr; JSON with --json
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    /// Print no line at the start
    #[arg(long)]
    pub quiet: bool,
    /// Exit with the program's own code though its calls were refused
    #[arg(long)]
    pub keep_exit_code: bool,
    /// Keep a proxy of this process, and its page, until ctrl-c
    #[arg(long)]
    pub stay: bool,
    #[command(flatten)]
    pub replay: replay::LaunchReplay,
    /// The program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub program: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// Let no new call of a run through until it is resumed: they wait
    Pause(RunName),
    /// Let a run that was paused or stopped go on
    Resume(RunName),
    /// End the running calls of a run and refuse new ones until it is resumed
    Stop(RunName),
}

#[derive(Args, Debug)]
pub struct RunName {
    /// The run
    pub run: Label,
}

const LOOPS_EXAMPLES: &str = "\
Examples:
  open-aiops loops
  open-aiops loops --since 1d --json
  open-aiops loops reset 01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e
  open-aiops loops allow 01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e --calls 50";

#[derive(Args, Debug)]
pub struct LoopsArgs {
    #[command(flatten)]
    pub params: SpanParams,
    #[command(subcommand)]
    pub command: Option<LoopsCommand>,
}

#[derive(Debug, Subcommand)]
pub enum LoopsCommand {
    /// Let a loop that was stopped go on; its pattern has to show again from nothing
    Reset(LoopId),
    /// Let it go on, and so many calls of it pass whatever they repeat
    Allow(AllowArgs),
}

#[derive(Args, Debug)]
pub struct LoopId {
    /// The loop, as `open-aiops loops` lists it
    pub id: CallId,
}

#[derive(Args, Debug)]
pub struct AllowArgs {
    /// The loop, as `open-aiops loops` lists it
    pub id: CallId,
    /// How many calls
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub calls: u32,
}

const ALERTS_EXAMPLES: &str = "\
Examples:
  open-aiops alerts
  open-aiops alerts --open --json
  open-aiops alerts test
  open-aiops alerts test --webhook team";

#[derive(Args, Debug)]
pub struct AlertsArgs {
    #[command(flatten)]
    pub params: AlertParams,
    #[command(subcommand)]
    pub command: Option<AlertsCommand>,
}

#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// Send a test to the webhooks and say what each answers; needs a running server
    Test(AlertsTest),
}

#[derive(Args, Debug)]
pub struct AlertsTest {
    /// Only to this one
    #[arg(long, value_name = "NAME")]
    pub webhook: Option<Label>,
}

const BACKTEST_NOTE: &str = "\
A file has one run a line, as JSON, gzipped or not, - is stdin:
  {\"id\": \"r1\", \"calls\": [{\"agent\": \"a\", \"caller\": null, \"new_messages\": [...], \"response\": {...}}]}
New messages are those a call adds to its agent's history, as chat messages; \"fresh\": true begins it
anew, none are the same request again, a response of null failed.

Without a file runs are read from the ledger, as far as their bodies are recorded. What was refused
is not recorded: a run that was stopped ends a call earlier there.

Examples:
  open-aiops backtest --since 7d
  open-aiops backtest --run nightly-42 --preset cautious
  open-aiops backtest runs.jsonl.gz --config other.toml --verdicts out.jsonl";

#[derive(Args, Debug)]
pub struct BacktestArgs {
    /// Runs as JSON lines
    #[arg(required_unless_present_any = ["run", "since"], conflicts_with_all = ["run", "since"])]
    pub file: Option<PathBuf>,
    /// One recorded run
    #[arg(long)]
    pub run: Option<Label>,
    /// All runs with calls from this time on: 1h, 7d (that long ago), 2026-11-01
    #[arg(long, value_name = "WHEN")]
    pub since: Option<When>,
    /// These thresholds in place of the configured ones
    #[arg(long, value_parser = preset)]
    pub preset: Option<Preset>,
    /// Write for each run the first call that would have been refused, as JSON lines
    #[arg(long, value_name = "OUT")]
    pub verdicts: Option<PathBuf>,
}

fn preset(text: &str) -> Result<Preset, String> {
    let known = || Preset::VARIANTS.join(", ");
    text.parse()
        .map_err(|_| format!("found `{text}`, expected one of {}", known()))
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum LedgerCommand {
    /// Read every record and verify checksums, the chain and the index
    Check,
    /// Build the index anew from the log; the server must not run
    Rebuild,
}

/// Why a command did not do what was asked.
#[derive(Debug)]
enum Failure {
    /// What was asked for is not there, or not in order: exit code 1.
    Negative(String),
    /// Wrong usage, or it cannot be done: exit code 2.
    Impossible(String),
    /// A program was not launched: exit code 125, or one that says why.
    NotLaunched(String, u8),
    /// All is said; only the exit code is left.
    Code(u8),
    Output(io::Error),
}

impl Failure {
    fn words(&self) -> String {
        match self {
            Self::Negative(words) | Self::Impossible(words) | Self::NotLaunched(words, _) => {
                words.clone()
            }
            Self::Code(code) => format!("ended with {code}"),
            Self::Output(error) => format!("cannot write: {error}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The program: arguments in, exit code out.
pub fn main() -> ExitCode {
    upstream::set_cryptography();
    let (mut stdout, mut stderr) = (io::stdout(), io::stderr());
    let terminal = stdout.is_terminal();
    let mut out = Output {
        writer: &mut stdout,
        terminal,
    };
    run(std::env::args_os(), &mut out, &mut stderr)
}

/// Does what `arguments` (the program's name first) ask; complaints go to `errors`.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut Output<'_>,
    errors: &mut dyn Write,
) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let wrong = if launch::is_meant(&arguments) {
        launch::FAILED
    } else {
        2
    };
    let done = match Cli::try_parse_from(&arguments) {
        Ok(cli) => dispatch(cli, out),
        Err(error) => {
            let code = usage(&error, (out, &mut *errors), wrong);
            if launch::lacks_dashes(&arguments, error.kind()) {
                let _ = writeln!(errors, "{}", launch::DASHES);
            }
            return code;
        }
    };
    let (complaint, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Code(code)) => return ExitCode::from(code),
        Err(Failure::NotLaunched(complaint, code)) => (complaint, code),
        // Whoever closed the pipe has read enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Err(failure @ Failure::Negative(_)) => (failure.words(), 1),
        Err(failure) => (failure.words(), 2),
    };
    // There is nowhere left to complain to when this fails.
    let _ = writeln!(errors, "open-aiops: {complaint}");
    ExitCode::from(code)
}

/// Help and version are answers, all else is wrong usage.
fn usage(
    error: &clap::Error,
    (out, errors): (&mut Output<'_>, &mut dyn Write),
    wrong: u8,
) -> ExitCode {
    if error.use_stderr() {
        let _ = write!(errors, "{}", error.render());
        return ExitCode::from(wrong);
    }
    let _ = write!(out.writer, "{}", error.render());
    ExitCode::SUCCESS
}

fn dispatch(cli: Cli, out: &mut Output<'_>) -> Result<(), Failure> {
    let common = cli.common;
    match cli.command.unwrap_or(Command::Serve(Serve::default())) {
        Command::Serve(serve) => command::serve(&common, &serve),
        Command::Demo(args) => demo::run(&common, &args, out),
        Command::Top(args) => top::run(&common, &args, out),
        Command::CheckConfig => command::check_config(&common, out),
        Command::Calls(params) => command::calls(&common, &params, out),
        Command::Runs(params) => command::runs(&common, &params, out),
        Command::Agents(params) => command::agents(&common, &params, out),
        Command::Events(params) => command::events(&common, &params, out),
        Command::Show(show) => command::show(&common, &show, out),
        Command::Budgets(BudgetsArgs { params, command }) => match command {
            None => operate::budgets(&common, &params, out),
            Some(_) if params != BudgetParams::default() => Err(Failure::Impossible(
                "--rule, --value and --limit choose what is listed: give them without a command"
                    .to_owned(),
            )),
            Some(BudgetsCommand::Raise(raise)) => operate::raise(&common, &raise, out),
            Some(BudgetsCommand::Reset(account)) => operate::reset(&common, &account, out),
        },
        Command::Run(RunArgs { launch, command }) => match command {
            None => launch::run(&common, &launch),
            Some(_) if launch != Launch::default() => Err(Failure::Impossible(
                "options of a launch come with -- and the program, and not with pause, resume or stop"
                    .to_owned(),
            )),
            Some(command) => operate::run(&common, &command, out),
        },
        Command::Loops(LoopsArgs { params, command }) => match command {
            None => loops::list(&common, &params, out),
            Some(_) if params != SpanParams::default() => Err(Failure::Impossible(
                "--since, --until, --limit and --before choose what is listed: give them without a \
                 command"
                    .to_owned(),
            )),
            Some(LoopsCommand::Reset(id)) => loops::reset(&common, &id, out),
            Some(LoopsCommand::Allow(args)) => loops::allow(&common, &args, out),
        },
        Command::Alerts(AlertsArgs { params, command }) => match command {
            None => alerts::list(&common, &params, out),
            Some(_) if params != AlertParams::default() => Err(Failure::Impossible(
                "--open chooses what is listed: give it without a command".to_owned(),
            )),
            Some(AlertsCommand::Test(test)) => alerts::test(&common, &test, out),
        },
        Command::Backtest(args) => backtest::run(&common, &args, out),
        Command::Replay(args) => replay::run(&common, &args, out),
        Command::Ledger(LedgerCommand::Check) => command::check_ledger(&common, out),
        Command::Ledger(LedgerCommand::Rebuild) => command::rebuild_ledger(&common, out),
    }
}

#[cfg(test)]
mod tests;
