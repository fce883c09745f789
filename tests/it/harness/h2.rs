//! A client that speaks HTTP/2, in the clear or over TLS.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::check_added;
use super::http::Head;
use super::upstream::Seen;
use super::within;

pub(crate) type H2Body = BoxBody<Bytes, std::convert::Infallible>;

pub(crate) struct H2Client {
    sender: SendRequest<H2Body>,
    behind: Vec<Arc<Seen>>,
}

/// A whole answer.
pub(crate) struct H2Response {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl H2Client {
    pub(crate) async fn over<I>(io: I, behind: Vec<Arc<Seen>>) -> Self
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shaken = handshake(TokioExecutor::new(), TokioIo::new(io)).await;
        let (sender, connection) = shaken.expect("HTTP/2");
        tokio::spawn(connection);
        Self { sender, behind }
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn begin(&mut self, request: Request<H2Body>) -> (Head, Incoming) {
        let sent = within("an answer by HTTP/2", self.sender.send_request(request)).await;
        let (parts, body) = sent.expect("an answer").into_parts();
        let headers = parts.headers.iter();
        let head = Head {
            start: format!("HTTP/2 {}", parts.status.as_u16()),
            headers: headers
                .map(|(n, v)| (n.to_string(), v.as_bytes().to_vec()))
                .collect(),
        };
        check_added(&head, &self.behind);
        (head, body)
    }

    pub(crate) async fn call(&mut self, request: Request<H2Body>) -> H2Response {
        let (head, body) = self.begin(request).await;
        let whole = within("a whole answer", body.collect())
            .await
            .expect("a whole answer");
        let trailers = whole.trailers().cloned();
        H2Response {
            head,
            body: whole.to_bytes(),
            trailers,
        }
    }
}

/// A body that is there.
pub(crate) fn whole(body: impl Into<Bytes>) -> H2Body {
    Full::new(body.into()).boxed()
}
