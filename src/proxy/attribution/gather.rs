//! Gathering claims: each value goes to its place, where the strongest stays; what cannot be read is
//! listed. One pass over the headers, for most requests have few that matter. Values that hold several
//! claims are taken apart in `formats`.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::rules::{self, Meaning, Rank, Rule, Slot};
use super::{BodyClaims, Ignored, MAX_METRICS, MAX_TAGS, Reason};
use crate::config::RecordLevel;
use crate::core::attribution::Source;
use crate::core::budget::{Limits, Measure};
use crate::core::id::Label;
use crate::core::metric::Value;
use crate::core::money::NanoUsd;
use crate::proxy::headers::{METRIC_PREFIX, OWN_PREFIX};
use crate::proxy::tags::Tagged;

/// Agents of one path, and bytes of a name of a tag or metric.
const MAX_PATH: usize = 64;
const MAX_NAME_BYTES: usize = 64;
/// Ignored claims listed, and tags looked at, of one call: a body may hold any number.
const MAX_IGNORED: usize = 64;
const MAX_TAGS_SEEN: usize = 4 * MAX_TAGS;

/// A name claimed for a slot.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub label: Label,
    rank: Rank,
    /// The coding agent that said so.
    harness: Option<&'static str>,
}

impl Claim {
    pub(super) fn source(&self) -> Source {
        self.rank.0
    }

    /// An agent that a coding agent names is one it started, for it does not name itself.
    pub(super) fn harness_as_caller(&self) -> Option<Self> {
        let label = Label::parse(self.harness?).ok()?;
        (label != self.label).then_some(Self {
            label,
            rank: self.rank,
            harness: None,
        })
    }
}

/// A claimed chain of agents; never empty.
#[derive(Clone, Debug)]
pub(super) struct PathClaim {
    pub agents: Vec<Label>,
    pub source: Source,
}

/// The strongest claims so far.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    names: [Option<Claim>; Slot::COUNT],
    pub path: Option<PathClaim>,
    /// The deepest claim; 0 when there is none.
    pub depth: u32,
    tags: Vec<(Rank, String, Label)>,
    pub metrics: BTreeMap<String, Value>,
    pub record: Option<RecordLevel>,
    pub retry: u32,
    pub tightened: Limits,
    /// The run of the base URL, which a header may have a better name for.
    pub url_run: Option<Label>,
    pub ignored: Vec<Ignored>,
    harness: Option<&'static str>,
}

/// Where a value comes from: for the list of ignored ones, and for its strength.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub name: &'a str,
    pub rank: Rank,
    pub harness: Option<&'static str>,
}

impl<'a> Origin<'a> {
    const fn new(name: &'a str, rank: Rank) -> Self {
        Self {
            name,
            rank,
            harness: None,
        }
    }
}

impl Gathered {
    pub(super) fn take_headers(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            let name = name.as_str();
            let rule = rules::find(name);
            if rule.is_none() && !is_patterned(name) {
                continue;
            }
            match (std::str::from_utf8(value.as_bytes()), rule) {
                (Ok(value), Some(rule)) => self.take_rule(rule, value),
                (Ok(value), None) => self.take_patterned(name, value),
                (Err(_), _) => self.ignore(name, Reason::NotUtf8),
            }
        }
    }

    pub(super) fn take_url(&mut self, tagged: &Tagged<'_>) {
        let tags = [
            ("url.upstream", Slot::Upstream, &tagged.upstream),
            ("url.run", Slot::Run, &tagged.run),
            ("url.parent-run", Slot::ParentRun, &tagged.parent_run),
            ("url.agent", Slot::Agent, &tagged.agent),
            ("url.variant", Slot::Variant, &tagged.variant),
        ];
        for (name, slot, value) in tags {
            if let Some(value) = value {
                self.take_name(Origin::new(name, rules::URL), slot, value);
            }
        }
        self.url_run = tagged.run.as_deref().and_then(|run| Label::parse(run).ok());
        let limits = [
            ("url.budget-usd", Measure::Usd, &tagged.budget_usd),
            ("url.budget-tokens", Measure::Tokens, &tagged.budget_tokens),
            ("url.budget-calls", Measure::Calls, &tagged.budget_calls),
        ];
        for (name, measure, value) in limits {
            if let Some(value) = value {
                let origin = Origin::new(name, rules::URL);
                self.take_value(origin, Meaning::Budget(measure), value);
            }
        }
    }

    pub(super) fn take_body(&mut self, body: &BodyClaims<'_>) {
        let user = Meaning::Name(Slot::User);
        let conversation = Meaning::Name(Slot::Conversation);
        let cache_key = Meaning::Tag("prompt_cache_key");
        let fields = [
            ("body.user", user, body.user),
            ("body.safety_identifier", user, body.safety_identifier),
            ("body.session_id", Meaning::Name(Slot::Run), body.session_id),
            ("body.conversation", conversation, body.conversation),
            ("body.prompt_cache_key", cache_key, body.prompt_cache_key),
        ];
        for (place, (name, meaning, value)) in (0..).zip(fields) {
            if let Some(value) = value {
                let origin = Origin::new(name, (Source::Body, place));
                self.take_value(origin, meaning, value);
            }
        }
        for (key, value) in body.metadata.into_iter().flatten().take(MAX_TAGS_SEEN) {
            self.take_body_metadata(key, value);
        }
    }

    /// The strongest claim for a slot, which is empty afterwards.
    pub(super) fn take(&mut self, slot: Slot) -> Option<Claim> {
        self.names.get_mut(slot as usize)?.take()
    }

    /// The coding agent itself, for its calls that name no agent.
    pub(super) fn harness_itself(&self) -> Option<Claim> {
        let label = Label::parse(self.harness?).ok()?;
        Some(Claim {
            label,
            rank: (Source::Harness, 0),
            harness: None,
        })
    }

    /// The strongest tags, by name.
    pub(super) fn take_tags(&mut self) -> BTreeMap<String, Label> {
        let mut seen = std::mem::take(&mut self.tags);
        seen.sort_by_key(|(rank, ..)| *rank);
        let mut tags = BTreeMap::new();
        for (_, name, label) in seen {
            if tags.contains_key(&name) {
                continue;
            }
            if tags.len() < MAX_TAGS {
                tags.insert(name, label);
            } else {
                self.ignore(&name, Reason::TooMany);
            }
        }
        tags
    }

    fn take_rule(&mut self, rule: &'static Rule, value: &str) {
        self.harness = self.harness.or(rule.harness);
        let origin = Origin {
            name: rule.name,
            rank: rule.rank,
            harness: rule.harness,
        };
        self.take_value(origin, rule.meaning, value);
    }

    /// A header that is known by a part of its name.
    fn take_patterned(&mut self, name: &str, value: &str) {
        let tag = rules::TAG_PREFIXES
            .iter()
            .find_map(|(prefix, source)| Some((name.strip_prefix(prefix)?, *source)));
        if let Some((tag, source)) = tag {
            let origin = Origin::new(name, (source, 0));
            self.take_tag(origin, tag, value);
        } else if let Some(metric) = name.strip_prefix(METRIC_PREFIX) {
            self.take_metric(name, metric, value);
        } else if name.starts_with(OWN_PREFIX) {
            self.ignore(name, Reason::UnknownHeader);
        } else if is_session_id(value) {
            let origin = Origin::new(name, rules::UNKNOWN_VENDOR);
            self.take_name(origin, Slot::Run, value);
        }
    }

    pub(super) fn take_value(&mut self, origin: Origin<'_>, meaning: Meaning, value: &str) {
        match meaning {
            Meaning::Name(slot) => self.take_name(origin, slot, value),
            Meaning::Path => self.take_path(origin, value),
            Meaning::Depth => match value.trim().parse() {
                Ok(depth) if depth > 0 => self.depth = self.depth.max(depth),
                _ => self.ignore(origin.name, Reason::BadDepth),
            },
            Meaning::Tag(tag) => self.take_tag(origin, tag, value),
            Meaning::TagList => self.take_tag_list(origin, value),
            Meaning::Json(keys, others) => self.take_json(origin, keys, others, value),
            Meaning::Record => match RecordLevel::from_name(value.trim()) {
                Some(level) => self.lower_record(level),
                None => self.ignore(origin.name, Reason::BadRecordLevel),
            },
            Meaning::OmitBody => {
                if value.trim().eq_ignore_ascii_case("true") {
                    self.lower_record(RecordLevel::Meta);
                }
            }
            Meaning::Subagent(tag) => {
                if !value.trim().eq_ignore_ascii_case("false") {
                    self.depth = self.depth.max(2);
                }
                self.take_tag(origin, tag, value);
            }
            Meaning::Retry => match value.trim().parse() {
                Ok(retry) => self.retry = retry,
                Err(_) => self.ignore(origin.name, Reason::BadCount),
            },
            Meaning::Budget(measure) => match budget(measure, value.trim()) {
                Some(limit) => {
                    let mut claim = Limits::default();
                    claim.set(measure, Some(limit));
                    self.tightened = self.tightened.tightened(&claim);
                }
                None => self.ignore(origin.name, Reason::BadBudget),
            },
            Meaning::Traceparent => self.take_traceparent(origin, value),
            Meaning::Baggage => self.take_baggage(origin, value),
        }
    }

    pub(super) fn take_name(&mut self, origin: Origin<'_>, slot: Slot, value: &str) {
        let Some(holder) = self.names.get_mut(slot as usize) else {
            return;
        };
        if holder
            .as_ref()
            .is_some_and(|claim| claim.rank <= origin.rank)
        {
            return;
        }
        match Label::parse(value) {
            Ok(label) => {
                *holder = Some(Claim {
                    label,
                    rank: origin.rank,
                    harness: origin.harness,
                });
            }
            Err(error) => self.ignore(origin.name, error.into()),
        }
    }

    fn take_path(&mut self, origin: Origin<'_>, value: &str) {
        let source = origin.rank.0;
        if self.path.as_ref().is_some_and(|path| path.source <= source) {
            return;
        }
        let segments = value
            .split('/')
            .filter(|segment| !segment.trim().is_empty());
        let agents: Result<Vec<Label>, _> = segments.take(MAX_PATH + 1).map(Label::parse).collect();
        match agents {
            Ok(agents) if (1..=MAX_PATH).contains(&agents.len()) => {
                self.path = Some(PathClaim { agents, source });
            }
            Ok(_) => self.ignore(origin.name, Reason::BadPath),
            Err(error) => self.ignore(origin.name, error.into()),
        }
    }

    pub(super) fn take_tag(&mut self, origin: Origin<'_>, tag: &str, value: &str) {
        let tag = tag.trim();
        if !is_name(tag) {
            return self.ignore(origin.name, Reason::BadName);
        }
        if self.tags.len() >= MAX_TAGS_SEEN {
            return self.ignore(origin.name, Reason::TooMany);
        }
        match Label::parse(value) {
            Ok(label) => self.tags.push((origin.rank, tag.to_owned(), label)),
            Err(error) => self.ignore(origin.name, error.into()),
        }
    }

    fn take_metric(&mut self, header: &str, metric: &str, value: &str) {
        match value.parse() {
            _ if !is_name(metric) => self.ignore(header, Reason::BadName),
            Err(_) => self.ignore(header, Reason::BadMetric),
            Ok(_) if self.metrics.len() >= MAX_METRICS => self.ignore(header, Reason::TooMany),
            Ok(value) => {
                self.metrics.entry(metric.to_owned()).or_insert(value);
            }
        }
    }

    fn take_body_metadata(&mut self, key: &str, value: &str) {
        if !is_name(key) {
            return self.ignore("body.metadata", Reason::BadName);
        }
        let name = format!("body.metadata.{key}");
        let origin = Origin::new(&name, (Source::Body, 100));
        if key == rules::BODY_USER {
            let rank = (Source::Body, 200);
            self.take_user_id(Origin { rank, ..origin }, value);
        } else if !self.take_listed(origin, rules::BODY_METADATA, key, value) {
            self.take_tag(origin, key, value);
        }
    }

    /// Takes a value whose key is in `list`; later rows are weaker.
    pub(super) fn take_listed(
        &mut self,
        origin: Origin<'_>,
        list: &[(&str, Meaning)],
        key: &str,
        value: &str,
    ) -> bool {
        let (source, first) = origin.rank;
        let row = (first..).zip(list).find(|(_, (name, _))| *name == key);
        if let Some((place, (_, meaning))) = row {
            let rank = (source, place);
            self.take_value(Origin { rank, ..origin }, *meaning, value);
        }
        row.is_some()
    }

    fn lower_record(&mut self, level: RecordLevel) {
        self.record = Some(self.record.map_or(level, |before| before.min(level)));
    }

    pub(super) fn ignore(&mut self, name: &str, reason: Reason) {
        if self.ignored.len() < MAX_IGNORED {
            self.ignored.push(Ignored {
                header: name.to_owned(),
                reason,
            });
        }
    }
}

fn budget(measure: Measure, value: &str) -> Option<i64> {
    match measure {
        Measure::Usd => NanoUsd::parse(value).map(NanoUsd::get),
        _ => value.parse().ok().filter(|limit| *limit >= 0),
    }
}

fn is_patterned(name: &str) -> bool {
    let is_vendor_session = || name.starts_with("x-") && name.ends_with("-session-id");
    name.starts_with(OWN_PREFIX)
        || is_vendor_session()
        || rules::TAG_PREFIXES
            .iter()
            .any(|(prefix, _)| name.starts_with(prefix))
}

fn is_session_id(value: &str) -> bool {
    value.len() >= 8
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
}
