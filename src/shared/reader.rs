//! Hearing of the deeds of other instances.

use std::sync::Mutex;
use std::time::Duration;

use redis::streams::{StreamId, StreamKey, StreamRangeReply, StreamReadReply};
use redis::{AsyncConnectionConfig, AsyncTypedCommands, aio::MultiplexedConnection};
use tokio::sync::watch;

use super::deeds::Told;
use super::redis_error::Away;
use super::{CONNECT_TIMEOUT, Shared, lock};
use crate::core::id::Label;

/// Redis answers after so long though nothing was done.
const BLOCK: Duration = Duration::from_secs(2);
const AT_ONCE: usize = 256;
/// A new attempt to connect comes so much later.
const AGAIN: Duration = Duration::from_millis(200);
/// A call waits no longer than this to hear of what was done before it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The place of a deed among all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeedId(u64, u64);

/// A deed of another instance.
#[derive(Clone, Debug)]
pub struct Heard {
    pub told: Told,
    pub id: DeedId,
    /// It was followed before, by another process on the same ledger.
    pub is_old: bool,
}

/// Who does what was done on another instance.
pub trait Follow: Sync {
    fn follow(&self, heard: Heard) -> impl Future<Output = ()> + Send;
}

/// Up to where deeds were heard of.
#[derive(Debug)]
pub(crate) struct Applied {
    at: watch::Sender<DeedId>,
    /// No call waits for these any more: they were waited for in vain.
    given_up: Mutex<DeedId>,
}

impl Default for Applied {
    fn default() -> Self {
        Self {
            at: watch::Sender::new(DeedId::default()),
            given_up: Mutex::default(),
        }
    }
}

/// What outlives a connection.
#[derive(Debug, Default)]
struct Heed {
    /// The last deed that a process before this one followed.
    old: Option<DeedId>,
    /// The last claim that was heard of.
    claim: DeedId,
}

impl DeedId {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (time, number) = text.split_once('-')?;
        Some(Self(time.parse().ok()?, number.parse().ok()?))
    }

    fn text(self) -> String {
        format!("{}-{}", self.0, self.1)
    }
}

impl Shared {
    /// This deed and all before it were heard of here.
    pub fn has_heard(&self, deed: &str) -> bool {
        DeedId::parse(deed).is_none_or(|deed| *self.deeds.at.borrow() >= deed)
    }

    /// Waits until this deed and all before it were heard of here: no call passes what was done
    /// before it elsewhere.
    pub async fn catch_up(&self, deed: &str) {
        let Some(deed) = DeedId::parse(deed) else {
            return;
        };
        if *self.deeds.at.borrow() >= deed || *lock(&self.deeds.given_up) >= deed {
            return;
        }
        let mut applied = self.deeds.at.subscribe();
        let heard = applied.wait_for(|applied| *applied >= deed);
        if tokio::time::timeout(PATIENCE, heard).await.is_err() {
            *lock(&self.deeds.given_up) = deed;
            tracing::warn!("calls go on though not all deeds of other instances were heard of");
        }
    }

    /// What was done to a run here overrides that deed of another instance.
    pub fn overrides(&self, run: &Label, deed: DeedId) -> bool {
        self.controls.are_later(run, deed)
    }

    /// Hears of deeds for as long as it is polled, and has each one followed.
    pub async fn hear(&self, follower: &impl Follow) {
        let mut heed = Heed::default();
        loop {
            if let Err(away) = self.hear_while_connected(&mut heed, follower).await {
                tracing::debug!("deeds of other instances are not heard of now: {away}");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn hear_while_connected(
        &self,
        heed: &mut Heed,
        follower: &impl Follow,
    ) -> Result<(), Away> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(BLOCK * 2));
        let mut line = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let last = line.get(self.naming.key("deed")).await?;
        let last = last.as_deref().and_then(DeedId::parse).unwrap_or_default();
        if heed.old.is_none() {
            let old = line.hget(self.naming.key("heard"), self.naming.id());
            heed.old = Some(
                old.await?
                    .as_deref()
                    .and_then(DeedId::parse)
                    .unwrap_or_default(),
            );
        }
        self.restart_behind(last, heed);
        self.warn_of_gap(&mut line, heed).await?;
        loop {
            let before = *self.deeds.at.borrow();
            for (key, entry) in self.next(&mut line, heed.claim).await? {
                let Some(id) = DeedId::parse(&entry.id) else {
                    continue;
                };
                if key == self.naming.key("claims") {
                    self.take_in((id, &entry), false, follower).await;
                    heed.claim = id;
                } else {
                    let is_old = heed.old.is_some_and(|old| id <= old);
                    self.take_in((id, &entry), is_old, follower).await;
                    self.deeds.at.send_replace(id);
                }
            }
            self.remember(&mut line, before, heed).await?;
        }
    }

    /// A Redis that lost its memory begins anew.
    fn restart_behind(&self, last: DeedId, heed: &mut Heed) {
        let has_restarted = self.deeds.at.send_if_modified(|applied| {
            let is_ahead = *applied > last;
            if is_ahead {
                *applied = last;
            }
            is_ahead
        });
        if has_restarted {
            // Its clock may be behind: what comes is later than all of these.
            *heed = Heed {
                old: Some(DeedId::default()),
                claim: DeedId::default(),
            };
            *lock(&self.deeds.given_up) = DeedId::default();
            self.controls.forget_told();
        }
    }

    /// Redis keeps so many deeds and no more.
    async fn warn_of_gap(&self, line: &mut MultiplexedConnection, heed: &Heed) -> Result<(), Away> {
        let key = self.naming.key("deeds");
        let first: StreamRangeReply = line.xrange_count(key, "-", "+", 1).await?;
        let first = first.ids.first().and_then(|it| DeedId::parse(&it.id));
        let heard = (*self.deeds.at.borrow()).max(heed.old.unwrap_or_default());
        if heard > DeedId::default() && first.is_some_and(|first| first > heard) {
            tracing::warn!("this instance may have missed deeds of others while it was away");
        }
        Ok(())
    }

    /// The next process on this ledger need not follow what this one did.
    async fn remember(
        &self,
        line: &mut MultiplexedConnection,
        before: DeedId,
        heed: &Heed,
    ) -> Result<(), Away> {
        let now = *self.deeds.at.borrow();
        if now > before && heed.old.is_none_or(|old| now > old) {
            let key = self.naming.key("heard");
            let _: usize = line.hset(key, self.naming.id(), now.text()).await?;
        }
        Ok(())
    }

    /// What was told since, and in which stream.
    async fn next(
        &self,
        line: &mut MultiplexedConnection,
        claim: DeedId,
    ) -> Result<Vec<(String, StreamId)>, Away> {
        let deed = *self.deeds.at.borrow();
        let millis = u64::try_from(BLOCK.as_millis()).unwrap_or(1000);
        let reply: Option<StreamReadReply> = redis::cmd("XREAD")
            .arg("COUNT")
            .arg(AT_ONCE)
            .arg("BLOCK")
            .arg(millis)
            .arg("STREAMS")
            .arg(self.naming.key("claims"))
            .arg(self.naming.key("deeds"))
            .arg(claim.text())
            .arg(deed.text())
            .query_async(line)
            .await?;
        let keys = reply.into_iter().flat_map(|reply| reply.keys);
        let entries = keys.flat_map(|StreamKey { key, ids }| {
            ids.into_iter().map(move |entry| (key.clone(), entry))
        });
        Ok(entries.collect())
    }

    async fn take_in(
        &self,
        (id, entry): (DeedId, &StreamId),
        is_old: bool,
        follower: &impl Follow,
    ) {
        let origin: Option<String> = entry.get("o");
        let is_own = origin.as_deref() == Some(self.naming.id());
        let sealed: Vec<u8> = entry.get("d").unwrap_or_default();
        let bytes = self.seal.open(&sealed).unwrap_or_default();
        match minicbor::decode::<Told>(&bytes) {
            Ok(told) if is_own => {
                if let Some(run) = told.deed.controlled() {
                    self.controls.told(run, id);
                }
            }
            Ok(told) => follower.follow(Heard { told, id, is_old }).await,
            Err(error) => {
                tracing::warn!("a deed of another instance is not understood: {error}");
            }
        }
    }
}
