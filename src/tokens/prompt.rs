//! The tokens of a request, and of an answer, as far as they can be known here.
//!
//! A [`Counter`] remembers what each segment came to, under the digest of its bytes: the next call
//! of a conversation costs the counting of its new messages only.

use std::sync::atomic::{AtomicU64, Ordering};

use super::content::{Reader, Tally};
use super::encoding::{
    Encoding, MAX_COUNTED_BYTES, ModelEncoding, bare_name, count, encoding_for, tokens_of_bytes,
};
use super::image::ImageScheme;
use crate::core::call::Operation;
use crate::core::digest::Digest;
use crate::core::memo::Memo;
use crate::core::usage::Provenance;
use crate::wire::scan::{RequestFacts, Segment, SegmentKind, ToolChoice};

/// Tokens before the answer of a chat.
const PRIMING: u32 = 3;
/// The framing of one message: three marks and its role.
const FRAMING: u32 = 4;
/// The system message of a chat holds the tools, which saves a frame.
const SHARED_SYSTEM_FRAME: u64 = 4;
/// What Claude is told about the use of tools.
const CLAUDE_TOOL_PROMPT: u32 = 346;
/// An image, for who cannot look at it.
const PAYLOAD: u64 = 1500;
/// Hidden tokens of models whose framing is not known: a fiftieth and a few more.
const HIDDEN_FRACTION: u64 = 50;
const HIDDEN_TOKENS: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub tokens: u64,
    pub provenance: Provenance,
}

/// Counts prompts and answers. Share one between all calls.
#[derive(Debug)]
pub struct Counter {
    memo: Memo<Key, Tally>,
    tokenised: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    digest: Digest,
    kind: SegmentKind,
    encoding: Encoding,
    images: ImageScheme,
}

/// How one model counts.
struct Model {
    encoding: ModelEncoding,
    images: ImageScheme,
    is_claude: bool,
}

impl Model {
    fn of(model: &str) -> Self {
        Self {
            encoding: encoding_for(model),
            images: ImageScheme::of(model),
            is_claude: bare_name(model).starts_with("claude"),
        }
    }

    fn key(&self, segment: &Segment) -> Key {
        Key {
            digest: segment.digest,
            kind: segment.kind,
            encoding: self.encoding.encoding,
            images: self.images,
        }
    }

    fn scaled(&self, text: u64) -> u64 {
        text.saturating_mul(u64::from(self.encoding.factor_permille))
            .div_ceil(1000)
    }
}

impl Counter {
    /// A counter that remembers at most `entries` segments, about 100 bytes each.
    pub fn new(entries: usize) -> Self {
        Self {
            memo: Memo::new(entries),
            tokenised: AtomicU64::new(0),
        }
    }

    /// Bytes of text tokenised so far.
    pub fn tokenised_bytes(&self) -> u64 {
        self.tokenised.load(Ordering::Relaxed)
    }

    /// The input tokens of a request. `facts` are those of a scan of `body`.
    ///
    /// Takes as long as tokenising what is new in it: up to 100 ms a megabyte, so not on an async
    /// thread.
    pub fn count_prompt(
        &self,
        operation: Operation,
        model: &str,
        body: &[u8],
        facts: &RequestFacts,
    ) -> Counted {
        let model = Model::of(model);
        if !facts.readable {
            return unread(&model, body.len());
        }
        let mut sum = Sum::default();
        for segment in &facts.segments {
            let tally = self.recall(&model, segment).unwrap_or_else(|| {
                let raw = body.get(segment.range.clone()).unwrap_or_default();
                self.learn(&model, segment, raw)
            });
            sum.add(segment.kind, tally);
        }
        sum.add_frame(&model, operation, facts);
        sum.counted(&model, operation)
    }

    /// The tokens of an answer that was read here.
    pub fn count_output(&self, model: &str, text: &str) -> Counted {
        let model = Model::of(model);
        self.tokenised
            .fetch_add(text.len() as u64, Ordering::Relaxed);
        let tokens = u64::from(count(model.encoding.encoding, text));
        let exact = model.encoding.exact && text.len() <= MAX_COUNTED_BYTES;
        Counted {
            tokens: model.scaled(tokens),
            provenance: provenance(exact),
        }
    }

    /// The input tokens of a request without tokenising: what is remembered, and the bytes of the
    /// rest. Rather too many than too few. A microsecond or less for each segment.
    pub fn quick_estimate(&self, model: &str, body_len: usize, facts: &RequestFacts) -> u64 {
        let model = Model::of(model);
        if !facts.readable {
            return unread(&model, body_len).tokens;
        }
        let estimate = |segment: &Segment| {
            if let Some(tally) = self.recall(&model, segment) {
                return model.scaled(u64::from(tally.text)) + u64::from(tally.fixed);
            }
            let bytes = segment.range.len().saturating_sub(segment.payload_bytes);
            let payloads = PAYLOAD.saturating_mul(u64::from(segment.payloads));
            model.scaled(tokens_of_bytes(bytes)) + u64::from(FRAMING) + payloads
        };
        let sum = facts
            .segments
            .iter()
            .map(estimate)
            .fold(0, u64::saturating_add);
        let hidden = sum / HIDDEN_FRACTION + HIDDEN_TOKENS;
        let hidden = if model.encoding.exact_framing {
            0
        } else {
            hidden
        };
        sum.saturating_add(u64::from(PRIMING))
            .saturating_add(hidden)
    }

    /// The input tokens that a request has at most, without tokenising: what is remembered, and a
    /// token for every byte of the rest, which no tokenizer exceeds.
    pub fn upper_bound(&self, model: &str, body_len: usize, facts: &RequestFacts) -> u64 {
        let model = Model::of(model);
        if !facts.readable {
            return body_len as u64;
        }
        let bound = |segment: &Segment| {
            if let Some(tally) = self.recall(&model, segment) {
                return model.scaled(u64::from(tally.text)) + u64::from(tally.fixed);
            }
            let bytes = segment.range.len().saturating_sub(segment.payload_bytes);
            let payloads = PAYLOAD.saturating_mul(2 * u64::from(segment.payloads));
            model.scaled(bytes as u64) + u64::from(FRAMING) + payloads
        };
        let sum = facts
            .segments
            .iter()
            .map(bound)
            .fold(0, u64::saturating_add);
        let has_tools = facts
            .segments
            .iter()
            .any(|it| it.kind == SegmentKind::Tools);
        let tool_prompt = u64::from(CLAUDE_TOOL_PROMPT) * u64::from(model.is_claude && has_tools);
        sum.saturating_add(sum / HIDDEN_FRACTION)
            .saturating_add(HIDDEN_TOKENS + u64::from(PRIMING + FRAMING) + tool_prompt)
    }

    fn recall(&self, model: &Model, segment: &Segment) -> Option<Tally> {
        self.memo.get(spread(segment.digest), &model.key(segment))
    }

    fn learn(&self, model: &Model, segment: &Segment, raw: &[u8]) -> Tally {
        let mut reader = Reader::new(model.encoding.encoding, model.images);
        reader.segment(segment.kind, raw);
        self.tokenised
            .fetch_add(reader.tokenised, Ordering::Relaxed);
        self.memo
            .insert(spread(segment.digest), model.key(segment), reader.tally);
        reader.tally
    }
}

fn spread(digest: Digest) -> u8 {
    let [first, ..] = digest.to_bytes();
    first
}

fn provenance(exact: bool) -> Provenance {
    if exact {
        Provenance::Counted
    } else {
        Provenance::Estimated
    }
}

fn unread(model: &Model, bytes: usize) -> Counted {
    Counted {
        tokens: model.scaled(tokens_of_bytes(bytes)),
        provenance: Provenance::Estimated,
    }
}

/// The segments of a request together.
#[derive(Default)]
struct Sum {
    text: u64,
    fixed: u64,
    estimated: bool,
    has_system: bool,
    has_tools: bool,
}

impl Sum {
    fn add(&mut self, kind: SegmentKind, tally: Tally) {
        self.text += u64::from(tally.text);
        self.fixed += u64::from(tally.fixed);
        self.estimated |= tally.estimated;
        self.has_system |= tally.system;
        self.has_tools |= kind == SegmentKind::Tools;
    }

    /// What belongs to no segment.
    fn add_frame(&mut self, model: &Model, operation: Operation, facts: &RequestFacts) {
        use Operation::{Chat, GenerateContent, Messages, Responses};
        if !matches!(operation, Chat | Responses | Messages | GenerateContent) {
            return;
        }
        self.fixed += u64::from(PRIMING);
        let is_bare_input = |segment: &Segment| segment.kind == SegmentKind::Input;
        if facts.segments.iter().any(is_bare_input) {
            self.fixed += u64::from(FRAMING);
        }
        if !self.has_tools {
            return;
        }
        if self.has_system {
            self.fixed = self.fixed.saturating_sub(SHARED_SYSTEM_FRAME);
        }
        if model.is_claude {
            self.fixed += u64::from(CLAUDE_TOOL_PROMPT);
        }
        match &facts.tool_choice {
            ToolChoice::Auto | ToolChoice::Required => {}
            ToolChoice::None => self.fixed += 1,
            ToolChoice::Named(name) => {
                self.fixed += 7;
                self.text += u64::from(count(model.encoding.encoding, name));
            }
        }
    }

    fn counted(&self, model: &Model, operation: Operation) -> Counted {
        let framing = match operation {
            Operation::Chat => model.encoding.exact_framing,
            Operation::TextCompletion | Operation::Embeddings => true,
            _ => false,
        };
        let exact = framing && model.encoding.exact && !self.estimated;
        Counted {
            tokens: model.scaled(self.text) + self.fixed,
            provenance: provenance(exact),
        }
    }
}

#[cfg(test)]
mod tests;
