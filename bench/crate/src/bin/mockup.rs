//! Mock upstream: answers chat completions with fixed text, as cheaply as it can.
//!
//! `GET /ctl?ttfb_ms=50&gap_ms=25` sets the delay before the first byte and between chunks of a
//! stream. `max_tokens` of the request is the length of the answer: so many words, or so many
//! chunks. Only the first KiB of a request is looked at, where the load generator puts its options.
//! Every fourth chunk of a stream carries the moment it was made.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use clap::Parser;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use open_aiops_bench::{monotonic_ns, stamp};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};

const OPTIONS_WITHIN: usize = 1024;
const DEFAULT_TOKENS: usize = 16;
const WORDS: [&str; 8] = [
    " the", " file", " has", " been", " read", " and", " checked", ".",
];
const CHUNK_HEAD: &str = concat!(
    r#"data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1700000000,"#,
    r#""model":"gpt-4o-mini","system_fingerprint":"fp_mock","choices":["#
);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Mock upstream for the benchmark.
#[derive(Parser)]
struct Options {
    /// A loopback address.
    #[arg(default_value = "127.0.0.1:18080")]
    listen: SocketAddr,
}

#[derive(Default)]
struct Pace {
    first_byte_us: AtomicU64,
    gap_us: AtomicU64,
}

impl Pace {
    fn set(&self, query: &str) {
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let Ok(millis) = value.parse::<u64>() else {
                continue;
            };
            match key {
                "ttfb_ms" => self.first_byte_us.store(millis * 1000, Ordering::Relaxed),
                "gap_ms" => self.gap_us.store(millis * 1000, Ordering::Relaxed),
                _ => {}
            }
        }
    }

    fn first_byte(&self) -> Duration {
        Duration::from_micros(self.first_byte_us.load(Ordering::Relaxed))
    }

    fn gap(&self) -> Duration {
        Duration::from_micros(self.gap_us.load(Ordering::Relaxed))
    }
}

/// What a request asks for.
struct Asked {
    tokens: usize,
    stream: bool,
    usage: bool,
    input_tokens: usize,
}

impl Asked {
    fn read(head: &[u8], body_bytes: usize) -> Self {
        Self {
            tokens: number_after(head, b"\"max_tokens\":")
                .unwrap_or(DEFAULT_TOKENS)
                .max(1),
            stream: memmem::find(head, b"\"stream\":true").is_some(),
            usage: memmem::find(head, b"\"include_usage\":true").is_some(),
            input_tokens: body_bytes / 4 + 1,
        }
    }

    fn usage_json(&self) -> String {
        let (input, output) = (self.input_tokens, self.tokens);
        format!(
            r#"{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}"#,
            input + output
        )
    }
}

fn number_after(text: &[u8], key: &[u8]) -> Option<usize> {
    let digits = text.get(memmem::find(text, key)? + key.len()..)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(
        options.listen.ip().is_loopback(),
        "the mock listens on loopback only"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(options.listen))
}

async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(4096)?;
    let pace = Arc::new(Pace::default());
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(serve_connection(socket, Arc::clone(&pace)));
    }
}

async fn serve_connection(socket: TcpStream, pace: Arc<Pace>) {
    // A client that leaves in the middle is nobody's problem here.
    if socket.set_nodelay(true).is_ok() {
        let _ended = hyper::server::conn::http1::Builder::new()
            .serve_connection(
                TokioIo::new(socket),
                service_fn(|request| answer(request, Arc::clone(&pace))),
            )
            .await;
    }
}

async fn answer(request: Request<Incoming>, pace: Arc<Pace>) -> Result<Answer, Infallible> {
    if request.method() == Method::GET {
        pace.set(request.uri().query().unwrap_or_default());
        return Ok(json("{\"ok\":true}".to_owned()));
    }
    let asked = read(request.into_body()).await;
    if asked.stream {
        return Ok(event_stream(asked, &pace));
    }
    let delay = pace.first_byte();
    if !delay.is_zero() {
        sleep(delay).await;
    }
    Ok(json(completion(&asked)))
}

async fn read(mut body: Incoming) -> Asked {
    let (mut head, mut total) = (Vec::with_capacity(OPTIONS_WITHIN), 0);
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(chunk) = frame.data_ref() {
            total += chunk.len();
            head.extend(chunk.iter().take(OPTIONS_WITHIN - head.len()));
        }
    }
    Asked::read(&head, total)
}

fn completion(asked: &Asked) -> String {
    let words: String = WORDS.iter().copied().cycle().take(asked.tokens).collect();
    let usage = asked.usage_json();
    format!(
        concat!(
            r#"{{"id":"chatcmpl-mock","object":"chat.completion","created":1700000000,"#,
            r#""model":"gpt-4o-mini","system_fingerprint":"fp_mock","choices":[{{"index":0,"#,
            r#""message":{{"role":"assistant","content":"{}","refusal":null}},"#,
            r#""logprobs":null,"finish_reason":"stop"}}],"usage":{}}}"#
        ),
        words, usage
    )
}

fn json(text: String) -> Answer {
    typed(
        "application/json",
        Full::new(Bytes::from(text)).boxed_unsync(),
    )
}

fn typed(content_type: &'static str, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn event_stream(asked: Asked, pace: &Pace) -> Answer {
    let (first, gap) = (Instant::now() + pace.first_byte(), pace.gap());
    let chunks = stream::unfold((asked, 0), move |(asked, index)| async move {
        if index > asked.tokens {
            return None;
        }
        if !gap.is_zero() || index == 0 {
            sleep_until(first + gap * index as u32).await;
        }
        let chunk = Frame::data(Bytes::from(chunk(&asked, index)));
        Some((Ok(chunk), (asked, index + 1)))
    });
    typed(
        "text/event-stream; charset=utf-8",
        StreamBody::new(chunks).boxed_unsync(),
    )
}

/// The chunk at `index`; the one after the last word ends the stream.
fn chunk(asked: &Asked, index: usize) -> String {
    let usage = if asked.usage { ",\"usage\":null" } else { "" };
    if index < asked.tokens {
        let word = match index % 4 {
            0 => stamp(monotonic_ns()),
            _ => WORDS[index % WORDS.len()].to_owned(),
        };
        let role = if index == 0 {
            "\"role\":\"assistant\","
        } else {
            ""
        };
        return format!(
            concat!(
                r#"{}{{"index":0,"delta":{{{}"content":"{}"}},"logprobs":null,"#,
                r#""finish_reason":null}}]{}}}"#,
                "\n\n"
            ),
            CHUNK_HEAD, role, word, usage
        );
    }
    let end = r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}"#;
    let last = if asked.usage {
        format!("{CHUNK_HEAD}],\"usage\":{}}}\n\n", asked.usage_json())
    } else {
        String::new()
    };
    format!("{CHUNK_HEAD}{end}]{usage}}}\n\n{last}data: [DONE]\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_the_head_of_a_request() {
        let asked = Asked::read(br#"{"max_tokens":7,"stream":true,"messages":[]}"#, 400);
        assert_eq!((asked.tokens, asked.stream, asked.usage), (7, true, false));
        assert_eq!(asked.input_tokens, 101);
    }

    #[test]
    fn only_the_last_chunk_ends_the_stream() {
        let asked = Asked {
            tokens: 2,
            stream: true,
            usage: true,
            input_tokens: 1,
        };
        let chunks: Vec<String> = (0..3).map(|index| chunk(&asked, index)).collect();
        assert!(!chunks[1].contains("[DONE]"));
        assert!(chunks[2].contains("\"completion_tokens\":2") && chunks[2].ends_with("[DONE]\n\n"));
    }

    #[test]
    fn every_json_chunk_is_valid_json() {
        let asked = Asked {
            tokens: 5,
            stream: true,
            usage: true,
            input_tokens: 1,
        };
        let text: String = (0..=5).map(|index| chunk(&asked, index)).collect();
        for line in text.lines().filter(|line| line.starts_with("data: {")) {
            serde_json::from_str::<serde_json::Value>(&line[6..]).unwrap();
        }
        serde_json::from_str::<serde_json::Value>(&completion(&asked)).unwrap();
    }
}
