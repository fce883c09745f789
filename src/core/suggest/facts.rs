//! What the rules know of a call.

use std::sync::Arc;

use super::words::Words;
use crate::core::call::Outcome;
use crate::core::digest::Digest;
use crate::core::id::{CallId, Label};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::usage::Usage;

/// One call that ended.
#[derive(Clone, Debug)]
pub struct CallFacts {
    pub id: CallId,
    pub at: Timestamp,
    pub duration_us: u64,
    pub agent: Label,
    pub run: Option<Label>,
    pub conversation: Option<Label>,
    pub variant: Option<Label>,
    pub upstream: Label,
    pub model: Option<Label>,
    pub outcome: Outcome,
    pub status: Option<u16>,
    pub usage: Usage,
    pub cost: Option<NanoUsd>,
    pub rates: Rates,
    /// The output ended at its limit.
    pub is_cut: bool,
    /// None where its request is not recorded, or not all of it.
    pub sent: Option<Sent>,
    /// None where its answer is not recorded.
    pub answered: Option<Answered>,
}

/// Pico-USD for a token; none where no price is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub input: Option<u64>,
    pub cache_read: Option<u64>,
    /// As input, where a write costs nothing more.
    pub cache_write: Option<u64>,
    pub output: Option<u64>,
}

/// What calls would cost elsewhere.
pub trait Tariff {
    /// What `usage` at another model of the same upstream costs; none where it has no price, or
    /// where the model has no room for so many tokens.
    fn quote(&self, upstream: &Label, model: &Label, usage: &Usage) -> Option<NanoUsd>;
}

/// A request, in the order in which a provider's cache takes it: tools, instructions, messages.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Of the whole body.
    pub body: Digest,
    pub parts: Vec<Part>,
    pub tools: Option<Arc<Vec<Tool>>>,
    /// The response or the conversation that it goes on from, which the provider keeps and adds.
    pub earlier: Option<Digest>,
    /// Bytes of text that are billed and are none of the parts: the form of the answer.
    pub besides: u64,
    /// It has images, files or tools of the provider, whose tokens are not in its bytes.
    pub has_unseen: bool,
    pub caching: Caching,
    /// Of the last message, of a request that nothing was answered in yet.
    pub asked: Option<Arc<Words>>,
}

/// Who decides whether a request is cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caching {
    /// The provider, by itself.
    #[default]
    Automatic,
    /// The client, who set marks.
    Asked,
    /// The client, who set none.
    NotAsked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartKind {
    Tools,
    System,
    User,
    Assistant,
    ToolResult,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub kind: PartKind,
    pub digest: Digest,
    /// The same where only times, ids and numbers differ; of tools, where only their order does;
    /// of results, where only the ids of their calls do.
    pub shape: Digest,
    /// Of its text: without images and files.
    pub bytes: u32,
    /// Those of them that are not in times, ids or numbers.
    pub steady: u32,
    /// Of a result that is long enough to matter.
    pub words: Option<Arc<Words>>,
    /// Names of the tools that it calls.
    pub calls: Option<Arc<[String]>>,
    /// Of a user, and says no more than to go on.
    pub is_nudge: bool,
}

/// A tool that is offered, and the bytes of its definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    pub name: String,
    pub bytes: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// Names of the tools that are called, and a hash of the arguments.
    pub calls: Vec<(String, u64)>,
    /// Of its text and the arguments of its calls.
    pub words: Words,
}

impl PartKind {
    pub fn words(self) -> &'static str {
        match self {
            Self::Tools => "the list of tools",
            Self::System => "the instructions",
            Self::User => "a user message",
            Self::Assistant => "an assistant message",
            Self::ToolResult => "a tool result",
        }
    }
}

impl Sent {
    /// Of all text that is billed.
    pub fn bytes(&self) -> u64 {
        let parts = self.parts.iter().map(|part| u64::from(part.bytes));
        parts.sum::<u64>() + self.besides
    }

    /// Whether the same was asked: every part, in the same order, after the same history.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let digests = |sent: &Self| {
            sent.parts
                .iter()
                .map(|part| part.digest)
                .collect::<Vec<_>>()
        };
        !self.parts.is_empty() && self.earlier == other.earlier && digests(self) == digests(other)
    }

    /// Whether the input that is billed is the text of the request, so that a share of its bytes is a
    /// share of its tokens.
    pub fn is_countable(&self) -> bool {
        !self.has_unseen && self.earlier.is_none()
    }
}

impl CallFacts {
    pub fn ended_at(&self) -> i64 {
        self.at.micros().saturating_add_unsigned(self.duration_us)
    }

    pub fn is_done(&self) -> bool {
        self.outcome == Outcome::Completed
    }

    pub fn tokens(&self) -> u64 {
        self.usage
            .input_tokens
            .saturating_add(self.usage.output_tokens)
    }

    /// The input tokens that so many bytes of the request are: their share by bytes. 0 where that cannot
    /// be told.
    pub fn tokens_of(&self, bytes: u64) -> u64 {
        let sent = self.sent.as_ref().filter(|sent| sent.is_countable());
        let all = sent.map_or(0, Sent::bytes);
        if all == 0 {
            return 0;
        }
        let share = u128::from(self.usage.input_tokens) * u128::from(bytes.min(all));
        u64::try_from(share / u128::from(all)).unwrap_or(0)
    }

    /// What one token of the history was billed at the least.
    pub fn least_rate(&self) -> Option<u64> {
        if self.usage.cache_read_input_tokens > 0 {
            self.rates.cache_read.or(self.rates.input)
        } else {
            self.rates.input
        }
    }

    /// The agent, the run and the conversation, as far as they are known.
    pub fn talk(&self) -> Talk<'_> {
        (&self.agent, self.run.as_ref(), self.conversation.as_ref())
    }

    /// What tokens cost that were no cache read: written to the cache, or plainly billed.
    pub fn fresh_rate(&self) -> Option<u64> {
        if self.usage.cache_write_input_tokens > 0 {
            self.rates.cache_write.or(self.rates.input)
        } else {
            self.rates.input
        }
    }
}

/// An agent, its run and its conversation.
pub type Talk<'a> = (&'a Label, Option<&'a Label>, Option<&'a Label>);

/// What so many tokens cost, rounded down.
pub fn price(tokens: u64, pico: Option<u64>) -> Option<i64> {
    let nano = u128::from(tokens) * u128::from(pico?) / 1000;
    i64::try_from(nano).ok()
}
