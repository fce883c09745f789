//! Who may come in: whoever shows the admin token, or a session that began with it.
//!
//! Without a token in the configuration everybody may who passes the guard. Of sessions and of what is
//! compared only hashes are kept here, and hashes of [`blake3`] are compared in constant time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use blake3::Hash;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Uri};
use utoipa::Modify;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::connections::Peer;
use super::problem::Problem;
use super::{AdminState, guard, login};
use crate::config::Secret;
use crate::core::alert::throttle::Throttle;
use crate::core::time::Timestamp;

/// Of one session, in seconds.
pub(super) const SESSION_SECONDS: u64 = 7 * 86_400;
/// Sessions at once; beyond it the oldest ends.
const MAX_SESSIONS: usize = 1000;
/// Wrong tokens that one client may enter at the login within [`TRY_SECONDS`].
const MAX_TRIES: usize = 10;
const TRY_SECONDS: u64 = 60;
/// Clients whose wrong tokens are counted; beyond it the one that was wrong longest ago is forgotten.
const MAX_CLIENTS: usize = 1024;
/// Lines of the log about wrong tokens, in any minute.
const LINES: usize = 6;
/// Cookies of the right name that are looked at: browsers send one.
const MAX_COOKIES: usize = 4;
const MICROS: u64 = 1_000_000;

const COOKIE: &str = "aiops_session";
const BEARER: &str = "Bearer ";
const CHALLENGE: &str = "Bearer realm=\"open-aiops\"";

/// What is known of those who came in. Lost with the process, which ends all sessions.
#[derive(Default)]
pub struct Access(Mutex<Known>);

struct Known {
    /// Of the token that all sessions began with.
    token: Option<Hash>,
    /// Oldest first.
    sessions: VecDeque<Session>,
    /// When each client entered wrong tokens, oldest first.
    wrong: HashMap<Peer, VecDeque<Timestamp>>,
    lines: Throttle,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            token: None,
            sessions: VecDeque::new(),
            wrong: HashMap::new(),
            lines: Throttle::new(LINES),
        }
    }
}

struct Session {
    id: Hash,
    began_at: Timestamp,
}

/// Why no session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Wrong,
    /// Wrong, and too often: another can be entered after so many seconds.
    TooOften {
        seconds: u64,
    },
}

impl Access {
    /// Whether `entered` is the token. The right one is always taken, so that nobody can lock its owner
    /// out; wrong ones are counted, of each client apart.
    pub(super) fn enter(
        &self,
        token: &Secret,
        entered: &str,
        (peer, now): (Peer, Timestamp),
    ) -> Result<(), Denied> {
        if is_token(token, entered.trim().as_bytes()) {
            return Ok(());
        }
        match self.known().count_wrong(peer, now) {
            0 => Err(Denied::Wrong),
            seconds => Err(Denied::TooOften { seconds }),
        }
    }

    /// Says something of who is not let in in the log, a few times a minute.
    pub(super) fn warn(&self, what: &str, now: Timestamp) {
        if self.known().lines.passes(now) {
            tracing::warn!("{what}");
        }
    }

    /// Begins a session for whoever has `token`. Its id is the only thing that opens it.
    pub(super) fn begin(&self, token: &Secret, now: Timestamp) -> Result<String, Problem> {
        let id = random_id()?;
        let mut known = self.known();
        known.tell_token(Some(token));
        known.drop_ended(now);
        if known.sessions.len() >= MAX_SESSIONS {
            known.sessions.pop_front();
        }
        known.sessions.push_back(Session {
            id: hash(id.as_bytes()),
            began_at: now,
        });
        Ok(id)
    }

    /// Whether a session of this id began with `token` and has not ended.
    fn is_open(&self, token: &Secret, id: &str, now: Timestamp) -> bool {
        let id = hash(id.as_bytes());
        let mut known = self.known();
        known.tell_token(Some(token));
        known.drop_ended(now);
        known.sessions.iter().any(|session| session.id == id)
    }

    /// To be told at every request, so that no change is missed.
    fn tell_token(&self, token: Option<&Secret>) {
        self.known().tell_token(token);
    }

    fn end(&self, id: &str) {
        let id = hash(id.as_bytes());
        self.known().sessions.retain(|session| session.id != id);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Another token, or none, ends all sessions that began with the one before.
    fn tell_token(&mut self, token: Option<&Secret>) {
        let token = token.map(|token| hash(token.expose().as_bytes()));
        if std::mem::replace(&mut self.token, token) != token {
            self.sessions.clear();
        }
    }

    fn drop_ended(&mut self, now: Timestamp) {
        self.sessions
            .retain_mut(|session| is_within(SESSION_SECONDS, &mut session.began_at, now));
    }

    /// Counts one wrong token more, unless there were too many: then says how many seconds to wait.
    fn count_wrong(&mut self, peer: Peer, now: Timestamp) -> u64 {
        self.wrong.retain(|_, tries| {
            tries.retain_mut(|at| is_within(TRY_SECONDS, at, now));
            !tries.is_empty()
        });
        if self.wrong.len() >= MAX_CLIENTS && !self.wrong.contains_key(&peer) {
            let last = self
                .wrong
                .iter()
                .min_by_key(|(_, tries)| tries.back().copied());
            let last = last.map(|(peer, _)| *peer);
            last.map(|peer| self.wrong.remove(&peer));
        }
        let tries = self.wrong.entry(peer).or_default();
        match tries.front() {
            Some(oldest) if tries.len() >= MAX_TRIES => {
                let passed = now.micros_since(*oldest);
                (TRY_SECONDS * MICROS)
                    .saturating_sub(passed)
                    .div_ceil(MICROS)
            }
            _ => {
                tries.push_back(now);
                0
            }
        }
    }
}

/// Where the clock was set back, the time counts from there: nothing may last until it has caught up.
fn is_within(seconds: u64, at: &mut Timestamp, now: Timestamp) -> bool {
    *at = now.min(*at);
    now.micros_since(*at) < seconds * MICROS
}

fn hash(bytes: &[u8]) -> Hash {
    blake3::hash(bytes)
}

fn is_token(token: &Secret, shown: &[u8]) -> bool {
    hash(token.expose().as_bytes()) == hash(shown)
}

/// 256 bits that nobody can guess, as hex digits.
fn random_id() -> Result<String, Problem> {
    let mut bytes = [0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random
        .fill(&mut bytes)
        .map_err(|error| Problem::internal("no session can begin", &rustls::Error::from(error)))?;
    Ok(Hash::from_bytes(bytes).to_hex().to_string())
}

/// The second layer, within the guard: what may not come in gets no further.
pub(super) async fn gate(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    let (uri, method, headers) = (request.uri(), request.method(), request.headers());
    match check(&state, method, uri, headers) {
        Ok(()) => next.run(request).await,
        Err(Stranger::Nobody) if login::is_page_wanted(method, headers) => {
            login::ask(method, uri).into_response()
        }
        Err(stranger) => {
            if stranger == Stranger::WrongToken {
                let what = "a wrong admin token was sent in a header Authorization";
                state.access.warn(what, state.clock.now());
            }
            stranger.into_response()
        }
    }
}

/// Who asks without being let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stranger {
    /// Neither a token nor a session.
    Nobody,
    WrongToken,
    /// A session, but no word of the browser that our own page asks.
    OtherPage,
}

impl IntoResponse for Stranger {
    fn into_response(self) -> Response {
        let detail = match self {
            Self::Nobody => {
                "this listener asks for the admin token: send it as `Authorization: Bearer <token>`, \
                 or log in at /login"
            }
            Self::WrongToken => "header Authorization: this is not the admin token",
            Self::OtherPage => {
                return Problem::forbidden(
                    "header Origin: with the cookie of a session only a page of this listener can \
                     change something",
                )
                .into_response();
            }
        };
        let challenge = HeaderValue::from_static(CHALLENGE);
        let problem = Problem::unauthorized(detail);
        ([(header::WWW_AUTHENTICATE, challenge)], problem).into_response()
    }
}

fn check(
    state: &AdminState,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Stranger> {
    let config = state.config.load();
    state.access.tell_token(config.admin.token.as_ref());
    let Some(token) = &config.admin.token else {
        return Ok(());
    };
    if is_for_everybody(uri.path()) {
        return Ok(());
    }
    match bearer(headers) {
        Some(shown) if is_token(token, shown) => Ok(()),
        Some(_) => Err(Stranger::WrongToken),
        None if !has_session(state, token, uri, headers) => Err(Stranger::Nobody),
        None if method.is_safe() || guard::is_from_own_page(uri, headers) => Ok(()),
        None => Err(Stranger::OtherPage),
    }
}

/// What shows nothing of what is recorded: what supervisors look at, the way in and how it looks.
fn is_for_everybody(path: &str) -> bool {
    ["/healthz", "/readyz"].contains(&path)
        || login::is_path(path)
        || path.starts_with(login::ASSETS)
}

/// The token of the header, empty where two say different things. Other schemes are none of ours:
/// something in front may have asked for a password of its own.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let values = headers.get_all(header::AUTHORIZATION);
    let shown = values.iter().find_map(|value| {
        let (scheme, shown) = value.as_bytes().split_at_checked(BEARER.len())?;
        let is_bearer = scheme.eq_ignore_ascii_case(BEARER.as_bytes());
        is_bearer.then(|| shown.trim_ascii())
    })?;
    let is_alone = values.iter().count() == 1;
    Some(if is_alone { shown } else { b"" })
}

/// Whether a cookie opens a session of those who have `token`.
pub(super) fn has_session(
    state: &AdminState,
    token: &Secret,
    uri: &Uri,
    headers: &HeaderMap,
) -> bool {
    let now = state.clock.now();
    let name = cookie_name(uri, headers);
    cookies(headers, &name).any(|id| state.access.is_open(token, id, now))
}

/// Ends the sessions that the cookies of a request are of.
pub(super) fn leave(state: &AdminState, uri: &Uri, headers: &HeaderMap) {
    let name = cookie_name(uri, headers);
    cookies(headers, &name).for_each(|id| state.access.end(id));
}

/// Cookies do not know of ports: two listeners of one host must not take each other's away.
pub(super) fn cookie_name(uri: &Uri, headers: &HeaderMap) -> String {
    match guard::host(uri, headers).and_then(|host| host.port_u16()) {
        Some(port) => format!("{COOKIE}_{port}"),
        None => COOKIE.to_owned(),
    }
}

/// The cookies of one name of a request, a few at most.
pub(crate) fn cookies<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(move |(named, _)| *named == name)
        .map(|(_, value)| value)
        .take(MAX_COOKIES)
}

/// How one comes in, for the description of the API.
pub(super) struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let described = "The admin token of `[admin] token_env`";
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(described));
        components.add_security_scheme("token", SecurityScheme::Http(token.build()));
        let described = "Of a session that began at `/login`; the port is that of the header Host";
        let cookie = ApiKeyValue::with_description("aiops_session_8788", described);
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

#[cfg(test)]
mod tests;
