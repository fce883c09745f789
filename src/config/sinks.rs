//! Databases that recorded rows are copied to: how `[[sink]]` is read and written.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use strum::{EnumString, IntoStaticStr};

use super::read::Section;
use super::render::{list, quoted};
use super::sections::Environment;
use super::value::{self, Kind, duration_text};
use super::{Secret, check};
use crate::core::id::Label;

const MAX_SINKS: usize = 8;
const MAX_INTERVAL: Duration = Duration::from_secs(3600);
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// As PostgreSQL takes it.
const MAX_SCHEMA_BYTES: usize = 63;

/// One database, and what it gets.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    pub name: Label,
    /// Of PostgreSQL or of the HTTP interface of ClickHouse.
    pub url: Secret,
    /// In place of the one in the URL.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Schema in PostgreSQL, database in ClickHouse.
    pub schema: String,
    /// At least one.
    pub tables: Vec<SinkTable>,
    pub since: Since,
    /// What this ledger is called there, if need be as `[shared]` calls this instance; none makes a
    /// name of the ledger itself.
    pub instance: Option<Label>,
    /// How long rows wait for others to be written with.
    pub interval: Duration,
    /// For a connection, and for one batch.
    pub timeout: Duration,
    pub extra_ca_file: Option<PathBuf>,
}

/// What kind of database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    Postgres,
    ClickHouse,
}

/// What can be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum SinkTable {
    Calls,
    Decisions,
    Metrics,
}

/// What a database gets that knows nothing of this ledger yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Since {
    /// All that the ledger has.
    #[default]
    Start,
    /// What is recorded from then on.
    Now,
}

/// The value is not shown: it may hold a password.
const URL: Kind<String> = Kind {
    hidden: true,
    ..Kind::new(
        "a URL without a password that begins with postgres://, http:// or https://",
        "\"postgres://aiops@db.internal/observability\"",
        |value| {
            let url = value.as_str()?;
            let is_open = is_url(url) && !holds_password(url);
            is_open.then(|| url.to_owned())
        },
    )
};

const VARIABLE: Kind<String> = Kind {
    example: "\"AIOPS_SINK_URL\"",
    ..value::VARIABLE
};

const PASSWORD: Kind<String> = Kind {
    example: "\"AIOPS_SINK_PASSWORD\"",
    ..value::VARIABLE
};

const USER: Kind<String> = Kind::new("the name of a user", "\"aiops\"", |value| {
    let user = value.as_str()?;
    let is_plain = !user.is_empty() && user.chars().all(|c| c.is_ascii_graphic());
    is_plain.then(|| user.to_owned())
});

const SCHEMA: Kind<String> = Kind::new(
    "a name of up to 63 lower-case letters, digits and '_' that begins with a letter",
    "\"open_aiops\"",
    |value| {
        let name = value.as_str()?;
        let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.len() <= MAX_SCHEMA_BYTES
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        is_name.then(|| name.to_owned())
    },
);

const TABLE: Kind<SinkTable> = Kind::new(
    "\"calls\", \"decisions\" or \"metrics\"",
    "\"calls\"",
    |value| value.as_str()?.parse().ok(),
);

const SINCE: Kind<Since> = Kind::new("\"start\" or \"now\"", "\"start\"", |value| {
    value.as_str()?.parse().ok()
});

const INTERVAL: Kind<Duration> = Kind::new(
    "a duration above zero and up to \"1h\"",
    "\"5s\"",
    |value| (value::DURATION.parse)(value).filter(|time| *time <= MAX_INTERVAL),
);

const TIMEOUT: Kind<Duration> = Kind::new(
    "a duration above zero and up to \"10m\"",
    "\"30s\"",
    |value| (value::DURATION.parse)(value).filter(|time| *time <= MAX_TIMEOUT),
);

impl SinkTable {
    pub const ALL: [Self; 3] = [Self::Calls, Self::Decisions, Self::Metrics];

    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl SinkConfig {
    pub fn kind(&self) -> SinkKind {
        if is_http(self.url.expose()) {
            SinkKind::ClickHouse
        } else {
            SinkKind::Postgres
        }
    }

    /// Whether all that it goes to is on this machine.
    pub fn is_local(&self) -> bool {
        hosts(self.url.expose()).into_iter().all(is_local)
    }
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

fn is_url(url: &str) -> bool {
    let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let is_one =
        !rest.is_empty() && url.chars().all(|c| c.is_ascii_graphic()) && !url.contains('#');
    // Sockets have no host in their URL, so of those of PostgreSQL no more is known here.
    is_one && (is_postgres || is_http(url) && has_host(rest))
}

fn has_host(rest: &str) -> bool {
    let host = authority(rest).rsplit('@').next().unwrap_or_default();
    !host.is_empty() && !host.starts_with(':')
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?']).next().unwrap_or_default()
}

/// A password may have any characters, so that where the host begins is not sure.
fn holds_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || rest.contains("password=")
}

/// Names, addresses and directories of sockets, as the URL has them.
fn hosts(url: &str) -> Vec<&str> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    if is_http(url) {
        return authority(rest).rsplit('@').take(1).collect();
    }
    // As the driver takes it apart.
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let named = pairs.filter(|(key, _)| ["host", "hostaddr"].contains(key));
    let all = std::iter::once(authority(rest)).chain(named.map(|(_, host)| host));
    let each = all.flat_map(|hosts| hosts.split(','));
    each.filter(|host| !host.is_empty()).collect()
}

fn is_local(host: &str) -> bool {
    let is_socket = host.starts_with('/') || host.starts_with("%2");
    let url = format!("http://{host}");
    is_socket || url.parse().is_ok_and(|url| check::is_local(&url))
}

pub(super) fn read(root: &mut Section<'_, '_>, env: Environment<'_>) -> Vec<SinkConfig> {
    let mut names = BTreeSet::new();
    let sinks = root.tables("sink", |n, section| {
        if n == MAX_SINKS {
            section.problem("name", "at most 8 sinks", "");
        }
        let name = section.demand("name", &value::NAME.like("\"warehouse\""));
        if name.as_ref().is_some_and(|it| !names.insert(it.clone())) {
            section.problem("name", "a name that no other sink has", "");
        }
        sink(section, name, env)
    });
    sinks.into_iter().flatten().collect()
}

/// One name for one process: what other instances call it, unless a sink says otherwise.
pub(super) fn name_after(sinks: &mut [SinkConfig], instance: Option<&Label>) {
    for sink in sinks.iter_mut().filter(|sink| sink.instance.is_none()) {
        sink.instance = instance.cloned();
    }
}

fn sink(
    section: &mut Section<'_, '_>,
    name: Option<Label>,
    env: Environment<'_>,
) -> Option<SinkConfig> {
    let url = url(section, env);
    section.forbid(
        "password",
        "the password in an environment variable and that variable's name here",
        "password_env = \"AIOPS_SINK_PASSWORD\"",
    );
    let user = section.get("user", &USER);
    let password = section.get("password_env", &PASSWORD);
    let password =
        password.map(|variable| from_environment(section, "password_env", variable, env));
    let mut schema = "open_aiops".to_owned();
    section.set("schema", &SCHEMA, &mut schema);
    let mut tables = section.list("tables", &TABLE);
    tables.sort_unstable();
    tables.dedup();
    if tables.is_empty() {
        tables = SinkTable::ALL.to_vec();
    }
    let since = section.get("since", &SINCE).unwrap_or_default();
    let instance = section.get("instance", &value::NAME.like("\"eu-1\""));
    let (mut interval, mut timeout) = (Duration::from_secs(5), Duration::from_secs(30));
    section.set("interval", &INTERVAL, &mut interval);
    section.set("timeout", &TIMEOUT, &mut timeout);
    let extra_ca_file = section.get("extra_ca_file", &value::PATH);
    if let Some(file) = &extra_ca_file {
        check::certificates(section, "extra_ca_file", file);
    }
    Some(SinkConfig {
        name: name?,
        url: url?,
        user,
        password,
        schema,
        tables,
        since,
        instance,
        interval,
        timeout,
        extra_ca_file,
    })
}

/// With a password in it, it stands in the environment, never in the file.
fn url(section: &mut Section<'_, '_>, env: Environment<'_>) -> Option<Secret> {
    let written = section.get("url", &URL).map(Secret::new);
    let variable = section.get("url_env", &VARIABLE);
    match (section.has("url"), section.has("url_env")) {
        (true, false) => written,
        (true, true) => {
            section.problem("url_env", "either url or url_env, not both", "");
            written
        }
        (false, true) => {
            let url = from_environment(section, "url_env", variable?, env);
            let name = url.variable().unwrap_or_default();
            if !url.expose().is_empty() && !is_url(url.expose()) {
                let expected = format!(
                    "a URL that begins with postgres://, http:// or https://: that in {name} is none"
                );
                section.problem("url_env", &expected, "");
            }
            Some(url)
        }
        (false, false) => {
            let expected = "the name of an environment variable with the URL of a database, or url";
            section.problem("url_env", expected, "url_env = \"AIOPS_SINK_URL\"");
            None
        }
    }
}

fn from_environment(
    section: &mut Section<'_, '_>,
    key: &str,
    variable: String,
    env: Environment<'_>,
) -> Secret {
    let found = env(&variable).map(|found| found.trim().to_owned());
    let found = found.unwrap_or_default();
    if found.is_empty() {
        let expected = format!("an environment variable that is set: {variable} is not");
        section.problem(key, &expected, "");
    } else if found.chars().any(char::is_control) {
        let expected = format!("a value without control characters: that in {variable} has some");
        section.problem(key, &expected, "");
    }
    Secret::from_variable(variable, found)
}

/// Sinks whose rows and password go over the net in clear.
pub(super) fn warnings(sinks: &[SinkConfig]) -> impl Iterator<Item = String> + '_ {
    let in_clear = sinks
        .iter()
        .filter(|sink| may_be_plain(sink.url.expose()) && !sink.is_local());
    in_clear.map(|sink| {
        let name = &sink.name;
        format!(
            "sink {name}: its rows and password may go unencrypted; https, or sslmode=require in the \
             URL of PostgreSQL, encrypts them"
        )
    })
}

fn may_be_plain(url: &str) -> bool {
    let plain = ["sslmode=disable", "sslmode=prefer"];
    url.starts_with("http://") || plain.iter().any(|mode| url.contains(mode))
}

pub(super) fn write(f: &mut impl Write, sink: &SinkConfig) -> fmt::Result {
    writeln!(f, "\n[[sink]]")?;
    writeln!(f, "name = {}", quoted(&sink.name))?;
    match sink.url.variable() {
        Some(variable) => writeln!(f, "url_env = {}", quoted(variable))?,
        None => writeln!(f, "url = {}", quoted(sink.url.expose()))?,
    }
    if let Some(user) = &sink.user {
        writeln!(f, "user = {}", quoted(user))?;
    }
    if let Some(variable) = sink.password.as_ref().and_then(Secret::variable) {
        writeln!(f, "password_env = {}", quoted(variable))?;
    }
    writeln!(f, "schema = {}", quoted(&sink.schema))?;
    let tables: Vec<&str> = sink.tables.iter().map(|table| table.name()).collect();
    writeln!(f, "tables = {}", list(&tables))?;
    let since: &'static str = sink.since.into();
    writeln!(f, "since = {}", quoted(since))?;
    if let Some(instance) = &sink.instance {
        writeln!(f, "instance = {}", quoted(instance))?;
    }
    writeln!(f, "interval = {}", quoted(duration_text(sink.interval)))?;
    writeln!(f, "timeout = {}", quoted(duration_text(sink.timeout)))?;
    if let Some(file) = &sink.extra_ca_file {
        writeln!(f, "extra_ca_file = {}", quoted(file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
