//! The stream through which instances give each other what they recorded.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use redis::{AsyncConnectionConfig, AsyncTypedCommands};

use super::redis_error::Away;
use super::{CONNECT_TIMEOUT, PUSH_TIMEOUT, Shared};

/// Redis answers after so long though nothing was given.
const BLOCK: Duration = Duration::from_secs(2);
const AT_ONCE: usize = 128;

/// What another instance gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its place in the stream.
    pub id: String,
    /// None of one's own, and of what cannot be opened.
    pub record: Option<Vec<u8>>,
}

/// Takes what others give, on a connection of its own.
pub struct Taker<'s> {
    shared: &'s Shared,
    line: MultiplexedConnection,
    after: String,
    /// Redis does not know how far this instance came.
    is_new: bool,
}

impl Shared {
    /// Gives records to the others. `bookmark` is where the next ones come from.
    pub async fn give(&self, records: &[Vec<u8>], bookmark: &str) -> Result<(), Away> {
        let mut line = self.line()?;
        line.set_response_timeout(PUSH_TIMEOUT.max(self.config.timeout));
        let mut call = self.give.prepare_invoke();
        call.key(self.naming.key("records"))
            .key(self.naming.key("given"));
        call.arg(self.naming.id())
            .arg(self.config.keep_records)
            .arg(bookmark);
        for record in records {
            let sealed = self.seal.seal(record).ok_or(Away::Absent)?;
            call.arg(sealed);
        }
        let _: i64 = call.invoke_async(&mut line).await?;
        Ok(())
    }

    /// Up to where this instance gave its records, if Redis knows.
    pub async fn given(&self) -> Result<Option<String>, Away> {
        let mut line = self.line()?;
        Ok(line
            .hget(self.naming.key("given"), self.naming.id())
            .await?)
    }

    /// Goes on taking where this instance stopped.
    pub async fn taker(&self) -> Result<Taker<'_>, Away> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(BLOCK * 2));
        let client = &self.client;
        let mut line = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let after: Option<String> = line
            .hget(self.naming.key("taken"), self.naming.id())
            .await?;
        Ok(Taker {
            shared: self,
            line,
            is_new: after.is_none(),
            after: after.unwrap_or_else(|| "0-0".to_owned()),
        })
    }
}

impl Taker<'_> {
    /// Whether some of what came next is not there any more, or may not be: where Redis does not know
    /// of an instance that took something before, it lost what it had. Said once.
    pub async fn has_missed(&mut self, took_before: bool) -> Result<bool, Away> {
        if std::mem::take(&mut self.is_new) && took_before {
            self.took("0-0").await?;
            return Ok(true);
        }
        let key = self.shared.naming.key("records");
        let first: StreamRangeReply = self.line.xrange_count(key, "-", "+", 1).await?;
        let first = first.ids.first().and_then(|it| place(&it.id));
        let after = place(&self.after).filter(|after| *after > (0, 0));
        Ok(matches!((first, after), (Some(first), Some(after)) if first > after))
    }

    /// What was given since; empty when nothing came for a while.
    pub async fn next(&mut self) -> Result<Vec<Given>, Away> {
        let millis = u64::try_from(BLOCK.as_millis()).unwrap_or(1000);
        let reply: Option<StreamReadReply> = redis::cmd("XREAD")
            .arg("COUNT")
            .arg(AT_ONCE)
            .arg("BLOCK")
            .arg(millis)
            .arg("STREAMS")
            .arg(self.shared.naming.key("records"))
            .arg(&self.after)
            .query_async(&mut self.line)
            .await?;
        let keys = reply.into_iter().flat_map(|reply| reply.keys);
        let entries: Vec<StreamId> = keys.flat_map(|key| key.ids).collect();
        Ok(entries.iter().map(|entry| self.read(entry)).collect())
    }

    fn read(&self, entry: &StreamId) -> Given {
        let origin: Option<String> = entry.get("o");
        let is_own = origin.as_deref() == Some(self.shared.naming.id());
        let sealed: Option<Vec<u8>> = entry.get("r").filter(|_| !is_own);
        let record = sealed.and_then(|sealed| self.shared.seal.open(&sealed));
        Given {
            id: entry.id.clone(),
            record,
        }
    }

    /// All up to this one is kept here: it need not come again.
    pub async fn took(&mut self, id: &str) -> Result<(), Away> {
        let key = self.shared.naming.key("taken");
        let _: usize = self.line.hset(key, self.shared.naming.id(), id).await?;
        id.clone_into(&mut self.after);
        Ok(())
    }
}

/// The two numbers of an id, which tell the order.
fn place(id: &str) -> Option<(u64, u64)> {
    let (time, number) = id.split_once('-')?;
    Some((time.parse().ok()?, number.parse().ok()?))
}
