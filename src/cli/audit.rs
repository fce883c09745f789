//! Whether the ledger is what was written, and what was decided: from its files alone, server or not.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;

use clap::{Args, Subcommand};

use super::table::Align::{Left, Right};
use super::table::{Output, Table};
use super::{Common, Failure, command, format, source};
use crate::admin::params::When;
use crate::clock::Clock;
use crate::core::id::Label;
use crate::ledger::audit::{
    self, Anchor, AuditReport, Begin, Decision, DecisionFilter, each_decision, verify,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  open-aiops audit verify
  open-aiops audit head >> /mnt/elsewhere/anchors
  open-aiops audit verify --against /mnt/elsewhere/anchors --accept /mnt/elsewhere/known
  open-aiops audit log --since 1d --run nightly-42

The chain finds whatever was edited, dropped, inserted or moved. It has no key: who can write the
files could make all of it anew from some point on, or delete calls as `ledger delete` does. Keep
anchors where that person cannot write: against one, whatever was changed or taken out before it is
found, but for what retention let go. A deletion of your own is found as well, and so is damage that
a disk did: --accept takes what `verify` prints of it, as long as that stays what it is, and so does
that of `head`. A server writes anchors to its own log too, at start, every hour and at the end.";

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Read every record and say what was edited, dropped, inserted, moved or cut off; exit code 1 if
    /// anything was
    Verify(VerifyArgs),
    /// Print the anchor of the end of the log: keep it elsewhere, and verify against it later; exit
    /// code 1, and the anchor still, where `verify` would find anything else than what is accepted
    Head(AcceptArgs),
    /// List what was decided, newest last, each with its place in the log and an anchor that stands
    /// for it: loops stopped, budgets spent, operators' acts, alerts, config changes, deletions
    Log(LogArgs),
}

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// An anchor, or a file: the last one of each line that has one, so a server's log serves too
    #[arg(long, value_name = "ANCHOR|FILE")]
    pub against: Vec<String>,
    #[command(flatten)]
    pub accepted: AcceptArgs,
}

#[derive(Args, Debug)]
pub struct AcceptArgs {
    /// A finding that you looked into, such as damage or a deletion after an anchor, by what TO ACCEPT
    /// says of it; or a file of such lines. `verify` still shows it; it is no reason to exit with 1
    #[arg(long, value_name = "ANCHOR|FILE")]
    pub accept: Vec<String>,
}

#[derive(Args, Debug)]
pub struct LogArgs {
    /// From this time on: 1h, 7d (that long ago), 2026-11-01 or 2026-11-01T12:30:00Z
    #[arg(long, value_name = "WHEN")]
    pub since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "WHEN")]
    pub until: Option<When>,
    /// Only about this run
    #[arg(long)]
    pub run: Option<Label>,
    /// Only about this agent
    #[arg(long)]
    pub agent: Option<Label>,
    /// Only the newest so many, 1 to 10000; 1000 when not given. With --json, a line for each, all of
    /// them when not given
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub limit: Option<u16>,
}

pub(super) fn run(
    common: &Common,
    audit: &AuditCommand,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let dir = command::load(common)?.0.ledger.dir;
    match audit {
        AuditCommand::Verify(args) => {
            let (against, accept) = (
                anchors(&args.against, HEADS)?,
                anchors(&args.accepted.accept, FINDINGS)?,
            );
            let report = verify(&dir, &against, &accept).map_err(source::impossible)?;
            show(common, &report, out)
        }
        AuditCommand::Head(args) => {
            let report =
                audit::head(&dir, &anchors(&args.accept, FINDINGS)?).map_err(source::impossible)?;
            head(&report, out)
        }
        AuditCommand::Log(args) => log(common, &dir, args, out),
    }
}

/// What a file of anchors is to have.
const HEADS: &str = "an anchor, which `audit head` prints";

/// What a file of accepted findings is to have.
const FINDINGS: &str = "what accepts a finding, which `audit verify` prints under TO ACCEPT";

/// The last one of each line that has one: so an excerpt of a server's log serves as well.
fn anchors(given: &[String], expected: &str) -> Result<Vec<Anchor>, Failure> {
    let mut anchors = Vec::new();
    for text in given {
        if !Path::new(text).is_file() {
            anchors.push(text.parse().map_err(source::impossible)?);
            continue;
        }
        let lines = fs::read_to_string(text)
            .map_err(|error| Failure::Impossible(format!("{text} cannot be read: {error}")))?;
        let before = anchors.len();
        anchors.extend(lines.lines().filter_map(Anchor::last_in));
        if anchors.len() == before {
            let words = format!("no line of {text} has {expected}");
            return Err(Failure::Impossible(words));
        }
    }
    Ok(anchors)
}

fn head(report: &AuditReport, out: &mut Output<'_>) -> Result<(), Failure> {
    if let Some(head) = report.head {
        writeln!(out.writer, "{head}")?;
        return sound(report);
    }
    sound(report)?;
    let words = "the log is empty: there is nothing to anchor yet";
    Err(Failure::Negative(words.to_owned()))
}

fn show(common: &Common, report: &AuditReport, out: &mut Output<'_>) -> Result<(), Failure> {
    if common.json {
        let json = serde_json::to_vec(report).map_err(source::impossible)?;
        command::raw(&json, out)?;
    } else {
        summary(report, out)?;
        removals(report, out)?;
        findings(report, out)?;
    }
    sound(report)
}

fn sound(report: &AuditReport) -> Result<(), Failure> {
    if report.is_sound() {
        return Ok(());
    }
    let count = report.unaccepted().count() as u64 + report.more_findings;
    let first = report.unaccepted().next().map(|first| {
        let (kind, at): (&'static str, _) = (first.kind.into(), first.at);
        let (segment, byte) = (at.segment, at.offset);
        format!(", the first in segment {segment} at byte {byte} ({kind})")
    });
    let first = first.unwrap_or_default();
    Err(Failure::Negative(format!(
        "the log is not what was written: {count} findings{first}"
    )))
}

fn summary(report: &AuditReport, out: &mut Output<'_>) -> io::Result<()> {
    let begins = match report.begins {
        Begin::Start => "with the first record".to_owned(),
        Begin::AfterRetention { segment } => format!("with segment {segment}, after retention"),
        Begin::Unexplained { segment } => format!("with segment {segment}, unexplained"),
    };
    let mut table = Table::new(&[("WHAT", Left), ("FOUND", Right)]);
    let head = report
        .head
        .map_or_else(|| "-".to_owned(), |it| it.to_string());
    for (name, value) in [
        ("segments", format::count(report.segments)),
        ("bytes", format::count(report.bytes)),
        ("records in order", format::count(report.records)),
        ("deleted records", format::count(report.deleted)),
        ("begins", begins),
        ("anchors met", format::count(report.anchors_met)),
        (
            "anchors before retention",
            format::count(report.anchors_before_retention),
        ),
        ("unfinished bytes", format::count(report.unfinished_bytes)),
        ("given up bytes", format::count(report.given_up_bytes)),
        ("head", head),
    ] {
        table.row([name.to_owned(), value]);
    }
    table.write(out)
}

fn removals(report: &AuditReport, out: &mut Output<'_>) -> io::Result<()> {
    if report.on_record.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[
        ("TAKEN OUT (UTC)", Left),
        ("BY", Left),
        ("WHAT, AS IS ON RECORD", Left),
        ("TO ACCEPT", Left),
    ]);
    for it in &report.on_record {
        table.row([
            format::time(it.at),
            it.who.clone(),
            it.words.clone(),
            it.accept.to_string(),
        ]);
    }
    writeln!(out.writer)?;
    table.write(out)?;
    if report.more_on_record > 0 {
        let more = format::count(report.more_on_record);
        writeln!(out.writer, "and {more} before these")?;
    }
    Ok(())
}

fn findings(report: &AuditReport, out: &mut Output<'_>) -> io::Result<()> {
    if report.findings.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[
        ("FOUND", Left),
        ("SEGMENT", Right),
        ("BYTE", Right),
        ("RECORD", Right),
        ("AFTER (UTC)", Left),
        ("BEFORE (UTC)", Left),
        ("WHAT", Left),
        ("TO ACCEPT", Left),
    ]);
    let time = |at: Option<_>| at.map_or_else(|| "-".to_owned(), format::time);
    for finding in &report.findings {
        let kind: &'static str = finding.kind.into();
        table.row([
            kind.to_owned(),
            finding.at.segment.to_string(),
            finding.at.offset.to_string(),
            finding.record.to_string(),
            time(finding.after),
            time(finding.before),
            finding.words.clone(),
            match finding.accept {
                Some(accept) if finding.accepted => format!("accepted as {accept}"),
                Some(accept) => accept.to_string(),
                None => "-".to_owned(),
            },
        ]);
    }
    writeln!(out.writer)?;
    table.write(out)?;
    for (count, what) in [
        (report.more_findings, "more"),
        (report.more_accepted, "more that were accepted"),
    ] {
        if count > 0 {
            writeln!(out.writer, "and {} {what}", format::count(count))?;
        }
    }
    Ok(())
}

/// Rows of a table when no limit is given.
const ROWS: usize = 1000;

fn log(common: &Common, dir: &Path, args: &LogArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    let now = Clock::System.now();
    let time = |when: &Option<When>| when.as_ref().map(|when| when.before(now));
    let filter = DecisionFilter {
        since: time(&args.since),
        until: time(&args.until),
        run: args.run.clone(),
        agent: args.agent.clone(),
    };
    if common.json && args.limit.is_none() {
        let mut written = Ok(());
        let damages = each_decision(dir, &filter, &mut |decision| {
            written = line(&decision, out);
            written.is_ok()
        });
        written?;
        return unread(damages.map_err(source::impossible)?);
    }
    let most = args.limit.map_or(ROWS, usize::from);
    let (mut newest, mut before) = (VecDeque::new(), 0_u64);
    let damages = each_decision(dir, &filter, &mut |decision| {
        if newest.len() == most {
            newest.pop_front();
            before += 1;
        }
        newest.push_back(decision);
        true
    });
    let damages = damages.map_err(source::impossible)?;
    if common.json {
        for decision in &newest {
            line(decision, out)?;
        }
        return unread(damages);
    }
    decisions(&newest, out)?;
    if before > 0 && out.terminal {
        let before = format::count(before);
        writeln!(out.writer, "and {before} before these: --until, or --limit")?;
    }
    unread(damages)
}

fn line(decision: &Decision, out: &mut Output<'_>) -> Result<(), Failure> {
    let json = serde_json::to_vec(decision).map_err(source::impossible)?;
    out.writer.write_all(&json)?;
    Ok(writeln!(out.writer)?)
}

fn unread(damages: u64) -> Result<(), Failure> {
    if damages == 0 {
        return Ok(());
    }
    Err(Failure::Negative(format!(
        "{damages} parts of the log cannot be read or are not what was written: see `open-aiops audit \
         verify`"
    )))
}

fn decisions(decisions: &VecDeque<Decision>, out: &mut Output<'_>) -> io::Result<()> {
    let mut table = Table::new(&[
        ("TIME (UTC)", Left),
        ("WHAT", Left),
        ("WHO", Left),
        ("RUN", Left),
        ("AGENT", Left),
        ("SEGMENT", Right),
        ("BYTE", Right),
        ("CHAIN", Left),
        ("DETAILS", Left),
    ]);
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for it in decisions {
        table.row([
            format::time(it.at),
            it.what.clone(),
            it.who.clone(),
            or_none(&it.run),
            or_none(&it.agent),
            it.segment.to_string(),
            it.offset.to_string(),
            it.anchor.chain_text(),
            or_none(&it.details),
        ]);
    }
    table.write(out)
}
