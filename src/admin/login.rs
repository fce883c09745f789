//! The way in for browsers, without any script: a page that takes the token and begins a session.

use axum::Extension;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};
use maud::{DOCTYPE, Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::access::{self, Denied, SESSION_SECONDS};
use super::connections::Peer;
use super::problem::Problem;
use super::{AdminState, Form, asked};

const LOGIN: &str = "/login";
const LOGOUT: &str = "/logout";
/// Below it is what pages look like, which everybody may see.
pub(super) const ASSETS: &str = "/assets/";
const STYLE: &str = "/assets/style.css";
const ICON: &str = "/assets/icon.svg";
/// Of a path to go on to.
const MAX_NEXT_BYTES: usize = 2048;

pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route(LOGIN, get(show).post(enter))
        .route(LOGOUT, post(leave))
}

pub(super) fn is_path(path: &str) -> bool {
    path == LOGIN || path == LOGOUT
}

/// Whether something is done at this path, so that it takes POST alone.
pub(super) fn is_deed(path: &str) -> bool {
    path == LOGOUT
}

/// Whether whoever asks reads pages: a browser that goes somewhere, or sends a form.
pub(super) fn is_page_wanted(method: &Method, headers: &HeaderMap) -> bool {
    let reads_pages = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"));
    reads_pages && (method.is_safe() || asked::is_form(headers))
}

/// Sends a browser to the login, and from there back to what it asked for.
pub(super) fn ask(method: &Method, uri: &Uri) -> Response {
    let wanted = uri.path_and_query().map(ToString::to_string);
    let next = wanted.filter(|next| method.is_safe() && next != "/");
    match next.as_deref().and_then(own_path) {
        Some(next) => go(&format!(
            "{LOGIN}?next={}",
            utf8_percent_encode(next, NON_ALPHANUMERIC)
        )),
        None => go(LOGIN),
    }
}

#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
struct Entered {
    token: String,
    #[serde(default)]
    next: String,
}

/// A form without any field.
#[derive(Deserialize)]
struct Nothing {}

async fn show(
    State(state): State<AdminState>,
    uri: Uri,
    headers: HeaderMap,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Params { next }) = params?;
    let next = own_path(&next).unwrap_or("/");
    let config = state.config.load();
    let is_in = match &config.admin.token {
        Some(token) => access::has_session(&state, token, &uri, &headers),
        None => true,
    };
    Ok(if is_in {
        go(next)
    } else {
        answer(StatusCode::OK, &page(next, None))
    })
}

async fn enter(
    State(state): State<AdminState>,
    uri: Uri,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    form: Result<Form<Entered>, Problem>,
) -> Result<Response, Problem> {
    let Form(Entered {
        token: entered,
        next,
    }) = form?;
    let next = own_path(&next).unwrap_or("/");
    let config = state.config.load();
    let Some(token) = &config.admin.token else {
        return Ok(go(next));
    };
    let now = state.clock.now();
    let peer = Peer::of(peer.as_deref());
    if let Err(denied) = state.access.enter(token, &entered, (peer, now)) {
        state
            .access
            .warn("a wrong admin token was entered at /login", now);
        return Ok(deny(denied, next));
    }
    let id = state.access.begin(token, now)?;
    let name = access::cookie_name(&uri, &headers);
    let cookie = cookie(&name, &id, SESSION_SECONDS, &headers);
    Ok(with_cookie(go(next), &cookie))
}

async fn leave(
    State(state): State<AdminState>,
    uri: Uri,
    headers: HeaderMap,
    form: Result<Form<Nothing>, Problem>,
) -> Result<Response, Problem> {
    let Form(Nothing {}) = form?;
    access::leave(&state, &uri, &headers);
    let name = access::cookie_name(&uri, &headers);
    Ok(with_cookie(go(LOGIN), &cookie(&name, "", 0, &headers)))
}

/// A path of this listener, with or without a query, and nothing that a browser could take for
/// another host.
pub(crate) fn own_path(next: &str) -> Option<&str> {
    let is_own = next.len() <= MAX_NEXT_BYTES
        && next.starts_with('/')
        && !next.starts_with("//")
        && next
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    is_own.then_some(next)
}

fn go(to: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
}

/// Kept to TLS where the form came by it: something in front may have taken it off.
fn cookie(name: &str, value: &str, seconds: u64, headers: &HeaderMap) -> String {
    let by_tls = |origin: &HeaderValue| origin.as_bytes().starts_with(b"https://");
    let is_secure = headers.get(header::ORIGIN).is_some_and(by_tls);
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

fn with_cookie(response: Response, cookie: &str) -> Response {
    ([(header::SET_COOKIE, cookie)], response).into_response()
}

fn deny(denied: Denied, next: &str) -> Response {
    match denied {
        Denied::Wrong => {
            let error = "This is not the admin token.";
            answer(StatusCode::FORBIDDEN, &page(next, Some(error)))
        }
        Denied::TooOften { seconds } => {
            let error = format!("Too many wrong tokens. Try again in {seconds} s.");
            let page = answer(StatusCode::TOO_MANY_REQUESTS, &page(next, Some(&error)));
            ([(header::RETRY_AFTER, seconds)], page).into_response()
        }
    }
}

fn answer(status: StatusCode, page: &Markup) -> Response {
    (status, Html(page.0.clone())).into_response()
}

fn page(next: &str, error: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Log in - Open-AIOps" }
                link rel="icon" href=(ICON) type="image/svg+xml";
                link rel="stylesheet" href=(STYLE);
            }
            body class="login" {
                main {
                    h1 { "Open-AIOps" }
                    @if let Some(error) = error {
                        p class="bad" id="error" role="alert" { (error) }
                    }
                    form method="post" action=(LOGIN) {
                        input type="hidden" name="next" value=(next);
                        label for="token" { "Admin token" }
                        input id="token" name="token" type="password" required autofocus
                            autocomplete="current-password" aria-describedby="where"
                            aria-invalid=[error.map(|_| "true")];
                        p class="muted" id="where" {
                            "The value of the environment variable that "
                            code { "[admin] token_env" }
                            " of the configuration names."
                        }
                        button type="submit" { "Log in" }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_leads_away_is_not_gone_on_to() {
        for own in ["/", "/runs", "/runs/a%2Fb?range=1h", "/a//b"] {
            assert_eq!(own_path(own), Some(own));
        }
        for foreign in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/\n/x",
        ] {
            assert_eq!(own_path(foreign), None, "{foreign:?}");
        }
    }
}
