//! Calls of agents, told one after the other and recorded with their bodies. A token is a byte of
//! the request's parts, and the provider caches fronts of 1,024 tokens and more for five minutes, so
//! that what a call cost is known.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::admin::sample::{self, PLANNER, Sample, label};
use crate::config::Config;
use crate::core::call::{Operation, Outcome};
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::price::PriceTable;
use crate::core::suggest::{Finding, Report, Rule};
use crate::core::usage::Usage;
use crate::ledger::Capture;
use crate::suggest::{Question, suggest};
use crate::wire::marks::without_marks;

const SECOND: u64 = 1_000_000;
const WARM_US: u64 = 300 * SECOND;

/// The words of an API.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Api {
    Chat,
    Messages,
    Responses,
}

/// A request that grows.
#[derive(Clone)]
pub(crate) struct Talk {
    api: Api,
    tools: Vec<String>,
    system: Option<String>,
    messages: Vec<String>,
    /// The last message gets a mark for the cache.
    pub(crate) is_marked: bool,
    extra: String,
    asked: usize,
}

impl Talk {
    pub(crate) fn new(api: Api) -> Self {
        Self {
            api,
            tools: Vec::new(),
            system: None,
            messages: Vec::new(),
            is_marked: false,
            extra: String::new(),
            asked: 0,
        }
    }

    pub(crate) fn system(mut self, text: &str) -> Self {
        self.system = Some(match self.api {
            Api::Chat => json!({"role": "system", "content": text}).to_string(),
            _ => json!(text).to_string(),
        });
        self
    }

    pub(crate) fn tool(mut self, name: &str, about: &str) -> Self {
        let of = |key: &str| json!({"name": name, "description": about, key: {"type": "object"}});
        self.tools.push(match self.api {
            Api::Chat => json!({"type": "function", "function": of("parameters")}).to_string(),
            _ => of("input_schema").to_string(),
        });
        self
    }

    /// A member of the body, as `"previous_response_id":"resp_1"`.
    pub(crate) fn with(mut self, member: &str) -> Self {
        self.extra = format!(",{member}");
        self
    }

    pub(crate) fn user(mut self, text: &str) -> Self {
        self.push(&json!({"role": "user", "content": text}));
        self
    }

    pub(crate) fn said(mut self, text: &str) -> Self {
        self.push(&json!({"role": "assistant", "content": text}));
        self
    }

    pub(crate) fn push(&mut self, message: &Value) {
        self.messages.push(message.to_string());
    }

    pub(crate) fn drop_message(&mut self, at: usize) {
        self.messages.remove(at);
    }

    /// The model called a tool, and this is what it gave.
    pub(crate) fn result(mut self, tool: &str, arguments: &str, text: &str) -> Self {
        let id = format!("call-{}", self.asked);
        self.asked += 1;
        if self.api == Api::Messages {
            let input: Value = serde_json::from_str(arguments).unwrap();
            let used = json!({"type": "tool_use", "id": id, "name": tool, "input": input});
            self.push(&json!({"role": "assistant", "content": [used]}));
            let block = json!({"type": "tool_result", "tool_use_id": id, "content": text});
            self.push(&json!({"role": "user", "content": [block]}));
        } else {
            let function = json!({"name": tool, "arguments": arguments});
            let call = json!({"id": id, "type": "function", "function": function});
            self.push(&json!({"role": "assistant", "tool_calls": [call]}));
            self.push(&json!({"role": "tool", "tool_call_id": id, "content": text}));
        }
        self
    }

    /// The parts as the ledger knows them, in the order of the cache.
    fn parts(&self) -> Vec<String> {
        let tools = Some(format!("[{}]", self.tools.join(","))).filter(|_| !self.tools.is_empty());
        let system = self.system.clone();
        let mut parts: Vec<String> = tools.into_iter().chain(system).collect();
        parts.extend(self.messages.iter().cloned());
        if let Some(last) = parts.last_mut().filter(|_| self.is_marked) {
            last.truncate(last.len() - 1);
            last.push_str(r#","cache_control":{"type":"ephemeral"}}"#);
        }
        parts
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.parts().iter().map(|part| part.len() as u64).sum()
    }

    /// The tokens of its last message.
    pub(crate) fn last(&self) -> u64 {
        self.messages.last().unwrap().len() as u64
    }

    fn body(&self, model: &str) -> String {
        let mut parts = self.parts();
        let mut front = String::new();
        if !self.tools.is_empty() {
            front = format!("\"tools\":{},", parts.remove(0));
        }
        let (place, key) = match self.api {
            Api::Chat => (None, "messages"),
            Api::Messages => (Some("system"), "messages"),
            Api::Responses => (Some("instructions"), "input"),
        };
        if let Some(place) = place.filter(|_| self.system.is_some()) {
            front = format!("{front}\"{place}\":{},", parts.remove(0));
        }
        let messages = parts.join(",");
        format!(
            r#"{{"model":"{model}",{front}"{key}":[{messages}]{}}}"#,
            self.extra
        )
    }
}

/// Agents at work on a ledger.
pub(crate) struct Work {
    pub(crate) sample: Sample,
    run: Option<Label>,
    variant: Option<Label>,
    model: &'static str,
    /// What the provider keeps, with when it was used.
    cache: Vec<(u64, &'static str, String)>,
}

impl Work {
    pub(crate) fn new() -> Self {
        Self {
            sample: Sample::new(),
            run: Some(label("run")),
            variant: None,
            model: "gpt-5",
            cache: Vec::new(),
        }
    }

    pub(crate) fn run(&mut self, name: &str) -> &mut Self {
        self.run = Some(label(name));
        self
    }

    pub(crate) fn variant(&mut self, name: &str) -> &mut Self {
        self.variant = Some(label(name));
        self
    }

    pub(crate) fn model(&mut self, name: &'static str) -> &mut Self {
        self.model = name;
        self
    }

    /// A call that begins 30 s after the one before had ended, takes 1 s, and has 50 tokens out.
    pub(crate) fn asks(&mut self, talk: &Talk) -> Ask<'_> {
        let now = self.sample.clock.now().micros().unsigned_abs();
        let cached = match talk.api {
            Api::Messages if !talk.is_marked => 0,
            _ => self.cached(talk, now),
        };
        Ask {
            api: talk.api,
            request: talk.body(self.model).into_bytes(),
            usage: Usage {
                input_tokens: talk.tokens(),
                output_tokens: 50,
                cache_read_input_tokens: cached,
                ..Usage::default()
            },
            outcome: Outcome::Completed,
            status: 200,
            finish: "stop",
            pause_us: 30 * SECOND,
            took_us: SECOND,
            is_priced: true,
            work: self,
        }
    }

    /// The longest front that is kept, which the call then keeps in turn.
    fn cached(&mut self, talk: &Talk, now: u64) -> u64 {
        let plain = |part: &String| {
            let raw = without_marks(part.as_bytes());
            raw.map_or_else(|| part.clone(), |raw| String::from_utf8(raw).unwrap())
        };
        let text: String = talk.parts().iter().map(plain).collect();
        let model = self.model;
        let same = |other: &String| {
            let pairs = text.bytes().zip(other.bytes());
            pairs.take_while(|(one, other)| one == other).count() as u64
        };
        let warm = self.cache.iter();
        let warm = warm.filter(|(at, of, _)| *of == model && now.saturating_sub(*at) < WARM_US);
        let longest = warm.map(|(.., other)| same(other)).max().unwrap_or(0);
        self.cache.push((now + 31 * SECOND, model, text));
        if longest < 1024 { 0 } else { longest }
    }

    pub(crate) fn report(&self) -> Report {
        self.report_of(&Config::default())
    }

    pub(crate) fn report_of(&self, config: &Config) -> Report {
        let question = Question {
            until: self.sample.clock.now(),
            ..Question::default()
        };
        suggest(self.sample.ledger.view(), &question, config).unwrap()
    }

    /// What is found when nothing is too small, of one rule.
    pub(crate) fn found(&self, rule: Rule) -> Vec<Finding> {
        let mut config = Config::default();
        config.suggestions.min_usd_per_day = NanoUsd::ZERO;
        config.suggestions.min_calls = 1;
        config.suggestions.only(rule);
        let report = self.report_of(&config);
        report.findings
    }

    pub(crate) fn one(&self, rule: Rule) -> Finding {
        let mut found = self.found(rule);
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    /// With thresholds as they are, nothing is found, and nothing is too small to be told.
    pub(crate) fn is_healthy(&self) {
        let report = self.report();
        let mut config = Config::default();
        config.suggestions.min_usd_per_day = NanoUsd::ZERO;
        config.suggestions.min_calls = 1;
        let all = self.report_of(&config).findings;
        assert!(report.calls > 0);
        assert_eq!((report.findings, report.below), (Vec::new(), 0), "{all:#?}");
    }
}

/// A call, up to its answer.
pub(crate) struct Ask<'a> {
    work: &'a mut Work,
    api: Api,
    pub(crate) request: Vec<u8>,
    pub(crate) usage: Usage,
    outcome: Outcome,
    status: u16,
    finish: &'static str,
    pause_us: u64,
    took_us: u64,
    is_priced: bool,
}

impl Ask<'_> {
    /// Begins so many milliseconds after the one before had ended.
    pub(crate) fn after_ms(mut self, ms: u64) -> Self {
        self.pause_us = ms * 1000;
        self
    }

    pub(crate) fn for_seconds(mut self, seconds: u64) -> Self {
        self.took_us = seconds * SECOND;
        self
    }

    pub(crate) fn input(mut self, tokens: u64) -> Self {
        self.usage.input_tokens = tokens;
        self
    }

    pub(crate) fn cached(mut self, tokens: u64) -> Self {
        self.usage.cache_read_input_tokens = tokens;
        self
    }

    pub(crate) fn output(mut self, tokens: u64) -> Self {
        self.usage.output_tokens = tokens;
        self
    }

    pub(crate) fn unpriced(mut self) -> Self {
        self.is_priced = false;
        self
    }

    pub(crate) fn cut(mut self) -> Self {
        self.finish = "length";
        self
    }

    pub(crate) fn ends(mut self, outcome: Outcome, status: u16) -> Self {
        (self.outcome, self.status) = (outcome, status);
        self
    }

    pub(crate) fn says(self, text: &str) -> NanoUsd {
        let said = match self.api {
            Api::Messages => {
                json!({"role": "assistant", "content": [{"type": "text", "text": text}]})
            }
            Api::Chat => {
                json!({"choices": [{"message": {"role": "assistant", "content": text}}]})
            }
            Api::Responses => {
                let content = json!([{"type": "output_text", "text": text}]);
                json!({"output": [{"type": "message", "role": "assistant", "content": content}]})
            }
        };
        self.answers(Some(&said.to_string()))
    }

    pub(crate) fn calls(self, tool: &str, arguments: &str) -> NanoUsd {
        let said = if self.api == Api::Messages {
            let input: Value = serde_json::from_str(arguments).unwrap();
            let used = json!({"type": "tool_use", "id": "c", "name": tool, "input": input});
            json!({"role": "assistant", "content": [used]})
        } else {
            let function = json!({"name": tool, "arguments": arguments});
            let call = json!({"id": "c", "type": "function", "function": function});
            json!({"choices": [{"message": {"role": "assistant", "tool_calls": [call]}}]})
        };
        self.answers(Some(&said.to_string()))
    }

    /// Records it with this body of an answer, and says what it cost.
    pub(crate) fn answers(self, body: Option<&str>) -> NanoUsd {
        let work = self.work;
        work.sample
            .clock
            .advance_micros(self.pause_us.cast_signed());
        let now = work.sample.clock.now();
        let mut admission = sample::admission(work.sample.clock.call_id(), now, PLANNER);
        admission.attribution.agent = label("worker");
        admission.attribution.run.clone_from(&work.run);
        admission.attribution.conversation.clone_from(&work.run);
        admission.attribution.variant.clone_from(&work.variant);
        admission.request_model = Some(label(work.model));
        let (seller, operation, target) = match self.api {
            Api::Chat => ("openai", Operation::Chat, "/v1/chat/completions"),
            Api::Messages => ("anthropic", Operation::Messages, "/v1/messages"),
            Api::Responses => ("openai", Operation::Responses, "/v1/responses"),
        };
        admission.upstream = label(seller);
        admission.operation = operation;
        target.clone_into(&mut admission.target);
        let entry = work
            .sample
            .ledger
            .admit(admission.clone(), Some(capture(&self.request)))
            .unwrap();
        let mut settlement = sample::settlement(admission, PLANNER, self.outcome);
        let table = PriceTable::builtin();
        let cost = table.price(Some(seller), work.model, None, &self.usage);
        let cost = cost.map_or(NanoUsd::ZERO, |cost| cost.amount);
        settlement.usage = self.usage;
        settlement.cost = Some(cost).filter(|_| self.is_priced);
        settlement.status = Some(self.status);
        settlement.finish_reasons = vec![label(self.finish)];
        settlement.timings.total_us = self.took_us;
        work.sample.clock.advance_micros(self.took_us.cast_signed());
        entry.settle(settlement, body.map(|body| capture(body.as_bytes())));
        cost
    }
}

fn capture(bytes: &[u8]) -> Capture {
    Capture {
        chunks: vec![Bytes::copy_from_slice(bytes)],
        len: bytes.len() as u64,
        ..Capture::default()
    }
}

/// A text of about so many bytes that no other number gives.
pub(crate) fn prose(seed: usize, bytes: usize) -> String {
    const WORDS: [&str; 16] = [
        "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "islet", "jetty",
        "knoll", "larch", "marsh", "north", "ocean", "plain",
    ];
    let mut text = String::new();
    let mut state = seed * 7919 + 17;
    while text.len() < bytes {
        state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
        let (one, other) = (state / 65_536 % 16, state / 1_048_576 % 16);
        text.push_str(WORDS[one]);
        text.push_str(WORDS[other]);
        text.push(' ');
    }
    text.truncate(bytes);
    text
}

pub(crate) fn saved(finding: &Finding) -> (Option<i64>, u64, u64) {
    let nano = finding.saving.nano_usd.map(NanoUsd::get);
    (nano, finding.saving.tokens, finding.call_count)
}

/// So many tokens at a price in nano-USD.
pub(crate) fn nano(tokens: u64, each: u64) -> i64 {
    i64::try_from(tokens * each).unwrap()
}
