//! Where a program departs from the record, and how, in words.

use super::super::tape::{Call, Tape};
use super::{Parts, Request};
use crate::core::call::Operation;
use crate::core::replay::{Departure, Difference};
use crate::core::text::front;

/// Of a text that differs so many bytes are shown from shortly before the difference on.
const SHOWN: usize = 240;
const BEFORE: usize = 40;

/// Where the program that asks `now` departs, in one line, and then what each side says.
pub fn told(tape: &Tape, departure: &Departure, now: &Request) -> String {
    let run = &tape.run;
    let place = |at: Option<usize>| {
        let at = at?;
        let Call { id, agent, .. } = tape.calls.get(at)?;
        let (number, all) = (at + 1, tape.calls.len());
        Some(format!("call {number} of {all} ({id}, {agent})"))
    };
    let call = departure.call.and_then(|at| tape.calls.get(at));
    match (departure.difference, place(departure.call), call) {
        (Difference::Unplayable, Some(place), _) => {
            let why = departure
                .unplayable
                .as_deref()
                .unwrap_or("nothing is recorded");
            format!("{place} of run {run} is on record, but cannot be played: {why}")
        }
        (difference, Some(place), Some(call)) => {
            let what = differs(difference, &call.request, now);
            format!("the program departs from run {run} at {place}: {what}")
        }
        (difference, ..) => {
            let asks = asks(now);
            match place(departure.after) {
                Some(place) if difference == Difference::Again => format!(
                    "the program departs from run {run}: {place} was played already, and none that is \
                     left says the same{asks}"
                ),
                Some(place) => format!(
                    "the program departs from run {run} after {place}: none that is left goes on from \
                     there{asks}"
                ),
                None => format!(
                    "the program departs from run {run} at its end: no call is left on record{asks}"
                ),
            }
        }
    }
}

/// What a request asks for that has no counterpart: where, which model, and what was said last.
fn asks(now: &Request) -> String {
    let parts = now.parts();
    let model = parts.model.as_ref().map(|model| format!(", model {model}"));
    let place = format!("{} {}{}", now.method, now.path, model.unwrap_or_default());
    let last = parts.transcript.entries().len().checked_sub(1);
    let last = last.map(|at| parts.said(at)).unwrap_or_default();
    two("", "", &format!("{place}\n{}", front(&last, SHOWN)))
}

/// How `now` differs from `recorded`, in one line and then what each says.
fn differs(difference: Difference, recorded: &Request, now: &Request) -> String {
    let (was, is) = (recorded.parts(), now.parts());
    let none = || "none".to_owned();
    match difference {
        Difference::Message(at) => message(at, &was, &is),
        Difference::Longer(at) => {
            let text = is.said(at);
            let what = format!("message {} was not there", at + 1);
            two(&what, "", front(&text, SHOWN))
        }
        Difference::Shorter(at) => {
            let text = was.said(at);
            let what = format!("message {} is missing", at + 1);
            two(&what, front(&text, SHOWN), "")
        }
        Difference::Model => {
            let model = |of: &Parts| of.model.as_ref().map_or_else(none, ToString::to_string);
            two("another model", &model(&was), &model(&is))
        }
        Difference::Tools => {
            let tools = |of: &Parts| of.tools.clone().unwrap_or_else(none);
            around("other tools", &tools(&was), &tools(&is))
        }
        Difference::Form => around("another form of answer", &was.form, &is.form),
        Difference::GoesOn => {
            let id = |of: &Parts| of.goes_on.clone().unwrap_or_else(none);
            let what = "it goes on with another answer or conversation";
            two(what, &id(&was), &id(&is))
        }
        Difference::Body => around("the body differs", &was.raw(), &is.raw()),
        Difference::Endpoint | Difference::Beyond | Difference::Again | Difference::Unplayable => {
            let endpoint = |of: &Request| format!("{} {}", of.method, of.path);
            two("another endpoint", &endpoint(recorded), &endpoint(now))
        }
    }
}

fn message(at: usize, was: &Parts, is: &Parts) -> String {
    let what = if is.route.operation == Operation::Other {
        "the body differs".to_owned()
    } else {
        format!("message {} differs", at + 1)
    };
    let (said_then, says_now) = (was.said(at), is.said(at));
    if said_then == says_now {
        around(&what, &was.raw_message(at), &is.raw_message(at))
    } else {
        around(&what, &said_then, &says_now)
    }
}

impl Parts {
    /// `user: text`, with the names of tools that it calls.
    fn said(&self, at: usize) -> String {
        let Some(entry) = self.transcript.entries().get(at) else {
            return String::new();
        };
        entry.read(&self.body, usize::MAX).words()
    }

    fn raw_message(&self, at: usize) -> String {
        let range = self
            .transcript
            .entries()
            .get(at)
            .map(|entry| entry.range.clone());
        let raw = range.and_then(|range| self.body.get(range));
        String::from_utf8_lossy(raw.unwrap_or_default()).into_owned()
    }

    fn raw(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn two(what: &str, was: &str, is: &str) -> String {
    let line = |mark: char, text: &str| match text {
        "" => String::new(),
        text => format!("\n  {mark} {}", text.replace('\n', "\n    ")),
    };
    format!("{what}{}{}", line('-', was), line('+', is))
}

/// Both texts from shortly before their first difference on.
fn around(what: &str, was: &str, is: &str) -> String {
    let same = was.char_indices().zip(is.chars());
    let same = same.take_while(|((_, one), other)| one == other);
    let at = same.last().map_or(0, |((at, c), _)| at + c.len_utf8());
    let mut from = at.saturating_sub(BEFORE);
    while !was.is_char_boundary(from) {
        from -= 1;
    }
    let cut = |text: &str| {
        let rest = text.get(from..).unwrap_or_default();
        let shown = front(rest, SHOWN);
        let before = if from > 0 { "..." } else { "" };
        let after = if shown.len() < rest.len() { "..." } else { "" };
        format!("{before}{shown}{after}")
    };
    two(what, &cut(was), &cut(is))
}
