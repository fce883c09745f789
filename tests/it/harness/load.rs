//! Calls without an end, streamed and not, until the proxy goes away; and what must be recorded of
//! those that were answered to their end.

use std::net::SocketAddr;

use super::answer::{json, sse};
use super::ask::post;
use super::client::Client;
use super::records;
use super::upstream::Upstream;

const ANSWER: &str = r#"{"id":"chatcmpl-1","model":"gpt-4o-mini","choices":[{"index":0,
    "message":{"role":"assistant","content":"Hello"}}],
    "usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}"#;
const EVENTS: [&str; 3] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}\n\n",
    "data: [DONE]\n\n",
];

/// A call that its client saw answered.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) id: String,
    pub(crate) streamed: bool,
    request: String,
}

pub(crate) async fn upstream() -> Upstream {
    Upstream::with(|_, request| {
        if request.text().contains("\"stream\":true") {
            sse(EVENTS)
        } else {
            json(ANSWER)
        }
    })
    .await
}

/// Numbers that look random and are the same in every run.
pub(crate) fn scattered(number: usize) -> usize {
    number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 23
}

/// Calls one after the other until the proxy is gone; tells of each answered one.
pub(crate) async fn keep_calling(
    address: SocketAddr,
    client: usize,
    mut told: impl FnMut(Answered),
) {
    for turn in 0.. {
        let Some(answered) = attempt(address, client, turn).await else {
            return;
        };
        told(answered);
    }
}

/// One call; none if it was not answered completely.
async fn attempt(address: SocketAddr, client: usize, turn: usize) -> Option<Answered> {
    let streamed = (client + turn).is_multiple_of(2);
    // One message that every call of a client repeats, and one of its own.
    let (old, new) = ("as before, ".repeat(20), noise(client * 1000 + turn));
    let request = format!(
        "{{\"model\":\"gpt-4o-mini\",\"stream\":{streamed},\"messages\":[\
         {{\"role\":\"user\",\"content\":\"client {client} {old}\"}},\
         {{\"role\":\"user\",\"content\":\"turn {turn} {new}\"}}]}}"
    );
    let mut client = Client::try_connect(address).await?;
    let response = client
        .try_call(&post("/v1/chat/completions", &request))
        .await?;
    let whole = response.body.done && !response.cut && response.status() == 200;
    whole.then(|| Answered {
        id: response.call(),
        streamed,
        request,
    })
}

/// Text that does not compress to nothing.
fn noise(seed: usize) -> String {
    let numbers = (0..150).map(|n| scattered(seed * 1000 + n));
    numbers
        .flat_map(|n| n.to_string().into_bytes())
        .map(char::from)
        .collect()
}

/// Looks for every answered call: settled by what it used or, where the end came in between, by
/// its estimate; its request kept byte for byte.
pub(crate) async fn check(admin: SocketAddr, answered: &[Answered]) {
    for Answered { id, request, .. } in answered {
        let record = records::settled(admin, id).await;
        let tokens = (record.input_tokens(), record.output_tokens());
        match record.outcome() {
            "completed" => assert_eq!(tokens, (11, 7), "{id}"),
            outcome => assert_eq!(outcome, "recovered", "{id}"),
        }
        assert_eq!(record.text("/id"), id);
        let kept = record.body("request").await;
        assert_eq!(kept.as_deref(), Some(request.as_bytes()), "{id}");
    }
}
