//! What is not on the record goes on live, through a proxy like any call: attributed, held to its
//! budgets and recorded as part of a new run.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;

use super::asked::Request;
use crate::core::id::Label;
use crate::proxy::headers;

const UNQUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// What says where a call goes and of which run it is, which the replay says now.
const OWN: [&str; 3] = [headers::RUN, headers::RUN_ID, headers::UPSTREAM];

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

impl Live {
    /// Passes a request on, to `upstream` as part of the new run.
    pub(super) async fn send(
        &self,
        request: Request,
        query: Option<&str>,
        (headers, upstream): (HeaderMap, Option<&Label>),
    ) -> Response {
        let body = match &self.model {
            Some(model) => with_model(&request.body, model).unwrap_or(request.body.clone()),
            None => request.body.clone(),
        };
        let target = self.target(&request, query, upstream);
        let sent = self
            .client
            .request(request.method, target)
            .headers(kept(headers))
            .body(body)
            .send();
        match sent.await {
            Ok(answer) => passed_on(answer),
            Err(error) => {
                let told = format!("the proxy was not reached: {error}\n");
                (StatusCode::BAD_GATEWAY, told).into_response()
            }
        }
    }

    fn target(&self, request: &Request, query: Option<&str>, upstream: Option<&Label>) -> String {
        let tag = |name: &str, label: Option<&Label>| {
            let quoted = label.map(|label| utf8_percent_encode(label.as_str(), UNQUOTED));
            quoted.map_or_else(String::new, |label| format!("/{name}/{label}"))
        };
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        format!(
            "{}{}{}{}{}{query}",
            self.origin,
            self.tags,
            tag("agent", request.agent.as_ref()),
            tag("upstream", upstream),
            request.path
        )
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
        Some((chunk, answer))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The JSON object with another value of its `model`, all else as it was. None where there is none.
fn with_model(body: &Bytes, model: &str) -> Option<Bytes> {
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
        let changed = with_model(&body, "ne\"w").unwrap();
        assert_eq!(
            changed,
            &b"{\"a\": [{\"model\":1}], \"model\" : \"ne\\\"w\" ,\"n\":1.50}"[..]
        );
        assert_eq!(with_model(&Bytes::from_static(b"{}"), "m"), None);
    }
}
