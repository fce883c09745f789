//! What follows from a recognised request for agent, caller, run and depth.

use super::identity::Identity;
use super::recognise::Lead;
use crate::core::attribution::{Attribution, Percent, Source};
use crate::core::id::Label;
use crate::core::lineage::{Space, Thread};

/// Agents of a chain that are named.
const MAX_PATH: usize = 64;
/// How sure it is that a call that nothing leads to begins a run.
const ROOT: Percent = Percent::new(60);

/// Where a new conversation stands in the chain of agents.
pub(super) struct Descent {
    pub(super) caller: Option<Label>,
    pub(super) path: Vec<Label>,
    pub(super) depth: u32,
}

/// A tool call leads one level down. A text that is handed over does not lead further down with each
/// hand it goes through, and an agent that is told what it said itself was called by nobody.
pub(super) fn descent(lead: &Lead, space: Space, who: &Attribution) -> Descent {
    let mut descent = Descent {
        caller: None,
        path: Vec::new(),
        depth: 1,
    };
    if let Some(kin) = &lead.kin {
        descent.caller.clone_from(&kin.caller);
        descent.path.clone_from(&kin.path);
        descent.depth = kin.depth;
        return descent;
    }
    if let Some(origin) = &lead.origin {
        let thread = &origin.thread;
        if origin.is_call {
            descent.path.clone_from(&thread.path);
            descent.depth = thread.depth.saturating_add(1);
            descent.caller = Some(thread.agent.clone());
        } else if thread.print != space.print {
            descent.path.push(thread.agent.clone());
            descent.depth = thread.depth.max(2);
            descent.caller = Some(thread.agent.clone());
        }
    }
    if descent.path.len() < MAX_PATH {
        descent.path.push(who.agent.clone());
    }
    descent
}

/// Puts what follows from `lead` where nothing was claimed.
pub(super) fn fill(who: &mut Attribution, thread: &Thread, lead: &Lead) {
    let known = lead.found.as_ref().map(|found| found.confidence);
    let origin = lead.origin.as_ref();
    let led = origin.map(|origin| origin.confidence);
    if who.run.is_none() {
        who.run.clone_from(&thread.run);
        who.run_source = Some(Source::Inferred);
        let beside = lead.beside.as_ref().map(|(_, confidence)| *confidence);
        who.inferred.run = Some(known.or(led).or(beside).unwrap_or(ROOT));
    }
    if who.caller.is_none() && who.path.is_empty() {
        // Who hands over new text now, else who began the conversation.
        let other =
            origin.filter(|origin| lead.found.is_some() && origin.thread.print != thread.print);
        let now = other.map(|origin| origin.thread.agent.clone());
        who.caller = now.or_else(|| thread.caller.clone());
        if who.caller.is_some() {
            who.inferred.caller = Some(led.or(known).unwrap_or(ROOT));
            who.depth = who.depth.max(thread.depth);
            who.path.clone_from(&thread.path);
        }
    }
    if who.conversation.is_none() {
        who.conversation = Label::parse(&format!("c-{:016x}", thread.id)).ok();
        who.inferred.conversation = Some(known.unwrap_or(ROOT));
    }
}

/// Names the agent, where nobody did.
pub(super) fn name_agent(who: &mut Attribution, identity: &Identity) {
    if who.agent_source == Source::Unknown
        && let Some((name, confidence)) = &identity.name
    {
        who.agent = name.clone();
        who.agent_source = Source::Inferred;
        who.inferred.agent = Some(*confidence);
    }
}
