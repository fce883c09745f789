//! What nobody says by itself: whether upstreams fail, the disk fills, the index stands still.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::report::Reporter;
use crate::core::alert::outcomes::{Outcomes, Turn};
use crate::core::alert::{About, Scope, Signal};
use crate::core::call::{Outcome, Settlement};
use crate::core::id::Label;

/// Upstreams that are told apart; a configuration has fewer.
const MOST_UPSTREAMS: usize = 256;
const MIB: u64 = 1 << 20;

/// How the upstreams do.
#[derive(Default)]
pub(super) struct Upstreams(Mutex<HashMap<Label, Outcomes>>);

impl Upstreams {
    /// Takes in how a call ended; says so where its upstream begins to fail or works again.
    pub(super) fn note(&self, settlement: &Settlement, reporter: &Reporter) {
        let Some(is_answered) = is_answered(settlement) else {
            return;
        };
        let name = &settlement.upstream;
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= MOST_UPSTREAMS && !all.contains_key(name) {
                return;
            }
            let outcomes = all.entry(name.clone()).or_default();
            outcomes.note(reporter.now(), is_answered)
        };
        let scope = Scope::new(About::Upstream, name);
        match turn {
            None => {}
            Some(Turn::Works) => {
                let details = format!("upstream {name} answers again");
                reporter.tell("upstream_recovered", details, Signal::of(scope));
            }
            Some(Turn::Fails { failed, all }) => {
                let details = format!(
                    "upstream {name}: {failed} of {all} calls of the last minute failed; {}",
                    last_fault(settlement)
                );
                let signal = Signal {
                    value: Some(format!("{failed} of {all} calls")),
                    limit: Some("5 calls and half of a minute".to_owned()),
                    ..Signal::of(scope)
                };
                reporter.tell("upstream_failing", details, signal);
            }
        }
    }

    /// Forgets all but these; what is not there does not fail.
    pub(super) fn keep(&self, names: &[Label], reporter: &Reporter) {
        let gone: Vec<(Label, Outcomes)> = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.extract_if(|name, _| !names.contains(name)).collect()
        };
        for (name, _) in gone.iter().filter(|(_, outcomes)| outcomes.is_failing()) {
            let details = format!("upstream {name} is not configured any more");
            let signal = Signal::of(Scope::new(About::Upstream, name));
            reporter.tell("upstream_recovered", details, signal);
        }
    }
}

/// None where the end of the call says nothing of the upstream.
fn is_answered(settlement: &Settlement) -> Option<bool> {
    match settlement.outcome {
        Outcome::Completed => Some(true),
        Outcome::UpstreamError => Some(settlement.status.is_some_and(|status| status < 500)),
        Outcome::UpstreamUnavailable | Outcome::UpstreamCut => Some(false),
        Outcome::ClientGone | Outcome::Recovered | Outcome::Cut | Outcome::Rejected => None,
    }
}

/// What the last of them came to; not in the upstream's words, which may repeat a prompt.
fn last_fault(settlement: &Settlement) -> String {
    match (settlement.outcome, settlement.status) {
        (Outcome::UpstreamError, Some(status)) => format!("the last with status {status}"),
        (Outcome::UpstreamCut, _) => "the last broke off within its answer".to_owned(),
        _ => "the last got no answer".to_owned(),
    }
}

/// How the ledger does.
pub(super) struct Ground {
    dir: PathBuf,
    /// 0 where it does not matter.
    min_free: AtomicU64,
    is: Mutex<Is>,
}

#[derive(Default)]
struct Is {
    low: bool,
    stuck: bool,
}

impl Ground {
    pub(super) fn new(dir: PathBuf, min_free: Option<u64>) -> Self {
        Self {
            dir,
            min_free: AtomicU64::new(min_free.unwrap_or(0)),
            is: Mutex::default(),
        }
    }

    pub(super) fn set_min_free(&self, min_free: Option<u64>) {
        self.min_free
            .store(min_free.unwrap_or(0), Ordering::Relaxed);
    }

    /// Bytes that are free where the ledger is. Blocks on the disk.
    pub(super) fn free(&self) -> Option<u64> {
        free_bytes(&self.dir)
    }

    /// Looks once. Blocks on the disk.
    pub(super) fn look(&self, reporter: &Reporter) {
        let mut is = self.is.lock().unwrap_or_else(PoisonError::into_inner);
        self.look_at_disk(&mut is, reporter);
        let status = reporter.ledger.status();
        if status.index_failing != is.stuck {
            is.stuck = status.index_failing;
            let what = if is.stuck {
                "index_failed"
            } else {
                "index_resumed"
            };
            let why = status.last_error.unwrap_or_default();
            let signal = Signal::of(Scope::new(About::Ledger, ""));
            reporter.tell(what, why, signal);
        }
    }

    fn look_at_disk(&self, is: &mut Is, reporter: &Reporter) {
        let min_free = self.min_free.load(Ordering::Relaxed);
        let Some(free) = free_bytes(&self.dir) else {
            return;
        };
        // A tenth more before it is over, so that it does not come and go.
        let enough = if is.low {
            min_free.saturating_add(min_free / 10)
        } else {
            min_free
        };
        if (free < enough) == is.low {
            return;
        }
        is.low = !is.low;
        let what = if is.low { "disk_low" } else { "disk_freed" };
        let signal = Signal {
            value: Some(format!("{} MiB free", free / MIB)),
            limit: Some(format!("{} MiB", min_free / MIB)),
            ..Signal::of(Scope::new(About::Ledger, ""))
        };
        let details = format!(
            "{} MiB are free, {} MiB should be",
            free / MIB,
            min_free / MIB
        );
        reporter.tell(what, details, signal);
    }
}

/// What a user without privileges can still write.
fn free_bytes(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
