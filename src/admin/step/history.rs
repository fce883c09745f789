//! What of a request is new, by the digests of its messages.

use std::collections::HashMap;

use super::shape::History;
use crate::core::digest::Digest;

/// How a list of messages stands to the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) history: History,
    /// Of each message whether it was not sent before.
    pub(super) is_new: Vec<bool>,
    /// Messages of the list before that are gone.
    pub(super) dropped: Vec<usize>,
    /// The first message that differs, where something is gone or moved.
    pub(super) changed_at: Option<usize>,
    /// How many messages at the front are the same.
    pub(super) front: usize,
}

impl Change {
    /// Of a list that nothing is known before.
    pub(super) fn first(count: usize) -> Self {
        Self {
            is_new: vec![true; count],
            ..Self::default()
        }
    }

    pub(super) fn between(before: &[Digest], now: &[Digest]) -> Self {
        let same = before.iter().zip(now).take_while(|(a, b)| a == b);
        let front = same.count();
        let mut left: HashMap<Digest, Vec<usize>> = HashMap::new();
        for (index, digest) in before.iter().enumerate().skip(front).rev() {
            left.entry(*digest).or_default().push(index);
        }
        let mut is_new = vec![false; front];
        let mut places = Vec::new();
        for digest in now.iter().skip(front) {
            let kept = left.get_mut(digest).and_then(Vec::pop);
            is_new.push(kept.is_none());
            places.extend(kept);
        }
        let mut dropped: Vec<usize> = left.into_values().flatten().collect();
        dropped.sort_unstable();
        let is_ordered = places.is_sorted();
        // Behind the last that was kept everything is new.
        let tail = is_new
            .iter()
            .rposition(|new| !new)
            .map_or(0, |last| last + 1);
        let is_replaced = is_new.iter().take(tail).any(|new| *new);
        let history = if front == before.len() {
            if front == now.len() {
                History::Repeated
            } else {
                History::Grown
            }
        } else if is_ordered && !is_replaced && !dropped.is_empty() && tail > 0 {
            History::Cut
        } else {
            History::Rewritten
        };
        Self {
            history,
            is_new,
            changed_at: (front < before.len()).then_some(front),
            dropped,
            front,
        }
    }

    /// How well the list before explains this one: all of it kept, then how much.
    pub(super) fn likeness(&self) -> (bool, usize) {
        (self.goes_on(), self.kept())
    }

    /// Whether all of the list before was kept.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.history, History::Grown | History::Repeated)
    }

    pub(super) fn kept(&self) -> usize {
        self.is_new.iter().filter(|new| !**new).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digests(letters: &str) -> Vec<Digest> {
        let digest = |byte: u8| Digest::from_bytes([byte; 16]);
        letters.bytes().map(digest).collect()
    }

    /// `new` are the letters of `now` that were not sent before, `gone` those of `before` that are not
    /// sent any more.
    #[track_caller]
    fn check(before: &str, now: &str, history: History, new: &str, gone: &str) {
        let change = Change::between(&digests(before), &digests(now));
        let found_new: String = now
            .chars()
            .zip(&change.is_new)
            .filter_map(|(letter, new)| new.then_some(letter))
            .collect();
        let letters: Vec<char> = before.chars().collect();
        let found_gone: String = change.dropped.iter().map(|at| letters[*at]).collect();
        assert_eq!(
            (found_new.as_str(), found_gone.as_str()),
            (new, gone),
            "{before} -> {now}"
        );
        assert_eq!(change.history, history, "{before} -> {now}");
    }

    #[test]
    fn a_history_that_goes_on_is_told_from_one_that_changed() {
        check("sab", "sabcd", History::Grown, "cd", "");
        check("sab", "saba", History::Grown, "a", "");
        check("sab", "sab", History::Repeated, "", "");
        check("sabcd", "scde", History::Cut, "e", "ab");
        check("sabcd", "sabc", History::Cut, "", "d");
        check("sabcd", "sabx", History::Cut, "x", "cd");
        check("sabcd", "szcde", History::Rewritten, "ze", "ab");
        check("sabcd", "tabcde", History::Rewritten, "te", "s");
        check("sabc", "sacb", History::Rewritten, "", "");
        check("sabc", "xyz", History::Rewritten, "xyz", "sabc");
        check("", "sa", History::Grown, "sa", "");
    }

    #[test]
    fn where_it_changed_is_the_first_message_that_differs() {
        let at = |before, now| Change::between(&digests(before), &digests(now)).changed_at;
        assert_eq!(at("sab", "sabc"), None);
        assert_eq!(at("sabcd", "scde"), Some(1));
        assert_eq!(at("sab", "tab"), Some(0));
    }

    proptest! {
        #[test]
        fn every_message_is_new_or_kept_and_every_old_one_kept_or_gone(
            before in "[a-e]{0,12}", now in "[a-e]{0,12}",
        ) {
            let change = Change::between(&digests(&before), &digests(&now));
            prop_assert_eq!(change.is_new.len(), now.len());
            prop_assert_eq!(change.kept() + change.dropped.len(), before.len());
            prop_assert_eq!(change.goes_on(), now.starts_with(&before));
            prop_assert_eq!(change.history == History::Repeated, before == now);
        }
    }
}
