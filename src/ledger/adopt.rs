//! Taking in what other instances recorded, so that one ledger can show what all of them did.
//!
//! It is recorded as it was elsewhere, with the name of its instance, and without what belongs to that
//! one: bodies, headers, and what its budgets held and were charged. What was taken in before changes
//! nothing.

use crate::core::budget::Limits;
use crate::core::call::{Admission, LateUsage, Settlement};
use crate::core::id::Label;
use crate::core::metric::Measurement;

use super::queue::{Durable, Op, Receipt, commit};
use super::{Ledger, RECORD_ROOM, Unavailable};

/// What another instance recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Adopted {
    /// A call that ended.
    Call(Box<(Admission, Settlement)>),
    /// What a call used became known after it ended.
    Late(Box<LateUsage>),
    /// With what it changes in accounts here.
    Measured(Box<Measurement>),
}

impl Ledger {
    /// Records what `instance` did. Resolves when it is on disk.
    pub fn adopt(&self, adopted: Adopted, instance: &Label) -> Result<Durable, Unavailable> {
        match adopted {
            Adopted::Call(call) => self.adopt_call(*call, instance),
            Adopted::Late(mut late) => {
                late.charges.clear();
                late.is_found = false;
                late.instance = Some(instance.clone());
                self.tell(0, |receipt| Op::Late(late, receipt))
            }
            Adopted::Measured(mut it) => {
                it.instance = Some(instance.clone());
                self.measured(*it)
            }
        }
    }

    fn adopt_call(
        &self,
        (admission, settlement): (Admission, Settlement),
        instance: &Label,
    ) -> Result<Durable, Unavailable> {
        let admission = Admission {
            request: None,
            headers: None,
            hold: Vec::new(),
            tightened: Limits::default(),
            instance: Some(instance.clone()),
            ..admission
        };
        let settlement = Settlement {
            response: None,
            headers: None,
            charges: Vec::new(),
            chunks: Vec::new(),
            instance: Some(instance.clone()),
            ..settlement
        };
        let queue = &self.open.queue;
        let room = queue.reserve(RECORD_ROOM).ok_or(Unavailable::Full)?;
        let begun = Receipt { room, commit: None };
        let (commit, durable) = commit();
        let room = queue.reserve(RECORD_ROOM).ok_or(Unavailable::Full)?;
        let ended = Receipt {
            room,
            commit: Some(commit),
        };
        if queue.is_failing() {
            return Err(Unavailable::Failing);
        }
        let is_open = queue.push(Op::Admit(Box::new(admission), None, begun))
            && queue.push(Op::Settle(Box::new(settlement), None, Some(ended)));
        if is_open {
            Ok(durable)
        } else {
            Err(Unavailable::Closed)
        }
    }
}
