//! Requests taken apart for comparison, and how two of them differ, in words.

mod words;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use bytes::Bytes;
use http::Method;
use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::MAX_BODY;
use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::id::Label;
use crate::core::redaction::Redaction;
use crate::core::replay::{Asked, Mark};
use crate::proxy::headers::redact_target;
use crate::wire::decode::decode_all;
use crate::wire::marks::without_marks;
use crate::wire::readable::{Entry, Kind, Message, Transcript};
use crate::wire::route::{Reading, Route, route};
use crate::wire::scan::{RequestFacts, SegmentKind, scan_front};

pub use words::told;

/// Digests are compared within this process alone.
const SEED: DigestSeed = DigestSeed(0);
/// Of a form, which names the parts, this stands in the place of a boundary made up for it.
const BOUNDARY: &[u8] = b"--boundary";
/// A longer first line is no boundary.
const MAX_BOUNDARY: usize = 72;

/// A request as it came or was recorded; `path` without tags and query.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub agent: Option<Label>,
    /// The content encoding of the body, as its header says.
    pub encoding: Option<String>,
    /// Of the target, as [`query`] has it.
    pub query: String,
    pub body: Bytes,
}

/// The parameters of a target in order, without what may be a secret: the order is no matter.
pub fn query(text: Option<&str>) -> String {
    let masked = redact_target(&format!("?{}", text.unwrap_or_default()));
    let mut pairs: Vec<&str> = masked.trim_start_matches('?').split('&').collect();
    pairs.sort_unstable();
    pairs.join("&")
}

/// A request, taken apart.
struct Parts {
    route: Route,
    body: Bytes,
    transcript: Transcript,
    model: Option<Label>,
    tools: Option<String>,
    form: String,
    goes_on: Option<String>,
}

/// Messages that were read before: requests repeat most of what was said.
#[derive(Debug, Default)]
struct Marks(HashMap<(Option<SegmentKind>, Digest), Mark>);

/// What each of the requests asks for.
pub fn all<'a>(requests: impl IntoIterator<Item = &'a Request>) -> Vec<Asked> {
    let mut marks = Marks::default();
    let requests = requests.into_iter();
    requests.map(|request| request.read(&mut marks)).collect()
}

impl Request {
    pub fn asked(&self) -> Asked {
        self.read(&mut Marks::default())
    }

    fn read(&self, marks: &mut Marks) -> Asked {
        let parts = self.parts();
        let entries = parts.transcript.entries().iter();
        let is_cut = is_cut(&parts);
        Asked {
            agent: self.agent.clone(),
            operation: parts.route.operation,
            method: self.method.to_string(),
            path: self.endpoint(&parts.route).to_owned(),
            model: parts.model,
            tools: parts.tools.map(|tools| Mark::of(&tools, "", SEED)),
            form: SEED.digest(parts.form.as_bytes()),
            goes_on: parts.goes_on.map(|id| SEED.digest(id.as_bytes())),
            messages: entries
                .filter(|entry| !is_cut || entry.kind().is_some())
                .map(|entry| marks.of(entry, &parts.body))
                .collect(),
            is_cut,
            body: SEED.digest(&parts.body),
        }
    }

    fn parts(&self) -> Parts {
        let route = route(&self.method, &self.path);
        let body = self.plain();
        let facts = scan_front(route.operation, route.dialect, &body, SEED);
        let (tools, mut form) = (tools(&facts, &body), form(&facts, &route, &body));
        if !self.query.is_empty() {
            form.push_str(", ?");
            form.push_str(&self.query);
        }
        let model = facts.model.or_else(|| route.path_model.clone());
        Parts {
            transcript: Transcript::of_segments(facts.segments, &body),
            model: model.and_then(|model| Label::parse(&model).ok()),
            goes_on: facts.previous_response_id.or(facts.conversation),
            route,
            body,
            tools,
            form,
        }
    }

    /// Undoes the encoding of its body, where that is known and it does not grow too large.
    pub fn decode(&mut self) {
        if let Some(body) = self.decoded() {
            self.body = body;
            self.encoding = None;
        }
    }

    /// What redaction takes out of records must not make a difference, nor be told.
    pub fn redact(&mut self, rules: &Redaction) {
        if let Some(body) = rules.json(&self.body) {
            self.body = body.into();
        }
        if let Some(query) = rules.text(&self.query) {
            self.query = query;
        }
    }

    fn decoded(&self) -> Option<Bytes> {
        let encoding = self.encoding.as_deref()?;
        let body = decode_all(encoding, &self.body, MAX_BODY).ok()?;
        Some(body.into())
    }

    /// The body without what was done to it on the way: its encoding, the boundary of its parts.
    fn plain(&self) -> Bytes {
        let body = self.decoded().unwrap_or_else(|| self.body.clone());
        match without_boundary(&body) {
            Cow::Borrowed(_) => body,
            Cow::Owned(plain) => plain.into(),
        }
    }

    /// Clients write many prefixes before what is asked for, and a path may name a model.
    fn endpoint(&self, route: &Route) -> &str {
        let is_known = route.operation != Operation::Other && !route.fetch;
        let last = self.path.rsplit(['/', ':']).next();
        last.filter(|_| is_known && self.method == Method::POST)
            .unwrap_or(&self.path)
    }
}

/// It begins as a body of its kind does, and does not end so.
fn is_cut(parts: &Parts) -> bool {
    parts.route.reading == Reading::Json
        && parts.body.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<IgnoredAny>(&parts.body).is_err()
}

/// A form names its parts by a boundary that is made up for each request.
fn without_boundary(body: &[u8]) -> Cow<'_, [u8]> {
    let line = body.get(..MAX_BOUNDARY).unwrap_or(body);
    let end = memmem::find(line, b"\r\n").filter(|_| line.starts_with(b"--"));
    let boundary = end.and_then(|end| body.get(..end));
    let boundary = boundary.filter(|boundary| {
        let last = [boundary, b"--".as_slice()].concat();
        boundary.len() > 2 && body.trim_ascii_end().ends_with(&last)
    });
    let Some(boundary) = boundary else {
        return Cow::Borrowed(body);
    };
    let mut plain = Vec::with_capacity(body.len());
    let mut from = 0;
    for at in memmem::find_iter(body, boundary) {
        plain.extend_from_slice(body.get(from..at).unwrap_or_default());
        plain.extend_from_slice(BOUNDARY);
        from = at + boundary.len();
    }
    plain.extend_from_slice(body.get(from..).unwrap_or_default());
    Cow::Owned(plain)
}

/// The tools it offers, however they are written: spaces and the order of fields do not count.
fn tools(facts: &RequestFacts, body: &[u8]) -> Option<String> {
    let of_tools = |kind| kind == SegmentKind::Tools;
    let tools = segments(facts, body, of_tools);
    (!tools.is_empty()).then(|| tools.join("\n"))
}

/// What the answer has to look like, in words.
fn form(facts: &RequestFacts, route: &Route, body: &[u8]) -> String {
    /// Settings of numbers that stand for a text, and a prompt that the provider keeps.
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Settings<'a> {
        #[serde(borrow)]
        encoding_format: Option<&'a RawValue>,
        #[serde(borrow)]
        dimensions: Option<&'a RawValue>,
        prompt: Option<Value>,
    }
    let mut form = format!("stream {}", facts.stream);
    if facts.choices > 1 {
        // Writing into a text does not fail.
        let _ = write!(form, ", {} choices", facts.choices);
    }
    let is_format = |kind| matches!(kind, SegmentKind::ResponseFormat | SegmentKind::Schema);
    for format in segments(facts, body, is_format) {
        form.push_str(", ");
        form.push_str(&format);
    }
    if !matches!(
        route.operation,
        Operation::Embeddings | Operation::Responses
    ) {
        return form;
    }
    let settings: Settings<'_> = serde_json::from_slice(body).unwrap_or_default();
    if route.operation == Operation::Embeddings {
        for number in [settings.encoding_format, settings.dimensions] {
            let text = number.map_or("null", RawValue::get);
            let _ = write!(form, ", {text}");
        }
    } else if let Some(prompt) = settings.prompt {
        let _ = write!(form, ", prompt {}", sorted(prompt));
    }
    form
}

/// Parts of a body, without marks of a cache and with their fields in order.
fn segments(facts: &RequestFacts, body: &[u8], is: impl Fn(SegmentKind) -> bool) -> Vec<String> {
    let segments = facts.segments.iter().filter(|segment| is(segment.kind));
    let texts = segments.filter_map(|segment| {
        let raw = body.get(segment.range.clone())?;
        let plain = without_marks(raw);
        let text = String::from_utf8_lossy(plain.as_deref().unwrap_or(raw));
        let sorted = serde_json::from_str::<Value>(&text).map(sorted);
        Some(sorted.map_or(text.into_owned(), |sorted| sorted.to_string()))
    });
    texts.collect()
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

impl Marks {
    fn of(&mut self, entry: &Entry, body: &[u8]) -> Mark {
        let read = || mark(entry.digest, &entry.read(body, usize::MAX));
        let mark = self.0.entry((entry.kind(), entry.digest));
        mark.or_insert_with(read).clone()
    }
}

/// Who speaks and what is said. Ids of calls count only where all has to be the same: they come
/// from the answers.
fn mark(digest: Digest, message: &Message) -> Mark {
    let mut said = format!("{:?}\n{:?}\n", message.role, message.name);
    let mut ids = String::new();
    for piece in &message.pieces {
        let (kind, text) = (piece.kind, &piece.said.text);
        // Writing into a text does not fail.
        let _ = writeln!(said, "{kind:?}\n{:?}\n{text}", piece.name);
        let _ = writeln!(ids, "{:?}", piece.id);
    }
    let is_media = message.pieces.iter().any(|piece| piece.kind == Kind::Media);
    if is_media || message.left_out > 0 {
        return Mark::fixed(digest, &said);
    }
    Mark::of(&said, &ids, SEED)
}

#[cfg(test)]
mod tests;
