//! Texts that come in pieces, as a stream has them; one by itself is a single piece.

use super::{CUT, Rule};

/// One piece of a text.
pub(super) struct Piece {
    pub(super) event: usize,
    /// Which string of the event.
    pub(super) string: usize,
    pub(super) text: Vec<u8>,
}

/// A text as rules make it, without its end.
pub(super) fn front_of_text(rules: &[Rule], text: &[u8]) -> Vec<u8> {
    let mut pieces = [Piece {
        event: 0,
        string: 0,
        text: text.to_vec(),
    }];
    let growth = redact(rules, &mut pieces).growth;
    shorten(&mut pieces, CUT + growth, &[]);
    let [piece] = pieces;
    piece.text
}

/// Takes the last `end` bytes away; says of which pieces. Of a piece that is cut in two nothing stays
/// where rules matched its event as it stands: they might not match what is left of it.
pub(super) fn shorten(pieces: &mut [Piece], mut end: usize, matched: &[bool]) -> Vec<usize> {
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
        if kept > 0 && matched.get(piece.event).is_some_and(|is| *is) {
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
pub(super) struct Made {
    /// The pieces that are not what they were.
    pub(super) changed: Vec<usize>,
    /// By how many bytes matches in its last [`CUT`] made it longer.
    pub(super) growth: usize,
}

/// Makes all rules in what the pieces come to together. What a match becomes stands in the piece that
/// the match begins in.
pub(super) fn redact(rules: &[Rule], pieces: &mut [Piece]) -> Made {
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
