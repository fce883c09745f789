//! One part of a request, looked into.

use std::sync::Arc;

use serde_json::Value;

use super::contents::SEED;
use super::offer;
use crate::core::digest::Digest;
use crate::core::suggest::facts::PartKind;
use crate::core::suggest::nudge::says_go_on;
use crate::core::suggest::words::Words;
use crate::wire::message::{self, Message, Piece, Role};
use crate::wire::scan::{Segment, SegmentKind};

/// Shorter results are not held against what is said later.
const MIN_RESULT: usize = 2048;

/// What is known of a part wherever it comes again.
pub(super) struct Looked {
    pub(super) kind: PartKind,
    pub(super) shape: Digest,
    pub(super) steady: u32,
    pub(super) words: Option<Arc<Words>>,
    pub(super) calls: Option<Arc<[String]>>,
    pub(super) has_unseen: bool,
    pub(super) is_nudge: bool,
}

pub(super) fn look(segment: &Segment, digest: Digest, raw: &[u8]) -> Looked {
    let mut looked = Looked {
        kind: PartKind::User,
        shape: digest,
        steady: 0,
        words: None,
        calls: None,
        has_unseen: segment.payloads > 0,
        is_nudge: false,
    };
    if segment.kind == SegmentKind::Tools {
        looked.kind = PartKind::Tools;
        looked.shape = offer::shape(raw);
        looked.has_unseen |= segment.unseen > 0;
        return looked;
    }
    if segment.unseen > 0 && !looked.has_unseen {
        looked.has_unseen = serde_json::from_slice(raw).is_ok_and(|value| has_media(&value));
    }
    if let Some(message) = message::read(segment.kind, raw) {
        fill(&mut looked, &message, raw.len());
    }
    looked
}

fn fill(looked: &mut Looked, message: &Message, len: usize) {
    let is_result = |piece: &Piece| matches!(piece, Piece::Result { .. });
    looked.kind = match message.role {
        Role::Tool => PartKind::ToolResult,
        _ if message.pieces.iter().any(is_result) => PartKind::ToolResult,
        Role::System => PartKind::System,
        Role::User => PartKind::User,
        Role::Assistant => PartKind::Assistant,
    };
    match looked.kind {
        PartKind::System => {
            let text = texts(message);
            let (shape, steady) = shape(&text);
            looked.shape = SEED.digest(&shape);
            let share = steady.saturating_mul(len) / text.len().max(1);
            looked.steady = u32::try_from(share.min(len)).unwrap_or(u32::MAX);
        }
        // The same image or none: only its text is not enough to say so.
        PartKind::ToolResult if !looked.has_unseen => {
            let text = texts(message);
            looked.shape = SEED.digest(text.as_bytes());
            if text.len() >= MIN_RESULT {
                looked.words = Some(Arc::new(Words::of(&text)));
            }
        }
        PartKind::User if !looked.has_unseen => looked.is_nudge = says_go_on(&texts(message)),
        _ => {}
    }
    let calls: Vec<String> = message
        .pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Call(call) => Some(call.name.clone()),
            _ => None,
        })
        .collect();
    looked.calls = Some(calls).filter(|calls| !calls.is_empty()).map(Arc::from);
}

/// The words of the last message of a request.
pub(super) fn asked(segment: &Segment, raw: &[u8]) -> Option<Words> {
    if segment.payloads > 0 || segment.kind == SegmentKind::Tools {
        return None;
    }
    let message = message::read(segment.kind, raw)?;
    Some(Words::of(&texts(&message)))
}

fn texts(message: &Message) -> String {
    let texts = message.pieces.iter().filter_map(|piece| match piece {
        Piece::Text(text) | Piece::Result { text, .. } => Some(text.as_str()),
        Piece::Call(_) => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// Whether a message has an image, a file or sound: in its content, not in what a tool is called with.
fn has_media(value: &Value) -> bool {
    const TYPES: [&str; 8] = [
        "image",
        "image_url",
        "input_image",
        "input_audio",
        "file",
        "input_file",
        "document",
        "video_url",
    ];
    const DATA: [&str; 5] = [
        "inlineData",
        "inline_data",
        "fileData",
        "file_data",
        "images",
    ];
    match value {
        Value::Array(values) => values.iter().any(has_media),
        Value::Object(item) => {
            let kind = item.get("type").and_then(Value::as_str);
            let within = ["content", "parts", "output"];
            kind.is_some_and(|kind| TYPES.contains(&kind))
                || DATA.iter().any(|key| item.contains_key(*key))
                || within
                    .iter()
                    .any(|key| item.get(*key).is_some_and(has_media))
        }
        _ => false,
    }
}

/// What is left when words with a digit in them are taken out (times, ids, numbers), and how many
/// bytes that are.
pub(super) fn shape(text: &str) -> (Vec<u8>, usize) {
    let is_of_word = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'.' | b'_' | b'/' | b'+')
    };
    let mut left = Vec::with_capacity(text.len());
    let mut volatile = 0;
    for word in text.as_bytes().split_inclusive(|byte| !is_of_word(byte)) {
        if word.iter().any(u8::is_ascii_digit) {
            left.push(b'#');
            volatile += word.len();
            left.extend(word.last().filter(|byte| !is_of_word(byte)));
        } else {
            left.extend_from_slice(word);
        }
    }
    (left, text.len() - volatile)
}
