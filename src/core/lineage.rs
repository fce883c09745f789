//! Which conversation a call goes on with, and which one set it off: attribution by inference.
//!
//! A conversation is known by the chain of its messages: the next call repeats what was said and
//! adds to it. Who set it off is known by what it begins with: a text, a tool call or an id that
//! another conversation produced. All memory is bounded; nothing crosses from one tenant (a client
//! key) to another.

pub mod naming;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use super::attribution::Percent;
use super::id::Label;
use super::loops::reading::Mixer;
use super::memo::Memo;

/// Fronts of conversations that are remembered, about 60 bytes each.
const FRONTS: usize = 200_000;
/// Messages, texts and ids that tell where something came from, about 50 bytes each.
const ORIGINS: usize = 400_000;
/// The end of a conversation is looked for so many messages back.
const LOOK_BACK: usize = 128;
/// Of what a call adds so many messages are remembered one by one.
const REMEMBERED: usize = 8;
/// Lines of one answer that are remembered.
const MAX_LINES: usize = 48;
/// A shorter line says nothing of where it came from.
const MIN_LINE: usize = 24;
const MIN_TEXT: usize = 12;
/// So many lines of one answer tell that a text has it from there.
const MIN_LINES: u32 = 3;

/// One conversation, as far as it is known by what it said.
#[derive(Debug)]
pub struct Thread {
    /// What stands for it everywhere: a hash that no other conversation of this process has.
    pub id: u64,
    pub agent: Label,
    /// Tells agents apart whose names are alike.
    pub print: u64,
    pub tenant: u64,
    /// Hash of the run, where a client named it; else 0.
    pub space_run: u64,
    pub run: Option<Label>,
    pub caller: Option<Label>,
    /// The chain of agents, this one last.
    pub path: Vec<Label>,
    pub depth: u32,
    /// The number of messages of its first request.
    pub began_with: usize,
    /// The conversation that set it off, if it did so by a tool call: what it says then is the result.
    pub called_by: Option<u64>,
    /// When its last call ended, in microseconds since the epoch; 0 for never.
    ended_at: AtomicU64,
    /// Calls of it that run now.
    running: AtomicU32,
}

/// Who asks: conversations are looked for within it.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub tenant: u64,
    /// Hash of the run, where a client named it; else 0.
    pub run: u64,
    pub print: u64,
}

/// How a request stands to what is known.
#[derive(Clone, Debug)]
pub struct Found {
    pub thread: Arc<Thread>,
    /// So many of its messages were there before.
    pub known: usize,
    pub confidence: Percent,
    /// The very same messages were sent before.
    pub is_again: bool,
    /// And answered.
    pub is_answered: bool,
}

/// Where something was said.
#[derive(Clone, Debug)]
pub struct Origin {
    pub thread: Arc<Thread>,
    pub confidence: Percent,
    /// It was said in the arguments of a tool call.
    pub is_call: bool,
}

/// What is remembered of all conversations.
#[derive(Debug)]
pub struct Lineage {
    fronts: Memo<u64, Front>,
    origins: Memo<u64, Source>,
    threads: AtomicU64,
}

/// Who said something, and whether in the arguments of a tool call.
#[derive(Clone, Debug)]
struct Source {
    thread: Arc<Thread>,
    is_call: bool,
}

/// A request that was sent.
#[derive(Clone, Debug)]
struct Front {
    thread: Arc<Thread>,
    is_answered: bool,
}

/// Kinds of things that tell an origin: equal values of two kinds are not the same.
#[derive(Clone, Copy, Debug)]
enum Of {
    Message = 1,
    Text = 2,
    Line = 3,
    ToolCall = 4,
    Response = 5,
    Named = 6,
    /// What a user asked at first: agents that work on it side by side share it.
    Question = 7,
}

impl Source {
    fn of(thread: &Arc<Thread>) -> Self {
        Self {
            thread: Arc::clone(thread),
            is_call: false,
        }
    }

    fn origin(self, confidence: Percent) -> Origin {
        Origin {
            thread: self.thread,
            confidence,
            is_call: self.is_call,
        }
    }
}

/// One message of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub hash: u64,
    /// It is long enough to be nobody else's by chance.
    pub tells: bool,
}

/// The hashes of all fronts of a list of messages.
#[derive(Clone, Debug, Default)]
pub struct Fronts {
    /// Of what the messages are said to.
    base: u64,
    fronts: Vec<u64>,
}

impl Fronts {
    /// `behind` stands for what the upstream knows and the request does not repeat.
    pub fn of(space: Space, behind: u64, messages: &[Told]) -> Self {
        let base = Mixer::of(&[space.tenant, space.run, space.print, behind]);
        let mut chain = base;
        let fronts = messages.iter().map(|message| {
            chain = Mixer::of(&[chain, message.hash]);
            chain
        });
        Self {
            fronts: fronts.collect(),
            base,
        }
    }

    /// What stands for the request as a whole.
    pub fn whole(&self) -> u64 {
        self.fronts.last().copied().unwrap_or(self.base)
    }
}

impl Default for Lineage {
    fn default() -> Self {
        Self {
            fronts: Memo::new(FRONTS),
            origins: Memo::new(ORIGINS),
            threads: AtomicU64::new(1),
        }
    }
}

impl Lineage {
    /// The conversation that these messages go on with: by the longest front that was sent before,
    /// else by a message of its that is still there.
    pub fn find(&self, space: Space, fronts: &Fronts, messages: &[Told]) -> Option<Found> {
        let len = messages.len();
        for known in (1..=len).rev().take(LOOK_BACK) {
            let Some(front) = self.front(*fronts.fronts.get(known - 1)?) else {
                continue;
            };
            return Some(Found {
                thread: front.thread,
                known,
                confidence: Percent::new(99),
                is_again: known == len,
                is_answered: known == len && front.is_answered,
            });
        }
        let telling = |(at, message): (usize, &Told)| message.tells.then_some((at, message.hash));
        let last = messages.iter().enumerate().rev().take(LOOK_BACK);
        for (at, message) in last.filter_map(telling) {
            let key = key(space, Of::Message, message);
            if let Some(source) = self.origins.get(spread(key), &key) {
                return Some(Found {
                    thread: source.thread,
                    known: at + 1,
                    confidence: Percent::new(80),
                    is_again: false,
                    is_answered: false,
                });
            }
        }
        None
    }

    /// The same request as a whole, if it was sent before.
    pub fn find_again(&self, fronts: &Fronts) -> Option<Found> {
        let front = self.front(fronts.whole())?;
        Some(Found {
            thread: front.thread,
            known: fronts.fronts.len(),
            confidence: Percent::new(100),
            is_again: true,
            is_answered: front.is_answered,
        })
    }

    /// The conversation that an upstream knows by this id of a response or conversation.
    pub fn find_by_id(&self, space: Space, id: &str) -> Option<Arc<Thread>> {
        let found = self.origin(space, Of::Response, xxh3_64(id.as_bytes()))?;
        Some(found.thread).filter(|thread| thread.print == space.print)
    }

    /// The conversation that a client gave this name.
    pub fn find_named(&self, space: Space, name: &str) -> Option<Arc<Thread>> {
        let key = key(space, Of::Named, xxh3_64(name.as_bytes()));
        Some(self.origins.get(spread(key), &key)?.thread)
    }

    pub fn name(&self, space: Space, name: &str, thread: &Arc<Thread>) {
        let key = key(space, Of::Named, xxh3_64(name.as_bytes()));
        self.origins.insert(spread(key), key, Source::of(thread));
    }

    /// Who made the tool call with this id.
    pub fn tool_call(&self, space: Space, id: &str) -> Option<Origin> {
        let source = self.origin(space, Of::ToolCall, xxh3_64(id.as_bytes()))?;
        Some(source.origin(Percent::new(95)))
    }

    /// Who said this text, or most of the lines in it.
    pub fn said(&self, space: Space, text: &str) -> Option<Origin> {
        if let Some(origin) = self.said_all(space, text) {
            return Some(origin);
        }
        let mut votes: Vec<(Source, u32)> = Vec::new();
        for line in lines(text) {
            // A line that is all that somebody said.
            if let Some(source) = self.origin(space, Of::Text, line) {
                return Some(source.origin(Percent::new(70)));
            }
            let Some(source) = self.origin(space, Of::Line, line) else {
                continue;
            };
            let is_same = |known: &Source| known.thread.id == source.thread.id;
            match votes.iter_mut().find(|(known, _)| is_same(known)) {
                Some((_, votes)) => *votes += 1,
                None => votes.push((source, 1)),
            }
        }
        // Single lines are common to many: imports, headings, labels.
        votes.retain(|(_, votes)| *votes >= MIN_LINES);
        // Of equal numbers the later text counts: it is what is to be worked on.
        let (source, _) = votes.into_iter().max_by_key(|(_, votes)| *votes)?;
        Some(source.origin(Percent::new(70)))
    }

    /// Who said all of this text.
    pub fn said_all(&self, space: Space, text: &str) -> Option<Origin> {
        let text = text.trim();
        let source = self.origin(space, Of::Text, xxh3_64(text.as_bytes()));
        let source = source.filter(|_| text.len() >= MIN_TEXT)?;
        Some(source.origin(Percent::new(90)))
    }

    /// The conversation of another agent that works on the same question of a user at this moment.
    pub fn asked_alike(&self, space: Space, question: &str) -> Option<Origin> {
        let hash = xxh3_64(question.trim().as_bytes());
        let source = self.origin(space, Of::Question, hash)?;
        let thread = &source.thread;
        let is_beside = thread.print != space.print && thread.is_running();
        is_beside.then(|| source.origin(Percent::new(50)))
    }

    /// Remembers what a user asked at first.
    pub fn question(&self, space: Space, question: &str, thread: &Arc<Thread>) {
        let hash = xxh3_64(question.trim().as_bytes());
        self.remember(space, Of::Question, hash, &Source::of(thread));
    }

    /// A conversation that was not known.
    pub fn begin(&self, describe: impl FnOnce(u64) -> Thread) -> Arc<Thread> {
        let number = self.threads.fetch_add(1, Ordering::Relaxed);
        Arc::new(describe(number))
    }

    /// Remembers a request, whose messages behind `known` are new.
    pub fn asked(
        &self,
        space: Space,
        thread: &Arc<Thread>,
        (fronts, messages): (&Fronts, &[Told]),
        known: usize,
    ) {
        let front = fronts.whole();
        let asked = Front {
            thread: Arc::clone(thread),
            is_answered: false,
        };
        self.fronts.insert(spread(front), front, asked);
        // What a conversation begins with is common to many.
        if known == 0 {
            return;
        }
        let new = messages.iter().skip(known).rev().take(REMEMBERED);
        for message in new.filter(|message| message.tells) {
            let key = key(space, Of::Message, message.hash);
            self.origins.insert(spread(key), key, Source::of(thread));
        }
    }

    /// Microseconds since the epoch at which the last call of the conversation ended.
    pub fn ended_at(thread: &Thread) -> Option<u64> {
        let at = thread.ended_at.load(Ordering::Relaxed);
        (at > 0).then_some(at)
    }

    /// A call ended without an answer.
    pub fn failed(thread: &Thread, at: u64) {
        thread.ended_at.store(at, Ordering::Relaxed);
    }

    /// Remembers an answer by its text, its tool calls and its id.
    pub fn answered(
        &self,
        (space, thread): (Space, &Arc<Thread>),
        front: u64,
        answer: &Answered<'_>,
        at: u64,
    ) {
        let answered = Front {
            thread: Arc::clone(thread),
            is_answered: true,
        };
        self.fronts.insert(spread(front), front, answered);
        thread.ended_at.store(at, Ordering::Relaxed);
        let plain = Source::of(thread);
        let called = Source {
            is_call: true,
            ..plain.clone()
        };
        self.remember_text(space, answer.text, &plain);
        for call in answer.calls {
            if !call.id.is_empty() {
                let id = xxh3_64(call.id.as_bytes());
                self.remember(space, Of::ToolCall, id, &called);
            }
            for text in &call.texts {
                self.remember_text(space, text, &called);
            }
        }
        if let Some(id) = answer.response_id {
            let id = xxh3_64(id.as_bytes());
            self.remember(space, Of::Response, id, &plain);
        }
    }

    fn remember_text(&self, space: Space, text: &str, source: &Source) {
        let text = text.trim();
        if text.len() >= MIN_TEXT {
            self.remember(space, Of::Text, xxh3_64(text.as_bytes()), source);
        }
        for line in lines(text) {
            self.remember(space, Of::Line, line, source);
        }
    }

    fn remember(&self, space: Space, of: Of, what: u64, source: &Source) {
        let key = origin_key(space, of, what);
        self.origins.insert(spread(key), key, source.clone());
    }

    fn front(&self, front: u64) -> Option<Front> {
        self.fronts.get(spread(front), &front)
    }

    fn origin(&self, space: Space, of: Of, what: u64) -> Option<Source> {
        let key = origin_key(space, of, what);
        self.origins.get(spread(key), &key)
    }
}

/// What an answer is remembered by.
#[derive(Debug)]
pub struct Answered<'a> {
    pub text: &'a str,
    pub calls: &'a [CallMade],
    pub response_id: Option<&'a str>,
}

/// A tool call, and the texts that it hands over.
#[derive(Clone, Debug, Default)]
pub struct CallMade {
    pub id: String,
    pub texts: Vec<String>,
}

impl Thread {
    /// A call of it goes upstream, or waits to.
    pub fn begins_call(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    pub fn ends_call(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// `salt` makes its id another one in each process.
    pub fn new((id, salt): (u64, u64), space: Space, who: Who) -> Self {
        Self {
            id: Mixer::of(&[space.tenant, space.run, space.print, id, salt]),
            agent: who.agent,
            print: space.print,
            tenant: space.tenant,
            space_run: space.run,
            run: who.run,
            caller: who.caller,
            depth: who.depth,
            path: who.path,
            began_with: who.began_with,
            called_by: who.called_by,
            ended_at: AtomicU64::new(0),
            running: AtomicU32::new(0),
        }
    }
}

/// Whose conversation it is.
#[derive(Clone, Debug)]
pub struct Who {
    pub agent: Label,
    pub run: Option<Label>,
    pub caller: Option<Label>,
    pub path: Vec<Label>,
    pub depth: u32,
    pub began_with: usize,
    pub called_by: Option<u64>,
}

fn lines(text: &str) -> impl Iterator<Item = u64> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| line.len() >= MIN_LINE);
    lines.take(MAX_LINES).map(|line| xxh3_64(line.as_bytes()))
}

/// Within one run and agent.
fn key(space: Space, of: Of, what: u64) -> u64 {
    Mixer::of(&[space.tenant, space.run, space.print, of as u64, what])
}

/// Within one tenant: other agents and runs look for it too.
fn origin_key(space: Space, of: Of, what: u64) -> u64 {
    Mixer::of(&[space.tenant, of as u64, what])
}

fn spread(key: u64) -> u8 {
    key.to_le_bytes()[0]
}
