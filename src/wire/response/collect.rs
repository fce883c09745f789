//! Facts from parsed objects: whole bodies, or single events laid over each other.
//!
//! Dialects are not told apart by name but by the keys they use, so that a server that answers in
//! a neighbouring shape is read as well.

use memchr::memmem;
use serde_json::value::RawValue;

use super::ResponseFacts;
use super::tally::Tally;
use crate::wire::fields::Fields;
use crate::wire::route::Dialect;

/// An error message longer than this is cut.
const ERROR_LIMIT: usize = 300;
/// Choices past this many are not looked at.
const MAX_CHOICES: usize = 128;
/// So many events are looked at for an id and a model.
const HEAD_EVENTS: u32 = 8;

pub(super) struct Collector {
    dialect: Dialect,
    is_error: bool,
    head_events: u32,
    tally: Tally,
    /// What counts when there is no usage: timings of llama.cpp.
    fallback: Tally,
    finish_reasons: Vec<(u64, String)>,
    images: u64,
    facts: ResponseFacts,
}

impl Collector {
    pub(super) fn new(dialect: Dialect, status: u16) -> Self {
        Self {
            dialect,
            is_error: status >= 400,
            head_events: 0,
            tally: Tally::default(),
            fallback: Tally::default(),
            finish_reasons: Vec::new(),
            images: 0,
            facts: ResponseFacts::default(),
        }
    }

    /// Whether the next event is worth parsing for the id and the model alone.
    pub(super) fn wants_head(&self) -> bool {
        let known = self.facts.response_id.is_some() && self.facts.model.is_some();
        !known && self.head_events < HEAD_EVENTS
    }

    pub(super) fn end(&mut self) {
        self.facts.ended = true;
    }

    pub(super) fn response_id(&self) -> Option<String> {
        self.facts.response_id.clone()
    }

    pub(super) fn ended(&self) -> bool {
        self.facts.ended
    }

    /// Reads one JSON document; false when it is none.
    pub(super) fn json(&mut self, json: &[u8]) -> bool {
        self.head_events += 1;
        if let Some(object) = Fields::parse(json) {
            self.object(&object);
            return true;
        }
        // Gemini without `alt=sse` sends its chunks as one array.
        let Ok(items) = serde_json::from_slice::<Vec<&RawValue>>(json) else {
            return false;
        };
        for object in items
            .iter()
            .filter_map(|item| Fields::parse_str(item.get()))
        {
            self.object(&object);
        }
        true
    }

    pub(super) fn plain_error(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let line = text.lines().next().unwrap_or_default();
        self.facts.error = Some(shorten(line.to_owned())).filter(|error| !error.is_empty());
    }

    pub(super) fn finish(self) -> ResponseFacts {
        let mut tally = self.tally;
        if self.images > 0 {
            tally.report_images(self.images);
        }
        let reported = if tally.has_tokens() {
            &tally
        } else {
            &self.fallback
        };
        let usage = reported
            .finish(self.dialect)
            .or_else(|| tally.finish(self.dialect));
        let mut finish_reasons = self.finish_reasons;
        finish_reasons.sort_by_key(|(index, _)| *index);
        ResponseFacts {
            usage,
            cost: tally.cost,
            finish_reasons: finish_reasons
                .into_iter()
                .map(|(_, reason)| reason)
                .collect(),
            ..self.facts
        }
    }

    fn object(&mut self, object: &Fields<'_>) {
        self.facts_of(object);
        // The envelopes of events: a Responses event, the start of an Anthropic message.
        for envelope in ["response", "message"] {
            if let Some(inner) = object.object(envelope) {
                self.facts_of(&inner);
            }
        }
        let kind = object.string("type");
        self.error_of(object, kind.as_deref());
        if kind.as_deref().is_some_and(is_last) || object.is_true("done") || object.is_true("stop")
        {
            self.end();
        }
        if kind
            .as_deref()
            .is_some_and(|kind| kind.ends_with(".completed"))
        {
            self.images += u64::from(self.dialect == Dialect::Images);
        }
    }

    fn facts_of(&mut self, object: &Fields<'_>) {
        let facts = &mut self.facts;
        newer(
            &mut facts.response_id,
            object.string("id").or_else(|| object.string("responseId")),
        );
        newer(
            &mut facts.model,
            object
                .string("model")
                .or_else(|| object.string("modelVersion")),
        );
        newer(&mut facts.service_tier, object.string("service_tier"));
        newer(&mut facts.status_word, object.string("status"));
        self.usage_of(object);
        self.finish_reasons_of(object);
        self.pieces_of(object);
    }

    fn usage_of(&mut self, object: &Fields<'_>) {
        if let Some(groq) = object
            .object("x_groq")
            .and_then(|groq| groq.object("usage"))
        {
            self.tally.report(&groq);
        }
        if let Some(usage) = object.object("usage") {
            self.tally.report(&usage);
            newer(&mut self.facts.service_tier, usage.string("service_tier"));
            // Anthropic: another price, named beside the tier.
            let fast = usage.string("speed").filter(|speed| speed == "fast");
            newer(&mut self.facts.service_tier, fast);
        }
        if let Some(usage) = object.object("usageMetadata") {
            self.tally.report_gemini(&usage);
        }
        if object.has("eval_count") || object.has("prompt_eval_count") {
            self.tally.report(object);
        }
        if let Some(timings) = object.object("timings") {
            self.fallback.report_timings(&timings);
        }
        if object.has("tokens_predicted") {
            self.tally.report_llama(object);
        }
    }

    fn finish_reasons_of(&mut self, object: &Fields<'_>) {
        let indexed = |choice: &Fields<'_>| choice.count("index").unwrap_or(0);
        for choice in object.objects("choices").take(MAX_CHOICES) {
            self.finish_reason(indexed(&choice), choice.string("finish_reason"));
            self.error_of(&choice, None);
        }
        for candidate in object.objects("candidates").take(MAX_CHOICES) {
            let reason = candidate.string("finishReason");
            // Gemini has no other end of a stream.
            self.facts.ended |= reason.is_some();
            self.finish_reason(indexed(&candidate), reason);
        }
        let delta = object
            .object("delta")
            .and_then(|delta| delta.string("stop_reason"));
        let incomplete = object.object("incomplete_details");
        let incomplete = incomplete.and_then(|details| details.string("reason"));
        for name in ["stop_reason", "done_reason", "stop_type"] {
            let reason = object.string(name).filter(|reason| reason != "none");
            self.finish_reason(0, reason);
        }
        self.finish_reason(0, delta.or(incomplete));
    }

    fn finish_reason(&mut self, index: u64, reason: Option<String>) {
        let Some(reason) = reason else { return };
        let reasons = &mut self.finish_reasons;
        reasons.retain(|(known, _)| *known != index);
        if reasons.len() < MAX_CHOICES {
            reasons.push((index, reason));
        }
    }

    /// What is billed by piece and stands outside usage.
    fn pieces_of(&mut self, object: &Fields<'_>) {
        match self.dialect {
            Dialect::Images => {
                let images = object.array("data").len();
                self.images += u64::try_from(images).unwrap_or(u64::MAX);
            }
            Dialect::Transcription => {
                if let Some(seconds) = object.raw("duration").filter(|_| !object.has("usage")) {
                    self.tally.report_audio_seconds(seconds);
                }
            }
            Dialect::Responses => {
                let searches = web_searches(object);
                if searches > 0 {
                    self.tally.report_web_searches(searches);
                }
            }
            _ => {}
        }
    }

    fn error_of(&mut self, object: &Fields<'_>, kind: Option<&str>) {
        let groq = object.object("x_groq").and_then(|groq| error_in(&groq));
        let failed = object
            .object("response")
            .and_then(|response| error_in(&response));
        let found = error_in(object).or(groq).or(failed).or_else(|| {
            let is_error = self.is_error
                || kind == Some("error")
                || object.string("object").as_deref() == Some("error");
            is_error.then(|| bare_error(object)).flatten()
        });
        if let Some(message) = found {
            self.facts.error = Some(shorten(message));
            self.end();
        }
    }
}

/// The id in a whole body.
pub(super) fn id_in(body: &[u8]) -> Option<String> {
    let object = Fields::parse(body)?;
    object.string("id").or_else(|| object.string("responseId"))
}

/// Events after which a stream has nothing more to say.
fn is_last(kind: &str) -> bool {
    matches!(
        kind,
        "response.completed"
            | "response.incomplete"
            | "response.failed"
            | "response.cancelled"
            | "message_stop"
            | "speech.audio.done"
            | "transcript.text.done"
            | "image_generation.completed"
            | "image_edit.completed"
    )
}

/// Searches run by the provider, which its usage leaves out; opening a page found is free.
fn web_searches(response: &Fields<'_>) -> u64 {
    let output = response.raw("output").unwrap_or_default();
    if memmem::find(output.as_bytes(), b"web_search_call").is_none() {
        return 0;
    }
    let is_search = |item: &Fields<'_>| {
        let action = item
            .object("action")
            .and_then(|action| action.string("type"));
        item.string("type").as_deref() == Some("web_search_call")
            && action.is_none_or(|action| action == "search")
    };
    u64::try_from(response.objects("output").filter(is_search).count()).unwrap_or(u64::MAX)
}

/// `error` as an object with a message, or as the message itself.
fn error_in(object: &Fields<'_>) -> Option<String> {
    let Some(error) = object.object("error") else {
        return object.string("error");
    };
    ["message", "code", "type"]
        .iter()
        .find_map(|name| error.string(name))
}

/// Errors that are the whole body: `message`, or `detail` of a validation.
fn bare_error(object: &Fields<'_>) -> Option<String> {
    let first_detail = || {
        object
            .objects("detail")
            .next()
            .and_then(|detail| detail.string("msg"))
    };
    object
        .string("message")
        .or_else(|| object.string("detail"))
        .or_else(first_detail)
}

fn newer(slot: &mut Option<String>, value: Option<String>) {
    if value.is_some() {
        *slot = value;
    }
}

fn shorten(mut message: String) -> String {
    let end = message
        .char_indices()
        .nth(ERROR_LIMIT)
        .map_or(message.len(), |(at, _)| at);
    message.truncate(end);
    message
}
