//! One pass over a JSON request body: its few facts, and where its messages lie.
//!
//! Only small fields are copied out. Messages, tools and instructions stay where they are: they
//! become byte ranges with a digest. A repeated key counts by its last value, as upstreams read
//! it. Nothing here fails: a body that is no JSON object gives facts that are not `readable`.
//!
//! A request repeats the one before it and adds a little: [`Scanner`] remembers what the front of
//! a body said and reads on behind it.

mod fields;
pub(super) mod limits;
mod payload;
mod reader;
mod scanner;
mod unseen;

use std::collections::BTreeMap;
use std::ops::Range;

use self::reader::Reader;
pub use self::scanner::Scanner;
use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};
use crate::wire::route::Dialect;

/// What a request body says, as far as this proxy cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The body is one JSON object; everything else here is empty when it is not.
    pub readable: bool,
    pub model: Option<String>,
    pub stream: bool,
    /// `stream_options.include_usage`
    pub include_usage: Option<bool>,
    /// Where the value of `stream_options` lies.
    pub stream_options: Option<Range<usize>>,
    /// The largest number of output tokens, times the number of choices. None where no limit is
    /// set that is sure to be kept.
    pub output_limit: Option<u64>,
    /// The number of choices in `output_limit`: at least 1, but 0 when the body is not readable.
    pub choices: u64,
    /// Where the output limit of one choice is set, in the order of the body: repeats and nulls too.
    pub limit_fields: Vec<LimitField>,
    /// `thinking.budget_tokens`
    pub thinking_budget: Option<u64>,
    pub service_tier: Option<String>,
    pub previous_response_id: Option<String>,
    /// `conversation`: its id, whether given as a string or as an object.
    pub conversation: Option<String>,
    pub user: Option<String>,
    pub safety_identifier: Option<String>,
    pub prompt_cache_key: Option<String>,
    pub session_id: Option<String>,
    /// The first 16 pairs whose value is a string.
    pub metadata: BTreeMap<String, String>,
    pub background: bool,
    pub tool_choice: ToolChoice,
    /// In the order of the body, never overlapping.
    pub segments: Vec<Segment>,
}

/// A member of the body that sets the output limit of one choice, or holds the one that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitField {
    /// The spelling that stands for all spellings of the key.
    pub name: &'static str,
    /// Where its value lies.
    pub value: Range<usize>,
}

/// `tool_choice`, as far as it costs tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    #[default]
    Auto,
    None,
    Required,
    Named(String),
}

/// A part of the body that is counted, stored and compared as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub range: Range<usize>,
    pub kind: SegmentKind,
    /// Digest of the raw bytes of `range`.
    pub digest: Digest,
    /// Base64 payloads (images, audio, files) in it.
    pub payloads: u32,
    /// Bytes of the range inside such payloads.
    pub payload_bytes: usize,
    /// Signs of what costs tokens that are not in the text: images and files, wherever they lie, or
    /// tools that the upstream runs by itself.
    pub unseen: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentKind {
    /// One element of `messages`, `contents` or an array `input` of a response.
    Message,
    /// `system`, `instructions` or `system_instruction` as a whole.
    Instructions,
    /// `tools` (or `functions`) as a whole.
    Tools,
    /// `response_format`, or the settings of an answer that hold such a format.
    ResponseFormat,
    /// The schema of the answer alone, as Gemini has it.
    Schema,
    /// A text or a list of texts to embed, complete, speak or check.
    Input,
}

/// Reads the facts of `body`, taken as the request of `operation` in `dialect`.
pub fn scan(operation: Operation, dialect: Dialect, body: &[u8], seed: DigestSeed) -> RequestFacts {
    let mut reader = Reader::new(operation, body, seed);
    while !reader.is_done() {
        if reader.step().is_err() {
            return RequestFacts::default();
        }
    }
    reader.facts(dialect)
}

/// As [`scan`], of a body of which only the front is there: what can be read of it.
pub fn scan_front(
    operation: Operation,
    dialect: Dialect,
    front: &[u8],
    seed: DigestSeed,
) -> RequestFacts {
    let mut reader = Reader::new(operation, front, seed);
    let mut steps = 0_usize;
    while !reader.is_done() && reader.step().is_ok() {
        steps += 1;
    }
    if steps == 0 {
        return RequestFacts::default();
    }
    reader.facts(dialect)
}

#[cfg(test)]
mod tests;
