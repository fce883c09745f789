//! One sink at work: reads on from the place that the database knows, writes, and begins again from
//! there after any failure. Nothing of it is kept on this machine.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::gather::{Gathered, Gatherer};
use super::rows::Lot;
use super::status::Reporter;
use super::store::{Owner, Store, Trouble};
use crate::clock::Clock;
use crate::config::{Since, SinkConfig, SinkTable};
use crate::ledger::{Bookmark, Feed, IndexError, Ledger};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Attempts before rows are left out of which the database takes none: it may be mended meanwhile.
const PATIENCE: u32 = 10;

pub(super) struct Task {
    pub(super) config: SinkConfig,
    pub(super) store: Store,
    pub(super) owner: Owner,
    pub(super) ledger: Ledger,
    pub(super) clock: Clock,
    pub(super) reporter: Arc<Reporter>,
    /// Set when what is there is to be written, and no more.
    pub(super) stop: watch::Receiver<bool>,
    /// The last place that was written.
    pub(super) place: Option<Bookmark>,
    /// Grows with each batch.
    pub(super) version: u64,
    /// Attempts in a row that failed.
    pub(super) failed: u32,
}

/// Rows that were not taken, of one table.
struct Refused {
    table: SinkTable,
    count: u64,
    trouble: Trouble,
}

impl Task {
    /// Works until it is told to stop.
    pub(super) async fn run(mut self) {
        while let Err(trouble) = self.session().await {
            self.store.close();
            let lag = self.place.map(|place| Feed::at(&self.ledger, place).lag());
            self.failed = self.reporter.failed(&trouble, lag);
            if *self.stop.borrow() {
                break;
            }
            self.rest(pause(self.config.name.as_str(), self.failed))
                .await;
        }
    }

    /// From opening the database to the first failure, or to the end.
    async fn session(&mut self) -> Result<(), Trouble> {
        let place = self.store.open(&self.owner).await?;
        let mut gatherer = self.begin(place).await?;
        loop {
            let (is_last, at) = (*self.stop.borrow(), self.clock.now());
            let gathered;
            (gatherer, gathered) = self.gather(gatherer, is_last).await?;
            if gathered.is_missed {
                self.reporter.missed();
            }
            let (is_full, place, lag) = (gathered.is_full, gathered.place, gathered.lag_bytes);
            if gathered.is_missed || !gathered.is_empty() {
                self.deliver(gathered).await?;
                self.place = Some(place);
            }
            self.failed = 0;
            self.reporter.reached(place, lag, (!is_full).then_some(at));
            match (is_full, is_last) {
                (true, _) => {}
                (false, true) => return Ok(()),
                (false, false) => self.rest(self.config.interval).await,
            }
        }
    }

    /// Where to read on. Where only what comes is wanted, the place is written at once: later it would
    /// be another one.
    async fn begin(&mut self, place: Option<String>) -> Result<Gatherer, Trouble> {
        let feed = match &place {
            Some(text) => {
                let place = text.parse();
                let place = place.map_err(|error| {
                    Trouble::passing(&format!("the position there is `{text}`: {error}"))
                })?;
                Feed::at(&self.ledger, place)
            }
            None if self.config.since == Since::Now => Feed::from_end(&self.ledger),
            None => Feed::from_start(&self.ledger),
        };
        let gatherer = Gatherer::new(&self.ledger, &self.config.tables, feed);
        if place.is_none() && self.config.since == Since::Now {
            let now = gatherer.place().to_string();
            self.write(&[], Some(&now)).await?;
        }
        self.place = Some(gatherer.place());
        Ok(gatherer)
    }

    /// Reads on a thread that may wait for the disk. The last time, all that was recorded by now.
    async fn gather(
        &self,
        mut gatherer: Gatherer,
        is_last: bool,
    ) -> Result<(Gatherer, Gathered), Trouble> {
        let ledger = self.ledger.clone();
        let read = tokio::task::spawn_blocking(move || {
            if is_last {
                ledger.sync_index();
            }
            let gathered = gatherer.next()?;
            Ok::<_, IndexError>((gatherer, gathered))
        });
        let told = |cause: String| Trouble::passing(&format!("the ledger cannot be read: {cause}"));
        match read.await {
            Ok(read) => read.map_err(|error| told(error.to_string())),
            Err(error) => Err(told(error.to_string())),
        }
    }

    /// All of it at once; where the database does not take that, whatever of it it takes.
    async fn deliver(&mut self, gathered: Gathered) -> Result<(), Trouble> {
        let place = gathered.place.to_string();
        match self.write(&gathered.lots, Some(&place)).await {
            Err(trouble) if trouble.is_about_rows => {}
            done => return done,
        }
        let mut refused = Vec::new();
        for lot in gathered.lots {
            refused.extend(self.sift(lot).await?);
        }
        self.write(&[], Some(&place)).await?;
        for Refused {
            table,
            count,
            trouble,
        } in refused
        {
            self.reporter.refused(table, count, &trouble);
        }
        Ok(())
    }

    /// Writes the rows of a lot that the database takes, by halves. Where it takes none of them the
    /// fault is hardly with the rows: that is tried again for some time.
    async fn sift(&mut self, lot: Lot) -> Result<Option<Refused>, Trouble> {
        let (table, all) = (lot.table, lot.rows.len() as u64);
        let (mut left, mut count, mut last) = (vec![lot], 0, None);
        while let Some(lot) = left.pop() {
            match self.write(std::slice::from_ref(&lot), None).await {
                Ok(()) => {}
                Err(trouble) if !trouble.is_about_rows => return Err(trouble),
                Err(trouble) => {
                    last = Some(trouble);
                    match lot.halves() {
                        // The front first.
                        Some([front, back]) => left.extend([back, front]),
                        None => count += 1,
                    }
                }
            }
        }
        let Some(trouble) = last.filter(|_| count > 0) else {
            return Ok(None);
        };
        if count == all && self.failed < PATIENCE {
            let told = format!("no row of {} is taken: {}", table.name(), trouble.text);
            return Err(Trouble::passing(&told));
        }
        Ok(Some(Refused {
            table,
            count,
            trouble,
        }))
    }

    async fn write(&mut self, lots: &[Lot], place: Option<&str>) -> Result<(), Trouble> {
        let now = u64::try_from(self.clock.now().micros()).unwrap_or_default();
        self.version = now.max(self.version.saturating_add(1));
        let Self { store, owner, .. } = self;
        store.write(owner, lots, place, self.version).await?;
        lots.iter().for_each(|lot| self.reporter.wrote(lot));
        Ok(())
    }

    /// Waits, but not once it is told to stop.
    async fn rest(&mut self, pause: Duration) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// Longer each time, up to a minute, and not the same for all.
fn pause(name: &str, attempt: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    let whole = doubled.min(LONGEST_PAUSE);
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), u64::from(attempt));
    let share = u32::try_from(hash % 1000).unwrap_or_default();
    whole / 2 + whole / 2 * share / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_differ_by_name() {
        for attempt in 1..100 {
            let whole = FIRST_PAUSE
                .saturating_mul(1 << (attempt - 1).min(6))
                .min(LONGEST_PAUSE);
            let pause = pause("a", attempt);
            assert!(pause >= whole / 2 && pause <= whole, "{attempt}: {pause:?}");
        }
        assert_ne!(pause("a", 1), pause("b", 1));
    }
}
