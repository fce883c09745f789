//! What a text says once everything is taken away that changes by itself from one run to the next.
//!
//! This is of two kinds. A moment - a time, a duration, a free port, the number of a folder - may be
//! any other. A name - a UUID, a random id - stands for something: its value is handed out, so that
//! two texts can be held to name the same things in the same places. Words, plain numbers and
//! digests of contents are neither, wherever they stand.

use std::sync::LazyLock;

use regex::Regex;

/// Hexadecimal digits of what names something by chance.
const HEX: usize = 12;
/// Letters and digits of a random word.
const RANDOM: usize = 16;
/// Hexadecimal digits of SHA-1 and SHA-256: they say what they are of.
const CONTENTS: [usize; 2] = [40, 64];

/// A text without what changes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steady<'t> {
    /// Marks stand where something was taken away.
    pub text: String,
    /// The names that were taken away, in their order.
    pub names: Vec<&'t str>,
}

/// What a pattern finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Moment,
    Name,
    /// A name, if it looks random.
    Word,
    /// A name, if it looks random, of which its prefix is a first sign.
    Prefixed,
}

use Kind::{Moment, Name, Prefixed, Word};

/// Parts of patterns, by the words that stand for them.
const PARTS: &[(&str, &str)] = &[
    ("<ISO>", "<YEAR>[-/]<MM>[-/]<DD>"),
    ("<MDY>", r"<MONTH>\.?\ +\d{1,2}(?:st|nd|rd|th)?,?\ +<YEAR>"),
    (
        "<DMY>",
        r"\d{1,2}(?:st|nd|rd|th)?[\ -]<MONTH>\.?,?[\ -]<YEAR>",
    ),
    (
        "<CTIME>",
        r"<MONTH>\ +\d{1,2}\ <CLOCK>(?:\ [A-Z]{3,4})?(?:\ <YEAR>)?",
    ),
    (
        "<THEN>",
        r"(?:(?:[T_]|,?\ (?:at\ )?)<CLOCK>|[T_-]<HH>[-.][0-5]\d[-.][0-5]\d)",
    ),
    (
        "<CLOCK>",
        r"<HH>:[0-5]\d(?::[0-6]\d(?:[.,]\d{1,9})?)?<ZONE>?",
    ),
    ("<SECONDS>", r"<HH>:[0-5]\d:[0-6]\d(?:[.,]\d{1,9})?<ZONE>?"),
    (
        "<ZONE>",
        r"(?:\ ?(?:Z|UTC|GMT|[AaPp]\.?[Mm]\b\.?|[+-]\d\d:?\d\d\b))",
    ),
    (
        "<WEEKDAY>",
        r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?",
    ),
    (
        "<MONTH>",
        "(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?\
        |Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)",
    ),
    ("<YEAR>", r"(?:19|20)\d\d"),
    ("<MM>", r"(?:0[1-9]|1[0-2])"),
    ("<DD>", r"(?:0[1-9]|[12]\d|3[01])"),
    ("<HH>", r"(?:[01]?\d|2[0-3])"),
    ("<FROM>", r"(?:\b|_)"),
    ("<TO>", r"(?:\b|_)"),
    // Between a name and its value, and behind a value that goes no further.
    ("<IS>", r#"\\?["']?\ *[:=]\ *\\?["']?"#),
    ("<END>", r#"(?:[\s,;"'\\)\]}]|\.\s|\.?$)"#),
];

/// Each with one group, which is what changes. The first that fits at a place counts.
const PATTERNS: &[(Kind, &str)] = &[
    // 2026-11-30T06:12:34.5Z, Monday 2026/11/30 at 06:12, 2026-11-30_06-12-34
    (
        Moment,
        r"<FROM>((?:<WEEKDAY>,?\ )?<ISO><THEN>?(?:,?\ \(?<WEEKDAY>)?)<TO>",
    ),
    // 20261130T061234Z, 20261130-061234, 20261130061234
    (
        Moment,
        r"<FROM>(<YEAR><MM><DD>[T_-]?(?:[01]\d|2[0-3])[0-5]\d[0-6]\d(?:\.?\d{3,9})?Z?)<TO>",
    ),
    // Monday, November 30, 2026; 30 Nov 2026 06:12:34 +0000; Mon Nov 30 06:12:34 UTC 2026
    (
        Moment,
        r"<FROM>((?:<WEEKDAY>,?\ +)?(?:<MDY>|<DMY>|<CTIME>)<THEN>?)<TO>",
    ),
    // 06:12:34, 6:12:34.56 PM
    (Moment, r"<FROM>(<SECONDS>)<TO>"),
    // It is 06:12
    (
        Moment,
        r#"(?i:\b(?:time|now|clock|currently)\b(?:\ is|<IS>|\ )\ *["']?|\bit(?:'s|\ is)\ (?:now\ )?)(<CLOCK>)<TO>"#,
    ),
    // Seconds with a part of them, milli-, micro- and nanoseconds of our time.
    (
        Moment,
        r"<FROM>(1[6-9]\d{8}\.\d{1,9}|1[6-9]\d{11}|1[6-9]\d{14}|1[6-9]\d{17})<TO>",
    ),
    // timestamp: 1764483154, created_at=1764483154
    (
        Moment,
        r"(?:(?i:time|timestamp|epoch|date|created|updated|expires)|(?:_at|At|_ts|\bts|\biat|\bexp|\bnbf))(?:<IS>|\ (?:is\ )?)(1\d{9}(?:\.\d+)?)<END>",
    ),
    // 0.12s
    (Moment, r"\b(\d+\.\d{2,}(?:s|ms|us|ns))\b"),
    // took 5 ms, in 2.5 seconds
    (
        Moment,
        r"(?i:\b(?:took|elapsed|duration|latency)\b(?:<IS>|\ )|\bin\ )(\d+\.\d+\ ?(?:s|ms|us|ns|secs?|seconds?|min|minutes?|milliseconds?))\b",
    ),
    (
        Moment,
        r"(?i:\b(?:took|elapsed|duration|latency)\b(?:<IS>|\ ))(\d+\ ?(?:s|ms|us|ns|secs?|seconds?|min|minutes?|milliseconds?))\b",
    ),
    // "elapsed_ms": 12
    (
        Moment,
        r"(?i:\b(?:elapsed|duration|latency|uptime|timestamp|took|pid)(?:_?(?:ms|us|ns|s|secs|seconds))?<IS>)(\d+(?:\.\d+)?)<END>",
    ),
    // Ports that are given out as they are free.
    (
        Moment,
        r"(?:\blocalhost|\b127\.0\.0\.1|\b0\.0\.0\.0|\[::1?\]):(3[2-9]\d{3}|[45]\d{4}|6[0-5]\d{3})\b",
    ),
    // Folders that are numbered as they come, and those for a while.
    (Moment, r"/pytest-of-[A-Za-z0-9._-]+/pytest-(\d+)"),
    (Name, r"(?:/tmp|/T|[Tt]emp)[/\\]{1,2}(tmp[a-z0-9_]{6,8})\b"),
    (Name, r"/tmp\.([A-Za-z0-9]{6,12})\b"),
    (
        Name,
        r"<FROM>([0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})<TO>",
    ),
    // A ULID of our time.
    (Name, r"<FROM>(01[0-9A-HJKMNP-TV-Z]{24})<TO>"),
    // An address of memory.
    (Name, r"\b(0x[0-9a-fA-F]{9,16})\b"),
    (
        Name,
        r"(?i:\b(?:(?:x-)?(?:request|req|trace|span|correlation)[_-]?id|trace|traceparent|nonce)<IS>)([A-Za-z._-]*\d[A-Za-z0-9._-]*)",
    ),
    (
        Prefixed,
        r"<FROM>(?:call|toolu|srvtoolu|thread|msg|run|resp|rs|fc|asst|req|conv|sess|chatcmpl|cmpl|file|batch|vs|gen)[_-]([A-Za-z0-9]{16,})<TO>",
    ),
    (Word, r"<FROM>([A-Za-z0-9]{12,})<TO>"),
];

static VOLATILE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let patterns = PATTERNS.iter().map(|(_, pattern)| whole(pattern));
    let patterns: Vec<String> = patterns.collect();
    Regex::new(&format!("(?x-u){}", patterns.join("|"))).ok()
});

fn whole(pattern: &str) -> String {
    let put = |text: String, (word, part): &(&str, &str)| text.replace(word, part);
    PARTS.iter().fold(pattern.to_owned(), put)
}

/// Takes away what changes by itself.
pub fn steady(text: &str) -> Steady<'_> {
    let mut steady = Steady {
        text: String::with_capacity(text.len()),
        names: Vec::new(),
    };
    let (mut from, mut taken) = (0, 0);
    while let Some((kind, start, end)) = next(text, from) {
        let found = text.get(start..end).unwrap_or_default();
        from = end;
        if kind.holds(found) {
            let between = text.get(taken..start).unwrap_or_default();
            steady.text.push_str(between);
            steady.text.push(kind.mark());
            if kind != Moment {
                steady.names.push(found);
            }
            taken = end;
        }
    }
    steady.text.push_str(text.get(taken..).unwrap_or_default());
    steady
}

/// What a pattern finds from a place on, and where.
fn next(text: &str, from: usize) -> Option<(Kind, usize, usize)> {
    let found = VOLATILE.as_ref()?.captures_at(text, from)?;
    let mut groups = PATTERNS.iter().zip(found.iter().skip(1));
    groups.find_map(|((kind, _), group)| group.map(|it| (*kind, it.start(), it.end())))
}

/// What stands for a time, and for a name.
pub(super) const PLACEHOLDERS: [char; 2] = ['\u{1}', '\u{2}'];

impl Kind {
    fn mark(self) -> char {
        let [time, name] = PLACEHOLDERS;
        match self {
            Moment => time,
            Name | Word | Prefixed => name,
        }
    }

    fn holds(self, found: &str) -> bool {
        match self {
            Moment | Name => true,
            Word => is_hex(found) || is_random(found),
            Prefixed => is_hex(found) || is_random(found) || is_mixed(found),
        }
    }
}

fn is_mixed(word: &str) -> bool {
    let has = |is: fn(&u8) -> bool| word.bytes().any(|byte| is(&byte));
    has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase)
}

/// Hexadecimal that nobody counts with, but for digests of contents.
fn is_hex(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    word.len() >= HEX
        && !CONTENTS.contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_hexdigit())
        && digits > 1
        && digits < word.len()
}

/// Letters and digits that take turns as in no word.
fn is_random(word: &str) -> bool {
    let bytes = word.as_bytes();
    let pairs = bytes.windows(2);
    let turns = pairs.filter(|pair| match pair {
        [one, other] => one.is_ascii_digit() != other.is_ascii_digit(),
        _ => false,
    });
    bytes.len() >= RANDOM && !CONTENTS.contains(&bytes.len()) && turns.count() * 5 >= bytes.len()
}

#[cfg(test)]
mod tests;
