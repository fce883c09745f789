//! Where two texts differ, word by word, short enough to be read.
//!
//! What both begin and end with is left out but for a few words around what differs, so that a changed
//! word in a long prompt is found at a glance. Texts with little in common are not mixed: the one is
//! told as a whole, then the other.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use similar::{ChangeTag, TextDiff};
use utoipa::ToSchema;

use super::text::{end, front};

/// Bytes of each text that are compared, from where they differ on.
const MOST: usize = 4096;
/// Bytes of what is alike that are told before and after what differs.
const AROUND: usize = 80;
/// Texts that have not even one part in so many in common are told one after the other.
const LEAST_ALIKE: usize = 3;
/// Stands for what is left out.
const GAP: &str = " ... ";

/// A piece of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Piece {
    pub of: Side,
    pub text: String,
}

/// Which text says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Both,
    First,
    Second,
}

/// How two texts differ, in the order of what they say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Diff {
    /// None where they do not differ. What is left out of what both say is ` ... `.
    pub pieces: Vec<Piece>,
    /// They go on, and differ perhaps, after what is told here.
    pub is_cut: bool,
}

impl Diff {
    /// Compares two texts, up to 4 KiB of each from where they part.
    pub fn of(first: &str, second: &str) -> Self {
        if first == second {
            return Self::default();
        }
        let (one, other) = differing(first, second);
        let before = first.get(..one.start).unwrap_or_default();
        let after = first.get(one.end..).unwrap_or_default();
        let (one, is_cut) = cut(first.get(one).unwrap_or_default());
        let (other, is_cut_too) = cut(second.get(other).unwrap_or_default());
        let mut told = Told::default();
        told.both(&last_of(before));
        told.words(one, other);
        let is_cut = is_cut || is_cut_too;
        if !is_cut {
            told.both(&first_of(after));
        }
        Self {
            pieces: told.pieces,
            is_cut,
        }
    }

    /// In one text, as `[-gone-]` and `{+new+}`.
    pub fn marked(&self) -> String {
        let pieces = self.pieces.iter().map(|piece| match piece.of {
            Side::Both => piece.text.clone(),
            Side::First => format!("[-{}-]", piece.text),
            Side::Second => format!("{{+{}+}}", piece.text),
        });
        let end = if self.is_cut { GAP } else { "" };
        pieces.chain([end.to_owned()]).collect()
    }
}

/// What lies between what both begin and end with, whole words only.
fn differing(first: &str, second: &str) -> (Range<usize>, Range<usize>) {
    let (one, other) = (first.as_bytes(), second.as_bytes());
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let start = first.get(..floor(first, same)).unwrap_or_default();
    let start = start.rfind(char::is_whitespace).map_or(0, |at| {
        at + start
            .get(at..)
            .and_then(|it| it.chars().next())
            .map_or(0, char::len_utf8)
    });
    let (rest, other) = (
        first.get(start..).unwrap_or_default(),
        second.get(start..).unwrap_or_default(),
    );
    let ends = rest.bytes().rev().zip(other.bytes().rev());
    let same = ends.take_while(|(a, b)| a == b).count();
    let at = (rest.len() - same..=rest.len()).find(|at| rest.is_char_boundary(*at));
    let tail = at.and_then(|at| rest.get(at..)).unwrap_or_default();
    let begins = |text: &str| {
        let before = text.get(..text.len() - tail.len()).unwrap_or_default();
        before.is_empty() || before.ends_with(char::is_whitespace)
    };
    let tail = match tail.find(char::is_whitespace) {
        _ if begins(rest) && begins(other) => tail.len(),
        Some(at) => tail.len() - at,
        None => 0,
    };
    (start..first.len() - tail, start..second.len() - tail)
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn cut(text: &str) -> (&str, bool) {
    let shown = front(text, MOST);
    (shown, shown.len() < text.len())
}

fn last_of(text: &str) -> String {
    let shown = end(text, AROUND);
    let gap = if shown.len() < text.len() { GAP } else { "" };
    format!("{}{shown}", gap.trim_start())
}

fn first_of(text: &str) -> String {
    let shown = front(text, AROUND);
    let gap = if shown.len() < text.len() { GAP } else { "" };
    format!("{shown}{}", gap.trim_end())
}

/// Pieces as they come, what one text says before what the other does.
#[derive(Default)]
struct Told {
    pieces: Vec<Piece>,
    first: String,
    second: String,
}

impl Told {
    fn words(&mut self, one: &str, other: &str) {
        let diff = TextDiff::from_words(one, other);
        let (mut alike, mut all) = (0, 0);
        for change in diff.iter_all_changes() {
            let (is_same, size) = (
                change.tag() == ChangeTag::Equal,
                change.value().trim().len(),
            );
            alike += if is_same { 2 * size } else { 0 };
            all += if is_same { 2 * size } else { size };
        }
        if alike * LEAST_ALIKE < all {
            one.clone_into(&mut self.first);
            other.clone_into(&mut self.second);
            return self.settle();
        }
        let mut same = String::new();
        for change in diff.iter_all_changes() {
            let text = change.value();
            match change.tag() {
                ChangeTag::Equal => same.push_str(text),
                ChangeTag::Delete => {
                    self.goes_on(&mut same);
                    self.first.push_str(text);
                }
                ChangeTag::Insert => {
                    self.goes_on(&mut same);
                    self.second.push_str(text);
                }
            }
        }
        self.both(&same);
        self.settle();
    }

    /// Something differs after what was the same. Spaces alone part nothing.
    fn goes_on(&mut self, same: &mut String) {
        let is_parted = !same.trim().is_empty() || self.first.is_empty() && self.second.is_empty();
        let same = std::mem::take(same);
        if is_parted {
            self.both(&same);
        } else {
            self.first.push_str(&same);
            self.second.push_str(&same);
        }
    }

    fn both(&mut self, text: &str) {
        self.settle();
        let shown = if text.len() > 2 * AROUND + GAP.len() {
            format!("{}{GAP}{}", front(text, AROUND), end(text, AROUND))
        } else {
            text.to_owned()
        };
        self.push(Side::Both, shown);
    }

    fn settle(&mut self) {
        let (first, second) = (
            std::mem::take(&mut self.first),
            std::mem::take(&mut self.second),
        );
        self.push(Side::First, first);
        self.push(Side::Second, second);
    }

    fn push(&mut self, of: Side, text: String) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(last) if last.of == of => last.text.push_str(&text),
            _ => self.pieces.push(Piece { of, text }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn changed_words_stand_among_what_is_the_same() {
        for (one, other, told) in [
            (
                "user: Rome or Oslo?",
                "user: Rome or Bergen?",
                "user: Rome or [-Oslo?-]{+Bergen?+}",
            ),
            ("a b c d e", "a b x c d e", "a b {+x +}c d e"),
            ("", "new", "{+new+}"),
            ("be very brief now", "be now", "be [-very brief -]now"),
            (
                "one two three",
                "one 2 3 three four",
                "one [-two-]{+2 3+} three{+ four+}",
            ),
            ("caf\u{e9} x", "caf\u{e8} x", "[-caf\u{e9}-]{+caf\u{e8}+} x"),
            ("same", "same", ""),
        ] {
            assert_eq!(Diff::of(one, other).marked(), told);
        }
    }

    #[test]
    fn texts_with_little_in_common_are_not_mixed() {
        let diff = Diff::of("the cat sat on a mat", "all is well by the end of it");
        let sides: Vec<Side> = diff.pieces.iter().map(|it| it.of).collect();
        assert_eq!(sides, [Side::First, Side::Second]);
    }

    #[test]
    fn long_texts_are_told_around_what_differs() {
        let long = "word ".repeat(10_000);
        let one = format!("{long}here {long}");
        let other = format!("{long}there {long}");
        let diff = Diff::of(&one, &other);
        let marked = diff.marked();
        assert!(
            marked.starts_with("... ") && marked.ends_with(" ..."),
            "{marked}"
        );
        assert!(
            marked.contains("[-here-]{+there+}") && marked.len() < 300,
            "{marked}"
        );
        let wholly = Diff::of(&"a ".repeat(9000), &"b ".repeat(9000));
        assert!(wholly.is_cut);
        let size: usize = wholly.pieces.iter().map(|it| it.text.len()).sum();
        assert!(size <= 2 * MOST + 4 * AROUND, "{size}");
    }

    proptest! {
        #[test]
        fn each_text_is_found_in_what_is_told(
            one in "[ab \u{e9}\u{1f600}]{0,40}",
            other in "[ab \u{e9}\u{1f600}]{0,40}",
        ) {
            let diff = Diff::of(&one, &other);
            let of = |side: Side| -> String {
                let own = |it: &&Piece| it.of == Side::Both || it.of == side;
                diff.pieces.iter().filter(own).map(|it| it.text.as_str()).collect()
            };
            if one != other {
                prop_assert_eq!(of(Side::First), one);
                prop_assert_eq!(of(Side::Second), other);
            }
        }
    }
}
