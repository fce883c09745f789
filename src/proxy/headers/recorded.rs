//! Which headers of a call are written down, and how.
//!
//! Safe by what is allowed, not by what is forbidden: the value of a header is kept only where its
//! name is known to be harmless, or the config allows it. Of every other header the record has the
//! name, the length and a fingerprint that is too short to try guesses by.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use wildmatch::WildMatch;

use super::{
    AGENT, BUDGET_CALLS, BUDGET_TOKENS, BUDGET_USD, CALLER, DEPTH, METRIC_PREFIX, PARENT_RUN, PATH,
    RECORD, RUN, RUN_ID, TAG_PREFIX, UPSTREAM, USER, VARIANT,
};
use crate::core::digest::DigestSeed;
use crate::core::recorded::{HeaderLines, is_secret_name};

/// Names that say nothing about who may do what.
const HARMLESS: [&str; 74] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "apim-request-id",
    "azureml-model-session",
    "cache-control",
    "cf-cache-status",
    "cf-ray",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "fly-request-id",
    "host",
    "http-referer",
    "keep-alive",
    "last-modified",
    "location",
    "openai-beta",
    "openai-model",
    "openai-organization",
    "openai-processing-ms",
    "openai-project",
    "openai-version",
    "originator",
    "pragma",
    "referer",
    "retry-after",
    "retry-after-ms",
    "server",
    "strict-transport-security",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "version",
    "via",
    "x-app",
    "x-content-type-options",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-should-retry",
    "x-stainless-arch",
    "x-stainless-async",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-read-timeout",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
    "x-title",
];

/// Our own, by which a call says who it is.
const OWN: [&str; 14] = [
    AGENT,
    CALLER,
    RUN,
    RUN_ID,
    PARENT_RUN,
    PATH,
    DEPTH,
    USER,
    VARIANT,
    RECORD,
    UPSTREAM,
    BUDGET_USD,
    BUDGET_TOKENS,
    BUDGET_CALLS,
];

/// Groups of names that are harmless, but for a name in them that is not.
const HARMLESS_GROUPS: [&str; 5] = [
    "x-stainless-",
    "openai-",
    TAG_PREFIX,
    METRIC_PREFIX,
    "access-control-",
];

/// Limits and what is left of them: short numbers and times, of tokens too.
const LIMITS: [&str; 4] = [
    "x-ratelimit-",
    "ratelimit-",
    "anthropic-ratelimit-",
    "anthropic-fast-",
];
const MAX_LIMIT_VALUE: usize = 48;

/// Headers that are one URL each.
const URLS: [&str; 4] = ["content-location", "http-referer", "location", "referer"];

/// How keys begin that are put where they do not belong, and how long they are at least.
const KEYS: [&str; 14] = [
    "sk-",
    "sk_",
    "pk-",
    "rk-",
    "eyJ",
    "AIza",
    "ghp_",
    "gho_",
    "github_pat_",
    "xox",
    "AKIA",
    "hf_",
    "gsk_",
    "xai-",
];
const MIN_KEY: usize = 16;

/// What is written down of a head. `also` are globs of names whose values the config allows.
pub fn recorded(map: &HeaderMap, also: &[WildMatch], seed: DigestSeed) -> HeaderLines {
    let mut lines = HeaderLines::default();
    for (name, value) in map {
        match shown(name, value, also) {
            Some(text) => lines.show(name.as_str(), &text),
            None => lines.hide(name.as_str(), value.len(), fingerprint(value, seed)),
        }
    }
    lines
}

/// The value as it may be seen; none where it may be a secret.
fn shown<'v>(
    name: &HeaderName,
    value: &'v HeaderValue,
    also: &[WildMatch],
) -> Option<Cow<'v, str>> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    if is_allowed(name.as_str(), text, also) && !holds_key(text) {
        Some(without_queries(url(name, text).unwrap_or(text)))
    } else {
        None
    }
}

fn is_allowed(name: &str, value: &str, also: &[WildMatch]) -> bool {
    if HARMLESS.binary_search(&name).is_ok() || OWN.contains(&name) {
        return true;
    }
    if LIMITS.iter().any(|group| name.starts_with(group)) {
        let of_tokens = name.replace("tokens", "");
        return !is_secret_name(&of_tokens) && value.len() <= MAX_LIMIT_VALUE;
    }
    if is_secret_name(name) {
        return false;
    }
    name.ends_with("request-id")
        || HARMLESS_GROUPS.iter().any(|group| name.starts_with(group))
        || also.iter().any(|glob| glob.matches(name))
}

/// Whether a value looks as if somebody put a key into it.
fn holds_key(value: &str) -> bool {
    let has_scheme = |scheme: &str| {
        let front = value.trim_start().get(..scheme.len());
        front.is_some_and(|front| front.eq_ignore_ascii_case(scheme))
    };
    if ["bearer ", "basic ", "token "].into_iter().any(has_scheme) {
        return true;
    }
    let is_end = |byte: &u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_');
    let mut words = value.as_bytes().split(is_end);
    value.len() >= MIN_KEY
        && words.any(|word| {
            let begins = |key: &&str| word.starts_with(key.as_bytes());
            word.len() >= MIN_KEY && KEYS.iter().any(begins)
        })
}

/// Of a header that is one URL and nothing else the part that can be seen: it may be relative, which
/// no text in it tells.
fn url<'v>(name: &HeaderName, value: &'v str) -> Option<&'v str> {
    let is_url = URLS.contains(&name.as_str());
    value.split(['?', '#']).next().filter(|_| is_url)
}

/// URLs without who asks for them and what with.
fn without_queries(value: &str) -> Cow<'_, str> {
    let is_path = value.starts_with('/');
    if !is_path && !value.contains("://") {
        return value.into();
    }
    let mut kept = String::with_capacity(value.len());
    let mut rest = value;
    if is_path {
        rest = address(rest, &mut kept);
    }
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + "://".len());
        kept.push_str(before);
        rest = address(url, &mut kept);
    }
    kept.push_str(rest);
    kept.into()
}

/// Takes authority and path of a URL over, and what lies behind the URL is left.
fn address<'v>(url: &'v str, kept: &mut String) -> &'v str {
    let ends =
        |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\'' | '`' | '{' | '}' | '|');
    let end = url.find(ends).unwrap_or(url.len());
    let (url, behind) = url.split_at(end);
    let front = url.find(['?', '#']).unwrap_or(url.len());
    let front = url.get(..front).unwrap_or_default();
    let authority = front.find('/').unwrap_or(front.len());
    let user = front.get(..authority).and_then(|it| it.rfind('@'));
    kept.push_str(front.get(user.map_or(0, |at| at + 1)..).unwrap_or_default());
    behind
}

/// The same for the same value within one installation. So short that of the guesses somebody may try
/// many fit.
fn fingerprint(value: &HeaderValue, seed: DigestSeed) -> u16 {
    let mut hasher = blake3::Hasher::new_derive_key("open-aiops 2026 header value");
    hasher.update(&seed.0.to_le_bytes());
    hasher.update(value.as_bytes());
    let mut bytes = [0; 2];
    hasher.finalize_xof().fill(&mut bytes);
    u16::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::recorded::Header;

    const SEED: DigestSeed = DigestSeed(7);

    fn record(headers: &[(&'static str, &str)], also: &[&str]) -> Vec<Header> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let also: Vec<_> = also.iter().map(|glob| WildMatch::new(glob)).collect();
        recorded(&map, &also, SEED).iter().collect()
    }

    #[track_caller]
    fn check(name: &'static str, value: &str, expected: Option<&str>) {
        let found = record(&[(name, value)], &["x-my-*", "*"]);
        assert_eq!(found[0].value.as_deref(), expected, "{name}: {value}");
    }

    #[test]
    fn the_list_of_harmless_names_can_be_searched() {
        assert!(HARMLESS.is_sorted());
    }

    #[test]
    fn harmless_headers_are_kept_as_they_came() {
        for (name, value) in [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("user-agent", "OpenAI/Python 2.8.1"),
            ("x-request-id", "req_1"),
            ("openai-processing-ms", "120"),
            ("x-ratelimit-remaining-tokens", "149984"),
            (
                "anthropic-ratelimit-input-tokens-reset",
                "2026-11-23T07:35:18Z",
            ),
            ("x-stainless-retry-count", "0"),
            ("x-aiops-agent", "planner"),
            ("x-aiops-budget-tokens", "500"),
            ("x-my-team", "search \u{e9}"),
            (
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
        ] {
            check(name, value, Some(value));
        }
    }

    #[test]
    fn what_may_be_a_secret_is_never_kept_whatever_the_config_allows() {
        for (name, value) in [
            ("authorization", "Bearer sk-1"),
            ("proxy-authorization", "Basic eA=="),
            ("cookie", "a=b"),
            ("set-cookie", "a=b"),
            ("api-key", "k"),
            ("x-api-key", "k"),
            ("x-goog-api-key", "k"),
            ("x-my-token", "t"),
            ("x-my-secretary", "s"),
            ("x-my-password", "p"),
            ("x-my-monkey", "m"),
            ("openai-api-key", "k"),
            ("x-ratelimit-key", "k"),
            ("x-ratelimit-tokens-bearer", "k"),
            (
                "x-ratelimit-limit",
                "a value that is much longer than any limit could be",
            ),
            ("x-aiops-tag-token", "t"),
            ("x-amz-security-token", "t"),
            (
                "sec-websocket-protocol",
                "realtime, openai-insecure-api-key.sk-1234567890123456",
            ),
            ("x-title", "bearer abc"),
            ("user-agent", "tool/1 sk-proj-abcdefghijklmnop"),
            ("x-my-note", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"),
        ] {
            check(name, value, None);
        }
    }

    #[test]
    fn a_header_that_nobody_allows_is_kept_by_name_length_and_fingerprint() {
        let headers = [("x-odd", "one"), ("x-other", "one"), ("x-odd", "two")];
        let found = record(&headers, &[]);
        let print = |at: usize| found[at].fingerprint.as_deref().unwrap();
        assert_eq!(found.len(), 3);
        assert!(
            found
                .iter()
                .all(|header| header.value.is_none() && header.len == 3)
        );
        assert_eq!(
            print(0),
            record(&[("x-other", "one")], &[])[0]
                .fingerprint
                .as_deref()
                .unwrap()
        );
        assert_eq!(print(0).len(), 4);
        let mut map = HeaderMap::new();
        map.insert("x-odd", HeaderValue::from_static("one"));
        let elsewhere = recorded(&map, &[], DigestSeed(8)).iter().next().unwrap();
        assert_ne!(elsewhere.fingerprint.as_deref(), Some(print(0)));
    }

    #[test]
    fn urls_lose_who_asks_and_what_with() {
        for (value, expected) in [
            ("https://ann:pw@host/a/b?key=1#top", "https://host/a/b"),
            ("/files/1?sig=abc", "/files/1"),
            (
                "<https://a@h/x?y=1>; rel=\"next\", <http://h2/?z>",
                "<https://h/x>; rel=\"next\", <http://h2/>",
            ),
            ("https://host/a@b", "https://host/a@b"),
            ("plain?text=1", "plain?text=1"),
        ] {
            check("link", value, Some(expected));
        }
    }

    #[test]
    fn a_header_that_is_a_url_loses_its_query_where_it_is_relative_too() {
        for (value, expected) in [
            ("https://ann:pw@host/a?key=1", "https://host/a"),
            ("/files/1?sig=abc|def", "/files/1"),
            ("x?sig=abc def", "x"),
            ("../x#top?sig=abc", "../x"),
            ("?sig=https://host/a", ""),
        ] {
            for name in ["location", "content-location", "referer", "http-referer"] {
                check(name, value, Some(expected));
            }
        }
    }
}
