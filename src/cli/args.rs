//! What each command takes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use strum::VariantNames;

use super::{operate, replay};
use crate::admin::alerts::AlertParams;
use crate::admin::params::{BudgetParams, SpanParams, When};
use crate::core::budget::Dimension;
use crate::core::id::{CallId, Label};
use crate::core::loops::settings::Preset;

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

pub(super) const AGENTS_NOTE: &str = "\
Where the span cuts a minute, hour or day (UTC) that has too many calls to read, or calls that are no
longer kept, that counts as a whole; what the figures are of is then said below them.";

pub(super) const SHOW_EXAMPLES: &str = "\
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

pub(super) const BUDGETS_EXAMPLES: &str = "\
Examples:
  open-aiops budgets
  open-aiops budgets --rule 'each run' --value nightly-42
  open-aiops budgets raise 'each run' --key run=nightly-42 --usd 1.00
  open-aiops budgets reset 'by team' --key tag.team=search --key user=

A bar shows what is used, then what running calls hold, then what is left.";

pub(super) const RAISE_NOTE: &str = "\
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
    /// So much more of the custom metric that the budget limits
    #[arg(long, value_name = "N", value_parser = operate::metric)]
    pub metric: Option<String>,
}

pub(super) const RUN_USAGE: &str = "open-aiops run [OPTIONS] -- COMMAND [ARGS]...
       open-aiops run pause|resume|stop RUN";

pub(super) const RUN_NOTE: &str = "\
The program is pointed at the proxy that runs on the ledger, else at one in this process on a free
port. It keeps the terminal, its streams and its signals; a receipt follows on stderr. Clients read
OPENAI_BASE_URL, ANTHROPIC_BASE_URL, ...: what is set already stays the endpoint, behind the proxy.
OPEN_AIOPS_URL is the base URL of the run for what reads no such variable. A launch within a launch
is part of it, and counts against its budget.

Exit codes: the program's own, or 128 and the signal that ended it; 76 when a call of it was refused
by a breaker, 77 when it departed from the run that --replay names (see --keep-exit-code); 125 when
it was not launched, 126 when it cannot be run, 127 when it is not there.

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
    /// Exit with the program's own code though its calls were refused, or a replay departed
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

pub(super) const LOOPS_EXAMPLES: &str = "\
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

pub(super) const ALERTS_EXAMPLES: &str = "\
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

pub(super) const BACKTEST_NOTE: &str = "\
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

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Read every record and verify checksums, the chain and the index
    Check,
    /// Build the index anew from the log; the server must not run
    Rebuild,
    /// Delete the calls of a run, of a user, or from before some time; the server must not run
    Delete(super::delete::DeleteArgs),
}
