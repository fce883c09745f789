//! Calls are deleted from a ledger that no server uses.

use clap::Args;

use super::table::Align::{Left, Right};
use super::table::{Output, Table};
use super::{Common, Failure, command, format, operate, source};
use crate::admin::params::When;
use crate::clock::Clock;
use crate::config::SharedConfig;
use crate::core::id::Label;
use crate::ledger::erase::{EraseError, ErasedReport, Scope, Wish, erase, preview};
use crate::ledger::{self, OpenError};

const EXAMPLES: &str = "\
Examples:
  open-aiops ledger delete --run nightly-42 --dry-run
  open-aiops ledger delete --user alice --yes
  open-aiops ledger delete --before 30d --yes

The server must not run. Messages, bodies, headers and names of these calls leave the disk; a message
that other calls share stays. Tokens and money that they spent stay counted, by agent and model and in
budgets. A record says how many calls went, when and by whom: `open-aiops audit verify` shows it, and
anchors from before stay good; a new one is printed, to be kept elsewhere. Names in calls of other runs,
texts that their agents wrote, exports, and copies of the directory are not looked through. With --before a
run that is stopped or paused stays so, and keeps its name. A call whose work goes on at the upstream (a
batch, an answer made in the background) stays until its result was fetched, or for 30 days: delete again
then. Where several instances share budgets each has the calls of all: delete on each.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DeleteArgs {
    #[command(flatten)]
    meant: Meant,
    /// Only say what would be deleted
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Do it; nothing brings it back
    #[arg(long)]
    pub yes: bool,
    /// Also where a segment is damaged: what cannot be read there stays on the disk
    #[arg(long)]
    pub despite_damage: bool,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Meant {
    /// Calls of this run
    #[arg(long)]
    run: Option<Label>,
    /// Calls of this user
    #[arg(long)]
    user: Option<Label>,
    /// Calls that began before this: 30d (that long ago), 2026-11-01
    #[arg(long, visible_alias = "older-than", value_name = "WHEN")]
    before: Option<When>,
}

pub(super) fn run(common: &Common, args: &DeleteArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    let (config, shared) = {
        let config = command::load(common)?.0;
        (config.ledger, config.shared)
    };
    let clock = Clock::System;
    let Meant { run, user, before } = &args.meant;
    let scope = match (run, user, before) {
        (Some(run), ..) => Scope::Run(run.clone()),
        (_, Some(user), _) => Scope::User(user.clone()),
        (_, _, Some(when)) => Scope::Before(when.before(clock.now())),
        (None, None, None) => {
            let words = "expected one of --run, --user and --before";
            return Err(Failure::Impossible(words.to_owned()));
        }
    };
    let wish = Wish {
        scope,
        despite_damage: args.despite_damage,
    };
    if !args.yes {
        let report = preview(&config.dir, &wish, clock.now()).map_err(|error| failed(&error))?;
        show(common, (&report, shared.as_ref()), "WOULD BE DELETED", out)?;
        if args.dry_run {
            return Ok(());
        }
        let words = "nothing was deleted: --yes does it, and nothing brings it back";
        return Err(Failure::Negative(words.to_owned()));
    }
    make_whole(&config, &clock)?;
    let report =
        erase(&config.dir, &wish, &operate::who(), clock.now()).map_err(|error| failed(&error))?;
    show(common, (&report, shared.as_ref()), "DELETED", out)?;
    if report.calls == 0 && report.records == 0 {
        if report.running_calls > 0 {
            let words = "nothing was deleted: none of these calls has ended for good, see --help";
            return Err(Failure::Negative(words.to_owned()));
        }
        return Err(Failure::Negative("no such call is recorded".to_owned()));
    }
    Ok(())
}

/// What a crash left behind is mended as a server would: an unfinished record is cut off, calls that
/// did not end are settled, a deletion that was under way is finished.
fn make_whole(config: &crate::config::LedgerConfig, clock: &Clock) -> Result<(), Failure> {
    if !config.dir.join("log").is_dir() {
        let dir = config.dir.clone();
        return Err(source::impossible(OpenError::Missing { dir }));
    }
    let opened = ledger::open(config, clock.clone(), |_, _, _| None);
    let (ledger, _) = opened.map_err(|error| failed(&error.into()))?;
    command::runtime()?
        .block_on(ledger.close())
        .map_err(source::impossible)
}

fn failed(error: &EraseError) -> Failure {
    let locked = matches!(error, EraseError::Open(OpenError::Locked { .. }));
    let advice = if locked {
        ": stop it first, nothing can be deleted while it writes"
    } else {
        ""
    };
    Failure::Impossible(format!("{error}{advice}"))
}

fn show(
    common: &Common,
    (report, shared): (&ErasedReport, Option<&SharedConfig>),
    done: &'static str,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    if common.json {
        let json = serde_json::to_vec(report).map_err(source::impossible)?;
        return command::raw(&json, out);
    }
    let columns = [("WHAT", Left), (done, Right)];
    let mut table = Table::new(&columns);
    for (name, count) in [
        ("calls", report.calls),
        ("calls that did not end and stay", report.running_calls),
        ("records", report.records),
        ("contents among them", report.contents),
        ("segments", report.segments),
        ("bytes", report.freed_bytes),
    ] {
        table.row([name.to_owned(), format::count(count)]);
    }
    if report.adopted_calls > 0 {
        let count = format::count(report.adopted_calls);
        table.row(["calls of other instances among them".to_owned(), count]);
    }
    if report.unreadable_bytes > 0 {
        let count = format::count(report.unreadable_bytes);
        table.row(["bytes that cannot be read and stay".to_owned(), count]);
    }
    if let Some(anchor) = report.anchor {
        table.row(["anchor from now on".to_owned(), anchor.to_string()]);
    }
    table.write(out)?;
    if report.adopted_calls > 0 || shared.is_some() {
        writeln!(out.writer, "\n{}", elsewhere(shared))?;
    }
    Ok(())
}

/// What has to be done beside it where several instances tell each other of their calls.
fn elsewhere(shared: Option<&SharedConfig>) -> String {
    let namespace = shared.map_or("NAMESPACE", |shared| shared.namespace.as_str());
    format!(
        "Other instances have such calls in their ledgers too, and Redis the last that they told each \
         other.\nStop all of them, delete on each, and before one starts again:\n  \
         redis-cli DEL '{{{namespace}}}:records' '{{{namespace}}}:claims'"
    )
}
