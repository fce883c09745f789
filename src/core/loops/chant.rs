//! A model that says the same piece over and over within one answer.
//!
//! How far back the last sixteen bytes were seen before is what the text may repeat by; from there on
//! each byte is compared with the one so far back. Code, tables and structured answers repeat by
//! nature and are not looked at. Constant time and memory; pieces may come in any sizes.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes that are compared.
const GRAM: usize = 16;
/// The longest piece that can be chanted.
const MAX_PERIOD: u32 = 512;
/// A piece is chanted when it comes so often, and covers so many bytes.
const TIMES: u32 = 10;
const LEAST: u32 = 600;
/// Bytes of the shortest text that can be a chant: a shorter one need not be read.
pub const SHORTEST: usize = LEAST as usize;
/// One byte in so many may differ.
const DOUBT: u32 = 32;
const SLOTS: usize = 512;
/// Bytes that are kept to be compared: more than the longest piece.
const LAST: usize = 1024;

/// Reads the text of one answer.
#[derive(Clone, Debug, Default)]
pub struct Chant {
    /// Of the bytes looked at.
    at: u32,
    recent: u128,
    /// Where a gram ended last, by its hash; empty until there is something to compare.
    ends: Vec<(u32, u32)>,
    /// The bytes looked at last.
    last: Vec<u8>,
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
        if self.last.is_empty() {
            self.last = vec![0; LAST];
            self.ends = vec![(0, 0); SLOTS];
        }
        let before = self.last_at(self.period);
        if self.period > 0 {
            if before == Some(byte) {
                self.matched += 1;
            } else {
                self.missed += 1;
            }
            if self.missed * DOUBT > self.matched + DOUBT {
                self.period = 0;
            }
        }
        self.recent = self.recent << 8 | u128::from(byte);
        let at = self.at as usize % LAST;
        if let Some(slot) = self.last.get_mut(at) {
            *slot = byte;
        }
        self.at = self.at.saturating_add(1);
        if (self.at as usize) < GRAM {
            return;
        }
        let gap = self.gap();
        if self.period == 0 && (1..=MAX_PERIOD).contains(&gap) {
            (self.period, self.matched, self.missed) = (gap, 0, 0);
        }
        self.found = self.period > 0 && self.matched >= LEAST.max(TIMES * self.period);
    }

    /// How far back the last sixteen bytes were seen before; 0 when they were not, or it is forgotten.
    fn gap(&mut self) -> u32 {
        let hash = xxh3_64(&self.recent.to_le_bytes());
        let tag = (hash >> 32) as u32;
        let at = usize::try_from(hash % SLOTS as u64).unwrap_or(0);
        let Some(slot) = self.ends.get_mut(at) else {
            return 0;
        };
        let (known, end) = std::mem::replace(slot, (tag, self.at));
        if known == tag { self.at - end } else { 0 }
    }

    /// The byte so far back.
    fn last_at(&self, back: u32) -> Option<u8> {
        let at = self.at.checked_sub(back)?;
        self.last.get(at as usize % LAST).copied()
    }
}
