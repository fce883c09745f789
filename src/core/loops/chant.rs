//! A model that says the same piece over and over within one answer.
//!
//! For each byte it is asked how far back the sixteen bytes that end there were seen last. Text
//! that keeps one such distance has that period. Code, tables and structured answers repeat by
//! nature and are not looked at. Constant time and memory; pieces may come in any sizes.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes that are compared.
const GRAM: usize = 16;
/// The longest piece that can be chanted.
const MAX_PERIOD: u32 = 512;
/// A piece is chanted when it comes so often, and covers so many bytes.
const TIMES: u32 = 10;
const LEAST: u32 = 600;
/// One byte in so many may differ.
const DOUBT: u32 = 8;
/// Each for two grams, so that few push each other out.
const SLOTS: usize = 512;

/// Reads the text of one answer.
#[derive(Clone, Debug, Default)]
pub struct Chant {
    /// Of the bytes looked at.
    at: u32,
    recent: u128,
    /// Where a gram ended last, by its hash; empty until there is something to compare.
    ends: Vec<[(u32, u32); 2]>,
    period: u32,
    matched: u32,
    missed: u32,
    line: Line,
    fenced: bool,
    kind: Kind,
    found: bool,
}

/// What the text is, by its first character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Unknown,
    Prose,
    /// JSON or markup.
    Structured,
}

/// How the line that is being read began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Blank,
    /// So many back-ticks.
    Ticks(u8),
    Table,
    Text,
}

impl Chant {
    /// Takes more text; true once it is a chant.
    pub fn push(&mut self, text: &str) -> bool {
        for byte in text.bytes() {
            if self.found {
                break;
            }
            self.byte(byte);
        }
        self.found
    }

    fn byte(&mut self, byte: u8) {
        if self.kind == Kind::Unknown && !byte.is_ascii_whitespace() {
            self.kind = match byte {
                b'{' | b'[' | b'<' => Kind::Structured,
                _ => Kind::Prose,
            };
        }
        self.line = match (self.line, byte) {
            (_, b'\n') | (Line::Blank, b' ' | b'\t' | b'\r') => Line::Blank,
            (Line::Blank, b'`') => Line::Ticks(1),
            (Line::Ticks(2), b'`') => {
                self.fenced = !self.fenced;
                Line::Text
            }
            (Line::Ticks(count), b'`') => Line::Ticks(count + 1),
            (Line::Blank, b'|') => Line::Table,
            (Line::Blank | Line::Ticks(_), _) => Line::Text,
            (line, _) => line,
        };
        let skips = self.fenced || self.kind == Kind::Structured || self.line == Line::Table;
        let is_blank = byte.is_ascii_whitespace();
        let repeats_blank = is_blank && self.recent & 0xff == u128::from(b' ');
        if !skips && !repeats_blank {
            self.look(if is_blank { b' ' } else { byte });
        }
    }

    fn look(&mut self, byte: u8) {
        self.recent = self.recent << 8 | u128::from(byte);
        self.at = self.at.saturating_add(1);
        if (self.at as usize) < GRAM {
            return;
        }
        if self.ends.is_empty() {
            self.ends = vec![[(0, 0); 2]; SLOTS];
        }
        let hash = xxh3_64(&self.recent.to_le_bytes());
        let tag = (hash >> 32) as u32;
        let at = usize::try_from(hash % SLOTS as u64).unwrap_or(0);
        let Some([one, other]) = self.ends.get_mut(at) else {
            return;
        };
        let slot = if one.0 == tag || (other.0 != tag && one.1 <= other.1) {
            one
        } else {
            other
        };
        let (known, end) = std::mem::replace(slot, (tag, self.at));
        let gap = self.at - end;
        let matches = known == tag && end > 0 && gap <= MAX_PERIOD;
        if matches && gap == self.period {
            self.matched += 1;
        } else if self.missed * DOUBT < self.matched {
            self.missed += 1;
        } else {
            self.period = if matches { gap } else { 0 };
            self.matched = u32::from(matches);
            self.missed = 0;
        }
        self.found = self.period > 0 && self.matched >= LEAST.max(TIMES * self.period);
    }
}
