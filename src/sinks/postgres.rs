//! PostgreSQL: rows and the place behind them in one transaction.
//!
//! Rows go as a list of texts for each column, in one statement that is not prepared beforehand, so
//! that a pooler in between is no matter. The connection is made anew after any failure.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::{LoadBalanceHosts, SslMode};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Error, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::rows::Lot;
use super::schema::{self, Found, Shape, VERSION};
use super::store::{Known, Owner, Trouble, Unusable, chain};
use super::texts::{Reader, text};
use crate::config::{Secret, SinkConfig, SinkTable};
use crate::upstream::trust;

/// Taken while tables are made, by all who make them.
const LOCK: i64 = 0x6f70_656e_6169_6f70;

const FOUND: &str = "SELECT c.relname::text, a.attname::text FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'f', 'v') AND a.attnum > 0 AND NOT a.attisdropped";

pub(super) struct Postgres {
    config: Config,
    /// Of several hosts, as configured.
    order: LoadBalanceHosts,
    tls: MakeRustlsConnect,
    schema: String,
    tables: Vec<SinkTable>,
    timeout: Duration,
    open: Option<Open>,
}

struct Open {
    client: Client,
    /// Drives the connection; ends with it.
    driver: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Postgres {
    pub(super) fn new(config: &SinkConfig) -> Result<Self, Unusable> {
        let parsed = parse(config).map_err(Unusable::Url)?;
        let is_secure = parsed.get_ssl_mode() != SslMode::Disable;
        let trust = trust(is_secure, config.extra_ca_file.as_ref())?;
        Ok(Self {
            order: parsed.get_load_balance_hosts(),
            config: parsed,
            tls: MakeRustlsConnect::new(trust),
            schema: config.schema.clone(),
            tables: config.tables.clone(),
            timeout: config.timeout,
            open: None,
        })
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }

    pub(super) async fn open(&mut self, owner: &Owner) -> Result<Known, Trouble> {
        self.close();
        let limit = self.timeout;
        let opened = within(limit, self.connect_and_prepare(owner)).await;
        // Else a host that takes connections and says nothing is asked first for ever.
        self.config.load_balance_hosts(match &opened {
            Ok(_) => self.order,
            Err(_) => LoadBalanceHosts::Random,
        });
        opened
    }

    async fn connect_and_prepare(&mut self, owner: &Owner) -> Result<Known, Trouble> {
        let connected = self.config.connect(self.tls.clone()).await;
        let (client, connection) = connected.map_err(|error| trouble(&error))?;
        let driver = tokio::spawn(async move {
            // What went wrong with it is said by whatever was asked for through it.
            drop(connection.await);
        });
        let mut open = Open { client, driver };
        let known = self.prepare(&mut open.client, owner).await?;
        self.open = Some(open);
        Ok(known)
    }

    async fn prepare(&self, client: &mut Client, owner: &Owner) -> Result<Known, Trouble> {
        let fail = |error: Error| trouble(&error);
        let encoding = client
            .query_typed("SELECT current_setting('server_encoding')", &[])
            .await
            .map_err(fail)?;
        let encoding: &str = encoding.first().map_or("", |row| row.get(0));
        if encoding != "UTF8" {
            let told = format!("the database is encoded in {encoding}, expected UTF8");
            return Err(Trouble::passing(&told));
        }
        let work = client.transaction().await.map_err(fail)?;
        work.query_typed("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)])
            .await
            .map_err(fail)?;
        self.complete(&work).await?;
        let places = format!(
            "SELECT table_name, \"position\" FROM \"{}\".\"position\" \
             WHERE instance = $1 AND ledger = $2",
            self.schema
        );
        let named: [(&(dyn ToSql + Sync), Type); 2] =
            [(&owner.instance, Type::TEXT), (&owner.ledger, Type::TEXT)];
        let rows = work.query_typed(&places, &named).await.map_err(fail)?;
        work.commit().await.map_err(fail)?;
        let place = |table: &SinkTable| {
            let row = rows
                .iter()
                .find(|row| row.get::<_, &str>(0) == table.name());
            row.map(|row| row.get(1))
        };
        Ok(Known {
            places: self.tables.iter().map(place).collect(),
            version: 0,
        })
    }

    /// Brings the tables to what they should be.
    async fn complete(&self, work: &Transaction<'_>) -> Result<(), Trouble> {
        let fail = |error: Error| trouble(&error);
        let schema = &self.schema;
        let found = self.look(work).await?;
        if found
            .as_ref()
            .is_some_and(|it| it.contains_key("schema_version"))
        {
            let asked = format!("SELECT max(version) FROM \"{schema}\".schema_version");
            let rows = work.query_typed(&asked, &[]).await.map_err(fail)?;
            let version: Option<i32> = rows.first().and_then(|row| row.get(0));
            check_version(schema, version)?;
        }
        let statements = schema::postgres(schema, &self.tables, found.as_ref());
        if statements.is_empty() {
            return Ok(());
        }
        for statement in &statements {
            work.batch_execute(statement).await.map_err(fail)?;
        }
        let note = format!(
            "INSERT INTO \"{schema}\".schema_version (version) VALUES ({VERSION}) \
             ON CONFLICT DO NOTHING"
        );
        work.batch_execute(&note).await.map_err(fail)
    }

    /// The tables of the schema; none where there is no such schema.
    async fn look(&self, work: &Transaction<'_>) -> Result<Option<Found>, Trouble> {
        let fail = |error: Error| trouble(&error);
        let named: [(&(dyn ToSql + Sync), Type); 1] = [(&self.schema, Type::TEXT)];
        let is_there = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1";
        let schemas = work.query_typed(is_there, &named).await.map_err(fail)?;
        if schemas.is_empty() {
            return Ok(None);
        }
        let rows = work.query_typed(FOUND, &named).await.map_err(fail)?;
        let mut found = Found::new();
        for row in rows {
            let columns = found.entry(row.get(0)).or_default();
            columns.push(row.get(1));
        }
        Ok(Some(found))
    }

    pub(super) async fn write(
        &mut self,
        owner: &Owner,
        lots: &[Lot],
        place: Option<&str>,
    ) -> Result<(), Trouble> {
        let (limit, schema) = (self.timeout, self.schema.as_str());
        let Some(open) = &mut self.open else {
            return Err(Trouble::passing("the connection is closed"));
        };
        let place = place.map(|place| (place, self.tables.as_slice()));
        within(limit, write(&mut open.client, (schema, owner), lots, place)).await
    }
}

async fn write(
    client: &mut Client,
    (schema, owner): (&str, &Owner),
    lots: &[Lot],
    place: Option<(&str, &[SinkTable])>,
) -> Result<(), Trouble> {
    let fail = |error: Error| trouble(&error);
    let work = client.transaction().await.map_err(fail)?;
    for lot in lots.iter().filter(|lot| !lot.rows.is_empty()) {
        let shape = Shape::of(lot.table);
        let lists = lists(&shape, lot);
        let instance: (&(dyn ToSql + Sync), Type) = (&owner.instance, Type::TEXT);
        let lists = lists
            .iter()
            .map(|list| (list as &(dyn ToSql + Sync), Type::TEXT_ARRAY));
        let given: Vec<_> = std::iter::once(instance).chain(lists).collect();
        let upsert = schema::postgres_upsert(schema, &shape);
        work.execute_typed(&upsert, &given).await.map_err(fail)?;
    }
    if let Some((place, tables)) = place {
        let move_on = format!(
            "INSERT INTO \"{schema}\".\"position\" (instance, ledger, table_name, \"position\") \
             SELECT $1, $2, t, $3 FROM unnest($4::text[]) AS u(t) \
             ON CONFLICT (instance, ledger, table_name) DO UPDATE SET \
             \"position\" = excluded.\"position\", written_at = now()"
        );
        let names: Vec<&str> = tables.iter().map(|table| table.name()).collect();
        let given: [(&(dyn ToSql + Sync), Type); 4] = [
            (&owner.instance, Type::TEXT),
            (&owner.ledger, Type::TEXT),
            (&place, Type::TEXT),
            (&names, Type::TEXT_ARRAY),
        ];
        work.execute_typed(&move_on, &given).await.map_err(fail)?;
    }
    work.commit().await.map_err(fail)
}

/// The texts of each column but the instance.
fn lists(shape: &Shape, lot: &Lot) -> Vec<Vec<Option<String>>> {
    let columns = shape.columns.iter().skip(1).enumerate();
    let list = |(n, column)| {
        let value = |value| text(column, value, Reader::Postgres);
        let rows = lot.rows.iter();
        rows.map(|entry| Some(value(entry.row.get(n)?)?.into_owned()))
            .collect()
    };
    columns.map(list).collect()
}

pub(super) fn check_version(schema: &str, version: Option<i32>) -> Result<(), Trouble> {
    match version {
        Some(version) if version > VERSION => Err(Trouble::passing(&format!(
            "the tables in {schema} are of version {version}, made by a newer open-aiops; expected \
             {VERSION} at most"
        ))),
        _ => Ok(()),
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| {
        let told = format!("no answer within {} ms", limit.as_millis());
        Err(Trouble::passing(&told))
    })
}

fn trouble(error: &Error) -> Trouble {
    let Some(said) = error.as_db_error() else {
        return Trouble::passing(&chain(error));
    };
    let text = format!("{} (SQLSTATE {})", said.message(), said.code().code());
    if is_about_rows(said) {
        Trouble::with_rows(&text)
    } else {
        Trouble::passing(&text)
    }
}

/// Data exceptions, broken constraints, and what is too long for an index.
fn is_about_rows(said: &DbError) -> bool {
    let code = said.code().code();
    code.starts_with("22")
        || code.starts_with("23")
        || *said.code() == SqlState::PROGRAM_LIMIT_EXCEEDED
}

/// The URL with what is configured beside it. What `sslmode` asks for beyond encryption is always
/// checked: the certificate and the name in it. Where it asks for nothing, nothing leaves this
/// machine unencrypted, and nothing is encrypted within it: servers often have a certificate that
/// nobody can check.
fn parse(config: &SinkConfig) -> Result<Config, String> {
    let url = config.url.expose();
    let url = url.replace("sslmode=verify-full", "sslmode=require");
    let url = url.replace("sslmode=verify-ca", "sslmode=require");
    let mut parsed: Config = url.parse().map_err(|error: Error| {
        let cause = chain(&error);
        format!("its URL is not one of PostgreSQL: {cause}")
    })?;
    if !url.contains("sslmode=") {
        parsed.ssl_mode(if config.is_local() {
            SslMode::Disable
        } else {
            SslMode::Require
        });
    }
    if let Some(user) = &config.user {
        parsed.user(user);
    }
    if let Some(password) = config.password.as_ref().map(Secret::expose) {
        parsed.password(password);
    }
    if parsed.get_application_name().is_none() {
        parsed.application_name("open-aiops");
    }
    if parsed.get_connect_timeout().is_none() {
        // Each host may be away, and the last one needs its time too.
        let hosts = parsed.get_hosts().len().max(parsed.get_hostaddrs().len());
        let parts = u32::try_from(hosts + 1).unwrap_or(u32::MAX);
        parsed.connect_timeout(config.timeout / parts);
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests;
