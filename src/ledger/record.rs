//! How a segment looks in bytes: a header, then frames, each a record with checksum and chain.
//!
//! The chain hash of a record covers all records before it, so that one prefix of the log has one
//! hash: a segment continues exactly the prefix its header names, and whatever an older segment
//! holds beyond that prefix never became part of the log.
//!
//! Numbers are little-endian. Kinds unknown to this version are skipped by readers.

use std::fmt;

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::core::alert::{About, Scope, Signal};
use crate::core::budget::{AccountId, AccountName, Act, Deed, StoredAccount};
use crate::core::call::{Admission, Settlement};
use crate::core::digest::{Digest, DigestSeed};
use crate::core::id::Label;
use crate::core::loops::trip::Trip;
use crate::core::time::Timestamp;

use super::removal::{Removal, Tombstone};
use super::slices::{Of, Slice};
use super::summary::{Key, Summary};

/// Goes up when an older version would take what is written for damage, or pass over what counts: so
/// it did with tombstones, which came with 2.
pub(crate) const FORMAT: u16 = 2;
pub(crate) const HEADER_LEN: usize = 56;
/// Bytes of a frame beside its payload.
pub(crate) const FRAME_LEN: usize = 27;
const MAGIC: &[u8; 8] = b"AIOPSLOG";
/// Opens every frame, so that readers find the next one behind damage.
pub(crate) const MARK: [u8; 2] = [0xa7, 0x1e];

/// The hash of everything before a point of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub(crate) struct Chain(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl Chain {
    /// Before the first record.
    pub(crate) const GENESIS: Self = Self([0; 16]);

    pub(crate) const fn of(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// In hexadecimal digits, as it is handed to people.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = u128::from_str_radix(text, 16).ok();
        let number = number.filter(|_| text.len() == 32 && !text.starts_with('+'));
        number.map(|number| Self(number.to_be_bytes()))
    }

    fn next(self, kind: u8, payload: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(&[kind]).update(payload);
        let mut chain = [0; 16];
        hasher.finalize_xof().fill(&mut chain);
        Self(chain)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A place in the log: the segment's number and the offset in its file.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize,
)]
pub struct Position {
    #[n(0)]
    pub segment: u64,
    #[n(1)]
    pub offset: u64,
}

/// What a record is.
pub(crate) mod kind {
    pub(crate) const CONTENT: u8 = 1;
    pub(crate) const ADMISSION: u8 = 2;
    pub(crate) const SETTLEMENT: u8 = 3;
    pub(crate) const CHECKPOINT: u8 = 4;
    pub(crate) const EVENT: u8 = 5;
    pub(crate) const ACCOUNT: u8 = 6;
    pub(crate) const ACT: u8 = 7;
    pub(crate) const LATE: u8 = 8;
    pub(crate) const REMOVAL: u8 = 9;
    pub(crate) const MEASUREMENT: u8 = 10;
    /// Where a record was that is gone: see [`Tombstone`](super::Tombstone).
    pub(crate) const TOMBSTONE: u8 = 11;
    /// What a settlement that is gone spent. Within tombstones only.
    pub(crate) const SUM: u8 = 12;
    /// What the head of the segment says that it is in: see [`Begun`](super::Begun).
    pub(crate) const BEGUN: u8 = 13;
    /// What budgets were charged for a measurement that is gone. Within tombstones only.
    pub(crate) const CHARGED: u8 = 14;
    /// Which run one is part of, as a call said that is gone. Within tombstones only.
    pub(crate) const LINK: u8 = 15;
}

/// Whether a tombstone of a record of one kind may still say what a record of another does: what was
/// spent, that something was done, what outlives older segments. All else could be made up.
pub(crate) fn may_leave(was: u8, left: u8, payload: &[u8]) -> bool {
    match (was, left) {
        (kind::SETTLEMENT | kind::SUM, kind::SUM)
        | (kind::MEASUREMENT | kind::CHARGED, kind::CHARGED)
        | (kind::ADMISSION | kind::LINK, kind::LINK)
        | (kind::CHECKPOINT, kind::CHECKPOINT) => true,
        (kind::ACT, kind::ACT) => {
            minicbor::decode::<Act>(payload).is_ok_and(|act| act.details == DELETED)
        }
        _ => false,
    }
}

/// A run that stays is part of another, or was part of one that was part of that.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Link {
    /// When the call began that said so.
    #[n(0)]
    pub(crate) at: Timestamp,
    #[n(1)]
    pub(crate) run: Label,
    #[n(2)]
    pub(crate) parent: Label,
}

/// What an act says of itself whose words are gone.
pub(crate) const DELETED: &str = "deleted";

/// What the head of a segment says of it, as a record in that segment: no chain covers heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Begun {
    #[n(30)]
    pub(crate) at: Timestamp,
    #[n(31)]
    seed: u64,
}

impl Begun {
    pub(crate) fn of(at: Timestamp, seed: DigestSeed) -> Self {
        Self { at, seed: seed.0 }
    }

    pub(crate) fn says(self, header: &Header) -> bool {
        self == Self::of(header.created_at, header.seed)
    }
}

/// The head of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) seed: DigestSeed,
    /// The chain hash this segment goes on from.
    pub(crate) continues: Chain,
}

/// Why bytes are no segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    Newer(u16),
}

impl Header {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.created_at.micros().to_le_bytes());
        bytes.extend_from_slice(&self.seed.0.to_le_bytes());
        bytes.extend_from_slice(&self.continues.0);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// The format of the segment whose head these bytes are.
    pub(crate) fn format(bytes: &[u8]) -> Option<u16> {
        let mut fields = Fields(bytes);
        fields.take::<8>()?;
        fields.take().map(u16::from_le_bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadHeader> {
        let mut fields = Fields(bytes);
        let magic = fields.take::<8>().ok_or(BadHeader::Damaged)?;
        let version = fields
            .take()
            .map(u16::from_le_bytes)
            .ok_or(BadHeader::Damaged)?;
        let covered = bytes.get(..HEADER_LEN - 4).ok_or(BadHeader::Damaged)?;
        let header = fields.take::<2>().and_then(|_| {
            Some(Self {
                number: u64::from_le_bytes(fields.take()?),
                created_at: Timestamp::from_micros(i64::from_le_bytes(fields.take()?)),
                seed: DigestSeed(u64::from_le_bytes(fields.take()?)),
                continues: Chain(fields.take()?),
            })
        });
        let sum = fields.take().map(u32::from_le_bytes);
        if magic != *MAGIC || sum != Some(crc32fast::hash(covered)) {
            return Err(BadHeader::Damaged);
        }
        if version > FORMAT {
            return Err(BadHeader::Newer(version));
        }
        header.ok_or(BadHeader::Damaged)
    }
}

/// Reads fixed-size fields off the front of a slice.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

/// Frames under construction, each chained to the one before.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pub(crate) bytes: Vec<u8>,
    pub(crate) chain: Chain,
    pub(crate) records: u64,
}

impl Frames {
    /// Appends one record.
    pub(crate) fn push(&mut self, kind: u8, record: &impl Encode<()>) {
        let start = self.begin(kind);
        // Writing into a Vec cannot fail, and no record type refuses to be encoded.
        let encoded = minicbor::encode(record, &mut self.bytes);
        debug_assert!(encoded.is_ok());
        self.finish(start, kind);
    }

    /// Appends a record that is encoded already.
    pub(crate) fn push_encoded(&mut self, kind: u8, payload: &[u8]) {
        let start = self.begin(kind);
        self.bytes.extend_from_slice(payload);
        self.finish(start, kind);
    }

    /// Appends what the head of a segment says, so that it is part of the chain. It is not counted:
    /// nobody loses anything with it.
    pub(crate) fn push_begun(&mut self, at: Timestamp, seed: DigestSeed) {
        self.push(kind::BEGUN, &Begun::of(at, seed));
        self.records -= 1;
    }

    /// Appends what stands for a record that was at `chain`.
    pub(crate) fn push_tombstone(&mut self, chain: Chain, payload: &[u8]) {
        let start = self.begin(kind::TOMBSTONE);
        self.bytes.extend_from_slice(payload);
        self.seal(start, kind::TOMBSTONE, |_, _| chain);
    }

    fn begin(&mut self, kind: u8) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&MARK);
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&[0; 16]);
        start
    }

    /// Fills in length, chain and checksum of the frame begun at `start`.
    fn finish(&mut self, start: usize, kind: u8) {
        self.seal(start, kind, |before, payload| before.next(kind, payload));
    }

    fn seal(&mut self, start: usize, kind: u8, chain: impl FnOnce(Chain, &[u8]) -> Chain) {
        let Some(frame) = self.bytes.get_mut(start..) else {
            return;
        };
        let Some((head, payload)) = frame.split_at_mut_checked(FRAME_LEN) else {
            return;
        };
        let len = u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes();
        self.chain = chain(self.chain, payload);
        let sum = checksum(len, kind, self.chain, payload).to_le_bytes();
        for (field, value) in [
            (2..6, len.as_slice()),
            (6..10, &sum),
            (11..27, &self.chain.0),
        ] {
            if let Some(field) = head.get_mut(field) {
                field.copy_from_slice(value);
            }
        }
        self.records += 1;
    }
}

fn checksum(len: [u8; 4], kind: u8, chain: Chain, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len);
    hasher.update(&[kind]);
    hasher.update(&chain.0);
    hasher.update(payload);
    hasher.finalize()
}

/// One record as read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) chain: Chain,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    pub(crate) fn len(&self) -> usize {
        FRAME_LEN + self.payload.len()
    }

    /// Whether this record is the one after `previous`. A tombstone that leads to where it comes from
    /// stands for no record.
    pub(crate) fn follows(&self, previous: Chain) -> bool {
        match Tombstone::parse(self.kind, self.payload) {
            Some(tombstone) => tombstone.before == previous && self.chain != previous,
            None => previous.next(self.kind, self.payload) == self.chain,
        }
    }
}

/// How many bytes the frame at the start of `bytes` has; none when there is no frame.
pub(crate) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let mut fields = Fields(bytes);
    if fields.take()? != MARK {
        return None;
    }
    let len = usize::try_from(u32::from_le_bytes(fields.take()?)).ok()?;
    len.checked_add(FRAME_LEN)
}

/// The chain that the frame at the start of `bytes` says, whether or not that holds.
pub(crate) fn frame_chain(bytes: &[u8]) -> Option<Chain> {
    let mut fields = Fields(bytes.get(11..FRAME_LEN)?);
    fields.take().map(Chain)
}

/// The frame at the start of `bytes`, if it is whole and its checksum holds.
pub(crate) fn parse_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let bytes = bytes.get(..frame_len(bytes)?)?;
    let (head, payload) = bytes.split_at_checked(FRAME_LEN)?;
    let mut fields = Fields(head.get(2..)?);
    let len = fields.take()?;
    let sum = u32::from_le_bytes(fields.take()?);
    let [kind] = fields.take()?;
    let chain = Chain(fields.take()?);
    (checksum(len, kind, chain, payload) == sum).then_some(Frame {
        kind,
        chain,
        payload,
    })
}

/// A message stored once under its digest.
#[derive(Clone, Copy, Debug, Encode, Decode)]
pub(crate) struct Content<'a> {
    #[n(0)]
    pub(crate) digest: Digest,
    #[n(1)]
    pub(crate) redacted: bool,
    /// Length before compression; none when the bytes are not compressed.
    #[n(2)]
    pub(crate) unpacked_len: Option<u32>,
    #[cbor(b(3), with = "minicbor::bytes")]
    pub(crate) bytes: &'a [u8],
}

/// What outlives the segments before `before`: written once the index has covered them.
#[derive(Clone, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Checkpoint {
    /// The first segment that is not covered.
    #[n(0)]
    pub(crate) before: u64,
    /// When that segment was begun.
    #[n(1)]
    pub(crate) at: Timestamp,
    /// Admissions without settlement, their bodies left out.
    #[n(2)]
    pub(crate) open: Vec<Admission>,
    #[n(3)]
    pub(crate) summaries: Vec<(Key, Summary)>,
    #[cbor(n(4), default)]
    pub(crate) accounts: Vec<(AccountId, StoredAccount)>,
    /// Calls that may be settled late, their bodies left out.
    #[cbor(n(5), default)]
    pub(crate) pending: Vec<(Admission, Settlement)>,
    /// When each began, and what it sums up.
    #[cbor(n(6), default)]
    pub(crate) days: Vec<(Timestamp, Of, Slice)>,
}

/// An account is used for the first time.
#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct NewAccount {
    #[n(0)]
    pub(crate) id: AccountId,
    #[n(1)]
    pub(crate) name: AccountName,
    /// So that it is not taken for one that nobody used for long before its first charge.
    #[n(2)]
    pub(crate) at: Timestamp,
}

/// Something worth keeping that is no call: what was done to the proxy, or befell it.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Event {
    #[n(0)]
    pub at: Timestamp,
    /// Who did or saw it: the program itself, or an operator.
    #[n(1)]
    pub who: String,
    #[n(2)]
    pub what: String,
    #[n(3)]
    pub details: Option<String>,
    /// The loop that was stopped, or may go on.
    #[cbor(n(4), default)]
    pub trip: Option<Box<Trip>>,
    /// What it says to those who watch.
    #[cbor(n(5), default)]
    pub signal: Option<Box<Signal>>,
}

impl Event {
    /// What the program says of its own life.
    pub const STARTED: &'static str = "started";
    pub const RECOVERED: &'static str = "recovered";
    pub const STOPPED: &'static str = "stopped";
    /// The end of the log was not where it had been.
    pub const LOG_SHORTER: &'static str = "log_shorter_than_index";
    /// Retention let the oldest segments go.
    pub const SEGMENTS_RETIRED: &'static str = "segments_retired";
    /// Calls of a run are refused from now on, and waiting does not help.
    pub const RUN_REFUSED: &'static str = "run_refused";

    /// Characters that are kept of what the program says of itself.
    pub(super) const MAX_DETAILS: usize = 4096;

    /// The event a record tells of: its own, or that of an operator's act.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let act = || minicbor::decode::<Act>(payload).map(Self::from);
        let removal = || Removal::parse(payload).map(Self::from);
        minicbor::decode(payload)
            .or_else(|_| act())
            .ok()
            .or_else(removal)
    }

    /// Something the program itself did or saw. `details` becomes one line.
    pub fn own(at: Timestamp, what: &'static str, details: Option<String>) -> Self {
        let details = details.map(|text| {
            let line = text.lines().collect::<Vec<_>>().join("; ");
            line.chars().take(Self::MAX_DETAILS).collect()
        });
        Self {
            at,
            who: "open-aiops".to_owned(),
            what: what.to_owned(),
            details,
            trip: None,
            signal: None,
        }
    }

    /// The run whose calls it says are refused for good, and the agent that met with it.
    pub(crate) fn refuses(&self) -> Option<(Label, Option<Label>)> {
        let scope = &self.signal.as_ref()?.scope;
        let is_it = self.what == Self::RUN_REFUSED && scope.about == About::Run;
        let run = Label::parse(&scope.name).ok().filter(|_| is_it)?;
        let agent = scope.key.as_deref();
        Some((run, agent.and_then(|agent| Label::parse(agent).ok())))
    }

    /// The same, saying `signal` to those who watch.
    #[must_use]
    pub fn saying(self, signal: Signal) -> Self {
        let signal = Some(Box::new(signal));
        Self { signal, ..self }
    }
}

impl From<Act> for Event {
    fn from(act: Act) -> Self {
        let what: &str = (&act.deed).into();
        let signal = match &act.deed {
            Deed::BudgetRaised(account, _) | Deed::BudgetReset(account) => Some(Signal {
                account: Some(*account),
                ..Signal::of(Scope::new(About::Budget, ""))
            }),
            deed => deed
                .run()
                .map(|run| Signal::of(Scope::new(About::Run, run))),
        };
        Self {
            at: act.at,
            who: act.who,
            what: what.to_owned(),
            details: Some(act.details),
            trip: None,
            signal: signal.map(Box::new),
        }
    }
}
