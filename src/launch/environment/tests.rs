use super::*;
use crate::config::{Config, UpstreamConfig};
use crate::core::budget::{Limits, Measure};

const ORIGIN: &str = "http://127.0.0.1:4000";

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn endpoints(of: &[(&str, &str)]) -> Vec<Endpoint> {
    of.iter()
        .map(|(name, base_url)| endpoint(name, base_url))
        .collect()
}

/// As the first one of a config file.
fn endpoint(name: &str, base_url: &str) -> Endpoint {
    let accounting = Config::default().accounting;
    let config = UpstreamConfig {
        accept_client_key: true,
        ..UpstreamConfig::at(label(name), base_url.parse().unwrap(), &accounting)
    };
    Endpoint {
        takes_any_key: config.takes_any_key(),
        name: config.name,
        base_url: config.base_url,
    }
}

fn notes(variables: &Variables, upstreams: &[Endpoint]) -> Vec<String> {
    let behind = Behind {
        origin: ORIGIN,
        upstreams,
        own: &own(),
        ledger: "/data",
    };
    changes(variables, &identity(), &behind).unwrap().notes
}

fn vars(of: &[(&str, &str)]) -> Variables {
    of.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn own() -> Vec<SocketAddr> {
    vec!["127.0.0.1:4000".parse().unwrap()]
}

fn identity() -> Identity {
    Identity {
        run: label("crew-1"),
        parent: None,
        variant: None,
        limits: Limits::default(),
    }
}

/// What is set besides what a launch always sets.
#[track_caller]
fn set(variables: &Variables, upstreams: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut upstreams = endpoints(upstreams);
    let lacking = missing(variables, &upstreams, &own()).unwrap();
    upstreams.extend(lacking.into_iter().map(|of| of.endpoint));
    let behind = Behind {
        origin: ORIGIN,
        upstreams: &upstreams,
        own: &own(),
        ledger: "/data",
    };
    let changes = changes(variables, &identity(), &behind).unwrap();
    let of_launch = |name: &str| name.starts_with("OPEN_AIOPS_") || name.contains("HEADERS");
    let set = changes.set.into_iter();
    let short = |value: String| value.replace("http://127.0.0.1:4000/run/crew-1", "RUN");
    set.filter(|(name, _)| !of_launch(name))
        .map(|(name, value)| (name, short(value)))
        .collect()
}

#[track_caller]
fn check(variables: &[(&str, &str)], upstreams: &[(&str, &str)], expected: &[(&str, &str)]) {
    let expected: Vec<_> = vars(expected).into_iter().collect();
    assert_eq!(set(&vars(variables), upstreams), expected, "{variables:?}");
}

const OPENAI: (&str, &str) = ("openai", "https://api.openai.com/v1");
const ANTHROPIC: (&str, &str) = ("claude", "https://api.anthropic.com/v1");

#[test]
fn default_upstream_is_for_clients_of_the_usual_api_alone() {
    let usual = [
        ("OPENAI_API_BASE", "RUN/upstream/openai/v1"),
        ("OPENAI_BASE_URL", "RUN/upstream/openai/v1"),
    ];
    check(&[], &[OPENAI], &usual);
    check(&[("OPENAI_BASE_URL", "  ")], &[OPENAI], &usual);
    let local = usual.map(|(name, _)| (name, "RUN/upstream/local/v1"));
    check(&[], &[("local", "http://127.0.0.1:11434/v1")], &local);
    check(&[], &[("other", "https://api.example/v1"), OPENAI], &usual);
    check(
        &[],
        &[(
            "g",
            "https://generativelanguage.googleapis.com/v1beta/openai",
        )],
        &[("GOOGLE_GEMINI_BASE_URL", "RUN/upstream/g")],
    );
}

#[test]
fn openai_key_comes_to_another_host_only_where_that_is_meant_and_said() {
    let mut other = endpoint("other", "https://api.example/v1");
    let none = vars(&[]);
    check(&[], &[("other", "https://api.example/v1")], &[]);
    let told = notes(&none, std::slice::from_ref(&other));
    assert!(
        told[0].contains("OPENAI_BASE_URL is left alone"),
        "{told:?}"
    );
    assert!(told[0].contains("accept_client_key = true"), "{told:?}");
    other.takes_any_key = true;
    assert_eq!(
        notes(&none, std::slice::from_ref(&other)),
        ["OPENAI_BASE_URL leads to other, https://api.example/v1"]
    );
    let native = endpoint(OPENAI.0, OPENAI.1);
    assert!(notes(&none, &[other, native.clone()]).is_empty());
    let header = vars(&[("OPENAI_CUSTOM_HEADERS", "X-AIOps-Upstream: other")]);
    let told = notes(&header, &[native]);
    assert!(told[0].contains("x-aiops-upstream of OPENAI_CUSTOM_HEADERS is left out"));
}

#[test]
fn key_does_not_come_to_an_upstream_of_another_api() {
    let anthropic = [
        ("ANTHROPIC_API_BASE", "RUN/upstream/claude"),
        ("ANTHROPIC_BASE_URL", "RUN/upstream/claude"),
    ];
    check(&[], &[ANTHROPIC], &anthropic);
    let upstreams = endpoints(&[ANTHROPIC]);
    let behind = Behind {
        origin: ORIGIN,
        upstreams: &upstreams,
        own: &own(),
        ledger: "/data",
    };
    let changes = changes(&vars(&[]), &identity(), &behind).unwrap();
    assert!(changes.notes[0].contains("OPENAI_BASE_URL is left alone"));
    assert!(!changes.set.contains_key("OPENAI_CUSTOM_HEADERS"));
    // Where the default speaks something else, OpenAI's own upstream is named.
    let mut both = anthropic.to_vec();
    both.push(("OPENAI_API_BASE", "RUN/upstream/openai/v1"));
    both.push(("OPENAI_BASE_URL", "RUN/upstream/openai/v1"));
    check(&[], &[ANTHROPIC, OPENAI], &both);
    // A gateway is none of the companies, whatever it may speak.
    check(
        &[],
        &[ANTHROPIC, ("gateway", "http://10.0.0.1/v1")],
        &anthropic,
    );
}

#[test]
fn endpoint_that_is_set_stays_the_endpoint() {
    let made_up = |path: &str| format!("RUN/upstream/openai-base-url{path}");
    for (value, path) in [
        ("http://10.0.0.1:8000/v1", "/v1"),
        ("http://10.0.0.1:8000/v1/", "/v1"),
        ("https://gw.corp/team/openai/v1", "/team/openai/v1"),
        ("https://gw.corp", ""),
    ] {
        let path = made_up(path);
        check(
            &[("OPENAI_BASE_URL", value)],
            &[OPENAI],
            &[("OPENAI_API_BASE", &path), ("OPENAI_BASE_URL", &path)],
        );
    }
    check(
        &[
            ("OPENAI_API_BASE", "http://a/v1"),
            ("OPENAI_BASE_URL", "http://b:81/v1"),
        ],
        &[OPENAI],
        &[
            ("OPENAI_API_BASE", "RUN/upstream/openai-api-base/v1"),
            ("OPENAI_BASE_URL", "RUN/upstream/openai-base-url/v1"),
        ],
    );
    check(
        &[("ANTHROPIC_BASE_URL", "https://gw.corp/anthropic")],
        &[("local", "http://127.0.0.1:1/v1")],
        &[
            (
                "ANTHROPIC_API_BASE",
                "RUN/upstream/anthropic-base-url/anthropic",
            ),
            (
                "ANTHROPIC_BASE_URL",
                "RUN/upstream/anthropic-base-url/anthropic",
            ),
            ("OPENAI_API_BASE", "RUN/upstream/local/v1"),
            ("OPENAI_BASE_URL", "RUN/upstream/local/v1"),
        ],
    );
}

#[test]
fn endpoint_that_an_upstream_is_needs_no_other() {
    let lacking = |value: &str, upstreams: &[(&str, &str)]| {
        let variables = vars(&[("OPENAI_BASE_URL", value)]);
        missing(&variables, &endpoints(upstreams), &own()).unwrap()
    };
    let upstreams = [
        OPENAI,
        ("or", "https://openrouter.ai/api/v1"),
        ("vllm", "http://GPU:8000/v1"),
    ];
    for value in [
        "https://api.openai.com/v1",
        "https://API.openai.com:443/v1/",
        "https://openrouter.ai/api/v1",
        "http://gpu:8000/v1",
        "http://gpu:8000/other/v1",
        "http://127.0.0.1:4000/v1",
        "http://localhost:4000/run/x/v1",
    ] {
        assert_eq!(lacking(value, &upstreams), [], "{value}");
    }
    for value in [
        "http://api.openai.com/v1",
        "https://api.openai.com:8443/v1",
        "https://openrouter.ai/v1",
        "http://localhost:4001/v1",
        "http://10.0.0.1:4000/v1",
    ] {
        let lacking = lacking(value, &upstreams);
        assert_eq!(lacking.len(), 1, "{value}");
        assert_eq!(lacking[0].value, value);
        assert_eq!(lacking[0].endpoint.name.as_str(), "openai-base-url");
        let path = lacking[0].endpoint.base_url.path();
        assert_eq!(path, "/v1", "every path is what it is there");
        let accounting = Config::default().accounting;
        assert!(!lacking[0].upstream(&accounting).accept_client_key);
    }
    let taken = lacking("http://new/v1", &[("openai-base-url", "http://old/v1")]);
    assert_eq!(taken[0].endpoint.name.as_str(), "openai-base-url-2");
}

#[test]
fn url_of_the_proxy_itself_keeps_all_but_its_run() {
    let nested = |path: &str| {
        let value = format!("http://localhost:4000{path}");
        let set = set(&vars(&[("OPENAI_BASE_URL", &value)]), &[OPENAI]);
        set.into_iter()
            .find(|(name, _)| name == "OPENAI_BASE_URL")
            .unwrap()
            .1
    };
    assert_eq!(nested("/v1"), "RUN/v1");
    assert_eq!(nested(""), "RUN");
    assert_eq!(nested("/run/crew-0/budget-usd/1/v1"), "RUN/v1");
    assert_eq!(
        nested("/run/crew-0/upstream/a%20b/v1"),
        "RUN/upstream/a%20b/v1"
    );
    assert_eq!(nested("/run/crew-0/upstream/g"), "RUN/upstream/g");
    assert_eq!(nested("/run/crew-0/upstream//v1"), "RUN/upstream//v1");
    assert_eq!(nested("/run/crew-0/agent/x%2Fy/v1"), "RUN/agent/x%2Fy/v1");
}

#[test]
fn what_is_no_url_is_said_without_what_may_be_a_password() {
    for (value, shown) in [
        ("localhost:11434", "localhost:11434"),
        ("ftp://a/v1", "ftp://a/v1"),
        ("http://me:secret@a/v1", "...@a/v1"),
        ("http://a/v1?key=secret", "http://a/v1..."),
        ("http://a/v1?mail=secret@b", "..."),
        ("http://a/v1#secret", "http://a/v1..."),
        ("http://me:se?secret@a/v1", "..."),
        ("http://me:secret@a/v1?key=secret", "...@a/v1..."),
    ] {
        let wrong = missing(&vars(&[("OPENAI_BASE_URL", value)]), &[], &[]).unwrap_err();
        let told = wrong.to_string();
        assert!(
            told.starts_with(&format!(
                "OPENAI_BASE_URL in the environment: found `{shown}`"
            )),
            "{told}"
        );
        assert!(!told.contains("secret"), "{told}");
    }
}

#[test]
fn headers_are_appended_to_what_is_set() {
    let mut limits = Limits::default();
    limits.set(Measure::Calls, Some(5));
    let identity = Identity {
        parent: Some(label("outer-1")),
        limits,
        ..identity()
    };
    let set = "x-team: a\r\nX-AIOps-Upstream: b\nX-AIOps-Run: old\n\nx-aiops-agent: b".to_owned();
    assert_eq!(
        with_headers(Some(&set), &identity),
        "x-team: a\nx-aiops-agent: b\nx-aiops-run: crew-1\nx-aiops-parent-run: outer-1\n\
         x-aiops-budget-calls: 5"
    );
}

#[test]
fn way_to_this_machine_does_not_lead_through_a_proxy() {
    let with = |of: &[(&str, &str)]| {
        let set = no_proxy(&vars(of), ORIGIN);
        ["NO_PROXY", "no_proxy"].map(|name| set.get(name).cloned().unwrap_or_default())
    };
    assert_eq!(with(&[("NO_PROXY", "a")]), ["", ""], "no proxy is set");
    let both = "127.0.0.1,localhost";
    assert_eq!(with(&[("https_proxy", "http://p")]), [both, both]);
    assert_eq!(
        with(&[("HTTP_PROXY", "http://p"), ("no_proxy", "a, localhost")]),
        ["a,localhost,127.0.0.1", "a,localhost,127.0.0.1"]
    );
    assert_eq!(
        with(&[
            ("ALL_PROXY", "http://p"),
            ("NO_PROXY", "*"),
            ("no_proxy", "b")
        ]),
        ["*", "b,127.0.0.1,localhost"]
    );
}
