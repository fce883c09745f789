//! The requests that are sent: small calls, or agents whose histories grow call by call.
//!
//! No two requests are equal: a proxy that caches, deduplicates or looks for loops meets what it
//! would meet in earnest. Consecutive calls of a conversation share their prefix byte for byte.

use std::fmt::Write;

use crate::Options;

const AGENTS: u64 = 50;
const VOCABULARY: &str = concat!(
    "the function returns a request when stream of tokens is empty and error handler was called ",
    "with buffer size to config.yaml src/main.rs assert_eq! let mut async await for in if else ",
    "return budget agent run limit exceeded upstream connection reset by peer 0x7f3a 1024 ",
    "2026-01-15 GET POST /api/v2/items userId camelCaseName snake_case_name NULL true false ",
    "warning: unused variable at line column internationalization na\u{ef}ve overhead measured"
);
const STREAM_OPTIONS: &str = "\"stream\":true,\"stream_options\":{\"include_usage\":true},";
const TOOLS: &str = concat!(
    r#""tools":[{"type":"function","function":{"name":"read_file","#,
    r#""description":"Reads a file of the work tree. Give the full path.","#,
    r#""parameters":{"type":"object","properties":{"path":{"type":"string"},"#,
    r#""limit":{"type":"integer"}},"required":["path"]}}},"#,
    r#"{"type":"function","function":{"name":"run_command","#,
    r#""description":"Runs a command in the work tree and returns what it printed.","#,
    r#""parameters":{"type":"object","properties":{"command":{"type":"string"}},"#,
    r#""required":["command"]}}}],"#
);

/// Everything that is sent, in order.
pub(crate) struct Traffic {
    host: String,
    seed: u64,
    body_start: String,
    small: Random,
    calls_per_run: u64,
    sent: u64,
    conversations: Vec<Conversation>,
    growth: Growth,
}

#[derive(Clone, Copy)]
struct Growth {
    from: usize,
    to: usize,
    turn: usize,
}

impl Traffic {
    pub(crate) fn new(options: &Options) -> Self {
        let growth = Growth {
            from: options.history_from,
            to: options.history,
            turn: options.turn,
        };
        let count = if options.history == 0 {
            0
        } else {
            options.conversations
        };
        Self {
            host: options.target.to_string(),
            seed: options.seed,
            body_start: body_start(options),
            small: Random::new(options.seed, u64::MAX),
            calls_per_run: options.calls_per_run.get(),
            sent: 0,
            conversations: (0..count)
                .map(|n| Conversation::new(options.seed, n as u64, growth.start(n, count)))
                .collect(),
            growth,
        }
    }

    /// Writes the next request, head and body.
    pub(crate) fn write_next(&mut self, request: &mut Vec<u8>) {
        let (seed, sent) = (self.seed, self.sent);
        self.sent += 1;
        request.clear();
        if self.conversations.is_empty() {
            let mut messages = String::from("[{\"role\":\"user\",\"content\":\"");
            self.small.write_prose(90, &mut messages);
            messages.push_str("\"}");
            let run = format!("{seed}-{}", sent / self.calls_per_run);
            return self.write_request(sent % AGENTS, &run, &messages, request);
        }
        let index = (sent % self.conversations.len() as u64) as usize;
        let conversation = &mut self.conversations[index];
        if conversation.messages.len() > self.growth.to {
            let serial = conversation.serial + self.conversations.len() as u64;
            self.conversations[index] = Conversation::new(seed, serial, self.growth.from);
        } else {
            conversation.grow(self.growth.turn);
        }
        let conversation = &self.conversations[index];
        let run = format!("{seed}-{}", conversation.serial);
        self.write_request(index as u64, &run, &conversation.messages, request);
    }

    fn write_request(&self, agent: u64, run: &str, messages: &str, request: &mut Vec<u8>) {
        let length = self.body_start.len() + messages.len() + 2;
        let host = &self.host;
        request.extend_from_slice(
            format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\n\
                 content-type: application/json\r\naccept: */*\r\nuser-agent: bench\r\n\
                 x-aiops-agent: agent-{agent}\r\nx-aiops-run: run-{run}\r\n\
                 content-length: {length}\r\n\r\n"
            )
            .as_bytes(),
        );
        for part in [&self.body_start, messages, "]}"] {
            request.extend_from_slice(part.as_bytes());
        }
    }
}

impl Growth {
    /// Conversations start at different sizes, so that their mean hardly moves.
    fn start(&self, index: usize, count: usize) -> usize {
        self.from + (self.to - self.from) / 2 * index / count
    }
}

fn body_start(options: &Options) -> String {
    let stream = if options.stream { STREAM_OPTIONS } else { "" };
    let tools = if options.history == 0 { "" } else { TOOLS };
    let tokens = options.tokens;
    format!(
        concat!(
            r#"{{"model":"gpt-4o-mini","max_tokens":{},"temperature":0.7,"#,
            r#"{}{}"messages":"#
        ),
        tokens, stream, tools
    )
}

/// An agent's history: system, user, then pairs of a tool call and its result.
struct Conversation {
    serial: u64,
    turns: usize,
    random: Random,
    /// The JSON array without its closing bracket.
    messages: String,
}

impl Conversation {
    fn new(seed: u64, serial: u64, bytes: usize) -> Self {
        let mut random = Random::new(seed, serial);
        let mut messages = String::from("[{\"role\":\"system\",\"content\":\"");
        random.write_prose((bytes / 8).min(3000), &mut messages);
        messages.push_str("\"},{\"role\":\"user\",\"content\":\"");
        random.write_prose(400, &mut messages);
        messages.push_str("\"}");
        let mut conversation = Self {
            serial,
            turns: 0,
            random,
            messages,
        };
        while conversation.messages.len() < bytes {
            conversation.grow((bytes / 20).max(1000));
        }
        conversation
    }

    fn grow(&mut self, bytes: usize) {
        let (turn, limit) = (self.turns, self.random.below(900));
        let start = self.messages.len();
        self.turns += 1;
        self.messages.push_str(&format!(
            concat!(
                r#",{{"role":"assistant","content":null,"tool_calls":["#,
                r#"{{"id":"call_{turn}","type":"function","function":{{"name":"read_file","#,
                r#""arguments":"{{\"path\":\"src/part_{turn}.rs\",\"limit\":{limit}}}"}}}}]}},"#,
                r#"{{"role":"tool","tool_call_id":"call_{turn}","content":""#
            ),
            turn = turn,
            limit = limit
        ));
        let head = self.messages.len() - start;
        self.random
            .write_prose(bytes.saturating_sub(head), &mut self.messages);
        self.messages.push_str("\"}");
    }
}

/// Xorshift: fast, and the same everywhere.
struct Random {
    state: u64,
    words: Vec<&'static str>,
}

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        let mixed =
            seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream.wrapping_mul(0xD134_2543_DE82_EF95);
        Self {
            state: mixed | 1,
            words: VOCABULARY.split(' ').collect(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) as usize % bound
    }

    /// What tools print: words, punctuation, numbers, quotes, line ends; escaped for JSON.
    fn write_prose(&mut self, bytes: usize, text: &mut String) {
        let end = text.len() + bytes;
        while text.len() < end {
            let word = self.below(self.words.len());
            text.push_str(self.words[word]);
            match self.below(14) {
                0 => text.push_str(".\\n"),
                1 => text.push_str(", "),
                2 => text.push_str(" = \\\""),
                3 => text.push_str("\\\";\\n    "),
                4 => {
                    // Writing to a String cannot fail.
                    let _infallible = write!(text, " {} ", self.below(100_000));
                }
                5 => text.push_str("() { "),
                _ => text.push(' '),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;

    fn requests(arguments: &[&str], count: usize) -> Vec<String> {
        let arguments = ["loadgen"].iter().chain(arguments);
        let mut traffic = Traffic::new(&Options::parse_from(arguments));
        let mut request = Vec::new();
        (0..count)
            .map(|_| {
                traffic.write_next(&mut request);
                String::from_utf8(request.clone()).unwrap()
            })
            .collect()
    }

    fn body(request: &str) -> &str {
        request.split_once("\r\n\r\n").unwrap().1
    }

    #[test]
    fn every_request_is_http_with_a_json_body_of_its_length() {
        for request in requests(&["--history", "9000", "--stream"], 40) {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("content-length: {}", body.len())));
            let body: Value = serde_json::from_str(body).unwrap();
            assert!(body["messages"].as_array().unwrap().len() >= 2);
        }
    }

    #[test]
    fn small_bodies_are_small_and_differ() {
        let sent = requests(&[], 100);
        assert!(
            sent.iter()
                .all(|request| (150..280).contains(&body(request).len()))
        );
        assert!(sent.iter().zip(&sent[1..]).all(|(a, b)| body(a) != body(b)));
    }

    #[test]
    fn small_calls_are_of_as_many_runs_as_asked_for() {
        let runs = |arguments: &[&str]| {
            let run = |request: &String| {
                let (_, rest) = request.split_once("x-aiops-run: ").unwrap();
                rest.split_once("\r\n").unwrap().0.to_owned()
            };
            let mut runs: Vec<_> = requests(arguments, 40).iter().map(run).collect();
            runs.dedup();
            runs
        };
        assert_eq!(runs(&[]), ["run-1-0", "run-1-1"]);
        assert_eq!(runs(&["--calls-per-run", "1"]).len(), 40);
    }

    #[test]
    fn call_of_a_conversation_repeats_the_one_before_and_adds_a_turn() {
        let sent = requests(
            &[
                "--history",
                "90000",
                "--history-from",
                "20000",
                "--conversations",
                "2",
            ],
            8,
        );
        for (before, after) in sent.iter().zip(&sent[2..]) {
            let shared = body(before).strip_suffix("]}").unwrap();
            assert!(body(after).starts_with(shared));
            assert!((1900..2200).contains(&(body(after).len() - body(before).len())));
        }
    }

    #[test]
    fn full_history_starts_anew() {
        let options = [
            "--history",
            "9000",
            "--history-from",
            "3000",
            "--conversations",
            "1",
        ];
        let sizes: Vec<usize> = requests(&options, 20)
            .iter()
            .map(|r| body(r).len())
            .collect();
        assert!(sizes.iter().all(|size| *size < 13_000));
        assert!(!sizes.is_sorted());
    }

    #[test]
    fn same_seed_sends_the_same_and_another_does_not() {
        assert_eq!(requests(&[], 3), requests(&[], 3));
        assert_ne!(requests(&[], 3), requests(&["--seed", "2"], 3));
    }
}
