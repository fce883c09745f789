//! What the rules know of a call.

use std::sync::Arc;

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
    pub output: Option<u64>,
}

/// A request, in the order in which a provider's cache takes it: tools, instructions, messages.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Of the whole body.
    pub body: Digest,
    pub parts: Vec<Part>,
    pub tools: Option<Arc<Vec<Tool>>>,
    /// Hashes of the lines of the last message.
    pub lines: Arc<[u64]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartKind {
    Tools,
    System,
    User,
    Assistant,
    ToolResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub kind: PartKind,
    pub digest: Digest,
    /// The same where only times, ids and numbers differ; of tools, where only their order does.
    pub shape: Digest,
    pub bytes: u32,
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
    /// Hashes of the lines of its text.
    pub lines: Vec<u64>,
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
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.bytes)).sum()
    }

    /// Whether the same was asked: every part, and in the same order.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let digests = |sent: &Self| {
            sent.parts
                .iter()
                .map(|part| part.digest)
                .collect::<Vec<_>>()
        };
        !self.parts.is_empty() && digests(self) == digests(other)
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

    /// The input tokens that so many bytes of the request are: their share by bytes.
    pub fn tokens_of(&self, bytes: u64) -> u64 {
        let all = self.sent.as_ref().map_or(0, Sent::bytes).max(1);
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

    /// Of the same agent, and of one conversation as far as that is known.
    pub fn goes_with(&self, other: &Self) -> bool {
        self.agent == other.agent
            && self.run == other.run
            && self.conversation == other.conversation
    }
}

/// What so many tokens cost, rounded down.
pub fn price(tokens: u64, pico: Option<u64>) -> Option<i64> {
    let nano = u128::from(tokens) * u128::from(pico?) / 1000;
    i64::try_from(nano).ok()
}
