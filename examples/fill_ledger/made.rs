//! Calls as crews of agents make them, the same ones for the same seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;

use bytes::Bytes;

use open_aiops::clock::Clock;
use open_aiops::config::{Durability, LedgerConfig, OnFailure, RecordLevel};
use open_aiops::core::attribution::{Attribution, Confidence, Source};
use open_aiops::core::budget::Limits;
use open_aiops::core::call::{Admission, CostSource, Operation, Outcome, Settlement, Timings};
use open_aiops::core::id::{CallId, Label};
use open_aiops::core::money::NanoUsd;
use open_aiops::core::time::Timestamp;
use open_aiops::core::usage::{Provenance, Usage};
use open_aiops::ledger::{Capture, Entry, Ledger, open};

/// What a ledger is filled with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) calls: u64,
    pub(crate) days: u32,
    pub(crate) seed: u64,
    /// When the last of them ended, about.
    pub(crate) until: Timestamp,
}

const DAY_US: u64 = 86_400_000_000;
/// One call of so many has bodies.
const BODY_EVERY: u64 = 10;
/// Bytes that may wait for the disk.
const MOST_WAITING: usize = 64 << 20;

/// Name, upstream, USD per million tokens in and out, tokens a second.
const MODELS: [(&str, &str, u64, u64, u64); 8] = [
    ("gpt-5", "openai", 1250, 10_000, 60),
    ("gpt-5-mini", "openai", 250, 2000, 110),
    ("gpt-4.1", "openai", 2000, 8000, 80),
    ("o4-mini", "openai", 1100, 4400, 90),
    ("claude-sonnet-4-5", "anthropic", 3000, 15_000, 70),
    ("claude-haiku-4-5", "anthropic", 1000, 5000, 120),
    ("gemini-2.5-flash", "google", 300, 2500, 150),
    ("llama-3.3-70b", "local", 0, 0, 35),
];

/// Each crew is a root and those it sets to work, who set others to work; some go round.
const CREWS: [&[(&str, Option<usize>)]; 8] = [
    &[
        ("planner", None),
        ("researcher", Some(0)),
        ("reader", Some(1)),
        ("critic", Some(0)),
        ("planner", Some(3)),
    ],
    &[
        ("supervisor", None),
        ("coder", Some(0)),
        ("tester", Some(1)),
        ("coder", Some(2)),
        ("reviewer", Some(0)),
    ],
    &[
        ("triage", None),
        ("billing", Some(0)),
        ("refunds", Some(1)),
        ("support", Some(0)),
        ("escalation", Some(3)),
    ],
    &[
        ("editor", None),
        ("writer", Some(0)),
        ("fact-checker", Some(1)),
        ("writer", Some(2)),
        ("translator", Some(0)),
        ("proofreader", Some(4)),
    ],
    &[
        ("analyst", None),
        ("sql", Some(0)),
        ("charts", Some(0)),
        ("statistician", Some(1)),
    ],
    &[
        ("crawler", None),
        ("extractor", Some(0)),
        ("deduplicator", Some(1)),
        ("classifier", Some(1)),
        ("indexer", Some(3)),
    ],
    &[
        ("coordinator", None),
        ("negotiator", Some(0)),
        ("lawyer", Some(1)),
        ("negotiator", Some(2)),
        ("accountant", Some(0)),
        ("auditor", Some(4)),
    ],
    &[
        ("tutor", None),
        ("examiner", Some(0)),
        ("grader", Some(1)),
        ("tutor", Some(2)),
        ("motivator", Some(0)),
        ("librarian", Some(0)),
        ("summariser", Some(5)),
    ],
];

const TEAMS: [&str; 5] = ["search", "support", "growth", "finance", "platform"];

/// Numbers that look like chance, by the generator `splitmix64`.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Most are small, some are many times larger.
    fn skewed(&mut self, usual: u64) -> u64 {
        let scale = [1, 1, 1, 2, 2, 3, 5, 8];
        let at = usize::try_from(self.below(8)).unwrap_or(0);
        usual * scale.get(at).copied().unwrap_or(1) / 2 + self.below(usual) + 1
    }
}

/// One run while it goes on.
struct Run {
    name: Label,
    parent: Option<Label>,
    crew: usize,
    variant: Option<Label>,
    team: Label,
    user: Label,
    left: u64,
    made: u64,
    gap_us: u64,
}

/// Fills the ledger of `dir`, which is made. Says how many records did not fit.
pub(crate) fn fill(
    dir: &Path,
    plan: Plan,
    mut progress: impl FnMut(u64),
) -> Result<u64, Box<dyn std::error::Error>> {
    let length = u64::from(plan.days) * DAY_US;
    let start = Timestamp::from_micros(plan.until.micros().saturating_sub_unsigned(length));
    let clock = Clock::manual(start);
    let (ledger, _) = open(&config(dir), clock.clone(), |_, _, _| None)?;
    let mut filling = Filling {
        ledger,
        clock,
        dice: Dice(plan.seed),
        runs: Vec::new(),
        due: BinaryHeap::new(),
        open: BinaryHeap::new(),
        ending: Vec::new(),
    };
    filling.begin_runs(plan, start, length)?;
    let mut made = 0;
    while let Some(Reverse((at, run))) = filling.due.pop() {
        filling.end_calls(at);
        filling.call(at, run)?;
        made += 1;
        if made % 1000 == 0 {
            while filling.ledger.status().reserved_bytes > MOST_WAITING {
                std::thread::yield_now();
            }
        }
        if made % 50_000 == 0 {
            progress(made);
        }
    }
    filling.end_calls(u64::MAX);
    filling.ledger.sync_index();
    let dropped = filling.ledger.status().dropped_records;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(filling.ledger.close())?;
    Ok(dropped)
}

fn config(dir: &Path) -> LedgerConfig {
    LedgerConfig {
        dir: dir.to_owned(),
        durability: Durability::Relaxed,
        record: RecordLevel::Full,
        max_body_bytes: 16 << 20,
        redact: open_aiops::core::redaction::Redaction::default(),
        show_headers: Vec::new(),
        keep_for: None,
        keep_bytes: None,
        segment_bytes: 64 << 20,
        on_failure: OnFailure::Serve,
        max_queue_bytes: 256 << 20,
    }
}

struct Filling {
    ledger: Ledger,
    clock: Clock,
    dice: Dice,
    runs: Vec<Run>,
    /// When each run makes its next call.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// When each open call ends, and where it waits in `ending`.
    open: BinaryHeap<Reverse<(u64, usize)>>,
    ending: Vec<Option<(Entry, Settlement, Option<Capture>)>>,
}

fn label(text: &str) -> Result<Label, Box<dyn std::error::Error>> {
    Label::parse(text).map_err(Into::into)
}

impl Filling {
    /// Some thousand runs of some hundred calls; of large ledgers a few are of ten thousand.
    fn begin_runs(
        &mut self,
        plan: Plan,
        start: Timestamp,
        length: u64,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let start = u64::try_from(start.micros())?;
        let long = if plan.calls >= 20_000 {
            plan.calls / 400_000 + 1
        } else {
            0
        };
        let mut left = plan.calls;
        while left > 0 {
            let number = self.runs.len();
            let calls = if (number as u64) < long {
                10_000
            } else {
                self.dice.skewed(140)
            };
            let calls = calls.min(left);
            left -= calls;
            // Work goes on for up to six hours, the long ones for a day.
            let lasts = if calls == 10_000 {
                DAY_US
            } else {
                self.dice.below(DAY_US / 4) + 60_000_000
            };
            let begins = start + self.dice.below(length.saturating_sub(lasts));
            let crew = usize::try_from(self.dice.below(CREWS.len() as u64))?;
            let parent = (number > 0 && self.dice.below(20) == 0)
                .then(|| self.runs.last().map(|run| run.name.clone()))
                .flatten();
            let team = usize::try_from(self.dice.below(TEAMS.len() as u64))?;
            let user = self.dice.below(40);
            let variant = match self.dice.below(5) {
                0 => Some(label("a")?),
                1 => Some(label("b")?),
                _ => None,
            };
            let [(root, _), ..] = CREWS[crew] else {
                continue;
            };
            self.runs.push(Run {
                name: label(&format!("{root}-{number:05}"))?,
                parent,
                crew,
                variant,
                team: label(TEAMS[team])?,
                user: label(&format!("user-{user:02}"))?,
                left: calls,
                made: 0,
                gap_us: (lasts / calls).max(1000),
            });
            self.due.push(Reverse((begins, number)));
        }
        Ok(())
    }

    fn end_calls(&mut self, until: u64) {
        while let Some(Reverse((at, place))) = self.open.peek().copied() {
            if at > until {
                break;
            }
            self.open.pop();
            let ending = self.ending.get_mut(place).and_then(Option::take);
            if let Some((entry, settlement, response)) = ending {
                self.set_clock(at);
                entry.settle(settlement, response);
            }
        }
        if self.open.is_empty() {
            self.ending.clear();
        }
    }

    fn set_clock(&self, at: u64) {
        let now = self.clock.now().micros();
        let ahead = i64::try_from(at).unwrap_or(i64::MAX).saturating_sub(now);
        self.clock.advance_micros(ahead.max(0));
    }

    fn call(&mut self, at: u64, number: usize) -> Result<(), Box<dyn std::error::Error>> {
        self.set_clock(at);
        let Some(run) = self.runs.get_mut(number) else {
            return Ok(());
        };
        run.left -= 1;
        run.made += 1;
        if run.left > 0 {
            let gap = run.gap_us / 2 + self.dice.below(run.gap_us) + 1;
            self.due.push(Reverse((at + gap, number)));
        }
        let admission = self.admission(at, number)?;
        let settlement = self.settlement(&admission)?;
        let with_bodies = self.dice.below(BODY_EVERY) == 0;
        let made = self.runs.get(number).map_or(0, |run| run.made);
        let (request, response) = if with_bodies {
            let seed = self.ledger.seed();
            let request = request(&admission, made, |bytes| seed.digest(bytes));
            (Some(request), Some(answer(&settlement, made)))
        } else {
            (None, None)
        };
        let ends = at + settlement.timings.total_us;
        let entry = self.ledger.admit(admission, request)?;
        self.open.push(Reverse((ends, self.ending.len())));
        self.ending.push(Some((entry, settlement, response)));
        Ok(())
    }

    fn id(&mut self, at: u64) -> CallId {
        let random = (u128::from(self.dice.next()) << 64) | u128::from(self.dice.next());
        let version = (random & !(0xf << 76) & !(0b11 << 62)) | (7 << 76) | (0b10 << 62);
        let id = (u128::from(at / 1000) << 80) | (version & ((1 << 80) - 1));
        CallId::from_bytes(id.to_be_bytes())
    }

    fn admission(
        &mut self,
        at: u64,
        number: usize,
    ) -> Result<Admission, Box<dyn std::error::Error>> {
        let id = self.id(at);
        let run = self.runs.get(number).ok_or("there is such a run")?;
        let crew = CREWS[run.crew];
        // The root begins; then whoever has something to do.
        let member = if run.made == 1 {
            0
        } else {
            usize::try_from(self.dice.below(crew.len() as u64))?
        };
        let mut path = Vec::new();
        let mut next = Some(member);
        while let Some((agent, by)) = next.and_then(|at| crew.get(at)) {
            path.insert(0, label(agent)?);
            next = *by;
        }
        let model = (run.crew + member + usize::from(self.dice.below(6) == 0)) % MODELS.len();
        let (model, upstream, ..) = MODELS[model];
        let caller = path
            .len()
            .checked_sub(2)
            .and_then(|at| path.get(at).cloned());
        Ok(Admission {
            id,
            started_at: Timestamp::from_micros(i64::try_from(at)?),
            attribution: Attribution {
                agent: path.last().cloned().ok_or("a crew has members")?,
                caller,
                run: Some(run.name.clone()),
                parent_run: run.parent.clone(),
                depth: u32::try_from(path.len())?,
                path,
                user: Some(run.user.clone()),
                variant: run.variant.clone(),
                conversation: None,
                tags: BTreeMap::from([("team".to_owned(), run.team.clone())]),
                metrics: BTreeMap::new(),
                agent_source: Source::Own,
                run_source: Some(Source::Own),
                inferred: Confidence::default(),
            },
            upstream: label(upstream)?,
            operation: Operation::Chat,
            method: "POST".to_owned(),
            target: "/v1/chat/completions".to_owned(),
            request_model: Some(label(model)?),
            stream: self.dice.below(2) == 0,
            output_limit: None,
            estimated_input_tokens: 500,
            key: None,
            client: Some(label("OpenAI/Python 2.8.0")?),
            retry: u32::from(self.dice.below(50) == 0),
            previous_response: None,
            headers: None,
            kept: None,
            request: None,
            hold: Vec::new(),
            tightened: Limits::default(),
            decision: None,
            trace: None,
            instance: None,
        })
    }

    fn end(&mut self) -> (Outcome, Option<u16>, Option<&'static str>) {
        match self.dice.below(200) {
            0..=2 => (
                Outcome::UpstreamError,
                Some(429),
                Some("the upstream answered 429"),
            ),
            3 => (
                Outcome::UpstreamError,
                Some(500),
                Some("the upstream answered 500"),
            ),
            4 => (
                Outcome::UpstreamUnavailable,
                Some(504),
                Some("no answer in time"),
            ),
            5 => (
                Outcome::UpstreamCut,
                Some(200),
                Some("the upstream broke off"),
            ),
            6 | 7 => (Outcome::ClientGone, Some(200), None),
            _ => (Outcome::Completed, Some(200), None),
        }
    }

    fn usage(&mut self) -> Usage {
        let input_tokens = self.dice.skewed(1500);
        Usage {
            input_tokens,
            output_tokens: self.dice.skewed(180),
            cache_read_input_tokens: input_tokens * self.dice.below(4) / 4,
            ..Usage::default()
        }
    }

    fn settlement(
        &mut self,
        admission: &Admission,
    ) -> Result<Settlement, Box<dyn std::error::Error>> {
        let who = &admission.attribution;
        let model = admission.request_model.clone();
        let known = MODELS
            .iter()
            .find(|(name, ..)| model.as_ref().is_some_and(|model| model.as_str() == *name));
        let (_, _, input_price, output_price, speed) = known.ok_or("its model is known")?;
        let (outcome, status, error) = self.end();
        let answered = status == Some(200);
        let usage = if answered {
            self.usage()
        } else {
            Usage::default()
        };
        let cost = usage.input_tokens * input_price + usage.output_tokens * output_price;
        let is_free = *output_price == 0;
        let first_chunk_us = 150_000 + self.dice.skewed(400_000);
        let writes_us = usage.output_tokens * 1_000_000 / speed;
        Ok(Settlement {
            id: admission.id,
            started_at: admission.started_at,
            agent: who.agent.clone(),
            caller: who.caller.clone(),
            run: who.run.clone(),
            parent_run: who.parent_run.clone(),
            upstream: admission.upstream.clone(),
            operation: admission.operation,
            response_model: model.clone().filter(|_| answered),
            model,
            outcome,
            status,
            usage,
            provenance: Provenance::Reported,
            cost: (!is_free).then(|| NanoUsd::new(i64::try_from(cost).unwrap_or(i64::MAX))),
            cost_source: (!is_free).then_some(CostSource::Table),
            response_id: Label::parse(&format!("chatcmpl-{}", admission.id)).ok(),
            service_tier: None,
            finish_reasons: vec![label("stop")?],
            timings: Timings {
                forwarded_us: Some(900),
                head_us: Some(first_chunk_us - 20_000),
                first_chunk_us: answered.then_some(first_chunk_us),
                total_us: first_chunk_us + writes_us,
            },
            request_bytes: usage.input_tokens * 4,
            response_bytes: usage.output_tokens * 4,
            error: error.map(str::to_owned),
            response: None,
            chunks: Vec::new(),
            charges: Vec::new(),
            headers: None,
            settled_at: None,
            is_pending: false,
            instance: None,
        })
    }
}

fn capture(bytes: Vec<u8>) -> Capture {
    Capture {
        len: bytes.len() as u64,
        chunks: vec![Bytes::from(bytes)],
        content_type: Some("application/json".to_owned()),
        ..Capture::default()
    }
}

/// The request of a conversation: its instructions, and the last of what was said.
fn request(
    admission: &Admission,
    turn: u64,
    digest: impl Fn(&[u8]) -> open_aiops::core::digest::Digest,
) -> Capture {
    let agent = &admission.attribution.agent;
    let model = admission.request_model.as_ref().map_or("", Label::as_str);
    let mut bytes = format!("{{\"model\":\"{model}\",\"messages\":[").into_bytes();
    let mut segments = Vec::new();
    let system = format!(
        "{{\"role\":\"system\",\"content\":\"You are the {agent} of a crew. Do your part, say \
         what you did, and ask for nothing that was said before.\"}}"
    );
    let mut messages = vec![system];
    for turn in turn.saturating_sub(3)..turn {
        messages.push(format!(
            "{{\"role\":\"user\",\"content\":\"Step {turn}: go on with part {} of the work and \
             report.\"}}",
            turn % 17
        ));
    }
    for (at, message) in messages.iter().enumerate() {
        if at > 0 {
            bytes.push(b',');
        }
        let start = bytes.len();
        bytes.extend_from_slice(message.as_bytes());
        segments.push((start..bytes.len(), digest(message.as_bytes())));
    }
    bytes.extend_from_slice(b"]}");
    Capture {
        segments,
        ..capture(bytes)
    }
}

fn answer(settlement: &Settlement, turn: u64) -> Capture {
    let text = if settlement.outcome == Outcome::Completed {
        format!(
            "{{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion\",\"choices\":[{{\"index\":0,\
             \"message\":{{\"role\":\"assistant\",\"content\":\"Part {} of step {turn} is \
             done.\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":{},\
             \"completion_tokens\":{}}}}}",
            settlement.id,
            turn % 17,
            settlement.usage.input_tokens,
            settlement.usage.output_tokens
        )
    } else {
        "{\"error\":{\"message\":\"try again later\",\"type\":\"server_error\"}}".to_owned()
    };
    capture(text.into_bytes())
}
