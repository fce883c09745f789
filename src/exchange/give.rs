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

pub(super) async fn run(exchange: &Exchange) {
    let mut feed = None;
    let mut parcel = None;
    loop {
        if let Err(why) = step(exchange, &mut feed, &mut parcel).await {
            tracing::debug!("records are given to other instances later: {why}");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Gives one parcel. One that could not be given is given first the next time.
async fn step(
    exchange: &Exchange,
    feed: &mut Option<Feed>,
    parcel: &mut Option<Parcel>,
) -> Result<(), Trouble> {
    if !exchange.shared.is_joined() {
        tokio::time::sleep(AGAIN).await;
        return Ok(());
    }
    if parcel.is_none() {
        let from = match feed.take() {
            Some(feed) => feed,
            None => begin(exchange).await?,
        };
        let title = exchange.shared.naming().title().to_owned();
        let ledger = exchange.ledger.clone();
        let read = tokio::task::spawn_blocking(move || pack(from, &ledger, &title)).await;
        let (from, packed) = read.map_err(|_| Trouble::Panicked)?;
        *feed = Some(from);
        *parcel = Some(packed?);
    }
    let Some(packed) = parcel.as_ref() else {
        return Ok(());
    };
    if !packed.records.is_empty() {
        let bookmark = packed.behind.to_string();
        exchange.shared.give(&packed.records, &bookmark).await?;
    }
    let given = packed.records.len() as u64;
    exchange
        .shared
        .figures
        .given
        .fetch_add(given, Ordering::Relaxed);
    let is_full = packed.is_full;
    *parcel = None;
    if !is_full {
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}

/// Goes on where it was left.
async fn begin(exchange: &Exchange) -> Result<Feed, Trouble> {
    let given = exchange.shared.given().await?;
    let bookmark = given.and_then(|given| given.parse::<Bookmark>().ok());
    Ok(Feed::at(
        &exchange.ledger,
        bookmark.unwrap_or(exchange.began),
    ))
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
