//! What a text says once everything is taken away that changes by itself.
//!
//! One pass over at most 16 KiB. Times, identifiers, addresses and terminal colours are dropped;
//! whole numbers count in what the world answers ("12 %" to "15 %" is news) and are dropped in what
//! an agent wrote ("attempt 7" is not).

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

use super::super::text;

/// Of a longer text so many bytes of its front and of its end are read, and its length counts.
const WINDOW: usize = 8 * 1024;
/// Of a text with more words only every eighth group of four is kept.
const DENSE_WORDS: usize = 256;
/// Numbers kept to be compared.
const MAX_NUMBERS: usize = 16;
/// First bytes of characters from U+0800 on, of three bytes each as far as they are common: many of
/// these scripts do without spaces. What is longer than so many bytes is no word of theirs.
const WIDE: u8 = 0xe0;
const CHARACTER: usize = 3;
const SPACED: usize = 12;
/// Words of an error's end that are its mark.
const ERROR_WORDS: usize = 24;

/// Who wrote a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    Agent,
    /// A tool or a user.
    World,
}

/// A text, reduced to what can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Of all that counts.
    pub hash: u64,
    /// As `hash`, but all numbers alike.
    pub masked: u64,
    /// The first whole numbers in it.
    pub numbers: Vec<u64>,
    /// Hashes of each four words in a row.
    pub grams: Vec<u32>,
    /// Hashes of the words, in order; empty where nobody will ask.
    words: Vec<u64>,
    /// Bytes of the text.
    pub len: usize,
}

impl Reading {
    pub fn of(voice: Voice, text: &str) -> Self {
        let mut reader = Reader::new(voice);
        if text.len() <= 2 * WINDOW {
            reader.read(text);
        } else {
            reader.read(text::front(text, WINDOW));
            reader.word(&text.len().to_le_bytes(), Kind::Word);
            reader.read(text::end(text, WINDOW));
        }
        reader.finish(text.len())
    }

    /// The words in it.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// It says a number and next to nothing else.
    pub fn is_numbers(&self) -> bool {
        let words = self.words.iter().filter(|word| **word & NUMBER == 0);
        !self.numbers.is_empty() && words.count() < 2
    }

    /// What an error says at its end, but for numbers and the words that `arguments` brought up.
    pub fn error_mark(&self, arguments: &[u64]) -> u64 {
        let mut hash = Mixer::default();
        let from = self.words.len().saturating_sub(ERROR_WORDS);
        for word in self.words.iter().skip(from) {
            if word & NUMBER == 0 && !arguments.contains(word) {
                hash.push(*word);
            }
        }
        hash.finish()
    }
}

/// A hash of hashes, in order.
#[derive(Clone, Copy, Debug)]
pub struct Mixer(u64);

impl Default for Mixer {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Mixer {
    pub fn push(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x2545_f491_4f6c_dd1d);
    }

    pub fn finish(self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    pub fn of(values: &[u64]) -> u64 {
        let mut mixer = Self::default();
        for value in values {
            mixer.push(*value);
        }
        mixer.finish()
    }
}

/// Marks the hash of a number.
const NUMBER: u64 = 1 << 63;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
}

struct Reader {
    voice: Voice,
    hash: Mixer,
    masked: Mixer,
    numbers: Vec<u64>,
    words: Vec<u64>,
    /// The word before names what follows as an identifier or a time.
    names_id: bool,
}

impl Reader {
    fn new(voice: Voice) -> Self {
        Self {
            voice,
            hash: Mixer::default(),
            masked: Mixer::default(),
            numbers: Vec::new(),
            words: Vec::new(),
            names_id: false,
        }
    }

    fn read(&mut self, text: &str) {
        let text = without_colours(text);
        let mut rest = text.as_bytes();
        while let Some(start) = rest.iter().position(|byte| is_word(*byte)) {
            let (between, tail) = rest.split_at(start);
            let (atom, tail) = tail.split_at(atom_len(tail));
            self.between(between);
            self.atom(atom, tail);
            rest = tail;
        }
    }

    /// What stands between words counts where texts must be equal: it may be all that was mended.
    fn between(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() && bytes != b" " {
            self.hash.push(xxh3_64(bytes));
            self.masked.push(xxh3_64(bytes));
        }
    }

    /// Letters and digits with what joins them: `2024-03-04T20:08:21Z`, `src/app.py`, `0.51`.
    fn atom(&mut self, atom: &[u8], tail: &[u8]) {
        let names_id = std::mem::take(&mut self.names_id);
        let has_digit = atom.iter().any(u8::is_ascii_digit);
        if has_digit && (names_id || is_volatile(atom, tail)) {
            return;
        }
        for word in atom.split(|byte| !is_word(*byte)) {
            if word.is_empty() || is_identifier(word) {
                continue;
            }
            if word.len() > SPACED && word.iter().any(|byte| *byte >= WIDE) {
                self.unspaced(word);
                continue;
            }
            let is_number = word.iter().all(u8::is_ascii_digit);
            self.word(word, if is_number { Kind::Number } else { Kind::Word });
        }
        self.names_id = is_id_name(atom);
    }

    /// Scripts that put no spaces between words: each two characters count as one.
    fn unspaced(&mut self, word: &[u8]) {
        for pair in word.chunks(2 * CHARACTER) {
            self.word(pair, Kind::Word);
        }
    }

    fn word(&mut self, word: &[u8], kind: Kind) {
        match (kind, self.voice) {
            (Kind::Number, Voice::Agent) => {}
            (Kind::Number, Voice::World) => {
                let digits = word.iter().take(18);
                let value = digits.fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'));
                if self.numbers.len() < MAX_NUMBERS {
                    self.numbers.push(value);
                }
                let hash = xxh3_64(word) | NUMBER;
                self.hash.push(hash);
                self.masked.push(NUMBER);
                self.words.push(hash);
            }
            (Kind::Word, voice) => {
                let hash = word_hash(word, voice);
                self.hash.push(hash);
                self.masked.push(hash);
                self.words.push(hash);
            }
        }
    }

    fn finish(self, len: usize) -> Reading {
        Reading {
            hash: self.hash.finish(),
            masked: self.masked.finish(),
            grams: grams(&self.words),
            numbers: self.numbers,
            words: self.words,
            len,
        }
    }
}

/// Of fewer than four words the group is what there is of them.
fn grams(words: &[u64]) -> Vec<u32> {
    let gram = |words: &[u64]| (Mixer::of(words) >> 32) as u32;
    if words.is_empty() {
        return Vec::new();
    }
    if words.len() < 4 {
        return vec![gram(words)];
    }
    let all = words.windows(4).map(gram);
    if words.len() <= DENSE_WORDS {
        all.collect()
    } else {
        all.filter(|gram| gram % 8 == 0).collect()
    }
}

/// Case does not count. Nor do digits within the words of an agent (`step2`).
fn word_hash(word: &[u8], voice: Voice) -> u64 {
    let mut lower = [0_u8; 64];
    let mut len = 0;
    for byte in word.iter().take(lower.len()) {
        if voice == Voice::Agent && byte.is_ascii_digit() {
            continue;
        }
        if let Some(slot) = lower.get_mut(len) {
            *slot = byte.to_ascii_lowercase();
            len += 1;
        }
    }
    let rest = word.get(lower.len()..).unwrap_or_default();
    let front = xxh3_64(lower.get(..len).unwrap_or_default());
    let hash = if rest.is_empty() {
        front
    } else {
        front ^ xxh3_64(rest)
    };
    hash & !NUMBER
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn is_joint(byte: u8) -> bool {
    matches!(byte, b'-' | b':' | b'.' | b'+' | b'/' | b'\'' | b'@' | b'#')
}

/// An atom ends where no joint leads on to another word.
fn atom_len(text: &[u8]) -> usize {
    let mut end = 0;
    while let Some(byte) = text.get(end) {
        let goes_on = is_word(*byte)
            || (is_joint(*byte) && text.get(end + 1).is_some_and(|next| is_word(*next)));
        if !goes_on {
            break;
        }
        end += 1;
    }
    end
}

/// Without what makes terminals change colour: `ESC [ parameters letter`.
fn without_colours(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut pieces = text.split("\u{1b}[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let parameters = piece.bytes().take_while(|byte| !byte.is_ascii_alphabetic());
        let end = parameters.count() + 1;
        plain.push_str(piece.get(end..).unwrap_or_default());
    }
    Cow::Owned(plain)
}

/// A time, a UUID, a long hexadecimal or a duration.
fn is_volatile(atom: &[u8], tail: &[u8]) -> bool {
    is_date(atom) || is_clock(atom) || is_uuid(atom) || is_epoch(atom) || is_duration(atom, tail)
}

fn digits_at(atom: &[u8], at: usize, count: usize) -> bool {
    atom.get(at..at + count)
        .is_some_and(|part| part.iter().all(u8::is_ascii_digit))
}

/// `2024-03-04` and all that begins with it.
fn is_date(atom: &[u8]) -> bool {
    let dashed = |mark: u8| atom.get(4) == Some(&mark) && atom.get(7) == Some(&mark);
    (dashed(b'-') || dashed(b'/'))
        && digits_at(atom, 0, 4)
        && digits_at(atom, 5, 2)
        && digits_at(atom, 8, 2)
}

/// `20:08:21`, `20:08:21.123`
fn is_clock(atom: &[u8]) -> bool {
    atom.get(2) == Some(&b':')
        && atom.get(5) == Some(&b':')
        && digits_at(atom, 0, 2)
        && digits_at(atom, 3, 2)
        && digits_at(atom, 6, 2)
}

fn is_uuid(atom: &[u8]) -> bool {
    atom.len() == 36
        && atom.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Seconds or milliseconds of our time.
fn is_epoch(atom: &[u8]) -> bool {
    let whole = atom.split(|byte| *byte == b'.').next().unwrap_or_default();
    matches!(whole.len(), 10 | 13)
        && whole.first() == Some(&b'1')
        && whole.iter().all(u8::is_ascii_digit)
}

/// `5.89s`, `0.3 ms`, `12.5 seconds`: a decimal of a unit of time.
fn is_duration(atom: &[u8], tail: &[u8]) -> bool {
    const UNITS: [&[u8]; 9] = [
        b"s", b"ms", b"us", b"ns", b"sec", b"secs", b"seconds", b"min", b"minutes",
    ];
    let number = atom
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || **byte == b'.')
        .count();
    let (number, unit) = atom.split_at(number);
    if !number.contains(&b'.') || number.last() == Some(&b'.') {
        return false;
    }
    if !unit.is_empty() {
        return UNITS.contains(&unit);
    }
    let next = tail.strip_prefix(b" ").unwrap_or_default();
    let len = next.iter().take_while(|byte| is_word(**byte)).count();
    UNITS.contains(&next.get(..len).unwrap_or_default())
}

/// Hexadecimal that nobody counts with, or a long mix of letters and digits.
fn is_identifier(word: &[u8]) -> bool {
    let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
    let hex = word.strip_prefix(b"0x").unwrap_or(word);
    let is_hex = hex.iter().all(u8::is_ascii_hexdigit);
    let is_address = hex.len() < word.len() && is_hex && hex.len() >= 6;
    let is_hash = is_hex && word.len() >= 7 && digits > 0 && digits < word.len();
    let is_mixed = word.len() >= 20 && digits >= 4 && digits < word.len() && is_plain(word);
    is_address || is_hash || is_mixed
}

fn is_plain(word: &[u8]) -> bool {
    word.iter().all(u8::is_ascii_alphanumeric)
}

/// Names whose value differs each time.
fn is_id_name(atom: &[u8]) -> bool {
    const NAMES: [&[u8]; 14] = [
        b"request_id",
        b"requestid",
        b"req",
        b"req_id",
        b"trace",
        b"trace_id",
        b"traceid",
        b"span_id",
        b"correlation_id",
        b"timestamp",
        b"elapsed_ms",
        b"duration_ms",
        b"nonce",
        b"request-id",
    ];
    NAMES.iter().any(|name| atom.eq_ignore_ascii_case(name))
}
