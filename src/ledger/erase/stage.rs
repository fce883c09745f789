//! Segments are written anew beside those there are, and put in their places once all of them and
//! the record that says so are on disk.
//!
//! That record lies in a segment of its own, which is staged first and becomes a segment first: as long
//! as it is staged nothing happened; from then on the rest only has to get its names.

use std::io;

use super::super::index::Place;
use super::super::log::{Cursor, LogReader, Segment, Step};
use super::super::record::{Chain, FRAME_LEN, Frames, HEADER_LEN, Header, kind};
use super::super::removal::{Erased, Removal, Removed, Tombstone};
use super::super::storage::{SegmentFile, Storage};
use super::plan::Plan;
use super::rules::{Judge, Verdict};

/// What of one segment goes.
pub(super) struct Edits {
    pub(super) segment: Segment,
    pub(super) graves: Vec<Grave>,
    pub(super) contents: u64,
    /// What cannot be read, and stays.
    pub(super) unreadable: u64,
    /// Where what is part of the log ends.
    left: u64,
}

/// A record that goes, and what stands in its place.
pub(super) struct Grave {
    at: u64,
    len: u64,
    chain: Chain,
    tombstone: Tombstone,
}

impl Edits {
    fn of(segment: Segment) -> Self {
        Self {
            segment,
            graves: Vec::new(),
            contents: 0,
            unreadable: 0,
            left: HEADER_LEN as u64,
        }
    }

    fn is_empty(&self) -> bool {
        self.graves.is_empty() && self.left >= self.segment.len
    }

    /// By how much the segment gets smaller, about.
    pub(super) fn freed(&self) -> u64 {
        let before: u64 = self.graves.iter().map(|it| it.len).sum();
        let payload = |it: &Grave| it.tombstone.to_bytes().len();
        let after = |it: &Grave| (FRAME_LEN + payload(it) + Erased::ENTRY) as u64;
        let after: u64 = self.graves.iter().map(after).sum();
        before.saturating_sub(after) + self.segment.len.saturating_sub(self.left)
    }
}

/// Goes through the log and hands over, segment by segment, what has to be changed.
pub(super) fn each_edited<E: From<io::Error>>(
    (storage, segments): (&dyn Storage, &[Segment]),
    plan: &Plan,
    mut take: impl FnMut(Edits) -> Result<(), E>,
) -> Result<(), E> {
    let Some(first) = segments.first() else {
        return Ok(());
    };
    let mut judge = Judge::of(plan);
    let mut reader = LogReader::from_start(storage, segments);
    let mut edits = Edits::of(*first);
    loop {
        let before = reader.cursor();
        let Some(step) = reader.next()? else { break };
        match step {
            Step::Entered(segment) => {
                let done = std::mem::replace(&mut edits, Edits::of(segment));
                if !done.is_empty() || done.unreadable > 0 {
                    take(done)?;
                }
                continue;
            }
            Step::Damage(damage) => edits.unreadable += damage.bytes,
            Step::Record { kind, payload, .. } => {
                if let Verdict::Goes(residue) = judge.judge(kind, payload)? {
                    let tombstone = Tombstone::of(kind, payload.len(), before.chain, residue);
                    let behind = reader.cursor();
                    edits.contents += u64::from(kind == kind::CONTENT);
                    edits.graves.push(Grave {
                        at: before.position.offset,
                        len: behind.position.offset - before.position.offset,
                        chain: behind.chain,
                        tombstone,
                    });
                }
            }
        }
        edits.left = reader.cursor().position.offset;
    }
    if !edits.is_empty() || edits.unreadable > 0 {
        take(edits)?;
    }
    Ok(())
}

/// What is written of a deletion before it happens.
pub(super) struct Staging<'s> {
    storage: &'s dyn Storage,
    /// The segment with the record of it.
    number: u64,
    file: Box<dyn SegmentFile>,
    frames: Frames,
    removal: Removal,
}

impl<'s> Staging<'s> {
    /// Begins the segment `header.number`; each of its records is like `removal`, of which nothing
    /// goes so far.
    pub(super) fn begin(
        storage: &'s dyn Storage,
        header: Header,
        removal: Removal,
    ) -> io::Result<Self> {
        let file = storage.stage(header.number)?;
        // On disk before anything else is staged: what is without it happened.
        storage.sync_dir()?;
        let mut frames = Frames {
            bytes: header.to_bytes(),
            chain: header.continues,
            records: 0,
        };
        frames.push_begun(header.created_at, header.seed);
        Ok(Self {
            storage,
            number: header.number,
            file,
            frames,
            removal,
        })
    }

    pub(super) fn segment(&mut self, edits: &Edits) -> io::Result<()> {
        let number = edits.segment.number;
        if edits.is_empty() {
            return Ok(());
        }
        let mut bytes = vec![0; usize::try_from(edits.left).map_err(io::Error::other)?];
        let filled = self.storage.open(number)?.read_at(0, &mut bytes)?;
        bytes.truncate(filled);
        let mut file = self.storage.stage(number)?;
        file.append(&rewritten(&bytes, &edits.graves))?;
        file.sync()?;
        let mut erased = Erased::of(number);
        for grave in &edits.graves {
            erased.add(grave.chain, &grave.tombstone);
            if erased.is_full() {
                self.list(std::mem::replace(&mut erased, Erased::of(number)))?;
            }
        }
        if erased.is_empty() {
            return Ok(());
        }
        self.list(erased)
    }

    fn list(&mut self, erased: Erased) -> io::Result<()> {
        let segments = vec![erased];
        let removal = Removal {
            what: Removed::Records { segments },
            ..self.removal.clone()
        };
        self.frames.push(kind::REMOVAL, &removal);
        self.write()
    }

    /// What each of its records says.
    pub(super) fn removal(&self) -> &Removal {
        &self.removal
    }

    /// Something that must outlast what goes.
    pub(super) fn record(&mut self, kind: u8, record: &impl minicbor::Encode<()>) {
        self.frames.push(kind, record);
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.append(&self.frames.bytes)?;
        self.frames.bytes.clear();
        Ok(())
    }

    /// All of it is on disk from here on. Says where the log will end.
    pub(super) fn finish(mut self) -> io::Result<Cursor> {
        self.write()?;
        self.file.sync()?;
        self.storage.sync_dir()?;
        let end = Segment {
            number: self.number,
            len: self.file.len()?,
            header: None,
        };
        Ok(Cursor {
            position: end.end(),
            chain: self.frames.chain,
        })
    }
}

fn rewritten(bytes: &[u8], graves: &[Grave]) -> Vec<u8> {
    let part = |from: u64, to: u64| {
        let range = usize::try_from(from).ok()..usize::try_from(to).ok();
        let range = range.start.zip(range.end);
        range.and_then(|(from, to)| bytes.get(from..to))
    };
    let mut frames = Frames::default();
    let mut from = 0;
    for grave in graves {
        let kept = part(from, grave.at).unwrap_or_default();
        frames.bytes.extend_from_slice(kept);
        frames.push_tombstone(grave.chain, &grave.tombstone.to_bytes());
        from = grave.at + grave.len;
    }
    let rest = part(from, bytes.len() as u64).unwrap_or_default();
    frames.bytes.extend_from_slice(rest);
    frames.bytes
}

/// Nothing that is staged happens.
pub(super) fn discard(storage: &dyn Storage, staged: &[u64]) -> io::Result<()> {
    let Some((record, rest)) = staged.split_last() else {
        return Ok(());
    };
    for number in rest {
        storage.remove_staged(*number)?;
    }
    // Were the record gone first, the rest would be taken for what is to be finished.
    storage.sync_dir()?;
    storage.remove_staged(*record)?;
    storage.sync_dir()
}

/// The segment with the record of a deletion comes to be one: from here on it happens.
pub(super) fn commit(storage: &dyn Storage, number: u64) -> io::Result<()> {
    storage.put_staged(number)?;
    storage.sync_dir()
}

/// What is staged takes its place. It can be done again.
pub(super) fn carry_out(storage: &dyn Storage, place: &Place) -> io::Result<()> {
    // It may be the one before that put the record there, and ended.
    storage.sync_dir()?;
    // It knows where records lay, and its free pages still hold what was in them: it is made anew.
    place.clear()?;
    for number in storage.list_staged()? {
        storage.put_staged(number)?;
    }
    storage.sync_dir()
}
