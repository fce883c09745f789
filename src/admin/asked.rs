//! Bodies of requests that change something: said to be what they are, small, and there in time.
//!
//! A page of another site can make a browser send a form or plain text without asking first. So the
//! API takes JSON alone, and forms are taken only where a browser says that our own page sent them.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use super::guard;
use super::problem::Problem;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// For a body to come, so that its connection is not kept for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client asks to be done. An empty body asks with all defaults.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_type(request.headers(), JSON)?;
        let most = guard::body_limit(request.uri().path());
        let body = read(request.into_body(), most, PATIENCE).await?;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        let asked = serde_json::from_slice(text);
        asked
            .map(Self)
            .map_err(|error| Problem::bad_request(format!("body: {error}")))
    }
}

/// What a form of one of our own pages asks to be done: for paths of pages only, as the API takes no
/// forms. A request that does not say that it comes from such a page is refused.
pub(crate) struct Form<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !guard::is_from_own_page(request.uri(), request.headers()) {
            return Err(Problem::forbidden(
                "header Origin: a form is taken from a page of this listener only",
            ));
        }
        check_type(request.headers(), FORM)?;
        let most = guard::body_limit(request.uri().path());
        let body = read(request.into_body(), most, PATIENCE).await?;
        let asked = serde_urlencoded::from_bytes(&body);
        asked
            .map(Self)
            .map_err(|error| Problem::bad_request(format!("form: {error}")))
    }
}

fn check_type(headers: &HeaderMap, expected: &str) -> Result<(), Problem> {
    if is_type(headers, expected) {
        return Ok(());
    }
    Err(Problem::unsupported(format!(
        "header Content-Type: exactly one `{expected}` is expected"
    )))
}

fn is_type(headers: &HeaderMap, expected: &str) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(one), None) = (types.next(), types.next()) else {
        return false;
    };
    let essence = one.to_str().ok().and_then(|it| it.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(expected))
}

pub(super) fn is_form(headers: &HeaderMap) -> bool {
    is_type(headers, FORM)
}

async fn read(body: Body, limit: u64, patience: Duration) -> Result<Bytes, Problem> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    match tokio::time::timeout(patience, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(Problem::too_large(format!(
            "the body is larger than {limit} bytes"
        ))),
        Ok(Err(error)) => Err(Problem::bad_request(format!("body: {error}"))),
        Err(_) => Err(Problem::late(format!(
            "the body did not come within {} s",
            patience.as_secs()
        ))),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    let source = error.source();
    source.is_some_and(<dyn Error>::is::<LengthLimitError>)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http::HeaderValue;
    use http_body::Frame;

    use super::*;

    fn is_json(headers: &HeaderMap) -> bool {
        is_type(headers, JSON)
    }

    fn typed(types: &[&'static str]) -> HeaderMap {
        let name = |value: &&'static str| (header::CONTENT_TYPE, HeaderValue::from_static(value));
        types.iter().map(name).collect()
    }

    #[test]
    fn only_one_content_type_that_is_json_passes() {
        for good in ["application/json", "Application/JSON ; charset=utf-8"] {
            assert!(is_json(&typed(&[good])), "{good}");
        }
        for bad in [
            &[][..],
            &[""],
            &["text/plain"],
            &["application/x-www-form-urlencoded"],
            &["multipart/form-data; boundary=application/json"],
            &["text/plain; application/json"],
            &["application/jsonp"],
            &["application/json, text/plain"],
        ] {
            assert!(!is_json(&typed(bad)), "{bad:?}");
        }
        let mut doubled = typed(&["application/json"]);
        doubled.append(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert!(!is_json(&doubled));
    }

    /// So many frames of 1 KiB, or none ever.
    struct Frames(Option<u8>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match &mut self.0 {
                None => Poll::Pending,
                Some(0) => Poll::Ready(None),
                Some(left) => {
                    *left -= 1;
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 1024])))))
                }
            }
        }
    }

    #[tokio::test]
    async fn body_that_does_not_come_is_not_waited_for() {
        let body = Body::new(Frames(None));
        let problem = read(body, 64 * 1024, Duration::ZERO).await.unwrap_err();
        assert_eq!(problem.status, 408);
    }

    #[tokio::test]
    async fn body_of_unknown_length_is_bounded_as_well() {
        let read = |frames| read(Body::new(Frames(Some(frames))), 64 * 1024, PATIENCE);
        assert_eq!(read(64).await.unwrap().len(), 64 * 1024);
        assert_eq!(read(65).await.unwrap_err().status, 413);
    }
}
