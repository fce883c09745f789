//! A readable name for an agent that nobody named: the role in its prompt.

use super::super::id::Label;
use super::super::text;

/// Words of a role that are kept.
const MAX_WORDS: usize = 4;
/// Roles that say nothing: they are told apart by a hash.
const GENERIC: [&str; 14] = [
    "assistant",
    "helpful-assistant",
    "ai-assistant",
    "helpful-ai-assistant",
    "chatbot",
    "bot",
    "agent",
    "ai-agent",
    "ai",
    "helper",
    "expert",
    "useful-assistant",
    "expert-assistant",
    "intelligent-assistant",
];
/// Words that end a role.
const ENDS: [&str; 32] = [
    "who",
    "that",
    "which",
    "for",
    "in",
    "of",
    "to",
    "with",
    "and",
    "working",
    "on",
    "at",
    "from",
    "specialized",
    "specialised",
    "specializing",
    "specialising",
    "responsible",
    "tasked",
    "whose",
    "designed",
    "capable",
    "powered",
    "by",
    "within",
    "as",
    "the",
    "a",
    "an",
    "your",
    "but",
    "or",
];
/// What comes before a role.
const OPENINGS: [&str; 7] = [
    "you are ",
    "you're ",
    "you act as ",
    "act as ",
    "your role is ",
    "your name is ",
    "role: ",
];
/// What follows `you are` without being a role.
const NO_ROLES: [&str; 14] = [
    "given",
    "provided",
    "allowed",
    "asked",
    "able",
    "going",
    "not",
    "currently",
    "now",
    "expected",
    "required",
    "free",
    "also",
    "only",
];
/// So much of a prompt is looked at.
const LOOKED_AT: usize = 16 << 10;

/// The name that a prompt gives, told apart by `print` where it says little; none where it says
/// nothing.
pub fn name_of(prompt: &str, print: u64) -> Option<Label> {
    let lower = text::front(prompt, LOOKED_AT).to_lowercase();
    let mut generic = None;
    for role in roles(&lower) {
        if !GENERIC.contains(&role.as_str()) {
            return Label::parse(&role).ok();
        }
        generic.get_or_insert(role);
    }
    Label::parse(&format!("{}-{}", generic?, short(print))).ok()
}

/// Stands for an agent of which nothing but its prompt is known.
pub fn short(print: u64) -> String {
    format!("{:04x}", print >> 48)
}

/// The roles that a prompt speaks of, in order: `You are a senior research analyst. You ...` ->
/// `senior-research-analyst`. Behind the first one only those with an article count.
fn roles(prompt: &str) -> impl Iterator<Item = String> + '_ {
    let mut found: Vec<(usize, &str)> = OPENINGS
        .iter()
        .flat_map(|opening| prompt.match_indices(*opening))
        .filter(|(at, _)| begins_sentence(prompt, *at))
        .collect();
    found.sort_unstable();
    let rests = found
        .into_iter()
        .filter_map(|(at, opening)| prompt.get(at + opening.len()..));
    let mut is_first = true;
    rests.filter_map(move |rest| {
        let role = role_at(rest, !is_first)?;
        is_first = false;
        Some(role)
    })
}

/// The role at the beginning of `text`.
fn role_at(text: &str, needs_article: bool) -> Option<String> {
    let end = text.find(['.', ',', ';', ':', '\n', '!', '(', '"']);
    let clause = text.get(..end.unwrap_or(text.len()))?;
    let mut words: Vec<&str> = clause
        .split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-'))
        .filter(|word| !word.is_empty())
        .collect();
    let is_named = words
        .iter()
        .position(|word| matches!(*word, "named" | "called"));
    if let Some(name) = is_named.and_then(|at| words.get(at + 1)) {
        return Some((*name).to_owned());
    }
    let has_article = words
        .first()
        .is_some_and(|word| matches!(*word, "a" | "an" | "the" | "my" | "our"));
    if has_article {
        words.remove(0);
    }
    let is_role = words.first().is_some_and(|word| !NO_ROLES.contains(word));
    if !is_role || (needs_article && !has_article) {
        return None;
    }
    let role = words.into_iter().take_while(|word| !ENDS.contains(word));
    let role: Vec<&str> = role.take(MAX_WORDS).collect();
    (!role.is_empty()).then(|| role.join("-"))
}

/// Nothing of a sentence stands before `at`.
fn begins_sentence(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default().trim_end_matches(' ');
    let last = before.chars().next_back();
    last.is_none_or(|last| !last.is_alphanumeric() && last != ',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(prompt: &str) -> Option<String> {
        name_of(prompt, 0xabcd_0000_0000_0000).map(|name| name.to_string())
    }

    #[test]
    fn role_in_the_prompt_is_the_name() {
        for (prompt, expected) in [
            ("You are the researcher.", "researcher"),
            (
                "You are a senior research analyst. You know",
                "senior-research-analyst",
            ),
            ("# Rules\nYou are Planner, who plans.", "planner"),
            ("You're an expert in tax law", "expert-abcd"),
            ("Act as a code reviewer for Rust", "code-reviewer"),
            ("You are a helpful assistant.", "helpful-assistant-abcd"),
            ("You are Data_Analyst\nYour goal", "data_analyst"),
            ("Role: Critic. Be strict", "critic"),
            ("You are an agent that writes", "agent-abcd"),
            (
                "You are an expert assistant who can do it.\nYou are the planner.",
                "planner",
            ),
            ("You're a helpful agent named 'critic'.", "critic"),
            ("You are given a task.\nYou are an editor", "editor"),
        ] {
            assert_eq!(name(prompt).as_deref(), Some(expected), "{prompt}");
        }
    }

    #[test]
    fn prompt_without_a_role_gives_no_name() {
        for prompt in [
            "",
            "Answer briefly.",
            "Thank you are sure",
            "You are ",
            "You are given a task",
        ] {
            assert_eq!(name(prompt), None, "{prompt}");
        }
    }
}
