//! Which conversation, agent, caller and run a request belongs to, where nobody says so; and what it
//! brings that is new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use memchr::memmem;
use xxhash_rust::xxh3::xxh3_64;

use super::{Loops, lock};
use crate::core::attribution::{Attribution, Percent, Source};
use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::id::{CallId, Label};
use crate::core::lineage::{Found, Fronts, Lineage, Origin, Space, Thread, Who};
use crate::core::loops::turn::{Ask, Kind};
use crate::core::time::Timestamp;
use crate::wire::message::{self, Message, Piece, Role};
use crate::wire::scan::{RequestFacts, Segment, SegmentKind};

/// New messages of one request that are looked at: the last ones.
const MAX_NEW: usize = 32;
/// Messages at the end in which a client may have moved a mark of its cache.
const MARKED: usize = 6;
/// A question shorter than this may be anybody's.
const MIN_QUESTION: usize = 24;
/// Agents of a chain that are named.
const MAX_PATH: usize = 64;
/// How sure it is that a call that nothing leads to begins a run.
const ROOT: Percent = Percent::new(60);

/// A request as it is recognised.
#[derive(Debug)]
pub struct Turn {
    pub(super) space: Space,
    pub(super) thread: Arc<Thread>,
    pub(super) front: u64,
    /// Messages of the request.
    pub(super) messages: usize,
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
struct Lead {
    found: Option<Found>,
    origin: Option<Origin>,
    /// What it shares its run with, where nothing led to it.
    beside: Option<Origin>,
    kind: Kind,
}

impl Loops {
    /// Recognises a request, and fills in what it does not say of itself. None when it has no
    /// messages to go by.
    pub fn recognise(&self, request: &Request<'_>, who: &mut Attribution) -> Option<Turn> {
        let config = self.config.load();
        let is_off = !self.infer.load(Ordering::Relaxed);
        if is_off || !request.operation.generates() || !request.facts.readable {
            return None;
        }
        let messages = transcript(request);
        if messages.is_empty() && request.facts.previous_response_id.is_none() {
            return None;
        }
        let space = self.space(request, who);
        let hashes: Vec<u64> = messages.iter().map(|(_, hash)| *hash).collect();
        let fronts = Fronts::of(space, &hashes);
        let found = self.find(space, request, who, (&fronts, &hashes));
        let kind = self.kind(found.as_ref(), (&fronts, hashes.len()), request.now);
        let found = found.filter(|_| kind != Kind::Fresh);
        let known = found.as_ref().map_or(0, |found| found.known);
        let new = new_messages(request, &messages, known);
        let found = self.refine(space, found, &new);
        let lead = self.lead(space, (found, kind), &new);
        let thread = self.thread(space, &lead, request, who);
        fill(who, &thread, &lead);
        thread.begins_call();
        self.lineage
            .asked(space, &thread, (&fronts, &hashes), known);
        if let Some(name) = &request.facts.conversation {
            self.lineage.name(space, name, &thread);
        }
        if lead.kind == Kind::Fresh
            && lead.origin.is_none()
            && let Some(question) = question(&new)
        {
            self.lineage.question(space, question, &thread);
        }
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
        let reader = self.reader(&config, request.shows);
        let hash = |label: Option<&Label>| label.map_or(0, |it| xxh3_64(it.as_str().as_bytes()));
        let ended = Lineage::ended_at(&thread);
        let now = micros(request.now);
        let ask = Ask {
            agent: hash(Some(&who.agent)),
            caller: hash(who.caller.as_ref()),
            conversation: thread.id,
            depth: who.depth,
            kind: lead.kind,
            brought: reader.parts(&new, is_agent),
            said: reader.own_answer(&new, is_agent),
            idle_ms: ended.map(|ended| now.saturating_sub(ended) / 1000),
        };
        Some(Turn {
            space,
            thread,
            front: fronts.whole(),
            messages: hashes.len(),
            ask,
            is_retry: request.retry > 0,
            shows: request.shows,
            has_ended: AtomicBool::new(false),
        })
    }

    /// Names the agent, where nobody did, and says within what its conversations are looked for.
    fn space(&self, request: &Request<'_>, who: &mut Attribution) -> Space {
        let identities = self.identities.load();
        let identity = identities.of(request.facts, request.text);
        let is_named = who.agent_source != Source::Unknown;
        if !is_named && let Some((name, confidence)) = &identity.name {
            who.agent = name.clone();
            who.agent_source = Source::Inferred;
            who.inferred.agent = Some(*confidence);
        }
        let hash = |label: &Label| xxh3_64(label.as_str().as_bytes());
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

    fn find(
        &self,
        space: Space,
        request: &Request<'_>,
        who: &Attribution,
        (fronts, hashes): (&Fronts, &[u64]),
    ) -> Option<Found> {
        let certain = |thread| Found {
            thread,
            known: 0,
            confidence: Percent::new(100),
            is_again: false,
        };
        let facts = request.facts;
        if let Some(id) = &facts.previous_response_id
            && let Some(thread) = self.lineage.find_by_id(space, id)
        {
            return Some(certain(thread));
        }
        let named = facts.conversation.as_deref();
        let named = named.or(who.conversation.as_ref().map(Label::as_str));
        if let Some(name) = named.filter(|_| facts.conversation.is_some())
            && let Some(thread) = self.lineage.find_named(space, name)
        {
            return Some(certain(thread));
        }
        self.lineage.find(space, fronts, hashes)
    }

    /// Of conversations that began alike, the one whose answer is repeated.
    fn refine(&self, space: Space, found: Option<Found>, new: &[Message]) -> Option<Found> {
        let mut found = found?;
        let own = new.iter().filter(|message| message.role == Role::Assistant);
        for piece in own.flat_map(|message| &message.pieces) {
            let origin = match piece {
                Piece::Call(call) => self.lineage.tool_call(space, &call.id),
                Piece::Text(text) => self.lineage.said(space, text),
                Piece::Result { .. } => None,
            };
            if let Some(origin) = origin
                && origin.thread.print == space.print
                && origin.thread.run == found.thread.run
            {
                found.thread = origin.thread;
                return Some(found);
            }
        }
        Some(found)
    }

    /// How a request stands to the conversation that was found for it.
    fn kind(&self, found: Option<&Found>, (fronts, len): (&Fronts, usize), now: Timestamp) -> Kind {
        match found {
            None => Kind::Fresh,
            Some(found) if !found.is_again => Kind::Next,
            // Asked several times at once: samples.
            Some(found) if found.thread.is_running() => Kind::Fresh,
            Some(found) if !Lineage::is_answered(&found.thread, fronts) => Kind::Again,
            Some(found) if self.was_just_refused(&found.thread, now) => Kind::Again,
            // What began a conversation and was answered begins another one.
            Some(found) if found.thread.began_with == len => Kind::Fresh,
            Some(_) => Kind::Again,
        }
    }

    fn was_just_refused(&self, thread: &Thread, now: Timestamp) -> bool {
        let watched = thread.run.as_ref().and_then(|run| self.known(run));
        watched.is_some_and(|watched| lock(&watched).guard.was_just_refused(thread.id, now))
    }

    /// Who set a request off.
    fn lead(&self, space: Space, (found, kind): (Option<Found>, Kind), new: &[Message]) -> Lead {
        let own = found.as_ref().map(|found| found.thread.id);
        let origin = self.origin(space, own, new);
        let is_alone = kind == Kind::Fresh && origin.is_none();
        let question = question(new).filter(|_| is_alone);
        let beside = question.and_then(|question| self.lineage.asked_alike(space, question));
        Lead {
            found,
            origin,
            beside,
            kind,
        }
    }

    /// Who said what is new, or made the tool call that it is about.
    fn origin(&self, space: Space, own: Option<u64>, new: &[Message]) -> Option<Origin> {
        // What was called for by this conversation itself is a result, even where it looks like a user's.
        let leads = |origin: &Origin| {
            let thread = &origin.thread;
            Some(thread.id) != own && (own.is_none() || thread.called_by != own)
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
        if lead.kind != Kind::Fresh
            && let Some(found) = &lead.found
        {
            return Arc::clone(&found.thread);
        }
        let origin = lead.origin.as_ref().map(|origin| &origin.thread);
        let beside = lead.beside.as_ref().map(|origin| &origin.thread);
        let run = who.run.clone();
        let run = run.or_else(|| origin.or(beside)?.run.clone());
        let caller = who.caller.clone();
        let caller = caller.or_else(|| origin.map(|thread| thread.agent.clone()));
        let mut path = origin.map_or_else(Vec::new, |thread| thread.path.clone());
        if path.len() < MAX_PATH {
            path.push(who.agent.clone());
        }
        let depth = origin.map_or(1, |thread| thread.depth.saturating_add(1));
        let began_with = messages_in(request.facts);
        let by_call = lead.origin.as_ref().filter(|origin| origin.is_call);
        let called_by = by_call.map(|origin| origin.thread.id);
        self.lineage.begin(|number| {
            let who = Who {
                agent: who.agent.clone(),
                run: run.or_else(|| run_of(request.call)),
                caller,
                depth: depth.max(who.depth),
                path,
                began_with,
                called_by,
            };
            Thread::new(number, space, who)
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

/// Puts what follows from `lead` where nothing was claimed.
fn fill(who: &mut Attribution, thread: &Thread, lead: &Lead) {
    let found = lead.found.as_ref().filter(|_| lead.kind != Kind::Fresh);
    let known = found.map(|found| found.confidence);
    let origin = lead.origin.as_ref();
    let led = origin.map(|origin| origin.confidence);
    if who.run.is_none() {
        who.run.clone_from(&thread.run);
        who.run_source = Some(Source::Inferred);
        let beside = lead.beside.as_ref().map(|origin| origin.confidence);
        who.inferred.run = Some(known.or(led).or(beside).unwrap_or(ROOT));
    }
    if who.caller.is_none() && who.path.is_empty() {
        // Who hands over new text now, else who began the conversation.
        let now = origin.map(|origin| origin.thread.agent.clone());
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

/// The name of a run that begins with a call.
fn run_of(call: CallId) -> Option<Label> {
    let id = call.to_string().replace('-', "");
    let short = id.get(..12)?;
    let end = id.get(id.len() - 6..)?;
    Label::parse(&format!("auto-{short}{end}")).ok()
}

fn fold(digest: Digest) -> u64 {
    let front = digest.to_bytes().first_chunk().copied();
    u64::from_le_bytes(front.unwrap_or_default())
}

fn is_message(segment: &Segment) -> bool {
    matches!(segment.kind, SegmentKind::Message | SegmentKind::Input)
}

fn messages_in(facts: &RequestFacts) -> usize {
    facts.segments.iter().filter(|it| is_message(it)).count()
}

/// The messages of a request, each with what stands for it.
fn transcript<'a>(request: &Request<'a>) -> Vec<(&'a Segment, u64)> {
    let segments: Vec<&Segment> = request
        .facts
        .segments
        .iter()
        .filter(|it| is_message(it))
        .collect();
    let plain = segments.len().saturating_sub(MARKED);
    let hashed = segments.into_iter().enumerate().map(|(at, segment)| {
        let may_be_marked = at >= plain && request.operation == Operation::Messages;
        let raw = request.text.get(segment.range.clone());
        let plain = raw.filter(|_| may_be_marked).and_then(without_marks);
        let digest = plain.map_or(segment.digest, |plain| request.seed.digest(&plain));
        (segment, fold(digest))
    });
    hashed.collect()
}

/// A message without the marks that say up to where a cache reaches: they move on with each call.
/// None where there are none.
fn without_marks(raw: &[u8]) -> Option<Vec<u8>> {
    const MARK: &[u8] = b"\"cache_control\"";
    let mut at = Some(memmem::find(raw, MARK)?);
    let mut rest = raw;
    let mut kept: Vec<u8> = Vec::new();
    while let Some(start) = at {
        let (front, tail) = rest.split_at(start);
        let front = front.trim_ascii_end();
        let end = memchr::memchr(b'}', tail)?;
        rest = tail.get(end + 1..)?;
        // One of the commas around it goes too.
        if let Some(front) = front.strip_suffix(b",") {
            kept.extend_from_slice(front);
        } else {
            kept.extend_from_slice(front);
            let next = rest.trim_ascii_start();
            rest = next.strip_prefix(b",").unwrap_or(rest);
        }
        at = memmem::find(rest, MARK);
    }
    kept.extend_from_slice(rest);
    Some(kept)
}

/// The messages behind the first `known` ones, as far as they are understood.
fn new_messages(request: &Request<'_>, messages: &[(&Segment, u64)], known: usize) -> Vec<Message> {
    let from = known.max(messages.len().saturating_sub(MAX_NEW));
    let new = messages.get(from..).unwrap_or_default().iter();
    let read = new.filter_map(|(segment, _)| {
        message::read(segment.kind, request.text.get(segment.range.clone())?)
    });
    read.collect()
}
