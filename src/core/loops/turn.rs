//! What a call brings and what it answers, as far as loops are concerned. Made outside any lock.

use super::super::text;
use super::reading::Reading;
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
    /// Milliseconds since the last answer of the conversation; none when there was none.
    pub idle_ms: Option<u64>,
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

/// Whether a tool's result reads like an error.
pub fn is_error(text: &str) -> bool {
    const FRONT: usize = 120;
    const END: usize = 160;
    let ends = [text::front(text, FRONT), text::end(text, END)];
    ends.into_iter().any(|part| {
        let part = part.to_ascii_lowercase();
        ERROR_WORDS.iter().any(|word| part.contains(word))
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
