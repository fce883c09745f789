//! What a call brings and what it answers, as far as loops are concerned. Made outside any lock.

use super::super::text;
use super::reading::{Mixer, Reading, Voice};
use super::settings::ToolTraits;

/// What one call brings that its conversation had not said yet.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Hashes of the names of agent and caller; 0 for no caller.
    pub agent: u64,
    pub caller: u64,
    pub conversation: u64,
    /// Length of the chain of agents.
    pub depth: u32,
    pub kind: Kind,
    pub brought: Vec<Part>,
    /// The answer to the call before, where the request repeats it.
    pub said: Option<Answer>,
    /// Milliseconds since the call before of the conversation ended, or the same one before where this
    /// begins another; none when there was none.
    pub idle_ms: Option<u64>,
    /// Stands for the request as a whole.
    pub request: u64,
}

impl Ask {
    /// Stands for a request that begins a conversation, by who asks whom for what.
    pub fn first_request(&self) -> u64 {
        let mut hash = Mixer::of(&[self.caller, self.agent]);
        for part in self.brought.iter().filter(|part| part.from != From::System) {
            hash = Mixer::of(&[hash, part.raw]);
        }
        hash
    }
}

/// How a call stands to its conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// It begins one.
    #[default]
    Fresh,
    /// It goes on.
    Next,
    /// Its body was sent before.
    Again,
}

/// One new message.
#[derive(Clone, Debug)]
pub struct Part {
    pub from: From,
    pub reading: Reading,
    /// Of its bytes as they are.
    pub raw: u64,
    /// Its front, to be shown.
    pub sample: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Instructions: they are no news.
    System,
    User,
    /// Another agent, by a message that looks like a user's.
    Agent,
    /// The result of the tool call with this hash of its id.
    Tool {
        call: u64,
        is_error: bool,
    },
}

/// What an agent answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub text: Reading,
    pub actions: Vec<Action>,
    /// It says one piece over and over.
    pub chants: bool,
    /// Its front, to be shown.
    pub sample: String,
}

/// A tool call.
#[derive(Clone, Debug, Default)]
pub struct Action {
    /// Hashes of its id and of the tool's name.
    pub id: u64,
    pub tool: u64,
    pub arguments: Reading,
    /// It asks whether something is done.
    pub polls: bool,
    pub traits: ToolTraits,
}

/// Marks of a result that is an error, as tools of all kinds say it at the front or at the end.
const ERROR_WORDS: [&str; 13] = [
    "error",
    "exception",
    "traceback",
    "fail",
    "not found",
    "no such",
    "denied",
    "forbidden",
    "invalid",
    "unable",
    "cannot",
    "timed out",
    "timeout",
];

/// Whether a tool's result reads like an error: it says so at its front or its end, and does not
/// deny it (`"error": null`, `0 errors`, `isError: false`).
pub fn is_error(text: &str) -> bool {
    const FRONT: usize = 120;
    const END: usize = 160;
    let ends = [text::front(text, FRONT), text::end(text, END)];
    ends.into_iter().any(|part| {
        let part = part.to_ascii_lowercase();
        let mut found = ERROR_WORDS.iter().flat_map(|word| part.match_indices(word));
        found.any(|(at, word)| !is_denied(&part, at, at + word.len()))
    })
}

/// Whether what stands around a word says that there is none of it.
fn is_denied(text: &str, from: usize, to: usize) -> bool {
    const NONE: [&str; 8] = ["null", "none", "false", "0", "\"\"", "''", "[]", "{}"];
    const ENDS: &[char] = &[',', ';', '}', ']', ')', '|', '"', '\'', '\\', '\n', '\r'];
    let line = text.get(..from).unwrap_or_default();
    let line = line.rsplit('\n').next().unwrap_or_default();
    let marks = |c: char| c.is_whitespace() || "\"'\\([{,*".contains(c);
    let word = line.trim_end().rsplit(marks).next().unwrap_or_default();
    if line.ends_with(char::is_whitespace) && matches!(word, "0" | "no" | "zero" | "without") {
        return true;
    }
    let after = text.get(to..).unwrap_or_default();
    let after = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    // The name of a field, closed, and its value.
    let value = after.trim_start_matches(['"', '\'', '\\']).trim_start();
    let Some(value) = value.strip_prefix([':', '=']) else {
        return false;
    };
    let value = value.trim_start_matches([' ', '\\']);
    NONE.iter().any(|none| {
        let rest = value.strip_prefix(none);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(ENDS))
    })
}

/// Whether a tool by its name, or what it is told to do, asks if something is done.
pub fn polls(tool: &str, arguments: &str) -> bool {
    const WORDS: [&str; 12] = [
        "poll",
        "polls",
        "wait",
        "await",
        "sleep",
        "status",
        "watch",
        "monitor",
        "heartbeat",
        "progress",
        "pending",
        "health",
    ];
    const LOOKED_AT: usize = 512;
    let arguments = text::front(arguments, LOOKED_AT);
    let words = |text: &str| {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
    };
    words(tool) || words(&split_camel(tool)) || words(arguments)
}

/// `getJobStatus` -> `get Job Status`
fn split_camel(name: &str) -> String {
    let mut split = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            split.push(' ');
        }
        split.push(c);
    }
    split
}

/// An answer as it is compared: numbers count in one that says nothing else.
pub fn read_answer(text: &str) -> Reading {
    const SHORT: usize = 256;
    if text.len() < SHORT {
        let whole = Reading::of(Voice::World, text);
        if whole.is_numbers() {
            return whole;
        }
    }
    Reading::of(Voice::Agent, text)
}

/// So much of a text is shown as a sample.
pub fn sample(text: &str) -> String {
    const LEN: usize = 160;
    let text = text.trim();
    let front = text::front(text, LEN);
    let mut sample: String = front
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if front.len() < text.len() {
        sample.push_str("...");
    }
    sample
}
