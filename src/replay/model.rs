//! Another model in the place of the one that a request names.

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::value::RawValue;

const UNQUOTED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*');

/// The path with another model than `from` in its last place: `.../models/<model>:<verb>` and
/// `.../deployments/<model>/...`. None where it names none so.
pub(super) fn in_path(path: &str, from: &str, to: &str) -> Option<String> {
    let mut segments: Vec<&str> = path.split('/').collect();
    let is_it = |text: &str| percent_decode_str(text).decode_utf8_lossy() == from;
    let of_verb = |segment: &&str| segment.rsplit_once(':').is_some_and(|(it, _)| is_it(it));
    let at = segments
        .iter()
        .rposition(|segment| of_verb(segment) || is_it(segment))?;
    let to = utf8_percent_encode(to, UNQUOTED).to_string();
    let segment = segments.get_mut(at)?;
    let named = match segment.rsplit_once(':') {
        Some((_, verb)) if of_verb(segment) => format!("{to}:{verb}"),
        _ => to,
    };
    *segment = &named;
    Some(segments.join("/"))
}

/// The JSON object with another value of its `model`, all else as it was. None where there is none.
pub(super) fn in_body(body: &Bytes, model: &str) -> Option<Bytes> {
    #[derive(serde::Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        model: &'a RawValue,
    }
    let text = std::str::from_utf8(body).ok()?;
    let raw = serde_json::from_str::<Named<'_>>(text).ok()?.model.get();
    let from = (raw.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let name = serde_json::to_string(model).ok()?;
    let (before, after) = (text.get(..from)?, text.get(from + raw.len()..)?);
    Some(format!("{before}{name}{after}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_is_changed_and_nothing_else() {
        let body = Bytes::from_static(b"{\"a\": [{\"model\":1}], \"model\" : \"old\" ,\"n\":1.50}");
        let changed = in_body(&body, "ne\"w").unwrap();
        assert_eq!(
            changed,
            &b"{\"a\": [{\"model\":1}], \"model\" : \"ne\\\"w\" ,\"n\":1.50}"[..]
        );
        assert_eq!(in_body(&Bytes::from_static(b"{}"), "m"), None);
    }

    #[test]
    fn model_of_the_path_is_changed_where_it_stands() {
        for (path, from, changed) in [
            (
                "/v1beta/models/old:streamGenerateContent",
                "old",
                Some("/v1beta/models/new%2F1:streamGenerateContent"),
            ),
            (
                "/openai/deployments/o%6Cd/chat/completions",
                "old",
                Some("/openai/deployments/new%2F1/chat/completions"),
            ),
            (
                "/v1/models/old:1:rawPredict",
                "old:1",
                Some("/v1/models/new%2F1:rawPredict"),
            ),
            ("/v1/chat/completions", "old", None),
        ] {
            assert_eq!(in_path(path, from, "new/1").as_deref(), changed, "{path}");
        }
    }
}
