//! Sinks: how they do, and what makes their tables.

use std::io;

use clap::Args;

use super::table::Align::{Left, Right};
use super::table::{Output, Table};
use super::{Common, Failure, command, format, operate, source};
use crate::admin::sinks::SinkList;
use crate::sinks::{self, SinkStatus};

const NONE: &str = "-";

pub(super) const NOTE: &str = "\
Examples:
  open-aiops sinks
  open-aiops sinks --json
  open-aiops sinks --sql > tables.sql

BEHIND is in bytes of the ledger's log, bodies included. Tables are made and completed by themselves; where
a database is not to be changed by the proxy, --sql has what makes them.";

#[derive(Args, Debug)]
pub struct SinksArgs {
    /// Print the statements that make the tables of each configured sink; needs no server
    #[arg(long, conflicts_with = "json")]
    pub sql: bool,
}

pub(super) fn run(common: &Common, args: &SinksArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    if args.sql {
        return sql(common, out);
    }
    let why = "only a running server writes to sinks and knows how they do";
    let (runtime, source) = (command::runtime()?, operate::server_since(common, why)?);
    let body = runtime.block_on(source.ask("/api/v1/sinks", &()))?;
    if common.json {
        return command::raw(&body, out);
    }
    let list: SinkList = source::parse(&body)?;
    Ok(show(&list.sinks, out)?)
}

fn sql(common: &Common, out: &mut Output<'_>) -> Result<(), Failure> {
    let (config, _) = command::load(common)?;
    if config.sinks.is_empty() {
        let told = "no sink is configured: add [[sink]] to the config file";
        return Err(Failure::Negative(told.to_owned()));
    }
    for sink in &config.sinks {
        writeln!(out.writer, "-- sink {}", sink.name)?;
        for statement in sinks::statements(sink) {
            writeln!(out.writer, "{statement};")?;
        }
    }
    Ok(())
}

fn show(sinks: &[SinkStatus], out: &mut Output<'_>) -> io::Result<()> {
    if sinks.is_empty() && out.terminal {
        let told = "no sink is configured: add [[sink]] to the config file";
        return writeln!(out.writer, "{told}");
    }
    let mut table = Table::new(&[
        ("SINK", Left),
        ("KIND", Left),
        ("STATE", Left),
        ("SINCE (UTC)", Left),
        ("BEHIND", Right),
        ("ALL UNTIL (UTC)", Left),
        ("ROWS", Right),
        ("LEFT OUT", Right),
        ("GAPS", Right),
        ("INSTANCE", Left),
        ("ERROR", Left),
    ]);
    for it in sinks {
        let state: &'static str = it.state.into();
        let time = |at: Option<_>| at.map_or_else(|| NONE.to_owned(), format::time);
        table.row([
            it.name.to_string(),
            it.kind.clone(),
            state.to_owned(),
            time(it.failing_since),
            format::count(it.lag_bytes),
            time(it.delivered_until),
            format::count(it.rows.values().sum()),
            format::count(it.refused_rows),
            format::count(it.gaps),
            it.instance.clone(),
            it.error.clone().unwrap_or_else(|| NONE.to_owned()),
        ]);
    }
    table.write(out)
}
