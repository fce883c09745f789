//! Matches that are spread over the events of a stream.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64_with_seed;

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

/// One piece of a text.
struct Piece {
    event: usize,
    /// Which string of the event.
    string: usize,
    text: Vec<u8>,
}

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
    let as_it_stands = |event: usize| {
        let range = events.get(event).cloned().unwrap_or_default();
        rules.json(bytes.get(range).unwrap_or_default()).is_some()
    };
    let short = edited(bytes, events, |pieces| {
        let redacted = redact(&rules.rules, pieces);
        let mut changed = redacted.changed;
        changed.extend(shorten(pieces, CUT + redacted.growth, &as_it_stands));
        changed
    });
    short.unwrap_or_else(|| bytes.to_vec())
}

/// A text as rules make it, without its end.
pub(super) fn front_of_text(rules: &[Rule], text: &[u8]) -> Vec<u8> {
    let mut pieces = [Piece {
        event: 0,
        string: 0,
        text: text.to_vec(),
    }];
    let growth = redact(rules, &mut pieces).growth;
    shorten(&mut pieces, CUT + growth, &|_| false);
    let [piece] = pieces;
    piece.text
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

/// Takes the last `end` bytes away; says of which pieces. Of a piece that is cut in two nothing stays
/// where rules match its event as it stands: they might not match what is left of it.
fn shorten(
    pieces: &mut [Piece],
    mut end: usize,
    as_it_stands: &impl Fn(usize) -> bool,
) -> Vec<usize> {
    let mut shortened = Vec::new();
    for (at, piece) in pieces.iter_mut().enumerate().rev() {
        if end == 0 {
            break;
        }
        let less = piece.text.len().min(end);
        end -= less;
        if less == 0 {
            continue;
        }
        let mut kept = piece.text.len() - less;
        if kept > 0 && as_it_stands(piece.event) {
            kept = 0;
        }
        // A character that is cut in two goes as a whole.
        let kept = (0..=kept)
            .rev()
            .find(|at| piece.text.get(*at).is_none_or(|byte| byte & 0xC0 != 0x80));
        piece.text.truncate(kept.unwrap_or(0));
        shortened.push(at);
    }
    shortened
}

/// What rules did to a text.
struct Made {
    /// The pieces that are not what they were.
    changed: Vec<usize>,
    /// By how many bytes matches in its last [`CUT`] made it longer.
    growth: usize,
}

/// Makes all rules in what the pieces come to together. What a match becomes stands in the piece that
/// the match begins in.
fn redact(rules: &[Rule], pieces: &mut [Piece]) -> Made {
    let mut growth = 0;
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
        let end = text.len().saturating_sub(CUT + growth);
        let at_end = matches.iter().filter(|(range, _)| range.end > end);
        growth += at_end
            .map(|(range, other)| other.len().saturating_sub(range.len()))
            .sum::<usize>();
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
    let changed = changed.filter_map(|(at, is)| is.then_some(at)).collect();
    Made { changed, growth }
}
