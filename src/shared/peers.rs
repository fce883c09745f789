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

/// The answer to a sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// By the server's clock.
    pub at: Timestamp,
    /// Nobody was there before, or Redis lost its memory.
    pub is_new: bool,
    pub deed: String,
    pub peers: Vec<Peer>,
}

impl Beat {
    pub(super) fn parse(reply: &[String]) -> Result<Self, Away> {
        let not_understood = || Away::Answer(reply.join(" ").chars().take(200).collect());
        match reply {
            [word] if word == "secret" => Err(Away::Secret),
            [word] if word == "twice" => Err(Away::Twice),
            [word, at, deed, rest @ ..] => {
                let pairs = rest.chunks_exact(2);
                let peers = pairs.filter_map(|pair| Peer::parse(pair.first()?, pair.last()?));
                let at = at.parse().map_err(|_| not_understood())?;
                let mut peers: Vec<Peer> = peers.collect();
                peers.sort_by(|one, other| (&one.title, &one.id).cmp(&(&other.title, &other.id)));
                Ok(Self {
                    at: Timestamp::from_micros(at),
                    is_new: word == "new",
                    deed: deed.clone(),
                    peers,
                })
            }
            _ => Err(not_understood()),
        }
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
