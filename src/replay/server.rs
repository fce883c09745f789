//! The listener of a replay.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use strum::{EnumString, VariantNames};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::asked::{self, Request};
use super::live::Live;
use super::play::{self, Speed};
use super::tape::{Call, Tape};
use crate::core::id::{CallId, Label};
use crate::core::replay::{Deck, Departure};
use crate::proxy::headers;
use crate::proxy::tags::{Tagged, take_tags};
use crate::wire::refusal::{RefusalText, body};
use crate::wire::route::route;

/// A longer request is refused.
const MAX_BODY: usize = 64 << 20;
const DEPARTED: &str = "replay_departed";

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
    /// The first call, from 0, that is not played: what asks for it or a later one goes live.
    pub fork_at: Option<usize>,
    pub live: Option<Live>,
}

/// How a replay went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub run: Label,
    /// Recorded calls.
    pub calls: usize,
    pub played: usize,
    /// Calls that went live.
    pub live: usize,
    /// The run that those are of.
    pub live_run: Option<Label>,
    /// Requests that were refused.
    pub refused: usize,
    /// Recorded calls that were not played, the earliest first.
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
    state: Mutex<Progress>,
    told: Box<dyn Fn(&str) + Send + Sync>,
}

#[derive(Default)]
struct Progress {
    deck: Deck,
    played: Vec<bool>,
    live: usize,
    refused: usize,
    departure: Option<DepartureView>,
}

/// What is done with a request.
enum Step {
    Play(usize),
    /// With the recorded call it stands for.
    Live(Option<usize>),
    Stop(String),
}

impl Server {
    /// `told` hears of the first departure from the record.
    pub async fn start(
        (tape, options): (Tape, Options),
        listen: SocketAddr,
        told: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let asked = tape.calls.iter().map(|call| call.request.asked()).collect();
        let is_playable = |at: usize| tape.calls.get(at).is_some_and(|call| call.reply.is_ok());
        let state = Progress {
            deck: Deck::new(asked, is_playable),
            played: vec![false; tape.calls.len()],
            ..Progress::default()
        };
        let shared = Arc::new(Shared {
            tape,
            options,
            state: Mutex::new(state),
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
        let (tape, state) = (&self.shared.tape, self.shared.state());
        let left = tape.calls.iter().zip(&state.played);
        let live = self.shared.options.live.as_ref();
        Report {
            run: tape.run.clone(),
            calls: tape.calls.len(),
            played: state.played.iter().filter(|played| **played).count(),
            live: state.live,
            live_run: live.map(|live| live.run.clone()).filter(|_| state.live > 0),
            refused: state.refused,
            unplayed: left
                .filter(|(_, played)| !**played)
                .map(|(call, _)| call.id)
                .collect(),
            departure: state.departure.clone(),
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
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        let told = format!("a request to a replay has {MAX_BODY} bytes at most\n");
        return (StatusCode::PAYLOAD_TOO_LARGE, told).into_response();
    };
    let tagged = take_tags(parts.uri.path());
    let request = Request {
        method: parts.method,
        path: tagged.rest.to_owned(),
        agent: agent(&tagged, &parts.headers),
        body,
    };
    match shared.decide(&request) {
        Step::Play(at) => shared.play(at).await,
        Step::Live(at) => {
            let upstream = at.or_else(|| shared.tape.calls.len().checked_sub(1));
            let upstream = upstream.and_then(|at| shared.tape.calls.get(at));
            let upstream = upstream.map(|call| &call.upstream);
            match &shared.options.live {
                Some(live) => {
                    let to = (parts.headers, upstream);
                    live.send(request, parts.uri.query(), to).await
                }
                None => refusal(&request, "there is no proxy to go live through"),
            }
        }
        Step::Stop(told) => refusal(&request, &told),
    }
}

/// Who asks, as far as that is said.
fn agent(tagged: &Tagged<'_>, headers: &HeaderMap) -> Option<Label> {
    let header = headers.get(headers::AGENT).and_then(|it| it.to_str().ok());
    let said = tagged.agent.as_deref().or(header)?;
    Label::parse(said).ok()
}

/// An error that clients raise at once instead of asking again.
fn refusal(request: &Request, message: &str) -> Response {
    let dialect = route(&request.method, &request.path).dialect;
    let text = RefusalText {
        message,
        code: DEPARTED,
    };
    let mut response = Response::new(Body::from(body(dialect, text)));
    *response.status_mut() = StatusCode::CONFLICT;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(headers::SHOULD_RETRY, HeaderValue::from_static("false"));
    response
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, request: &Request) -> Step {
        let asked = request.asked();
        let fork_at = self.options.fork_at.unwrap_or(usize::MAX);
        let mut state = self.state();
        let departure = match state.deck.take(&asked) {
            Ok(at) if at < fork_at => {
                state.has_played(at);
                return Step::Play(at);
            }
            Ok(at) => {
                state.live += 1;
                return Step::Live(Some(at));
            }
            Err(departure) => departure,
        };
        // Behind the fork nothing needs to be as it was.
        let is_behind = departure.call.is_none_or(|at| at >= fork_at) || state.live > 0;
        if self.options.fork_at.is_some() && is_behind {
            state.live += 1;
            return Step::Live(departure.call);
        }
        let told = self.depart(&mut state, departure, request);
        match (self.options.on_divergence, departure.call) {
            (OnDivergence::Nearest, Some(at)) => {
                state.deck.play(at);
                state.has_played(at);
                Step::Play(at)
            }
            (OnDivergence::Forward, at) => {
                state.live += 1;
                Step::Live(at)
            }
            _ => {
                state.refused += 1;
                Step::Stop(told)
            }
        }
    }

    /// Says where the program departs, and keeps the first.
    fn depart(&self, state: &mut Progress, departure: Departure, now: &Request) -> String {
        let call = departure.call.and_then(|at| self.tape.calls.get(at));
        let what = asked::told(departure.difference, call.map(|call| &call.request), now);
        let run = &self.tape.run;
        let told = match (departure.call, call) {
            (Some(at), Some(Call { id, agent, .. })) => {
                let (number, all) = (at + 1, self.tape.calls.len());
                format!(
                    "the program departs from run {run} at call {number} of {all} ({id}, {agent}): {what}"
                )
            }
            _ => format!("the program departs from run {run} at its end: {what}"),
        };
        if state.departure.is_none() {
            (self.told)(&told);
            state.departure = Some(DepartureView {
                call: departure.call.map(|at| at + 1),
                id: call.map(|call| call.id),
                told: told.clone(),
            });
        }
        told
    }

    async fn play(&self, at: usize) -> Response {
        let call = self.tape.calls.get(at);
        match call.map(|call| (&call.reply, call.id)) {
            Some((Ok(reply), id)) => play::play(reply, &id.to_string(), self.options.speed).await,
            _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

impl Progress {
    fn has_played(&mut self, at: usize) {
        if let Some(played) = self.played.get_mut(at) {
            *played = true;
        }
    }
}
