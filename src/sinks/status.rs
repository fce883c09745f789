//! How one sink does: kept for whoever asks, counted, and told of where that changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use utoipa::ToSchema;

use super::rows::Lot;
use super::schema::kind_name;
use super::store::{Owner, Trouble};
use crate::clock::Clock;
use crate::config::{SinkConfig, SinkTable};
use crate::core::alert::{About, Scope, Signal};
use crate::core::id::Label;
use crate::core::text::many;
use crate::core::time::Timestamp;
use crate::ledger::{Bookmark, Event, Ledger};
use crate::metrics::Metrics;

/// Attempts in a row that fail before it is more than a hiccup.
const MANY_ATTEMPTS: u32 = 3;

/// How a sink does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SinkState {
    /// It was not reached yet.
    Starting,
    Working,
    /// The last attempt failed; it is tried again.
    Failing,
}

/// One sink. Never shows its URL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SinkStatus {
    pub name: Label,
    /// `postgres` or `clickhouse`
    pub kind: String,
    /// Schema in PostgreSQL, database in ClickHouse.
    pub schema: String,
    pub tables: Vec<String>,
    /// What this ledger is called there.
    pub instance: String,
    pub state: SinkState,
    /// What went wrong last, while it fails.
    pub error: Option<String>,
    pub failing_since: Option<Timestamp>,
    /// Place in the log up to which all is there.
    pub position: Option<String>,
    /// How far that is behind the end of the log; null until the database said how far it is.
    pub lag_bytes: Option<u64>,
    /// What was recorded by then is there.
    pub delivered_until: Option<Timestamp>,
    /// Rows written since the start of this process, by table.
    pub rows: BTreeMap<String, u64>,
    /// Rows that the database did not take.
    pub refused_rows: u64,
    /// Times that retention removed records before they were written.
    pub gaps: u64,
    /// Attempts that failed.
    pub failures: u64,
}

/// What the task of a sink says of itself. Shared with whoever asks.
pub(super) struct Reporter {
    name: Label,
    ledger: Ledger,
    clock: Clock,
    metrics: Arc<Metrics>,
    status: Mutex<Kept>,
}

struct Kept {
    status: SinkStatus,
    in_a_row: u32,
    /// That it fails was told as an event.
    is_told: bool,
}

impl Reporter {
    pub(super) fn new(
        config: &SinkConfig,
        owner: &Owner,
        (ledger, clock, metrics): (&Ledger, &Clock, &Arc<Metrics>),
    ) -> Self {
        let names = config.tables.iter().map(|table| table.name());
        metrics.sink_begins(&config.name, names.clone());
        let status = SinkStatus {
            name: config.name.clone(),
            kind: kind_name(config.kind()).to_owned(),
            schema: config.schema.clone(),
            tables: names.map(str::to_owned).collect(),
            instance: owner.instance.clone(),
            state: SinkState::Starting,
            error: None,
            failing_since: None,
            position: None,
            lag_bytes: None,
            delivered_until: None,
            rows: BTreeMap::new(),
            refused_rows: 0,
            gaps: 0,
            failures: 0,
        };
        Self {
            name: config.name.clone(),
            ledger: ledger.clone(),
            clock: clock.clone(),
            metrics: Arc::clone(metrics),
            status: Mutex::new(Kept {
                status,
                in_a_row: 0,
                is_told: false,
            }),
        }
    }

    pub(super) fn status(&self) -> SinkStatus {
        self.lock().status.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt failed; `lag_bytes` is how far it is behind by now. Says how many did in a row.
    pub(super) fn failed(&self, trouble: &Trouble, lag_bytes: Option<u64>) -> u32 {
        let (is_first, is_news, in_a_row) = {
            let mut kept = self.lock();
            kept.in_a_row = kept.in_a_row.saturating_add(1);
            let in_a_row = kept.in_a_row;
            let is_news = in_a_row >= MANY_ATTEMPTS && !kept.is_told;
            kept.is_told |= is_news;
            let status = &mut kept.status;
            status.failures += 1;
            status.error = Some(trouble.text.clone());
            status.lag_bytes = lag_bytes.or(status.lag_bytes);
            status.failing_since.get_or_insert(self.clock.now());
            status.state = SinkState::Failing;
            self.metrics.sink_failed(&self.name, status.lag_bytes);
            (in_a_row == 1, is_news, in_a_row)
        };
        if is_first {
            let (sink, cause) = (&self.name, &trouble.text);
            tracing::warn!("sink {sink} fails, it is tried again: {cause}");
        }
        if is_news {
            let details = format!("sink {}: {}", self.name, trouble.text);
            self.tell("sink_failing", details);
        }
        in_a_row
    }

    /// Rows were taken.
    pub(super) fn wrote(&self, lot: &Lot) {
        let count = lot.rows.len() as u64;
        if count == 0 {
            return;
        }
        let table = lot.table.name();
        *self.lock().status.rows.entry(table.to_owned()).or_default() += count;
        self.metrics.sink_rows(&self.name, table, count);
    }

    /// All is there that was recorded by `at`, or that lies before `place`.
    pub(super) fn reached(&self, place: Bookmark, lag_bytes: u64, at: Option<Timestamp>) {
        let was_told = {
            let mut kept = self.lock();
            let status = &mut kept.status;
            status.state = SinkState::Working;
            (status.error, status.failing_since) = (None, None);
            status.position = Some(place.to_string());
            status.lag_bytes = Some(lag_bytes);
            status.delivered_until = at.or(status.delivered_until);
            let failed = std::mem::take(&mut kept.in_a_row) > 0;
            if failed {
                tracing::info!("sink {} works again", self.name);
            }
            std::mem::take(&mut kept.is_told)
        };
        self.metrics.sink_reached(&self.name, lag_bytes, at);
        if was_told {
            let details = format!("sink {} works again", self.name);
            self.tell("sink_recovered", details);
        }
    }

    /// It is not configured any more; what is not there does not fail.
    pub(super) fn gone(&self) {
        self.metrics.sink_gone(&self.name);
        if std::mem::take(&mut self.lock().is_told) {
            let details = format!("sink {} is not configured any more", self.name);
            self.tell("sink_recovered", details);
        }
    }

    /// Rows that the database does not take were left out.
    pub(super) fn refused(&self, table: SinkTable, count: u64, trouble: &Trouble) {
        self.lock().status.refused_rows += count;
        self.metrics.sink_refused(&self.name, count);
        let details = format!(
            "sink {}: {} of {} not taken and left out: {}",
            self.name,
            many(count, "row"),
            table.name(),
            trouble.text
        );
        tracing::warn!("{details}");
        self.tell("sink_incomplete", details);
    }

    /// Records were gone before they were read.
    pub(super) fn missed(&self) {
        self.lock().status.gaps += 1;
        self.metrics.sink_gap(&self.name);
        let details = format!(
            "sink {}: retention removed records before they were written; it goes on from the oldest \
             that are kept",
            self.name
        );
        tracing::warn!("{details}");
        self.tell("sink_incomplete", details);
    }

    fn tell(&self, what: &'static str, details: String) {
        let signal = Signal::of(Scope::new(About::Sink, &self.name));
        let event = Event::own(self.clock.now(), what, Some(details)).saying(signal);
        if let Err(error) = self.ledger.event(event) {
            tracing::debug!(%error, "the event {what} is not recorded");
        }
    }
}
