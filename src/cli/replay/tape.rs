//! The tape of a run, read by the same API as everything else.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue, Method};

use super::super::source::{self, Source};
use super::super::{Common, Failure, command};
use crate::admin::params::CallParams;
use crate::admin::view::{BodyView, CallDetail, CallList, CallView, ChunkView};
use crate::core::call::Operation;
use crate::core::id::{CallId, Label};
use crate::core::recorded::Level;
use crate::replay::asked::Request;
use crate::replay::tape::{Call, MAX_BYTES, MAX_CALLS, Reply, Tape};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Of the connection, or told by the body.
const NOT_PLAYED: [HeaderName; 7] = [
    CONNECTION,
    TRANSFER_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    DATE,
    KEEP_ALIVE,
];

/// Everything that was recorded of a run.
pub(super) fn load(common: &Common, run: &Label) -> Result<Tape, Failure> {
    let (runtime, source) = command::open(common)?;
    runtime.block_on(loaded(&source, run))
}

async fn loaded(source: &Source, run: &Label) -> Result<Tape, Failure> {
    let listed = calls(source, run).await?;
    if listed.is_empty() {
        return Err(Failure::Negative(format!(
            "no call of a run {run} is recorded: `open-aiops runs` lists those that are"
        )));
    }
    let (mut calls, mut bytes) = (Vec::new(), 0);
    for id in listed {
        let (call, len) = call(source, id).await?;
        bytes += len;
        if bytes > MAX_BYTES {
            return Err(Failure::Impossible(format!(
                "the bodies of run {run} have more than {MAX_BYTES} bytes, which is the most that is replayed"
            )));
        }
        calls.push(call);
    }
    let tape = Tape {
        run: run.clone(),
        calls,
    };
    Ok(tape)
}

/// The calls of a run, the earliest first.
async fn calls(source: &Source, run: &Label) -> Result<Vec<CallId>, Failure> {
    let mut params = CallParams {
        run: Some(run.clone()),
        ..CallParams::default()
    };
    let mut calls: Vec<CallView> = Vec::new();
    loop {
        let page: CallList = source::parse(&source.list("/api/v1/calls", &params).await?)?;
        calls.extend(page.calls);
        if calls.len() > MAX_CALLS {
            return Err(Failure::Impossible(format!(
                "run {run} has more than {MAX_CALLS} calls, which is the most that is replayed"
            )));
        }
        match page.next {
            Some(next) => params.before = Some(next),
            None => break,
        }
    }
    calls.sort_by_key(|call| (call.started_at, call.id));
    Ok(calls.into_iter().map(|call| call.id).collect())
}

/// A call, and the bytes of its bodies.
async fn call(source: &Source, id: CallId) -> Result<(Call, usize), Failure> {
    let path = |side: &str| format!("/api/v1/calls/{id}{side}");
    let gone = || Failure::Impossible(format!("call {id} is no longer recorded"));
    let detail = source.get(&path("")).await?.ok_or_else(gone)?;
    let detail: CallDetail = source::parse(&detail)?;
    let request = source.get(&path("/request")).await?.unwrap_or_default();
    let response = source.get(&path("/response")).await?.unwrap_or_default();
    let chunks = source.get(&path("/chunks")).await?.ok_or_else(gone)?;
    let chunks: Vec<ChunkView> = source::parse(&chunks)?;
    let len = request.len() + response.len();
    let call = &detail.call;
    let path = call.target.split('?').next().unwrap_or_default();
    let reply = match why_not(&detail) {
        Some(why) => Err(why),
        None => Ok(reply(&detail, &response, &chunks)),
    };
    let call = Call {
        id,
        agent: call.agent.clone(),
        upstream: call.upstream.clone(),
        model: call.request_model.clone(),
        request: Request {
            method: call.method.parse().unwrap_or(Method::POST),
            path: path.to_owned(),
            agent: Some(call.agent.clone()),
            body: request,
        },
        reply,
    };
    Ok((call, len))
}

/// Why a call cannot be played.
fn why_not(detail: &CallDetail) -> Option<String> {
    let call = &detail.call;
    let lacks = |body: Option<&BodyView>, bytes: u64| bytes > 0 && body.is_none();
    let is_cut = |body: Option<&BodyView>| body.is_some_and(|body| body.truncated);
    let (request, response) = (detail.request_body.as_ref(), detail.response_body.as_ref());
    if call.operation == Operation::WebSocket {
        Some("it is a connection of its own, which is not recorded".to_owned())
    } else if call.outcome == "open" {
        Some("it is still running".to_owned())
    } else if call.status.is_none() {
        Some(format!("it had no answer: {}", call.outcome))
    } else if lacks(request, call.request_bytes) || lacks(response, call.response_bytes) {
        Some(match detail.kept {
            Some(kept) if kept.by_client => {
                "its client asked by x-aiops-record that bodies are not kept".to_owned()
            }
            Some(kept) if kept.level != Level::Full => {
                let level: &str = kept.level.into();
                format!(
                    "its bodies were not kept, as record = \"{level}\" in [ledger] says: \"full\" keeps them"
                )
            }
            _ => "a body of it was not recorded".to_owned(),
        })
    } else if is_cut(request) || is_cut(response) {
        Some("a body of it is longer than max_body in [ledger] keeps".to_owned())
    } else {
        None
    }
}

fn reply(detail: &CallDetail, body: &Bytes, chunks: &[ChunkView]) -> Reply {
    let call = &detail.call;
    let marks = chunks.iter().map(|mark| {
        let len = usize::try_from(mark.len).unwrap_or(usize::MAX);
        (u64::from(mark.gap_us), len)
    });
    Reply {
        status: call.status.unwrap_or_default(),
        headers: headers(detail),
        head_us: call.head_us.unwrap_or_default(),
        chunks: Reply::pieces(body, marks),
        is_cut: matches!(
            call.outcome.as_str(),
            "upstream_cut" | "client_gone" | "cut" | "recovered"
        ),
    }
}

/// As they were, as far as they are kept whole; of the body as it is stored.
fn headers(detail: &CallDetail) -> Vec<(HeaderName, HeaderValue)> {
    let kept = detail.response_headers.iter().flat_map(|all| &all.headers);
    let kept = kept.filter_map(|header| {
        let value = header.value.as_ref()?;
        let is_whole = value.len() as u64 == header.len;
        let name: HeaderName = header.name.parse().ok()?;
        let is_played = is_whole && !NOT_PLAYED.contains(&name);
        is_played.then(|| Some((name, HeaderValue::try_from(value).ok()?)))?
    });
    let body = detail.response_body.as_ref();
    let of_body = [
        (
            CONTENT_TYPE,
            body.and_then(|body| body.content_type.as_ref()),
        ),
        (
            CONTENT_ENCODING,
            body.and_then(|body| body.content_encoding.as_ref()),
        ),
    ];
    let of_body = of_body
        .into_iter()
        .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value?).ok()?)));
    kept.chain(of_body).collect()
}
