//! Runs as the ledger has them: each call's bodies read again as they were read live.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;

use super::{Call, Run, Who};
use crate::clock::Clock;
use crate::config::Config;
use crate::core::attribution::{Attribution, Confidence, Source};
use crate::core::digest::DigestSeed;
use crate::core::id::{CallId, Label};
use crate::core::loops::chant::Chant;
use crate::core::loops::turn::Answer;
use crate::core::time::Timestamp;
use crate::loops::recognise::{Request, Turn};
use crate::loops::{Ended, Loops};
use crate::wire::response::ResponseReader;
use crate::wire::route::route;
use crate::wire::scan::scan;

/// One recorded call with its bodies.
#[derive(Debug)]
pub struct Recorded {
    pub id: CallId,
    pub at: Timestamp,
    pub duration_us: u64,
    pub who: Who,
    pub agent_source: Source,
    pub run_source: Option<Source>,
    pub depth: u32,
    pub target: String,
    pub request: Bytes,
    /// With the name of its encoding.
    pub response: Option<(Bytes, Option<String>)>,
    pub status: u16,
    pub is_completed: bool,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub nano_usd: u64,
    pub retry: u32,
}

/// A call, its place in a conversation, and its answer once that is there.
type Begun = (Recorded, Option<Turn>, Option<Answer>);

/// Reads runs one after the other; conversations are recognised within each.
pub struct Rereader {
    loops: Loops,
    clock: Clock,
}

impl Rereader {
    pub fn new(config: &Config) -> Self {
        let clock = Clock::manual(Timestamp::default());
        Self {
            loops: Loops::new(config, clock.clone(), Box::new(())),
            clock,
        }
    }

    /// A run of these calls. What ended before another began had its answer by then.
    pub fn run(&self, id: String, mut calls: Vec<Recorded>) -> Run {
        calls.sort_by_key(|call| call.at);
        let mut begun: Vec<Begun> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for recorded in calls {
            self.end(&mut open, &mut begun, Some(recorded.at));
            self.stand_at(recorded.at);
            let turn = self.turn(&recorded);
            open.push(begun.len());
            begun.push((recorded, turn, None));
        }
        self.end(&mut open, &mut begun, None);
        let calls = begun.into_iter().map(|(recorded, turn, answer)| Call {
            id: recorded.id,
            ask: turn.map(|turn| turn.ask().clone()),
            answer,
            who: recorded.who,
            at: recorded.at,
            ended_at: recorded.at.plus_micros(recorded.duration_us),
            input_tokens: recorded.input_tokens,
            output_tokens: recorded.output_tokens,
            nano_usd: recorded.nano_usd,
            is_retry: recorded.retry > 0,
        });
        Run {
            calls: calls.collect(),
            id,
        }
    }

    /// Takes in the answers that were there by `now`.
    fn end(&self, open: &mut Vec<usize>, begun: &mut [Begun], now: Option<Timestamp>) {
        open.retain(|at| {
            let Some((recorded, turn, answer)) = begun.get_mut(*at) else {
                return false;
            };
            let ended_at = recorded.at.plus_micros(recorded.duration_us);
            if now.is_some_and(|now| ended_at > now) {
                return true;
            }
            self.stand_at(ended_at);
            if let Some(turn) = turn {
                *answer = self.answer(recorded, turn);
            }
            false
        });
    }

    /// None for a call that has no messages to go by.
    fn turn(&self, recorded: &Recorded) -> Option<Turn> {
        let route = route(&Method::POST, path(&recorded.target));
        let seed = DigestSeed(0);
        let facts = scan(route.operation, route.dialect, &recorded.request, seed);
        let request = Request {
            call: recorded.id,
            operation: route.operation,
            facts: &facts,
            text: &recorded.request,
            seed,
            key: None,
            retry: recorded.retry,
            shows: true,
            now: recorded.at,
        };
        self.loops.recognise(&request, &mut claims(recorded))
    }

    /// None where the call failed, or nothing of its answer can be read.
    fn answer(&self, recorded: &mut Recorded, turn: &Turn) -> Option<Answer> {
        let heard = recorded.response.take().and_then(|(body, encoding)| {
            let dialect = route(&Method::POST, path(&recorded.target)).dialect;
            let encoding = encoding.as_deref();
            let mut reader = ResponseReader::new(dialect, None, encoding, recorded.status);
            reader.push(&body);
            let response_id = reader.response_id();
            let said = reader.said();
            let chants = Chant::default().push(said.text());
            // An answer that chanted was ended for that.
            let is_answered = recorded.is_completed || chants;
            if !is_answered || said.is_empty() || said.is_cut() {
                return None;
            }
            let ended = Ended {
                said,
                response_id: response_id.as_deref(),
                is_answered,
                chants,
            };
            self.loops.ended(turn, None, &ended);
            Some(self.loops.answer(turn, said, chants))
        });
        if heard.is_none() {
            self.loops.failed(turn, None);
        }
        heard
    }

    fn stand_at(&self, at: Timestamp) {
        let passed = at.micros().saturating_sub(self.clock.now().micros());
        self.clock.advance_micros(passed);
    }
}

fn path(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// What is known of a call is not inferred once more.
fn claims(recorded: &Recorded) -> Attribution {
    let who = recorded.who.clone();
    Attribution {
        agent: who.agent,
        caller: who.caller,
        run: who.run,
        parent_run: None,
        path: Vec::<Label>::new(),
        depth: recorded.depth,
        user: who.user,
        variant: who.variant,
        conversation: None,
        tags: BTreeMap::new(),
        metrics: BTreeMap::new(),
        agent_source: match recorded.agent_source {
            Source::Unknown => Source::Inferred,
            known => known,
        },
        run_source: recorded.run_source,
        inferred: Confidence::default(),
    }
}
