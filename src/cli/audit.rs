//! Whether the ledger is what was written: verified from its files alone, server or not.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Args, Subcommand};

use super::table::Align::{Left, Right};
use super::table::{Output, Table};
use super::{Common, Failure, command, format, source};
use crate::ledger::audit::{Anchor, AuditReport, Begin, verify};

pub(super) const EXAMPLES: &str = "\
Examples:
  open-aiops audit verify
  open-aiops audit head >> /mnt/elsewhere/anchors
  open-aiops audit verify --against /mnt/elsewhere/anchors

The chain finds whatever was edited, dropped, inserted or moved. It has no key: who can write the
files could make all of it anew from some point on. Keep anchors where that person cannot write:
what lies before an anchor cannot be changed without being found. A server writes them to its own
log as well, at start, every hour and at the end.";

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Read every record and say what was edited, dropped, inserted, moved or cut off; exit code 1 if
    /// anything was
    Verify(VerifyArgs),
    /// Print the anchor of the end of the log: keep it elsewhere, and verify against it later
    Head,
}

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// An anchor, or a file whose lines each end with one
    #[arg(long, value_name = "ANCHOR|FILE")]
    pub against: Vec<String>,
}

pub(super) fn run(
    common: &Common,
    audit: &AuditCommand,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let dir = command::load(common)?.0.ledger.dir;
    match audit {
        AuditCommand::Verify(args) => {
            let anchors = anchors(&args.against)?;
            let report = verify(&dir, &anchors).map_err(source::impossible)?;
            show(common, &report, out)
        }
        AuditCommand::Head => {
            let report = verify(&dir, &[]).map_err(source::impossible)?;
            head(&report, out)
        }
    }
}

/// The last word of each line that has one: so an excerpt of a server's log serves as well.
fn anchors(given: &[String]) -> Result<Vec<Anchor>, Failure> {
    let mut anchors = Vec::new();
    for text in given {
        if !Path::new(text).is_file() {
            anchors.push(text.parse().map_err(source::impossible)?);
            continue;
        }
        let lines = fs::read_to_string(text)
            .map_err(|error| Failure::Impossible(format!("{text} cannot be read: {error}")))?;
        for line in lines.lines() {
            if let Some(last) = line.split_whitespace().next_back() {
                // As a server writes it to its log.
                let last = last.strip_prefix("anchor=").unwrap_or(last);
                let anchor = last.parse::<Anchor>();
                anchors.push(anchor.map_err(|error| {
                    Failure::Impossible(format!("in a line of {text}: {error}"))
                })?);
            }
        }
    }
    Ok(anchors)
}

fn head(report: &AuditReport, out: &mut Output<'_>) -> Result<(), Failure> {
    sound(report)?;
    let Some(head) = report.head else {
        let words = "the log is empty: there is nothing to anchor yet";
        return Err(Failure::Negative(words.to_owned()));
    };
    writeln!(out.writer, "{head}")?;
    Ok(())
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
    let count = report.findings.len() as u64 + report.more_findings;
    let Some(first) = report.findings.first() else {
        return Ok(());
    };
    let kind: &'static str = first.kind.into();
    Err(Failure::Negative(format!(
        "the log is not what was written: {count} findings, the first in segment {} at byte {} ({kind})",
        first.at.segment, first.at.offset
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
    ]);
    for it in &report.on_record {
        table.row([format::time(it.at), it.who.clone(), it.words.clone()]);
    }
    writeln!(out.writer)?;
    table.write(out)
}

fn findings(report: &AuditReport, out: &mut Output<'_>) -> io::Result<()> {
    if report.is_sound() {
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
        ]);
    }
    writeln!(out.writer)?;
    table.write(out)?;
    if report.more_findings > 0 {
        writeln!(
            out.writer,
            "and {} more",
            format::count(report.more_findings)
        )?;
    }
    Ok(())
}
