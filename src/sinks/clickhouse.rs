//! ClickHouse over its HTTP interface: each lot is one insert, the place behind them the last one.
//!
//! Rows that come twice replace each other, so that what was cut short is simply done again. User
//! and password go in headers, never in a URL.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};

use super::postgres::check_version;
use super::rows::Lot;
use super::schema::{self, Found, Shape, Times, VERSION};
use super::store::{Known, Owner, Trouble, Unusable, chain};
use super::texts::{Reader, field, text};
use crate::config::{SinkConfig, SinkTable};
use crate::export::Value;
use crate::upstream::trust;

/// Of an answer no more is read.
const MAX_ANSWER: usize = 4 << 20;
const CODE: &str = "x-clickhouse-exception-code";
/// What is wrong with rows: they cannot be parsed, are out of range, too large, null where that may
/// not be, or break a constraint.
const ABOUT_ROWS: [u32; 15] = [6, 7, 26, 27, 33, 38, 41, 53, 69, 70, 72, 117, 321, 349, 469];
/// Behind these a message holds values of the row.
const BEFORE_VALUES: [&str; 2] = [" before: ", " Column values: "];

pub(super) struct ClickHouse {
    client: Client,
    url: Url,
    database: String,
    tables: Vec<SinkTable>,
    timeout: Duration,
    server: Server,
}

/// What is known of the server since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Server {
    times: Times,
    /// It may be set to acknowledge inserts before they are written.
    can_wait: bool,
}

impl ClickHouse {
    pub(super) fn new(config: &SinkConfig) -> Result<Self, Unusable> {
        let fail = |cause: &str| Unusable::Url(format!("its URL is not one of HTTP: {cause}"));
        let mut url: Url = config
            .url
            .expose()
            .parse()
            .map_err(|error| fail(&chain(&error)))?;
        let headers = headers(config, &url).ok_or_else(|| {
            Unusable::Url("its user and password do not fit into headers".to_owned())
        })?;
        // They go in headers alone, whatever shows a URL.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let trust = trust(url.scheme() == "https", config.extra_ca_file.as_ref())?;
        let client = Client::builder()
            .tls_backend_preconfigured(trust)
            .default_headers(headers)
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(config.timeout)
            .timeout(config.timeout)
            .user_agent(concat!("open-aiops/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Unusable::Url(chain(&error.without_url())))?;
        Ok(Self {
            client,
            url,
            database: config.schema.clone(),
            tables: config.tables.clone(),
            timeout: config.timeout,
            server: Server {
                times: Times::Micros,
                can_wait: false,
            },
        })
    }

    pub(super) async fn open(&mut self, owner: &Owner) -> Result<Known, Trouble> {
        let version = self.ask("SELECT version()").await?;
        self.server = Server::of(version.trim());
        let database = &self.database;
        let found = self.look().await?;
        if found.is_empty() && !self.has_database().await? {
            let create = format!("CREATE DATABASE IF NOT EXISTS `{database}`");
            self.ask(&create).await?;
        }
        if found.contains_key("schema_version") {
            let asked = format!("SELECT max(`version`) FROM `{database}`.`schema_version`");
            let version = self.ask(&asked).await?;
            check_version(database, version.trim().parse().ok())?;
        }
        let times = self.server.times;
        let statements = schema::clickhouse(database, &self.tables, &found, times);
        for statement in &statements {
            self.ask(statement).await?;
        }
        if !statements.is_empty() {
            let note = format!(
                "INSERT INTO `{database}`.`schema_version` (`version`, `since`) \
                 SELECT toInt32({VERSION}), now()"
            );
            self.ask(&note).await?;
        }
        self.known(owner).await
    }

    async fn has_database(&self) -> Result<bool, Trouble> {
        let database = &self.database;
        let asked = format!("SELECT count() FROM system.databases WHERE name = '{database}'");
        Ok(self.ask(&asked).await?.trim() != "0")
    }

    async fn look(&self) -> Result<Found, Trouble> {
        let asked = format!(
            "SELECT table, name FROM system.columns WHERE database = '{}' FORMAT TabSeparated",
            self.database
        );
        let mut found = Found::new();
        for line in self.ask(&asked).await?.lines() {
            if let Some((table, column)) = line.split_once('\t') {
                let columns = found.entry(table.to_owned()).or_default();
                columns.push(column.to_owned());
            }
        }
        Ok(found)
    }

    async fn known(&self, owner: &Owner) -> Result<Known, Trouble> {
        let (instance, ledger) = (quoted(&owner.instance), quoted(&owner.ledger));
        let asked = format!(
            "SELECT `table_name`, argMax(`position`, `version`), max(`version`) \
             FROM `{}`.`position` WHERE `instance` = {instance} AND `ledger` = {ledger} \
             GROUP BY `table_name` FORMAT TabSeparated",
            self.database
        );
        Ok(known(&self.tables, &self.ask(&asked).await?))
    }

    pub(super) async fn write(
        &self,
        owner: &Owner,
        lots: &[Lot],
        place: Option<&str>,
        version: u64,
    ) -> Result<(), Trouble> {
        for lot in lots.iter().filter(|lot| !lot.rows.is_empty()) {
            let shape = Shape::of(lot.table);
            let reader = Reader::ClickHouse(self.server.times);
            let lines = lines(&shape, lot, (reader, owner), version);
            let insert = schema::clickhouse_insert(&self.database, &shape);
            self.insert(&insert, lines).await?;
        }
        let Some(place) = place else { return Ok(()) };
        let names: Vec<String> = self.tables.iter().map(|it| quoted(it.name())).collect();
        let insert = format!(
            "INSERT INTO `{}`.`position` (`instance`, `ledger`, `table_name`, `position`, \
             `written_at`, `version`) SELECT {}, {}, arrayJoin([{}]), {}, now(), toUInt64({version})",
            self.database,
            quoted(&owner.instance),
            quoted(&owner.ledger),
            names.join(", "),
            quoted(place),
        );
        self.ask(&insert).await.map(drop)
    }

    /// What the server answers to one statement.
    async fn ask(&self, statement: &str) -> Result<String, Trouble> {
        let request = self.client.post(self.address(None));
        self.answer(request.body(statement.to_owned())).await
    }

    async fn insert(&self, statement: &str, lines: Vec<u8>) -> Result<(), Trouble> {
        let request = self.client.post(self.address(Some(statement)));
        self.answer(request.body(lines)).await.map(drop)
    }

    fn address(&self, statement: Option<&str>) -> Url {
        let mut url = self.url.clone();
        let mut pairs = url.query_pairs_mut();
        // Else an answer can begin well and end in a failure.
        pairs.append_pair("wait_end_of_query", "1");
        if self.server.can_wait {
            pairs.append_pair("wait_for_async_insert", "1");
        }
        if let Some(statement) = statement {
            pairs.append_pair("query", statement);
        }
        drop(pairs);
        url
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<String, Trouble> {
        let fail = |error: reqwest::Error| {
            let text = if error.is_timeout() {
                format!("no answer within {} ms", self.timeout.as_millis())
            } else {
                chain(&error.without_url())
            };
            Trouble::passing(&text)
        };
        let mut response = request.send().await.map_err(fail)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(fail)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Trouble::passing("it answered more than is read"));
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        match refusal(&response, &body) {
            Some(trouble) => Err(trouble),
            None => Ok(body),
        }
    }
}

impl Server {
    fn of(version: &str) -> Self {
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        let (year, month) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        let since = |of: (u32, u32)| (year, month) >= of;
        Self {
            times: if since((20, 1)) {
                Times::Micros
            } else {
                Times::Seconds
            },
            can_wait: since((21, 12)),
        }
    }
}

/// Lines of a table's name, its place and the version that was written with.
fn known(tables: &[SinkTable], lines: &str) -> Known {
    let mut known = Known {
        places: vec![None; tables.len()],
        version: 0,
    };
    for line in lines.lines() {
        let mut fields = line.split('\t');
        let (name, place) = (fields.next(), fields.next());
        let version = fields.next().and_then(|text| text.parse().ok());
        known.version = known.version.max(version.unwrap_or(0));
        let at = tables.iter().position(|it| Some(it.name()) == name);
        if let Some(of) = at.and_then(|at| known.places.get_mut(at)) {
            *of = place.map(str::to_owned);
        }
    }
    known
}

/// None where the statement was carried out.
fn refusal(response: &Response, body: &str) -> Option<Trouble> {
    let code = response
        .headers()
        .get(CODE)
        .and_then(|code| code.to_str().ok());
    let status = response.status();
    if status.is_success() && code.is_none() {
        return None;
    }
    let in_words = || body.strip_prefix("Code: ")?.split([',', '.']).next();
    let code = code
        .or_else(in_words)
        .and_then(|code| code.trim().parse().ok());
    let line = body.lines().next().unwrap_or_default();
    let end = BEFORE_VALUES.iter().filter_map(|it| line.find(it)).min();
    let line = end.and_then(|end| line.get(..end)).unwrap_or(line);
    let text = format!("{status}: {line}");
    Some(
        if code.is_some_and(|code: u32| ABOUT_ROWS.contains(&code)) {
            Trouble::with_rows(&text)
        } else {
            Trouble::passing(&text)
        },
    )
}

fn lines(shape: &Shape, lot: &Lot, (reader, owner): (Reader, &Owner), version: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in &lot.rows {
        field(Some(&owner.instance), &mut out);
        for (n, column) in shape.columns.iter().skip(1).enumerate() {
            out.push(b'\t');
            let value = entry.row.get(n).unwrap_or(&Value::Null);
            field(text(column, value, reader).as_deref(), &mut out);
        }
        out.extend_from_slice(format!("\t{version}\n").as_bytes());
    }
    out
}

fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{text}'")
}

/// Who asks. None where that does not fit into headers.
fn headers(config: &SinkConfig, url: &Url) -> Option<HeaderMap> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let of_url = Some(url.username()).filter(|user| !user.is_empty());
    let user = config.user.clone().or_else(|| of_url.map(decoded));
    let password = config.password.as_ref().map(|it| it.expose().to_owned());
    let password = password.or_else(|| url.password().map(decoded));
    let mut headers = HeaderMap::new();
    for (name, said) in [("x-clickhouse-user", user), ("x-clickhouse-key", password)] {
        if let Some(said) = said {
            let mut value = HeaderValue::from_bytes(said.as_bytes()).ok()?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    Some(headers)
}

#[cfg(test)]
mod tests;
