//! Requests taken apart for comparison, and how two of them differ, in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::id::Label;
use crate::core::loops::reading::steady;
use crate::core::replay::{Asked, Difference, Mark};
use crate::core::text::front;
use crate::wire::marks::without_marks;
use crate::wire::readable::{Entry, Kind, Message, Transcript};
use crate::wire::route::route;
use crate::wire::scan::{Segment, SegmentKind, scan_front};

/// Digests are compared within this process alone.
const SEED: DigestSeed = DigestSeed(0);
/// Of a text that differs so many bytes are shown from shortly before the difference on.
const SHOWN: usize = 240;
const BEFORE: usize = 40;

/// A request as it came or was recorded; `path` without tags and query.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub agent: Option<Label>,
    pub body: Bytes,
}

impl Request {
    pub fn asked(&self) -> Asked {
        let route = route(&self.method, &self.path);
        let facts = scan_front(route.operation, route.dialect, &self.body, SEED);
        let model = facts.model.or(route.path_model);
        let transcript = self.transcript();
        let tools = self.tools();
        let marks = transcript.entries().iter();
        Asked {
            agent: self.agent.clone(),
            operation: route.operation,
            method: self.method.to_string(),
            path: self.path.clone(),
            model: model.and_then(|model| Label::parse(&model).ok()),
            tools: tools.map(|tools| SEED.digest(steady(&tools).as_bytes())),
            messages: marks.map(|entry| mark(entry, &self.body)).collect(),
        }
    }

    fn transcript(&self) -> Transcript {
        let route = route(&self.method, &self.path);
        Transcript::of(route.operation, route.dialect, &self.body)
    }

    /// The tools it offers, however they are written: spaces and the order of fields do not count.
    fn tools(&self) -> Option<String> {
        let route = route(&self.method, &self.path);
        let facts = scan_front(route.operation, route.dialect, &self.body, SEED);
        let of_tools = |segment: &Segment| segment.kind == SegmentKind::Tools;
        let segments = facts.segments.into_iter().filter(of_tools);
        let tools = segments.filter_map(|segment| {
            let raw = self.body.get(segment.range)?;
            let plain = without_marks(raw);
            let text = String::from_utf8_lossy(plain.as_deref().unwrap_or(raw));
            let sorted = serde_json::from_str::<Value>(&text).map(sorted);
            Some(sorted.map_or(text.into_owned(), |sorted| sorted.to_string()))
        });
        let tools: Vec<String> = tools.collect();
        (!tools.is_empty()).then(|| tools.join("\n"))
    }

    fn message(&self, at: usize) -> Option<Message> {
        let transcript = self.transcript();
        let entry = transcript.entries().get(at)?;
        Some(entry.read(&self.body, usize::MAX))
    }

    fn is_understood(&self) -> bool {
        route(&self.method, &self.path).operation != Operation::Other
    }
}

/// Fields in the order of their names, at every depth: JSON that was read goes no deeper than 128.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        Value::Object(fields) => {
            let sorted: BTreeMap<String, Value> = fields
                .into_iter()
                .map(|(name, value)| (name, sorted(value)))
                .collect();
            sorted.into_iter().collect()
        }
        plain => plain,
    }
}

fn mark(entry: &Entry, body: &[u8]) -> Mark {
    let message = entry.read(body, usize::MAX);
    Mark {
        exact: entry.digest,
        steady: steady_digest(entry.digest, &message),
    }
}

/// Who speaks and what is said, but for ids of calls and what changes by itself.
fn steady_digest(exact: Digest, message: &Message) -> Digest {
    let is_media = message.pieces.iter().any(|piece| piece.kind == Kind::Media);
    if is_media || message.left_out > 0 {
        return exact;
    }
    let mut said = format!("{:?}\n{:?}\n", message.role, message.name);
    for piece in &message.pieces {
        let kind = piece.kind;
        let text = steady(&piece.said.text);
        // Writing into a text does not fail.
        let _ = writeln!(said, "{kind:?}\n{:?}\n{text}", piece.name);
    }
    SEED.digest(said.as_bytes())
}

/// How `now` differs from `recorded`, in one line and then what each says.
pub fn told(difference: Difference, recorded: Option<&Request>, now: &Request) -> String {
    let endpoint = |of: &Request| format!("{} {}", of.method, of.path);
    let model = |of: &Request| {
        of.asked()
            .model
            .map_or("none".to_owned(), |it| it.to_string())
    };
    let tools = |of: &Request| of.tools().unwrap_or_else(|| "none".to_owned());
    let Some(recorded) = recorded else {
        return format!(
            "every recorded call was played before this: {}",
            endpoint(now)
        );
    };
    match difference {
        Difference::Beyond => format!("nothing was recorded for {}", endpoint(now)),
        Difference::Endpoint => two("another endpoint", &endpoint(recorded), &endpoint(now)),
        Difference::Model => two("another model", &model(recorded), &model(now)),
        Difference::Tools => {
            let (was, is) = around(&tools(recorded), &tools(now));
            two("other tools", &was, &is)
        }
        Difference::Message(at) => {
            let (was, is) = (said(recorded, at), said(now, at));
            let what = if now.is_understood() {
                format!("message {} differs", at + 1)
            } else {
                "the body differs".to_owned()
            };
            let (was, is) = around(&was, &is);
            two(&what, &was, &is)
        }
        Difference::Longer(at) => {
            let is = said(now, at);
            let what = format!("message {} was not there", at + 1);
            two(&what, "", front(&is, SHOWN))
        }
        Difference::Shorter(at) => {
            let was = said(recorded, at);
            two(
                &format!("message {} is missing", at + 1),
                front(&was, SHOWN),
                "",
            )
        }
    }
}

fn two(what: &str, was: &str, is: &str) -> String {
    let line = |mark: char, text: &str| match text {
        "" => String::new(),
        text => format!("\n  {mark} {}", text.replace('\n', "\n    ")),
    };
    format!("{what}{}{}", line('-', was), line('+', is))
}

/// `user: text`, with the names of tools that it calls.
fn said(of: &Request, at: usize) -> String {
    let Some(message) = of.message(at) else {
        return String::new();
    };
    let pieces = message.pieces.iter().map(|piece| {
        let name = piece.name.as_deref().unwrap_or_default();
        match piece.kind {
            Kind::ToolCall => format!("{name}({})", piece.said.text),
            Kind::Media => format!("[{name} {} bytes]", piece.said.len),
            _ => piece.said.text.clone(),
        }
    });
    let pieces: Vec<String> = pieces.collect();
    let role = format!("{:?}", message.role).to_ascii_lowercase();
    format!("{role}: {}", pieces.join(" "))
}

/// Both texts from shortly before their first difference on.
fn around(was: &str, is: &str) -> (String, String) {
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
    (cut(was), cut(is))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::replay::Deck;

    fn chat(messages: &Value) -> Request {
        Request {
            method: Method::POST,
            path: "/v1/chat/completions".to_owned(),
            agent: None,
            body: json!({"model": "m", "messages": messages})
                .to_string()
                .into(),
        }
    }

    fn call(id: &str, city: &str, at: &str) -> Request {
        chat(&json!([
            {"role": "user", "content": format!("It is {at}. Weather?")},
            {"role": "assistant", "tool_calls": [{"id": id, "type": "function",
                "function": {"name": "weather", "arguments": format!("{{\"city\":\"{city}\"}}")}}]},
            {"role": "tool", "tool_call_id": id, "content": "rain, 7 degrees"},
        ]))
    }

    #[test]
    fn ids_and_times_are_passed_over_and_numbers_are_not() {
        let recorded = call("call_1", "Rome", "2026-11-30T06:12:34Z");
        let again = call("call_2", "Rome", "2027-01-02T10:00:00Z");
        assert_ne!(recorded.asked(), again.asked());
        let mut deck = Deck::new(vec![recorded.asked()], |_| true);
        assert_eq!(deck.take(&again.asked()), Ok(0));
        let (seven, eight) = ("rain, 7 degrees", "rain, 8 degrees");
        assert_ne!(steady(seven), steady(eight));
    }

    #[test]
    fn tools_are_the_same_however_they_are_written() {
        let offers = |tools: &str| Request {
            body: format!("{{\"model\":\"m\",\"messages\":[\"hi\"],\"tools\":[{tools}]}}").into(),
            ..chat(&json!([]))
        };
        let recorded = offers(r#"{"type":"function","function":{"name":"a"}}"#);
        let spaced = offers(r#"{"function": {"name": "a"}, "type": "function"}"#);
        let other = offers(r#"{"type":"function","function":{"name":"b"}}"#);
        assert_eq!(recorded.asked(), spaced.asked());
        let told = told(Difference::Tools, Some(&recorded), &other);
        assert!(
            told.contains("other tools\n  - ") && told.contains("\"b\""),
            "{told}"
        );
    }

    #[test]
    fn difference_is_shown_with_what_stands_before_it() {
        let recorded = call("call_1", "Rome", "2026-11-30T06:12:34Z");
        let now = call("call_1", "Oslo", "2026-11-30T06:12:34Z");
        let departed = Deck::new(vec![recorded.asked()], |_| true)
            .take(&now.asked())
            .unwrap_err();
        assert_eq!(departed.difference, Difference::Message(1));
        assert_eq!(
            told(departed.difference, Some(&recorded), &now),
            "message 2 differs\n  - assistant: weather({\"city\":\"Rome\"})\n  \
             + assistant: weather({\"city\":\"Oslo\"})"
        );
    }
}
