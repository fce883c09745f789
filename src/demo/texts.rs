//! The words of the play. Names and places are made up.

use std::fmt::Write as _;

use serde_json::{Value, json};

pub(super) const TOPICS: [&str; 3] = ["tides", "turbines", "storage"];

pub(super) const WRITING: &str =
    "Write a report of one page on tidal power from the findings that the researcher gave.";

pub(super) const REPORT: &str = "\
Tidal power, in short. Tides are the most predictable of all renewable sources: their times are known for \
years ahead. Turbines of the second generation turn slowly, spare fish, and reach forty percent. What is \
left to solve is storage for the four hours around slack water, for which flow batteries are the cheapest \
answer today. The sites that pay first are straits with more than two metres a second.";

pub(super) const DRAFT: &str = "\
Our new kettle boils water. It is a good kettle and it boils water well. Buy the kettle today.";

pub(super) const CRITIQUE: &str = "\
Not there yet. Please make it more vivid and hand it back to me when it is vivid enough.";

const ROLES: [&str; 7] = [
    "planner",
    "researcher",
    "writer",
    "editor",
    "critic",
    "summarizer",
    "deployer",
];

const DUTY: [&str; 7] = [
    "You break a question into tasks, hand each to the colleague who is best at it, and put the answers together.",
    "You find facts in sources that can be named, prefer numbers to opinions, and say what is not known.",
    "You write plain reports from what others have found, and add nothing of your own.",
    "You improve texts until the critic is content with them.",
    "You read texts of the editor and say what is missing.",
    "You sum up one document in three sentences and keep all its numbers.",
    "You roll a service out, look at its state until it is done, and report.",
];

/// What every agent is told beside its duty; repeated with each call, as such texts are.
const HOUSE: &str = "\
Work step by step. Keep to the facts that you were given or that a tool returned. When a tool fails, say so and try \
another way; do not repeat a call that just failed in the same way. Answer in the language of the task. Do not \
explain what you are about to do at length. Numbers carry their unit, dates are written as year, month and day, and \
each claim names where it comes from. If a task is done, say that it is done, in the first sentence. If it cannot be \
done, say why, and what would be needed. Never make up a source.";

pub(super) fn instructions(role: &str) -> String {
    let duty = ROLES.iter().zip(DUTY).find(|(name, _)| **name == role);
    format!(
        "You are the {role}. {} {HOUSE}",
        duty.map_or("", |(_, duty)| duty)
    )
}

/// Whose instructions these are.
pub(super) fn role_of(instructions: &str) -> Option<&'static str> {
    let rest = instructions.strip_prefix("You are the ")?;
    ROLES
        .into_iter()
        .find(|role| rest.starts_with(&format!("{role}.")))
}

/// What an agent may do.
pub(super) fn tools(role: &str) -> Value {
    let tool = |name: &str, about: &str, argument: &str| {
        let properties = json!({argument: {"type": "string"}});
        json!({"type": "function", "function": {
            "name": name, "description": about,
            "parameters": {"type": "object", "properties": properties, "required": [argument]},
        }})
    };
    match role {
        "planner" => json!([
            tool("ask_researcher", "Hands a task to the researcher", "task"),
            tool("ask_writer", "Hands a task to the writer", "task"),
        ]),
        "researcher" => json!([
            tool("search", "Searches the library", "query"),
            tool("open_page", "Reads one page of the library", "url"),
        ]),
        "deployer" => json!([tool("rollout_status", "How far a rollout is", "service")]),
        _ => json!([]),
    }
}

pub(super) fn task(topic: &str) -> String {
    format!("Find out what is known about {topic} in tidal power, with one number and its source.")
}

/// What the library says.
pub(super) fn page(tool: &str, asked: &str) -> String {
    let mut text = format!("{tool}: {asked}\n");
    for line in 1..=24 {
        let _ = writeln!(
            text,
            "[{line}] Station {} measured {}.{} m/s on {} days; see report {}, table {}.",
            line * 7 % 31 + asked.len() % 5,
            line % 3 + 1,
            line * 3 % 10,
            line * 11 % 180 + 40,
            1990 + line,
            asked.len() * line % 13 + 1,
        );
    }
    text
}

pub(super) fn finding(topic: &str) -> String {
    match topic {
        "turbines" => "Turbines: forty percent of the energy of the stream, at 12 turns a minute (report 2003, table 4).",
        "storage" => "Storage: four hours have to be bridged, twice a day; flow batteries do so at 210 USD a kWh (report 2011, table 2).",
        _ => "Tides: known to the minute for 18.6 years ahead, up to 3.4 m/s in the straits (report 1997, table 1).",
    }
    .to_owned()
}

/// A document to be summed up; each is another.
pub(super) fn document(number: usize) -> String {
    let mut text = format!("Document {number}: minutes of the harbour board, part {number}.\n");
    for line in 1..=90 {
        let _ = writeln!(
            text,
            "{line}. Berth {} was let to ship {} for {} days at {} crowns; the pilot was number {}.",
            (line * 5 + number * 3) % 40 + 1,
            (line * 37 + number * 101) % 900 + 100,
            (line + number) % 20 + 1,
            (line * 13 + number * 7) % 500 * 10 + 250,
            (line * number) % 17 + 1,
        );
    }
    text
}

pub(super) fn summary(document: &str) -> String {
    let number: String = document
        .chars()
        .skip("Document ".len())
        .take_while(char::is_ascii_digit)
        .collect();
    let lines = document.lines().count().saturating_sub(1);
    format!(
        "Part {number} of the minutes lists {lines} lettings. Every berth was let at least once, for one to twenty \
         days. Rents of part {number} lie between 250 and 5,240 crowns, and the pilots took turns."
    )
}

/// How far a rollout is when it is looked at for the `n`th time.
pub(super) fn rollout(n: usize) -> String {
    let pods = (n * 2).min(24);
    let state = if pods == 24 { "done" } else { "progressing" };
    json!({"service": "checkout", "state": state, "ready": pods, "of": 24}).to_string()
}
