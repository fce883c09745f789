//! Alerts: heard of from events, kept for whoever asks, and told at once: to pages, to the log and to
//! webhooks. What is one alert, and what has to be told, is decided in `core::alert`.

use std::sync::{Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::clock::Clock;
use crate::core::alert::book::{Book, Told};
pub use crate::core::alert::{About, Alert, Delivery, Rule, Scope, Severity};

/// Changes that a slow listener may be behind; it is told how many it missed.
const LIVE: usize = 256;

/// All alerts of the running process.
pub struct Alerts {
    book: Mutex<Book>,
    live: broadcast::Sender<Told>,
    clock: Clock,
}

impl Alerts {
    /// What comes again within `repeat_us` of the last time is the same alert.
    pub fn new(repeat_us: u64, clock: Clock) -> Self {
        Self {
            book: Mutex::new(Book::new(repeat_us)),
            live: broadcast::Sender::new(LIVE),
            clock,
        }
    }

    /// At most a thousand: open ones first, then those that were seen last.
    pub fn list(&self) -> Vec<Alert> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.list(self.clock.now())
    }

    /// Alerts as they begin and end, from now on.
    pub fn watch(&self) -> broadcast::Receiver<Told> {
        self.live.subscribe()
    }
}
