//! The listener of a replay.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::LengthLimitError;
use serde::Serialize;
use strum::{EnumString, VariantNames};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::MAX_BODY;
use super::asked::{self, Request};
use super::live::{Going, Live};
use super::play::{self, Speed, Taken};
use super::progress::{Progress, Rules, Step};
use super::tape::Tape;
use crate::core::id::{CallId, Label};
use crate::core::redaction::Redaction;
use crate::proxy::headers;
use crate::proxy::tags::{Tagged, take_tags};
use crate::wire::refusal::{RefusalText, body};
use crate::wire::route::route;

const DEPARTED: &str = "replay_departed";
const TOO_LARGE: &str = "body_too_large";
const UNCHANGED: &str = "replay_model_unchanged";
/// How often a client has tried before, as its SDK says.
const RETRY_COUNT: &str = "x-stainless-retry-count";

/// What becomes of a request that is not on the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum OnDivergence {
    /// It is refused, and says why.
    #[default]
    Stop,
    /// It goes on live, through the proxy.
    Forward,
    /// It is answered by the recorded call it comes nearest to.
    Nearest,
}

/// How to replay.
#[derive(Clone, Debug)]
pub struct Options {
    pub speed: Speed,
    pub on_divergence: OnDivergence,
    /// Only requests whose body is the same, byte by byte, are played.
    pub is_strict: bool,
    /// The first call, from 0, that is not played: what asks for it or a later one goes live.
    pub fork_at: Option<usize>,
    /// Calls are played any number of times.
    pub repeats: bool,
    /// What recorded requests went through, new ones go through before they are compared.
    pub redaction: Redaction,
    pub live: Option<Live>,
}

/// How a replay went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub run: Label,
    /// Recorded calls.
    pub calls: usize,
    /// Those that cannot be played.
    pub unplayable: usize,
    pub played: usize,
    /// Of these, those that were asked for with other times or ids.
    pub changed: usize,
    /// Answers that were given once more.
    pub repeated: u32,
    /// Calls that went live.
    pub live: usize,
    /// The run that those are of.
    pub live_run: Option<Label>,
    /// Requests that were refused.
    pub refused: usize,
    /// Recorded calls before the fork that could be played and were not, the earliest first.
    pub unplayed: Vec<CallId>,
    pub departure: Option<DepartureView>,
}

/// Where the program first departed from the record.
#[derive(Clone, Debug, Serialize)]
pub struct DepartureView {
    /// The number of the recorded call, from 1; null when all were played.
    pub call: Option<usize>,
    pub id: Option<CallId>,
    /// In words, with both sides.
    pub told: String,
}

/// A replay that listens until it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    tape: Tape,
    options: Options,
    progress: Mutex<Progress>,
    told: Box<dyn Fn(&str) + Send + Sync>,
}

impl Server {
    /// `told` hears of the first departure from the record.
    pub async fn start(
        (mut tape, options): (Tape, Options),
        listen: SocketAddr,
        told: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        for call in &mut tape.calls {
            // A rule may be newer than the record.
            call.request.decode();
            call.request.redact(&options.redaction);
        }
        let asked = asked::all(tape.calls.iter().map(|call| &call.request));
        let replies = tape.calls.iter().map(|call| call.reply.as_ref());
        let unplayable: Vec<Option<String>> = replies.map(|it| it.err().cloned()).collect();
        let progress = Progress::new(asked, &unplayable, options.is_strict);
        let shared = Arc::new(Shared {
            progress: Mutex::new(progress),
            tape,
            options,
            told: Box::new(told),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            // It ends with the process, or when it is dropped.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            shared,
            serving,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn report(&self) -> Report {
        let Shared { tape, options, .. } = self.shared.as_ref();
        let progress = self.shared.progress();
        let live_run = options.live.as_ref().map(|live| live.run.clone());
        let unplayed = progress.unplayed(options.fork_at.unwrap_or(usize::MAX));
        Report {
            run: tape.run.clone(),
            calls: tape.calls.len(),
            unplayable: tape.calls.len() - tape.playable(),
            played: progress.played(),
            changed: progress.changed(),
            repeated: progress.repeated(),
            live: progress.live,
            live_run: live_run.filter(|_| progress.live > 0),
            refused: progress.refused,
            unplayed: unplayed
                .filter_map(|at| tape.calls.get(at))
                .map(|call| call.id)
                .collect(),
            departure: progress.departure.clone(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let tagged = take_tags(parts.uri.path());
    let mut request = Request {
        method: parts.method,
        path: tagged.rest.to_owned(),
        query: asked::query(parts.uri.query()),
        agent: agent(&tagged, &parts.headers),
        encoding: encoding(&parts.headers),
        body: bytes::Bytes::new(),
    };
    let body = match to_bytes(body, MAX_BODY).await {
        Ok(body) => body,
        Err(error) => return unread(&request, &error),
    };
    request.body = body.clone();
    request.decode();
    request.redact(&shared.options.redaction);
    match shared.decide(&request, is_retry(&parts.headers)) {
        (Step::Play(at), _) => play(&shared, at).await,
        (Step::Stop, told) => refusal(&request, (StatusCode::CONFLICT, DEPARTED), &told),
        (Step::Live, _) => {
            request.body = body;
            let going = Going {
                request,
                tagged: &tagged,
                query: parts.uri.query(),
                headers: parts.headers,
            };
            shared.go_live(going).await
        }
    }
}

async fn play(shared: &Arc<Shared>, at: usize) -> Response {
    let call = shared.tape.calls.get(at);
    let Some((Ok(reply), id)) = call.map(|call| (&call.reply, call.id)) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let back = Arc::clone(shared);
    let taken = Taken::new(move || back.progress().give_back(at));
    play::play(reply, &id.to_string(), shared.options.speed, taken).await
}

fn is_retry(headers: &HeaderMap) -> bool {
    let count = headers.get(RETRY_COUNT).and_then(|it| it.to_str().ok());
    count
        .and_then(|count| count.parse::<u32>().ok())
        .is_some_and(|count| count > 0)
}

/// Too long, or broken off by a client that does not wait for an answer.
fn unread(request: &Request, error: &axum::Error) -> Response {
    let is_long = matches!(error.source(), Some(source) if source.is::<LengthLimitError>());
    if !is_long {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let told = format!("a request to a replay has {MAX_BODY} bytes at most");
    refusal(request, (StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE), &told)
}

/// Who asks, as far as that is said.
fn agent(tagged: &Tagged<'_>, headers: &HeaderMap) -> Option<Label> {
    let header = headers.get(headers::AGENT).and_then(|it| it.to_str().ok());
    let said = tagged.agent.as_deref().or(header)?;
    Label::parse(said).ok()
}

fn encoding(headers: &HeaderMap) -> Option<String> {
    let encoding = headers.get(CONTENT_ENCODING)?.to_str().ok()?;
    Some(encoding.to_owned())
}

/// An error that clients raise at once instead of asking again.
fn refusal(request: &Request, (status, code): (StatusCode, &str), message: &str) -> Response {
    let dialect = route(&request.method, &request.path).dialect;
    let text = RefusalText { message, code };
    let mut response = Response::new(Body::from(body(dialect, text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(headers::SHOULD_RETRY, HeaderValue::from_static("false"));
    response
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the words for a request that departs from the record. They are found and told while
    /// other requests go on.
    fn decide(&self, request: &Request, is_retry: bool) -> (Step, String) {
        let asked = request.asked();
        let rules = Rules {
            on_divergence: self.options.on_divergence,
            fork_at: self.options.fork_at,
            repeats: self.options.repeats,
        };
        let (step, departure) = self.progress().decide(&asked, is_retry, rules);
        let Some((departure, is_first)) = departure else {
            return (step, String::new());
        };
        let told = asked::told(&self.tape, &departure, request);
        if is_first {
            let call = departure.call.and_then(|at| self.tape.calls.get(at));
            self.progress().departure = Some(DepartureView {
                call: departure.call.map(|at| at + 1),
                id: call.map(|call| call.id),
                told: told.clone(),
            });
            (self.told)(&told);
        }
        (step, told)
    }

    async fn go_live(&self, going: Going<'_>) -> Response {
        let request = Request {
            body: bytes::Bytes::new(),
            ..going.request.clone()
        };
        let sent = match &self.options.live {
            Some(live) => live.send(going).await,
            None => Err("there is no proxy to go live through".to_owned()),
        };
        sent.unwrap_or_else(|told| {
            self.progress().was_refused();
            refusal(
                &request,
                (StatusCode::UNPROCESSABLE_ENTITY, UNCHANGED),
                &told,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[tokio::test]
    async fn request_that_is_too_long_is_an_error_of_its_api_and_a_broken_one_is_not_that() {
        let request = Request {
            method: Method::POST,
            path: "/v1/messages".to_owned(),
            agent: None,
            encoding: None,
            query: String::new(),
            body: bytes::Bytes::new(),
        };
        let error = to_bytes(Body::from("too long"), 3).await.unwrap_err();
        let response = unread(&request, &error);
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let told = to_bytes(response.into_body(), 4096).await.unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["type"], "error");
        assert_eq!(told["error"]["code"], TOO_LARGE);
        let broken = unread(&request, &axum::Error::new(io::Error::other("gone")));
        assert_eq!(broken.status(), StatusCode::BAD_REQUEST);
    }
}
