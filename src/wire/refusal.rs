//! The words of a refusal, in the form that the clients of each dialect turn into an error.
//!
//! What is sent was chosen by what stops real clients: as a whole body, and as the end of a stream
//! that runs already, where a cut connection would lose the reason and a plain end would be taken
//! for the end of the answer. Which status and headers go with a body is not decided here.

use bytes::Bytes;
use serde::Serialize;

use super::route::Dialect;

/// Clients that know this type take the error for final.
const ERROR_TYPE: &str = "insufficient_quota";

#[derive(Clone, Copy, Debug)]
pub struct RefusalText<'a> {
    /// For a person.
    pub message: &'a str,
    /// For a program.
    pub code: &'a str,
}

/// The body of a response that refuses a call.
pub fn body(dialect: Dialect, refusal: RefusalText<'_>) -> Vec<u8> {
    match dialect {
        Dialect::Messages => json(&Typed::new(refusal)),
        Dialect::Gemini => json(&Wrapped {
            error: GoogleError::new(refusal),
        }),
        Dialect::Ollama => json(&Wrapped {
            error: refusal.message,
        }),
        _ => json(&Wrapped {
            error: ErrorObject::new(refusal),
        }),
    }
}

/// What ends a running stream, to be sent where an event or line has ended and followed by the end
/// of the body: an event, or a line where the dialect streams lines. `sequence` is the number of
/// the event where the dialect counts them. None when the dialect has no such end.
pub fn stream_end(dialect: Dialect, refusal: RefusalText<'_>, sequence: u64) -> Option<Bytes> {
    let (before, data, after): (&[u8], _, &[u8]) = match dialect {
        Dialect::Chat | Dialect::Completions => {
            (b"data: ", body(dialect, refusal), b"\n\ndata: [DONE]\n\n")
        }
        Dialect::Responses => {
            let event = ResponsesEvent::new(refusal, sequence);
            (b"event: error\ndata: ", json(&event), b"\n\n")
        }
        Dialect::Messages => (b"event: error\ndata: ", body(dialect, refusal), b"\n\n"),
        Dialect::Gemini | Dialect::LlamaCpp => (b"data: ", body(dialect, refusal), b"\n\n"),
        Dialect::Ollama => (b"", body(dialect, refusal), b"\n"),
        Dialect::Embeddings
        | Dialect::Images
        | Dialect::Speech
        | Dialect::Transcription
        | Dialect::Moderation
        | Dialect::Batch
        | Dialect::Other => return None,
    };
    Some(Bytes::from([before, data.as_slice(), after].concat()))
}

#[derive(Serialize)]
struct Wrapped<E> {
    error: E,
}

/// OpenAI's, which most servers share.
#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<()>,
    code: &'a str,
}

/// Anthropic's, whose fields OpenAI's clients find as well.
#[derive(Serialize)]
struct Typed<'a> {
    r#type: &'static str,
    error: ErrorObject<'a>,
}

/// An event of a response that is an error: the fields of the specification, which some clients
/// read, and an error object, without which others take the stream for a success.
#[derive(Serialize)]
struct ResponsesEvent<'a> {
    r#type: &'static str,
    sequence_number: u64,
    code: &'a str,
    message: &'a str,
    param: Option<()>,
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct GoogleError<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    details: [GoogleDetail; 1],
}

#[derive(Serialize)]
struct GoogleDetail {
    #[serde(rename = "@type")]
    kind: &'static str,
    /// By Google's rules in capitals.
    reason: String,
    domain: &'static str,
}

impl<'a> ErrorObject<'a> {
    fn new(refusal: RefusalText<'a>) -> Self {
        Self {
            message: refusal.message,
            r#type: ERROR_TYPE,
            param: None,
            code: refusal.code,
        }
    }
}

impl<'a> Typed<'a> {
    fn new(refusal: RefusalText<'a>) -> Self {
        Self {
            r#type: "error",
            error: ErrorObject::new(refusal),
        }
    }
}

impl<'a> ResponsesEvent<'a> {
    fn new(refusal: RefusalText<'a>, sequence: u64) -> Self {
        Self {
            r#type: "error",
            sequence_number: sequence,
            code: refusal.code,
            message: refusal.message,
            param: None,
            error: ErrorObject::new(refusal),
        }
    }
}

impl<'a> GoogleError<'a> {
    fn new(refusal: RefusalText<'a>) -> Self {
        Self {
            code: 429,
            message: refusal.message,
            status: "RESOURCE_EXHAUSTED",
            details: [GoogleDetail {
                kind: "type.googleapis.com/google.rpc.ErrorInfo",
                reason: refusal.code.to_ascii_uppercase(),
                domain: "open-aiops",
            }],
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
