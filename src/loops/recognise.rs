//! Which conversation, agent, caller and run a request belongs to, where nobody says so; and what it
//! brings that is new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::attribute::{descent, fill, name_agent};
use super::identity::Identity;
use super::transcript::{fold, new_messages, transcript};
use super::{Loops, lock};
use crate::core::attribution::{Attribution, Percent, Source};
use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::id::{CallId, Label};
use crate::core::lineage::{Found, Fronts, Lineage, Origin, Space, Thread, Told, Who};
use crate::core::loops::turn::{Ask, Kind};
use crate::core::time::Timestamp;
use crate::wire::message::{Message, Piece, Role};
use crate::wire::scan::{RequestFacts, Segment};

/// Messages at the end that are looked at for who spoke last.
const BRANCH: usize = 8;
/// A question shorter than this may be anybody's.
const MIN_QUESTION: usize = 24;

/// A request as it is recognised.
#[derive(Debug)]
pub struct Turn {
    pub(super) space: Space,
    pub(super) thread: Arc<Thread>,
    pub(super) front: u64,
    pub(super) ask: Ask,
    /// The client's library repeats a call by itself.
    pub(super) is_retry: bool,
    /// What it says may be shown and kept.
    pub(super) shows: bool,
    has_ended: AtomicBool,
}

impl Turn {
    /// What is compared of its request.
    pub fn ask(&self) -> &Ask {
        &self.ask
    }

    /// Its call is over, however it ended.
    pub(super) fn end(&self) {
        if !self.has_ended.swap(true, Ordering::Relaxed) {
            self.thread.ends_call();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.end();
    }
}

/// A request to be recognised.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub call: CallId,
    pub operation: Operation,
    pub facts: &'a RequestFacts,
    /// What the facts are about.
    pub text: &'a Bytes,
    /// What the digests of `facts` are made with.
    pub seed: DigestSeed,
    /// Hash of the client's key.
    pub key: Option<Digest>,
    pub retry: u32,
    /// What it says may be shown and kept.
    pub shows: bool,
    pub now: Timestamp,
}

/// What leads to a call.
pub(super) struct Lead {
    /// The conversation that goes on; none where one begins.
    pub(super) found: Option<Found>,
    /// So many messages are not new, of so many.
    pub(super) known: usize,
    pub(super) messages: usize,
    pub(super) new: Vec<Message>,
    pub(super) origin: Option<Origin>,
    /// The conversation that a sample is taken of.
    pub(super) kin: Option<Arc<Thread>>,
    /// What it shares its run with, where nothing led to it.
    pub(super) beside: Option<(Arc<Thread>, Percent)>,
    /// When the call before, or the same one before, ended.
    pub(super) ended_at: Option<u64>,
    pub(super) kind: Kind,
}

impl Loops {
    /// Recognises a request, and fills in what it does not say of itself. None when it has no
    /// messages to go by.
    pub fn recognise(&self, request: &Request<'_>, who: &mut Attribution) -> Option<Turn> {
        let facts = request.facts;
        if !request.operation.generates() || !facts.readable {
            return None;
        }
        let infers = self.infer.load(Ordering::Relaxed);
        let identity = self.identities.load().of(facts, request.text);
        if infers {
            name_agent(who, &identity);
        }
        let space = space(request, who, &identity);
        let messages = transcript(request, identity.is_first_message);
        let behind = facts.previous_response_id.as_ref();
        let behind = behind.or(facts.conversation.as_ref());
        if messages.is_empty() && behind.is_none() {
            return None;
        }
        let told: Vec<Told> = messages.iter().map(|(_, told)| *told).collect();
        let id = behind.map_or(0, |id| xxh3_64(id.as_bytes()));
        let fronts = Fronts::of(space, id, &told);
        let found = self.find(space, facts, (&fronts, &told));
        let lead = self.lead(space, (found, &messages), request);
        let thread = self.thread(space, &lead, request, who);
        if infers {
            fill(who, &thread, &lead);
        }
        thread.begins_call();
        self.lineage
            .asked(space, &thread, (&fronts, &told), lead.known);
        self.remember(space, facts, &lead, &thread);
        Some(Turn {
            ask: self.ask(space, &lead, (&thread, fronts.whole()), (request, who)),
            space,
            thread,
            front: fronts.whole(),
            is_retry: request.retry > 0,
            shows: request.shows,
            has_ended: AtomicBool::new(false),
        })
    }

    /// What the conversation is known by from now on, apart from its messages.
    fn remember(&self, space: Space, facts: &RequestFacts, lead: &Lead, thread: &Arc<Thread>) {
        if let Some(name) = &facts.conversation {
            self.lineage.name(space, name, thread);
        }
        let begins = lead.kind == Kind::Fresh && lead.origin.is_none();
        if let Some(question) = question(&lead.new).filter(|_| begins) {
            self.lineage.question(space, question, thread);
        }
    }

    /// What of the request is compared with others.
    fn ask(
        &self,
        space: Space,
        lead: &Lead,
        (thread, front): (&Thread, u64),
        (request, who): (&Request<'_>, &Attribution),
    ) -> Ask {
        let is_other = |text: &str| {
            let origin = self.lineage.said(space, text);
            origin.is_some_and(|origin| origin.thread.id != thread.id)
        };
        let is_agent = |message: &Message| {
            message.pieces.iter().any(|piece| match piece {
                Piece::Text(text) => is_other(text),
                Piece::Call(_) | Piece::Result { .. } => false,
            })
        };
        let config = self.config.load();
        let reader = self.reader(&config, request.shows);
        let hash = |label: Option<&Label>| label.map_or(0, |it| xxh3_64(it.as_str().as_bytes()));
        let now = micros(request.now);
        Ask {
            agent: hash(Some(&who.agent)),
            caller: hash(who.caller.as_ref()),
            conversation: thread.id,
            depth: who.depth,
            kind: lead.kind,
            brought: reader.parts(&lead.new, is_agent),
            said: reader.own_answer(&lead.new, is_agent),
            request: front,
            idle_ms: lead.ended_at.map(|ended| now.saturating_sub(ended) / 1000),
        }
    }

    fn find(
        &self,
        space: Space,
        facts: &RequestFacts,
        (fronts, told): (&Fronts, &[Told]),
    ) -> Option<Found> {
        let known = match (&facts.previous_response_id, &facts.conversation) {
            (Some(id), _) => self.lineage.find_by_id(space, id),
            (None, Some(name)) => self.lineage.find_named(space, name),
            (None, None) => return self.lineage.find(space, fronts, told),
        };
        let goes_on = || {
            Some(Found {
                thread: known?,
                known: 0,
                confidence: Percent::new(100),
                is_again: false,
                is_answered: false,
            })
        };
        self.lineage.find_again(fronts).or_else(goes_on)
    }

    /// How a request stands to the conversation that was found for it, and who set it off.
    fn lead(
        &self,
        space: Space,
        (found, messages): (Option<Found>, &[(&Segment, Told)]),
        request: &Request<'_>,
    ) -> Lead {
        let found = match found {
            Some(found) => Some(self.branch(space, found, messages, request)),
            None => self.by_last_answer(space, messages, request),
        };
        let kind = self.kind(found.as_ref(), messages.len(), request.now);
        let ended_at = found.as_ref().and_then(|it| Lineage::ended_at(&it.thread));
        // A sample of what was asked within a conversation belongs to the same run.
        let kin = found.as_ref().filter(|found| {
            kind == Kind::Fresh && (found.thread.began_with != messages.len() || found.known == 0)
        });
        let kin = kin.map(|found| Arc::clone(&found.thread));
        let found = found.filter(|_| kind != Kind::Fresh);
        let known = found.as_ref().map_or(0, |found| found.known);
        let new = new_messages(request, messages, known);
        let found = found.map(|found| self.refine(space, found, &new));
        let own = found.as_ref().map(|found| found.thread.id);
        let origin = self.origin(space, own, &new);
        let is_alone = kind == Kind::Fresh && origin.is_none();
        let question = question(&new).filter(|_| is_alone);
        let beside = question.and_then(|question| self.lineage.asked_alike(space, question));
        Lead {
            known,
            messages: messages.len(),
            kind,
            kin,
            beside: beside.map(|origin| (origin.thread, origin.confidence)),
            ended_at,
            found,
            origin,
            new,
        }
    }

    /// A request that was answered before may be that of a conversation which only went the same way
    /// so far: the one that said what it repeats last.
    fn branch(
        &self,
        space: Space,
        found: Found,
        messages: &[(&Segment, Told)],
        request: &Request<'_>,
    ) -> Found {
        let is_inner = found.thread.began_with < messages.len() && found.known > 0;
        if !(found.is_again && found.is_answered && is_inner) {
            return found;
        }
        match self.by_last_answer(space, messages, request) {
            Some(other) if other.thread.id != found.thread.id => other,
            _ => found,
        }
    }

    /// The conversation that said what a request repeats last.
    fn by_last_answer(
        &self,
        space: Space,
        messages: &[(&Segment, Told)],
        request: &Request<'_>,
    ) -> Option<Found> {
        let last = new_messages(request, messages, messages.len().saturating_sub(BRANCH));
        let is_own = |message: &Message| message.role == Role::Assistant;
        let at = last.iter().rposition(is_own)?;
        Some(Found {
            thread: self.speaker(space, last.get(at)?)?,
            known: messages.len() - last.len() + at + 1,
            confidence: Percent::new(80),
            is_again: false,
            is_answered: false,
        })
    }

    /// The conversation of this agent that said all of a message.
    fn speaker(&self, space: Space, message: &Message) -> Option<Arc<Thread>> {
        let calls = message.pieces.iter().filter_map(|piece| match piece {
            Piece::Call(call) => self.lineage.tool_call(space, &call.id),
            Piece::Text(_) | Piece::Result { .. } => None,
        });
        let texts = message.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => self.lineage.said_all(space, text),
            Piece::Call(_) | Piece::Result { .. } => None,
        });
        let origin = calls.chain(texts).next()?;
        Some(origin.thread).filter(|thread| thread.print == space.print)
    }

    /// Of conversations that began alike, the one whose answer is repeated.
    fn refine(&self, space: Space, found: Found, new: &[Message]) -> Found {
        if found.is_again || found.known != found.thread.began_with {
            return found;
        }
        let own = new.iter().find(|message| message.role == Role::Assistant);
        match own.and_then(|message| self.speaker(space, message)) {
            Some(thread) if thread.run == found.thread.run || found.thread.run.is_none() => {
                Found { thread, ..found }
            }
            Some(thread) if thread.began_with == found.thread.began_with => {
                Found { thread, ..found }
            }
            _ => found,
        }
    }

    /// How a request stands to the conversation that was found for it.
    fn kind(&self, found: Option<&Found>, len: usize, now: Timestamp) -> Kind {
        match found {
            None => Kind::Fresh,
            Some(found) if !found.is_again => Kind::Next,
            // Asked several times at once: samples.
            Some(found) if found.thread.is_running() => Kind::Fresh,
            Some(found) if !found.is_answered => Kind::Again,
            Some(found) if self.was_just_refused(&found.thread, now) => Kind::Again,
            // What was answered before and is asked again is asked anew.
            Some(_) if len > 0 => Kind::Fresh,
            Some(_) => Kind::Again,
        }
    }

    fn was_just_refused(&self, thread: &Thread, now: Timestamp) -> bool {
        let watched = thread
            .run
            .as_ref()
            .and_then(|run| self.known(thread.tenant, run));
        watched.is_some_and(|watched| lock(&watched).guard.was_just_refused(thread.id, now))
    }

    /// Who said what is new, or made the tool call that it is about.
    fn origin(&self, space: Space, own: Option<u64>, new: &[Message]) -> Option<Origin> {
        // What was called for by this conversation itself is a result, even where it looks like a user's.
        let leads = |origin: &Origin| {
            let thread = &origin.thread;
            let is_same_run = space.run == 0 || space.run == thread.space_run;
            let is_result = own.is_some() && thread.called_by == own;
            Some(thread.id) != own && is_same_run && !is_result
        };
        let mut handed = None;
        for message in new.iter().rev() {
            for piece in message.pieces.iter().rev() {
                let origin = match (message.role, piece) {
                    (Role::User, Piece::Text(text)) => self.lineage.said(space, text),
                    (_, Piece::Call(call)) if own.is_none() => {
                        let maker = self.lineage.tool_call(space, &call.id);
                        handed = handed.or(maker);
                        None
                    }
                    _ => None,
                };
                if let Some(origin) = origin.filter(leads) {
                    return Some(origin);
                }
            }
        }
        let is_other_agent = |origin: &Origin| origin.thread.print != space.print;
        handed.filter(is_other_agent)
    }

    /// The conversation that goes on, or a new one.
    fn thread(
        &self,
        space: Space,
        lead: &Lead,
        request: &Request<'_>,
        who: &Attribution,
    ) -> Arc<Thread> {
        if let Some(found) = &lead.found {
            return Arc::clone(&found.thread);
        }
        let origin = lead.origin.as_ref();
        let of_run = origin.map(|origin| &origin.thread);
        let of_run = of_run.or(lead.kin.as_ref());
        let of_run = of_run.or(lead.beside.as_ref().map(|(thread, _)| thread));
        let run = who.run.clone();
        let run = run.or_else(|| of_run?.run.clone());
        let descent = descent(lead, space, who);
        let called_by = origin.filter(|origin| origin.is_call);
        let called_by = called_by.map(|origin| origin.thread.id);
        self.lineage.begin(|number| {
            let who = Who {
                agent: who.agent.clone(),
                run: run.or_else(|| run_of(request.call)),
                caller: who.caller.clone().or(descent.caller),
                depth: descent.depth.max(who.depth),
                path: descent.path,
                began_with: lead.messages,
                called_by,
            };
            Thread::new((number, salt(request.call)), space, who)
        })
    }
}

/// The first text of a user that says enough to be told from others.
fn question(messages: &[Message]) -> Option<&str> {
    let of_users = messages.iter().filter(|it| it.role == Role::User);
    let mut texts = of_users
        .flat_map(|message| &message.pieces)
        .filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.trim()),
            Piece::Call(_) | Piece::Result { .. } => None,
        });
    texts.find(|text| text.len() >= MIN_QUESTION)
}

fn micros(at: Timestamp) -> u64 {
    u64::try_from(at.micros()).unwrap_or(0)
}

/// Within what the conversations of a call are looked for.
fn space(request: &Request<'_>, who: &Attribution, identity: &Identity) -> Space {
    let hash = |label: &Label| xxh3_64(label.as_str().as_bytes());
    let is_named = who.agent_source < Source::Inferred;
    Space {
        tenant: request.key.map_or(0, fold),
        run: who.run.as_ref().map_or(0, hash),
        print: if is_named {
            hash(&who.agent)
        } else {
            identity.print
        },
    }
}

/// The name of a run that begins with a call.
fn run_of(call: CallId) -> Option<Label> {
    let id = call.to_string().replace('-', "");
    let short = id.get(..12)?;
    let end = id.get(id.len() - 6..)?;
    Label::parse(&format!("auto-{short}{end}")).ok()
}

/// Differs from call to call, and so from process to process.
fn salt(call: CallId) -> u64 {
    let end = call.to_bytes().last_chunk().copied();
    u64::from_le_bytes(end.unwrap_or_default())
}
