//! `open-aiops export`: recorded rows into files.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use strum::VariantNames;
use tempfile::NamedTempFile;
use tokio::runtime::Runtime;

use super::source::{self, Source};
use super::table::Output;
use super::{Common, Failure, command, format};
use crate::admin::export::{ExportPage, ExportParams};
use crate::admin::params::When;
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::export::{Format, RowWriter, Table};

pub(super) const NOTE: &str = "\
Tables: calls; decisions (events, trips with their evidence, what operators did); budgets (accounts as
they stand); charges (what each call was charged to which account); metrics (numbers that came with
calls); content (what was said, as recorded: after redaction). Rows are newest first; what is
recorded after the export began is not in it. Money is whole nano-USD, and a decimal of USD; times are UTC.

Examples:
  open-aiops export calls --format parquet --out calls.parquet --since 7d
  open-aiops export calls decisions budgets charges --format csv --out export/
  open-aiops export content --run nightly-42 --format jsonl --out - | jq .text";

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Tables; content only where it is named
    #[arg(required = true, value_name = "WHAT", value_parser = table())]
    pub what: Vec<Table>,
    /// How files are written
    #[arg(long, value_parser = form())]
    pub format: Format,
    /// The file, or - for stdout; of several tables the directory, with a file for each
    #[arg(long, value_name = "FILE|DIR")]
    pub out: PathBuf,
    /// From this time on: 1h, 7d (that long ago), 2026-11-01 or 2026-11-01T12:30:00Z
    #[arg(long, value_name = "WHEN")]
    pub since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "WHEN")]
    pub until: Option<When>,
    /// Only of this run; of budgets the accounts whose key has it
    #[arg(long)]
    pub run: Option<Label>,
    /// Only of this agent
    #[arg(long)]
    pub agent: Option<Label>,
    /// Only for this user
    #[arg(long)]
    pub user: Option<Label>,
    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
}

fn table() -> impl TypedValueParser<Value = Table> {
    PossibleValuesParser::new(Table::VARIANTS).try_map(|name| name.parse())
}

fn form() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::VARIANTS).try_map(|name| name.parse())
}

/// A file that was written.
#[derive(Serialize)]
struct Written {
    table: Table,
    file: PathBuf,
    rows: u64,
}

pub(super) fn run(common: &Common, args: &ExportArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    let is_piped = args.out == Path::new("-");
    let mut tables = args.what.clone();
    let mut seen = std::collections::HashSet::new();
    tables.retain(|table| seen.insert(*table));
    if is_piped && (tables.len() > 1 || args.format == Format::Parquet) {
        let words = "--out - takes one table, as jsonl or csv: a Parquet file is written to a file";
        return Err(Failure::Impossible(words.to_owned()));
    }
    let files = tables
        .iter()
        .map(|table| path(args, *table, tables.len() > 1));
    let files: Vec<PathBuf> = files.collect();
    let there = files.iter().find(|file| file.exists());
    if let Some(file) = there.filter(|_| !is_piped && !args.force) {
        let words = format!("{} is there: --force replaces it", file.display());
        return Err(Failure::Impossible(words));
    }
    let (runtime, source) = command::open(common)?;
    let mut reader = Reader::new(args, &runtime, &source);
    if is_piped {
        let table = tables.first().copied().unwrap_or(Table::Calls);
        let pipe = BufWriter::new(std::io::stdout());
        let mut file = RowWriter::new(table, args.format, pipe)?;
        reader.each_row(table, &mut file)?;
        file.finish()?;
        return Ok(());
    }
    let mut written = Vec::new();
    for (table, file) in tables.into_iter().zip(files) {
        let rows = reader.write_file(table, &file, args)?;
        written.push(Written { table, file, rows });
    }
    if common.json {
        let bytes = serde_json::to_vec(&written).map_err(source::impossible)?;
        return command::raw(&bytes, out);
    }
    for Written { table, file, rows } in &written {
        let (name, count) = (table.name(), format::count(*rows));
        writeln!(out.writer, "{name}: {count} rows in {}", file.display())?;
    }
    Ok(())
}

fn path(args: &ExportArgs, table: Table, is_dir: bool) -> PathBuf {
    if is_dir || args.out.is_dir() {
        let ending: &'static str = args.format.into();
        args.out.join(format!("{}.{ending}", table.name()))
    } else {
        args.out.clone()
    }
}

/// Asks for pages of rows. What the first page says of the time holds for all that follow.
struct Reader<'a> {
    runtime: &'a Runtime,
    source: &'a Source,
    params: ExportParams,
    has_end: bool,
    started_at: Option<Timestamp>,
}

impl<'a> Reader<'a> {
    fn new(args: &ExportArgs, runtime: &'a Runtime, source: &'a Source) -> Self {
        Self {
            runtime,
            source,
            params: ExportParams {
                since: args.since.clone(),
                until: args.until.clone(),
                run: args.run.clone(),
                agent: args.agent.clone(),
                user: args.user.clone(),
                before: None,
            },
            has_end: args.until.is_some(),
            started_at: None,
        }
    }

    /// The rows of a table into a file, which is there when it is whole.
    fn write_file(&mut self, table: Table, path: &Path, args: &ExportArgs) -> Result<u64, Failure> {
        let failed = |error: io::Error| {
            Failure::Impossible(format!("cannot write {}: {error}", path.display()))
        };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        fs::create_dir_all(dir).map_err(failed)?;
        let file = NamedTempFile::new_in(dir).map_err(failed)?;
        let out = BufWriter::new(file.as_file().try_clone().map_err(failed)?);
        let mut writer = RowWriter::new(table, args.format, out).map_err(failed)?;
        self.each_row(table, &mut writer)?;
        let rows = writer.finish().map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        let kept = if args.force {
            file.persist(path)
        } else {
            file.persist_noclobber(path)
        };
        kept.map_err(|error| failed(error.error))?;
        Ok(rows)
    }

    fn each_row<W: Write + Send>(
        &mut self,
        table: Table,
        file: &mut RowWriter<W>,
    ) -> Result<(), Failure> {
        self.params.before = None;
        let columns = table.columns();
        loop {
            let page = self.page(table)?;
            if !page.columns.iter().eq(columns.iter().map(|it| it.name)) {
                let words = "the server is of another version: its tables have other columns";
                return Err(Failure::Impossible(words.to_owned()));
            }
            for row in &page.rows {
                file.write(row)?;
            }
            self.params.before = page.next;
            if self.params.before.is_none() {
                return Ok(());
            }
        }
    }

    fn page(&mut self, table: Table) -> Result<ExportPage, Failure> {
        let mut params = self.params.clone();
        // Accounts are told as they stand.
        if !self.has_end && table != Table::Budgets {
            params.until = self.started_at.map(at).transpose()?;
        }
        let path = format!("/api/v1/export/{}", table.name());
        let body = self.runtime.block_on(self.source.ask(&path, &params))?;
        let page: ExportPage = source::parse(&body)?;
        self.params.since = page.since.map(at).transpose()?;
        if self.has_end {
            self.params.until = page.until.map(at).transpose()?;
        }
        self.started_at.get_or_insert(page.at);
        Ok(page)
    }
}

fn at(time: Timestamp) -> Result<When, Failure> {
    time.to_string().parse().map_err(source::impossible)
}
