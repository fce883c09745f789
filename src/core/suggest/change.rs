//! What differs between two texts, in words.

use serde::Serialize;

use crate::core::text::front;

/// Bytes of each side that are shown.
const SHOWN: usize = 60;
/// Bytes of a word that say what it is.
const LOOKED: usize = 200;

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
    let ((was, from), (is, to)) = (word_at(before, at), word_at(after, at));
    Some(Change {
        what: kind(front(is, LOOKED)),
        before: around(was, at - from),
        after: around(is, at - to),
    })
}

/// A word, or what is around a place in it where it is long.
fn around(word: &str, at: usize) -> String {
    let from = at.saturating_sub(SHOWN / 2);
    let from = (from..=at).find(|place| word.is_char_boundary(*place));
    let from = if word.len() <= SHOWN {
        0
    } else {
        from.unwrap_or(0)
    };
    let rest = word.get(from..).unwrap_or_default();
    let shown = front(rest, SHOWN);
    let lead = if from > 0 { "..." } else { "" };
    let tail = if shown.len() < rest.len() { "..." } else { "" };
    format!("{lead}{shown}{tail}")
}

/// The word around a place, which is what stands between spaces and quotes; and where it begins.
fn word_at(text: &str, at: usize) -> (&str, usize) {
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
    (text.get(from..to).unwrap_or_default(), from)
}

fn kind(word: &str) -> &'static str {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let hex = word.bytes().filter(u8::is_ascii_hexdigit).count();
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    if is_clock(word) || digits >= 6 && word.matches(['-', '/', '.']).count() == 2 {
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

/// `10:00` with digits on both sides, as `localhost:8080` has not.
fn is_clock(word: &str) -> bool {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = word.as_bytes();
    bytes
        .windows(5)
        .any(|it| it.get(2) == Some(&b':') && [0, 1, 3, 4].iter().all(|at| is_digit(it.get(*at))))
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
            ("host:8080", "host:8081", "an id or a number"),
            ("user:12345", "user:12346", "an id or a number"),
            ("be brief", "be exact", "its text"),
        ] {
            assert_eq!(between(before, after).unwrap().what, what, "{before}");
        }
        assert_eq!(between("same", "same"), None);
    }

    #[test]
    fn a_change_late_in_a_long_word_is_shown() {
        let long = "x".repeat(500);
        let (before, after) = (format!("{long}1{long}"), format!("{long}2{long}"));
        let change = between(&before, &after).unwrap();
        assert!(change.before.contains('1') && change.after.contains('2'));
        assert!(change.before.len() <= SHOWN + 6, "{}", change.before);
        let change = between("", "\u{e9}\u{e9}").unwrap();
        assert_eq!(
            (change.before.as_str(), change.after.as_str()),
            ("", "\u{e9}\u{e9}")
        );
    }
}
