//! Taking in what other instances recorded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::record::{Record, What};
use super::{AGAIN, Exchange};
use crate::budgets::Budgets;
use crate::budgets::measured::NotCharged;
use crate::config::FallbackPrice;
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
    let turns = exchange.shared.turns();
    let mut taker = exchange.shared.taker().await?;
    let mut took_before = exchange.taken.read().is_ok_and(|it| it.is_some());
    if taker.has_missed(took_before).await? {
        tell_missed(exchange);
    }
    // What Redis has may be another memory after each loss of it.
    while exchange.shared.turns() == turns {
        let given = taker.next().await?;
        if let Some(last) = given.last() {
            let last = last.id.clone();
            if !keep(exchange, given).await {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            if !took_before {
                super::keep(&exchange.taken, "yes");
                took_before = true;
            }
            taker.took(&last).await?;
        }
    }
    Ok(())
}

/// Has all of it on disk; says whether it is, else it has to come again.
async fn keep(exchange: &Exchange, given: Vec<Given>) -> bool {
    let mut last = None;
    for record in given.into_iter().filter_map(|it| it.record) {
        match minicbor::decode::<Record>(&record) {
            Ok(record) => last = adopt(exchange, record).await.or(last),
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

/// Waits until the ledger can take it; none where that has nothing to take.
async fn adopt(exchange: &Exchange, record: Record) -> Option<Durable> {
    loop {
        let why = match try_adopt(exchange, record.clone()).await {
            Ok(durable) => {
                let taken = u64::from(durable.is_some());
                let figures = &exchange.shared.figures;
                figures.taken.fetch_add(taken, Ordering::Relaxed);
                return durable;
            }
            Err(why) => why,
        };
        match why {
            NotCharged::Unrecorded(Unavailable::Closed) => std::future::pending().await,
            NotCharged::Unreadable(IndexError::Damaged) => {
                tracing::warn!("a record of another instance is passed over: {why}");
                return None;
            }
            NotCharged::Unrecorded(_) | NotCharged::Unreadable(_) => {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn try_adopt(exchange: &Exchange, record: Record) -> Result<Option<Durable>, NotTaken> {
    let budgets = Arc::clone(&exchange.budgets);
    let price = exchange.config.load().accounting.fallback_price;
    let turn = match &record.what {
        What::Measured(_) => Some(Arc::clone(&budgets.measuring).lock_owned().await),
        What::Call(..) | What::Late(_) => None,
    };
    let take = move || {
        let taken = take_in(&budgets, &price, record);
        drop(turn);
        taken
    };
    let taken = tokio::task::spawn_blocking(take).await;
    taken.unwrap_or(Err(NotCharged::Unreadable(IndexError::Closed)))
}

type NotTaken = NotCharged<Unavailable>;

/// Waits for the disk.
fn take_in(
    budgets: &Budgets,
    price: &FallbackPrice,
    record: Record,
) -> Result<Option<Durable>, NotTaken> {
    let (Record { instance, what }, ledger) = (record, budgets.ledger());
    let adopt = |adopted| {
        let adopted = ledger.adopt(adopted, &instance);
        adopted.map(Some).map_err(NotCharged::Unrecorded)
    };
    match what {
        What::Call(admission, settlement) => {
            let is_lacking = ledger.peek().lacks(&settlement);
            if !is_lacking.map_err(NotCharged::Unreadable)? {
                return Ok(None);
            }
            adopt(Adopted::Call(Box::new((*admission, *settlement))))
        }
        What::Late(late) => match budgets.follow_late(&late, price)? {
            Some(durable) => Ok(Some(durable)),
            None => adopt(Adopted::Late(late)),
        },
        What::Measured(it) => budgets.follow_measured(*it, &instance),
    }
}

fn tell_missed(exchange: &Exchange) {
    exchange
        .shared
        .figures
        .missed
        .fetch_add(1, Ordering::Relaxed);
    let details = "this instance was away for longer than Redis keeps records of others (keep_records of \
                   [shared]), or Redis lost them: some calls of theirs may be shown there only";
    let event = Event::own(
        exchange.clock.now(),
        "records_missed",
        Some(details.to_owned()),
    );
    if let Err(error) = exchange.ledger.event(event) {
        tracing::warn!(%error, "the event records_missed is not recorded");
    }
}
