//! Which recorded call answers a request of a program that runs again, and where the program departs
//! from the record.
//!
//! A request is taken for a recorded one when it says the same, message by message. What changes by
//! itself - times, identifiers - is passed over where nothing says exactly the same. Each recorded
//! call is played once; of several that say the same the one whose history is exactly this one goes
//! first, then that of the same agent, then the earlier.

use serde::Serialize;

use super::call::Operation;
use super::digest::Digest;
use super::id::Label;

/// What one message says: as it is, and without what changes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub exact: Digest,
    pub steady: Digest,
}

/// What a request asks for, recorded or new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// None where nobody says who asks.
    pub agent: Option<Label>,
    pub operation: Operation,
    pub method: String,
    /// Without tags and query. Counts only for what is no known operation.
    pub path: String,
    pub model: Option<Label>,
    pub tools: Option<Digest>,
    pub messages: Vec<Mark>,
}

/// The first thing in which a request differs from the recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// Every recorded call was played.
    Beyond,
    /// Another operation, or another path.
    Endpoint,
    Model,
    Tools,
    /// The message at this place, counted from 0.
    Message(usize),
    /// The request goes on at this message, the recorded one ended before it.
    Longer(usize),
    /// The recorded one goes on at this message, the request ended before it.
    Shorter(usize),
}

/// Where a program departs from the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The recorded call it should have been; none when all were played.
    pub call: Option<usize>,
    pub difference: Difference,
}

/// The calls of a record in their order, and which of them were played.
#[derive(Clone, Debug, Default)]
pub struct Deck {
    calls: Vec<Asked>,
    played: Vec<bool>,
}

impl Deck {
    /// Calls that cannot be answered are left out by `is_playable`, and keep their number.
    pub fn new(calls: Vec<Asked>, is_playable: impl Fn(usize) -> bool) -> Self {
        let played = (0..calls.len()).map(|at| !is_playable(at)).collect();
        Self { calls, played }
    }

    /// The recorded call that says the same; it is not played again.
    pub fn take(&mut self, asked: &Asked) -> Result<usize, Departure> {
        let found = self
            .best(asked, |call| call.is_exactly(asked))
            .or_else(|| self.best(asked, |call| call.is_steadily(asked)));
        match found {
            Some(at) => {
                self.play(at);
                Ok(at)
            }
            None => Err(self.departure(asked)),
        }
    }

    /// Marks a call as played.
    pub fn play(&mut self, at: usize) {
        if let Some(played) = self.played.get_mut(at) {
            *played = true;
        }
    }

    /// Marks a call as not played: it may be taken once more.
    pub fn give_back(&mut self, at: usize) {
        if let Some(played) = self.played.get_mut(at) {
            *played = false;
        }
    }

    fn left(&self) -> impl Iterator<Item = (usize, &Asked)> {
        let calls = self.calls.iter().enumerate().zip(&self.played);
        calls.filter(|(_, played)| !**played).map(|(call, _)| call)
    }

    fn best(&self, asked: &Asked, is_same: impl Fn(&Asked) -> bool) -> Option<usize> {
        let same = self.left().filter(|(_, call)| is_same(call));
        let rank = |(at, call): &(usize, &Asked)| {
            let exact = front(call, asked, |one, other| one.exact == other.exact);
            (exact, is_same_agent(call, asked), std::cmp::Reverse(*at))
        };
        same.max_by_key(rank).map(|(at, _)| at)
    }

    /// The call that a request comes nearest to: of its operation, its agent, with the longest common
    /// front, the earliest of these.
    fn nearest(&self, asked: &Asked) -> Option<usize> {
        let rank = |(at, call): &(usize, &Asked)| {
            let common = front(call, asked, |one, other| one.steady == other.steady);
            (
                call.is_endpoint_of(asked),
                is_same_agent(call, asked),
                common,
                std::cmp::Reverse(*at),
            )
        };
        self.left().max_by_key(rank).map(|(at, _)| at)
    }

    fn departure(&self, asked: &Asked) -> Departure {
        let call = self.nearest(asked);
        let recorded = call.and_then(|at| self.calls.get(at));
        let difference = recorded.map_or(Difference::Beyond, |call| call.difference(asked));
        Departure { call, difference }
    }
}

impl Asked {
    fn is_endpoint_of(&self, asked: &Self) -> bool {
        let is_known = self.operation != Operation::Other;
        self.operation == asked.operation
            && self.method == asked.method
            && (is_known || self.path == asked.path)
    }

    fn is_frame_of(&self, asked: &Self) -> bool {
        self.is_endpoint_of(asked)
            && self.model == asked.model
            && self.tools == asked.tools
            && self.messages.len() == asked.messages.len()
    }

    fn is_exactly(&self, asked: &Self) -> bool {
        let mut both = self.messages.iter().zip(&asked.messages);
        self.is_frame_of(asked) && both.all(|(one, other)| one.exact == other.exact)
    }

    fn is_steadily(&self, asked: &Self) -> bool {
        let mut both = self.messages.iter().zip(&asked.messages);
        self.is_frame_of(asked) && both.all(|(one, other)| one.steady == other.steady)
    }

    fn difference(&self, asked: &Self) -> Difference {
        let common = front(self, asked, |one, other| one.steady == other.steady);
        if !self.is_endpoint_of(asked) {
            Difference::Endpoint
        } else if common < self.messages.len().min(asked.messages.len()) {
            Difference::Message(common)
        } else if common < asked.messages.len() {
            Difference::Longer(common)
        } else if common < self.messages.len() {
            Difference::Shorter(common)
        } else if self.model == asked.model {
            Difference::Tools
        } else {
            Difference::Model
        }
    }
}

fn is_same_agent(call: &Asked, asked: &Asked) -> bool {
    asked.agent.is_some() && call.agent == asked.agent
}

/// Messages that two requests have in common from the first on.
fn front(call: &Asked, asked: &Asked, is_same: impl Fn(&Mark, &Mark) -> bool) -> usize {
    let both = call.messages.iter().zip(&asked.messages);
    both.take_while(|(one, other)| is_same(one, other)).count()
}

#[cfg(test)]
mod tests;
