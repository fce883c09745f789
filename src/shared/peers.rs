//! The instances at one Redis, as each says of itself.

use super::redis_error::Away;
use crate::core::time::Timestamp;

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: String,
    pub incarnation: u64,
    /// It is gone if it is not heard of until then.
    pub lease_ends: Timestamp,
    /// Redis had all that it knew then; 0 when it does not.
    pub synced_at: Timestamp,
    pub seen_at: Timestamp,
    /// What it says of itself for people: its name, its version, where its dashboard is.
    pub title: String,
    pub about: String,
}

/// As the script gives it: how it is, its time, the last deed, its memory, and of each instance the
/// id and what it says of itself.
pub(super) type Reply = (String, String, String, String, Vec<String>);

/// The answer to a sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// By the server's clock.
    pub at: Timestamp,
    /// Nobody was there before, or Redis lost its memory.
    pub is_new: bool,
    pub deed: String,
    /// Another one where Redis lost what it had.
    pub memory: String,
    pub peers: Vec<Peer>,
}

impl Heartbeat {
    pub(super) fn parse((word, at, deed, memory, all): Reply) -> Result<Self, Away> {
        match word.as_str() {
            "secret" => return Err(Away::Secret),
            "twice" => return Err(Away::Twice),
            _ => {}
        }
        let at = at.parse().map_err(|_| Away::Answer(at))?;
        let pairs = all.chunks_exact(2);
        let peers = pairs.filter_map(|pair| Peer::parse(pair.first()?, pair.last()?));
        let mut peers: Vec<Peer> = peers.collect();
        peers.sort_by(|one, other| (&one.title, &one.id).cmp(&(&other.title, &other.id)));
        Ok(Self {
            at: Timestamp::from_micros(at),
            is_new: word == "new",
            deed,
            memory,
            peers,
        })
    }
}

impl Peer {
    fn parse(id: &str, text: &str) -> Option<Self> {
        let mut words = text.splitn(5, ' ');
        let mut moment = || {
            let micros: i64 = words.next()?.parse().ok()?;
            Some(Timestamp::from_micros(micros))
        };
        let incarnation = u64::try_from(moment()?.micros()).ok()?;
        let (lease_ends, synced_at, seen_at) = (moment()?, moment()?, moment()?);
        let told = words.next().unwrap_or_default();
        let (title, about) = told.split_once('\n').unwrap_or((told, ""));
        Some(Self {
            id: id.to_owned(),
            incarnation,
            lease_ends,
            synced_at,
            seen_at,
            title: title.to_owned(),
            about: about.to_owned(),
        })
    }

    pub fn lives(&self, now: Timestamp) -> bool {
        self.lease_ends > now
    }

    /// Redis has all that it knew at `since`.
    pub fn is_synced(&self, since: Timestamp) -> bool {
        self.synced_at >= since
    }
}
