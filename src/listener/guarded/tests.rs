//! The guard with the HTTP library behind it: what the service gets to see at any cut.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::Waker;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use super::*;
use crate::config::ProxyConfig;
use crate::metrics::Metrics;

const HANG: Duration = Duration::from_secs(30);

/// A client that sends these pieces, each in one read, and then waits until the other side ends.
#[derive(Default)]
struct Pieces {
    left: VecDeque<Vec<u8>>,
    over: bool,
    /// It does not end even then.
    stays: bool,
    answers: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.left.pop_front() else {
            return if self.over && !self.stays {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        };
        let rest = piece.split_off(piece.len().min(buf.remaining()));
        if !rest.is_empty() {
            self.left.push_front(rest);
        }
        buf.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answers.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.over = true;
        Poll::Ready(Ok(()))
    }
}

fn guarded(client: Pieces, head_timeout: Duration) -> Guarded<Pieces> {
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let seat = Seat::take(permit, Arc::new(Metrics::default()));
    Guarded::new(client, seat, 8192, head_timeout, Arc::default())
}

/// The bodies that reached the service whole, and all that the client was answered.
async fn served(pieces: &[&[u8]]) -> (Vec<Bytes>, String) {
    let client = Pieces {
        left: pieces.iter().map(|piece| piece.to_vec()).collect(),
        ..Pieces::default()
    };
    let answers = Arc::clone(&client.answers);
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let mut response = Response::new(Full::<Bytes>::default());
            match request.into_body().collect().await {
                Ok(body) => seen.lock().unwrap().push(body.to_bytes()),
                Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let server = crate::listener::server(&ProxyConfig::default());
    let io = TokioIo::new(guarded(client, HANG));
    let connection = server.serve_connection_with_upgrades(io, service);
    let ended = tokio::time::timeout(HANG, connection).await;
    assert!(ended.is_ok(), "the connection was left open");
    let answers = String::from_utf8(answers.lock().unwrap().clone()).unwrap();
    let bodies = bodies.lock().unwrap().clone();
    (bodies, answers)
}

/// The status of each answer.
fn statuses(answers: &str) -> Vec<&str> {
    let starts = answers.split("HTTP/1.1 ").skip(1);
    starts.map(|answer| &answer[..3]).collect()
}

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_request_before_a_violation_is_served_as_it_is_at_any_cut() {
    for (request, body) in [
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
            "{\"a\":1}",
        ),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            "{}",
        ),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""),
    ] {
        let stream = format!("{request}\n{HIDDEN}").into_bytes();
        for cut in 1..stream.len() {
            let (first, second) = stream.split_at(cut);
            let (bodies, answers) = served(&[first, second]).await;
            assert_eq!(bodies, [body], "{request:?} cut at {cut}");
            assert_eq!(
                statuses(&answers),
                ["200", "400"],
                "{request:?} cut at {cut}"
            );
        }
    }
}

#[tokio::test]
async fn a_request_with_a_violation_never_ends_well_at_any_cut() {
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut streams: Vec<String> = [
        "0;a\n\r\n",
        "0;a\r\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nA: b\n\r\n",
        "2;a\n{}\r\n0\r\n\r\n",
        "2\r\n{}\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
    ]
    .iter()
    .map(|body| format!("{chunked}{body}{HIDDEN}"))
    .collect();
    for head in [
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n X: y\r\n\r\n",
        "POST / HTTP/1.1\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "\nPOST / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        streams.push(format!("{head}{HIDDEN}"));
    }
    for stream in streams {
        for cut in 1..stream.len() {
            let (first, second) = stream.as_bytes().split_at(cut);
            let (bodies, answers) = served(&[first, second]).await;
            assert!(bodies.is_empty(), "{stream:?} cut at {cut}: {bodies:?}");
            assert_eq!(statuses(&answers), ["400"], "{stream:?} cut at {cut}");
        }
    }
}

/// Reads all that comes, up to the error.
async fn given_up(pieces: &[&[u8]]) -> io::ErrorKind {
    let client = Pieces {
        left: pieces.iter().map(|piece| piece.to_vec()).collect(),
        ..Pieces::default()
    };
    let mut io = guarded(client, Duration::ZERO);
    let read = io.read_to_end(&mut Vec::new()).await;
    read.unwrap_err().kind()
}

#[tokio::test]
async fn a_client_that_does_not_show_its_protocol_is_given_up() {
    let pieces: [&[&[u8]]; 4] = [
        &[],
        &[b"P"],
        &[b"PRI * HT", b"TP/2.0\r\n"],
        &[&H2_PREFACE[..23]],
    ];
    for pieces in pieces {
        let kind = tokio::time::timeout(HANG, given_up(pieces)).await;
        assert_eq!(kind, Ok(io::ErrorKind::TimedOut), "{pieces:?}");
    }
}

#[tokio::test]
async fn a_client_that_has_shown_its_protocol_is_not_given_up_here() {
    let pieces: [&[&[u8]]; 4] = [
        &[b"G"],
        &[b"PRI", b"X"],
        &[b"PRI * HTTP/2.0\r\n\r\n", b"SM\r\n\r\n"],
        &[H2_PREFACE, b"\0\0\0"],
    ];
    for pieces in pieces {
        // Both have the same time; the silent one, younger and asked last, shows that it is over.
        tokio::select! {
            biased;
            kind = given_up(pieces) => panic!("{pieces:?}: {kind}"),
            kind = given_up(&[]) => assert_eq!(kind, io::ErrorKind::TimedOut),
        }
    }
}

/// A client that sent this, and stays whatever comes.
async fn staying(sent: &str) -> Guarded<Pieces> {
    let client = Pieces {
        left: [sent.as_bytes().to_vec()].into(),
        stays: true,
        ..Pieces::default()
    };
    let mut guarded = guarded(client, HANG);
    guarded.read_buf(&mut Vec::new()).await.unwrap();
    guarded
}

fn shut_down(guarded: &mut Guarded<Pieces>) -> Poll<io::Result<()>> {
    Pin::new(guarded).poll_shutdown(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn only_a_client_within_its_request_is_waited_for_and_not_for_ever() {
    let mut done = staying("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(shut_down(&mut done).is_ready());
    for within in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4",
        "GET / HTTP/1.1\r\nHost",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
    ] {
        let mut client = staying(within).await;
        assert!(shut_down(&mut client).is_pending(), "{within:?}");
        client.linger = Some(Box::pin(tokio::time::sleep(Duration::ZERO)));
        let ended = tokio::time::timeout(HANG, client.shutdown()).await;
        ended.expect("an end").unwrap();
    }
}
