//! What the scripted model says: a function of the request alone. It knows who asks from the
//! instructions, as a real model does.

use serde_json::{Value, json};

use super::texts;

/// An answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reply {
    pub(super) text: String,
    /// Name and arguments.
    pub(super) tool: Option<(&'static str, Value)>,
}

impl Reply {
    fn says(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tool: None,
        }
    }

    fn calls(text: &str, name: &'static str, arguments: Value) -> Self {
        Self {
            text: text.to_owned(),
            tool: Some((name, arguments)),
        }
    }
}

pub(super) fn to(request: &Value) -> Reply {
    let messages = request["messages"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let content = |message: Option<&Value>| -> String {
        message
            .and_then(|it| it["content"].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let system = content(messages.first());
    let last = content(messages.last());
    // How often it has answered before.
    let turn = messages
        .iter()
        .filter(|message| message["role"] == "assistant")
        .count();
    match texts::role_of(&system) {
        Some("planner") => planner(turn),
        Some("researcher") => researcher(turn, &content(messages.get(1))),
        Some("writer") => writer(&last),
        Some("editor") => editor(&last),
        Some("critic") => critic(),
        Some("summarizer") => Reply::says(texts::summary(&last)),
        Some("deployer") => deployer(&last),
        _ => Reply::says("I am a scripted model and know only the parts of my play."),
    }
}

fn planner(turn: usize) -> Reply {
    match texts::TOPICS.get(turn) {
        Some(topic) => Reply::calls(
            &format!("Next: {topic}."),
            "ask_researcher",
            json!({"task": texts::task(topic)}),
        ),
        None if turn == texts::TOPICS.len() => Reply::calls(
            "All findings are in; the report can be written.",
            "ask_writer",
            json!({"task": texts::WRITING}),
        ),
        None => Reply::says("The report is done: three findings, each with its source."),
    }
}

fn researcher(turn: usize, task: &str) -> Reply {
    let topic = texts::TOPICS
        .iter()
        .find(|topic| task.contains(**topic))
        .unwrap_or(&"tides");
    match turn {
        0 => Reply::calls("", "search", json!({"query": format!("{topic} overview")})),
        1 => Reply::calls(
            "The first source is general; one with numbers is needed.",
            "open_page",
            json!({"url": format!("https://library.example/{topic}")}),
        ),
        _ => Reply::says(texts::finding(topic)),
    }
}

fn writer(last: &str) -> Reply {
    if last == texts::WRITING {
        Reply::says(texts::REPORT)
    } else {
        Reply::says(texts::DRAFT)
    }
}

fn editor(_: &str) -> Reply {
    Reply::says(texts::DRAFT)
}

fn critic() -> Reply {
    Reply::says(texts::CRITIQUE)
}

fn deployer(last: &str) -> Reply {
    if last.contains("\"done\"") {
        Reply::says("The rollout is complete: 24 of 24 pods run the new version.")
    } else {
        Reply::calls("", "rollout_status", json!({"service": "checkout"}))
    }
}
