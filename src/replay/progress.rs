//! How far a replay is: which recorded calls were played, and what becomes of the next request.

use std::collections::VecDeque;

use crate::core::replay::{Asked, Deck, Departure};

use super::server::{DepartureView, OnDivergence};

/// Requests that went live of which so many are known, the newest.
const MAX_FORKED: usize = 1024;

/// The rules of one replay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub on_divergence: OnDivergence,
    /// The first call, from 0, that is not played.
    pub fork_at: Option<usize>,
    /// A call may be played again when all that say the same were.
    pub repeats: bool,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    deck: Deck,
    is_playable: Vec<bool>,
    /// Played since the record was last rewound.
    round: Vec<bool>,
    /// How often each was played.
    played: Vec<u32>,
    /// What went live.
    forked: VecDeque<Asked>,
    pub live: usize,
    pub refused: usize,
    has_departed: bool,
    pub departure: Option<DepartureView>,
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Play(usize),
    Live,
    Stop,
}

/// What is done, and where the program departs from the record with it; whether that is the first time.
pub(super) type Decided = (Step, Option<(Departure, bool)>);

impl Progress {
    /// `unplayable` says of a call why it cannot be played.
    pub(super) fn new(asked: Vec<Asked>, unplayable: &[Option<String>], is_strict: bool) -> Self {
        let calls = asked.len();
        Self {
            is_playable: unplayable.iter().map(Option::is_none).collect(),
            deck: Deck::new(asked, |at| unplayable.get(at).cloned().flatten()).strict(is_strict),
            round: vec![false; calls],
            played: vec![0; calls],
            ..Self::default()
        }
    }

    /// A client that says it asks once more has not had the answer, whoever it was sent to.
    pub(super) fn decide(&mut self, asked: &Asked, is_retry: bool, rules: Rules) -> Decided {
        let fork_at = rules.fork_at.unwrap_or(usize::MAX);
        let taken = self.deck.take(asked);
        let taken = taken.or_else(|departure| {
            self.take_again(asked, is_retry, rules.repeats)
                .ok_or(departure)
        });
        let departure = match taken {
            Ok(at) if at < fork_at => return (self.play(at), None),
            Ok(_) => return (self.go_live(asked), None),
            Err(departure) => departure,
        };
        if rules.fork_at.is_some() && self.is_behind(&departure, asked, fork_at) {
            return (self.go_live(asked), None);
        }
        let is_first = !std::mem::replace(&mut self.has_departed, true);
        let step = match (rules.on_divergence, departure.stand_in) {
            (OnDivergence::Nearest, Some(at)) => {
                self.deck.play(at);
                self.play(at)
            }
            (OnDivergence::Forward, _) => self.go_live(asked),
            _ => {
                self.refused += 1;
                Step::Stop
            }
        };
        (step, Some((departure, is_first)))
    }

    /// A call that was played already. Where calls are repeated the record is rewound with it.
    fn take_again(&mut self, asked: &Asked, is_retry: bool, repeats: bool) -> Option<usize> {
        if !is_retry && !repeats {
            return None;
        }
        let places = self.round.iter().enumerate();
        let round: Vec<usize> = places.filter(|(_, it)| **it).map(|(at, _)| at).collect();
        for at in &round {
            self.deck.give_back(*at);
        }
        let found = self.deck.take(asked).ok();
        if repeats && found.is_some() {
            self.round.fill(false);
        } else {
            for at in round {
                self.deck.play(at);
            }
        }
        found
    }

    fn play(&mut self, at: usize) -> Step {
        if let Some(round) = self.round.get_mut(at) {
            *round = true;
        }
        if let Some(played) = self.played.get_mut(at) {
            *played += 1;
        }
        Step::Play(at)
    }

    fn go_live(&mut self, asked: &Asked) -> Step {
        self.live += 1;
        if self.forked.len() == MAX_FORKED {
            self.forked.pop_front();
        }
        self.forked.push_back(asked.clone());
        Step::Live
    }

    /// Behind the fork nothing needs to be as it was: what comes nearest to a call behind it, what goes
    /// on with a conversation that went live, and all else once what is before the fork was played.
    fn is_behind(&self, departure: &Departure, asked: &Asked, fork_at: usize) -> bool {
        let nearest = departure.call.or(departure.after);
        let goes_on = |before: &Asked| {
            let len = before.messages.len();
            len > 0 && asked.messages.get(..len) == Some(before.messages.as_slice())
        };
        nearest.is_none_or(|at| at >= fork_at)
            || self.forked.iter().any(goes_on)
            || self.unplayed(fork_at).next().is_none()
    }

    /// Of the calls before this one those that can be played and were not, from 0.
    pub(super) fn unplayed(&self, fork_at: usize) -> impl Iterator<Item = usize> {
        let calls = self.played.iter().enumerate().take(fork_at);
        calls
            .filter(|(at, played)| **played == 0 && self.is_playable(*at))
            .map(|(at, _)| at)
    }

    pub(super) fn played(&self) -> usize {
        self.played.iter().filter(|played| **played > 0).count()
    }

    /// Of these, those that were asked for with other times or names.
    pub(super) fn changed(&self) -> usize {
        let played = self.played.iter().enumerate();
        played
            .filter(|(at, played)| **played > 0 && self.deck.is_changed(*at))
            .count()
    }

    /// Answers that were given more than once.
    pub(super) fn repeated(&self) -> u32 {
        self.played
            .iter()
            .map(|played| played.saturating_sub(1))
            .sum()
    }

    /// Nobody had all of the answer.
    pub(super) fn give_back(&mut self, at: usize) {
        self.deck.give_back(at);
        if let Some(round) = self.round.get_mut(at) {
            *round = false;
        }
        if let Some(played) = self.played.get_mut(at) {
            *played = played.saturating_sub(1);
        }
    }

    /// A request that was to go live could not.
    pub(super) fn was_refused(&mut self) {
        self.live = self.live.saturating_sub(1);
        self.refused += 1;
    }

    fn is_playable(&self, at: usize) -> bool {
        self.is_playable.get(at) == Some(&true)
    }
}

#[cfg(test)]
mod tests;
