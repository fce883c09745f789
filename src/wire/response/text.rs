//! The output of a call as text, for counting tokens when the upstream reports no usage.
//!
//! While a stream runs its deltas are only copied. Most calls report usage, and for them nothing
//! more is done. Past the first mebibyte deltas are read as they come, into text that has a
//! limit of its own; past that only bytes are counted.

mod extract;

use super::Dialect;
use super::said::Said;
use extract::extract;

/// Unparsed deltas are kept up to this many bytes.
const RAW_LIMIT: usize = 1 << 20;
/// Text read while streaming is kept up to this many bytes.
const TEXT_LIMIT: usize = 8 << 20;
/// Choices past this many share one text.
const MAX_LANES: usize = 128;

/// What a response delivered, not yet read.
#[derive(Clone, Debug, Default)]
pub struct OutputText {
    /// Of events and their bytes that there were to keep.
    events: u64,
    bytes: u64,
    wanted: bool,
    /// Events, one per line; or one whole body.
    raw: Vec<u8>,
    raw_is_body: bool,
    /// What came after `raw` was full.
    later: Option<Lanes>,
    said: Said,
    /// Of `raw` so much was read into `said`.
    said_to: usize,
}

impl OutputText {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            wanted: dialect.generates_text(),
            ..Self::default()
        }
    }

    /// All text of the output: content, reasoning, refusals, names and arguments of tool calls.
    pub fn into_text(self) -> String {
        let mut lanes = Lanes::unbounded();
        if self.raw_is_body {
            if !extract(&self.raw, &mut lanes) {
                // Cut off within: what there is of it counts as it stands.
                lanes.push(0, &String::from_utf8_lossy(&self.raw));
            }
        } else {
            for event in self.raw.split(|byte| *byte == b'\n') {
                extract(event, &mut lanes);
            }
        }
        lanes.append(self.later.unwrap_or_default());
        lanes.into_text()
    }

    /// What the events so far say.
    pub(super) fn said(&mut self) -> &Said {
        if !self.raw_is_body {
            let new = self.raw.get(self.said_to..).unwrap_or_default();
            for event in new.split(|byte| *byte == b'\n') {
                self.said.take(event);
            }
        }
        self.said_to = self.raw.len();
        &self.said
    }

    pub(super) fn cut_said(&mut self) {
        self.said.cut();
    }

    /// What a whole body says.
    pub(super) fn said_in(&mut self, body: &[u8]) -> &Said {
        if self.wanted && self.said_to == 0 {
            self.said.take(body);
            self.said_to = body.len();
        }
        &self.said
    }

    /// Bytes of text that were delivered but are not in [`OutputText::into_text`].
    pub fn uncounted_bytes(&self) -> u64 {
        self.later.as_ref().map_or(0, |lanes| lanes.uncounted_bytes)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.raw.len() + self.later.as_ref().map_or(0, |lanes| lanes.len)
    }

    /// From here on only bytes are counted.
    pub(super) fn keep_less(&mut self) {
        self.said();
        self.said.cut();
        let later = self.later.get_or_insert_default();
        later.limit = later.len;
    }

    /// Whether there is nothing to count.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty() && self.later.is_none()
    }

    /// Seldom less than the tokens there are, mostly more, and found without a look: an event brings
    /// one token, or many and is long.
    pub(super) fn progress(&self) -> u64 {
        self.events.max(self.bytes / 64)
    }

    pub(super) fn keep_event(&mut self, data: &[u8]) {
        if !self.wanted {
            return;
        }
        self.events += 1;
        self.bytes += data.len() as u64;
        if self.later.is_none() && self.raw.len() + data.len() < RAW_LIMIT {
            // A line feed between the tokens of JSON is as good as a space.
            let mut rest = data;
            while let Some(end) = memchr::memchr(b'\n', rest) {
                let (line, tail) = rest.split_at(end);
                self.raw.extend_from_slice(line);
                self.raw.push(b' ');
                rest = tail.get(1..).unwrap_or_default();
            }
            self.raw.extend_from_slice(rest);
            self.raw.push(b'\n');
        } else {
            self.said();
            self.said.take(data);
            extract(data, self.later.get_or_insert_with(Lanes::bounded));
        }
    }

    pub(super) fn keep_body(&mut self, body: Vec<u8>) {
        if self.wanted {
            self.raw = body;
            self.raw_is_body = true;
        }
    }
}

/// Text by choice: the deltas of parallel choices interleave.
#[derive(Clone, Debug, Default)]
struct Lanes {
    texts: Vec<(u64, String)>,
    len: usize,
    limit: usize,
    uncounted_bytes: u64,
}

impl Lanes {
    fn bounded() -> Self {
        Self {
            limit: TEXT_LIMIT,
            ..Self::default()
        }
    }

    fn unbounded() -> Self {
        Self {
            limit: usize::MAX,
            ..Self::default()
        }
    }

    fn push(&mut self, choice: u64, text: &str) {
        if text.len() > self.limit - self.len {
            let len = u64::try_from(text.len()).unwrap_or(u64::MAX);
            self.uncounted_bytes = self.uncounted_bytes.saturating_add(len);
            return;
        }
        self.len += text.len();
        let choice = if self.texts.len() < MAX_LANES {
            choice
        } else {
            0
        };
        match self.texts.iter_mut().find(|(known, _)| *known == choice) {
            Some((_, lane)) => lane.push_str(text),
            None => self.texts.push((choice, text.to_owned())),
        }
    }

    fn append(&mut self, later: Self) {
        for (choice, text) in later.texts {
            self.push(choice, &text);
        }
    }

    fn into_text(self) -> String {
        self.texts.into_iter().map(|(_, text)| text).collect()
    }
}

#[cfg(test)]
mod tests;
