//! What was recorded of a run: its calls in their order, and what answered each.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::asked::Request;
use super::model;
use crate::core::id::{CallId, Label};
use crate::wire::route::route;

/// Calls of one tape.
pub const MAX_CALLS: usize = 10_000;
/// Bytes of all bodies of one tape together.
pub const MAX_BYTES: u64 = 1 << 30;

/// One run.
#[derive(Debug)]
pub struct Tape {
    pub run: Label,
    /// The earliest first.
    pub calls: Vec<Call>,
}

/// One recorded call.
#[derive(Debug)]
pub struct Call {
    pub id: CallId,
    pub agent: Label,
    pub upstream: Label,
    pub model: Option<Label>,
    pub request: Request,
    /// Or why it cannot be played, in words.
    pub reply: Result<Reply, String>,
}

/// What answered a call.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Without those that are of one connection.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Microseconds to the head.
    pub head_us: u64,
    /// Each with the microseconds that it came after what was before it.
    pub chunks: Vec<(u64, Bytes)>,
    /// The upstream broke off.
    pub is_cut: bool,
}

impl Tape {
    pub fn playable(&self) -> usize {
        self.calls.iter().filter(|call| call.reply.is_ok()).count()
    }

    /// Where a request like this one went: the one upstream that calls of its endpoint and model went
    /// to, else the one that calls of its endpoint did. None where that is not told, since the key that
    /// comes with a request must reach no other company.
    pub fn upstream_of(&self, request: &Request) -> Option<&Label> {
        let endpoint = endpoint(request);
        let same: Vec<&Call> = self
            .calls
            .iter()
            .filter(|call| self::endpoint(&call.request) == endpoint)
            .collect();
        let model = request.asked().model;
        let of_model = same.iter().filter(|call| call.model == model);
        only(of_model.copied()).or_else(|| only(same.iter().copied()))
    }
}

/// Method and path, whatever model the path names.
fn endpoint(request: &Request) -> (&str, String) {
    let path = match route(&request.method, &request.path).path_model {
        Some(name) => model::in_path(&request.path, &name, "*"),
        None => None,
    };
    let path = path.unwrap_or_else(|| request.path.clone());
    (request.method.as_str(), path)
}

fn only<'a>(calls: impl Iterator<Item = &'a Call>) -> Option<&'a Label> {
    let mut upstreams = calls.map(|call| &call.upstream);
    let first = upstreams.next()?;
    upstreams.all(|other| other == first).then_some(first)
}

impl Reply {
    /// A body in the pieces that it came in: lengths, and the time before each. What no piece is
    /// known of comes with the last.
    pub fn pieces(
        body: &Bytes,
        marks: impl IntoIterator<Item = (u64, usize)>,
    ) -> Vec<(u64, Bytes)> {
        let mut rest = body.clone();
        let mut pieces = Vec::new();
        for (gap_us, len) in marks {
            let piece = rest.split_to(len.min(rest.len()));
            if !piece.is_empty() {
                pieces.push((gap_us, piece));
            }
        }
        if !rest.is_empty() {
            pieces.push((0, rest));
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn request(path: &str, model: &str) -> Request {
        Request {
            method: Method::POST,
            path: path.to_owned(),
            agent: None,
            encoding: None,
            body: format!("{{\"model\":\"{model}\",\"messages\":[]}}").into(),
        }
    }

    #[test]
    fn request_goes_where_calls_of_its_endpoint_went_and_nowhere_else() {
        let label = |text: &str| Label::parse(text).unwrap();
        let call = |path: &str, model: &str, upstream: &str| Call {
            id: CallId::from_uuid(uuid::Uuid::nil()),
            agent: label("a"),
            upstream: label(upstream),
            model: Some(label(model)),
            request: request(path, model),
            reply: Err("no".to_owned()),
        };
        let gemini = "/v1beta/models/flash:generateContent";
        let tape = Tape {
            run: label("r"),
            calls: vec![
                call("/v1/chat/completions", "gpt", "openai"),
                call("/v1/chat/completions", "deep", "deepseek"),
                call("/v1/embeddings", "small", "openai"),
                call(gemini, "flash", "google"),
            ],
        };
        for (path, model, upstream) in [
            ("/v1/chat/completions", "gpt", Some("openai")),
            ("/v1/chat/completions", "deep", Some("deepseek")),
            ("/v1/chat/completions", "other", None),
            ("/v1/embeddings", "other", Some("openai")),
            ("/v1/messages", "gpt", None),
            ("/openai/v1/chat/completions", "gpt", None),
            ("/v1beta/models/pro:generateContent", "pro", Some("google")),
            ("/v1beta/models/pro:streamGenerateContent", "pro", None),
        ] {
            let found = tape.upstream_of(&request(path, model)).map(Label::as_str);
            assert_eq!(found, upstream, "{path} {model}");
        }
    }

    #[test]
    fn pieces_are_the_body_whatever_the_marks_say() {
        let body = Bytes::from_static(b"abcdef");
        for marks in [
            vec![],
            vec![(1, 2), (3, 4)],
            vec![(1, 2)],
            vec![(1, 9), (2, 9)],
        ] {
            let pieces = Reply::pieces(&body, marks);
            let whole: Vec<u8> = pieces
                .iter()
                .flat_map(|(_, piece)| piece.to_vec())
                .collect();
            assert_eq!(whole, b"abcdef");
        }
        let pieces = Reply::pieces(&body, [(5, 2), (7, 4)]);
        assert_eq!(pieces[1], (7, Bytes::from_static(b"cdef")));
    }
}
