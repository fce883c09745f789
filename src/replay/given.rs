//! What of a recorded answer its client got.
//!
//! An answer is recorded as it came from the upstream. Where the client asked for no usage the proxy
//! did, and took out again what that added.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};

use super::asked::Request;
use super::tape::Reply;
use crate::core::call::Operation;
use crate::core::digest::DigestSeed;
use crate::proxy::Rewriter;
use crate::wire::include_usage;
use crate::wire::route::route;
use crate::wire::scan::scan;

/// The answer to `request` from an upstream that is asked for usage where the client does not ask.
pub fn as_given(request: &Request, reply: Reply) -> Reply {
    let headers: HeaderMap = reply.headers.iter().cloned().collect();
    let rewriter = is_asked_for_it(request).then(|| Rewriter::for_answer(&headers));
    match rewriter.flatten() {
        Some(rewriter) => rewritten(reply, rewriter),
        None => reply,
    }
}

fn is_asked_for_it(request: &Request) -> bool {
    let route = route(&request.method, &request.path);
    let has_option = matches!(route.operation, Operation::Chat | Operation::TextCompletion);
    let facts = scan(route.operation, route.dialect, &request.body, DigestSeed(0));
    has_option && include_usage::inject(&request.body, &facts).is_some()
}

/// Each piece when it went out; what a piece held back goes with one after it.
fn rewritten(reply: Reply, mut rewriter: Rewriter) -> Reply {
    let mut waited_us = 0;
    let mut chunks = Vec::with_capacity(reply.chunks.len());
    for (gap_us, piece) in &reply.chunks {
        waited_us += gap_us;
        // What cannot be decoded ended the answer then, too: the record says that it was cut.
        let (kept, _) = rewriter.push(piece);
        if !kept.is_empty() {
            chunks.push((std::mem::take(&mut waited_us), kept));
        }
    }
    if !reply.is_cut {
        chunks.extend(rewriter.finish().map(|rest| (waited_us, rest)));
    }
    let headers = reply.headers.into_iter();
    Reply {
        headers: headers
            .filter(|(name, _)| ![CONTENT_ENCODING, CONTENT_LENGTH].contains(name))
            .collect(),
        chunks,
        ..reply
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::CONTENT_TYPE;
    use http::{HeaderValue, Method};

    use super::*;

    const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn request(path: &str, body: &'static str) -> Request {
        Request {
            method: Method::POST,
            path: path.to_owned(),
            agent: None,
            encoding: None,
            query: String::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn reply(pieces: &[(u64, &str)]) -> Reply {
        let pieces = pieces.iter();
        Reply {
            status: 200,
            headers: vec![(
                CONTENT_TYPE,
                HeaderValue::from_static("text/event-stream; charset=utf-8"),
            )],
            head_us: 1,
            chunks: pieces
                .map(|(gap, piece)| (*gap, Bytes::copy_from_slice(piece.as_bytes())))
                .collect(),
            is_cut: false,
        }
    }

    const UNASKED: &str = r#"{"model":"m","stream":true,"messages":[]}"#;
    const ASKED: &str =
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;

    #[test]
    fn usage_that_only_the_proxy_asked_for_is_taken_out_and_its_time_is_kept() {
        let recorded = reply(&[(5, TEXT), (7, USAGE), (2, DONE)]);
        let given = as_given(&request("/v1/chat/completions", UNASKED), recorded.clone());
        assert_eq!(given.chunks, reply(&[(5, TEXT), (9, DONE)]).chunks);
        for (path, body) in [
            ("/v1/chat/completions", ASKED),
            ("/v1/responses", UNASKED),
            ("/v1/chat/completions", "{\"stream\":false}"),
        ] {
            let given = as_given(&request(path, body), recorded.clone());
            assert_eq!(given.chunks, recorded.chunks, "{path} {body}");
        }
    }

    #[test]
    fn borders_of_pieces_fall_as_they_fell_for_the_client() {
        let (front, back) = USAGE.split_at(20);
        let first = format!("{TEXT}{front}");
        let last = format!("{back}{DONE}");
        let recorded = reply(&[(5, &first), (7, &last)]);
        let given = as_given(&request("/v1/chat/completions", UNASKED), recorded);
        assert_eq!(given.chunks, reply(&[(5, TEXT), (7, DONE)]).chunks);
    }

    #[test]
    fn what_was_held_back_when_the_answer_broke_is_lost() {
        let (front, _) = TEXT.split_at(20);
        let cut = Reply {
            is_cut: true,
            ..reply(&[(5, TEXT), (7, front)])
        };
        let given = as_given(&request("/v1/chat/completions", UNASKED), cut);
        assert_eq!(given.chunks, reply(&[(5, TEXT)]).chunks);
        assert!(given.is_cut);
    }

    #[test]
    fn compressed_answer_comes_plain_where_the_proxy_had_to_look_into_it() {
        use std::io::Write as _;
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        write!(packer, "{TEXT}{USAGE}{DONE}").unwrap();
        let packed = packer.finish().unwrap();
        let mut recorded = reply(&[]);
        recorded.chunks.push((3, packed.into()));
        let encoding = (CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        recorded.headers.push(encoding.clone());
        let given = as_given(&request("/v1/chat/completions", UNASKED), recorded.clone());
        let plain = format!("{TEXT}{DONE}");
        assert_eq!(given.chunks, reply(&[(3, &plain)]).chunks);
        assert!(!given.headers.contains(&encoding));
        let same = as_given(&request("/v1/chat/completions", ASKED), recorded.clone());
        assert_eq!(same.chunks, recorded.chunks);
    }
}
