//! A readable name for an agent that nobody named: the role in its prompt.

use super::super::id::Label;

/// Words of a role that are kept.
const MAX_WORDS: usize = 4;
/// Roles that say nothing: they are told apart by a hash.
const GENERIC: [&str; 12] = [
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
];
/// Words that end a role.
const ENDS: [&str; 32] = [
    "who", "that", "which", "for", "in", "of", "to", "with", "and", "working", "on", "at", "from",
    "specialized", "specialised", "specializing", "specialising", "responsible", "tasked", "whose",
    "designed", "capable", "powered", "by", "within", "as", "the", "a", "an", "your", "but", "or",
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
/// So much of a prompt is looked at.
const LOOKED_AT: usize = 400;

/// The name that a prompt gives, told apart by `print` where it says little; none where it says
/// nothing.
pub fn name_of(prompt: &str, print: u64) -> Option<Label> {
    let role = role_of(prompt)?;
    let name = if GENERIC.contains(&role.as_str()) {
        format!("{role}-{}", short(print))
    } else {
        role
    };
    Label::parse(&name).ok()
}

/// Stands for an agent of which nothing but its prompt is known.
pub fn short(print: u64) -> String {
    format!("{:04x}", print >> 48)
}

/// `You are a senior research analyst. You ...` -> `senior-research-analyst`
fn role_of(prompt: &str) -> Option<String> {
    let front = prompt.get(..prompt.floor_char_boundary(LOOKED_AT))?;
    let lower = front.to_lowercase();
    let (at, opening) = OPENINGS
        .iter()
        .filter_map(|opening| Some((find_word(&lower, opening)?, opening)))
        .min()?;
    let rest = lower.get(at + opening.len()..)?;
    let end = rest.find(['.', ',', ';', ':', '\n', '!', '(', '"']);
    let clause = rest.get(..end.unwrap_or(rest.len()))?;
    let words = clause
        .split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-'))
        .filter(|word| !word.is_empty())
        .skip_while(|word| matches!(*word, "a" | "an" | "the" | "my" | "our"));
    let role: Vec<&str> = words
        .take_while(|word| !ENDS.contains(word))
        .take(MAX_WORDS)
        .collect();
    (!role.is_empty()).then(|| role.join("-"))
}

/// Where `opening` stands at the beginning of a word.
fn find_word(text: &str, opening: &str) -> Option<usize> {
    let at = text.find(opening)?;
    let before = text.get(..at)?.chars().next_back();
    before
        .is_none_or(|before| !before.is_alphanumeric())
        .then_some(at)
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
            ("You are a senior research analyst. You know", "senior-research-analyst"),
            ("# Rules\nYou are Planner, who plans.", "planner"),
            ("You're an expert in tax law", "expert-abcd"),
            ("Act as a code reviewer for Rust", "code-reviewer"),
            ("You are a helpful assistant.", "helpful-assistant-abcd"),
            ("You are Data_Analyst\nYour goal", "data_analyst"),
            ("Role: Critic. Be strict", "critic"),
            ("You are an agent that writes", "agent-abcd"),
        ] {
            assert_eq!(name(prompt).as_deref(), Some(expected), "{prompt}");
        }
    }

    #[test]
    fn prompt_without_a_role_gives_no_name() {
        for prompt in ["", "Answer briefly.", "Thank you are sure", "You are "] {
            assert_eq!(name(prompt), None, "{prompt}");
        }
    }
}
