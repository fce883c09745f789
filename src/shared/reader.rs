//! Hearing of the deeds of other instances.

use std::time::Duration;

use redis::streams::{StreamId, StreamReadReply};
use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use tokio::sync::watch;

use super::deeds::Told;
use super::redis_error::Away;
use super::{CONNECT_TIMEOUT, Shared};

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
    /// It may have been heard of before, in another process on the same ledger.
    pub is_old: bool,
}

/// Who does what was done on another instance.
pub trait Follow: Sync {
    fn follow(&self, heard: Heard) -> impl Future<Output = ()> + Send;
}

/// Up to where deeds were heard of.
#[derive(Debug)]
pub(crate) struct Applied(watch::Sender<DeedId>);

impl Default for Applied {
    fn default() -> Self {
        Self(watch::Sender::new(DeedId::default()))
    }
}

impl DeedId {
    fn parse(text: &str) -> Option<Self> {
        let (time, number) = text.split_once('-')?;
        Some(Self(time.parse().ok()?, number.parse().ok()?))
    }
}

impl Shared {
    /// Waits until this deed and all before it were heard of here: no call passes what was done
    /// before it elsewhere.
    pub async fn catch_up(&self, deed: &str) {
        let Some(deed) = DeedId::parse(deed) else {
            return;
        };
        if *self.deeds.0.borrow() >= deed {
            return;
        }
        let mut applied = self.deeds.0.subscribe();
        let heard = applied.wait_for(|applied| *applied >= deed);
        if tokio::time::timeout(PATIENCE, heard).await.is_err() {
            tracing::warn!("a call goes on though not all deeds of other instances were heard of");
        }
    }

    /// Hears of deeds for as long as it is polled, and has each one followed.
    pub async fn hear(&self, follower: &impl Follow) {
        let mut tip = None;
        loop {
            if let Err(away) = self.hear_while_connected(&mut tip, follower).await {
                tracing::debug!("deeds of other instances are not heard of now: {away}");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn hear_while_connected(
        &self,
        tip: &mut Option<DeedId>,
        follower: &impl Follow,
    ) -> Result<(), Away> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(BLOCK * 2));
        let mut line = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let last: Option<String> = redis::cmd("GET")
            .arg(self.naming.key("deed"))
            .query_async(&mut line)
            .await?;
        let last = last.as_deref().and_then(DeedId::parse).unwrap_or_default();
        // What is there at the first look may be known from before this start.
        let tip = *tip.get_or_insert(last);
        self.restart_behind(last);
        loop {
            for entry in self.next(&mut line).await? {
                self.take_in(&entry, tip, follower).await;
            }
        }
    }

    /// A Redis that lost its memory begins anew.
    fn restart_behind(&self, last: DeedId) {
        self.deeds.0.send_if_modified(|applied| {
            let is_ahead = *applied > last;
            if is_ahead {
                *applied = last;
            }
            is_ahead
        });
    }

    async fn next(&self, line: &mut MultiplexedConnection) -> Result<Vec<StreamId>, Away> {
        let DeedId(time, number) = *self.deeds.0.borrow();
        let millis = u64::try_from(BLOCK.as_millis()).unwrap_or(1000);
        let reply: Option<StreamReadReply> = redis::cmd("XREAD")
            .arg("COUNT")
            .arg(AT_ONCE)
            .arg("BLOCK")
            .arg(millis)
            .arg("STREAMS")
            .arg(self.naming.key("deeds"))
            .arg(format!("{time}-{number}"))
            .query_async(line)
            .await?;
        let keys = reply.into_iter().flat_map(|reply| reply.keys);
        Ok(keys.flat_map(|key| key.ids).collect())
    }

    async fn take_in(&self, entry: &StreamId, tip: DeedId, follower: &impl Follow) {
        let Some(id) = DeedId::parse(&entry.id) else {
            return;
        };
        let origin: Option<String> = entry.get("o");
        let is_own = origin.as_deref() == Some(self.naming.id());
        let sealed: Vec<u8> = entry.get("d").unwrap_or_default();
        let bytes = self.seal.open(&sealed).unwrap_or_default();
        match minicbor::decode::<Told>(&bytes) {
            _ if is_own => {}
            Ok(told) => {
                let is_old = id <= tip;
                follower.follow(Heard { told, is_old }).await;
            }
            Err(error) => {
                tracing::warn!("a deed of another instance is not understood: {error}");
            }
        }
        self.deeds.0.send_replace(id);
    }
}
