//! Taking in what other instances recorded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::record::{Record, What};
use super::{AGAIN, Exchange};
use crate::budgets::measured::NotCharged;
use crate::ledger::{Adopted, Durable, Event, IndexError, Unavailable};
use crate::shared::Away;
use crate::shared::records::Given;

pub(super) async fn run(exchange: &Exchange) {
    loop {
        if exchange.shared.is_joined()
            && let Err(away) = take(exchange).await
        {
            tracing::debug!("records of other instances are taken in later: {away}");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Takes for as long as Redis is there.
async fn take(exchange: &Exchange) -> Result<(), Away> {
    let mut taker = exchange.shared.taker().await?;
    if taker.has_missed().await? {
        tell_missed(exchange);
    }
    loop {
        let given = taker.next().await?;
        if let Some(last) = given.last() {
            let last = last.id.clone();
            if keep(exchange, given).await {
                taker.took(&last).await?;
            } else {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Has all of it on disk; says whether it is, else it has to come again.
async fn keep(exchange: &Exchange, given: Vec<Given>) -> bool {
    let mut last = None;
    for record in given.into_iter().filter_map(|it| it.record) {
        match minicbor::decode::<Record>(&record) {
            Ok(record) => last = Some(adopt(exchange, record).await),
            Err(_) => {
                exchange
                    .shared
                    .figures
                    .unread
                    .fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    match last {
        Some(durable) => {
            durable.clone().await;
            durable.is_kept()
        }
        None => true,
    }
}

/// Waits until the ledger can take it.
async fn adopt(exchange: &Exchange, record: Record) -> Durable {
    loop {
        let why = match try_adopt(exchange, record.clone()).await {
            Ok(durable) => {
                exchange
                    .shared
                    .figures
                    .taken
                    .fetch_add(1, Ordering::Relaxed);
                return durable;
            }
            Err(why) => why,
        };
        match why {
            NotCharged::Unrecorded(Unavailable::Closed) => std::future::pending().await,
            NotCharged::Unreadable(IndexError::Damaged) => {
                tracing::warn!("a record of another instance is passed over: {why}");
                return Durable::READY;
            }
            NotCharged::Unrecorded(_) | NotCharged::Unreadable(_) => {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn try_adopt(exchange: &Exchange, record: Record) -> Result<Durable, NotTaken> {
    let Record { instance, what } = record;
    let (budgets, ledger) = (Arc::clone(&exchange.budgets), exchange.ledger.clone());
    match what {
        What::Call(admission, settlement) => {
            let call = Adopted::Call(Box::new((*admission, *settlement)));
            ledger
                .adopt(call, &instance)
                .map_err(NotCharged::Unrecorded)
        }
        What::Late(late) => {
            let price = exchange.config.load().accounting.fallback_price;
            let take = move || match budgets.follow_late(&late, &price)? {
                Some(durable) => Ok(durable),
                None => {
                    let adopted = ledger.adopt(Adopted::Late(late), &instance);
                    adopted.map_err(NotCharged::Unrecorded)
                }
            };
            blocking(take).await
        }
        What::Measured(it) => {
            let turn = Arc::clone(&budgets.measuring).lock_owned().await;
            let take = move || {
                let _turn = turn;
                budgets.follow_measured(*it, &instance)
            };
            blocking(take).await
        }
    }
}

type NotTaken = NotCharged<Unavailable>;

/// What waits for the disk does so on a thread that may.
async fn blocking(
    take: impl FnOnce() -> Result<Durable, NotTaken> + Send + 'static,
) -> Result<Durable, NotTaken> {
    let taken = tokio::task::spawn_blocking(take).await;
    taken.unwrap_or(Err(NotCharged::Unreadable(IndexError::Closed)))
}

fn tell_missed(exchange: &Exchange) {
    exchange
        .shared
        .figures
        .missed
        .fetch_add(1, Ordering::Relaxed);
    let details = "this instance was away for longer than Redis keeps records of others: some calls of \
                   theirs are shown there only (keep_records of [shared])";
    let event = Event::own(
        exchange.clock.now(),
        "records_missed",
        Some(details.to_owned()),
    );
    if let Err(error) = exchange.ledger.event(event) {
        tracing::warn!(%error, "the event records_missed is not recorded");
    }
}
