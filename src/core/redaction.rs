//! Redaction: what rules put in the place of what they match, in texts, in JSON and in streams.
//!
//! JSON is looked at twice: its strings as what they say, then its bytes as they stand, so that a
//! pattern may be written for either. In a stream a match may be spread over many events; it is
//! looked for in what the pieces of one text come to together.

use std::borrow::Cow;
use std::ops::Range;

use regex::bytes::Regex;

mod pieces;
mod stream;

/// What a pattern matches becomes the replacement, which may name groups as `$1`.
#[derive(Clone, Debug)]
pub struct Rule {
    pub pattern: Regex,
    pub replacement: String,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.pattern.as_str() == other.pattern.as_str() && self.replacement == other.replacement
    }
}

/// All rules, in the order they are made in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Redaction {
    rules: Vec<Rule>,
}

/// Bytes that a text which was cut off loses, since the front of a match may be there: a secret that
/// is no longer is not left in part.
const CUT: usize = 256;

impl Redaction {
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The bytes after all rules; none where no rule matched.
    pub fn bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut changed = None;
        for rule in &self.rules {
            let before = changed.as_deref().unwrap_or(bytes);
            let after = rule
                .pattern
                .replace_all(before, rule.replacement.as_bytes());
            if let Cow::Owned(after) = after {
                changed = Some(after);
            }
        }
        changed
    }

    /// The same of a text.
    pub fn text(&self, text: &str) -> Option<String> {
        let bytes = self.bytes(text.as_bytes())?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// JSON, or a part of some that begins and ends between strings, or anything else.
    pub fn json(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let said = self.said(bytes).apply(bytes);
        let as_it_stands = self.bytes(said.as_deref().unwrap_or(bytes));
        as_it_stands.or(said)
    }

    /// An answer that came in events: server-sent ones, lines of JSON, or a list of it.
    pub fn stream(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let joined = stream::redacted(&self.rules, bytes);
        self.json(joined.as_deref().unwrap_or(bytes)).or(joined)
    }

    /// The same of what was cut off, or broke off: what the rules make of it, without its last 256
    /// bytes. A match may begin there and end where nobody knows.
    pub fn front_of_text(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        let front = pieces::front_of_text(&self.rules, text.as_bytes());
        String::from_utf8_lossy(&front).into_owned()
    }

    /// The same of JSON.
    pub fn front_of_json(&self, bytes: &[u8]) -> Vec<u8> {
        if self.is_empty() {
            return bytes.to_vec();
        }
        let edits = self.said(bytes);
        let growth = edits.growth();
        let said = edits.apply(bytes);
        let mut front = pieces::front_of_text(&self.rules, said.as_deref().unwrap_or(bytes));
        front.truncate(front.len().saturating_sub(growth));
        front
    }

    /// The same of a stream, of which each text loses its end, and an event that is not whole goes.
    pub fn front_of_stream(&self, bytes: &[u8]) -> Vec<u8> {
        if self.is_empty() {
            return bytes.to_vec();
        }
        let (events, tail) = stream::front(self, bytes);
        let mut front = self.json(&events).unwrap_or(events);
        front.extend(self.front_of_json(&tail));
        front
    }

    /// The strings of JSON that say something else than they look like.
    fn said(&self, bytes: &[u8]) -> Edits {
        let mut edited = Edits::default();
        for range in escaped_strings(bytes) {
            let token = bytes.get(range.clone()).unwrap_or_default();
            if let Some(changed) = said(token).and_then(|said| self.text(&said))
                && let Ok(token) = serde_json::to_vec(&changed)
            {
                edited.0.push((range, token));
            }
        }
        edited
    }
}

/// What stands in the place of some ranges, in their order.
#[derive(Default)]
struct Edits(Vec<(Range<usize>, Vec<u8>)>);

impl Edits {
    /// By how many bytes those that are longer than what was there are so.
    fn growth(&self) -> usize {
        let edits = self.0.iter();
        edits
            .map(|(range, other)| other.len().saturating_sub(range.len()))
            .sum()
    }

    /// None where there are none.
    fn apply(self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        let (mut edited, mut from) = (Vec::with_capacity(bytes.len()), 0);
        for (range, other) in self.0 {
            edited.extend_from_slice(bytes.get(from..range.start).unwrap_or_default());
            edited.extend_from_slice(&other);
            from = range.end;
        }
        edited.extend_from_slice(bytes.get(from..).unwrap_or_default());
        Some(edited)
    }
}

/// What a string says; one that the end of the bytes cut off is ended for that.
fn said(token: &[u8]) -> Option<String> {
    /// `\\u00e9` but for its last digit.
    const PART: usize = 5;
    let whole = serde_json::from_slice(token).ok();
    whole.or_else(|| {
        (0..=PART).find_map(|part| {
            let front = token.get(..token.len().checked_sub(part)?)?;
            serde_json::from_slice(&[front, b"\""].concat()).ok()
        })
    })
}

/// Where strings with escapes stand, quotes included; the last may lack its end.
fn escaped_strings(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + memchr::memchr(b'"', bytes.get(at..)?)?;
            let (mut end, mut is_escaped) = (start + 1, false);
            loop {
                let rest = bytes.get(end..).unwrap_or_default();
                let next = memchr::memchr2(b'"', b'\\', rest).map(|next| end + next);
                match next.map(|next| (next, bytes.get(next))) {
                    Some((next, Some(b'\\'))) => (end, is_escaped) = (next + 2, true),
                    Some((next, _)) => break at = next + 1,
                    None => break at = bytes.len(),
                }
            }
            if is_escaped {
                return Some(start..at);
            }
        }
    })
}

#[cfg(test)]
mod tests;
