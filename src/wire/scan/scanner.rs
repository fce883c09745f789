//! What the fronts of bodies said, so that a growing history is read once.

use std::sync::Arc;

use super::reader::{Item, Reader, Stand};
use super::{RequestFacts, scan};
use crate::core::call::Operation;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::memo::Memo;
use crate::wire::route::Dialect;

/// The front of a body is recognised in steps of this many bytes.
const BLOCK: usize = 8 * 1024;
/// A block with more in it is not worth remembering.
const MAX_ITEMS: usize = 64;
/// For conversations of 128 MiB together. Of usual messages they take some 10 MiB, of the smallest
/// that are remembered some 80.
const MAX_BLOCKS: usize = 16 * 1024;

/// Scans bodies as [`scan`] does. Share one between all calls: where a body begins as one before
/// it did, that part costs one pass of a hash.
pub struct Scanner {
    seed: DigestSeed,
    block: usize,
    /// By the digest of all bytes of a body up to the end of the block.
    known: Memo<Digest, Arc<Block>>,
}

/// One block of the front of a body.
struct Block {
    /// Found before its end, and not before the end of the block before.
    items: Vec<Item>,
    /// Where reading stood then: before its end, so that nothing behind it had a say.
    stand: Stand,
}

impl Scanner {
    pub fn new(seed: DigestSeed) -> Self {
        Self::with_blocks(seed, BLOCK)
    }

    pub(in crate::wire) fn with_blocks(seed: DigestSeed, block: usize) -> Self {
        Self {
            seed,
            block,
            known: Memo::new(MAX_BLOCKS),
        }
    }

    /// The facts of `body`, taken as the request of `operation` in `dialect`.
    pub fn scan(&self, operation: Operation, dialect: Dialect, body: &[u8]) -> RequestFacts {
        if body.len() < self.block {
            return scan(operation, dialect, body, self.seed);
        }
        let fronts = self.fronts(operation, body);
        let mut reader = Reader::new(operation, body, self.seed);
        let resumed = self.resume(&fronts, &mut reader);
        match self.read_on(&mut reader, resumed) {
            None => RequestFacts::default(),
            Some(blocks) => {
                for (front, block) in fronts.iter().skip(resumed).zip(blocks) {
                    self.known.insert(spread(*front), *front, Arc::new(block));
                }
                reader.facts(dialect)
            }
        }
    }

    /// The digest of the body up to the end of each of its blocks.
    fn fronts(&self, operation: Operation, body: &[u8]) -> Vec<Digest> {
        let mut digests = self.seed.prefixes();
        digests.push(&[operation as u8]);
        body.chunks_exact(self.block)
            .map(|block| digests.push(block))
            .collect()
    }

    /// Takes up what is known; says of how many blocks.
    fn resume(&self, fronts: &[Digest], reader: &mut Reader<'_>) -> usize {
        let known = fronts
            .iter()
            .map_while(|front| self.known.get(spread(*front), front));
        let mut blocks = 0;
        for block in known {
            reader.items.extend_from_slice(&block.items);
            reader.stand = block.stand;
            blocks += 1;
        }
        blocks
    }

    /// Reads to the end; what is worth knowing of the blocks behind the first `resumed` ones. None
    /// when the body is no JSON object.
    fn read_on(&self, reader: &mut Reader<'_>, resumed: usize) -> Option<Vec<Block>> {
        let mut blocks = Vec::new();
        let mut taken = reader.items.len();
        let mut worthwhile = true;
        while !reader.is_done() {
            let (stand, found) = (reader.stand, reader.items.len());
            reader.step().ok()?;
            while worthwhile && reader.stand.at >= (resumed + blocks.len() + 1) * self.block {
                let items = reader.items.get(taken..found).unwrap_or_default().to_vec();
                worthwhile = items.len() <= MAX_ITEMS;
                taken = found;
                blocks.push(Block { items, stand });
            }
        }
        if !worthwhile {
            blocks.pop();
        }
        Some(blocks)
    }
}

fn spread(digest: Digest) -> u8 {
    digest.to_bytes()[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEED: DigestSeed = DigestSeed(7);

    /// Bodies of one conversation and of others that begin as it does, blanks and damage included.
    fn bodies() -> impl Strategy<Value = Vec<String>> {
        let value = prop_oneof![
            (0..3_000_000_u32).prop_map(|number| number.to_string()),
            "[a-z\u{e9}\u{1f600} ]{0,40}".prop_map(|text| format!("\"{text}\"")),
            "[a-z ]{0,90}".prop_map(|text| format!(r#"{{"role":"user","content":"{text}"}}"#)),
            Just("[[],{}]".to_owned()),
        ];
        let key = prop::sample::select(vec![
            "messages",
            "messages",
            "messages",
            "tools",
            "model",
            "stream",
            "stream_options",
            "max_tokens",
            "max_output_tokens",
            "metadata",
            "other",
            "mess\\u0061ges",
        ]);
        let member = (key, prop::collection::vec(value, 0..5), any::<bool>()).prop_map(
            |(key, values, list)| match values.first() {
                Some(value) if !list => format!("\"{key}\":{value}"),
                _ => format!("\"{key}\" : [ {} ]", values.join(" ,")),
            },
        );
        let whole = prop::collection::vec(member, 0..6)
            .prop_map(|members| format!("{{{}}}", members.join(",")));
        let cut = (
            any::<prop::sample::Index>(),
            prop_oneof![
                Just(String::new()),
                Just("}".to_owned()),
                Just("]}".to_owned()),
                Just("5}".to_owned()),
                Just("\"}]}".to_owned()),
                Just(",\"messages\":[{\"content\":\"more\"}]}".to_owned()),
            ],
        );
        (whole, prop::collection::vec(cut, 0..6)).prop_map(|(whole, cuts)| {
            let cuts = cuts.into_iter().map(|(at, tail)| {
                let at = whole.floor_char_boundary(at.index(whole.len() + 1));
                format!("{}{tail}", &whole[..at])
            });
            let mut bodies: Vec<String> = cuts.collect();
            bodies.push(whole.clone());
            bodies.push(whole);
            bodies
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn what_was_read_before_changes_nothing(bodies in bodies(), block in 1..24_usize) {
            let scanner = Scanner::with_blocks(SEED, block);
            for body in bodies {
                for (operation, dialect) in [
                    (Operation::Chat, Dialect::Chat),
                    (Operation::Chat, Dialect::Ollama),
                    (Operation::Responses, Dialect::Responses),
                ] {
                    let expected = scan(operation, dialect, body.as_bytes(), SEED);
                    let found = scanner.scan(operation, dialect, body.as_bytes());
                    prop_assert_eq!(found, expected, "{}", body);
                }
            }
        }
    }

    #[test]
    fn only_what_is_new_is_read() {
        let message = r#"{"role":"user","content":"0123456789"}"#;
        let history = |count: usize| {
            format!(
                r#"{{"model":"m","messages":[{}]}}"#,
                vec![message; count].join(",")
            )
        };
        let scanner = Scanner::with_blocks(SEED, 256);
        scanner.scan(Operation::Chat, Dialect::Chat, history(100).as_bytes());
        let grown = history(101);
        let mut reader = Reader::new(Operation::Chat, grown.as_bytes(), SEED);
        let fronts = scanner.fronts(Operation::Chat, grown.as_bytes());
        scanner.resume(&fronts, &mut reader);
        let left = grown.len() - reader.stand.at;
        assert!(
            left < 256 + 3 * message.len(),
            "{left} bytes are read again"
        );
    }

    #[test]
    fn what_a_body_can_make_us_hold_is_bounded() {
        let elements =
            |count: usize| format!(r#"{{"model":"m","messages":[{}1]}}"#, "1,".repeat(count));
        let scanner = Scanner::new(SEED);
        for scan in [
            &|body: &str| scan(Operation::Chat, Dialect::Chat, body.as_bytes(), SEED),
            &|body: &str| scanner.scan(Operation::Chat, Dialect::Chat, body.as_bytes()),
        ] as [&dyn Fn(&str) -> RequestFacts; 2]
        {
            assert!(scan(&elements(60_000)).readable);
            assert_eq!(scan(&elements(70_000)), RequestFacts::default());
        }
    }

    #[test]
    fn crowded_blocks_are_not_remembered() {
        let body = format!(r#"{{"messages":[{}1]}}"#, "1,".repeat(4 * BLOCK));
        let scanner = Scanner::new(SEED);
        for _ in 0..2 {
            let facts = scanner.scan(Operation::Chat, Dialect::Chat, body.as_bytes());
            assert_eq!(facts.segments.len(), 4 * BLOCK + 1);
        }
        assert!(scanner.known.is_empty());
    }
}
