//! The tables of a database, made of the columns of `export`: what to create, and what to add to
//! tables that an earlier version made. Nothing is ever dropped or retyped.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::config::{SinkKind, SinkTable};
use crate::export::{Column, Kind, Table};

/// Of the tables as a whole. Columns that are added do not change it: they are seen by looking.
pub(super) const VERSION: i32 = 1;

/// Names which ledger a row is of.
pub(super) const INSTANCE: Column = Column {
    name: "instance",
    kind: Kind::Text,
    doc: "the ledger it is of: as configured, else made of the ledger itself",
};

/// Of what has no id of its own.
const ID: Column = Column {
    name: "id",
    kind: Kind::Text,
    doc: "the same whenever this row is written, and of no other",
};

/// Columns of the exports that hold what was said, which no database gets.
const SAID: [&str; 1] = ["loop_sample"];

/// Whether a column of the exports goes to databases.
pub(super) fn is_told(column: &Column) -> bool {
    !SAID.contains(&column.name)
}

/// One table as a database has it.
pub(super) struct Shape {
    pub(super) table: SinkTable,
    /// All but what the database fills in itself.
    pub(super) columns: Vec<Column>,
    /// What tells rows apart, for PostgreSQL.
    pub(super) key: [&'static str; 2],
    /// When it happened.
    pub(super) time: &'static str,
    /// Whether that can never change for the same row.
    is_time_fixed: bool,
}

/// Tables and their columns as they were found.
pub(super) type Found = BTreeMap<String, Vec<String>>;

/// How ClickHouse keeps points in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    Micros,
    /// Servers before 20.1 know no others.
    Seconds,
}

impl Shape {
    pub(super) fn of(table: SinkTable) -> Self {
        let (exported, id, time, is_time_fixed) = match table {
            SinkTable::Calls => (Table::Calls, None, "started_at", true),
            SinkTable::Decisions => (Table::Decisions, Some(ID), "at", true),
            // What is said again takes the place of what was said, and has a time of its own.
            SinkTable::Metrics => (Table::Metrics, Some(ID), "measured_at", false),
        };
        let own = [Some(INSTANCE), id].into_iter().flatten();
        Self {
            table,
            columns: own.chain(exported.columns()).filter(is_told).collect(),
            key: ["instance", if id.is_some() { "id" } else { "call_id" }],
            time,
            is_time_fixed,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.table.name()
    }

    fn is_required(&self, column: &Column) -> bool {
        self.key.contains(&column.name) || column.name == self.time
    }
}

/// What PostgreSQL has to be told, in this order; nothing where all is there.
pub(super) fn postgres(schema: &str, tables: &[SinkTable], found: Option<&Found>) -> Vec<String> {
    let mut told = Vec::new();
    if found.is_none() {
        told.push(format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""));
    }
    let empty = Found::new();
    let found = found.unwrap_or(&empty);
    if !found.contains_key("schema_version") {
        told.push(format!(
            "CREATE TABLE IF NOT EXISTS \"{schema}\".schema_version (version integer PRIMARY KEY, \
             since timestamptz NOT NULL DEFAULT now())"
        ));
    }
    if !found.contains_key("position") {
        told.push(format!(
            "CREATE TABLE IF NOT EXISTS \"{schema}\".\"position\" (instance text NOT NULL, \
             ledger text NOT NULL, table_name text NOT NULL, \"position\" text NOT NULL, \
             written_at timestamptz NOT NULL DEFAULT now(), \
             PRIMARY KEY (instance, ledger, table_name))"
        ));
    }
    for table in tables {
        let shape = Shape::of(*table);
        match found.get(shape.name()) {
            None => create_in_postgres(schema, &shape, &mut told),
            Some(known) => add_in_postgres(schema, &shape, known, &mut told),
        }
    }
    told
}

fn create_in_postgres(schema: &str, shape: &Shape, told: &mut Vec<String>) {
    let name = shape.name();
    let columns: String = shape.columns.iter().fold(String::new(), |mut all, column| {
        let null = if shape.is_required(column) {
            " NOT NULL"
        } else {
            ""
        };
        let _ = write!(
            all,
            "\"{}\" {}{null}, ",
            column.name,
            postgres_type(column.kind)
        );
        all
    });
    told.push(format!(
        "CREATE TABLE \"{schema}\".\"{name}\" ({columns}\
         written_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (\"{}\", \"{}\"))",
        shape.key[0], shape.key[1]
    ));
    let mut index = |column: &str| {
        told.push(format!(
            "CREATE INDEX \"{name}_{column}\" ON \"{schema}\".\"{name}\" (\"{column}\")"
        ));
    };
    index(shape.time);
    index("run_id");
    for column in &shape.columns {
        told.push(comment_in_postgres(schema, name, column));
    }
}

fn add_in_postgres(schema: &str, shape: &Shape, known: &[String], told: &mut Vec<String>) {
    let name = shape.name();
    for column in lacking(shape, known) {
        told.push(format!(
            "ALTER TABLE \"{schema}\".\"{name}\" ADD COLUMN IF NOT EXISTS \"{}\" {}",
            column.name,
            postgres_type(column.kind)
        ));
        told.push(comment_in_postgres(schema, name, column));
    }
    if !known.iter().any(|it| it == "written_at") {
        told.push(format!(
            "ALTER TABLE \"{schema}\".\"{name}\" ADD COLUMN IF NOT EXISTS \
             written_at timestamptz NOT NULL DEFAULT now()"
        ));
    }
}

fn comment_in_postgres(schema: &str, table: &str, column: &Column) -> String {
    format!(
        "COMMENT ON COLUMN \"{schema}\".\"{table}\".\"{}\" IS '{}'",
        column.name,
        column.doc.replace('\'', "''")
    )
}

fn lacking<'s>(shape: &'s Shape, known: &'s [String]) -> impl Iterator<Item = &'s Column> {
    let is_known = |column: &&Column| known.iter().any(|it| it == column.name);
    shape.columns.iter().filter(move |column| !is_known(column))
}

pub(super) fn postgres_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Json => "jsonb",
        Kind::Integer => "bigint",
        Kind::Number => "double precision",
        Kind::Flag => "boolean",
        Kind::Time => "timestamptz",
        Kind::Usd => "numeric(19,9)",
    }
}

/// Writes rows over those of the same key. Takes the instance, then a list of texts for each other
/// column.
pub(super) fn postgres_upsert(schema: &str, shape: &Shape) -> String {
    let rest = || shape.columns.iter().skip(1).enumerate();
    let join = |parts: Vec<String>| parts.join(", ");
    let names = join(rest().map(|(_, it)| format!("\"{}\"", it.name)).collect());
    let values = rest().map(|(n, it)| format!("v{n}::{}", postgres_type(it.kind)));
    let lists = rest().map(|(n, _)| format!("${}::text[]", n + 2));
    let aliases = rest().map(|(n, _)| format!("v{n}"));
    let updates = rest()
        .filter(|(_, it)| !shape.key.contains(&it.name))
        .map(|(_, it)| format!("\"{0}\" = excluded.\"{0}\"", it.name));
    format!(
        "INSERT INTO \"{schema}\".\"{}\" (\"instance\", {names}) SELECT $1::text, {} \
         FROM unnest({}) AS t({}) ON CONFLICT (\"{}\", \"{}\") DO UPDATE SET {}, \
         written_at = now()",
        shape.name(),
        join(values.collect()),
        join(lists.collect()),
        join(aliases.collect()),
        shape.key[0],
        shape.key[1],
        join(updates.collect()),
    )
}

/// What ClickHouse has to be told, in this order; nothing where all is there.
pub(super) fn clickhouse(
    database: &str,
    tables: &[SinkTable],
    found: &Found,
    times: Times,
) -> Vec<String> {
    let mut told = Vec::new();
    let now = clickhouse_time(times);
    if !found.contains_key("schema_version") {
        told.push(format!(
            "CREATE TABLE IF NOT EXISTS `{database}`.`schema_version` (`version` Int32, \
             `since` {now}) ENGINE = ReplacingMergeTree ORDER BY `version`"
        ));
    }
    if !found.contains_key("position") {
        told.push(format!(
            "CREATE TABLE IF NOT EXISTS `{database}`.`position` (`instance` String, \
             `ledger` String, `table_name` String, `position` String, `written_at` {now}, \
             `version` UInt64) ENGINE = ReplacingMergeTree(`version`) \
             ORDER BY (`instance`, `ledger`, `table_name`)"
        ));
    }
    for table in tables {
        let shape = Shape::of(*table);
        match found.get(shape.name()) {
            None => told.push(create_in_clickhouse(database, &shape, times)),
            Some(known) => {
                for column in lacking(&shape, known) {
                    told.push(add_in_clickhouse(database, &shape, column, times));
                }
            }
        }
    }
    told
}

fn create_in_clickhouse(database: &str, shape: &Shape, times: Times) -> String {
    let columns: String = shape.columns.iter().fold(String::new(), |mut all, column| {
        let of = clickhouse_type(column.kind, times);
        let of = if shape.is_required(column) {
            of.to_owned()
        } else {
            format!("Nullable({of})")
        };
        let _ = write!(all, "`{}` {of}{}, ", column.name, comment(column, times));
        all
    });
    let [instance, id] = shape.key;
    let (partition, order) = if shape.is_time_fixed {
        let time = shape.time;
        (
            format!("PARTITION BY toYYYYMM(`{time}`) "),
            format!("`{instance}`, `{time}`, `{id}`"),
        )
    } else {
        (String::new(), format!("`{instance}`, `{id}`"))
    };
    format!(
        "CREATE TABLE IF NOT EXISTS `{database}`.`{}` ({columns}`version` UInt64) \
         ENGINE = ReplacingMergeTree(`version`) {partition}ORDER BY ({order})",
        shape.name()
    )
}

fn add_in_clickhouse(database: &str, shape: &Shape, column: &Column, times: Times) -> String {
    let if_not = match times {
        Times::Micros => "IF NOT EXISTS ",
        Times::Seconds => "",
    };
    format!(
        "ALTER TABLE `{database}`.`{}` ADD COLUMN {if_not}`{}` Nullable({}){}",
        shape.name(),
        column.name,
        clickhouse_type(column.kind, times),
        comment(column, times)
    )
}

/// Old servers take one in another place.
fn comment(column: &Column, times: Times) -> String {
    match times {
        Times::Micros => {
            let doc = column.doc.replace('\\', "\\\\").replace('\'', "\\'");
            format!(" COMMENT '{doc}'")
        }
        Times::Seconds => String::new(),
    }
}

pub(super) fn clickhouse_type(kind: Kind, times: Times) -> &'static str {
    match kind {
        Kind::Text | Kind::Json => "String",
        Kind::Integer => "Int64",
        Kind::Number => "Float64",
        Kind::Flag => "UInt8",
        Kind::Time => clickhouse_time(times),
        Kind::Usd => "Decimal(19, 9)",
    }
}

fn clickhouse_time(times: Times) -> &'static str {
    match times {
        Times::Micros => "DateTime64(6, 'UTC')",
        Times::Seconds => "DateTime('UTC')",
    }
}

/// Begins rows as [`texts`](super::texts) writes them.
pub(super) fn clickhouse_insert(database: &str, shape: &Shape) -> String {
    let names: Vec<String> = shape
        .columns
        .iter()
        .map(|it| format!("`{}`", it.name))
        .collect();
    format!(
        "INSERT INTO `{database}`.`{}` ({}, `version`) FORMAT TabSeparated",
        shape.name(),
        names.join(", ")
    )
}

/// A type as people read it, for the documentation.
#[cfg(test)]
pub(super) fn type_names(kind: Kind) -> [&'static str; 2] {
    [postgres_type(kind), clickhouse_type(kind, Times::Micros)]
}

/// The name of a kind of database.
pub(super) fn kind_name(kind: SinkKind) -> &'static str {
    match kind {
        SinkKind::Postgres => "postgres",
        SinkKind::ClickHouse => "clickhouse",
    }
}

#[cfg(test)]
mod tests;
