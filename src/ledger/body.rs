//! Bodies: from captured bytes to what is stored, and back.
//!
//! A message is stored once, as a content under its digest; a body is a list of parts that rebuilds
//! it byte for byte. Long lists are themselves cut into groups that are stored once, so that a
//! growing history costs what is new in it.

use std::ops::Range;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use zstd::bulk::Compressor;

use crate::core::call::{Part, StoredBody};
use crate::core::digest::{Digest, DigestSeed};
use crate::core::redaction::{Redaction, Rule};

use super::record::{Content, Frames, kind};

/// Bytes of a body as they went over the wire.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    /// The bytes that were kept: all of them, or the first part.
    pub chunks: Vec<Bytes>,
    /// Length on the wire.
    pub len: u64,
    /// Messages in the concatenation of `chunks`, each with its digest.
    pub segments: Vec<(Range<usize>, Digest)>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// It ended before it was whole: what its end says may go on.
    pub is_broken: bool,
}

impl Capture {
    /// Bytes it holds in memory, roughly.
    pub(crate) fn size(&self) -> usize {
        let segments = self.segments.len() * size_of::<(Range<usize>, Digest)>();
        self.chunks.iter().map(Bytes::len).sum::<usize>() + segments
    }

    /// Drops what lies behind the first `most` bytes. An encoded body stays whole: to be looked
    /// into it must be decoded first.
    pub(crate) fn cut(&mut self, most: usize) {
        if self.content_encoding.as_deref().is_some_and(is_encoded) {
            return;
        }
        let mut left = most;
        self.chunks.retain_mut(|chunk| {
            chunk.truncate(left);
            left -= chunk.len();
            !chunk.is_empty()
        });
        self.segments.retain(|(range, _)| range.end <= most);
    }

    fn into_bytes(chunks: Vec<Bytes>) -> Bytes {
        match <[Bytes; 1]>::try_from(chunks) {
            Ok([chunk]) => chunk,
            Err(chunks) => chunks.concat().into(),
        }
    }
}

/// Undoes a content encoding: its name, the bytes, and the most bytes that may come out.
pub type Decode = fn(&str, &[u8], usize) -> Option<Vec<u8>>;

/// Shorter messages are kept in place: a reference costs about as much.
const MIN_CONTENT: usize = 128;
/// Shorter bytes are not compressed: building the tables for them costs more than they are worth.
const MIN_COMPRESSED: usize = 1024;
/// Contents that were redacted in another manner are stored anew.
const MANNER: u8 = 2;
/// Parts in a group.
const GROUP: usize = 32;
const LEVEL: i32 = 1;

/// What the writer needs to store bodies.
pub(crate) struct Bodies {
    pub(crate) known: KnownContents,
    compressor: Option<Compressor<'static>>,
    pub(super) redact: Redaction,
    /// Distinguishes contents stored under these redaction rules from others.
    rules: Digest,
    decode: Decode,
    max_body_bytes: usize,
    seed: DigestSeed,
}

impl Bodies {
    pub(crate) fn new(
        redact: &Redaction,
        max_body_bytes: usize,
        decode: Decode,
        seed: DigestSeed,
    ) -> Self {
        let mut rules = vec![MANNER];
        for Rule {
            pattern,
            replacement,
        } in redact.rules()
        {
            for text in [pattern.as_str(), replacement] {
                rules.extend_from_slice(text.as_bytes());
                rules.push(0);
            }
        }
        Self {
            known: KnownContents::default(),
            compressor: Compressor::new(LEVEL).ok(),
            redact: redact.clone(),
            rules: seed.digest(&rules),
            decode,
            max_body_bytes,
            seed,
        }
    }

    /// Stores a body: its new contents go into `frames`, the record that will refer to them must
    /// follow. None when it may not be stored, as redaction could not look into it.
    pub(crate) fn store(
        &mut self,
        capture: Capture,
        segment: u64,
        frames: &mut Frames,
    ) -> Option<StoredBody> {
        let Capture {
            chunks,
            len,
            mut segments,
            content_type,
            mut content_encoding,
            is_broken,
        } = capture;
        let mut bytes = Capture::into_bytes(chunks);
        let mut changed = false;
        let mut truncated = (bytes.len() as u64) < len;
        if !self.redact.is_empty()
            && let Some(encoding) = content_encoding.take_if(|encoding| is_encoded(encoding))
        {
            bytes = (self.decode)(&encoding, &bytes, self.max_body_bytes)?.into();
            segments.clear();
            changed = true;
        }
        if bytes.len() > self.max_body_bytes {
            bytes.truncate(self.max_body_bytes);
            truncated = true;
        }
        // Of what was cut off rules take the end, too.
        let is_cut = (truncated || is_broken) && !self.redact.is_empty();
        truncated |= is_cut;
        let is_stream = segments.is_empty() && is_stream(content_type.as_deref(), &bytes);
        let redacted = match (is_stream, is_cut) {
            (false, _) => None,
            (true, false) => self.redact.stream(&bytes),
            (true, true) => Some(self.redact.front_of_stream(&bytes)),
        };
        if let Some(redacted) = redacted {
            bytes = redacted.into();
            changed = true;
        }
        let mut storing = Storing {
            is_cut: is_cut && !is_stream,
            bodies: self,
            frames,
            segment,
            parts: Vec::new(),
            changed,
        };
        storing.body(&bytes, segments);
        let (parts, changed) = (storing.parts, storing.changed);
        let parts = self.group(parts, segment, frames);
        Some(StoredBody {
            len,
            parts,
            content_type,
            content_encoding,
            changed,
            truncated,
        })
    }

    /// Replaces each full stretch of parts by a reference to a content that holds them.
    fn group(&mut self, parts: Vec<Part>, segment: u64, frames: &mut Frames) -> Vec<Part> {
        if parts.len() < 2 * GROUP {
            return parts;
        }
        let (whole, rest) = parts.as_chunks::<GROUP>();
        let mut grouped = Vec::with_capacity(whole.len() + rest.len());
        for group in whole {
            let Ok(encoded) = minicbor::to_vec(group.as_slice()) else {
                return parts;
            };
            let digest = self.seed.digest(&encoded);
            self.content(digest, false, &encoded, segment, frames);
            grouped.push(Part::Group(digest));
        }
        grouped.extend_from_slice(rest);
        grouped
    }

    /// Writes a content unless a good copy is stored.
    fn content(
        &mut self,
        digest: Digest,
        redacted: bool,
        bytes: &[u8],
        segment: u64,
        frames: &mut Frames,
    ) {
        if self.known.get(digest).is_some() {
            return;
        }
        let packed = self.compress(bytes);
        let record = Content {
            digest,
            redacted,
            unpacked_len: packed
                .as_ref()
                .map(|_| u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            bytes: packed.as_deref().unwrap_or(bytes),
        };
        frames.push(kind::CONTENT, &record);
        self.known.put(digest, Known { segment, redacted });
    }

    /// Compressed bytes, when that pays.
    fn compress(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if bytes.len() <= MIN_COMPRESSED || u32::try_from(bytes.len()).is_err() {
            return None;
        }
        let packed = self.compressor.as_mut()?.compress(bytes).ok()?;
        (packed.len() < bytes.len()).then_some(packed)
    }

    /// What a content is stored under: its digest, or with redaction one that says by what rules.
    fn stored_digest(&self, digest: Digest) -> Digest {
        if self.redact.is_empty() {
            return digest;
        }
        self.seed
            .digest([digest.to_bytes(), self.rules.to_bytes()].as_flattened())
    }
}

/// Whether a text of it may be spread over many events.
fn is_stream(content_type: Option<&str>, bytes: &[u8]) -> bool {
    let kind = content_type.unwrap_or_default().to_ascii_lowercase();
    let is_lines = ["event-stream", "ndjson", "jsonl"]
        .iter()
        .any(|it| kind.contains(it));
    is_lines || bytes.first() == Some(&b'[')
}

fn is_encoded(encoding: &str) -> bool {
    !encoding.trim().is_empty() && !encoding.trim().eq_ignore_ascii_case("identity")
}

/// One body on its way into parts.
struct Storing<'a> {
    bodies: &'a mut Bodies,
    frames: &'a mut Frames,
    segment: u64,
    parts: Vec<Part>,
    changed: bool,
    /// Its end is missing, and what rules would match there.
    is_cut: bool,
}

impl Storing<'_> {
    fn body(&mut self, bytes: &[u8], mut segments: Vec<(Range<usize>, Digest)>) {
        segments.sort_unstable_by_key(|(range, _)| range.start);
        let mut from = 0;
        for (range, digest) in segments {
            let Some(message) = bytes.get(range.clone()) else {
                continue;
            };
            if range.start < from || message.len() < MIN_CONTENT {
                continue;
            }
            self.literal(bytes.get(from..range.start).unwrap_or_default(), false);
            self.message(message, digest);
            from = range.end;
        }
        let is_cut = self.is_cut;
        self.literal(bytes.get(from..).unwrap_or_default(), is_cut);
    }

    fn message(&mut self, message: &[u8], digest: Digest) {
        let digest = self.bodies.stored_digest(digest);
        let redacted = if let Some(known) = self.bodies.known.get(digest) {
            known.redacted
        } else {
            let redacted = self.bodies.redact.json(message);
            let kept = redacted.as_deref().unwrap_or(message);
            self.bodies
                .content(digest, redacted.is_some(), kept, self.segment, self.frames);
            redacted.is_some()
        };
        self.changed |= redacted;
        self.parts.push(Part::Content(digest));
    }

    fn literal(&mut self, bytes: &[u8], is_cut: bool) {
        let redacted = if is_cut {
            Some(self.bodies.redact.front_of_json(bytes))
        } else {
            self.bodies.redact.json(bytes)
        };
        self.changed |= redacted.is_some();
        let kept = redacted.as_deref().unwrap_or(bytes);
        if kept.is_empty() {
            return;
        }
        self.parts.push(match self.bodies.compress(kept) {
            Some(packed) => Part::Compressed(u32::try_from(kept.len()).unwrap_or(u32::MAX), packed),
            None => Part::Literal(kept.to_vec()),
        });
    }
}

/// Where a content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) segment: u64,
    pub(crate) redacted: bool,
}

/// Which contents are stored, as far as remembered: the more recently seen half of up to twice
/// [`KnownContents::GENERATION`]. What is forgotten is stored once more when it is seen again.
#[derive(Debug, Default)]
pub(crate) struct KnownContents {
    young: FxHashMap<Digest, Known>,
    old: FxHashMap<Digest, Known>,
    /// Copies in segments before this one are near their end: they count as not stored.
    fading_before: u64,
}

impl KnownContents {
    const GENERATION: usize = 128 * 1024;
    /// How many are worth loading at start.
    pub(crate) const LOADED: usize = Self::GENERATION;

    fn get(&mut self, digest: Digest) -> Option<Known> {
        let known = if let Some(known) = self.young.get(&digest) {
            *known
        } else {
            let known = self.old.remove(&digest)?;
            self.put(digest, known);
            known
        };
        (known.segment >= self.fading_before).then_some(known)
    }

    pub(crate) fn put(&mut self, digest: Digest, known: Known) {
        if self.young.len() >= Self::GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, known);
    }

    pub(crate) fn fade_before(&mut self, segment: u64) {
        self.fading_before = self.fading_before.max(segment);
    }

    /// The copies in this segment are not to be relied on.
    pub(crate) fn forget(&mut self, segment: u64) {
        self.young.retain(|_, known| known.segment != segment);
        self.old.retain(|_, known| known.segment != segment);
    }
}

/// Looks up a stored content's bytes.
pub(crate) type Lookup<'a, E> = dyn FnMut(Digest) -> Result<Option<Vec<u8>>, E> + 'a;

/// What came of rebuilding a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rebuilt {
    pub(crate) bytes: Vec<u8>,
    /// A part is no longer stored.
    pub(crate) incomplete: bool,
}

/// Puts the parts of a body together again.
pub(crate) fn rebuild<E>(parts: &[Part], lookup: &mut Lookup<'_, E>) -> Result<Rebuilt, E> {
    let mut rebuilt = Rebuilt::default();
    add_parts(parts, true, lookup, &mut rebuilt)?;
    Ok(rebuilt)
}

fn add_parts<E>(
    parts: &[Part],
    groups: bool,
    lookup: &mut Lookup<'_, E>,
    rebuilt: &mut Rebuilt,
) -> Result<(), E> {
    for part in parts {
        let bytes = match part {
            Part::Literal(bytes) => Some(bytes.clone()),
            Part::Compressed(len, packed) => unpack(packed, *len),
            Part::Content(digest) => lookup(*digest)?,
            Part::Group(digest) if groups => {
                let encoded = lookup(*digest)?;
                match encoded.and_then(|encoded| minicbor::decode::<Vec<Part>>(&encoded).ok()) {
                    Some(parts) => add_parts(&parts, false, lookup, rebuilt)?,
                    None => rebuilt.incomplete = true,
                }
                continue;
            }
            Part::Group(_) => None,
        };
        match bytes {
            Some(bytes) => rebuilt.bytes.extend_from_slice(&bytes),
            None => rebuilt.incomplete = true,
        }
    }
    Ok(())
}

/// The bytes of a content record.
pub(crate) fn unpack_content(content: &Content<'_>) -> Option<Vec<u8>> {
    match content.unpacked_len {
        None => Some(content.bytes.to_vec()),
        Some(len) => unpack(content.bytes, len),
    }
}

pub(crate) fn unpack(packed: &[u8], len: u32) -> Option<Vec<u8>> {
    let len = usize::try_from(len).ok()?;
    zstd::bulk::decompress(packed, len)
        .ok()
        .filter(|bytes| bytes.len() == len)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::super::record::parse_frame;
    use super::*;

    const SEED: DigestSeed = DigestSeed(7);

    fn bodies(max_body_bytes: usize) -> Bodies {
        Bodies::new(&Redaction::default(), max_body_bytes, |_, _, _| None, SEED)
    }

    /// The contents that were written.
    fn contents(frames: &Frames) -> HashMap<Digest, Vec<u8>> {
        let mut found = HashMap::new();
        let mut rest = frames.bytes.as_slice();
        while let Some(frame) = parse_frame(rest) {
            let content: Content<'_> = minicbor::decode(frame.payload).unwrap();
            let twice = found.insert(content.digest, unpack_content(&content).unwrap());
            assert_eq!(twice, None, "stored twice");
            rest = &rest[frame.len()..];
        }
        assert!(rest.is_empty());
        found
    }

    /// Texts of which some come again, cut at points that may overlap or lie outside.
    fn body() -> impl Strategy<Value = (Vec<u8>, Vec<Range<usize>>)> {
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            (any::<u8>(), 0..600_usize).prop_map(|(byte, len)| vec![byte; len]),
            (0..6_u8, 100..250_u8)
                .prop_map(|(step, len)| (0..len).map(|at| at.wrapping_mul(step)).collect()),
        ];
        let pieces = prop::collection::vec((piece, any::<bool>()), 0..90);
        let stray = prop::collection::vec((0..4000_usize, 0..400_usize), 0..4);
        (pieces, stray).prop_map(|(pieces, stray)| {
            let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
            for (piece, is_message) in pieces {
                let start = bytes.len();
                bytes.extend(piece);
                if is_message {
                    ranges.push(start..bytes.len());
                }
            }
            ranges.extend(stray.into_iter().map(|(start, len)| start..start + len));
            (bytes, ranges)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn stored_bodies_are_rebuilt_byte_for_byte(
            bodies_in in prop::collection::vec(body(), 1..4),
            max in prop_oneof![Just(usize::MAX), 0..3000_usize],
            cuts in prop::collection::vec(0..2000_usize, 0..3),
        ) {
            let mut store = bodies(max);
            let mut frames = Frames::default();
            let mut stored = Vec::new();
            for (bytes, ranges) in bodies_in {
                let digest = |range: Range<usize>| {
                    let digest = SEED.digest(bytes.get(range.clone()).unwrap_or_default());
                    (range, digest)
                };
                let mut chunks = Vec::new();
                let mut rest = Bytes::from(bytes.clone());
                for cut in &cuts {
                    chunks.push(rest.split_to((*cut).min(rest.len())));
                }
                chunks.push(rest);
                let capture = Capture {
                    chunks,
                    len: bytes.len() as u64,
                    segments: ranges.into_iter().map(digest).collect(),
                    ..Capture::default()
                };
                stored.push((bytes, store.store(capture, 1, &mut frames).unwrap()));
            }
            let contents = contents(&frames);
            for (bytes, stored) in stored {
                let kept = &bytes[..bytes.len().min(max)];
                let rebuilt = rebuild(&stored.parts, &mut |digest| {
                    Ok::<_, Infallible>(contents.get(&digest).cloned())
                });
                let Ok(rebuilt) = rebuilt;
                prop_assert_eq!(rebuilt, Rebuilt { bytes: kept.to_vec(), incomplete: false });
                prop_assert_eq!(stored.truncated, kept.len() < bytes.len());
                prop_assert_eq!(stored.len, bytes.len() as u64);
                prop_assert!(!stored.changed);
            }
        }
    }

    #[test]
    fn missing_content_leaves_the_rest_and_says_so() {
        let parts = [
            Part::Literal(b"a".to_vec()),
            Part::Content(SEED.digest(b"gone")),
            Part::Literal(b"b".to_vec()),
        ];
        let Ok(rebuilt) = rebuild(&parts, &mut |_| Ok::<_, Infallible>(None));
        assert_eq!(
            rebuilt,
            Rebuilt {
                bytes: b"ab".to_vec(),
                incomplete: true
            }
        );
    }

    #[test]
    fn forgotten_contents_are_stored_again() {
        let mut known = KnownContents::default();
        let digest = |number: usize| SEED.digest(&number.to_le_bytes());
        let at = Known {
            segment: 3,
            redacted: false,
        };
        known.put(digest(0), at);
        for number in 1..KnownContents::GENERATION {
            known.put(digest(number), at);
        }
        known.put(digest(KnownContents::GENERATION), at);
        assert_eq!(known.get(digest(0)), Some(at), "in the older half");
        for number in 0..2 * KnownContents::GENERATION {
            known.put(digest(number + 1_000_000), at);
        }
        assert_eq!(known.get(digest(0)), None);
        assert!(known.young.len() + known.old.len() <= 2 * KnownContents::GENERATION);
        known.fade_before(4);
        assert_eq!(known.get(digest(1_000_000)), None);
    }
}
