//! A record on its way from one instance to another.

use minicbor::{Decode, Encode};

use crate::core::budget::{Charged, Limits};
use crate::core::call::{Admission, LateUsage, Settlement};
use crate::core::id::Label;
use crate::core::metric::Measurement;
use crate::ledger::CallDetail;

/// What was recorded, and where. Keys of later versions are passed over.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Record {
    /// What people call the instance.
    #[n(0)]
    pub(super) instance: Label,
    #[n(1)]
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(super) enum What {
    #[n(0)]
    Call(#[n(0)] Box<Admission>, #[n(1)] Box<Settlement>),
    #[n(1)]
    Late(#[n(0)] Box<LateUsage>),
    #[n(2)]
    Measured(#[n(0)] Box<Measurement>),
}

impl What {
    /// A call that ended, without what belongs to its instance; none where not all of it is kept.
    pub(super) fn call(detail: CallDetail) -> Option<Self> {
        let admission = Admission {
            request: None,
            headers: None,
            hold: Vec::new(),
            tightened: Limits::default(),
            ..detail.admission?
        };
        let settlement = Settlement {
            response: None,
            headers: None,
            charges: Vec::new(),
            chunks: Vec::new(),
            ..detail.settlement?
        };
        Some(Self::Call(Box::new(admission), Box::new(settlement)))
    }

    pub(super) fn late(late: LateUsage) -> Self {
        let charges = Vec::new();
        Self::Late(Box::new(LateUsage { charges, ..late }))
    }

    pub(super) fn measured(measurement: Measurement) -> Self {
        let charged = measurement.charged.map(|it| Charged::nothing(it.at));
        Self::Measured(Box::new(Measurement {
            charged,
            ..measurement
        }))
    }
}
