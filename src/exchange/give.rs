//! Giving the others what is recorded here.

use std::sync::atomic::Ordering;

use super::record::{Record, What};
use super::{AGAIN, Exchange};
use crate::core::id::Label;
use crate::ledger::{Bookmark, Feed, IndexError, Ledger, News};
use crate::shared::Away;

/// Pieces of news in one batch.
const AT_ONCE: usize = 128;

/// What was read and not given yet.
struct Parcel {
    records: Vec<Vec<u8>>,
    behind: Bookmark,
    is_full: bool,
}

/// How far giving has come.
struct Giver<'e> {
    exchange: &'e Exchange,
    /// What `Shared::turns` said when Redis was asked last how far that is.
    turns: u64,
    given: Bookmark,
    /// From there on; none where it has to be found.
    feed: Option<Feed>,
    /// The next to be given, where that was tried.
    parcel: Option<Parcel>,
}

pub(super) async fn run(exchange: &Exchange) {
    let mut giver = Giver::new(exchange);
    loop {
        let step = giver.step().await;
        if let Err(why) = &step {
            tracing::debug!("records are given to other instances later: {why}");
        }
        if !step.unwrap_or(false) {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Gives all that is recorded by now, if it can be given now.
pub(super) async fn finish(exchange: &Exchange) {
    let ledger = exchange.ledger.clone();
    let _ = tokio::task::spawn_blocking(move || ledger.sync_index()).await;
    let mut giver = Giver::new(exchange);
    while giver.step().await.unwrap_or(false) {}
}

impl<'e> Giver<'e> {
    fn new(exchange: &'e Exchange) -> Self {
        Self {
            exchange,
            turns: 0,
            given: exchange.began,
            feed: None,
            parcel: None,
        }
    }

    /// Gives one parcel; says whether there is more by now. One that could not be given is given first
    /// the next time.
    async fn step(&mut self) -> Result<bool, Trouble> {
        let shared = &self.exchange.shared;
        let turns = shared.turns();
        if !shared.is_joined() {
            return Ok(false);
        }
        if turns != self.turns {
            self.go_on().await?;
            self.turns = turns;
        }
        let parcel = match self.parcel.take() {
            Some(parcel) => parcel,
            None => self.read().await?,
        };
        if !parcel.records.is_empty()
            && let Err(away) = self.give(&parcel).await
        {
            self.parcel = Some(parcel);
            return Err(away.into());
        }
        Ok(parcel.is_full)
    }

    /// Redis says how far it was given all: it may have lost some of it, or may have it though it did
    /// not answer. Where it does not know any more, this goes on where it was left.
    async fn go_on(&mut self) -> Result<(), Away> {
        let given = self.exchange.shared.given().await?;
        let given = given.and_then(|given| given.parse().ok());
        let from = given.unwrap_or(self.given);
        if from != self.given {
            self.given = from;
            self.feed = None;
            self.parcel = None;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Parcel, Trouble> {
        let ledger = self.exchange.ledger.clone();
        let feed = self.feed.take();
        let feed = feed.unwrap_or_else(|| Feed::at(&ledger, self.given));
        let title = self.exchange.shared.naming().title().to_owned();
        let read = tokio::task::spawn_blocking(move || pack(feed, &ledger, &title)).await;
        let (feed, packed) = read.map_err(|_| Trouble::Panicked)?;
        self.feed = Some(feed);
        packed
    }

    async fn give(&mut self, parcel: &Parcel) -> Result<(), Away> {
        let Exchange { shared, given, .. } = self.exchange;
        let behind = parcel.behind.to_string();
        shared.give(&parcel.records, &behind).await?;
        self.given = parcel.behind;
        let count = parcel.records.len() as u64;
        shared.figures.given.fetch_add(count, Ordering::Relaxed);
        let note = given.clone();
        let _ = tokio::task::spawn_blocking(move || super::keep(&note, &behind)).await;
        Ok(())
    }
}

/// Reads what is new. The feed is given back where reading failed, too.
fn pack(mut feed: Feed, ledger: &Ledger, title: &str) -> (Feed, Result<Parcel, Trouble>) {
    let packed = read(&mut feed, ledger, title);
    (feed, packed)
}

fn read(feed: &mut Feed, ledger: &Ledger, title: &str) -> Result<Parcel, Trouble> {
    let before = feed.bookmark();
    let instance = Label::parse(title).map_err(|_| Trouble::Name)?;
    let batch = feed.next(AT_ONCE)?;
    let mut records = Vec::new();
    for (_, news) in batch.news {
        let what = match what(ledger, news) {
            Ok(what) => what,
            Err(error) => {
                // All of it comes again.
                *feed = Feed::at(ledger, before);
                return Err(error.into());
            }
        };
        let record = what.map(|what| Record {
            instance: instance.clone(),
            what,
        });
        records.extend(record.and_then(|record| minicbor::to_vec(record).ok()));
    }
    Ok(Parcel {
        records,
        behind: batch.behind,
        is_full: batch.is_full,
    })
}

fn what(ledger: &Ledger, news: News) -> Result<Option<What>, IndexError> {
    let view = ledger.peek();
    Ok(match news {
        News::Settled(id) => view.call(id)?.and_then(What::call),
        News::Late(id) | News::Found(id) => {
            view.call(id)?.and_then(|call| call.late).map(What::late)
        }
        News::Measured(measurement) => Some(What::measured(*measurement)),
        News::Told(_) => None,
    })
}

/// Why nothing could be given now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Away(#[from] Away),
    #[error("the ledger cannot be read: {0}")]
    Unreadable(#[from] IndexError),
    #[error("reading the ledger failed")]
    Panicked,
    #[error("this instance has no name")]
    Name,
}
