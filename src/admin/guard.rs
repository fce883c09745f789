//! Who may talk to the admin listener from a browser: nobody but its own pages.
//!
//! The listener may be without a login, so a web page that makes a browser send requests here must get
//! nothing: neither by its own name resolved to this address (DNS rebinding: the `Host` gives it
//! away) nor from another site (`Origin`, `Sec-Fetch-Site`). No response ever carries a CORS header.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};
use http_body::Body as _;

use super::AdminState;
use super::problem::Problem;
use crate::config::AdminConfig;

/// Of a body: whatever can be asked for takes less.
const BODY_LIMIT: u64 = 64 * 1024;

/// Of a body that may have many measurements.
const MEASUREMENTS_LIMIT: u64 = 1024 * 1024;

/// How long a body may be at most, in bytes.
pub(super) fn body_limit(path: &str) -> u64 {
    if path == super::metrics::PATH {
        MEASUREMENTS_LIMIT
    } else {
        BODY_LIMIT
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// On every response. `sandbox` is not among them: the page of `/` needs its own links to work.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 7] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    // With `no-referrer` a browser hides the `Origin` of the forms of our own pages from us.
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
             img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
    ),
];

/// The outermost layer: refuses what no friend would send, and hardens every response.
pub(super) async fn guard(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    let is_visit = is_visit(request.method(), request.headers());
    let admin = &state.config.load_full().admin;
    let checked = check(request.uri(), request.headers(), admin, is_visit)
        .and_then(|()| check_length(&request));
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

/// Whether a browser goes to a page as a whole, by a link from anywhere: the site it comes from sees
/// nothing of the page, and a GET changes nothing.
fn is_visit(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: HeaderName, value: &str| headers.get(name).is_some_and(|it| it == value);
    let is_whole = is(SEC_FETCH_MODE, "navigate") && is(SEC_FETCH_DEST, "document");
    method == Method::GET && is_whole
}

fn check(
    uri: &Uri,
    headers: &HeaderMap,
    config: &AdminConfig,
    is_visit: bool,
) -> Result<(), Problem> {
    let host = host(uri, headers)
        .ok_or_else(|| Problem::bad_request("header Host: exactly one host name is expected"))?;
    if !is_own_name(host.host(), config) {
        return Err(Problem::forbidden(format!(
            "header Host: `{}` is none of this listener's names; \
             add it to `allowed_hosts` under [admin] if it should be",
            host.host()
        )));
    }
    if headers
        .get_all(header::ORIGIN)
        .iter()
        .any(|origin| !is_same(origin, &host))
    {
        return Err(Problem::forbidden(
            "header Origin: requests of other sites are refused",
        ));
    }
    let is_foreign = headers
        .get(SEC_FETCH_SITE)
        .is_some_and(|site| site == "cross-site");
    if is_foreign && !is_visit {
        return Err(Problem::forbidden(
            "header Sec-Fetch-Site: requests of other sites are refused",
        ));
    }
    Ok(())
}

fn check_length(request: &Request) -> Result<(), Problem> {
    let length = request.body().size_hint().lower();
    let most = body_limit(request.uri().path());
    if length > most {
        return Err(Problem::too_large(format!(
            "the body of {length} bytes is larger than {most}"
        )));
    }
    Ok(())
}

/// Whether a browser says that one of our own pages sent this: for what a cookie must not do on the
/// word of others. Clients that are no browsers do not say, and have no cookie.
pub(super) fn is_from_own_page(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) => host(uri, headers).is_some_and(|host| is_same(origin, &host)),
        (None, _) => {
            let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
            sites.next().is_some_and(|site| site == "same-origin") && sites.next().is_none()
        }
        (Some(_), Some(_)) => false,
    }
}

/// An absolute request target outranks the header (RFC 9112, 3.2.2).
pub(super) fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    if let Some(authority) = uri.authority() {
        return Some(authority.clone());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        _ => None,
    }
}

fn is_own_name(host: &str, config: &AdminConfig) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let bound = config.listen.ip();
        // A listener on all addresses goes by any of them. Rebinding needs a name, not an address.
        return ip.is_loopback() || ip == bound || bound.is_unspecified();
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || config
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(&name))
}

/// The scheme does not matter: something in front may have taken TLS off.
fn is_same(origin: &HeaderValue, host: &Authority) -> bool {
    origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, allowed: &[&str]) -> AdminConfig {
        AdminConfig {
            listen: listen.parse().unwrap(),
            allowed_hosts: allowed.iter().map(ToString::to_string).collect(),
            token: None,
        }
    }

    #[track_caller]
    fn status(listen: &str, headers: &[(&'static str, &'static str)]) -> Option<u16> {
        let config = config(listen, &["dash.example"]);
        let map = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        let is_visit = is_visit(&Method::GET, &map);
        check(&Uri::from_static("/api/v1/calls"), &map, &config, is_visit)
            .err()
            .map(|p| p.status)
    }

    const LOCAL: &str = "127.0.0.1:8788";

    #[test]
    fn own_names_pass_with_and_without_port() {
        for host in [
            "127.0.0.1:8788",
            "localhost:8788",
            "LOCALHOST",
            "[::1]:8788",
            "aiops.localhost",
            "dash.example",
            "Dash.Example:443",
            "127.1.2.3",
        ] {
            assert_eq!(status(LOCAL, &[("host", host)]), None, "{host}");
        }
    }

    #[test]
    fn foreign_names_are_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.168.0.9:8788",
            "0x7f.1",
            "10.0.0.1",
        ] {
            assert_eq!(status(LOCAL, &[("host", host)]), Some(403), "{host}");
        }
    }

    #[test]
    fn a_missing_doubled_or_malformed_host_is_a_bad_request() {
        assert_eq!(status(LOCAL, &[]), Some(400));
        assert_eq!(status(LOCAL, &[("host", "a b")]), Some(400));
        let mut doubled = HeaderMap::new();
        doubled.append("host", HeaderValue::from_static("localhost"));
        doubled.append("host", HeaderValue::from_static("localhost"));
        assert!(host(&Uri::from_static("/"), &doubled).is_none());
    }

    #[test]
    fn an_absolute_target_outranks_the_host_header() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("localhost"));
        let uri = Uri::from_static("http://evil.example/");
        assert_eq!(
            check(&uri, &headers, &config(LOCAL, &[]), false)
                .unwrap_err()
                .status,
            403
        );
    }

    #[test]
    fn the_bound_address_passes_and_any_address_when_bound_to_all() {
        assert_eq!(status("10.1.2.3:80", &[("host", "10.1.2.3")]), None);
        assert_eq!(status("10.1.2.3:80", &[("host", "10.9.9.9")]), Some(403));
        assert_eq!(status("0.0.0.0:80", &[("host", "10.9.9.9")]), None);
        assert_eq!(status("0.0.0.0:80", &[("host", "evil.example")]), Some(403));
    }

    #[test]
    fn only_the_own_origin_passes() {
        let check = |origin| status(LOCAL, &[("host", "localhost:8788"), ("origin", origin)]);
        assert_eq!(check("http://localhost:8788"), None);
        assert_eq!(check("https://localhost:8788"), None);
        for origin in [
            "null",
            "http://localhost:3000",
            "http://localhost",
            "https://evil.example",
            "",
        ] {
            assert_eq!(check(origin), Some(403), "{origin}");
        }
    }

    #[test]
    fn link_of_another_site_may_lead_here_but_nothing_else_of_it() {
        let visit = |mode, dest| {
            status(
                LOCAL,
                &[
                    ("host", "localhost"),
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", mode),
                    ("sec-fetch-dest", dest),
                ],
            )
        };
        assert_eq!(visit("navigate", "document"), None);
        for (mode, dest) in [
            ("navigate", "iframe"),
            ("no-cors", "image"),
            ("cors", "empty"),
            ("websocket", "empty"),
        ] {
            assert_eq!(visit(mode, dest), Some(403), "{mode} {dest}");
        }
        let headers = HeaderMap::from_iter([
            (SEC_FETCH_MODE, HeaderValue::from_static("navigate")),
            (SEC_FETCH_DEST, HeaderValue::from_static("document")),
        ]);
        assert!(!is_visit(&Method::POST, &headers), "a form of another site");
    }

    #[test]
    fn requests_that_a_browser_calls_cross_site_are_refused() {
        let check = |site| status(LOCAL, &[("host", "localhost"), ("sec-fetch-site", site)]);
        assert_eq!(check("cross-site"), Some(403));
        assert_eq!(check("same-origin"), None);
        assert_eq!(check("none"), None);
    }
}
