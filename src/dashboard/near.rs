//! Budgets that are almost used and alerts that go on, for the banners of every page. All accounts in
//! memory are walked for it, so that is done beside the async threads and kept for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maud::{Markup, html};
use tokio::time::Instant;

use super::desk::Desk;
use super::here::Here;
use super::text;
use crate::admin::AdminState;
use crate::alerts::{Alert, Rule as About, Severity};
use crate::budgets::AccountRow;
use crate::core::budget::{Action, Dimension, Rule};
use crate::core::time::Timestamp;

/// From this part of a limit on, in thousandths.
const FROM: u32 = 800;
/// The account of a run that did nothing for so long is nobody's concern any more, in microseconds.
const IDLE_US: u64 = 900_000_000;
/// It is looked again after so long though nothing happened.
const AT_LEAST: Duration = Duration::from_secs(10);
/// Looking takes no more than this part of the time.
const SHARE: u32 = 20;
/// Bytes of what an alert says.
const MOST: usize = 160;
/// Names of accounts in one banner.
const NAMED: usize = 3;

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Near(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// When it was looked, what the ledger had then, and how long it took.
    looked: Option<(Instant, u64, Duration)>,
    spent: Lines,
    almost: Lines,
    alerts: Lines,
}

/// Accounts in a few words, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lines {
    named: Vec<String>,
    count: usize,
}

impl Lines {
    fn add(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(name());
        }
    }

    fn draw(&self, class: &str, (one, many): (&str, &str), page: &str) -> Markup {
        let more = self.count.saturating_sub(self.named.len());
        html! {
            @if self.count > 0 {
                div.banner.(class) role="status" {
                    strong { (self.count) " " @if self.count == 1 { (one) } @else { (many) } } ": "
                    @for (index, name) in self.named.iter().enumerate() {
                        @if index > 0 { "; " } (text::shown(name))
                    }
                    @if more > 0 { " and " (more) " more" }
                    " " a href=(page) { "Look" }
                }
            }
        }
    }
}

impl Desk {
    /// Brings up to date what every page tells, where that is due.
    pub(super) async fn look_around(&self) {
        let happened = self.state.happened();
        if !self.near.is_due(happened) {
            return;
        }
        let (near, state) = (Arc::clone(&self.near), self.state.clone());
        let looked = self.state.records.read(move || {
            near.look(&state, happened);
            Ok(())
        });
        if let Err(problem) = looked.await {
            tracing::warn!(detail = problem.detail, "budgets were not looked at");
        }
    }
}

impl Near {
    fn is_due(&self, happened: u64) -> bool {
        match self.lock().looked {
            None => true,
            Some((at, seen, took)) => {
                let since = at.elapsed();
                // Time alone makes room in a window, and ends alerts.
                (seen != happened || since > AT_LEAST) && since >= took.saturating_mul(SHARE)
            }
        }
    }

    fn look(&self, state: &AdminState, happened: u64) {
        let (begun, now) = (Instant::now(), state.clock.now());
        let [mut spent, mut almost, mut alerts] = <[Lines; 3]>::default();
        for (rule, row) in state.budgets.fullest(FROM) {
            if !is_of_concern(&rule, &row, now) {
                continue;
            }
            let part = row.used_permille / 10;
            let name = || format!("\"{}\", {}: {part} %", rule.name, row.name);
            if row.used_permille >= 1000 && rule.action == Action::Break {
                spent.add(name);
            } else {
                almost.add(name);
            }
        }
        for alert in state.alerts.list().into_iter().filter(is_told_nowhere_else) {
            alerts.add(|| text::cut(&alert.text, MOST));
        }
        let looked = Some((begun, happened, begun.elapsed()));
        *self.lock() = Kept {
            looked,
            spent,
            almost,
            alerts,
        };
    }

    pub(super) fn banner(&self, here: &Here) -> Markup {
        let kept = self.lock();
        let spent = (
            "budget is spent, its calls are refused",
            "budgets are spent, their calls are refused",
        );
        let almost = ("budget is almost used", "budgets are almost used");
        let budgets = here.at("/budgets", []);
        html! {
            (kept.spent.draw("bad", spent, &budgets))
            (kept.almost.draw("warn", almost, &budgets))
            (kept.alerts.draw("warn", ("alert is open", "alerts are open"), &here.at("/alerts", [])))
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a run used stays with it when it is over: only those at work are told.
fn is_of_concern(rule: &Rule, row: &AccountRow, now: Timestamp) -> bool {
    let is_of_run = rule.per.contains(&Dimension::Run);
    !is_of_run || row.running > 0 || row.waiting > 0 || now.micros_since(row.last_at) < IDLE_US
}

/// Alerts that no other banner tells of, and that ask for somebody to do something.
fn is_told_nowhere_else(alert: &Alert) -> bool {
    let has_own = matches!(
        alert.rule,
        About::BudgetWarning
            | About::BudgetSlowed
            | About::BudgetSpent
            | About::LoopWarning
            | About::LoopSlowed
            | About::LoopTripped
            | About::LedgerFailed
            | About::IndexFailed
    );
    alert.is_open && alert.severity >= Severity::Warning && !has_own
}
