//! Which recorded call answers a request of a program that runs again, and where the program departs
//! from the record.
//!
//! A request is taken for a recorded one when it asks the same of the same endpoint: model, tools, form
//! of the answer, conversation that it goes on with, and every message. What changes by itself is passed
//! over ([`steady()`]), with one condition: a name that changed is one that the record does not know, and
//! the same one throughout a request. So nobody gets an answer about another's order. Each recorded call
//! is played once. Of several that fit, that goes first whose body is the same, then that with the most
//! messages that are the same, then that of the same agent, then the earlier.

mod likeness;
mod steady;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

pub use self::likeness::Sketch;
use self::likeness::likeness;
pub use self::steady::steady;
use super::call::Operation;
use super::digest::{Digest, DigestSeed};
use super::id::Label;

/// What one message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// As it is.
    pub exact: Digest,
    /// Without what changes by itself.
    pub steady: Digest,
    /// The names that change by themselves, in their order.
    pub names: Arc<[Digest]>,
    pub words: Sketch,
}

/// What a request asks for, recorded or new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// None where nobody says who asks.
    pub agent: Option<Label>,
    pub operation: Operation,
    pub method: String,
    /// What of the path says what is asked: all of it where no operation is known.
    pub path: String,
    pub model: Option<Label>,
    pub tools: Option<Mark>,
    /// What the answer has to look like: a stream or not, its schema, how many.
    pub form: Digest,
    /// The answer or conversation, kept by the upstream, that it goes on with.
    pub goes_on: Option<Digest>,
    pub messages: Vec<Mark>,
    /// Only the front of its body is known, and of its messages those that are whole.
    pub is_cut: bool,
    /// Of all bytes of its body.
    pub body: Digest,
}

/// The first thing in which a request differs from the recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// No recorded call is left that it could be.
    Beyond,
    /// Its call was played already, and no other says the same.
    Again,
    /// Its call is on record, but cannot be played.
    Unplayable,
    /// Another operation, or another path.
    Endpoint,
    Model,
    Tools,
    /// Another form of answer: streamed, or with another schema.
    Form,
    /// It goes on with another answer or conversation that the upstream keeps.
    GoesOn,
    /// The message at this place, counted from 0.
    Message(usize),
    /// The request goes on at this message, the recorded one ended before it.
    Longer(usize),
    /// The recorded one goes on at this message, the request ended before it.
    Shorter(usize),
    /// Something else in the body, which counts where all has to be equal.
    Body,
}

/// Where a program departs from the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The recorded call it should have been; none when no call that is left could have been it.
    pub call: Option<usize>,
    /// Where there is none: the played call that it is or goes on from, if there is one.
    pub after: Option<usize>,
    pub difference: Difference,
    /// The recorded call of that endpoint, still left and playable, that it comes nearest to.
    pub stand_in: Option<usize>,
    /// Why its call cannot be played.
    pub unplayable: Option<String>,
}

/// The calls of a record in their order, and which of them were played.
#[derive(Clone, Debug, Default)]
pub struct Deck {
    calls: Vec<Asked>,
    unplayable: Vec<Option<String>>,
    played: Vec<bool>,
    /// Played for a request with other times or names.
    changed: Vec<bool>,
    /// All names in the record that change by themselves.
    known: HashSet<Digest>,
    is_strict: bool,
}

impl Deck {
    /// `why_not` says of a call that cannot be answered why; it keeps its place and is never played.
    pub fn new(calls: Vec<Asked>, why_not: impl Fn(usize) -> Option<String>) -> Self {
        let mut known = HashSet::new();
        for call in &calls {
            let marks = call.messages.iter().chain(&call.tools);
            known.extend(marks.flat_map(|mark| mark.names.iter().copied()));
            known.extend(call.goes_on);
        }
        Self {
            unplayable: (0..calls.len()).map(why_not).collect(),
            played: vec![false; calls.len()],
            changed: vec![false; calls.len()],
            calls,
            known,
            is_strict: false,
        }
    }

    /// Only requests whose body is the same, byte by byte, are played.
    #[must_use]
    pub fn strict(self, is_strict: bool) -> Self {
        Self { is_strict, ..self }
    }

    /// The recorded call that asks the same; it is not played again.
    pub fn take(&mut self, asked: &Asked) -> Result<usize, Departure> {
        let best = self.best(asked, |at| self.is_left(at));
        match best.or_else(|| self.best_cut(asked)) {
            Some(at) if self.is_playable(at) => {
                let is_same = self.calls.get(at).is_some_and(|call| call.says(asked));
                set(&mut self.changed, at, !is_same);
                self.play(at);
                Ok(at)
            }
            Some(at) => Err(Departure {
                unplayable: self.unplayable.get(at).cloned().flatten(),
                ..self.at(at, Difference::Unplayable, asked)
            }),
            None => Err(self.departure(asked)),
        }
    }

    /// Marks a call as played.
    pub fn play(&mut self, at: usize) {
        set(&mut self.played, at, true);
    }

    /// Marks a call as not played: it may be taken once more.
    pub fn give_back(&mut self, at: usize) {
        set(&mut self.played, at, false);
    }

    /// Calls that were played for a request with other times or names.
    pub fn changed(&self) -> usize {
        let calls = 0..self.calls.len();
        calls.filter(|at| self.is_changed(*at)).count()
    }

    pub fn is_changed(&self, at: usize) -> bool {
        !self.is_left(at) && self.changed.get(at) == Some(&true)
    }

    fn is_left(&self, at: usize) -> bool {
        self.played.get(at) == Some(&false)
    }

    fn is_playable(&self, at: usize) -> bool {
        self.unplayable.get(at).is_some_and(Option::is_none)
    }

    /// Of the calls that fit, the one that does best.
    fn best(&self, asked: &Asked, counts: impl Fn(usize) -> bool) -> Option<usize> {
        let calls = self.calls.iter().enumerate();
        let fitting = calls.filter(|(at, call)| counts(*at) && self.fits(call, asked));
        let rank = |(at, call): &(usize, &Asked)| {
            (
                call.body == asked.body,
                call.equal_messages(asked),
                call.is_same_agent(asked),
                self.is_playable(*at),
                Reverse(*at),
            )
        };
        fitting.max_by_key(rank).map(|(at, _)| at)
    }

    /// The call that a request may be of which only the front is on record, if none is more like it.
    fn best_cut(&self, asked: &Asked) -> Option<usize> {
        let begins = |at: usize| {
            let call = self.calls.get(at).filter(|call| call.is_cut);
            call.is_some_and(|call| {
                (call.model.is_none() || call.model == asked.model)
                    && self.common(call, asked) == call.messages.len()
            })
        };
        let like = |at: usize| self.calls.get(at).map(|call| likeness(call, asked));
        let is_open = |at: usize| self.is_left(at) && !self.is_playable(at) && begins(at);
        let cut = self.nearest(asked, is_open)?;
        let whole = self.stand_in(asked);
        (whole.and_then(like) <= like(cut)).then_some(cut)
    }

    fn fits(&self, call: &Asked, asked: &Asked) -> bool {
        if self.is_strict {
            return call.is_endpoint_of(asked) && call.body == asked.body;
        }
        call.is_endpoint_of(asked)
            && call.model == asked.model
            && call.form == asked.form
            && call.messages.len() == asked.messages.len()
            && self.is_same_goal(call, asked)
            && self.is_same_tools(call, asked)
            && self.common(call, asked) == asked.messages.len()
    }

    fn is_same_tools(&self, call: &Asked, asked: &Asked) -> bool {
        match (&call.tools, &asked.tools) {
            (Some(was), Some(is)) => self.renaming().is_same(was, is),
            (was, is) => was == is,
        }
    }

    fn is_same_goal(&self, call: &Asked, asked: &Asked) -> bool {
        match (call.goes_on, asked.goes_on) {
            (Some(was), Some(is)) => self.renaming().takes(was, is),
            (was, is) => was == is,
        }
    }

    /// Messages that two requests have in common from the first on.
    fn common(&self, call: &Asked, asked: &Asked) -> usize {
        let mut renaming = self.renaming();
        let both = call.messages.iter().zip(&asked.messages);
        both.take_while(|(was, is)| renaming.is_same(was, is))
            .count()
    }

    fn renaming(&self) -> Renaming<'_> {
        Renaming {
            known: &self.known,
            is_strict: self.is_strict,
            new_of: HashMap::new(),
            old_of: HashMap::new(),
        }
    }

    /// The call that a request comes nearest to, of its endpoint: of its agent, most like it, left
    /// rather than played, the earliest.
    fn nearest(&self, asked: &Asked, counts: impl Fn(usize) -> bool) -> Option<usize> {
        let calls = self.calls.iter().enumerate();
        let of_endpoint = calls.filter(|(at, call)| counts(*at) && call.is_endpoint_of(asked));
        let rank = |(at, call): &(usize, &Asked)| {
            let likeness = likeness(call, asked);
            (
                call.is_same_agent(asked),
                likeness,
                call.equal_messages(asked),
                self.is_left(*at),
                Reverse(*at),
            )
        };
        of_endpoint.max_by_key(rank).map(|(at, _)| at)
    }

    fn departure(&self, asked: &Asked) -> Departure {
        if let Some(at) = self.best(asked, |_| true) {
            return self.behind(Some(at), Difference::Again, asked);
        }
        let is_over = |at: &usize| !self.is_left(*at) && self.goes_on_from(*at, asked);
        if let Some(at) = self.nearest(asked, |_| true).filter(is_over) {
            return self.behind(Some(at), Difference::Beyond, asked);
        }
        let earliest = || (0..self.calls.len()).find(|at| self.is_left(*at));
        let call = self.nearest(asked, |at| self.is_left(at)).or_else(earliest);
        match call.and_then(|at| Some((at, self.calls.get(at)?))) {
            Some((at, call)) => self.at(at, self.difference(call, asked), asked),
            None => self.behind(None, Difference::Beyond, asked),
        }
    }

    /// The request says all that the call did, and more.
    fn goes_on_from(&self, at: usize, asked: &Asked) -> bool {
        self.calls.get(at).is_some_and(|call| {
            let common = self.common(call, asked);
            common > 0 && common == call.messages.len() && common < asked.messages.len()
        })
    }

    fn at(&self, at: usize, difference: Difference, asked: &Asked) -> Departure {
        Departure {
            call: Some(at),
            after: None,
            difference,
            stand_in: self.stand_in(asked),
            unplayable: None,
        }
    }

    fn behind(&self, after: Option<usize>, difference: Difference, asked: &Asked) -> Departure {
        Departure {
            call: None,
            after,
            difference,
            stand_in: self.stand_in(asked),
            unplayable: None,
        }
    }

    fn stand_in(&self, asked: &Asked) -> Option<usize> {
        self.nearest(asked, |at| self.is_left(at) && self.is_playable(at))
    }

    fn difference(&self, call: &Asked, asked: &Asked) -> Difference {
        let common = self.common(call, asked);
        let (was, is) = (call.messages.len(), asked.messages.len());
        if !call.is_endpoint_of(asked) {
            Difference::Endpoint
        } else if common < was.min(is) {
            Difference::Message(common)
        } else if common < is {
            Difference::Longer(common)
        } else if common < was {
            Difference::Shorter(common)
        } else if call.model != asked.model {
            Difference::Model
        } else if !self.is_same_tools(call, asked) {
            Difference::Tools
        } else if call.form != asked.form {
            Difference::Form
        } else if !self.is_same_goal(call, asked) {
            Difference::GoesOn
        } else {
            Difference::Body
        }
    }
}

fn set(flags: &mut [bool], at: usize, is: bool) {
    if let Some(flag) = flags.get_mut(at) {
        *flag = is;
    }
}

/// Names of one recorded request, each with the one that now stands in its place.
struct Renaming<'a> {
    known: &'a HashSet<Digest>,
    is_strict: bool,
    new_of: HashMap<Digest, Digest>,
    old_of: HashMap<Digest, Digest>,
}

impl Renaming<'_> {
    fn is_same(&mut self, was: &Mark, is: &Mark) -> bool {
        if self.is_strict || was.exact == is.exact {
            return was.exact == is.exact;
        }
        let mut names = was.names.iter().zip(is.names.iter());
        was.steady == is.steady
            && was.names.len() == is.names.len()
            && names.all(|(was, is)| self.takes(*was, *is))
    }

    /// A name stays, as in all that comes from recorded answers, or is new and the same throughout.
    fn takes(&mut self, was: Digest, is: Digest) -> bool {
        was == is
            || !self.known.contains(&is)
                && *self.new_of.entry(was).or_insert(is) == is
                && *self.old_of.entry(is).or_insert(was) == was
    }
}

impl Mark {
    /// Of what is said, and of the ids that belong to it.
    pub fn of(said: &str, ids: &str, seed: DigestSeed) -> Self {
        let steady = steady(said);
        let names = steady.names.iter().map(|name| seed.digest(name.as_bytes()));
        Self {
            exact: seed.digest(format!("{said}\0{ids}").as_bytes()),
            steady: seed.digest(steady.text.as_bytes()),
            names: names.collect(),
            words: Sketch::of(&steady.text),
        }
    }

    /// Of something in which nothing changes by itself, and what of it can be read.
    pub fn fixed(digest: Digest, said: &str) -> Self {
        Self {
            exact: digest,
            steady: digest,
            names: Arc::default(),
            words: Sketch::of(said),
        }
    }
}

impl Asked {
    fn is_endpoint_of(&self, asked: &Self) -> bool {
        self.operation == asked.operation && self.method == asked.method && self.path == asked.path
    }

    fn is_same_agent(&self, asked: &Self) -> bool {
        asked.agent.is_some() && self.agent == asked.agent
    }

    /// Messages that are the same, wherever they stand before others that are not.
    fn equal_messages(&self, asked: &Self) -> usize {
        let both = self.messages.iter().zip(&asked.messages);
        both.filter(|(was, is)| was.exact == is.exact).count()
    }

    /// Whether it says exactly the same, times and names too.
    fn says(&self, asked: &Self) -> bool {
        let exact = |tools: &Option<Mark>| tools.as_ref().map(|tools| tools.exact);
        self.equal_messages(asked) == asked.messages.len()
            && exact(&self.tools) == exact(&asked.tools)
            && self.goes_on == asked.goes_on
    }
}

#[cfg(test)]
mod tests;
