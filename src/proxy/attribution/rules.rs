//! Which header says what: one row for every header of ours, of gateways and tracing products, of
//! coding agents, and of the W3C. How a value is read is in `gather`.

use std::sync::LazyLock;

use self::Meaning::{
    Baggage, Budget, Depth, Json, Name, OmitBody, Path, Record, Retry, Subagent, Tag, TagList,
    Traceparent,
};
use self::Slot::{Agent, Caller, Conversation, ParentRun, Run, Upstream, User, Variant};
use crate::core::attribution::Source;
use crate::core::budget::Measure;
use crate::proxy::headers;

/// What a name can be claimed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Agent,
    Caller,
    Run,
    ParentRun,
    User,
    Variant,
    Conversation,
    Upstream,
}

impl Slot {
    pub(super) const COUNT: usize = 8;
}

/// What the value of a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Name(Slot),
    /// `/planner/researcher`
    Path,
    Depth,
    /// A tag of this name.
    Tag(&'static str),
    /// `a, b, team:search`
    TagList,
    /// An object with these keys; whether its other keys are tags.
    Json(&'static [(&'static str, Meaning)], bool),
    Record,
    /// `true`: the bodies are not to be kept.
    OmitBody,
    /// Says, if not by `false`, that another agent invoked this one; kept as a tag.
    Subagent(&'static str),
    Retry,
    /// What the run may use of it at most.
    Budget(Measure),
    Traceparent,
    Baggage,
}

/// One header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub name: &'static str,
    pub meaning: Meaning,
    pub rank: Rank,
    /// The coding agent that sends it, when only that one does.
    pub harness: Option<&'static str>,
}

/// The strength of a claim, strongest first: its source, then its place within the source.
pub(super) type Rank = (Source, u8);

/// The place of tags in the base URL: headers of ours come before.
pub(super) const URL: Rank = (Source::Own, 200);

/// The rank of `x-<vendor>-session-id` of a vendor without a row.
pub(super) const UNKNOWN_VENDOR: Rank = (Source::Harness, 200);

/// Headers whose names go on with the name of a tag.
pub(super) const TAG_PREFIXES: [(&str, Source); 5] = [
    (headers::TAG_PREFIX, Source::Own),
    ("helicone-property-", Source::Alias),
    ("x-bf-dim-", Source::Alias),
    ("x-bf-prom-", Source::Alias),
    ("x-llmgateway-", Source::Alias),
];

/// The rule for a header, by its name in lower case.
pub(super) fn find(name: &str) -> Option<&'static Rule> {
    let rules = &*SORTED;
    rules
        .binary_search_by(|rule| rule.name.cmp(name))
        .ok()
        .and_then(|n| rules.get(n))
}

/// Every row.
pub(super) fn all() -> impl Iterator<Item = Rule> {
    [OWN, ALIASES, GENERIC, HARNESSES, W3C]
        .into_iter()
        .flatten()
        .copied()
}

static SORTED: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let mut rules: Vec<Rule> = all().collect();
    rules.sort_by_key(|rule| rule.name);
    rules
});

const fn rule(name: &'static str, meaning: Meaning, source: Source, place: u8) -> Rule {
    Rule {
        name,
        meaning,
        rank: (source, place),
        harness: None,
    }
}

const fn own(name: &'static str, meaning: Meaning) -> Rule {
    rule(name, meaning, Source::Own, 0)
}

const fn alias(name: &'static str, meaning: Meaning) -> Rule {
    rule(name, meaning, Source::Alias, 0)
}

const fn harness(name: &'static str, meaning: Meaning) -> Rule {
    rule(name, meaning, Source::Harness, 0)
}

const fn claude_code(name: &'static str, meaning: Meaning) -> Rule {
    Rule {
        harness: Some("claude-code"),
        ..harness(name, meaning)
    }
}

const fn codex(name: &'static str, meaning: Meaning, place: u8) -> Rule {
    Rule {
        harness: Some("codex"),
        ..rule(name, meaning, Source::Harness, place)
    }
}

const fn opencode(name: &'static str, meaning: Meaning) -> Rule {
    Rule {
        harness: Some("opencode"),
        ..harness(name, meaning)
    }
}

const OWN: &[Rule] = &[
    own(headers::AGENT, Name(Agent)),
    own(headers::BUDGET_USD, Budget(Measure::Usd)),
    own(headers::BUDGET_TOKENS, Budget(Measure::Tokens)),
    own(headers::BUDGET_CALLS, Budget(Measure::Calls)),
    own(headers::CALLER, Name(Caller)),
    own(headers::RUN, Name(Run)),
    rule(headers::RUN_ID, Name(Run), Source::Own, 1),
    own(headers::PARENT_RUN, Name(ParentRun)),
    own(headers::PATH, Path),
    own(headers::DEPTH, Depth),
    own(headers::USER, Name(User)),
    own(headers::VARIANT, Name(Variant)),
    own(headers::RECORD, Record),
    own(headers::UPSTREAM, Name(Upstream)),
];

const ALIASES: &[Rule] = &[
    // Helicone
    alias("helicone-session-id", Name(Run)),
    alias("helicone-session-name", Tag("run_name")),
    alias("helicone-session-path", Path),
    alias("helicone-user-id", Name(User)),
    alias("helicone-request-id", Tag("request_id")),
    alias("helicone-omit-request", OmitBody),
    alias("helicone-omit-response", OmitBody),
    // LiteLLM
    alias("x-litellm-trace-id", Name(Run)),
    rule("x-litellm-session-id", Name(Run), Source::Alias, 1),
    alias("x-litellm-end-user-id", Name(User)),
    rule("x-litellm-customer-id", Name(User), Source::Alias, 1),
    alias("x-litellm-tags", TagList),
    alias("x-litellm-spend-logs-metadata", Json(&[], true)),
    // Portkey
    alias("x-portkey-trace-id", Name(Run)),
    alias("x-portkey-span-id", Tag("span_id")),
    alias("x-portkey-parent-span-id", Tag("parent_span_id")),
    alias("x-portkey-span-name", Tag("step")),
    alias("x-portkey-metadata", Json(&[("_user", Name(User))], true)),
    // Bifrost and Maxim
    alias("x-bf-session-id", Name(Run)),
    alias("x-bf-customer-id", Name(User)),
    alias("x-maxim-trace-id", Name(Run)),
    alias("x-maxim-trace-tags", Json(&[], true)),
    // Cloudflare, TrueFoundry, Merge, finops-proxy
    alias("cf-aig-metadata", Json(&[], true)),
    alias("x-tfy-metadata", Json(&[], true)),
    alias("x-merge-trace-id", Name(Run)),
    alias("x-merge-parent-span-id", Tag("parent_span_id")),
    alias("x-merge-span-name", Tag("step")),
    alias("x-finops-agent-id", Name(Agent)),
    alias("x-finops-project", Tag("project")),
    // OpenAI and its SDKs
    alias("openai-organization", Tag("openai_organization")),
    alias("openai-project", Tag("openai_project")),
    alias("x-client-request-id", Tag("request_id")),
    alias("x-stainless-retry-count", Retry),
];

/// Names that nobody owns: used by many, in the hope that they mean the same.
const GENERIC: &[Rule] = &[
    rule("x-agent-id", Name(Agent), Source::Alias, 10),
    rule("x-user-id", Name(User), Source::Alias, 10),
    rule("x-run-id", Name(Run), Source::Alias, 10),
    rule("x-session-id", Name(Run), Source::Alias, 11),
    rule("x-trace-id", Name(Run), Source::Alias, 12),
    rule("x-correlation-id", Name(Run), Source::Alias, 13),
    rule("x-span-id", Tag("span_id"), Source::Alias, 10),
];

const HARNESSES: &[Rule] = &[
    claude_code("x-claude-code-session-id", Name(Run)),
    claude_code("x-claude-code-agent-id", Name(Agent)),
    claude_code("x-claude-code-parent-agent-id", Name(Caller)),
    codex("x-codex-turn-metadata", Json(CODEX_TURN, false), 0),
    codex("x-codex-parent-thread-id", Subagent("parent_thread"), 1),
    codex("x-openai-subagent", Name(Agent), 2),
    // Codex names these without a prefix; others may send them too.
    rule("session-id", Name(Run), Source::Harness, 1),
    rule("session_id", Name(Run), Source::Harness, 2),
    rule("conversation_id", Name(Run), Source::Harness, 3),
    rule("thread-id", Name(Conversation), Source::Harness, 1),
    opencode("x-opencode-session", Name(Run)),
    harness("x-parent-session-id", Name(ParentRun)),
    rule("x-session-affinity", Name(Run), Source::Harness, 4),
    harness("x-cagent-session-id", Name(Run)),
    // NVIDIA
    harness("x-dynamo-session-id", Name(Run)),
    harness("x-dynamo-parent-session-id", Name(ParentRun)),
    harness("x-switchyard-session-id", Name(Run)),
    harness("x-switchyard-agent-id", Name(Agent)),
    harness("x-switchyard-parent-agent-id", Name(Caller)),
    harness("x-switchyard-is-subagent", Subagent("is_subagent")),
    harness("x-switchyard-agent-kind", Tag("agent_kind")),
    harness("x-switchyard-agent-role", Tag("agent_role")),
    harness("x-switchyard-task-id", Tag("task_id")),
    harness("x-switchyard-turn-id", Tag("turn_id")),
    harness("x-nemo-relay-session-id", Name(Run)),
    harness("x-nemo-relay-subagent-id", Name(Agent)),
    // Applications that introduce themselves to OpenRouter
    rule("x-openrouter-title", Name(Agent), Source::Harness, 100),
    rule("x-title", Name(Agent), Source::Harness, 101),
    harness("http-referer", Tag("app_url")),
];

/// The lineage that Codex describes; what else it tells of the workspace is not ours to keep.
const CODEX_TURN: &[(&str, Meaning)] = &[
    ("session_id", Name(Run)),
    ("thread_id", Name(Conversation)),
    ("parent_thread_id", Subagent("parent_thread")),
    ("turn_id", Tag("turn_id")),
    ("agent_role", Name(Agent)),
    ("subagent_kind", Name(Agent)),
    ("task_id", Tag("task_id")),
    ("task_kind", Tag("task_kind")),
];

const W3C: &[Rule] = &[
    rule("traceparent", Traceparent, Source::W3c, 10),
    rule("baggage", Baggage, Source::W3c, 0),
];

/// Entries of `baggage`, strongest first among those of one meaning.
pub(super) const BAGGAGE: &[(&str, Meaning)] = &[
    ("gen_ai.agent.name", Name(Agent)),
    ("gen_ai.agent.id", Name(Agent)),
    ("session.id", Name(Run)),
    ("langfuse_session_id", Name(Run)),
    ("gen_ai.conversation.id", Name(Conversation)),
    ("user.id", Name(User)),
    ("langfuse_user_id", Name(User)),
    ("langfuse_tags", TagList),
];

/// Keys of the body's `metadata`, strongest first among those of one meaning; others are tags.
pub(super) const BODY_METADATA: &[(&str, Meaning)] = &[
    ("agent", Name(Agent)),
    ("run_id", Name(Run)),
    ("session_id", Name(Run)),
    ("parent", Name(Caller)),
    ("tags", TagList),
];

/// The key of `metadata` in which Anthropic's clients name the user.
pub(super) const BODY_USER: &str = "user_id";
