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
use crate::core::time::Timestamp;
use crate::loops::recognise::Request;
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

/// Reads runs one after the other; conversations are recognised within each.
pub struct Rereader {
    loops: Loops,
    clock: Clock,
}

impl Rereader {
    pub fn new(config: &Config) -> Self {
        let clock = Clock::manual(Timestamp::default());
        Self {
            loops: Loops::new(config, clock.clone(), Box::new(|_| ())),
            clock,
        }
    }

    /// A run of these calls, in order of their times.
    pub fn run(&self, id: String, mut calls: Vec<Recorded>) -> Run {
        calls.sort_by_key(|call| call.at);
        let calls = calls.into_iter().filter_map(|call| self.call(call));
        Run {
            calls: calls.collect(),
            id,
        }
    }

    /// None for a call that has no messages to go by.
    fn call(&self, recorded: Recorded) -> Option<Call> {
        self.stand_at(recorded.at);
        let path = recorded.target.split('?').next().unwrap_or_default();
        let route = route(&Method::POST, path);
        let seed = DigestSeed(0);
        let facts = scan(route.operation, route.dialect, &recorded.request, seed);
        let mut who = claims(&recorded);
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
        let turn = self.loops.recognise(&request, &mut who)?;
        let ask = turn.ask().clone();
        let ended_at = recorded.at.plus_micros(recorded.duration_us);
        self.stand_at(ended_at);
        let answer = recorded.response.filter(|_| recorded.is_completed);
        let answer = answer.map(|(body, encoding)| {
            let encoding = encoding.as_deref();
            let mut reader = ResponseReader::new(route.dialect, None, encoding, recorded.status);
            reader.push(&body);
            let response_id = reader.response_id();
            let said = reader.said();
            let chants = Chant::default().push(said.text());
            self.loops.ended(
                &turn,
                None,
                &Ended {
                    said,
                    response_id: response_id.as_deref(),
                    is_answered: true,
                    chants,
                },
            );
            self.loops.answer(&turn, said, chants)
        });
        if answer.is_none() {
            self.loops.failed(&turn, None);
        }
        Some(Call {
            id: recorded.id,
            ask,
            answer,
            who: recorded.who,
            at: recorded.at,
            input_tokens: recorded.input_tokens,
            output_tokens: recorded.output_tokens,
            nano_usd: recorded.nano_usd,
            is_retry: recorded.retry > 0,
        })
    }

    fn stand_at(&self, at: Timestamp) {
        let passed = at.micros().saturating_sub(self.clock.now().micros());
        self.clock.advance_micros(passed);
    }
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
