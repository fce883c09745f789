//! Reading the log: the records from one point to another, in order, across segments.
//!
//! A reader leaves a segment where the next one says it goes on from. What cannot be read is
//! reported as [`Damage`] and skipped: reading resumes at the next frame whose checksum holds.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::record::{
    BadHeader, Chain, FRAME_LEN, HEADER_LEN, Header, MARK, Position, frame_len, kind, may_leave,
    parse_frame,
};
use super::storage::{SegmentFile, Storage};

/// What is known of one segment file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) len: u64,
    /// None when it cannot be read: then only the file's name tells its place.
    pub(crate) header: Option<Header>,
}

impl Segment {
    /// Where its first record begins.
    pub(crate) fn start(&self) -> Position {
        Position {
            segment: self.number,
            offset: HEADER_LEN as u64,
        }
    }

    pub(crate) fn end(&self) -> Position {
        Position {
            segment: self.number,
            offset: self.len,
        }
    }

    /// The chain hash it goes on from, if its header says so.
    pub(crate) fn continues(&self) -> Option<Chain> {
        self.header.map(|header| header.continues)
    }
}

/// The segments there are, shared by all who read or write them.
#[derive(Debug, Default)]
pub(crate) struct Catalog(Mutex<BTreeMap<u64, Segment>>);

impl Catalog {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Segment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<Segment> {
        self.lock().values().copied().collect()
    }

    /// Adds a segment, or replaces what is known of it.
    pub(crate) fn put(&self, segment: Segment) {
        self.lock().insert(segment.number, segment);
    }

    pub(crate) fn remove(&self, number: u64) {
        self.lock().remove(&number);
    }

    pub(crate) fn first(&self) -> Option<Segment> {
        self.lock().values().next().copied()
    }

    pub(crate) fn last(&self) -> Option<Segment> {
        self.lock().values().next_back().copied()
    }

    /// How many segments there are and their bytes.
    pub(crate) fn size(&self) -> (usize, u64) {
        let segments = self.lock();
        (
            segments.len(),
            segments.values().map(|segment| segment.len).sum(),
        )
    }
}

/// Why the catalog of a directory could not be made.
#[derive(Debug)]
pub(crate) enum CatalogError {
    Io(u64, io::Error),
    Newer(u64, u16),
}

/// Looks at the head of every segment file.
pub(crate) fn catalog(storage: &dyn Storage) -> Result<Catalog, CatalogError> {
    let catalog = Catalog::default();
    for number in storage.list().map_err(|error| CatalogError::Io(0, error))? {
        let read = || -> io::Result<(u64, Vec<u8>)> {
            let mut file = storage.open(number)?;
            let mut head = vec![0; HEADER_LEN];
            let filled = file.read_at(0, &mut head)?;
            head.truncate(filled);
            Ok((file.len()?, head))
        };
        let (len, head) = read().map_err(|error| CatalogError::Io(number, error))?;
        let header = match Header::parse(&head) {
            Ok(header) => (header.number == number).then_some(header),
            Err(BadHeader::Damaged) => None,
            Err(BadHeader::Newer(version)) => return Err(CatalogError::Newer(number, version)),
        };
        catalog.put(Segment {
            number,
            len,
            header,
        });
    }
    Ok(catalog)
}

/// A stretch of a segment that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    pub at: Position,
    pub bytes: u64,
}

/// A point in the log and the hash of what lies before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) position: Position,
    pub(crate) chain: Chain,
}

/// One step of a [`LogReader`].
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Record {
        at: Position,
        kind: u8,
        payload: &'a [u8],
    },
    /// The reader has left a segment and stands at the start of this one.
    Entered(Segment),
    Damage(Damage),
}

/// What the next step is, decided before anything is lent out.
enum Next {
    Record(Ahead),
    Enter(Segment),
    Damage(u64),
    End,
}

/// A record in the window that was found good.
struct Ahead {
    kind: u8,
    chain: Chain,
    /// Of its frame.
    len: usize,
}

/// Reads records in order; see the module's head.
pub(crate) struct LogReader<'a> {
    storage: &'a dyn Storage,
    /// Those still ahead, the one being read first.
    segments: std::collections::VecDeque<Segment>,
    cursor: Cursor,
    end: Position,
    window: Option<Window>,
    /// After damage the next record's place in the chain cannot be checked.
    unchecked: bool,
}

impl<'a> LogReader<'a> {
    /// A reader from `from` (which must be the border of a record) to `end`.
    pub(crate) fn new(
        storage: &'a dyn Storage,
        segments: &[Segment],
        from: Cursor,
        end: Position,
    ) -> Self {
        let ahead = |segment: &&Segment| {
            segment.number >= from.position.segment && segment.number <= end.segment
        };
        let segments: std::collections::VecDeque<_> =
            segments.iter().filter(ahead).copied().collect();
        let unchecked = from.position.offset <= HEADER_LEN as u64
            && segments.front().is_some_and(|first| first.header.is_none());
        Self {
            storage,
            segments,
            cursor: from,
            end,
            window: None,
            unchecked,
        }
    }

    /// A reader over all there is.
    pub(crate) fn from_start(storage: &'a dyn Storage, segments: &[Segment]) -> Self {
        let first = segments.first();
        let from = Cursor {
            position: first.map(Segment::start).unwrap_or_default(),
            chain: first.and_then(Segment::continues).unwrap_or_default(),
        };
        let end = segments.last().map(Segment::end).unwrap_or_default();
        Self::new(storage, segments, from, end)
    }

    /// Behind the last record that was read.
    pub(crate) fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next step; none at the end, or where nothing readable follows in the last segment.
    pub(crate) fn next(&mut self) -> io::Result<Option<Step<'_>>> {
        let at = self.cursor.position;
        match self.decide()? {
            Next::End => Ok(None),
            Next::Enter(segment) => {
                self.enter(segment);
                Ok(Some(Step::Entered(segment)))
            }
            Next::Damage(bytes) => {
                self.cursor.position.offset += bytes;
                self.unchecked = true;
                Ok(Some(Step::Damage(Damage { at, bytes })))
            }
            Next::Record(Ahead { kind, chain, len }) => {
                self.unchecked = false;
                self.cursor.chain = chain;
                self.cursor.position.offset += len as u64;
                let bytes = self.window.as_ref().map(|window| window.from(at.offset));
                let payload = bytes.and_then(|bytes| bytes.get(FRAME_LEN..len));
                Ok(payload.map(|payload| {
                    let (kind, payload) = what_is_left(kind, payload);
                    Step::Record { at, kind, payload }
                }))
            }
        }
    }

    fn decide(&mut self) -> io::Result<Next> {
        let Some(current) = self.segments.front().copied() else {
            return Ok(Next::End);
        };
        let here = self.cursor.position;
        if current.number > here.segment || here.offset < HEADER_LEN as u64 {
            return Ok(Next::Enter(current));
        }
        let following = self.segments.get(1).copied();
        if let Some(next) = following
            && next.continues() == Some(self.cursor.chain)
            && !self.unchecked
        {
            return Ok(Next::Enter(next));
        }
        let limit = if current.number == self.end.segment {
            self.end.offset
        } else {
            current.len
        };
        if let Some(ahead) = self.record_ahead(limit)? {
            return Ok(Next::Record(ahead));
        }
        let here = self.cursor.position.offset;
        let found = if here < limit {
            self.resync(limit)?
        } else {
            None
        };
        match (found, following) {
            (Some(found), _) => Ok(Next::Damage(found - here)),
            (None, Some(_)) if here < limit => Ok(Next::Damage(limit - here)),
            (None, Some(next)) => Ok(Next::Enter(next)),
            (None, None) => Ok(Next::End),
        }
    }

    fn enter(&mut self, segment: Segment) {
        while self
            .segments
            .front()
            .is_some_and(|front| front.number < segment.number)
        {
            self.segments.pop_front();
        }
        self.cursor.position = segment.start();
        self.unchecked = segment.header.is_none();
        self.cursor.chain = segment.continues().unwrap_or(self.cursor.chain);
        self.window = None;
    }

    /// The valid record that belongs here and begins at the cursor, if there is one.
    fn record_ahead(&mut self, limit: u64) -> io::Result<Option<Ahead>> {
        let (offset, chain, unchecked) = (
            self.cursor.position.offset,
            self.cursor.chain,
            self.unchecked,
        );
        let window = self.window()?;
        if !window.load(offset, FRAME_LEN, limit)? {
            return Ok(None);
        }
        let Some(len) = frame_len(window.from(offset)) else {
            return Ok(None);
        };
        if !window.load(offset, len, limit)? {
            return Ok(None);
        }
        let frame = parse_frame(window.from(offset));
        let frame = frame.filter(|frame| unchecked || frame.follows(chain));
        Ok(frame.map(|frame| Ahead {
            kind: frame.kind,
            chain: frame.chain,
            len: frame.len(),
        }))
    }

    /// The offset of the next frame whose checksum holds.
    fn resync(&mut self, limit: u64) -> io::Result<Option<u64>> {
        let mut offset = self.cursor.position.offset + 1;
        let window = self.window()?;
        while window.load(offset, FRAME_LEN, limit)? {
            let Some(skipped) = memchr::memmem::find(window.from(offset), &MARK) else {
                offset = window.end().saturating_sub(1).max(offset + 1);
                continue;
            };
            offset += skipped as u64;
            let len = if window.load(offset, FRAME_LEN, limit)? {
                frame_len(window.from(offset))
            } else {
                None
            };
            if let Some(len) = len
                && window.load(offset, len, limit)?
                && parse_frame(window.from(offset)).is_some()
            {
                return Ok(Some(offset));
            }
            offset += 1;
        }
        Ok(None)
    }

    fn window(&mut self) -> io::Result<&mut Window> {
        let window = match self.window.take() {
            Some(window) => window,
            None => Window::new(
                self.storage.open(self.cursor.position.segment)?,
                Window::AHEAD,
            ),
        };
        Ok(self.window.insert(window))
    }
}

/// A part of a file in memory, moved along as reading goes on.
pub(crate) struct Window {
    file: Box<dyn SegmentFile>,
    start: u64,
    bytes: Vec<u8>,
    /// So much is read at once, at least.
    ahead: usize,
}

impl Window {
    /// For who reads on and on.
    pub(crate) const AHEAD: usize = 1 << 20;
    /// For who reads one record: most have less.
    const RECORD: usize = 16 << 10;

    pub(crate) fn new(file: Box<dyn SegmentFile>, ahead: usize) -> Self {
        Self {
            file,
            ahead,
            start: 0,
            bytes: Vec::new(),
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// What is in memory from `offset` on.
    pub(crate) fn from(&self, offset: u64) -> &[u8] {
        let skip = offset
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes.get(skip..))
            .unwrap_or_default()
    }

    /// Has `len` bytes from `offset` on in memory; false when they would pass `limit`.
    pub(crate) fn load(&mut self, offset: u64, len: usize, limit: u64) -> io::Result<bool> {
        let Some(end) = offset.checked_add(len as u64).filter(|end| *end <= limit) else {
            return Ok(false);
        };
        if offset >= self.start && end <= self.end() {
            return Ok(true);
        }
        let available = usize::try_from(limit - offset).unwrap_or(usize::MAX);
        self.bytes.resize(len.max(self.ahead).min(available), 0);
        let filled = self.file.read_at(offset, &mut self.bytes)?;
        self.bytes.truncate(filled);
        self.start = offset;
        Ok(filled >= len)
    }
}

/// The record at `at`, whatever its place in the chain; none when it cannot be read.
pub(crate) fn read_record(storage: &dyn Storage, at: Position) -> io::Result<Option<OwnedRecord>> {
    let file = match storage.open(at.segment) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let limit = file.len()?;
    let mut window = Window::new(file, Window::RECORD);
    if !window.load(at.offset, FRAME_LEN, limit)? {
        return Ok(None);
    }
    let Some(len) = frame_len(window.from(at.offset)) else {
        return Ok(None);
    };
    if !window.load(at.offset, len, limit)? {
        return Ok(None);
    }
    let frame = parse_frame(window.from(at.offset));
    Ok(frame.map(|frame| {
        let (kind, payload) = what_is_left(frame.kind, frame.payload);
        OwnedRecord {
            kind,
            payload: payload.to_vec(),
            behind: Cursor {
                position: Position {
                    segment: at.segment,
                    offset: at.offset + len as u64,
                },
                chain: frame.chain,
            },
        }
    }))
}

/// A record as it is read: of one that is gone what its tombstone still says.
fn what_is_left(kind: u8, payload: &[u8]) -> (u8, &[u8]) {
    if kind != kind::TOMBSTONE {
        return (kind, payload);
    }
    let left = minicbor::decode(payload).ok().and_then(|it: Remains<'_>| {
        let RemainsOf { kind, payload } = it.residue?;
        may_leave(it.kind, kind, payload).then_some((kind, payload))
    });
    left.unwrap_or((kind, payload))
}

/// A [`Tombstone`](super::removal::Tombstone) as it lies there.
#[derive(minicbor::Decode)]
#[cbor(map)]
struct Remains<'b> {
    #[n(0)]
    kind: u8,
    #[cbor(b(3))]
    residue: Option<RemainsOf<'b>>,
}

#[derive(minicbor::Decode)]
struct RemainsOf<'b> {
    #[n(0)]
    kind: u8,
    #[cbor(b(1), with = "minicbor::bytes")]
    payload: &'b [u8],
}

/// A record read by its position.
#[derive(Debug)]
pub(crate) struct OwnedRecord {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
    /// Right behind it.
    pub(crate) behind: Cursor,
}
