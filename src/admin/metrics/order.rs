//! What somebody measured, as it comes: read exactly, or all that is wrong with it said at once.

use std::fmt::Display;

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::super::problem::Problem;
use crate::core::id::{CallId, Label};
use crate::core::metric::{
    BY_HEADER, MAX_BYTES, Measurement, Subject, Value, ValueError, parse_name,
};
use crate::core::time::Timestamp;

/// Measurements of one request.
const MAX_MEASUREMENTS: usize = 1000;
/// Problems that are told of one request.
const MAX_TOLD: usize = 20;
const MAX_NOTE_BYTES: usize = 1024;
/// A clock may be this far ahead of ours.
const AHEAD_US: i64 = 60_000_000;
/// Who is said to have measured when nobody is.
const ANYBODY: &str = "api";

/// What somebody measured of exactly one of `call`, `run` and `agent`.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "says how it looks; it is read field by field")]
pub(in super::super) struct MeasurementOrder {
    /// Letters, digits, `_`, `-` and `.`, up to 64.
    #[schema(example = "score")]
    name: String,
    /// A finite number, a truth, or a category of up to 64 bytes.
    value: Value,
    call: Option<CallId>,
    #[schema(value_type = Option<String>)]
    run: Option<Label>,
    #[schema(value_type = Option<String>)]
    agent: Option<Label>,
    /// A judge, a person, a program; `api` when not given.
    #[schema(value_type = Option<String>)]
    who: Option<Label>,
    /// Up to 1024 bytes.
    note: Option<String>,
    /// When it was measured; now when not given.
    at: Option<Timestamp>,
    /// Tells it apart from others of this name that the same `who` says of the same.
    #[schema(value_type = Option<String>)]
    key: Option<Label>,
}

const FIELDS: [&str; 9] = [
    "name", "value", "call", "run", "agent", "who", "note", "at", "key",
];

/// One object, or an array of them.
pub(super) fn read(asked: Json, now: Timestamp) -> Result<Vec<Measurement>, Problem> {
    let (entries, is_list) = match asked {
        Json::Array(entries) => (entries, true),
        one => (vec![one], false),
    };
    if entries.is_empty() || entries.len() > MAX_MEASUREMENTS {
        let count = entries.len();
        return Err(Problem::bad_request(format!(
            "body: found {count} measurements, expected 1 to {MAX_MEASUREMENTS}"
        )));
    }
    let mut measurements = Vec::with_capacity(entries.len());
    let mut problems = Vec::new();
    for (n, entry) in entries.iter().enumerate() {
        let place = if is_list {
            format!("[{n}].")
        } else {
            String::new()
        };
        let mut reader = Reader {
            place,
            problems: &mut problems,
        };
        measurements.extend(reader.measurement(entry, now));
    }
    if problems.is_empty() {
        return Ok(measurements);
    }
    Err(Problem::bad_request(listed(&problems)))
}

/// The first of them, and how many more there are.
pub(super) fn listed(problems: &[String]) -> String {
    let told = problems.len().min(MAX_TOLD);
    let mut text = problems.get(..told).unwrap_or_default().join("; ");
    if problems.len() > told {
        let more = problems.len() - told;
        text = format!("{text}; and {more} more");
    }
    text
}

/// What is wrong is told.
struct Wrong;

/// Reads one entry.
struct Reader<'p> {
    place: String,
    problems: &'p mut Vec<String>,
}

impl Reader<'_> {
    fn wrong<T>(&mut self, field: &str, what: impl Display) -> Option<T> {
        self.problems.push(format!("{}{field}: {what}", self.place));
        None
    }

    fn measurement(&mut self, entry: &Json, now: Timestamp) -> Option<Measurement> {
        let Json::Object(fields) = entry else {
            return self.wrong(
                "",
                "expected an object with name, value and call, run or agent",
            );
        };
        let known = |key: &&String| !FIELDS.contains(&key.as_str());
        if let Some(key) = fields.keys().find(known) {
            let key: String = key.chars().take(64).collect();
            let _: Option<()> = self.wrong(&key, format!("expected one of {}", FIELDS.join(", ")));
        }
        let name = self.name(fields);
        let value = self.value(fields);
        let subject = self.subject(fields);
        let who = self.who(fields);
        let key = self.label(fields, "key");
        let note = self.note(fields);
        let at = self.at(fields, now);
        Some(Measurement {
            at: at?,
            name: name?,
            value: value?,
            subject: subject?,
            who: who.ok()?.or_else(|| Label::parse(ANYBODY).ok())?,
            note: note.ok()?,
            key: key.ok()?,
            run: None,
            agent: None,
            charged: None,
            instance: None,
        })
    }

    fn name(&mut self, fields: &Map<String, Json>) -> Option<String> {
        let found = fields.get("name").and_then(Json::as_str);
        let expected = format!("expected letters, digits, `_`, `-` and `.`, 1 to {MAX_BYTES}");
        match found.and_then(parse_name) {
            None => self.wrong("name", expected),
            name => name,
        }
    }

    fn value(&mut self, fields: &Map<String, Json>) -> Option<Value> {
        let found = fields.get("value").unwrap_or(&Json::Null);
        match Value::deserialize(found) {
            Ok(value) => Some(value),
            Err(_) => self.wrong("value", ValueError),
        }
    }

    fn subject(&mut self, fields: &Map<String, Json>) -> Option<Subject> {
        let given = |field: &&str| fields.get(*field).is_some_and(|it| !it.is_null());
        let all: Vec<&str> = ["call", "run", "agent"].into_iter().filter(given).collect();
        let [field] = all.as_slice() else {
            return self.wrong("call, run, agent", "expected exactly one of them");
        };
        if *field == "call" {
            let text = fields
                .get("call")
                .and_then(Json::as_str)
                .unwrap_or_default();
            return match text.parse() {
                Ok(id) => Some(Subject::Call(id)),
                Err(error) => self.wrong("call", error as crate::core::id::CallIdError),
            };
        }
        let label = self.label(fields, field).ok()??;
        Some(if *field == "run" {
            Subject::Run(label)
        } else {
            Subject::Agent(label)
        })
    }

    /// What came with a call stays what came with it.
    fn who(&mut self, fields: &Map<String, Json>) -> Result<Option<Label>, Wrong> {
        let who = self.label(fields, "who")?;
        if who.as_ref().is_some_and(|who| who.as_str() == BY_HEADER) {
            let expected =
                format!("expected another than `{BY_HEADER}`, who is for what comes with calls");
            let _: Option<()> = self.wrong("who", expected);
            return Err(Wrong);
        }
        Ok(who)
    }

    /// None where it is not given.
    fn label(&mut self, fields: &Map<String, Json>, field: &str) -> Result<Option<Label>, Wrong> {
        let Some(found) = fields.get(field).filter(|it| !it.is_null()) else {
            return Ok(None);
        };
        let label = match found.as_str().map(Label::parse) {
            Some(Ok(label)) => Some(label),
            Some(Err(error)) => self.wrong(field, error),
            None => self.wrong(field, "expected a text"),
        };
        label.map(Some).ok_or(Wrong)
    }

    fn note(&mut self, fields: &Map<String, Json>) -> Result<Option<String>, Wrong> {
        let Some(found) = fields.get("note").filter(|it| !it.is_null()) else {
            return Ok(None);
        };
        let note = found.as_str().filter(|note| note.len() <= MAX_NOTE_BYTES);
        if note.is_none() {
            let expected = format!("expected a text of up to {MAX_NOTE_BYTES} bytes");
            let _: Option<()> = self.wrong("note", expected);
        }
        let note = note.map(str::to_owned);
        note.map(Some).ok_or(Wrong)
    }

    fn at(&mut self, fields: &Map<String, Json>, now: Timestamp) -> Option<Timestamp> {
        let Some(found) = fields.get("at").filter(|it| !it.is_null()) else {
            return Some(now);
        };
        match Timestamp::deserialize(found) {
            Ok(at) if at.micros() <= now.micros().saturating_add(AHEAD_US) => Some(at),
            Ok(_) => self.wrong(
                "at",
                format!("expected a time that is not after now, {now}"),
            ),
            Err(_) => self.wrong("at", "expected a time such as 2026-11-01T12:30:00Z"),
        }
    }
}

#[cfg(test)]
mod tests;
