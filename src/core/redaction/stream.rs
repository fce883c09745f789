//! Matches that are spread over the events of a stream.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::pieces::{Piece, redact, shorten};
use super::{CUT, Edits, Redaction, Rule};

/// Members that tell things apart and say nothing: what they hold is not put together.
const NAMES: [&str; 9] = [
    "type",
    "id",
    "item_id",
    "object",
    "model",
    "role",
    "event",
    "status",
    "obfuscation",
];
/// Members by which a stream tells its texts apart.
const PLACES: [&str; 6] = [
    "index",
    "output_index",
    "content_index",
    "summary_index",
    "item_id",
    "event_id",
];

/// None where no rule matched.
pub(super) fn redacted(rules: &[Rule], bytes: &[u8]) -> Option<Vec<u8>> {
    edited(bytes, &events(bytes), |pieces| {
        redact(rules, pieces).changed
    })
}

/// What is left of a stream that broke off: each text as rules make it, without its end, and nothing
/// of an event that is not whole. What stands behind the last event comes by itself.
pub(super) fn front(rules: &Redaction, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut events = events(bytes);
    let behind = match events.last() {
        Some(last) if parse(bytes, last).is_none() => {
            let start = last.start;
            events.pop();
            return (texts_without_end(rules, bytes, start, &events), Vec::new());
        }
        Some(last) => last.end,
        None => 0,
    };
    let tail = bytes.get(behind..).unwrap_or_default().to_vec();
    (texts_without_end(rules, bytes, behind, &events), tail)
}

/// Of the bytes before `end`.
fn texts_without_end(
    rules: &Redaction,
    bytes: &[u8],
    end: usize,
    events: &[Range<usize>],
) -> Vec<u8> {
    let bytes = bytes.get(..end).unwrap_or_default();
    let matches_as_it_stands = |range: &Range<usize>| {
        let event = bytes.get(range.clone()).unwrap_or_default();
        rules.json(event).is_some()
    };
    // Of each event once: one may have very many texts.
    let matched: Vec<bool> = events.iter().map(matches_as_it_stands).collect();
    let short = edited(bytes, events, |pieces| {
        let redacted = redact(&rules.rules, pieces);
        let mut changed = redacted.changed;
        changed.extend(shorten(pieces, CUT + redacted.growth, &matched));
        changed
    });
    short.unwrap_or_else(|| bytes.to_vec())
}

/// Has `edit` change each text, whose pieces it gets in order; it says which ones it changed.
fn edited(
    bytes: &[u8],
    events: &[Range<usize>],
    mut edit: impl FnMut(&mut [Piece]) -> Vec<usize>,
) -> Option<Vec<u8>> {
    let mut texts: HashMap<u64, Vec<Piece>> = HashMap::new();
    for (event, range) in events.iter().enumerate() {
        let Some(mut value) = parse(bytes, range) else {
            continue;
        };
        each_string(&mut value, &mut |lane, string, text| {
            let piece = Piece {
                event,
                string,
                text: std::mem::take(text).into_bytes(),
            };
            texts.entry(lane).or_default().push(piece);
        });
    }
    let mut changed: HashMap<usize, HashMap<usize, String>> = HashMap::new();
    for mut pieces in texts.into_values() {
        for at in edit(&mut pieces) {
            if let Some(Piece {
                event,
                string,
                text,
            }) = pieces.get(at)
            {
                let text = String::from_utf8_lossy(text).into_owned();
                changed.entry(*event).or_default().insert(*string, text);
            }
        }
    }
    let mut edits = Edits::default();
    for (event, range) in events.iter().enumerate() {
        let Some(mut strings) = changed.remove(&event) else {
            continue;
        };
        if let Some(mut value) = parse(bytes, range) {
            each_string(&mut value, &mut |_, string, text| {
                if let Some(other) = strings.remove(&string) {
                    *text = other;
                }
            });
            edits
                .0
                .push((range.clone(), value.to_string().into_bytes()));
        }
    }
    edits.apply(bytes)
}

fn parse(bytes: &[u8], range: &Range<usize>) -> Option<Value> {
    serde_json::from_slice(bytes.get(range.clone())?).ok()
}

/// Where the JSON of the events stands; the last may lack its end.
fn events(bytes: &[u8]) -> Vec<Range<usize>> {
    match bytes.iter().position(|byte| !byte.is_ascii_whitespace()) {
        Some(start) if bytes.get(start) == Some(&b'[') => items(bytes, start + 1),
        _ => lines(bytes),
    }
}

/// The items of a list of JSON.
fn items(bytes: &[u8], mut at: usize) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let is_between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        let Some(start) = rest.iter().position(|byte| !is_between(byte)) else {
            return items;
        };
        let rest = rest.get(start..).unwrap_or_default();
        if rest.first() == Some(&b']') {
            return items;
        }
        let mut stream = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
        let is_whole = matches!(stream.next(), Some(Ok(_)));
        let len = if is_whole {
            stream.byte_offset()
        } else {
            rest.len()
        };
        at += start + len;
        items.push(at - len..at);
        if !is_whole {
            return items;
        }
    }
}

/// Lines of JSON, and those that `data:` begins.
fn lines(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut events = Vec::new();
    for line in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        let data = line.strip_prefix(b"data:").unwrap_or(line);
        let start = at + line.len() - data.trim_ascii_start().len();
        let end = start + data.trim_ascii().len();
        at += line.len();
        if bytes.get(start) == Some(&b'{') {
            events.push(start..end);
        }
    }
    events
}

/// Calls `each` with every string that is no name: the text it is a piece of, which string of the
/// event it is, itself.
fn each_string(value: &mut Value, each: &mut impl FnMut(u64, usize, &mut String)) {
    walk(value, 0, &mut 0, each);
}

/// `lane` is a hash of the way there: names may be long, and there may be many strings.
fn walk(
    value: &mut Value,
    lane: u64,
    count: &mut usize,
    each: &mut impl FnMut(u64, usize, &mut String),
) {
    match value {
        Value::String(text) => {
            *count += 1;
            each(lane, *count, text);
        }
        Value::Array(items) => {
            // Items that say their place stand anywhere in the list.
            for (at, item) in items.iter_mut().enumerate() {
                let lane = if item.get("index").is_none() {
                    xxh3_64_with_seed(&at.to_le_bytes(), lane)
                } else {
                    lane
                };
                walk(item, lane, count, each);
            }
        }
        Value::Object(members) => {
            let mut lane = lane;
            for name in PLACES {
                if let Some(place) = members.get(name) {
                    let place = format!("{name}={place}");
                    lane = xxh3_64_with_seed(place.as_bytes(), lane);
                }
            }
            for (name, member) in members {
                if !NAMES.contains(&name.as_str()) {
                    walk(
                        member,
                        xxh3_64_with_seed(name.as_bytes(), lane),
                        count,
                        each,
                    );
                }
            }
        }
        _ => {}
    }
}
