use proptest::prelude::*;

use super::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pairs = pairs.iter();
    in_order(pairs.map(|(name, value)| {
        let name = HeaderName::try_from(*name).unwrap();
        (name, value.parse().unwrap())
    }))
}

fn in_order(pairs: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, value);
    }
    headers
}

fn pairs(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect()
}

static HOST_UPSTREAM: HeaderValue = HeaderValue::from_static("upstream.test");
static OWN_KEY: HeaderValue = HeaderValue::from_static("Bearer own");

fn passage(key: Key<'static>) -> Upstreamward<'static> {
    Upstreamward {
        host: &HOST_UPSTREAM,
        key,
        chunked: false,
        switching: false,
        trace: None,
    }
}

/// As they go upstream, without the `host` that is put in front.
fn upstreamward(sent: &HeaderMap) -> HeaderMap {
    let map = passage(Key::OfClient).headers(sent);
    let others = map.iter().filter(|(name, _)| **name != HOST);
    in_order(others.map(|(name, value)| (name.clone(), value.clone())))
}

#[test]
fn what_is_not_ours_goes_upstream_with_duplicates_in_order() {
    let sent = headers(&[
        ("authorization", "Bearer k"),
        ("x-unknown", "2"),
        ("x-unknown", "1"),
        ("anthropic-beta", "a, b"),
        ("x-opencode-session", "s"),
        ("trailer", "x-checksum"),
        ("accept-encoding", "gzip"),
        ("content-length", "5"),
        ("cf-aig-authorization", "Bearer c"),
    ]);
    assert_eq!(upstreamward(&sent), sent);
    assert_eq!(
        pairs(&upstreamward(&sent))[1..3],
        [("x-unknown", "2"), ("x-unknown", "1")]
    );
}

#[test]
fn what_is_ours_or_of_the_connection_or_anothers_secret_stays_here() {
    let sent = headers(&[
        ("host", "127.0.0.1:8787"),
        ("expect", "100-continue"),
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("x-aiops-agent", "a"),
        ("x-aiops-tag-team", "b"),
        ("helicone-auth", "Bearer h"),
        ("x-portkey-api-key", "p"),
        ("x-bf-vk", "v"),
        ("x-litellm-api-key", "l"),
        ("x-finops-api-key", "f"),
        ("accept", "*/*"),
    ]);
    assert_eq!(pairs(&upstreamward(&sent)), [("accept", "*/*")]);
}

#[test]
fn te_goes_on_only_as_trailers() {
    let te = |value| pairs_of(&upstreamward(&headers(&[("te", value)])));
    assert_eq!(te("gzip, Trailers"), "te: trailers");
    assert_eq!(te("gzip"), "");
    let named = headers(&[("te", "trailers"), ("connection", "te")]);
    assert_eq!(pairs_of(&upstreamward(&named)), "te: trailers");
}

fn pairs_of(headers: &HeaderMap) -> String {
    let lines = pairs(headers)
        .into_iter()
        .map(|(name, value)| format!("{name}: {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn connection_cannot_name_away_who_asks_and_for_what() {
    let protected = [
        ("authorization", "Bearer k"),
        ("api-key", "k"),
        ("x-api-key", "k"),
        ("x-goog-api-key", "k"),
        ("content-length", "3"),
        ("content-type", "application/json"),
    ];
    for (name, value) in protected {
        let sent = headers(&[("connection", name), (name, value)]);
        assert_eq!(pairs(&upstreamward(&sent)), [(name, value)]);
    }
    let ours = headers(&[("connection", "x-aiops-call"), ("x-aiops-call", "1")]);
    assert_eq!(
        pairs(&downstreamward(&ours, Change::None)),
        [("x-aiops-call", "1")]
    );
}

#[test]
fn a_length_beside_a_transfer_coding_is_dropped() {
    let both = headers(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
    assert!(pairs(&downstreamward(&both, Change::None)).is_empty());
}

#[test]
fn responses_lose_only_what_concerns_the_connection() {
    let sent = headers(&[
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "trailers"),
        ("x-request-id", "r"),
        ("x-aiops-call", "of a proxy behind this one"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ]);
    let kept = downstreamward(&sent, Change::None);
    assert_eq!(kept.len(), 4);
    assert_eq!(kept.get_all("set-cookie").iter().count(), 2);
}

#[test]
fn the_same_key_is_the_same_bytes_whichever_way_it_comes() {
    for sent in [
        ("authorization", "Bearer key"),
        ("authorization", "bearer  key"),
        ("authorization", "key"),
        ("x-api-key", "key"),
        ("api-key", "key"),
        ("x-goog-api-key", " key"),
    ] {
        assert_eq!(
            credential(&headers(&[sent]), None),
            Some(&b"key"[..]),
            "{sent:?}"
        );
    }
    let none = HeaderMap::new();
    assert_eq!(
        credential(&none, Some("alt=sse&key=key")),
        Some(&b"key"[..])
    );
    assert_eq!(credential(&none, Some("k%65y=key")), Some(&b"key"[..]));
    assert_eq!(credential(&none, Some("monkey=key&key=")), None);
    assert_eq!(credential(&none, None), None);
}

#[test]
fn authorization_comes_first_unless_it_is_empty() {
    let both = headers(&[("x-api-key", "other"), ("authorization", "Bearer key")]);
    assert_eq!(credential(&both, Some("key=third")), Some(&b"key"[..]));
    let empty = headers(&[("x-api-key", "other"), ("authorization", "Bearer ")]);
    assert_eq!(credential(&empty, None), Some(&b"other"[..]));
}

#[test]
fn a_key_that_must_not_go_on_is_taken_out() {
    assert_eq!(without_key("/v1?alt=sse&key=k&b"), "/v1?alt=sse&b");
    assert_eq!(without_key("/v1?k%65y=k"), "/v1");
    assert_eq!(without_key("/v1?monkey=1"), "/v1?monkey=1");
    let sent = headers(&[
        ("authorization", "Bearer k"),
        ("api-key", "k"),
        (
            "sec-websocket-protocol",
            "realtime, openai-insecure-api-key.k, openai-beta.realtime-v1",
        ),
        ("accept", "*/*"),
    ]);
    let protocols = (
        "sec-websocket-protocol",
        "realtime, openai-beta.realtime-v1",
    );
    let host = ("host", "upstream.test");
    assert_eq!(
        pairs(&passage(Key::None).headers(&sent)),
        [host, protocols, ("accept", "*/*")]
    );
    let own = ("authorization", "Bearer own");
    assert_eq!(
        pairs(&passage(Key::Own(&OWN_KEY)).headers(&sent)),
        [host, own, protocols, ("accept", "*/*")]
    );
    let keyless = headers(&[("accept", "*/*"), ("host", "proxy.test")]);
    assert_eq!(
        pairs(&passage(Key::Own(&OWN_KEY)).headers(&keyless)),
        [("accept", "*/*"), host, own]
    );
    let lines = headers(&[
        ("sec-websocket-protocol", "realtime"),
        (
            "sec-websocket-protocol",
            "openai-insecure-api-key.k, openai-beta.realtime-v1",
        ),
    ]);
    let left = ["realtime", "openai-beta.realtime-v1"].map(|line| (protocols.0, line));
    assert_eq!(
        pairs(&passage(Key::None).headers(&lines)),
        [host, left[0], left[1]]
    );
    let bare = headers(&[("sec-websocket-protocol", "openai-insecure-api-key.k")]);
    assert_eq!(pairs(&passage(Key::None).headers(&bare)), [host]);
}

#[test]
fn a_body_in_chunks_says_so_in_its_place() {
    let chunked = Upstreamward {
        chunked: true,
        ..passage(Key::OfClient)
    };
    let sent = headers(&[("host", "a"), ("transfer-encoding", "chunked"), ("b", "1")]);
    let names = |map: &HeaderMap| pairs_of(&chunked.headers(map));
    assert_eq!(
        names(&sent),
        "host: upstream.test\ntransfer-encoding: chunked\nb: 1"
    );
    let of_h2 = headers(&[("content-length", "3"), ("b", "1")]);
    assert_eq!(
        names(&of_h2),
        "host: upstream.test\nb: 1\ntransfer-encoding: chunked"
    );
}

#[test]
fn a_switch_of_protocols_passes_both_ways() {
    let sent = headers(&[
        ("connection", "keep-alive, upgrade"),
        ("upgrade", "websocket"),
        ("b", "1"),
        ("keep-alive", "timeout=5"),
    ]);
    let expected = &pairs(&sent)[..3];
    assert_eq!(pairs(&downstreamward(&sent, Change::Switching)), expected);
    let switching = Upstreamward {
        switching: true,
        ..passage(Key::OfClient)
    };
    assert_eq!(pairs(&switching.headers(&sent))[1..], *expected);
}

#[test]
fn what_an_answer_says_of_a_body_that_was_rewritten_does_not_pass() {
    let sent = headers(&[
        ("a", "1"),
        ("content-encoding", "gzip"),
        ("content-length", "3"),
        ("content-type", "text/event-stream"),
        ("b", "2"),
    ]);
    assert_eq!(
        pairs(&downstreamward(&sent, Change::Rewritten)),
        [
            ("a", "1"),
            ("content-type", "text/event-stream"),
            ("b", "2")
        ]
    );
    assert_eq!(downstreamward(&sent, Change::None), sent);
}

#[test]
fn secrets_in_a_target_are_masked() {
    assert_eq!(redact_target("/v1/models"), "/v1/models");
    assert_eq!(redact_target("/v1?a=1&key=k&b"), "/v1?a=1&key=****&b");
    assert_eq!(
        redact_target("/v1?API_KEY=k=k&%6bey=k"),
        "/v1?API_KEY=****&%6bey=****"
    );
    assert_eq!(
        redact_target("/v1?X-Amz-Signature=s&key="),
        "/v1?X-Amz-Signature=****&key="
    );
    assert_eq!(
        redact_target("/v1?page_token=7&a?b"),
        "/v1?page_token=7&a?b"
    );
}

/// Names with meaning to the stripping, and some without.
fn any_name() -> impl Strategy<Value = HeaderName> {
    let mut known: Vec<HeaderName> = HOP_BY_HOP.iter().chain(&FOREIGN_SECRETS).cloned().collect();
    known.extend(
        ["x-aiops-run", "te", "host", "accept", "authorization"].map(HeaderName::from_static),
    );
    prop_oneof![
        proptest::sample::select(known),
        "[a-z-]{1,6}".prop_map(|name| HeaderName::try_from(name).unwrap()),
    ]
}

fn any_headers() -> impl Strategy<Value = HeaderMap> {
    let value = prop_oneof![
        "[ -~]{0,20}".prop_map(|value| HeaderValue::try_from(value).unwrap()),
        any_name().prop_map(HeaderValue::from),
    ];
    proptest::collection::vec((any_name(), value), 0..20).prop_map(in_order)
}

/// What must stay of a sequence of headers, as a plain reading of the rules has it.
fn filtered(sent: &HeaderMap, gone: &[&str]) -> Vec<(String, HeaderValue)> {
    let named: Vec<String> = sent
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| name != "authorization" && !name.starts_with("x-aiops-"))
        .collect();
    let stays = |name: &str| {
        !HOP_BY_HOP.iter().any(|hop| hop == name)
            && !named.iter().any(|one| one == name)
            && !gone.contains(&name)
    };
    sent.iter()
        .filter(|(name, _)| stays(name.as_str()))
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect()
}

fn sequence(map: &HeaderMap) -> Vec<(String, HeaderValue)> {
    map.iter()
        .filter(|(name, _)| **name != TE && **name != HOST)
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect()
}

proptest! {
    #[test]
    fn stripping_twice_is_stripping_once(sent in any_headers()) {
        let once = upstreamward(&sent);
        prop_assert_eq!(upstreamward(&once), once);
    }

    #[test]
    fn nothing_of_the_connection_passes(sent in any_headers()) {
        for stripped in [upstreamward(&sent), downstreamward(&sent, Change::None)] {
            prop_assert!(HOP_BY_HOP.iter().all(|name| !stripped.contains_key(name)));
        }
    }

    #[test]
    fn what_passes_passes_in_the_order_it_came(sent in any_headers()) {
        let mut gone: Vec<&str> = FOREIGN_SECRETS.iter().map(HeaderName::as_str).collect();
        gone.extend(["te", "host", "x-aiops-run"]);
        let passed = passage(Key::OfClient).headers(&sent);
        prop_assert_eq!(sequence(&passed), filtered(&sent, &gone));
        let back = downstreamward(&sent, Change::None);
        prop_assert_eq!(sequence(&back), filtered(&sent, &["te", "host"]));
    }

    #[test]
    fn a_header_that_passes_passes_whole(sent in any_headers()) {
        let stripped = upstreamward(&sent);
        for name in stripped.keys().filter(|name| **name != TE) {
            let [before, after] = [&sent, &stripped].map(|h| h.get_all(name).iter().collect::<Vec<_>>());
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn masking_keeps_everything_but_values(query in "[a-z=&%?]{0,20}") {
        let target = format!("/v1?{query}");
        let masked = redact_target(&target);
        prop_assert_eq!(masked.matches('&').count(), target.matches('&').count());
        prop_assert_eq!(redact_target(&masked), masked.clone());
    }
}
