//! Which fields limit the output of one choice in a dialect, and how much their values allow.
//!
//! Servers of one dialect differ in which of its fields they know. What counts is the largest that
//! any of them may go by, so that none can put out more than was thought.

use super::LimitField;
use crate::core::call::Operation;
use crate::wire::fields::Fields;
use crate::wire::route::Dialect;

/// Where a dialect has the limit of its output.
#[derive(Debug)]
pub(in crate::wire) struct Limits {
    /// The object in the body that holds the limit; none where the body itself does.
    pub(in crate::wire) within: Option<&'static str>,
    /// The names of the limit.
    pub(in crate::wire) own: &'static [&'static str],
    /// Names that some servers go by first and most do not know: alone they are no limit.
    also: &'static [&'static str],
    /// What a limit of zero allows; none where servers differ.
    zero: Option<u64>,
}

/// A member that sets a limit, unless it is null.
pub(in crate::wire) struct Member<'a> {
    pub(in crate::wire) name: &'static str,
    pub(in crate::wire) value: &'a str,
}

/// OpenAI refuses a limit of zero, Ollama takes it for none in the same dialect.
const CHAT: Limits = Limits {
    within: None,
    own: &["max_completion_tokens", "max_tokens"],
    // llama.cpp takes its own name in every dialect.
    also: &["n_predict"],
    zero: None,
};
const COMPLETIONS: Limits = Limits {
    within: None,
    own: &["max_tokens"],
    also: &["n_predict"],
    zero: Some(0),
};
const RESPONSES: Limits = Limits {
    within: None,
    own: &["max_output_tokens"],
    also: &[],
    zero: Some(0),
};
const MESSAGES: Limits = Limits {
    within: None,
    own: &["max_tokens"],
    also: &[],
    zero: Some(0),
};
const GEMINI: Limits = Limits {
    within: Some("generationConfig"),
    own: &["maxOutputTokens", "max_output_tokens"],
    also: &[],
    zero: Some(0),
};
const OLLAMA: Limits = Limits {
    within: Some("options"),
    own: &["num_predict"],
    also: &[],
    zero: Some(u64::MAX),
};
const LLAMA_CPP: Limits = Limits {
    within: None,
    own: &["n_predict"],
    // Unknown to its older versions.
    also: &["max_tokens"],
    zero: Some(0),
};

impl Limits {
    /// None where no output can be limited.
    pub(in crate::wire) fn of(operation: Operation, dialect: Dialect) -> Option<&'static Self> {
        match operation {
            Operation::Chat
            | Operation::TextCompletion
            | Operation::Responses
            | Operation::Messages
            | Operation::GenerateContent => {}
            _ => return None,
        }
        match dialect {
            Dialect::Chat => Some(&CHAT),
            Dialect::Completions => Some(&COMPLETIONS),
            Dialect::Responses => Some(&RESPONSES),
            Dialect::Messages => Some(&MESSAGES),
            Dialect::Gemini => Some(&GEMINI),
            Dialect::Ollama => Some(&OLLAMA),
            Dialect::LlamaCpp => Some(&LLAMA_CPP),
            _ => None,
        }
    }

    /// Whether a member of the body is a limit or holds it.
    pub(super) fn are_in(&self, member: &str) -> bool {
        match self.within {
            Some(within) => within == member,
            None => self.name(member).is_some(),
        }
    }

    /// The name of a limit.
    pub(in crate::wire) fn name(&self, key: &str) -> Option<&'static str> {
        let mut names = self.own.iter().chain(self.also);
        names.find(|name| **name == key).copied()
    }

    /// The limit that the `fields` of a body set; none where there may be none.
    pub(super) fn of_choice(&self, body: &[u8], fields: &[LimitField]) -> Option<u64> {
        let text = |field: &LimitField| str::from_utf8(body.get(field.value.clone())?).ok();
        if self.within.is_some() {
            // Which of two objects counts, or whether both do, is not known.
            let limits = fields.iter().map(|field| self.of_settings(text(field)?));
            return largest(limits);
        }
        let members: Option<Vec<_>> = fields
            .iter()
            .map(|field| {
                let (name, value) = (field.name, text(field)?);
                Some(Member { name, value })
            })
            .collect();
        self.of_object(&members?)
    }

    fn of_settings(&self, object: &str) -> Option<u64> {
        let fields = Fields::parse_str(object)?;
        let members = fields.all().filter_map(|(key, value)| {
            let name = self.name(key)?;
            Some(Member { name, value })
        });
        self.of_object(&members.collect::<Vec<_>>())
    }

    fn of_object(&self, members: &[Member<'_>]) -> Option<u64> {
        if !self.is_set(members) {
            return None;
        }
        let set = members.iter().filter(|member| counts(members, member.name));
        let set = set.filter(|member| !member.is_null());
        largest(set.map(|member| self.allowed(member.value))).filter(|most| *most < u64::MAX)
    }

    /// Whether the members of an object limit the output.
    pub(in crate::wire) fn is_set(&self, members: &[Member<'_>]) -> bool {
        self.own.iter().any(|name| counts(members, name))
    }

    /// How much a value allows, `u64::MAX` for any amount; none where that is not known. Some
    /// servers also take a fraction or a quoted number, and a negative one for no limit.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, which is what is wanted"
    )]
    pub(in crate::wire) fn allowed(&self, value: &str) -> Option<u64> {
        let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        let number = quoted.unwrap_or(value).trim();
        let whole = number.parse().ok().or_else(|| {
            let number: f64 = number.parse().ok()?;
            match number {
                _ if number.is_nan() => None,
                _ if number.is_sign_negative() => Some(u64::MAX),
                // Cut off at some servers.
                _ if number < 1.0 => Some(0),
                _ => Some(number.ceil() as u64),
            }
        })?;
        if whole == 0 { self.zero } else { Some(whole) }
    }
}

impl Member<'_> {
    pub(in crate::wire) fn is_null(&self) -> bool {
        self.value == "null"
    }
}

/// Whether a member is set: its last value counts.
fn counts(members: &[Member<'_>], name: &str) -> bool {
    let last = members.iter().rfind(|member| member.name == name);
    last.is_some_and(|last| !last.is_null())
}

/// None where one of them is not known, or there are none.
fn largest(limits: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    limits.reduce(|one, other| Some(one?.max(other?))).flatten()
}
