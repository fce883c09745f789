//! What differs between two texts, in words.

use serde::Serialize;

use crate::core::text::front;

/// Bytes of each side that are shown.
const SHOWN: usize = 60;

/// The first place in which two texts differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub what: &'static str,
    pub before: String,
    pub after: String,
}

/// None where they are the same.
pub fn between(before: &str, after: &str) -> Option<Change> {
    if before == after {
        return None;
    }
    let same = before
        .chars()
        .zip(after.chars())
        .take_while(|(one, other)| one == other);
    let at: usize = same.map(|(c, _)| c.len_utf8()).sum();
    let (was, is) = (word_at(before, at), word_at(after, at));
    Some(Change {
        what: kind(is),
        before: front(was, SHOWN).to_owned(),
        after: front(is, SHOWN).to_owned(),
    })
}

/// The word around a place: what stands between spaces and quotes.
fn word_at(text: &str, at: usize) -> &str {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | ',' | '<' | '>' | '\\');
    let (head, tail) = text.split_at_checked(at).unwrap_or((text, ""));
    let from = head.rfind(ends).map_or(0, |place| {
        place
            + head
                .get(place..)
                .and_then(|it| it.chars().next())
                .map_or(1, char::len_utf8)
    });
    let to = tail.find(ends).map_or(text.len(), |place| at + place);
    text.get(from..to).unwrap_or_default()
}

fn kind(word: &str) -> &'static str {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let hex = word.bytes().filter(u8::is_ascii_hexdigit).count();
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    if digits >= 3 && word.contains(':')
        || digits >= 6 && word.matches(['-', '/', '.']).count() == 2
    {
        "a time or date"
    } else if hex >= 16 && hex + word.matches('-').count() + 8 >= word.len() {
        "an id"
    } else if digits > 0 && letters == 0 {
        "a number"
    } else if digits > 0 {
        "an id or a number"
    } else {
        "its text"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_called_by_its_name() {
        for (before, after, what) in [
            (
                "It is 2026-11-01T10:00:01Z now",
                "It is 2026-11-01T10:00:09Z now",
                "a time or date",
            ),
            ("id 0123456789abcdef01", "id 0123456789abcdefff", "an id"),
            ("turn 12 of", "turn 13 of", "a number"),
            ("be brief", "be exact", "its text"),
        ] {
            assert_eq!(between(before, after).unwrap().what, what, "{before}");
        }
        assert_eq!(between("same", "same"), None);
    }
}
