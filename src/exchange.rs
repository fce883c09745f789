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

use arc_swap::ArcSwap;

use crate::budgets::Budgets;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::{Bookmark, Feed, Ledger, Note};
use crate::shared::Shared;

/// Up to where all was given, and that something was taken, in the directory of the ledger: for when
/// Redis lost what it knew of that.
const GIVEN: &str = "shared-given";
const TAKEN: &str = "shared-taken";
/// How often there is a look for something new, and how soon it is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Both directions between one ledger and all others.
pub struct Exchange {
    budgets: Arc<Budgets>,
    ledger: Ledger,
    shared: Arc<Shared>,
    config: Arc<ArcSwap<Config>>,
    clock: Clock,
    given: Note,
    taken: Note,
    /// Up to where all was given before this process; where there was none before, the end of the
    /// log when it began: who never gave anything gives what came after.
    began: Bookmark,
}

impl Exchange {
    /// None where this instance is alone, or keeps its records to itself.
    pub fn new(
        budgets: &Arc<Budgets>,
        config: &Arc<ArcSwap<Config>>,
        clock: &Clock,
    ) -> Option<Self> {
        let shared = budgets.shared().filter(|it| it.config().records)?;
        let ledger = budgets.ledger();
        let dir = &config.load().ledger.dir;
        let given = Note::new(dir, GIVEN);
        Some(Self {
            budgets: Arc::clone(budgets),
            ledger: ledger.clone(),
            shared: Arc::clone(shared),
            config: Arc::clone(config),
            clock: clock.clone(),
            began: began(&given, ledger),
            given,
            taken: Note::new(dir, TAKEN),
        })
    }

    /// Gives and takes for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(give::run(&self), take::run(&self));
    }

    /// Gives what is left at the end, where Redis is there.
    pub async fn finish(&self) {
        give::finish(self).await;
    }
}

fn began(given: &Note, ledger: &Ledger) -> Bookmark {
    let known = given.read().ok().flatten();
    known
        .and_then(|known| known.parse().ok())
        .unwrap_or_else(|| {
            let end = Feed::from_end(ledger).bookmark();
            keep(given, &end.to_string());
            end
        })
}

/// Without it more may come once more, or less, should Redis lose what it knows of it.
fn keep(note: &Note, text: &str) {
    if let Err(error) = note.write(text) {
        tracing::debug!(%error, "{} is not written", note.file().display());
    }
}
