//! The tape of a run, read by the same API as everything else.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue, Method};

use super::super::source::{self, Source};
use super::super::{Common, Failure, command};
use crate::admin::params::CallParams;
use crate::admin::view::{BodyView, CallDetail, CallList, CallView, ChunkView};
use crate::config::Config;
use crate::core::call::Operation;
use crate::core::id::{CallId, Label};
use crate::core::recorded::Level;
use crate::replay::as_given;
use crate::replay::asked::{self, Request};
use crate::replay::tape::{Call, MAX_BYTES, MAX_CALLS, Reply, Tape};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Of the connection, or told by the body.
const NOT_PLAYED: [HeaderName; 6] = [
    CONNECTION,
    TRANSFER_ENCODING,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    DATE,
    KEEP_ALIVE,
];
/// Calls that are read at a time.
const AT_ONCE: usize = 8;
/// How a refusal begins that ended an answer within.
const OURS: &str = "open-aiops: ";

/// Everything that was recorded of a run.
pub(super) fn load(common: &Common, run: &Label) -> Result<Tape, Failure> {
    let (runtime, source) = command::open(common)?;
    let config = command::load(common).map(|(config, _)| config);
    runtime.block_on(loaded(&source, run, &config.unwrap_or_default()))
}

async fn loaded(source: &Source, run: &Label, config: &Config) -> Result<Tape, Failure> {
    let listed = calls(source, run).await?;
    if listed.is_empty() {
        return Err(Failure::Negative(format!(
            "no call of a run {run} is recorded: `open-aiops runs` lists those that are"
        )));
    }
    let on_wire = listed
        .iter()
        .map(|call| call.request_bytes + call.response_bytes);
    has_room(run, on_wire.sum())?;
    let reads = listed.iter().map(|listed| call(source, listed.id, config));
    let mut reads = stream::iter(reads).buffered(AT_ONCE);
    // What was stored decoded is longer than it was.
    let (mut calls, mut bytes) = (Vec::new(), 0);
    while let Some(read) = reads.next().await {
        let (call, len) = read?;
        bytes += len;
        has_room(run, bytes)?;
        calls.push(call);
    }
    let tape = Tape {
        run: run.clone(),
        calls,
    };
    Ok(tape)
}

fn has_room(run: &Label, bytes: u64) -> Result<(), Failure> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(Failure::Impossible(format!(
        "the bodies of run {run} have more than {MAX_BYTES} bytes, which is the most that is replayed"
    )))
}

/// The calls of a run, the earliest first.
async fn calls(source: &Source, run: &Label) -> Result<Vec<CallView>, Failure> {
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
    Ok(calls)
}

/// A call, and the bytes of its bodies.
async fn call(source: &Source, id: CallId, config: &Config) -> Result<(Call, u64), Failure> {
    let path = |side: &str| format!("/api/v1/calls/{id}{side}");
    let gone = || Failure::Impossible(format!("call {id} is no longer recorded"));
    let detail = source.get(&path("")).await?.ok_or_else(gone)?;
    let detail: CallDetail = source::parse(&detail)?;
    let body = async |side: &str, is_there: bool| {
        if !is_there {
            return Ok::<Bytes, Failure>(Bytes::new());
        }
        source.get(&path(side)).await?.ok_or_else(gone)
    };
    let request = body("/request", detail.request_body.is_some()).await?;
    let why_not = why_not(&detail);
    let response = body(
        "/response",
        why_not.is_none() && detail.response_body.is_some(),
    )
    .await?;
    let chunks = if response.is_empty() {
        Vec::new()
    } else {
        source::parse(&source.get(&path("/chunks")).await?.ok_or_else(gone)?)?
    };
    let len = (request.len() + response.len()) as u64;
    let call = &detail.call;
    let (path, query) = match call.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (call.target.as_str(), None),
    };
    let request = Request {
        method: call.method.parse().unwrap_or(Method::POST),
        path: path.to_owned(),
        query: asked::query(query),
        agent: Some(call.agent.clone()),
        encoding: detail
            .request_body
            .as_ref()
            .and_then(|body| body.content_encoding.clone()),
        body: request,
    };
    let reply = match why_not {
        Some(why) => Err(why),
        None if asks_for_usage(config, &call.upstream) => {
            Ok(as_given(&request, reply(&detail, &response, &chunks)))
        }
        None => Ok(reply(&detail, &response, &chunks)),
    };
    let call = Call {
        id,
        agent: call.agent.clone(),
        model: call.request_model.clone(),
        request,
        reply,
    };
    Ok((call, len))
}

/// As it is now: what it was then is not recorded.
fn asks_for_usage(config: &Config, upstream: &Label) -> bool {
    let known = config.upstreams.iter().find(|it| it.name == *upstream);
    config.accounting.ask_for_usage && known.is_none_or(|it| it.ask_for_usage)
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
    } else if let Some(why) = not_answered(call) {
        Some(why)
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

/// Why there is no answer of an upstream, or no end of it: what the proxy says by itself is not recorded.
fn not_answered(call: &CallView) -> Option<String> {
    let error = call.error.as_deref().unwrap_or("nothing says why");
    match call.outcome.as_str() {
        "upstream_unavailable" => Some(format!("no upstream answered it: {error}")),
        "rejected" => Some(format!("the proxy rejected it: {error}")),
        "cut" if error.starts_with(OURS) => {
            Some(format!("it was ended within its answer: {error}"))
        }
        outcome if call.status.is_none() => Some(format!("it had no answer: {outcome}")),
        _ => None,
    }
}

fn reply(detail: &CallDetail, body: &Bytes, chunks: &[ChunkView]) -> Reply {
    let call = &detail.call;
    let marks = chunks.iter().map(|mark| {
        let len = usize::try_from(mark.len).unwrap_or(usize::MAX);
        (u64::from(mark.gap_us), len)
    });
    let is_changed = detail.response_body.as_ref().is_some_and(|it| it.changed);
    let chunks = if is_changed {
        // The pieces are those of other bytes. It comes when the last of them did.
        let gaps = chunks.iter().map(|mark| u64::from(mark.gap_us));
        vec![(gaps.sum(), body.clone())]
    } else {
        Reply::pieces(body, marks)
    };
    let is_cut = matches!(
        call.outcome.as_str(),
        "upstream_cut" | "client_gone" | "cut" | "recovered"
    );
    Reply {
        status: call.status.unwrap_or_default(),
        headers: headers(detail, body, is_cut),
        head_us: call.head_us.unwrap_or_default(),
        chunks,
        is_cut,
    }
}

/// As they were, as far as they are kept whole; of the body as it is stored.
fn headers(detail: &CallDetail, body: &Bytes, is_cut: bool) -> Vec<(HeaderName, HeaderValue)> {
    let is_length = |value: &str| is_cut || value.parse() == Ok(body.len());
    let kept = detail.response_headers.iter().flat_map(|all| &all.headers);
    let kept = kept.filter_map(|header| {
        let value = header.value.as_ref()?;
        let is_whole = value.len() as u64 == header.len;
        let name: HeaderName = header.name.parse().ok()?;
        let is_true = name != CONTENT_LENGTH || is_length(value);
        let is_played = is_whole && is_true && !NOT_PLAYED.contains(&name);
        is_played.then(|| Some((name, HeaderValue::try_from(value).ok()?)))?
    });
    let stored = detail.response_body.as_ref();
    let of_body = [
        (
            CONTENT_TYPE,
            stored.and_then(|body| body.content_type.as_ref()),
        ),
        (
            CONTENT_ENCODING,
            stored.and_then(|body| body.content_encoding.as_ref()),
        ),
    ];
    let of_body = of_body
        .into_iter()
        .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value?).ok()?)));
    kept.chain(of_body).collect()
}
