//! Every instance's ledger has what all of them did: each gives the others what it recorded, and
//! takes in what they give. So any dashboard, API and command shows the whole, whichever instance is
//! asked, and goes on showing it while Redis or another instance is away.
//!
//! What is given has no bodies, no headers and no charges. It comes at least once; taking it in twice
//! changes nothing.

mod give;
mod record;
mod take;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::ledger::{Bookmark, Feed, Ledger};
use crate::shared::Shared;

/// How often there is a look for something new, and how soon it is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Both directions between one ledger and all others.
pub struct Exchange {
    ledger: Ledger,
    shared: Arc<Shared>,
    clock: Clock,
    /// The end of the log when it began: who never gave anything gives what came after.
    began: Bookmark,
}

impl Exchange {
    pub fn new(ledger: &Ledger, shared: &Arc<Shared>, clock: &Clock) -> Self {
        Self {
            ledger: ledger.clone(),
            shared: Arc::clone(shared),
            clock: clock.clone(),
            began: Feed::from_end(ledger).bookmark(),
        }
    }

    /// Gives and takes for as long as it is polled.
    pub async fn run(self) {
        tokio::join!(give::run(&self), take::run(&self));
    }
}
