//! Which events of a stream are worth parsing while it runs, and which carry output.
//!
//! Most events are deltas. They are told from the rest by their type where the dialect gives one,
//! else by a search for the few keys that facts stand under; a key with the value null does not
//! count, as every chunk of a chat stream may say `"usage":null`.

use crate::wire::fields::any_key;
use crate::wire::route::Dialect;

/// The type of an event: its name, else the `type` its JSON opens with; empty when it has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind<'a>(&'a [u8]);

impl<'a> Kind<'a> {
    pub(super) fn of(name: Option<&'a [u8]>, data: &'a [u8]) -> Self {
        let name = name.filter(|name| *name != b"message");
        Self(name.or_else(|| leading_type(data)).unwrap_or_default())
    }

    pub(super) fn is_plain(self) -> bool {
        self.0.is_empty()
    }

    /// Whether `data` says something about the call itself.
    pub(super) fn has_facts(self, dialect: Dialect, data: &[u8]) -> bool {
        match self.0 {
            b"error"
            | b"response.created"
            | b"response.completed"
            | b"response.incomplete"
            | b"response.failed"
            | b"response.cancelled"
            | b"response.done"
            | b"message_start"
            | b"message_delta"
            | b"message_stop"
            | b"speech.audio.done"
            | b"transcript.text.done"
            | b"image_generation.completed"
            | b"image_edit.completed" => true,
            b"ping" => false,
            kind if kind.starts_with(b"response.") || kind.starts_with(b"content_block_") => false,
            kind if kind.ends_with(b".delta") || kind.ends_with(b".partial_image") => false,
            _ => has_fact_key(dialect, data),
        }
    }

    /// Whether the event carries output that no other event repeats.
    pub(super) fn has_text(self) -> bool {
        match self.0 {
            b"error"
            | b"ping"
            | b"message_start"
            | b"message_delta"
            | b"message_stop"
            | b"response.audio.delta"
            | b"response.output_audio.delta"
            | b"speech.audio.delta" => false,
            b"response.output_item.added" => true,
            kind => !kind.contains(&b'.') || kind.ends_with(b".delta"),
        }
    }
}

/// The value of `type` when it is the first key of an object.
fn leading_type(data: &[u8]) -> Option<&[u8]> {
    let rest = data
        .strip_prefix(b"{")?
        .trim_ascii_start()
        .strip_prefix(b"\"type\"")?;
    let rest = rest
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start();
    let value = rest.strip_prefix(b"\"")?;
    value.split(|byte| *byte == b'"').next()
}

fn has_fact_key(dialect: Dialect, data: &[u8]) -> bool {
    match dialect {
        // Every chunk has usage.
        Dialect::Gemini => true,
        Dialect::Ollama if any_key(data, |key| key.ends_with(b"\"done"), is_true) => true,
        _ => any_key(data, is_fact_key, |value| !value.starts_with(b"null")),
    }
}

fn is_true(value: &[u8]) -> bool {
    value.starts_with(b"true")
}

/// Told by the last letter first: it is asked of every key of every delta.
fn is_fact_key(key: &[u8]) -> bool {
    let fact_key: &[u8] = match key.last() {
        Some(b'e') => b"\"usage",
        Some(b'r') => b"\"error",
        Some(b'n') => b"_reason",
        Some(b's') => b"\"timings",
        Some(b'a') => b"\"usageMetadata",
        _ => return false,
    };
    key.ends_with(fact_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(dialect: Dialect, name: Option<&str>, data: &str, facts: bool, text: bool) {
        let kind = Kind::of(name.map(str::as_bytes), data.as_bytes());
        let found = (kind.has_facts(dialect, data.as_bytes()), kind.has_text());
        assert_eq!(found, (facts, text), "{data}");
    }

    #[test]
    fn chat_deltas_are_not_parsed() {
        let quiet = r#"{"choices":[{"delta":{"content":"a \"usage\": {\"error\": 1}"},
            "finish_reason":null}],"usage": null}"#;
        check(Dialect::Chat, None, quiet, false, true);
        for loud in [
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[],"usage" : {"prompt_tokens":1}}"#,
            r#"{"x_groq":{"usage":{}}}"#,
            r#"{"error":{"message":"x"}}"#,
            r#"{"choices":[{"error":null,"finish_reason":"error"}]}"#,
            r#"{"content":"","stop":true,"timings":{}}"#,
        ] {
            check(Dialect::Chat, None, loud, true, true);
        }
    }

    #[test]
    fn typed_events_are_told_by_type() {
        let delta = r#"{"type":"response.output_text.delta","delta":"\"usage\""}"#;
        check(Dialect::Responses, None, delta, false, true);
        check(
            Dialect::Responses,
            Some("response.output_text.delta"),
            "{}",
            false,
            true,
        );
        check(
            Dialect::Responses,
            Some("response.output_text.done"),
            "{}",
            false,
            false,
        );
        check(
            Dialect::Responses,
            Some("response.completed"),
            "{}",
            true,
            false,
        );
        check(Dialect::Messages, Some("message_delta"), "{}", true, false);
        check(
            Dialect::Messages,
            Some("content_block_delta"),
            "{}",
            false,
            true,
        );
        check(Dialect::Messages, Some("ping"), "{}", false, false);
        check(
            Dialect::Speech,
            None,
            r#"{"type": "speech.audio.delta"}"#,
            false,
            false,
        );
        check(Dialect::Chat, Some("error"), "{}", true, false);
    }

    #[test]
    fn ollama_is_parsed_at_its_end() {
        check(
            Dialect::Ollama,
            None,
            r#"{"message":{},"done":false}"#,
            false,
            true,
        );
        check(
            Dialect::Ollama,
            None,
            r#"{"message":{},"done":true}"#,
            true,
            true,
        );
    }
}
