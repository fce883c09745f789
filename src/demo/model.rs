//! The scripted model: an upstream on loopback that streams chat completions.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::routing::post;
use axum::{Json, Router};
use futures_util::Stream;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Pace;
use super::reply::{self, Reply};

/// Characters for a token, about: what the model bills by.
const PER_TOKEN: usize = 4;

/// Listens until it is dropped.
pub(super) struct Model {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Model {
    pub(super) async fn start(pace: Pace) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .with_state(pace);
        let serving = tokio::spawn(async move {
            // It ends with the process.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, serving })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn complete(
    State(pace): State<Pace>,
    Json(request): Json<Value>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let events = chunks(serial, &request);
    let paced = stream::unfold(
        events.into_iter().enumerate(),
        move |mut events| async move {
            let (index, event) = events.next()?;
            tokio::time::sleep(if index == 0 { pace.think } else { pace.word }).await;
            Some((Ok(Event::default().data(event)), events))
        },
    );
    Sse::new(paced)
}

/// All events of the answer to a request.
fn chunks(serial: u64, request: &Value) -> Vec<String> {
    let id = format!("chatcmpl-demo{serial:06}");
    let chunk = |delta: Value, finish: Value, usage: Value| {
        json!({
            "id": id, "object": "chat.completion.chunk", "created": 1_790_000_000,
            "model": request["model"], "usage": usage,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        })
    };
    let Reply { text, tool } = reply::to(request);
    let mut events = vec![chunk(
        json!({"role": "assistant"}),
        Value::Null,
        Value::Null,
    )];
    for word in text.split_inclusive(' ') {
        events.push(chunk(json!({"content": word}), Value::Null, Value::Null));
    }
    let mut written = text.len();
    if let Some((name, arguments)) = &tool {
        let arguments = arguments.to_string();
        written += name.len() + arguments.len();
        let call = json!({
            "index": 0, "id": format!("call_{serial:06}"), "type": "function",
            "function": {"name": name, "arguments": arguments},
        });
        events.push(chunk(
            json!({"tool_calls": [call]}),
            Value::Null,
            Value::Null,
        ));
    }
    let finish = if tool.is_some() { "tool_calls" } else { "stop" };
    events.push(chunk(json!({}), finish.into(), Value::Null));
    let mut last = chunk(json!({}), Value::Null, usage(request, written));
    last["choices"] = json!([]);
    events.push(last);
    events
        .into_iter()
        .map(|event| event.to_string())
        .chain(["[DONE]".to_owned()])
        .collect()
}

/// What is billed: the history but its newest message came from the cache.
fn usage(request: &Value, written: usize) -> Value {
    let messages = request["messages"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let size = |messages: &[Value]| -> usize {
        messages
            .iter()
            .map(|message| message.to_string().len() / PER_TOKEN + 1)
            .sum()
    };
    let known = messages.len().saturating_sub(2);
    let input = size(messages) + request["tools"].to_string().len() / PER_TOKEN;
    let cached = if known > 1 {
        size(messages.get(..known).unwrap_or_default())
    } else {
        0
    };
    let output = written / PER_TOKEN + 1;
    json!({
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    })
}
