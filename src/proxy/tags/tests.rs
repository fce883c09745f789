use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(path: &str, upstream: &str, run: &str, agent: &str, rest: &str) {
    let given = |text: &'static str| (!text.is_empty()).then_some(Cow::Borrowed(text));
    let [upstream, run, agent] = [upstream, run, agent].map(|text| given(text.to_owned().leak()));
    assert_eq!(
        take_tags(path),
        Tagged {
            upstream,
            run,
            agent,
            rest,
            ..Tagged::default()
        }
    );
}

#[test]
fn tags_come_in_any_order() {
    check(
        "/agent/planner/v1/responses",
        "",
        "",
        "planner",
        "/v1/responses",
    );
    check("/run/7/agent/a/v1/models", "", "7", "a", "/v1/models");
    check(
        "/agent/a/upstream/vllm/run/7/v1beta/x",
        "vllm",
        "7",
        "a",
        "/v1beta/x",
    );
    check("/run/7/chat/completions", "", "7", "", "/chat/completions");
    check(
        "/agent/a/openai/deployments/d",
        "",
        "",
        "a",
        "/openai/deployments/d",
    );
}

#[test]
fn names_are_percent_decoded() {
    check("/agent/my%20agent%2Fx/v1/a", "", "", "my agent/x", "/v1/a");
    check("/agent/%ff/v1/a", "", "", "", "/agent/%ff/v1/a");
}

#[test]
fn only_the_front_of_an_api_path_is_taken() {
    for path in [
        "/v1/agent/a/v1/x",
        "/agent/a",
        "/agent/a/",
        "/agent/a/b/c",
        "/agent/a/vision/x",
        "/agent//v1/x",
        "/agents/a/v1/x",
        "/agent/a?x=/v1/y",
        "/run/1/run/2/v1/x",
        "agent/a/v1/x",
        "/",
        "",
    ] {
        check(path, "", "", "", path);
    }
}

#[test]
fn path_that_names_an_upstream_goes_nowhere_else() {
    for (path, rest) in [
        ("/upstream/vllm/v1/x", "/v1/x"),
        ("/upstream/vllm/whatever", "/whatever"),
        ("/upstream/vllm/", "/"),
        ("/upstream/vllm", ""),
        ("/upstream/vllm/upstream/b/v1/x", "/upstream/b/v1/x"),
        ("/upstream/vllm/run//v1/x", "/run//v1/x"),
    ] {
        check(path, "vllm", "", "", rest);
    }
    check("/run/7/upstream/vllm/x", "vllm", "7", "", "/x");
    check("/upstream/%ff/v1/x", "\u{fffd}", "", "", "/v1/x");
    assert_eq!(take_tags("/upstream//v1/x").upstream.as_deref(), Some(""));
    check("/upstreams/vllm/x", "", "", "", "/upstreams/vllm/x");
}

#[test]
fn upstream_behind_what_is_no_tag_is_not_lost() {
    for path in [
        "/agent//upstream/vllm/v1/x",
        "/agent/%ff/upstream/vllm/v1/x",
        "/run/a/run/b/upstream/vllm/v1/x",
        "/run/a/run/v1/upstream/vllm/v1/x",
        "/run/a/b/upstream/vllm/v1/x",
        "//upstream/vllm/v1/x",
        "/run/a//upstream/vllm/v1/x",
        "/run/a/upstream",
    ] {
        let tagged = take_tags(path);
        assert!(tagged.is_broken, "{path}");
        assert_eq!((tagged.upstream, tagged.rest), (None, path));
    }
    for path in [
        "/upstream/vllm/run//upstream/b",
        "/v1/agent//upstream/vllm",
        "/agent/upstream/v1/x",
        "/proxy/upstream/vllm/v1/x",
        "/run/a/v1/upstream/x",
    ] {
        assert!(!take_tags(path).is_broken, "{path}");
    }
}

#[test]
fn run_comes_with_its_parent_variant_and_limits() {
    let path =
        "/run/a/parent-run/b/variant/terse%201/budget-usd/0.50/budget-tokens/9/budget-calls/3/v1/x";
    let text = |text: &'static str| Some(Cow::Borrowed(text));
    let expected = Tagged {
        run: text("a"),
        parent_run: text("b"),
        variant: text("terse 1"),
        budget_usd: text("0.50"),
        budget_tokens: text("9"),
        budget_calls: text("3"),
        rest: "/v1/x",
        ..Tagged::default()
    };
    assert_eq!(take_tags(path), expected);
}

proptest! {
    #[test]
    fn what_remains_is_the_end_of_the_path(
        path in "(/(agent|run|variant|parent-run|budget-usd|upstream|v1|[a-z%?/]{0,4})){0,8}"
    ) {
        let tagged = take_tags(&path);
        prop_assert!(path.ends_with(tagged.rest));
        let is_broken = tagged.is_broken;
        let untouched = Tagged { rest: tagged.rest, is_broken, ..Tagged::default() };
        prop_assert_eq!(tagged.rest == path, tagged == untouched);
    }
}
