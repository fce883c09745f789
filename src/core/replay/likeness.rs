//! How like two requests are, to find the recorded call that a changed one stands for.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::steady::PLACEHOLDERS;
use super::{Asked, Mark};

/// The smallest hashes of a text's words that are kept.
const KEPT: usize = 32;
/// All alike, in thousandths.
const WHOLE: u64 = 1000;
/// What the model, the tools and the form of the answer weigh beside the messages.
const FRAME: u64 = 50;

/// The words of a text, as far as two texts are compared by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch(Arc<[u32]>);

impl Sketch {
    /// Words count, and which follows which.
    pub fn of(text: &str) -> Self {
        // What stands for a time or a name is a word, too: some texts have hardly any other.
        let is_word = |c: char| c.is_alphanumeric() || PLACEHOLDERS.contains(&c);
        let words = text.split(|c: char| !is_word(c));
        let words = words.filter(|word| !word.is_empty());
        let mut hashes: Vec<u32> = Vec::new();
        let mut before = 0_u64;
        for word in words {
            let hash = xxh3_64(word.as_bytes());
            hashes.push(short(hash));
            hashes.push(short(hash ^ before.rotate_left(17)));
            before = hash;
            if hashes.len() > 64 * KEPT {
                smallest(&mut hashes);
            }
        }
        smallest(&mut hashes);
        Self(hashes.into())
    }

    /// Thousandths of their words that two texts share; 0 where neither has any.
    fn likeness(&self, other: &Self) -> u64 {
        let mut all: Vec<u32> = self.0.iter().chain(other.0.iter()).copied().collect();
        all.sort_unstable();
        let smallest = || all.chunk_by(|one, other| one == other).take(KEPT);
        let both = smallest().filter(|of| of.len() > 1).count() as u64;
        (both * WHOLE)
            .checked_div(smallest().count() as u64)
            .unwrap_or_default()
    }
}

fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn smallest(hashes: &mut Vec<u32>) {
    hashes.sort_unstable();
    hashes.dedup();
    hashes.truncate(KEPT);
}

/// How like two requests of one endpoint are: what they say at their beginning and at their end,
/// and how like it is what lies between; then the frame.
pub(super) fn likeness(call: &Asked, asked: &Asked) -> u64 {
    let (was, is) = (&call.messages, &asked.messages);
    let is_same = |(one, other): &(&Mark, &Mark)| one.steady == other.steady;
    let front = was.iter().zip(is).take_while(is_same).count();
    let (was, is) = (rest(was, front), rest(is, front));
    let back = was.iter().rev().zip(is.iter().rev());
    let back = back.take_while(is_same).count();
    let between = was.len().min(is.len()) - back;
    let pairs = was.iter().zip(is).take(between);
    let alike: u64 = pairs
        .map(|(one, other)| one.words.likeness(&other.words))
        .sum();
    let longest = (front + was.len().max(is.len())).max(1) as u64;
    let said = ((front + back) as u64 * WHOLE + alike) / longest;
    let frame = [
        call.model == asked.model,
        steady(call.tools.as_ref()) == steady(asked.tools.as_ref()),
        call.form == asked.form,
    ];
    // What is cut off may be the same.
    let frame = frame.map(|is_same| u64::from(is_same || call.is_cut));
    let frame: u64 = frame.into_iter().sum();
    said + frame * FRAME
}

fn rest(marks: &[Mark], from: usize) -> &[Mark] {
    marks.get(from..).unwrap_or_default()
}

fn steady(tools: Option<&Mark>) -> Option<super::Digest> {
    tools.map(|tools| tools.steady)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_as_like_as_their_words() {
        let text = "You plan the release of the shop. Be short.";
        let of = |other: &str| Sketch::of(text).likeness(&Sketch::of(other));
        assert_eq!(of(text), WHOLE);
        let (near, far) = (
            of("You plan the release of the shop. Be precise."),
            of("You write tests for the shop."),
        );
        assert!(WHOLE > near && near > far && far > 0, "{near} {far}");
        assert_eq!(of("Summarise a letter"), 0);
        let [time, name] = PLACEHOLDERS;
        let of = |word: &str| Sketch::of(&format!("{time} {name} {name} {word}"));
        assert!(of("sent").likeness(&of("lost")) > 0);
        assert_eq!(Sketch::of("").likeness(&Sketch::of("?!")), 0);
    }
}
