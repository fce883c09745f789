//! Taking in what other instances recorded.

use std::sync::atomic::Ordering;

use super::record::Record;
use super::{AGAIN, Exchange};
use crate::ledger::{Durable, Event, Unavailable};
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

async fn adopt(exchange: &Exchange, record: Record) -> Durable {
    loop {
        let adopted = record.what.clone().into();
        match exchange.ledger.adopt(adopted, &record.instance) {
            Ok(durable) => {
                exchange
                    .shared
                    .figures
                    .taken
                    .fetch_add(1, Ordering::Relaxed);
                return durable;
            }
            Err(Unavailable::Closed) => std::future::pending().await,
            Err(Unavailable::Failing | Unavailable::Full) => tokio::time::sleep(AGAIN).await,
        }
    }
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
