//! What budgets ask of the ledger beside calls: accounts, acts of operators, late usage.
//!
//! Accounts and late usage come from a call's way: recording them never waits, and says when it
//! cannot be, so that it is tried again with the next call.

use crate::core::budget::{AccountId, AccountName, Act, Deed};
use crate::core::call::LateUsage;

use super::queue::{Durable, Op, Receipt};
use super::record::{Event, NewAccount};
use super::{Ledger, RECORD_ROOM, Unavailable, charges_room};

impl Ledger {
    /// Records what an account is called, when it is used for the first time. Never blocks; false
    /// when it cannot be recorded at the moment.
    pub fn open_account(&self, id: AccountId, name: &AccountName) -> bool {
        let account = Box::new(NewAccount {
            id,
            name: name.clone(),
            at: self.open.clock.now(),
        });
        self.offer(|receipt| Op::Account(account, receipt))
    }

    /// Records what an operator did.
    pub fn act(&self, act: Act) -> Result<Durable, Unavailable> {
        let texts = act.details.len() + act.who.len();
        let charges = match &act.deed {
            Deed::ChargesRecorded(charges) => charges_room(charges),
            _ => 0,
        };
        let is_heard = matches!(act.deed, Deed::BudgetRaised(..) | Deed::BudgetReset(_));
        let heard = is_heard.then(|| Event::from(act.clone()));
        let durable = self.tell(texts + charges, |receipt| Op::Act(Box::new(act), receipt))?;
        if let Some(heard) = &heard {
            self.open.hearing.tell(heard);
        }
        Ok(durable)
    }

    /// Records what a pending call really used. Never blocks.
    pub fn late(&self, late: LateUsage) -> Result<Durable, Unavailable> {
        let charges = charges_room(&late.charges);
        self.tell(charges, |receipt| Op::Late(Box::new(late), receipt))
    }

    /// Records what nobody waits for, or counts it as dropped.
    fn offer(&self, op: impl FnOnce(Receipt) -> Op) -> bool {
        let queue = &self.open.queue;
        let room = if queue.is_failing() {
            None
        } else {
            queue.reserve(RECORD_ROOM)
        };
        let Some(room) = room else {
            queue.count_dropped(1);
            return false;
        };
        queue.push(op(Receipt { room, commit: None }))
    }
}
