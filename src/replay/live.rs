//! What is not on the record goes on live, through a proxy like any call: attributed, held to its
//! budgets and recorded as part of a new run.

use std::fmt::Write as _;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::asked::Request;
use super::{model, play};
use crate::core::id::Label;
use crate::proxy::headers;
use crate::proxy::tags::{Tagged, take_tags};
use crate::wire::decode::decode_all;
use crate::wire::route::route;

const UNQUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// What says of which run a call is, which the replay says now.
const OWN: [&str; 2] = [headers::RUN, headers::RUN_ID];

/// The way to the proxy.
#[derive(Clone, Debug)]
pub struct Live {
    /// `http://127.0.0.1:8787`
    pub origin: String,
    /// The run that live calls are of.
    pub run: Label,
    /// What says so in front of a path: `/run/nightly-4k7xpq`.
    pub tags: String,
    /// In the place of the model that is asked for.
    pub model: Option<String>,
    pub client: reqwest::Client,
}

/// A request that goes on, and how it came.
pub(super) struct Going<'a> {
    pub request: Request,
    pub tagged: &'a Tagged<'a>,
    pub query: Option<&'a str>,
    pub headers: HeaderMap,
}

impl Live {
    /// Passes a request on as part of the new run, or says why it cannot.
    pub(super) async fn send(&self, mut going: Going<'_>) -> Result<Response, String> {
        if let Some(model) = &self.model {
            set_model(model, &mut going)?;
        }
        let target = target(&self.origin, &self.tags, &going);
        let sent = self
            .client
            .request(going.request.method, target)
            .headers(kept(going.headers))
            .body(going.request.body)
            .send();
        Ok(match sent.await {
            Ok(answer) => passed_on(answer),
            Err(error) => {
                let told = format!("the proxy was not reached: {error}\n");
                (StatusCode::BAD_GATEWAY, told).into_response()
            }
        })
    }
}

/// What the client said in the path is said again, but for what the new run says. Where it did not name
/// an upstream the proxy chooses, as it did for the record: what is on record is no word of the client's,
/// whose key must reach nobody that it is not for.
fn target(origin: &str, tags: &str, going: &Going<'_>) -> String {
    let whole = format!("{tags}/v1");
    let ours = take_tags(&whole);
    let mut target = format!("{origin}{tags}");
    let both = said(going.tagged).into_iter().zip(said(&ours));
    for ((name, value), (_, of_run)) in both {
        if let (Some(value), None) = (value, of_run) {
            tag(&mut target, name, value);
        }
    }
    if let Some(upstream) = going.tagged.upstream.as_deref() {
        tag(&mut target, "upstream", upstream);
    }
    target.push_str(&going.request.path);
    if let Some(query) = going.query {
        target.push('?');
        target.push_str(query);
    }
    target
}

fn said<'a>(tagged: &'a Tagged<'_>) -> [(&'static str, Option<&'a str>); 6] {
    [
        ("parent-run", tagged.parent_run.as_deref()),
        ("agent", tagged.agent.as_deref()),
        ("variant", tagged.variant.as_deref()),
        ("budget-usd", tagged.budget_usd.as_deref()),
        ("budget-tokens", tagged.budget_tokens.as_deref()),
        ("budget-calls", tagged.budget_calls.as_deref()),
    ]
}

fn tag(target: &mut String, name: &str, value: &str) {
    // Whoever resolves dots in a path would take the name before away with these.
    if value != "." && value != ".." {
        // Writing into a text does not fail.
        let _ = write!(target, "/{name}/{}", utf8_percent_encode(value, UNQUOTED));
    }
}

/// Another model for what a model answers in tokens; embeddings, images and the like keep theirs. What
/// cannot be changed must not go on with the old one, which costs money.
fn set_model(model: &str, going: &mut Going<'_>) -> Result<(), String> {
    let Going {
        request, headers, ..
    } = going;
    let route = route(&request.method, &request.path);
    if !route.operation.generates() || route.fetch {
        return Ok(());
    }
    let encoding = headers.get(CONTENT_ENCODING).map(|it| it.to_str());
    let decoded = match encoding {
        None => None,
        Some(encoding) => Some(
            encoding
                .ok()
                .and_then(|encoding| decode_all(encoding, &request.body, super::MAX_BODY).ok())
                .ok_or("--model: the body of a request cannot be decoded, so it cannot name it")?,
        ),
    };
    let plain = decoded.map_or_else(|| request.body.clone(), Bytes::from);
    let body = model::in_body(&plain, model);
    let path = route
        .path_model
        .as_deref()
        .map(|from| model::in_path(&request.path, from, model));
    match (path, body) {
        (Some(None), _) | (None, None) => Err(format!(
            "--model: a request for {} names no model that can be replaced",
            request.path
        )),
        (path, body) => {
            request.path = path.flatten().unwrap_or_else(|| request.path.clone());
            if let Some(body) = body {
                request.body = body;
                headers.remove(CONTENT_ENCODING);
            }
            Ok(())
        }
    }
}

fn kept(mut headers: HeaderMap) -> HeaderMap {
    for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    for name in OWN.map(HeaderName::from_static) {
        headers.remove(name);
    }
    headers
}

fn passed_on(answer: reqwest::Response) -> Response {
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    let chunks = stream::unfold(answer, |mut answer| async move {
        let chunk = answer.chunk().await.transpose()?;
        if chunk.is_err() {
            play::broken_off().await;
        }
        Some((chunk, answer))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};

    use super::*;

    fn going<'a>(tagged: &'a Tagged<'a>, body: &'static str) -> Going<'a> {
        Going {
            request: Request {
                method: Method::POST,
                path: tagged.rest.to_owned(),
                agent: None,
                encoding: None,
                query: String::new(),
                body: Bytes::from_static(body.as_bytes()),
            },
            tagged,
            query: None,
            headers: HeaderMap::new(),
        }
    }

    #[test]
    fn what_the_path_says_of_its_call_is_said_again_but_for_what_the_run_says() {
        let path = "/run/old/agent/planner/variant/b/budget-usd/2/budget-calls/9/v1/messages";
        let tagged = take_tags(path);
        let going = going(&tagged, "{}");
        assert_eq!(
            target("http://proxy", "/run/new/budget-usd/1", &going),
            "http://proxy/run/new/budget-usd/1/agent/planner/variant/b/budget-calls/9/v1/messages"
        );
    }

    #[test]
    fn call_goes_where_its_client_says_else_where_the_proxy_chooses() {
        let to = |path: &str| {
            let tagged = take_tags(path);
            target("http://proxy", "/run/new", &going(&tagged, "{}"))
        };
        let named = "http://proxy/run/new/upstream/own/v1/models";
        assert_eq!(to("/upstream/own/v1/models"), named);
        assert_eq!(to("/v1/models"), "http://proxy/run/new/v1/models");
    }

    #[test]
    fn another_model_is_for_what_generates_text_and_is_never_left_out() {
        let set = |path: &'static str, body: &'static str| {
            let tagged = take_tags(path);
            let mut going = going(&tagged, body);
            set_model("new", &mut going)?;
            let body = String::from_utf8(going.request.body.to_vec()).unwrap();
            Ok::<_, String>(format!("{} {body}", going.request.path))
        };
        for (path, body, expected) in [
            (
                "/v1/chat/completions",
                r#"{"model":"a"}"#,
                r#"/v1/chat/completions {"model":"new"}"#,
            ),
            (
                "/v1/messages",
                r#"{"model":"a"}"#,
                r#"/v1/messages {"model":"new"}"#,
            ),
            (
                "/v1/embeddings",
                r#"{"model":"a"}"#,
                r#"/v1/embeddings {"model":"a"}"#,
            ),
            (
                "/v1/moderations",
                r#"{"model":"a"}"#,
                r#"/v1/moderations {"model":"a"}"#,
            ),
            (
                "/v1beta/models/a:generateContent",
                "{}",
                "/v1beta/models/new:generateContent {}",
            ),
            (
                "/openai/deployments/a/chat/completions",
                r#"{"model":"a"}"#,
                r#"/openai/deployments/new/chat/completions {"model":"new"}"#,
            ),
        ] {
            assert_eq!(set(path, body).unwrap(), expected);
        }
        let told = set("/v1/chat/completions", "{}").unwrap_err();
        assert!(told.contains("names no model"), "{told}");
    }

    #[test]
    fn another_model_is_set_in_a_compressed_request_too() {
        use std::io::Write as _;
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(b"{\"model\":\"a\"}").unwrap();
        let tagged = take_tags("/v1/chat/completions");
        let mut going = going(&tagged, "");
        going.request.body = packer.finish().unwrap().into();
        let gzip = HeaderValue::from_static("gzip");
        going.headers.insert(CONTENT_ENCODING, gzip);
        set_model("new", &mut going).unwrap();
        assert_eq!(going.request.body, &b"{\"model\":\"new\"}"[..]);
        assert!(!going.headers.contains_key(CONTENT_ENCODING));
        going
            .headers
            .insert(CONTENT_ENCODING, HeaderValue::from_static("zz"));
        assert!(set_model("new", &mut going).is_err());
    }
}
