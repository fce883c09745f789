//! Matches that are spread over the events of a stream.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Edits, Rule};

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

/// One piece of a text.
struct Piece {
    event: usize,
    /// Which string of the event.
    string: usize,
    text: Vec<u8>,
}

/// None where no rule matched. Each text loses its last `end` bytes.
pub(super) fn redacted(rules: &[Rule], bytes: &[u8], end: usize) -> Option<Vec<u8>> {
    let events = events(bytes);
    let mut texts: HashMap<String, Vec<Piece>> = HashMap::new();
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
            texts.entry(lane.to_owned()).or_default().push(piece);
        });
    }
    let mut changed: HashMap<usize, HashMap<usize, String>> = HashMap::new();
    for mut pieces in texts.into_values() {
        let mut changed_pieces = shorten(&mut pieces, end);
        changed_pieces.extend(redact(rules, &mut pieces));
        for at in changed_pieces {
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
    for (event, range) in events.into_iter().enumerate() {
        let Some(mut strings) = changed.remove(&event) else {
            continue;
        };
        if let Some(mut value) = parse(bytes, &range) {
            each_string(&mut value, &mut |_, string, text| {
                if let Some(other) = strings.remove(&string) {
                    *text = other;
                }
            });
            edits.0.push((range, value.to_string().into_bytes()));
        }
    }
    edits.apply(bytes)
}

fn parse(bytes: &[u8], range: &Range<usize>) -> Option<Value> {
    serde_json::from_slice(bytes.get(range.clone())?).ok()
}

/// Where the JSON of the events stands.
fn events(bytes: &[u8]) -> Vec<Range<usize>> {
    if let Ok(list) = serde_json::from_slice::<Vec<&RawValue>>(bytes) {
        let start = bytes.as_ptr() as usize;
        let range = |it: &RawValue| {
            let at = (it.get().as_ptr() as usize).saturating_sub(start);
            at..at + it.get().len()
        };
        return list.into_iter().map(range).collect();
    }
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
fn each_string(value: &mut Value, each: &mut impl FnMut(&str, usize, &mut String)) {
    walk(value, &mut String::new(), &mut 0, each);
}

fn walk(
    value: &mut Value,
    lane: &mut String,
    count: &mut usize,
    each: &mut impl FnMut(&str, usize, &mut String),
) {
    let len = lane.len();
    match value {
        Value::String(text) => {
            *count += 1;
            each(lane, *count, text);
        }
        Value::Array(items) => {
            // Items that say their place stand anywhere in the list.
            for (at, item) in items.iter_mut().enumerate() {
                if item.get("index").is_none() {
                    let _ = write!(lane, "/{at}");
                }
                walk(item, lane, count, each);
                lane.truncate(len);
            }
        }
        Value::Object(members) => {
            for name in PLACES {
                if let Some(place) = members.get(name) {
                    let _ = write!(lane, "/{name}={place}");
                }
            }
            let within = lane.len();
            for (name, member) in members {
                if !NAMES.contains(&name.as_str()) {
                    let _ = write!(lane, "/{name}");
                    walk(member, lane, count, each);
                    lane.truncate(within);
                }
            }
            lane.truncate(len);
        }
        _ => {}
    }
}

/// Takes the last `end` bytes away; says of which pieces.
fn shorten(pieces: &mut [Piece], mut end: usize) -> Vec<usize> {
    let mut shortened = Vec::new();
    for (at, piece) in pieces.iter_mut().enumerate().rev() {
        if end == 0 {
            break;
        }
        let less = piece.text.len().min(end);
        if less > 0 {
            let kept = piece.text.len() - less;
            // A character that is cut in two goes as a whole.
            let kept = (0..=kept)
                .rev()
                .find(|at| piece.text.get(*at).is_none_or(|byte| byte & 0xC0 != 0x80));
            piece.text.truncate(kept.unwrap_or(0));
            shortened.push(at);
        }
        end -= less;
    }
    shortened
}

/// Makes all rules in what the pieces come to together; says which pieces are not what they were.
/// What a match becomes stands in the piece that the match begins in.
fn redact(rules: &[Rule], pieces: &mut [Piece]) -> Vec<usize> {
    let mut changed = vec![false; pieces.len()];
    for rule in rules {
        let text = pieces.iter().flat_map(|it| &it.text).copied();
        let text: Vec<u8> = text.collect();
        let matches = rule.pattern.captures_iter(&text).filter_map(|found| {
            let range = found.get(0)?.range();
            let mut other = Vec::new();
            found.expand(rule.replacement.as_bytes(), &mut other);
            (!range.is_empty()).then_some((range, other))
        });
        let matches: Vec<_> = matches.collect();
        let mut left = matches.iter().peekable();
        let mut start = 0;
        for (piece, changed) in pieces.iter_mut().zip(&mut changed) {
            let end = start + piece.text.len();
            let (mut kept, mut from) = (Vec::new(), start);
            while let Some((range, other)) = left.peek().filter(|(range, _)| range.start < end) {
                *changed = true;
                if range.start >= start {
                    kept.extend_from_slice(text.get(from..range.start).unwrap_or_default());
                    kept.extend_from_slice(other);
                }
                from = range.end.min(end);
                if range.end > end {
                    break;
                }
                left.next();
            }
            kept.extend_from_slice(text.get(from..end).unwrap_or_default());
            piece.text = kept;
            start = end;
        }
    }
    let changed = changed.into_iter().enumerate();
    changed.filter_map(|(at, is)| is.then_some(at)).collect()
}
