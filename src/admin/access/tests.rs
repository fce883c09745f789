use http::header::{AUTHORIZATION, COOKIE as COOKIES, HOST};

use super::*;

const HERE: Peer = Peer(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
const START: Timestamp = Timestamp::from_micros(1_793_536_205_000_000);

fn token(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn after(seconds: u64) -> Timestamp {
    START.plus_micros(seconds * MICROS)
}

#[test]
fn a_session_lasts_seven_days_and_no_longer() {
    let (access, token) = (Access::default(), token("0123456789abcdef"));
    let id = access.begin(&token, START).unwrap();
    assert_eq!(id.len(), 64);
    assert!(access.is_open(&token, &id, after(SESSION_SECONDS - 1)));
    assert!(!access.is_open(&token, &id, after(SESSION_SECONDS)));
    assert!(!access.is_open(&token, &id, START), "it ended for good");
}

#[test]
fn a_clock_that_is_set_back_makes_nothing_last_longer() {
    let (access, token) = (Access::default(), token("0123456789abcdef"));
    let year = 365 * 86_400;
    let id = access.begin(&token, after(year)).unwrap();
    let enter = |at| access.enter(&token, "x", (HERE, at));
    for _ in 0..MAX_TRIES {
        assert_eq!(enter(after(year)), Err(Denied::Wrong));
    }
    assert!(access.is_open(&token, &id, START));
    assert_eq!(enter(START), Err(Denied::TooOften { seconds: 60 }));
    assert_eq!(enter(after(60)), Err(Denied::Wrong));
    assert!(!access.is_open(&token, &id, after(SESSION_SECONDS)));
}

#[test]
fn each_session_has_an_id_of_its_own_and_nothing_else_opens_it() {
    let (access, token) = (Access::default(), token("0123456789abcdef"));
    let one = access.begin(&token, START).unwrap();
    let two = access.begin(&token, START).unwrap();
    assert_ne!(one, two);
    access.end(&one);
    assert!(!access.is_open(&token, &one, START));
    assert!(access.is_open(&token, &two, START));
    for wrong in [
        "",
        "0123456789abcdef",
        &two[1..],
        &hash(two.as_bytes()).to_hex(),
    ] {
        assert!(!access.is_open(&token, wrong, START), "{wrong}");
    }
}

#[test]
fn of_too_many_sessions_the_oldest_ends() {
    let (access, token) = (Access::default(), token("0123456789abcdef"));
    let ids: Vec<_> = (0..=MAX_SESSIONS)
        .map(|_| access.begin(&token, START).unwrap())
        .collect();
    assert_eq!(access.known().sessions.len(), MAX_SESSIONS);
    assert!(!access.is_open(&token, &ids[0], START));
    assert!(access.is_open(&token, &ids[1], START));
    assert!(access.is_open(&token, &ids[MAX_SESSIONS], START));
}

#[test]
fn another_token_ends_all_sessions_even_when_the_first_comes_back() {
    let access = Access::default();
    let (one, two) = (token("0123456789abcdef"), token("fedcba9876543210"));
    let id = access.begin(&one, START).unwrap();
    assert!(!access.is_open(&two, &id, START));
    assert!(!access.is_open(&one, &id, START));
}

#[test]
fn wrong_tokens_are_taken_ten_times_a_minute_and_the_right_one_always() {
    let (access, token) = (Access::default(), token("0123456789abcdef"));
    let wrong = |at| access.enter(&token, "0123456789abcdeF", (HERE, at));
    for second in 0..10 {
        assert_eq!(wrong(after(second)), Err(Denied::Wrong));
    }
    assert_eq!(wrong(after(10)), Err(Denied::TooOften { seconds: 50 }));
    let right = access.enter(&token, " 0123456789abcdef\r\n", (HERE, after(10)));
    assert_eq!(right, Ok(()), "nobody locks the owner out");
    let almost = Timestamp::from_micros(after(60).micros() - 1);
    assert_eq!(wrong(almost), Err(Denied::TooOften { seconds: 1 }));
    assert_eq!(wrong(after(60)), Err(Denied::Wrong));
    assert_eq!(access.known().wrong[&HERE].len(), 10);
}

#[test]
fn wrong_tokens_of_one_client_are_not_counted_against_another() {
    let (access, token) = (Access::default(), token("0123456789abcdef"));
    for n in 0..2 * MAX_CLIENTS {
        let bits = u32::try_from(n).unwrap();
        let peer = Peer(std::net::Ipv4Addr::from_bits(bits).into());
        let now = START.plus_micros(u64::from(bits));
        assert_eq!(access.enter(&token, "x", (peer, now)), Err(Denied::Wrong));
    }
    assert_eq!(access.known().wrong.len(), MAX_CLIENTS);
}

fn headers<'h>(of: &[(&'static str, &'h str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'h str)| {
        let name = http::HeaderName::from_static(name);
        (name, HeaderValue::from_str(value).unwrap())
    };
    of.iter().map(pair).collect()
}

#[test]
fn a_token_is_read_from_one_header_of_its_scheme() {
    for (of, expected) in [
        (&[][..], None),
        (&["Bearer abc"][..], Some(&b"abc"[..])),
        (&["bEARER  abc "], Some(b"abc")),
        (&["Bearer "], Some(b"")),
        (&["Bearer a b"], Some(b"a b")),
        (&["Basic YTpi"], None),
        (&["Bearer"], None),
        (&["Bearerabc"], None),
        (&["Bearer abc", "Bearer abc"], Some(b"")),
        (&["Basic YTpi", "Bearer abc"], Some(b"")),
    ] {
        let of: Vec<_> = of
            .iter()
            .map(|value| (AUTHORIZATION.as_str(), *value))
            .collect();
        let headers: HeaderMap = of
            .iter()
            .map(|(_, value)| (AUTHORIZATION, HeaderValue::from_str(value).unwrap()))
            .fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(name, value);
                all
            });
        assert_eq!(bearer(&headers), expected, "{of:?}");
    }
}

#[test]
fn cookies_of_two_listeners_of_one_host_have_two_names() {
    let name = |host| cookie_name(&Uri::from_static("/"), &headers(&[(HOST.as_str(), host)]));
    assert_eq!(name("localhost:8788"), "aiops_session_8788");
    assert_eq!(name("[::1]:9788"), "aiops_session_9788");
    assert_eq!(name("aiops.example"), "aiops_session");
}

#[test]
fn few_cookies_of_exactly_one_name_are_looked_at() {
    let many = vec!["aiops_session_1=x"; 100].join("; ");
    let headers = headers(&[(COOKIES.as_str(), &many)]);
    assert_eq!(cookies(&headers, "aiops_session_1").count(), MAX_COOKIES);
    assert_eq!(cookies(&headers, "aiops_session").count(), 0);
    assert_eq!(cookies(&headers, "session_1").count(), 0);
}

#[test]
fn only_the_way_in_and_what_supervisors_ask_is_for_everybody() {
    for path in [
        "/healthz",
        "/readyz",
        "/login",
        "/logout",
        "/assets/style.css",
    ] {
        assert!(is_for_everybody(path), "{path}");
    }
    for path in [
        "/",
        "/metrics",
        "/healthz/",
        "/healthz/x",
        "/login/x",
        "/LOGIN",
        "//login",
        "/assets",
        "/assetsx",
        "/api/v1/assets/x",
        "/%6cogin",
        "",
    ] {
        assert!(!is_for_everybody(path), "{path}");
    }
}
