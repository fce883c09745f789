use crate::core::budget::Measure;
use crate::core::metric::Value;
use http::header::HeaderName;
use proptest::prelude::*;

use super::rules::{Meaning, Rule};
use super::*;

const NO_TAGS: Tagged<'_> = Tagged {
    upstream: None,
    run: None,
    parent_run: None,
    agent: None,
    variant: None,
    budget_usd: None,
    budget_tokens: None,
    budget_calls: None,
    is_broken: false,
    rest: "/v1",
};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    headers
}

fn attributed(pairs: &[(&str, &str)]) -> Attributed {
    let headers = headers(pairs);
    attribute(&Claims {
        headers: &headers,
        tags: &NO_TAGS,
        body: BodyClaims::default(),
    })
}

fn of(pairs: &[(&str, &str)]) -> Attribution {
    let attributed = attributed(pairs);
    assert_eq!(attributed.ignored, [], "{pairs:?}");
    attributed.attribution
}

/// Agent, caller, depth.
fn lineage(pairs: &[(&str, &str)]) -> (String, Option<String>, u32) {
    let attribution = of(pairs);
    let caller = attribution.caller.map(|caller| caller.to_string());
    (attribution.agent.to_string(), caller, attribution.depth)
}

fn ignored(pairs: &[(&str, &str)]) -> Vec<(String, Reason)> {
    let ignored = attributed(pairs).ignored;
    ignored
        .into_iter()
        .map(|ignored| (ignored.header, ignored.reason))
        .collect()
}

fn text(label: Option<&Label>) -> &str {
    label.map(Label::as_str).unwrap_or_default()
}

fn named(attributed: &Attributed, slot: Slot) -> &str {
    let attribution = &attributed.attribution;
    match slot {
        Slot::Agent => attribution.agent.as_str(),
        Slot::Caller => text(attribution.caller.as_ref()),
        Slot::Run => text(attribution.run.as_ref()),
        Slot::ParentRun => text(attribution.parent_run.as_ref()),
        Slot::User => text(attribution.user.as_ref()),
        Slot::Variant => text(attribution.variant.as_ref()),
        Slot::Conversation => text(attribution.conversation.as_ref()),
        Slot::Upstream => text(attributed.upstream.as_ref()),
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A value for a rule.
fn value_of(rule: &Rule) -> &'static str {
    match rule.meaning {
        Meaning::Name(_) | Meaning::Tag(_) | Meaning::Subagent(_) => " value ",
        Meaning::Path => "/planner/researcher",
        Meaning::Depth | Meaning::Retry | Meaning::Budget(_) => "3",
        Meaning::TagList => "prod, team:search,",
        Meaning::Json(..) => r#"{"session_id":"s","_user":"u","plan":"pro","n":1,"nested":{}}"#,
        Meaning::Record => "meta",
        Meaning::OmitBody => "true",
        Meaning::Traceparent => "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        Meaning::Baggage => "a=b, session.id=s%201;p=1,user.id=u,gen_ai.agent.name=writer",
    }
}

#[track_caller]
fn check_rule(rule: &Rule) {
    let Attributed {
        attribution,
        record,
        retry,
        tightened,
        ignored,
        ..
    } = attributed(&[(rule.name, value_of(rule))]);
    assert_eq!(ignored, [], "{}", rule.name);
    let tag = |name| text(attribution.tags.get(name));
    match rule.meaning {
        Meaning::Name(slot) => {
            let attributed = attributed(&[(rule.name, value_of(rule))]);
            assert_eq!(named(&attributed, slot), "value", "{}", rule.name);
        }
        Meaning::Path => assert_eq!(
            (attribution.agent.as_str(), attribution.depth),
            ("researcher", 2)
        ),
        Meaning::Depth => assert_eq!(attribution.depth, 3),
        Meaning::Budget(measure) => {
            let nano = if measure == Measure::Usd {
                1_000_000_000
            } else {
                1
            };
            assert_eq!(tightened.of(measure), Some(3 * nano), "{}", rule.name);
        }
        Meaning::Tag(name) => assert_eq!(tag(name), "value", "{}", rule.name),
        Meaning::Subagent(name) => assert_eq!((tag(name), attribution.depth), ("value", 2)),
        Meaning::TagList => assert_eq!((tag("prod"), tag("team")), ("true", "search")),
        Meaning::Json(keys, true) => {
            assert_eq!(
                (tag("plan"), tag("n"), tag("nested")),
                ("pro", "1", ""),
                "{}",
                rule.name
            );
            let is_user = !keys.is_empty();
            assert_eq!(
                text(attribution.user.as_ref()),
                if is_user { "u" } else { "" }
            );
        }
        Meaning::Json(_, false) => {
            assert_eq!((text(attribution.run.as_ref()), tag("plan")), ("s", ""));
        }
        Meaning::Record | Meaning::OmitBody => assert_eq!(record, Some(RecordLevel::Meta)),
        Meaning::Retry => assert_eq!(retry, 3),
        Meaning::Traceparent => {
            assert_eq!(text(attribution.run.as_ref()), TRACE);
            assert_eq!(tag("parent_span_id"), "b7ad6b7169203331");
        }
        Meaning::Baggage => {
            assert_eq!(text(attribution.run.as_ref()), "s 1");
            assert_eq!(text(attribution.user.as_ref()), "u");
            assert_eq!(attribution.agent.as_str(), "writer");
        }
    }
}

#[test]
fn every_known_header_has_its_meaning() {
    rules::all().for_each(|rule| check_rule(&rule));
    assert!(rules::all().count() > 70);
}

#[test]
fn every_header_has_one_row_in_lower_case() {
    let mut names: Vec<&str> = rules::all().map(|rule| rule.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
    assert!(
        names
            .iter()
            .all(|name| rules::find(name).is_some_and(|rule| rule.name == *name))
    );
}

#[test]
fn of_two_headers_for_one_name_the_stronger_counts_in_any_order() {
    let rules: Vec<Rule> = rules::all().collect();
    for a in &rules {
        for b in &rules {
            let (Meaning::Name(slot), Meaning::Name(other)) = (a.meaning, b.meaning) else {
                continue;
            };
            if slot != other || a.rank >= b.rank {
                continue;
            }
            for pairs in [
                [(a.name, "a"), (b.name, "b")],
                [(b.name, "b"), (a.name, "a")],
            ] {
                assert_eq!(named(&attributed(&pairs), slot), "a", "{pairs:?}");
            }
        }
    }
}

#[test]
fn evidence_counts_in_the_order_of_its_kind() {
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let all = [
        ("x-aiops-run", "own", Source::Own),
        ("x-aiops-run-id", "own-2", Source::Own),
        ("url", "url", Source::Own),
        ("x-litellm-trace-id", "alias", Source::Alias),
        ("x-litellm-session-id", "alias-2", Source::Alias),
        ("x-session-id", "generic", Source::Alias),
        ("x-claude-code-session-id", "harness", Source::Harness),
        ("x-acme-session-id", "any-vendor", Source::Harness),
        ("baggage", "session.id=baggage", Source::W3c),
        ("traceparent", traceparent, Source::W3c),
        ("body", "body", Source::Body),
        ("metadata", "metadata", Source::Body),
    ];
    for from in 0..all.len() {
        let left = &all[from..];
        let is_there = |name| left.iter().any(|(left, ..)| *left == name);
        let is_header = |name: &str| !["url", "body", "metadata"].contains(&name);
        let pairs: Vec<(&str, &str)> = left
            .iter()
            .filter(|(name, ..)| is_header(name))
            .map(|(name, value, _)| (*name, *value))
            .collect();
        let metadata = BTreeMap::from([("run_id".to_owned(), "metadata".to_owned())]);
        let body = BodyClaims {
            session_id: is_there("body").then_some("body"),
            metadata: Some(&metadata),
            ..BodyClaims::default()
        };
        let tags = Tagged {
            run: is_there("url").then(|| "url".into()),
            ..NO_TAGS
        };
        let claims = Claims {
            headers: &headers(&pairs),
            tags: &tags,
            body,
        };
        let attribution = attribute(&claims).attribution;
        let (name, value, source) = all[from];
        let expected = match name {
            "baggage" => "baggage",
            "traceparent" => TRACE,
            _ => value,
        };
        assert_eq!(text(attribution.run.as_ref()), expected);
        assert_eq!(attribution.run_source, Some(source), "{name}");
    }
}

#[test]
fn a_claim_that_cannot_be_used_leaves_the_place_to_a_weaker_one() {
    let pairs = [("x-aiops-agent", " "), ("x-agent-id", "planner")];
    let attributed = attributed(&pairs);
    assert_eq!(attributed.attribution.agent.as_str(), "planner");
    assert_eq!(attributed.attribution.agent_source, Source::Alias);
    assert_eq!(
        ignored(&pairs),
        [("x-aiops-agent".to_owned(), LabelError::Empty.into())]
    );
}

#[test]
fn values_that_make_no_sense_are_listed() {
    let long = "x".repeat(257);
    let deep = "/a".repeat(65);
    for (name, value, reason) in [
        ("x-aiops-agent", long.as_str(), LabelError::TooLong.into()),
        ("x-aiops-run", "a\tb", LabelError::ControlCharacter.into()),
        ("x-aiops-depth", "0", Reason::BadDepth),
        ("x-aiops-depth", "-1", Reason::BadDepth),
        ("x-aiops-path", "//", Reason::BadPath),
        ("x-aiops-path", deep.as_str(), Reason::BadPath),
        ("x-aiops-record", "more", Reason::BadRecordLevel),
        ("x-aiops-metric-score", "NaN", Reason::BadMetric),
        ("x-aiops-metric-score", "inf", Reason::BadMetric),
        ("x-aiops-metric-", "1", Reason::BadName),
        ("x-aiops-tag-", "1", Reason::BadName),
        ("x-aiops-agnet", "planner", Reason::UnknownHeader),
        ("x-stainless-retry-count", "often", Reason::BadCount),
        ("x-portkey-metadata", "{", Reason::BadJson),
        ("cf-aig-metadata", "[1]", Reason::BadJson),
        (
            "traceparent",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            Reason::BadTraceparent,
        ),
        ("traceparent", "nonsense", Reason::BadTraceparent),
    ] {
        assert_eq!(
            ignored(&[(name, value)]),
            [(name.to_owned(), reason)],
            "{value}"
        );
    }
    let mut bytes = HeaderMap::new();
    bytes.insert(
        "x-aiops-agent",
        http::HeaderValue::from_bytes(b"\xff").unwrap(),
    );
    let claims = Claims {
        headers: &bytes,
        tags: &NO_TAGS,
        body: BodyClaims::default(),
    };
    assert_eq!(attribute(&claims).ignored[0].reason, Reason::NotUtf8);
}

#[test]
fn a_path_gives_agent_caller_and_depth() {
    let path = ("x-aiops-path", "/planner/researcher");
    assert_eq!(
        lineage(&[path]),
        ("researcher".into(), Some("planner".into()), 2)
    );
    assert_eq!(
        lineage(&[("x-aiops-path", "planner")]),
        ("planner".into(), None, 1)
    );
    assert_eq!(of(&[path]).path.len(), 2);
    assert_eq!(of(&[path]).agent_source, Source::Own);
}

#[test]
fn a_path_that_ends_in_another_agent_is_that_of_the_callers() {
    let pairs = [
        ("x-aiops-path", "/planner/researcher"),
        ("x-aiops-agent", "writer"),
    ];
    assert_eq!(
        lineage(&pairs),
        ("writer".into(), Some("researcher".into()), 3)
    );
    assert_eq!(of(&pairs).path.last().unwrap().as_str(), "writer");
}

#[test]
fn a_weaker_agent_does_not_change_a_path() {
    let pairs = [
        ("x-aiops-path", "/planner/researcher"),
        ("x-agent-id", "writer"),
    ];
    assert_eq!(
        lineage(&pairs),
        ("researcher".into(), Some("planner".into()), 2)
    );
}

#[test]
fn a_better_caller_overrules_a_path_and_a_weaker_one_does_not() {
    let path = ("helicone-session-path", "/planner/researcher");
    let pairs = [path, ("x-aiops-caller", "boss")];
    assert_eq!(
        lineage(&pairs),
        ("researcher".into(), Some("boss".into()), 2)
    );
    assert!(of(&pairs).path.is_empty());
    let long = [
        ("helicone-session-path", "/a/b/c/researcher"),
        ("x-aiops-caller", "boss"),
    ];
    assert_eq!(
        lineage(&long),
        ("researcher".into(), Some("boss".into()), 4)
    );
    let pairs = [path, ("x-switchyard-parent-agent-id", "boss")];
    assert_eq!(
        lineage(&pairs),
        ("researcher".into(), Some("planner".into()), 2)
    );
}

#[test]
fn a_caller_extends_a_path_of_one_agent() {
    let pairs = [
        ("x-aiops-path", "/researcher"),
        ("x-aiops-caller", "planner"),
    ];
    assert_eq!(
        lineage(&pairs),
        ("researcher".into(), Some("planner".into()), 2)
    );
    assert_eq!(of(&pairs).path.len(), 2);
}

#[test]
fn the_deepest_evidence_counts() {
    let path = ("x-aiops-path", "/a/b/c");
    assert_eq!(of(&[path, ("x-aiops-depth", "1")]).depth, 3);
    assert_eq!(of(&[path, ("x-aiops-depth", "9")]).depth, 9);
    assert_eq!(
        of(&[("x-aiops-agent", "b"), ("x-aiops-caller", "a")]).depth,
        2
    );
    assert_eq!(of(&[]).depth, 1);
    assert_eq!(of(&[("x-switchyard-is-subagent", "false")]).depth, 1);
}

#[test]
fn claude_code_is_read_from_its_own_headers() {
    let session = ("x-claude-code-session-id", "s");
    let agent = ("x-claude-code-agent-id", "explore");
    let parent = ("x-claude-code-parent-agent-id", "plan");
    assert_eq!(lineage(&[session]), ("claude-code".into(), None, 1));
    assert_eq!(
        lineage(&[session, agent]),
        ("explore".into(), Some("claude-code".into()), 2)
    );
    assert_eq!(
        lineage(&[session, agent, parent]),
        ("explore".into(), Some("plan".into()), 2)
    );
    assert_eq!(of(&[session]).agent_source, Source::Harness);
    let own = ("x-aiops-agent", "mine");
    assert_eq!(lineage(&[session, agent, own]), ("mine".into(), None, 1));
}

#[test]
fn codex_is_read_from_its_turn_metadata_first() {
    let turn = (
        "x-codex-turn-metadata",
        r#"{"session_id":"s","thread_id":"t","turn_id":"1","cwd":"/x"}"#,
    );
    let main = of(&[("session-id", "other"), turn, ("thread-id", "other")]);
    assert_eq!(
        (text(main.run.as_ref()), text(main.conversation.as_ref())),
        ("s", "t")
    );
    assert_eq!((main.agent.as_str(), main.depth), ("codex", 1));
    assert_eq!(main.tags.keys().collect::<Vec<_>>(), ["turn_id"]);
    let turn = r#"{"agent_role":"worker","subagent_kind":"spawn","parent_thread_id":"p"}"#;
    assert_eq!(
        lineage(&[
            ("x-codex-turn-metadata", turn),
            ("x-openai-subagent", "review")
        ]),
        ("worker".into(), Some("codex".into()), 2)
    );
    let subagent = [
        ("x-openai-subagent", "review"),
        ("x-codex-parent-thread-id", "p"),
    ];
    assert_eq!(
        lineage(&subagent),
        ("review".into(), Some("codex".into()), 2)
    );
}

#[test]
fn opencode_and_dynamo_sessions_have_parents() {
    let opencode = of(&[
        ("x-opencode-session", "child"),
        ("x-parent-session-id", "parent"),
        ("x-session-affinity", "affinity"),
    ]);
    assert_eq!(
        (text(opencode.run.as_ref()), opencode.agent.as_str()),
        ("child", "opencode")
    );
    assert_eq!(text(opencode.parent_run.as_ref()), "parent");
    let dynamo = of(&[
        ("x-dynamo-session-id", "c"),
        ("x-dynamo-parent-session-id", "p"),
    ]);
    assert_eq!(text(dynamo.parent_run.as_ref()), "p");
}

#[test]
fn a_run_is_not_its_own_parent() {
    let attribution = of(&[("x-aiops-run", "r"), ("x-aiops-parent-run", "r")]);
    assert_eq!(attribution.parent_run, None);
}

#[test]
fn an_unnamed_agent_is_called_by_its_client() {
    let agent = |client: &str| of(&[("user-agent", client)]).agent.to_string();
    assert_eq!(agent("OpenAI/Python 3.54.0"), "unknown:OpenAI/Python");
    assert_eq!(agent("pydantic-ai/2.68.0 x"), "unknown:pydantic-ai");
    assert_eq!(agent("curl"), "unknown:curl");
    assert_eq!(agent("/1.0"), "unknown:client");
    assert_eq!(of(&[]).agent.as_str(), "unknown:client");
    assert_eq!(of(&[]).agent_source, Source::Unknown);
    assert_eq!(agent(&"x".repeat(400)).len(), Label::MAX_BYTES);
}

#[test]
fn headers_of_a_kind_carry_the_name_of_their_tag() {
    let attribution = of(&[
        ("helicone-property-Plan", "pro"),
        ("x-bf-dim-region", "eu"),
        ("x-bf-prom-team", "search"),
        ("x-llmgateway-env", "test"),
        ("x-aiops-tag-team", "own"),
        ("x-aiops-metric-score", " 0.5 "),
        ("x-aiops-metric-count", "1e3"),
    ]);
    let tags: Vec<(&str, &str)> = attribution
        .tags
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let expected = [
        ("env", "test"),
        ("plan", "pro"),
        ("region", "eu"),
        ("team", "own"),
    ];
    assert_eq!(tags, expected);
    assert_eq!(
        attribution.metrics,
        BTreeMap::from([
            ("count".into(), Value::Number(1000.0)),
            ("score".into(), Value::Number(0.5))
        ])
    );
}

#[test]
fn another_vendors_session_id_needs_the_form_of_one() {
    assert_eq!(
        text(of(&[("x-acme-session-id", "abcd-1234")]).run.as_ref()),
        "abcd-1234"
    );
    assert_eq!(of(&[("x-acme-session-id", "short")]).run, None);
    assert_eq!(of(&[("x-acme-session-id", "with blanks in it")]).run, None);
}

#[test]
fn own_tags_are_kept_when_there_are_too_many() {
    let many: BTreeMap<String, String> = (0..1000)
        .map(|n| (format!("key{n:04}"), "value".to_owned()))
        .collect();
    let headers = headers(&[("x-aiops-tag-mine", "1")]);
    let body = BodyClaims {
        metadata: Some(&many),
        ..BodyClaims::default()
    };
    let attributed = attribute(&Claims {
        headers: &headers,
        tags: &NO_TAGS,
        body,
    });
    assert_eq!(attributed.attribution.tags.len(), MAX_TAGS);
    assert!(attributed.attribution.tags.contains_key("mine"));
    assert!((1..1000).contains(&attributed.ignored.len()));
    assert!(
        attributed
            .ignored
            .iter()
            .all(|ignored| ignored.reason == Reason::TooMany)
    );
}

#[test]
fn metrics_are_bounded() {
    let names: Vec<String> = (0..40).map(|n| format!("x-aiops-metric-m{n}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let attributed = attributed(&pairs);
    assert_eq!(attributed.attribution.metrics.len(), MAX_METRICS);
    assert_eq!(attributed.ignored.len(), 40 - MAX_METRICS);
}

#[test]
fn the_strictest_record_level_counts() {
    let record = |pairs| attributed(pairs).record;
    assert_eq!(record(&[]), None);
    assert_eq!(
        record(&[("x-aiops-record", "full")]),
        Some(RecordLevel::Full)
    );
    let both = [
        ("x-aiops-record", "full"),
        ("helicone-omit-request", "true"),
    ];
    assert_eq!(record(&both), Some(RecordLevel::Meta));
    assert_eq!(record(&[("helicone-omit-request", "false")]), None);
}

#[test]
fn a_header_overrules_the_tag_in_the_base_url() {
    let tags = Tagged {
        upstream: Some("vllm".into()),
        run: Some("url\n".into()),
        agent: Some("of-url".into()),
        ..NO_TAGS
    };
    let attribute_with = |pairs: &[(&str, &str)]| {
        attribute(&Claims {
            headers: &headers(pairs),
            tags: &tags,
            body: BodyClaims::default(),
        })
    };
    let by_url = attribute_with(&[("x-agent-id", "alias")]);
    assert_eq!(by_url.attribution.agent.as_str(), "of-url");
    assert_eq!(by_url.attribution.agent_source, Source::Own);
    assert_eq!(text(by_url.upstream.as_ref()), "vllm");
    // A trailing newline is trimmed like any other white space.
    assert_eq!(text(by_url.attribution.run.as_ref()), "url");
    let by_header = attribute_with(&[("x-aiops-agent", "own"), ("x-aiops-upstream", "openai")]);
    assert_eq!(by_header.attribution.agent.as_str(), "own");
    assert_eq!(text(by_header.upstream.as_ref()), "openai");
}

fn of_body(body: BodyClaims<'_>) -> Attribution {
    attribute(&Claims {
        headers: &HeaderMap::new(),
        tags: &NO_TAGS,
        body,
    })
    .attribution
}

fn of_metadata(pairs: &[(&str, &str)]) -> Attribution {
    let metadata = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    of_body(BodyClaims {
        metadata: Some(&metadata.collect()),
        ..BodyClaims::default()
    })
}

#[test]
fn body_fields_are_the_last_resort() {
    let attribution = of_body(BodyClaims {
        user: Some("u"),
        safety_identifier: Some("s"),
        session_id: Some("run"),
        conversation: Some("c"),
        prompt_cache_key: Some("p"),
        metadata: None,
    });
    assert_eq!(text(attribution.user.as_ref()), "u");
    assert_eq!(text(attribution.run.as_ref()), "run");
    assert_eq!(text(attribution.conversation.as_ref()), "c");
    assert_eq!(text(attribution.tags.get("prompt_cache_key")), "p");
    let hashed = BodyClaims {
        safety_identifier: Some("s"),
        ..BodyClaims::default()
    };
    assert_eq!(text(of_body(hashed).user.as_ref()), "s");
}

#[test]
fn metadata_of_the_body_names_what_it_can() {
    let attribution = of_metadata(&[
        ("agent", "writer"),
        ("parent", "planner"),
        ("run_id", "r"),
        ("session_id", "s"),
        ("user_id", "u"),
        ("tags", "a,b:c"),
        ("other", "value"),
    ]);
    assert_eq!(attribution.agent.as_str(), "writer");
    assert_eq!(
        (text(attribution.caller.as_ref()), attribution.depth),
        ("planner", 2)
    );
    assert_eq!(text(attribution.run.as_ref()), "r");
    assert_eq!(text(attribution.user.as_ref()), "u");
    assert_eq!(
        attribution.tags.keys().collect::<Vec<_>>(),
        ["a", "b", "other"]
    );
}

#[test]
fn a_packed_user_id_is_taken_apart() {
    let packed = r#"{"device_id":"d","account_uuid":"a","session_id":"s","parent_session_id":"p"}"#;
    let json = of_metadata(&[("user_id", packed)]);
    assert_eq!(
        (text(json.user.as_ref()), text(json.run.as_ref())),
        ("a", "s")
    );
    assert_eq!(text(json.parent_run.as_ref()), "p");
    let joined = of_metadata(&[
        ("user_id", "user_1_account_2_session_3"),
        ("session_id", "better"),
    ]);
    assert_eq!(text(joined.user.as_ref()), "user_1_account_2");
    assert_eq!(text(joined.run.as_ref()), "better");
}

fn any_name() -> impl Strategy<Value = HeaderName> {
    let known: Vec<&'static str> = rules::all()
        .map(|rule| rule.name)
        .chain(["user-agent"])
        .collect();
    let prefixes = [
        "x-aiops-",
        "x-aiops-tag-",
        "x-aiops-metric-",
        "helicone-property-",
        "x-",
    ];
    prop_oneof![
        proptest::sample::select(known).prop_map(HeaderName::from_static),
        (
            proptest::sample::select(prefixes.to_vec()),
            "[a-z-]{0,9}(-session-id)?"
        )
            .prop_filter_map("no name", |(a, b)| HeaderName::try_from(format!("{a}{b}"))
                .ok()),
    ]
}

fn any_value() -> impl Strategy<Value = http::HeaderValue> {
    let text = prop_oneof![
        "[a-c/,=:;% {}\"]{0,40}".prop_map(String::into_bytes),
        r#"\{"[a-z_]{1,17}": ?("[^"]{0,9}"|[0-9.e]{1,9})\}"#.prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..400),
        "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}".prop_map(String::into_bytes),
        "-?[0-9]{1,12}".prop_map(String::into_bytes),
    ];
    text.prop_filter_map("no value", |bytes| {
        http::HeaderValue::from_bytes(&bytes).ok()
    })
}

fn assert_sound(attributed: &Attributed) {
    let attribution = &attributed.attribution;
    let names = [
        Some(&attribution.agent),
        attribution.caller.as_ref(),
        attribution.run.as_ref(),
        attribution.parent_run.as_ref(),
        attribution.user.as_ref(),
        attribution.variant.as_ref(),
        attribution.conversation.as_ref(),
        attributed.upstream.as_ref(),
    ];
    let all = names
        .into_iter()
        .flatten()
        .chain(&attribution.path)
        .chain(attribution.tags.values());
    for label in all {
        assert_eq!(Label::parse(label.as_str()).as_ref(), Ok(label));
    }
    let length = attribution.path.len();
    assert!(length == 0 || attribution.path.last() == Some(&attribution.agent));
    assert!(length == 0 || attribution.path.iter().rev().nth(1) == attribution.caller.as_ref());
    assert!(
        attribution.depth as usize >= length.max(1 + usize::from(attribution.caller.is_some()))
    );
    assert!(attribution.tags.len() <= MAX_TAGS && attribution.metrics.len() <= MAX_METRICS);
    assert!(
        attribution
            .metrics
            .values()
            .all(|metric| metric.as_number().is_none_or(f64::is_finite))
    );
    assert_eq!(attribution.run.is_some(), attribution.run_source.is_some());
}

proptest! {
    #[test]
    fn whatever_is_claimed_the_attribution_is_sound(
        pairs in proptest::collection::vec((any_name(), any_value()), 0..12),
        (agent, run) in (".{0,9}", "[ \u{0}a]{0,3}"),
        metadata in proptest::collection::btree_map("agent|user_id|tags|.{0,9}", ".{0,300}", 0..4),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        let tags = Tagged { agent: Some(agent.as_str().into()), run: Some(run.into()), ..NO_TAGS };
        let body = BodyClaims {
            user: Some(&agent),
            metadata: Some(&metadata),
            ..BodyClaims::default()
        };
        assert_sound(&attribute(&Claims { headers: &headers, tags: &tags, body }));
        assert_sound(&attribute(&Claims { headers: &headers, tags: &NO_TAGS, body }));
    }
}
