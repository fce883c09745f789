//! `open-aiops export`: recorded rows into files.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use strum::VariantNames;
use tempfile::NamedTempFile;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
they stand); charges (what each call was charged to which account); metrics (what was measured of calls, runs
and agents); content (what was said, piece by piece); bodies (as they are stored). All is as recorded: after
redaction. Rows are newest first; what begins after the export is not in it. Money is whole nano-USD,
and a decimal of USD; times are UTC.

Examples:
  open-aiops export calls --format parquet --out calls.parquet --since 7d
  open-aiops export calls decisions budgets charges --format csv --out export/
  open-aiops export content --run nightly-42 --format jsonl --out - | jq .text";

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Tables
    #[arg(required = true, value_name = "WHAT", value_parser = table())]
    pub what: Vec<Table>,
    /// How files are written
    #[arg(long, value_parser = format_name())]
    pub format: Format,
    /// The file, or - for stdout; of several tables, or with / at its end, the directory of a file for each
    #[arg(long, value_name = "FILE|DIR")]
    pub out: PathBuf,
    /// From this time on: 1h, 7d (that long ago), 2026-11-01 or 2026-11-01T12:30:00Z
    #[arg(long, value_name = "WHEN")]
    pub since: Option<When>,
    /// Before this time; budgets are told as they stand
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

fn format_name() -> impl TypedValueParser<Value = Format> {
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
    let mut tables = args.what.clone();
    let mut seen = std::collections::HashSet::new();
    tables.retain(|table| seen.insert(*table));
    if args.out == Path::new("-") {
        let (&[table], Format::Jsonl | Format::Csv) = (tables.as_slice(), args.format) else {
            let words =
                "--out - takes one table, as jsonl or csv: a Parquet file is written to a file";
            return Err(Failure::Impossible(words.to_owned()));
        };
        let (runtime, source) = command::open(common)?;
        let mut file = RowWriter::new(table, args.format, BufWriter::new(io::stdout()))?;
        Reader::new(args, &runtime, &source)?.each_row(table, &mut file, &Failure::Output)?;
        file.finish()?;
        return Ok(());
    }
    let paths: Vec<PathBuf> = tables
        .iter()
        .map(|table| path(args, *table, tables.len() > 1))
        .collect();
    if !args.force {
        paths.iter().try_for_each(|path| is_free(path))?;
    }
    let (runtime, source) = command::open(common)?;
    let mut reader = Reader::new(args, &runtime, &source)?;
    // All of them before the work begins: where one cannot be written, none is.
    let targets = tables.into_iter().zip(paths);
    let targets = targets.map(|(table, path)| Target::create(table, path, args.force));
    let mut targets = targets.collect::<Result<Vec<_>, _>>()?;
    for target in &mut targets {
        target.fill(args.format, &mut reader)?;
    }
    let written = targets.into_iter().map(|target| target.keep(args.force));
    told(common, &written.collect::<Result<Vec<_>, _>>()?, out)
}

fn told(common: &Common, written: &[Written], out: &mut Output<'_>) -> Result<(), Failure> {
    if common.json {
        let bytes = serde_json::to_vec(written).map_err(source::impossible)?;
        return command::raw(&bytes, out);
    }
    for Written { table, file, rows } in written {
        let (name, count) = (table.name(), format::count(*rows));
        writeln!(out.writer, "{name}: {count} rows in {}", file.display())?;
    }
    Ok(())
}

fn path(args: &ExportArgs, table: Table, is_dir: bool) -> PathBuf {
    let ends_as_dir = args.out.as_os_str().as_encoded_bytes().ends_with(b"/");
    if is_dir || ends_as_dir || args.out.is_dir() {
        let ending: &'static str = args.format.into();
        args.out.join(format!("{}.{ending}", table.name()))
    } else {
        args.out.clone()
    }
}

fn is_free(path: &Path) -> Result<(), Failure> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let words = format!("{} is there: --force replaces it", path.display());
    Err(Failure::Impossible(words))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Impossible(format!("cannot write {}: {error}", path.display()))
}

/// A table on its way into a file, which is there under its name when all of them are whole.
struct Target {
    table: Table,
    /// As it was named.
    path: PathBuf,
    /// What a link leads to.
    place: PathBuf,
    dir: PathBuf,
    file: NamedTempFile,
    rows: u64,
}

impl Target {
    fn create(table: Table, path: PathBuf, force: bool) -> Result<Self, Failure> {
        let failed = |error: io::Error| cannot_write(&path, &error);
        let before = fs::canonicalize(&path).ok().filter(|_| force);
        let place = before.clone().unwrap_or_else(|| path.clone());
        if place.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let dir = place.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&dir).map_err(failed)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".open-aiops-").suffix(".partial");
        let file = builder.tempfile_in(&dir).map_err(failed)?;
        if let Some(before) = before {
            let permissions = fs::metadata(before).map(|it| it.permissions());
            let kept = permissions.and_then(|it| file.as_file().set_permissions(it));
            kept.map_err(failed)?;
        }
        Ok(Self {
            table,
            path,
            place,
            dir,
            file,
            rows: 0,
        })
    }

    fn fill(&mut self, format: Format, reader: &mut Reader<'_>) -> Result<(), Failure> {
        let failed = |error: io::Error| cannot_write(&self.path, &error);
        let file = self.file.as_file();
        let out = BufWriter::new(file.try_clone().map_err(failed)?);
        let mut writer = RowWriter::new(self.table, format, out).map_err(failed)?;
        reader.each_row(self.table, &mut writer, &failed)?;
        self.rows = writer.finish().map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    fn keep(self, force: bool) -> Result<Written, Failure> {
        let failed = |error: io::Error| cannot_write(&self.path, &error);
        let kept = if force {
            self.file.persist(&self.place)
        } else {
            self.file.persist_noclobber(&self.place)
        };
        kept.map_err(|error| failed(error.error))?;
        let dir = File::open(&self.dir).and_then(|dir| dir.sync_all());
        dir.map_err(failed)?;
        Ok(Written {
            table: self.table,
            file: self.path,
            rows: self.rows,
        })
    }
}

/// Asks for pages of rows. What the first page says of the time holds for all that follow.
struct Reader<'a> {
    runtime: &'a Runtime,
    source: &'a Source,
    params: ExportParams,
    signals: Signals,
}

impl<'a> Reader<'a> {
    fn new(args: &ExportArgs, runtime: &'a Runtime, source: &'a Source) -> Result<Self, Failure> {
        Ok(Self {
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
            signals: Signals::listen(runtime)?,
        })
    }

    fn each_row<W: Write + Send>(
        &mut self,
        table: Table,
        file: &mut RowWriter<W>,
        failed: &dyn Fn(io::Error) -> Failure,
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
                file.write(row).map_err(failed)?;
            }
            self.params.before = page.next;
            if self.params.before.is_none() {
                return Ok(());
            }
        }
    }

    fn page(&mut self, table: Table) -> Result<ExportPage, Failure> {
        let path = format!("/api/v1/export/{}", table.name());
        let (source, params, signals) = (self.source, &self.params, &mut self.signals);
        let body = self.runtime.block_on(async {
            tokio::select! {
                failure = signals.end() => Err(failure),
                body = source.ask(&path, params) => body,
            }
        })?;
        let page: ExportPage = source::parse(&body)?;
        if let Some(since) = page.since {
            self.params.since = Some(at(since)?);
        }
        if let Some(until) = page.until {
            self.params.until = Some(at(until)?);
        }
        Ok(page)
    }
}

fn at(time: Timestamp) -> Result<When, Failure> {
    time.to_string().parse().map_err(source::impossible)
}

/// What ends an export early: files that are not whole go with it.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen(runtime: &Runtime) -> Result<Self, Failure> {
        let _within = runtime.enter();
        let listen = |kind| signal(kind).map_err(source::impossible);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for one, and ends as shells say that it did.
    async fn end(&mut self) -> Failure {
        Failure::Code(tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hang_up.recv() => 129,
        })
    }
}
