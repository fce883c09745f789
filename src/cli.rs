//! The command line: what can be asked, and nothing of how it is answered.
//!
//! `open-aiops` alone serves. The reading commands ask the running server, or the files of the
//! ledger when none runs; they print the same either way. Budgets and what is done to them and to
//! runs need a running server. Exit codes: 0 done, 1 not found or not in
//! order, 2 wrong usage or impossible; `run -- ...` has those of what it launches.

mod about;
mod alerts;
mod args;
mod audit;
mod backtest;
mod budgets;
mod call;
mod command;
mod compare;
mod delete;
mod demo;
mod export;
mod format;
mod instances;
mod key;
mod launch;
mod lists;
mod loops;
mod metric;
mod operate;
mod receipt;
mod receipt_file;
mod replay;
mod sinks;
mod source;
mod step;
mod suggest;
mod table;
mod top;
mod tree;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::args::{
    AlertsArgs, AlertsCommand, BacktestArgs, BudgetsArgs, BudgetsCommand, Launch, LedgerCommand,
    LoopsArgs, LoopsCommand, RunArgs, Serve, Show,
};
pub use self::table::Output;
use crate::admin::alerts::AlertParams;
use crate::admin::compare::CompareParams;
use crate::admin::params::{BudgetParams, CallParams, RunParams, SpanParams};
use crate::admin::suggestions::SuggestParams;
use crate::core::build::DESCRIPTION;
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
    #[command(after_help = args::AGENTS_NOTE)]
    Agents(SpanParams),
    /// List what happened to the proxy itself: starts, stops, recoveries, config changes, failures
    Events(SpanParams),
    /// Show one run or one call
    #[command(after_help = args::SHOW_EXAMPLES)]
    Show(Show),
    /// Show how budgets stand, raise or reset them; needs a running server
    #[command(after_help = args::BUDGETS_EXAMPLES)]
    Budgets(BudgetsArgs),
    /// List the instances that share budgets with the running server
    Instances,
    /// Launch a program as a run of its own; pause, resume or stop a run
    #[command(after_help = args::RUN_NOTE, override_usage = args::RUN_USAGE)]
    Run(RunArgs),
    /// List loops that were stopped, open and past, newest first; let them go on
    #[command(after_help = args::LOOPS_EXAMPLES)]
    Loops(LoopsArgs),
    /// Find what wastes tokens, money or time in recorded calls, and say what to do about it
    #[command(after_help = suggest::EXAMPLES)]
    Suggest(SuggestParams),
    /// List what a person should know of now, open alerts first; send a test
    #[command(after_help = args::ALERTS_EXAMPLES)]
    Alerts(AlertsArgs),
    /// Show how the databases do that get what is recorded; needs a running server
    #[command(after_help = sinks::NOTE)]
    Sinks(sinks::SinksArgs),
    /// Record and list custom metrics: what was measured of calls, runs and agents
    #[command(after_help = metric::NOTE)]
    Metric(metric::MetricArgs),
    /// Go through recorded runs once more: which loops would be stopped, which budgets spent
    #[command(after_help = args::BACKTEST_NOTE)]
    Backtest(BacktestArgs),
    /// Compare two groups of runs, such as variants, or two runs
    #[command(after_help = compare::EXAMPLES)]
    Compare(CompareParams),
    /// Write calls, decisions, budgets, metrics, content as Parquet, JSON lines or CSV
    #[command(after_help = export::NOTE)]
    Export(export::ExportArgs),
    /// Verify that the ledger is what was written
    #[command(subcommand, after_help = audit::EXAMPLES)]
    Audit(audit::AuditCommand),
    /// Show what is on record of a run; answer a program that runs again from it
    #[command(after_help = replay::NOTE)]
    Replay(replay::ReplayArgs),
    /// Check or repair the files of the ledger
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Say whether the running server is ready for calls
    #[command(after_help = about::HEALTH_NOTE)]
    Health(about::HealthArgs),
    /// Print what a shell needs to complete these commands
    #[command(after_help = about::COMPLETIONS_NOTE)]
    Completions(about::CompletionsArgs),
    /// Print the manual page of the program or of a command
    #[command(after_help = about::MAN_NOTE)]
    Man(about::ManArgs),
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
        Command::Instances => instances::list(&common, out),
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
        Command::Sinks(args) => sinks::run(&common, &args, out),
        Command::Metric(args) => metric::run(&common, &args, out),
        Command::Suggest(params) => suggest::list(&common, &params, out),
        Command::Backtest(args) => backtest::run(&common, &args, out),
        Command::Compare(params) => compare::run(&common, &params, out),
        Command::Export(args) => export::run(&common, &args, out),
        Command::Audit(command) => audit::run(&common, &command, out),
        Command::Replay(args) => replay::run(&common, &args, out),
        Command::Ledger(LedgerCommand::Check) => command::check_ledger(&common, out),
        Command::Ledger(LedgerCommand::Rebuild) => command::rebuild_ledger(&common, out),
        Command::Ledger(LedgerCommand::Delete(args)) => delete::run(&common, &args, out),
        Command::Health(args) => about::health(&common, &args, out),
        Command::Completions(args) => about::completions(&args, out),
        Command::Man(args) => about::man(&args, out),
    }
}

#[cfg(test)]
mod tests;
