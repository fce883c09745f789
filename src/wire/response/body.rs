//! A JSON body, kept up to a limit and read at its end.
//!
//! Of a longer body (embeddings, images) only the first and the last bytes are kept: the id and
//! the model stand at the front, and usage at the back.

use memchr::memmem;

use super::collect::Collector;

/// Bodies up to this length are read whole.
const BODY_LIMIT: usize = 16 << 20;
const HEAD: usize = 4 << 10;
const TAIL: usize = 64 << 10;

/// Facts that can be read without the object around them.
const LOOSE_KEYS: [&str; 5] = ["id", "model", "service_tier", "usage", "usageMetadata"];

#[derive(Debug)]
pub(super) struct JsonBody {
    bytes: Vec<u8>,
    limit: usize,
    /// The body was longer than the limit: `bytes` is its head and what came last.
    over_limit: bool,
}

impl Default for JsonBody {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            limit: BODY_LIMIT,
            over_limit: false,
        }
    }
}

impl JsonBody {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        self.cut();
    }

    /// Keeps as little as of a body over the limit.
    pub(super) fn keep_less(&mut self) {
        self.limit = HEAD + 2 * TAIL;
        self.cut();
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn cut(&mut self) {
        if self.bytes.len() > self.limit {
            self.over_limit = true;
            self.limit = HEAD + 2 * TAIL;
            let tail = self.bytes.split_off(self.bytes.len() - TAIL);
            self.bytes.truncate(HEAD);
            self.bytes.extend_from_slice(&tail);
            self.bytes.shrink_to(HEAD + 2 * TAIL);
        }
    }

    /// The body so far, if nothing of it was left out.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (!self.over_limit).then_some(self.bytes.as_slice())
    }

    pub(super) fn is_over_limit(&self) -> bool {
        self.over_limit
    }

    /// Reads the facts; gives the bytes back when they are the whole body.
    pub(super) fn finish(self, collector: &mut Collector) -> Vec<u8> {
        if !self.over_limit && collector.json(&self.bytes) {
            collector.end();
            return self.bytes;
        }
        collector.json(loose_facts(&self.bytes).as_bytes());
        if self.over_limit {
            if self.bytes.trim_ascii_end().ends_with(b"}") {
                collector.end();
            }
            return Vec::new();
        }
        self.bytes
    }
}

/// An object of the known keys that are found anywhere in a body that is not whole.
fn loose_facts(bytes: &[u8]) -> String {
    let found = LOOSE_KEYS.iter().filter_map(|key| {
        let value = loose_value(bytes, key)?;
        Some(format!("\"{key}\":{value}"))
    });
    format!("{{{}}}", found.collect::<Vec<_>>().join(","))
}

/// The last value with this key. Inside of a string a quote is escaped, so no text is mistaken
/// for a key.
fn loose_value(bytes: &[u8], key: &str) -> Option<Box<serde_json::value::RawValue>> {
    let quoted = format!("\"{key}\"");
    let at = match key {
        // The ids of parts come later.
        "id" => memmem::find(bytes, quoted.as_bytes())?,
        _ => memmem::rfind(bytes, quoted.as_bytes())?,
    };
    let rest = bytes
        .get(at + quoted.len()..)?
        .trim_ascii_start()
        .strip_prefix(b":")?;
    serde_json::Deserializer::from_slice(rest)
        .into_iter()
        .next()?
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::response::ResponseFacts;
    use crate::wire::route::Dialect;

    fn read(body: &[u8], size: usize) -> (ResponseFacts, Vec<u8>, usize) {
        let mut json = JsonBody::default();
        let mut largest = 0;
        for chunk in body.chunks(size) {
            json.push(chunk);
            largest = largest.max(json.bytes.len());
        }
        let mut collector = Collector::new(Dialect::Embeddings, 200);
        let rest = json.finish(&mut collector);
        (collector.finish(), rest, largest)
    }

    #[test]
    fn usage_behind_a_huge_body_is_found_in_its_tail() {
        let mut body = br#"{"object":"list","data":[{"embedding":["#.to_vec();
        body.extend_from_slice(&b"0.0123,".repeat((BODY_LIMIT + (1 << 20)) / 7));
        body.extend_from_slice(
            br#"1]}],"model":"m-1","usage":{"prompt_tokens":7,"total_tokens":7}}"#,
        );
        for size in [1 << 14, 1 << 22] {
            let (facts, rest, largest) = read(&body, size);
            assert_eq!(facts.usage.unwrap().input_tokens, 7);
            assert_eq!(facts.model.as_deref(), Some("m-1"));
            assert!(facts.ended);
            assert!(rest.is_empty());
            assert!(largest <= BODY_LIMIT + size);
        }
    }

    #[test]
    fn short_of_memory_a_body_is_read_as_a_huge_one_is() {
        let mut json = JsonBody::default();
        json.push(br#"{"id":"c-1","text":""#);
        json.push(&vec![b'x'; 1 << 20]);
        json.keep_less();
        assert!(json.held_bytes() <= HEAD + 2 * TAIL && json.is_over_limit());
        json.push(br#"","usage":{"prompt_tokens":7}}"#);
        let mut collector = Collector::new(Dialect::Chat, 200);
        assert!(json.finish(&mut collector).is_empty());
        let facts = collector.finish();
        assert_eq!(facts.usage.unwrap().input_tokens, 7);
        assert_eq!(facts.response_id.as_deref(), Some("c-1"));
    }

    #[test]
    fn a_body_that_was_cut_still_gives_what_it_said() {
        let body = br#"{"id":"c-1","usage":{"prompt_tokens":7,"completion_tokens":2},"choices":[{"id":"x","#;
        let (facts, rest, _) = read(body, 10);
        assert_eq!(facts.usage.unwrap().output_tokens, 2);
        assert_eq!(facts.response_id.as_deref(), Some("c-1"));
        assert!(!facts.ended);
        assert_eq!(rest, body);
    }
}
