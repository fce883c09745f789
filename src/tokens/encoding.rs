//! Tokenizers, and which one a model has.
//!
//! Text is text: the spelling of a special token inside it counts as the ordinary tokens it is
//! made of. Vocabularies load at their first use, about 80 ms each.

use bpe_openai::{Tokenizer, cl100k_base, o200k_base};

/// A longer text is estimated by its length, so that no text stalls a thread. Prose of this length
/// takes 0.4 s and fills the largest context windows; the slowest text, dashes only, takes 4 s.
pub const MAX_COUNTED_BYTES: usize = 4 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    O200k,
    Cl100k,
}

/// How to count the text of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelEncoding {
    pub encoding: Encoding,
    /// The encoding is the model's own.
    pub exact: bool,
    /// How chat messages are framed is known to the token.
    pub exact_framing: bool,
    /// Tokens of the model for 1000 of `encoding`, rather too many than too few.
    pub factor_permille: u32,
}

impl Encoding {
    fn tokenizer(self) -> &'static Tokenizer {
        match self {
            Self::O200k => o200k_base(),
            Self::Cl100k => cl100k_base(),
        }
    }
}

/// The tokens of `text`.
pub fn count(encoding: Encoding, text: &str) -> u32 {
    if text.len() > MAX_COUNTED_BYTES {
        return u32::try_from(tokens_of_bytes(text.len())).unwrap_or(u32::MAX);
    }
    u32::try_from(encoding.tokenizer().count(text)).unwrap_or(u32::MAX)
}

/// An estimate for bytes nobody tokenised: 3 bytes a token, as in code within JSON; prose has more.
pub fn tokens_of_bytes(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(3)
}

/// Models with a published tokenizer by prefix, the longer ones first: encoding, exact, exact framing.
const OPENAI: &[(&str, Encoding, bool, bool)] = &[
    ("gpt-5", Encoding::O200k, true, false),
    ("gpt-4o", Encoding::O200k, true, true),
    ("gpt-4.1", Encoding::O200k, true, true),
    ("gpt-4.5", Encoding::O200k, true, true),
    ("chatgpt-4o", Encoding::O200k, true, true),
    ("gpt-4", Encoding::Cl100k, true, true),
    ("gpt-3.5", Encoding::Cl100k, true, true),
    ("gpt-35-", Encoding::Cl100k, true, true),
    ("gpt-oss", Encoding::O200k, true, false),
    ("o1", Encoding::O200k, true, false),
    ("o3", Encoding::O200k, true, false),
    ("o4-mini", Encoding::O200k, true, false),
    ("text-embedding-", Encoding::Cl100k, true, true),
    ("davinci-002", Encoding::Cl100k, true, true),
    ("babbage-002", Encoding::Cl100k, true, true),
    ("gpt-", Encoding::O200k, false, false),
    ("o4", Encoding::O200k, false, false),
];

/// Other models by prefix: their tokens for 1000 of o200k.
const OTHERS: &[(&str, u32)] = &[
    ("gemini", 1100),
    ("gemma", 1100),
    ("llama", 1020),
    ("meta-llama", 1020),
    ("deepseek", 1090),
    ("qwen", 1090),
    ("qwq", 1090),
    ("kimi", 1000),
    ("moonshot", 1000),
    ("glm", 1010),
    ("minimax", 1010),
    ("mistral", 1160),
    ("ministral", 1160),
    ("magistral", 1160),
    ("codestral", 1160),
    ("devstral", 1160),
    ("pixtral", 1160),
];

const CLAUDE_PERMILLE: u32 = 1200;
/// The tokenizer since Opus 4.7 makes about 30 % more of a text than those before.
const NEW_CLAUDE_PERMILLE: u32 = 1500;
const UNKNOWN_PERMILLE: u32 = 1200;

/// The encoding of `model`: exact for those with a published one, else o200k and a factor.
pub fn encoding_for(model: &str) -> ModelEncoding {
    let name = bare_name(model);
    let known = OPENAI.iter().find(|(prefix, ..)| name.starts_with(prefix));
    if let Some(&(_, encoding, exact, exact_framing)) = known {
        return ModelEncoding {
            encoding,
            exact,
            exact_framing,
            factor_permille: 1000,
        };
    }
    ModelEncoding {
        encoding: Encoding::O200k,
        exact: false,
        exact_framing: false,
        factor_permille: factor_permille(&name),
    }
}

fn factor_permille(name: &str) -> u32 {
    if is_new_claude(name) {
        return NEW_CLAUDE_PERMILLE;
    }
    if name.starts_with("claude") {
        return CLAUDE_PERMILLE;
    }
    let other = OTHERS.iter().find(|(prefix, _)| name.starts_with(prefix));
    other.map_or(UNKNOWN_PERMILLE, |(_, permille)| *permille)
}

/// Claude from Opus 4.7 on, told from the version in its name.
pub(super) fn is_new_claude(name: &str) -> bool {
    const OLD: &[&str] = &[
        "claude-2",
        "claude-3",
        "claude-instant",
        "-4-0",
        "-4-1",
        "-4-5",
        "-4-6",
    ];
    let dashed = name.replace('.', "-");
    let is_plain_4 = |family: &str| dashed.split("-20").next() == Some(family);
    dashed.starts_with("claude-")
        && !OLD.iter().any(|old| dashed.contains(old))
        && !is_plain_4("claude-opus-4")
        && !is_plain_4("claude-sonnet-4")
}

/// The model id in lower case, without the seller before it or the fine-tune around it.
pub(super) fn bare_name(model: &str) -> String {
    let name = model
        .rsplit('/')
        .next()
        .unwrap_or(model)
        .to_ascii_lowercase();
    match name.strip_prefix("ft:") {
        Some(tuned) => tuned.split(':').next().unwrap_or(tuned).to_owned(),
        None => name,
    }
}

#[cfg(test)]
mod tests;
