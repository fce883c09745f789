//! What was taken out of the log, and on whose word: the record that makes a gap no tampering.
//!
//! Such a record is written, and is on disk, before anything goes.

use minicbor::{Decode, Encode};

use crate::core::time::Timestamp;

use super::record::{Chain, Event};

/// Something is about to be taken out of the log. Its numbers begin at 20, so that it is never taken
/// for an event or an act.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Removal {
    #[n(20)]
    pub(crate) at: Timestamp,
    /// Who wanted it: the program itself, or an operator.
    #[n(21)]
    pub(crate) who: String,
    /// In one sentence, for whoever reads the events.
    #[n(22)]
    pub(crate) details: String,
    #[n(23)]
    pub(crate) what: Removed,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Removed {
    /// All segments before `before`, which goes on from `chain`.
    #[n(0)]
    Front {
        #[n(0)]
        before: u64,
        #[n(1)]
        chain: Chain,
    },
}

impl Removal {
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        minicbor::decode(payload).ok()
    }
}

impl From<Removal> for Event {
    fn from(removal: Removal) -> Self {
        let what = match removal.what {
            Removed::Front { .. } => "segments_retired",
        };
        Self {
            at: removal.at,
            who: removal.who,
            what: what.to_owned(),
            details: Some(removal.details),
            trip: None,
            signal: None,
        }
    }
}
