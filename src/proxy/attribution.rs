//! Who makes a call: all that headers, base URL and body claim, reduced to one [`Attribution`].
//!
//! Precedence: own header, tag of the base URL, header of another product, what a coding agent sends
//! by itself, W3C, body field. A call never fails here: what cannot be used is ignored and listed.
//! Claims are not proof; they may tighten what the policy does, never loosen it.

use std::collections::BTreeMap;

use http::header::{HeaderMap, USER_AGENT};

use self::gather::{Claim, Gathered, PathClaim};
use self::rules::Slot;
use super::tags::Tagged;
use crate::config::RecordLevel;
use crate::core::attribution::{Attribution, Confidence, Source};
use crate::core::budget::Limits;
use crate::core::id::{Label, LabelError};
use crate::core::text::front as cut;

mod formats;
mod gather;
mod rules;

/// Tags and metrics kept of one call.
pub const MAX_TAGS: usize = 32;
pub const MAX_METRICS: usize = 32;

/// How limits in the base URL are called where they are ignored.
pub(super) const URL_BUDGET: &str = "url.budget-";

/// Everything a call says about itself.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    pub headers: &'a HeaderMap,
    pub tags: &'a Tagged<'a>,
    pub body: BodyClaims<'a>,
}

/// The fields of a request body that tell where it comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyClaims<'a> {
    pub user: Option<&'a str>,
    pub safety_identifier: Option<&'a str>,
    pub session_id: Option<&'a str>,
    pub conversation: Option<&'a str>,
    pub prompt_cache_key: Option<&'a str>,
    pub metadata: Option<&'a BTreeMap<String, String>>,
}

/// What the claims came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Attributed {
    pub attribution: Attribution,
    /// How much of the call may be kept at most; the config may say less.
    pub record: Option<RecordLevel>,
    /// The upstream the client chose; from a header it may be one that nobody configured.
    pub upstream: Option<Label>,
    /// Which repetition by the SDK this is; 0 for a first try.
    pub retry: u32,
    /// What the client allows the run at most.
    pub tightened: Limits,
    pub ignored: Vec<Ignored>,
}

/// A claim that was not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The header, `body.<field>` or `url.<tag>`; the tag when there are too many.
    pub header: String,
    pub reason: Reason,
}

/// Why a claim was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error(transparent)]
    Label(#[from] LabelError),
    #[error("is not UTF-8")]
    NotUtf8,
    #[error("is not a header of this proxy")]
    UnknownHeader,
    #[error("has no name, or one longer than 64 bytes")]
    BadName,
    #[error("is not a whole number above zero")]
    BadDepth,
    #[error("is not a whole number")]
    BadCount,
    #[error("is not an amount")]
    BadBudget,
    #[error("is not a finite number")]
    BadMetric,
    #[error("is none of full, meta, none")]
    BadRecordLevel,
    #[error("is not a path of 1 to 64 agents")]
    BadPath,
    #[error("is not a JSON object")]
    BadJson,
    #[error("is not a traceparent")]
    BadTraceparent,
    #[error("is one more than is kept")]
    TooMany,
}

/// Reduces claims to an attribution.
pub fn attribute(claims: &Claims<'_>) -> Attributed {
    let mut gathered = Gathered::default();
    gathered.take_headers(claims.headers);
    gathered.take_url(claims.tags);
    gathered.take_body(&claims.body);
    resolve(gathered, claims.headers)
}

/// The client's `User-Agent`, cut to a label.
pub fn client(headers: &HeaderMap) -> Option<Label> {
    let text = String::from_utf8_lossy(headers.get(USER_AGENT)?.as_bytes());
    Label::parse(cut(text.trim(), Label::MAX_BYTES)).ok()
}

fn resolve(mut gathered: Gathered, headers: &HeaderMap) -> Attributed {
    let run = gathered.take(Slot::Run);
    let run_source = run.as_ref().map(Claim::source);
    let lineage = Lineage::of(&mut gathered);
    let (agent_source, agent) = lineage
        .agent
        .unwrap_or_else(|| (Source::Unknown, unknown_agent(headers)));
    let run = run.map(|claim| claim.label);
    // A header must not lead out of the run of the base URL, which has limits of its own.
    let within = gathered
        .url_run
        .take()
        .filter(|of| Some(of) != run.as_ref());
    let mut label = |slot| gathered.take(slot).map(|claim| claim.label);
    let parent_run = within.or_else(|| label(Slot::ParentRun));
    let attribution = Attribution {
        agent,
        // Ancestors are walked: a run must not be its own.
        parent_run: parent_run.filter(|parent| Some(parent) != run.as_ref()),
        run,
        user: label(Slot::User),
        variant: label(Slot::Variant),
        conversation: label(Slot::Conversation),
        depth: lineage.depth,
        caller: lineage.caller,
        path: lineage.path,
        tags: gathered.take_tags(),
        metrics: std::mem::take(&mut gathered.metrics),
        agent_source,
        run_source,
        inferred: Confidence::default(),
    };
    Attributed {
        attribution,
        record: gathered.record,
        upstream: gathered.take(Slot::Upstream).map(|claim| claim.label),
        retry: gathered.retry,
        tightened: gathered.tightened,
        ignored: gathered.ignored,
    }
}

/// The chain of agents that leads to a call. Where the path is known, it ends with the agent, the
/// caller stands before it, and the depth is at least its length.
struct Lineage {
    agent: Option<(Source, Label)>,
    caller: Option<Label>,
    path: Vec<Label>,
    depth: u32,
}

impl Lineage {
    fn of(gathered: &mut Gathered) -> Self {
        let agent = gathered.take(Slot::Agent);
        let caller = gathered.take(Slot::Caller);
        let caller = caller.or_else(|| agent.as_ref().and_then(Claim::harness_as_caller));
        let agent = agent.or_else(|| gathered.harness_itself());
        let (agent, path) = agent_and_path(agent, gathered.path.take());
        let claimed_length = path.as_ref().map_or(0, |path| path.agents.len());
        let (caller, path) = caller_and_path(caller, path);
        // The deepest evidence counts: a claim must not make a chain look shorter.
        let length = claimed_length
            .max(path.len())
            .max(1 + usize::from(caller.is_some()));
        let depth = gathered
            .depth
            .max(u32::try_from(length).unwrap_or(u32::MAX));
        Self {
            agent,
            caller,
            path,
            depth,
        }
    }
}

/// A path names the agent where nothing better does; one that ends in another agent is the chain of
/// this agent's callers.
fn agent_and_path(
    agent: Option<Claim>,
    path: Option<PathClaim>,
) -> (Option<(Source, Label)>, Option<PathClaim>) {
    let agent = agent.map(|claim| (claim.source(), claim.label));
    let Some(mut path) = path else {
        return (agent, None);
    };
    match agent {
        Some((source, label)) if source <= path.source => {
            if path.agents.last() != Some(&label) {
                path.agents.push(label.clone());
            }
            (Some((source, label)), Some(path))
        }
        _ => (
            path.agents.last().map(|last| (path.source, last.clone())),
            Some(path),
        ),
    }
}

/// The caller as the path has it, unless a better claim contradicts the path.
fn caller_and_path(caller: Option<Claim>, path: Option<PathClaim>) -> (Option<Label>, Vec<Label>) {
    let Some(mut path) = path else {
        return (caller.map(|claim| claim.label), Vec::new());
    };
    let of_path = path.agents.iter().rev().nth(1).cloned();
    match (caller, of_path) {
        (Some(claim), Some(of_path)) if claim.label != of_path && claim.source() < path.source => {
            (Some(claim.label), Vec::new())
        }
        (Some(claim), None) => {
            path.agents.insert(0, claim.label.clone());
            (Some(claim.label), path.agents)
        }
        (_, of_path) => (of_path, path.agents),
    }
}

/// `unknown:OpenAI/Python`: the client's product without its version.
fn unknown_agent(headers: &HeaderMap) -> Label {
    const FALLBACK: &str = "client";
    let client = client(headers);
    let product = client
        .as_ref()
        .and_then(|client| client.as_str().split_whitespace().next());
    let name = match product.unwrap_or(FALLBACK).split_once('/') {
        Some((name, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => name,
        _ => product.unwrap_or(FALLBACK),
    };
    let name = if name.is_empty() { FALLBACK } else { name };
    label_of(cut(&format!("unknown:{name}"), Label::MAX_BYTES))
}

#[expect(
    clippy::expect_used,
    reason = "a part of a label after a short text is one, see the test"
)]
fn label_of(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

#[cfg(test)]
mod tests;
