//! One sink at work: reads on from the place that the database knows, writes, and begins again from
//! there after any failure. Nothing of it is kept on this machine.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::gather::{Gathered, Gatherer};
use super::rows::Lot;
use super::status::Reporter;
use super::store::{Known, Owner, Store, Trouble};
use crate::clock::Clock;
use crate::config::{Since, SinkConfig, SinkTable};
use crate::core::time::Timestamp;
use crate::ledger::{Bookmark, Feed, IndexError, Ledger};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A place with no rows before it is written this often, so that the next start need not look there.
const PLACE_EVERY_US: u64 = 300_000_000;
/// Records of one batch.
pub(super) const MAX_NEWS: usize = 1000;
/// Times that none of the rows is taken before they are left out: the table may be mended meanwhile.
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
    /// Where the log ended when this began.
    pub(super) start: Bookmark,
    /// The last place that was written, and when.
    pub(super) place: Option<(Bookmark, Timestamp)>,
    /// Grows with each batch.
    pub(super) version: u64,
    /// Attempts in a row that failed.
    pub(super) failed: u32,
    /// Those since the last success at which none of the rows was taken.
    pub(super) refused: u32,
    /// Records of the next batch.
    pub(super) most: usize,
    /// Something was gone before it was read, which is not told yet.
    pub(super) is_missed: bool,
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
            let behind = |(place, _)| Feed::at(&self.ledger, place).lag();
            let lag = self.place.map(behind);
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
        let known = self.store.open(&self.owner).await?;
        let mut gatherer = self.begin(known).await?;
        loop {
            let (is_last, at) = (*self.stop.borrow(), self.clock.now());
            let gathered;
            (gatherer, gathered) = self.gather(gatherer, is_last).await?;
            self.is_missed |= gathered.is_missed;
            let (is_full, place, lag) = (gathered.is_full, gathered.place, gathered.lag_bytes);
            let at = gathered.has_all.then_some(at);
            let is_news = self.is_missed || !gathered.is_empty();
            if is_news || self.is_due(place, is_last) {
                let news = gathered.news;
                let done = self.deliver(gathered).await;
                self.most = most_after(self.most, news, &done);
                done?;
                self.place = Some((place, self.clock.now()));
            }
            // Only once it is behind the gap: until then it would meet it again, and tell it again.
            if std::mem::take(&mut self.is_missed) {
                self.reporter.missed();
            }
            (self.failed, self.refused) = (0, 0);
            self.reporter.reached(place, lag, at);
            match (is_full, is_last) {
                (true, _) => {}
                (false, true) => return Ok(()),
                (false, false) => self.rest(self.config.interval).await,
            }
        }
    }

    /// Whether a place is worth writing though there are no rows before it.
    fn is_due(&self, place: Bookmark, is_last: bool) -> bool {
        let Some((written, at)) = self.place.filter(|(written, _)| *written != place) else {
            return false;
        };
        let is_other = written.segment() != place.segment();
        is_last || is_other || self.clock.now() >= at.plus_micros(PLACE_EVERY_US)
    }

    /// Where to read on, so that no table misses anything: those that are further get the same rows
    /// once more. Where only what comes is wanted, the place is written at once: later it would be
    /// another one.
    async fn begin(&mut self, known: Known) -> Result<Gatherer, Trouble> {
        self.version = self.version.max(known.version);
        let places = known.places.iter().flatten().map(|text| {
            let place = text.parse::<Bookmark>();
            place.map_err(|error| {
                Trouble::passing(&format!("the position there is `{text}`: {error}"))
            })
        });
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let is_new = places.len() < known.places.len();
        let feed = match (Bookmark::before_all(&places), self.config.since) {
            (_, Since::Start) if is_new => Feed::from_start(&self.ledger),
            (Some(place), _) => Feed::at(&self.ledger, place),
            (None, Since::Start) => Feed::from_start(&self.ledger),
            (None, Since::Now) => Feed::at(&self.ledger, self.start),
        };
        let gatherer = Gatherer::new(&self.ledger, &self.config.tables, feed);
        if is_new && self.config.since == Since::Now {
            let now = gatherer.place().to_string();
            self.write(&[], Some(&now)).await?;
        }
        self.place = Some((gatherer.place(), self.clock.now()));
        Ok(gatherer)
    }

    /// Reads on a thread that may wait for the disk. The last time, all that was recorded by now.
    async fn gather(
        &self,
        mut gatherer: Gatherer,
        is_last: bool,
    ) -> Result<(Gatherer, Gathered), Trouble> {
        let (ledger, most) = (self.ledger.clone(), self.most);
        let read = tokio::task::spawn_blocking(move || {
            if is_last {
                ledger.sync_index();
            }
            let gathered = gatherer.next(most)?;
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
        if count == all && self.refused < PATIENCE {
            self.refused += 1;
            let told = format!("no row of {} is taken: {}", table.name(), trouble.text);
            return Err(Trouble::with_rows(&told));
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
        for lot in lots {
            self.reporter.wrote(lot);
        }
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

/// Records of the batch after one of so many. What fails may be too large for something in between,
/// or for the time that it has: half of it may not be. Each success lets it grow again.
fn most_after(most: usize, news: usize, done: &Result<(), Trouble>) -> usize {
    match done {
        Ok(()) => (most + most / 4 + 1).min(MAX_NEWS),
        Err(trouble) if trouble.is_about_rows => most,
        Err(_) => (news / 2).max(1),
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

    #[test]
    fn a_batch_that_fails_is_halved_down_to_one_record_and_grows_back() {
        let failed = Err(Trouble::passing("413 Payload Too Large"));
        let mut most = MAX_NEWS;
        for expected in [450, 225, 112, 56, 28, 14, 7, 3, 1, 1] {
            let news = most.min(900);
            most = most_after(most, news, &failed);
            assert_eq!(most, expected);
        }
        for _ in 0..40 {
            let grown = most_after(most, most, &Ok(()));
            assert!(grown > most || grown == MAX_NEWS);
            most = grown;
        }
        assert_eq!(most, MAX_NEWS);
        let refused = Err(Trouble::with_rows("no row of calls is taken"));
        assert_eq!(most_after(8, 8, &refused), 8, "its size is not at fault");
    }
}
