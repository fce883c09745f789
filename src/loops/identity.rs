//! Who an agent is that nobody named: told by its instructions and its tools.

use std::sync::Arc;

use crate::config::AgentRule;
use crate::core::attribution::Percent;
use crate::core::digest::Digest;
use crate::core::id::Label;
use crate::core::lineage::naming;
use crate::core::loops::reading::{Mixer, Reading, Voice};
use crate::core::memo::Memo;
use crate::wire::message::{self, Piece, Role};
use crate::wire::scan::{RequestFacts, Segment, SegmentKind};

/// Agents whose instructions are remembered.
const AGENTS: usize = 50_000;
/// Instructions this long tell an agent apart, whatever tools a call of it has.
const TELLING: usize = 40;

/// One agent as its requests show it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// Equal for calls of the same agent; 0 when nothing tells it.
    pub(super) print: u64,
    pub(super) name: Option<(Label, Percent)>,
    /// What tells is the first of the messages.
    pub(super) is_first_message: bool,
}

/// All agents seen lately, by the digests of what tells them apart.
pub(super) struct Identities {
    rules: Vec<AgentRule>,
    known: Memo<(Digest, Digest), Arc<Identity>>,
}

impl Identities {
    pub(super) fn new(rules: &[AgentRule]) -> Self {
        Self {
            rules: rules.to_vec(),
            known: Memo::new(AGENTS),
        }
    }

    /// Who makes a request.
    pub(super) fn of(&self, facts: &RequestFacts, text: &[u8]) -> Arc<Identity> {
        let first = |kind| facts.segments.iter().find(|it| it.kind == kind);
        // Instructions may stand behind the messages.
        let prompt = first(SegmentKind::Instructions).or_else(|| first(SegmentKind::Message));
        let tools = first(SegmentKind::Tools);
        let none = Digest::from_bytes([0; 16]);
        let digest = |segment: Option<&Segment>| segment.map_or(none, |segment| segment.digest);
        let key = (digest(prompt), digest(tools));
        let spread = key.0.to_bytes()[0];
        if let Some(known) = self.known.get(spread, &key) {
            return known;
        }
        let raw = |segment: &Segment| text.get(segment.range.clone());
        let said = prompt.and_then(|it| instructions(it.kind, raw(it)?));
        let is_message = prompt.is_some_and(|it| it.kind == SegmentKind::Message);
        let tools = tools.and_then(raw).map(message::tool_names);
        let identity = Arc::new(Identity {
            is_first_message: said.is_some() && is_message,
            ..self.identify(&said.unwrap_or_default(), &tools.unwrap_or_default())
        });
        self.known.insert(spread, key, Arc::clone(&identity));
        identity
    }

    fn identify(&self, prompt: &Prompt, tools: &[String]) -> Identity {
        let (prompt, named) = (prompt.text.as_str(), &prompt.name);
        let said = Reading::of(Voice::World, prompt.trim()).hash;
        let tools = Reading::of(Voice::World, &tools.join(" "));
        let print = match (prompt.trim().len(), tools.len) {
            (0, 0) => 0,
            (TELLING.., _) => Mixer::of(&[said]),
            _ => Mixer::of(&[said, tools.hash]),
        };
        if print == 0 {
            return Identity {
                print,
                name: None,
                is_first_message: false,
            };
        }
        let by_name = named.clone().map(|name| (name, Percent::new(90)));
        let by_role = || Some((naming::name_of(prompt, print)?, Percent::new(80)));
        let by_print = || {
            let name = format!("agent-{}", naming::short(print));
            Some((Label::parse(&name).ok()?, Percent::new(60)))
        };
        let name = by_name.or_else(by_role).or_else(by_print);
        let renamed = self.rules.iter().find(|rule| {
            rule.prompt
                .as_ref()
                .is_some_and(|glob| glob.matches(prompt))
                || rule.inferred.as_ref().is_some_and(|glob| {
                    name.as_ref()
                        .is_some_and(|(name, _)| glob.matches(name.as_str()))
                })
        });
        let name = renamed.map_or(name, |rule| Some((rule.name.clone(), Percent::new(95))));
        Identity {
            print,
            name,
            is_first_message: false,
        }
    }
}

/// What tells an agent apart: the text of its instructions, and the name they are given in.
#[derive(Default)]
struct Prompt {
    text: String,
    name: Option<Label>,
}

/// Instructions, or a first message if it is of the system.
fn instructions(kind: SegmentKind, raw: &[u8]) -> Option<Prompt> {
    let message = message::read(kind, raw)?;
    if message.role != Role::System {
        return None;
    }
    let texts = message.pieces.into_iter().filter_map(|piece| match piece {
        Piece::Text(text) => Some(text),
        Piece::Call(_) | Piece::Result { .. } => None,
    });
    Some(Prompt {
        text: texts.collect::<Vec<_>>().join("\n"),
        name: message.name.and_then(|name| Label::parse(&name).ok()),
    })
}
