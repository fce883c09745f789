//! The front of a text of any length, and how long the whole is.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::core::text::front;

/// The front of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Excerpt {
    pub text: String,
    /// Bytes of the whole text.
    pub len: u64,
    /// There is more of it than `text` has.
    pub is_cut: bool,
}

impl Excerpt {
    /// Of a text as it is.
    pub fn of(text: &str, most: usize) -> Self {
        let mut this = Self::default();
        this.push(text, most);
        this
    }

    /// Of a JSON value: what a string says, else the JSON itself.
    pub fn of_json(raw: &str, most: usize) -> Self {
        let mut this = Self::default();
        this.push_json(raw, most);
        this
    }

    /// Keeps no more than `most` bytes of it.
    pub fn cut(&mut self, most: usize) {
        let kept = front(&self.text, most).len();
        self.is_cut |= kept < self.text.len();
        self.text.truncate(kept);
    }

    /// Adds to the end, as long as there are no more than `most` bytes.
    pub fn push(&mut self, text: &str, most: usize) {
        self.len += text.len() as u64;
        if self.is_cut {
            return;
        }
        let kept = front(text, most.saturating_sub(self.text.len()));
        self.text.push_str(kept);
        self.is_cut = kept.len() < text.len();
    }

    /// Adds what a JSON string says, else the JSON itself.
    pub fn push_json(&mut self, raw: &str, most: usize) {
        let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
        let Some(mut rest) = inner else {
            return self.push(raw, most);
        };
        while let Some((before, escape)) = rest.split_once('\\') {
            self.push(before, most);
            let (said, tail) = unescaped(escape);
            self.push(&said, most);
            rest = tail;
        }
        self.push(rest, most);
    }
}

/// What stands behind a backslash says, and what follows it.
fn unescaped(escape: &str) -> (Cow<'static, str>, &str) {
    let mut chars = escape.chars();
    let said = match chars.next() {
        Some('n') => "\n",
        Some('t') => "\t",
        Some('r') => "\r",
        Some('b') => "\u{8}",
        Some('f') => "\u{c}",
        Some('u') => return unicode(chars.as_str()),
        Some(other) => return (other.to_string().into(), chars.as_str()),
        None => "",
    };
    (said.into(), chars.as_str())
}

/// Four digits, or twice four for a pair of surrogates; half a pair says nothing.
fn unicode(digits: &str) -> (Cow<'static, str>, &str) {
    const LOST: &str = "\u{fffd}";
    let unit = |text: &str| {
        let digits = text.get(..4)?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(digits) else {
        return (LOST.into(), digits);
    };
    let tail = digits.get(4..).unwrap_or_default();
    if let Some(one) = char::from_u32(first) {
        return (one.to_string().into(), tail);
    }
    let second = tail.strip_prefix("\\u").and_then(unit);
    let pair = second.filter(|second| first < 0xdc00 && (0xdc00..0xe000).contains(second));
    let whole = pair.map(|second| 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
    match whole.and_then(char::from_u32) {
        Some(one) => (one.to_string().into(), tail.get(6..).unwrap_or_default()),
        None => (LOST.into(), tail),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_json_string_says_what_serde_reads(text in any::<String>(), most in 0..80_usize) {
            let raw = serde_json::to_string(&text).unwrap();
            let excerpt = Excerpt::of_json(&raw, most);
            prop_assert_eq!(excerpt.len, text.len() as u64);
            prop_assert!(text.starts_with(&excerpt.text));
            prop_assert!(excerpt.text.len() <= most);
            prop_assert_eq!(excerpt.is_cut, excerpt.text.len() < text.len());
            // No more is missing than the character that did not fit.
            prop_assert!(!excerpt.is_cut || excerpt.text.len() + 4 > most);
        }

        #[test]
        fn whatever_stands_between_quotes_is_read(text in "[\\\\un0dD8a-f\"\u{e9}]{0,40}") {
            Excerpt::of_json(&format!("\"{text}\""), 10);
        }
    }

    #[test]
    fn characters_are_not_cut_and_halves_of_pairs_are_replaced() {
        let cut = |raw: &str, most| Excerpt::of_json(raw, most).text;
        assert_eq!(cut(r#""a\u00e9b""#, 2), "a");
        assert_eq!(cut(r#""\ud83d\ude00!""#, 9), "\u{1f600}!");
        assert_eq!(cut(r#""\ud83d!\ude00""#, 99), "\u{fffd}!\u{fffd}");
        assert_eq!(cut(r#"{"a":1}"#, 99), r#"{"a":1}"#);
    }

    #[test]
    fn what_comes_behind_the_cut_is_counted_and_not_kept() {
        let mut excerpt = Excerpt::of("ab\u{e9}", 3);
        excerpt.push("c", 3);
        assert_eq!(excerpt.text, "ab");
        assert_eq!((excerpt.len, excerpt.is_cut), (5, true));
        let mut excerpt = Excerpt::of("a\u{e9}b", 9);
        excerpt.cut(4);
        assert!(!excerpt.is_cut);
        excerpt.cut(2);
        assert_eq!(excerpt.text, "a");
        assert_eq!((excerpt.len, excerpt.is_cut), (4, true));
    }
}
