//! Clients that speak HTTP/2 to an upstream that speaks HTTP/1.1.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use crate::harness::h2::whole;
use crate::harness::{CHAT, Proxy, Upstream, json, reply, within};

/// A body in one frame that does not say its length before.
struct Unannounced(Option<Bytes>);

impl Body for Unannounced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

#[tokio::test]
async fn a_body_of_one_frame_has_its_bound_too() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::with(&upstream)
        .proxy_lines("max_body = \"1 KiB\"")
        .start()
        .await;
    let mut client = proxy.h2_client().await;
    for (length, status) in [(1025, "413"), (1024, "200")] {
        let body = Unannounced(Some(vec![b' '; length].into()));
        let request = Request::post("http://proxy/v1/chat/completions");
        let request = request.body(body.boxed()).unwrap();
        let answer = client.call(request).await;
        assert!(answer.head.start.ends_with(status), "{}", answer.head.start);
    }
}

#[tokio::test]
async fn trailers_of_an_http_2_request_pass_announced_or_not() {
    for path in ["/v1/chat/completions", "/v1/files"] {
        for announced in [true, false] {
            if path == "/v1/files" && !announced {
                // A body that is not waited for: too late to announce what follows it.
                continue;
            }
            let upstream = Upstream::answers(json("{}")).await;
            let proxy = Proxy::to(&upstream).await;
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-sum", "6".parse().unwrap());
            let body = http_body_util::Full::from(CHAT).with_trailers(async { Some(Ok(trailers)) });
            let mut request = Request::post(format!("http://{}{path}", proxy.address()))
                .header("content-type", "application/json");
            if announced {
                request = request.header("trailer", "x-sum");
            }
            let mut client = proxy.h2_client().await;
            let response = client.call(request.body(body.boxed()).unwrap()).await;
            assert_eq!(response.head.status(), 200);
            let received = upstream.request();
            assert_eq!(received.text(), CHAT);
            assert_eq!(received.header("trailer"), Some("x-sum"));
            let sum = ("x-sum".to_owned(), b"6".to_vec());
            assert_eq!(received.body.trailers, [sum]);
        }
    }
}

#[tokio::test]
async fn http_2_requests_pass_with_trailers_cookies_and_target() {
    let answer = reply(200)
        .header("content-type", "application/json")
        .header("trailer", "x-sum")
        .header("x-many", "1")
        .header("x-many", "2")
        .chunks_and_trailers(["{", "}"], "x-sum: 2\r\n");
    let upstream = Upstream::answers(answer).await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.h2_client().await;
    let request = Request::post(format!(
        "http://{}/v1/chat/completions?a=b",
        proxy.address()
    ))
    .header("content-type", "application/json")
    .header("te", "trailers")
    .header("cookie", "a=b")
    .header("cookie", "c=d")
    .body(whole(CHAT))
    .unwrap();
    let response = client.call(request).await;
    assert_eq!(response.head.status(), 200);
    assert_eq!(&response.body[..], b"{}");
    assert_eq!(response.trailers.unwrap()["x-sum"], "2");
    assert_eq!(response.head.values("x-many"), [b"1", b"2"]);
    let received = upstream.request();
    assert_eq!(
        received.head.start,
        "POST /v1/chat/completions?a=b HTTP/1.1"
    );
    assert_eq!(received.header("cookie"), Some("a=b; c=d"));
    assert_eq!(
        received.header("host"),
        Some(&*upstream.address().to_string())
    );
    assert_eq!(received.text(), CHAT);
}

#[tokio::test]
async fn http_2_calls_run_side_by_side() {
    let (slow, driver) = reply(200).driven();
    let upstream = Upstream::with(move |_, request| {
        if request.target() == "/slow" {
            slow.clone()
        } else {
            json("{}")
        }
    })
    .await;
    let proxy = Proxy::to(&upstream).await;
    let mut client = proxy.h2_client().await;
    let ask = |path: &str| {
        Request::get(format!("http://{}{path}", proxy.address()))
            .body(whole(""))
            .unwrap()
    };
    let (head, mut body) = client.begin(ask("/slow")).await;
    assert_eq!(head.status(), 200);
    assert_eq!(client.call(ask("/quick")).await.head.status(), 200);
    driver.chunk("late").await;
    let frame = within("a frame", body.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "late");
    driver.end().await;
    let rest = within("the end", body.collect()).await.unwrap();
    assert!(rest.to_bytes().is_empty());
}
