//! `/live`: tells an open page, by server-sent events, when there is something new to see.
//!
//! An event carries no content: the page asks for itself again and exchanges the parts that
//! changed, so that there is one way to draw it. Events are at least half a second apart, and so
//! far apart that drawing all open pages takes no more than a tenth of the time.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::desk::Desk;
use crate::admin::problem::Problem;

/// How often it is looked whether something happened. Looking reads a few numbers in memory.
const LOOK: Duration = Duration::from_millis(100);
const GAP: Duration = Duration::from_millis(500);
const LONGEST_GAP: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) async fn ticks(State(desk): State<Desk>) -> Result<Response, Problem> {
    let place = Arc::clone(&desk.live).try_acquire_owned();
    let place = place.map_err(|_| {
        Problem::unavailable("too many pages are open live: close some, or reload this one")
    })?;
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events(Watch::new(desk, place)))
        .keep_alive(keep_alive)
        .into_response())
}

/// One open page.
struct Watch {
    desk: Desk,
    seen: String,
    told_at: Instant,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    fn new(desk: Desk, place: OwnedSemaphorePermit) -> Self {
        Self {
            seen: desk.moment(desk.now()),
            desk,
            told_at: Instant::now(),
            greeted: false,
            _place: place,
        }
    }

    /// Waits until there is something new; none when the process ends.
    async fn next(&mut self) -> Option<String> {
        if !self.greeted {
            self.greeted = true;
            return Some(self.seen.clone());
        }
        loop {
            if self.desk.state.draining.load(Ordering::Relaxed) {
                return None;
            }
            let moment = self.desk.moment(self.desk.now());
            if moment != self.seen && self.told_at.elapsed() >= self.gap() {
                (self.seen, self.told_at) = (moment.clone(), Instant::now());
                return Some(moment);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn gap(&self) -> Duration {
        let pages = self.desk.open_pages().max(1);
        let drawing = self.desk.drawing().saturating_mul(pages);
        drawing.saturating_mul(10).clamp(GAP, LONGEST_GAP)
    }
}

fn events(watch: Watch) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(watch, |mut watch| async {
        let moment = watch.next().await?;
        let event = Event::default().event("tick").data(moment);
        Some((Ok(event), watch))
    })
}
