//! Scripts of runs, made of words that a seed chooses.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::super::chant::Chant;
use super::super::reading::{Reading, Voice};
use super::super::settings::ToolTraits;
use super::super::turn::{Action, Answer, Ask, From, Kind, Part, is_error, polls, read_answer};

const VOCABULARY: u64 = 4000;

/// Small, and the same everywhere.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    pub(super) fn word(&mut self) -> String {
        let mut number = self.below(VOCABULARY) + VOCABULARY;
        let mut word = String::new();
        while number > 0 {
            let digit = usize::try_from(number % 20).unwrap();
            number /= 20;
            word.push_str(&"kelomarisunatopebidufagizohenu"[digit..digit + 2]);
        }
        word
    }

    pub(super) fn sentence(&mut self, words: usize) -> String {
        let words: Vec<String> = (0..words).map(|_| self.word()).collect();
        words.join(" ") + "."
    }

    pub(super) fn change_a_word(&mut self, text: &str) -> String {
        let mut words: Vec<&str> = text.split(' ').collect();
        let at = usize::try_from(self.next() % words.len() as u64).unwrap();
        let other = self.word();
        words[at] = &other;
        words.join(" ")
    }

    pub(super) fn hex(&mut self) -> String {
        format!("{:016x}", self.next() | 0x0a01_0000_0000_0000)
    }

    pub(super) fn uuid(&mut self) -> String {
        let (a, b) = (self.hex(), self.hex());
        let (one, two, three) = (&a[..8], &a[8..12], &a[12..]);
        format!("{one}-{two}-{three}-{}-{}", &b[..4], &b[4..])
    }

    pub(super) fn time(&mut self) -> String {
        let (minute, second) = (self.below(60), self.below(60));
        format!("2026-03-04T20:{minute:02}:{second:02}Z")
    }
}

/// One call, in words.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) agent: String,
    pub(super) caller: Option<String>,
    kind: Kind,
    depth: u32,
    pub(super) brought: Vec<(From, String)>,
    pub(super) said: Option<Saying>,
    idle_ms: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Saying {
    Text(String),
    Call(&'static str, String),
}

impl Step {
    pub(super) fn of(agent: &str) -> Self {
        Self {
            agent: agent.to_owned(),
            caller: None,
            kind: Kind::Next,
            depth: 1,
            brought: Vec::new(),
            said: None,
            idle_ms: None,
        }
    }

    pub(super) fn from(mut self, caller: &str) -> Self {
        self.caller = Some(caller.to_owned());
        self
    }

    pub(super) fn fresh(mut self) -> Self {
        self.kind = Kind::Fresh;
        self
    }

    pub(super) fn again(mut self) -> Self {
        self.kind = Kind::Again;
        self
    }

    pub(super) fn deep(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    pub(super) fn waits(&mut self, millis: u64) {
        self.idle_ms = Some(millis);
    }

    pub(super) fn hears(self, text: &str) -> Self {
        self.brings(From::User, text)
    }

    pub(super) fn hears_agent(self, text: &str) -> Self {
        self.brings(From::Agent, text)
    }

    pub(super) fn brings(mut self, from: From, text: &str) -> Self {
        self.brought.push((from, text.to_owned()));
        self
    }

    pub(super) fn says(mut self, text: &str) -> Self {
        self.said = Some(Saying::Text(text.to_owned()));
        self
    }

    pub(super) fn calls(mut self, tool: &'static str, arguments: &str) -> Self {
        self.said = Some(Saying::Call(tool, arguments.to_owned()));
        self
    }

    pub(super) fn fails(self) -> Self {
        self
    }

    pub(super) fn ask(&self) -> Ask {
        let hash = |name: &str| xxh3_64(name.as_bytes());
        Ask {
            agent: hash(&self.agent),
            caller: self.caller.as_deref().map_or(0, hash),
            conversation: hash(&self.agent),
            depth: self.depth,
            kind: self.kind,
            brought: self
                .brought
                .iter()
                .map(|(from, text)| part(*from, text))
                .collect(),
            said: None,
            request: 0,
            idle_ms: self.idle_ms,
        }
    }

    pub(super) fn answer(&self) -> Option<Answer> {
        Some(match self.said.as_ref()? {
            Saying::Text(text) => Answer {
                text: read_answer(text),
                chants: Chant::default().push(text),
                ..Answer::default()
            },
            Saying::Call(tool, arguments) => Answer {
                actions: vec![Action {
                    id: 1,
                    tool: xxh3_64(tool.as_bytes()),
                    arguments: Reading::of(Voice::World, arguments),
                    polls: polls(tool, arguments),
                    traits: ToolTraits::default(),
                }],
                ..Answer::default()
            },
        })
    }
}

fn part(from: From, text: &str) -> Part {
    let voice = if from == From::Agent {
        Voice::Agent
    } else {
        Voice::World
    };
    Part {
        from,
        reading: Reading::of(voice, text),
        raw: xxh3_64(text.as_bytes()),
        sample: String::new(),
    }
}

/// A run.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) loop_begins: usize,
    /// By agent: what its tool gave, until its next call brings it.
    results: BTreeMap<String, String>,
}

impl Script {
    /// One that does some good work first.
    pub(super) fn after_work(rng: &mut Rng) -> Self {
        let mut script = Self::default();
        let begins = Step::of("agent").fresh().brings(From::System, "You work.");
        script.push(begins.hears(&rng.sentence(12)).says(&rng.sentence(6)));
        for _ in 0..3 + rng.below(4) {
            let query = format!(r#"{{"q":"{}"}}"#, rng.sentence(4));
            script.tool("agent", "search", &query, &rng.sentence(20));
        }
        script.loop_begins = script.steps.len();
        script
    }

    pub(super) fn push(&mut self, mut step: Step) {
        let result = match step.kind {
            Kind::Next => self.results.remove(&step.agent),
            Kind::Fresh | Kind::Again => None,
        };
        if let Some(result) = result {
            let is_error = is_error(&result);
            let from = From::Tool { call: 1, is_error };
            step.brought.insert(0, (from, result));
        }
        self.steps.push(step);
    }

    pub(super) fn last(&mut self) -> &mut Step {
        self.steps.last_mut().unwrap()
    }

    /// The agent calls a tool and gets its result with its next call.
    pub(super) fn tool(&mut self, agent: &str, tool: &'static str, arguments: &str, result: &str) {
        let step = Step::of(agent).calls(tool, arguments);
        let is_new = !self.steps.iter().any(|step| step.agent == agent);
        let step = match self.results.contains_key(agent) {
            _ if is_new => step.fresh().hears("Do it."),
            true => step,
            false => step.hears("Go on."),
        };
        self.push(step);
        self.results.insert(agent.to_owned(), result.to_owned());
    }

    pub(super) fn repeat_tool(
        &mut self,
        times: usize,
        mut next: impl FnMut(usize) -> (&'static str, String, String),
    ) {
        for at in 0..times {
            let (tool, arguments, result) = next(at);
            self.tool("agent", tool, &arguments, &result);
        }
    }
}
