use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(path: &str, upstream: &str, run: &str, agent: &str, rest: &str) {
    let given = |text: &'static str| (!text.is_empty()).then_some(Cow::Borrowed(text));
    let [upstream, run, agent] = [upstream, run, agent].map(|text| given(text.to_owned().leak()));
    assert_eq!(
        take_tags(path, |name| name == "vllm"),
        Tagged {
            upstream,
            run,
            agent,
            rest
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
fn an_upstream_that_is_not_configured_is_a_path_like_any_other() {
    check("/upstream/other/v1/x", "", "", "", "/upstream/other/v1/x");
    check(
        "/agent/a/upstream/other/v1/x",
        "",
        "",
        "",
        "/agent/a/upstream/other/v1/x",
    );
}

proptest! {
    #[test]
    fn what_remains_is_the_end_of_the_path(path in "(/(agent|run|upstream|v1|[a-z%?/]{0,4})){0,8}") {
        let tagged = take_tags(&path, |_| true);
        prop_assert!(path.ends_with(tagged.rest));
        let names = [&tagged.upstream, &tagged.run, &tagged.agent];
        prop_assert_eq!(tagged.rest == path, names.iter().all(|name| name.is_none()));
    }
}
