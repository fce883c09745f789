//! Following the log: what was recorded since a place in it, for whoever passes it on to others.
//!
//! A feed is one more reader of the log, behind the index: what it tells of can be asked for. It
//! keeps no segment from being retired, and says so when it comes too late for one.

use std::fmt;
use std::str::FromStr;

use crate::core::call::{LateUsage, Settlement};
use crate::core::id::CallId;
use crate::core::metric::Measurement;

use super::Ledger;
use super::index::IndexError;
use super::log::{Cursor, LogReader, Segment, Step};
use super::record::{Chain, Event, Position, kind};

/// Records that are looked at for one batch, most of which may be nothing to tell.
const MAX_LOOKED_AT: usize = 1 << 16;

/// A place in the log, written as `12-3456-<chain>`: segment, offset, and the hash of all before it,
/// by which it is found again when what lies before it got shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bookmark(Cursor);

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cursor { position, chain } = self.0;
        write!(f, "{}-{}-{chain}", position.segment, position.offset)
    }
}

impl FromStr for Bookmark {
    type Err = BadBookmark;

    fn from_str(text: &str) -> Result<Self, BadBookmark> {
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().ok_or(BadBookmark);
        let position = Position {
            segment: part()?.parse().map_err(|_| BadBookmark)?,
            offset: part()?.parse().map_err(|_| BadBookmark)?,
        };
        let chain = Chain::parse(part()?).ok_or(BadBookmark)?;
        Ok(Self(Cursor { position, chain }))
    }
}

impl Bookmark {
    /// From where all that is behind any of these can be read: that one place where they are one,
    /// else the beginning of the earliest one's segment, for offsets within it change once something
    /// is erased.
    pub fn before_all(places: &[Self]) -> Option<Self> {
        let earliest = places.iter().min_by_key(|it| it.0.position)?;
        if places.iter().all(|it| it == earliest) {
            return Some(*earliest);
        }
        let position = Position {
            offset: 0,
            ..earliest.0.position
        };
        Some(Self(Cursor {
            position,
            chain: Chain::default(),
        }))
    }

    /// Whether a record of the same log lies before it.
    pub fn is_behind(self, record: Position) -> bool {
        record < self.0.position
    }

    /// The number of the segment that it is in.
    pub fn segment(self) -> u64 {
        self.0.position.segment
    }
}

/// A text is no place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a place in the ledger's log: segment, offset and hash, joined by dashes")]
pub struct BadBookmark;

/// Something that was recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A call ended.
    Settled(CallId),
    /// What a call used became known after it ended.
    Late(CallId),
    /// The same of a call of another instance, which does not know it yet.
    Found(CallId),
    /// Something happened or was done that is no call.
    Told(Box<Event>),
    Measured(Box<Measurement>),
}

/// What was recorded since the last look, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// With the place of each record.
    pub news: Vec<(Position, News)>,
    /// Behind all of it.
    pub behind: Bookmark,
    /// There is more by now.
    pub is_full: bool,
    /// What came next is gone: retention was faster, or it is another log.
    pub missed: bool,
}

/// Reads on from one look to the next. Blocks on the disk.
pub struct Feed {
    ledger: Ledger,
    cursor: Cursor,
    /// Whether `cursor` was seen to be a border of this log.
    is_found: bool,
    /// Nothing can have been missed before it.
    is_first: bool,
}

impl Feed {
    /// Reads all that there is.
    pub fn from_start(ledger: &Ledger) -> Self {
        Self {
            is_first: true,
            ..Self::at(ledger, Bookmark::default())
        }
    }

    /// Reads what comes from now on.
    pub fn from_end(ledger: &Ledger) -> Self {
        Self {
            is_found: true,
            ..Self::at(ledger, Bookmark(ledger.open.progress.end()))
        }
    }

    /// Reads on from where another one stood, if need be of another process.
    pub fn at(ledger: &Ledger, Bookmark(cursor): Bookmark) -> Self {
        Self {
            ledger: ledger.clone(),
            cursor,
            is_found: false,
            is_first: false,
        }
    }

    /// Behind what was read.
    pub fn bookmark(&self) -> Bookmark {
        Bookmark(self.cursor)
    }

    /// Whether something before `place` was not read yet.
    pub fn is_behind(&self, Bookmark(place): Bookmark) -> bool {
        self.cursor.position < place.position
    }

    /// How far it is behind the end of the log, in bytes of that.
    pub fn lag(&self) -> u64 {
        let end = self.ledger.open.progress.end().position;
        let here = self.cursor.position;
        let ahead = |it: &&Segment| (here.segment..=end.segment).contains(&it.number);
        let bytes = |it: &Segment| {
            let to = if it.number == end.segment {
                end.offset
            } else {
                it.len
            };
            let from = if it.number == here.segment {
                here.offset
            } else {
                0
            };
            to.saturating_sub(from)
        };
        let segments = self.ledger.open.catalog.all();
        segments.iter().filter(ahead).map(bytes).sum()
    }

    /// What is recorded and indexed by now, up to `most` pieces of news; nothing when nothing came.
    /// What was read once is not read again, unless a failing disk left it in doubt.
    pub fn next(&mut self, most: usize) -> Result<Batch, IndexError> {
        let ledger = self.ledger.clone();
        let storage = &*ledger.open.view.storage;
        let segments = ledger.open.catalog.all();
        let mut batch = Batch {
            missed: self.find(&segments)?,
            ..Batch::default()
        };
        let end = ledger.open.progress.indexed();
        let mut reader = LogReader::new(storage, &segments, self.cursor, end);
        let mut looked_at = 0;
        while self.cursor.position < end {
            if batch.news.len() >= most || looked_at >= MAX_LOOKED_AT {
                batch.is_full = true;
                break;
            }
            let Some(step) = reader.next()? else { break };
            looked_at += 1;
            if let Step::Record { at, kind, payload } = step
                && let Some(news) = told(kind, payload)
            {
                batch.news.push((at, news));
            }
            self.cursor = reader.cursor();
        }
        batch.behind = self.bookmark();
        Ok(batch)
    }

    /// Makes sure to stand at a border of the log. Says whether what came next is gone.
    fn find(&mut self, segments: &[Segment]) -> Result<bool, IndexError> {
        let Some(first) = segments.first() else {
            return Ok(false);
        };
        let here = self.cursor.position.segment;
        let is_gone = here < first.number || segments.iter().all(|it| it.number < here);
        if !is_gone && (self.is_found || self.is_border(segments)?) {
            self.is_found = true;
            return Ok(false);
        }
        self.is_found = true;
        let goes_on = first.continues() == Some(self.cursor.chain);
        let is_first = std::mem::take(&mut self.is_first);
        let (from, missed) = match segments.iter().find(|it| it.number == here && !is_gone) {
            // It is not known what of it was read: once more is better than not at all.
            Some(same) => (same, false),
            None => (first, !goes_on && !is_first),
        };
        self.cursor = Cursor {
            position: Position {
                segment: from.number,
                offset: 0,
            },
            chain: from.continues().unwrap_or_default(),
        };
        Ok(missed)
    }

    /// Goes to where the log has this chain in this segment; false if that is nowhere.
    fn is_border(&mut self, segments: &[Segment]) -> Result<bool, IndexError> {
        let here = self.cursor;
        let own: Vec<_> = segments
            .iter()
            .filter(|segment| segment.number == here.position.segment)
            .copied()
            .collect();
        let storage = &*self.ledger.open.view.storage;
        let mut reader = LogReader::from_start(storage, &own);
        loop {
            if reader.cursor().chain == here.chain {
                self.cursor = reader.cursor();
                return Ok(true);
            }
            if reader.next()?.is_none() {
                return Ok(false);
            }
        }
    }
}

/// What other instances recorded is theirs to tell.
fn told(kind: u8, payload: &[u8]) -> Option<News> {
    match kind {
        kind::SETTLEMENT => {
            let it: Settlement = minicbor::decode(payload).ok()?;
            it.instance.is_none().then_some(News::Settled(it.id))
        }
        kind::LATE => {
            let it: LateUsage = minicbor::decode(payload).ok()?;
            match (it.instance, it.is_found) {
                (None, _) => Some(News::Late(it.id)),
                (Some(_), true) => Some(News::Found(it.id)),
                (Some(_), false) => None,
            }
        }
        kind::EVENT | kind::ACT | kind::REMOVAL => {
            Event::parse(payload).map(|event| News::Told(Box::new(event)))
        }
        kind::MEASUREMENT => {
            let it: Measurement = minicbor::decode(payload).ok()?;
            it.instance.is_none().then(|| News::Measured(Box::new(it)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(segment: u64, offset: u64, seen: u8) -> Bookmark {
        let position = Position { segment, offset };
        let chain =
            Chain::parse(&format!("{seen:02x}").repeat(Chain::default().to_string().len() / 2));
        Bookmark(Cursor {
            position,
            chain: chain.unwrap(),
        })
    }

    #[test]
    fn places_that_differ_are_all_behind_the_beginning_of_the_earliest_ones_segment() {
        let here = place(3, 70, 1);
        assert_eq!(Bookmark::before_all(&[]), None);
        assert_eq!(Bookmark::before_all(&[here, here]), Some(here));
        let early = Bookmark::before_all(&[place(4, 9, 2), here]).unwrap();
        assert_eq!(early, place(3, 0, 0));
        let doubtful = Bookmark::before_all(&[here, place(3, 70, 2)]).unwrap();
        assert_eq!(
            doubtful,
            place(3, 0, 0),
            "the log was written anew between them"
        );
    }
}
