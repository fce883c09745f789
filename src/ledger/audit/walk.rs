//! Going through the log from its first record to its last.

use std::io;

use crate::core::budget::Act;
use crate::core::call::{Admission, LateUsage, Settlement};
use crate::core::metric::Measurement;
use crate::core::time::Timestamp;

use super::super::log::{Cursor, Segment, read_record};
use super::super::record::{Chain, Event, HEADER_LEN, Header, Position, kind};
use super::super::removal::{Removal, Removed};
use super::super::storage::Storage;
use super::Anchor;
use super::frames::{Ahead, Frames, Peek};
use super::graves::Graves;
use super::report::{AuditReport, Begin, Finding, FindingKind};

/// How far from its place a record is looked for.
const LOOK: usize = 64;

/// Verifies the whole log: see [`verify`](super::verify).
pub(super) fn verify(
    storage: &dyn Storage,
    segments: &[Segment],
    anchors: &[Anchor],
    seen: Option<Cursor>,
) -> io::Result<AuditReport> {
    let seen = seen.map(Anchor::of);
    let awaited = anchors.iter().copied().map(|it| (it, false)).collect();
    let mut walk = Walk {
        storage,
        report: AuditReport::default(),
        chain: None,
        timed: None,
        untold: Vec::new(),
        anchors: awaited,
        seen: seen.map(|seen| (seen, false)),
        removals: Vec::new(),
        graves: Graves::default(),
    };
    for (at, segment) in segments.iter().enumerate() {
        walk.segment(*segment, segments.get(at + 1))?;
    }
    walk.finish(segments)
}

struct Walk<'a> {
    storage: &'a dyn Storage,
    report: AuditReport,
    /// Of what was read so far; none before anything was, or where it cannot be known.
    chain: Option<Chain>,
    /// The last record that says when it was made.
    timed: Option<(u8, Position)>,
    /// Findings to which the time after them is still to be told.
    untold: Vec<Finding>,
    anchors: Vec<(Anchor, bool)>,
    seen: Option<(Anchor, bool)>,
    /// Each with the segment it is in.
    removals: Vec<(u64, Removal)>,
    graves: Graves,
}

/// One segment being gone through.
struct Way<'w> {
    number: u64,
    frames: Frames,
    offset: u64,
    record: u64,
    /// Records that do not belong where they are: where each is, its number.
    astray: Vec<(u64, u64)>,
    /// The last point that the next segment goes on from.
    left: Option<u64>,
    next: Option<&'w Segment>,
    findings: Vec<Finding>,
}

impl Walk<'_> {
    fn segment(&mut self, segment: Segment, next: Option<&Segment>) -> io::Result<()> {
        self.report.segments += 1;
        self.report.bytes += segment.len;
        let mut way = Way {
            number: segment.number,
            frames: Frames::open(self.storage, segment)?,
            offset: HEADER_LEN as u64,
            record: 0,
            astray: Vec::new(),
            left: None,
            next,
            findings: Vec::new(),
        };
        if self.was_never_begun(&mut way, segment)? {
            return Ok(());
        }
        let continues = self.header(&mut way, segment)?;
        if let (Some(before), Some(continues)) = (self.chain, continues)
            && before != continues
        {
            let words =
                "records or segments before this one are gone, or others are in their place";
            self.find(&mut way, FindingKind::Missing, words.to_owned())?;
        }
        self.chain = continues;
        self.pass(&mut way);
        while self.step(&mut way)? {}
        self.leave(way)
    }

    /// Whether its creation failed before anything of it was part of the log: the next one goes on
    /// from the same point, or there is none.
    fn was_never_begun(&mut self, way: &mut Way<'_>, segment: Segment) -> io::Result<bool> {
        let head = way.frames.head()?;
        if Header::parse(&head).is_ok() || way.frames.resync(0, None)?.is_some() {
            return Ok(false);
        }
        let before = self.chain.unwrap_or(Chain::GENESIS);
        match way.next {
            Some(next) if next.continues() == Some(before) => {
                self.report.given_up_bytes += segment.len;
            }
            // Whole heads are written at once.
            None if head.len() < HEADER_LEN => self.report.unfinished_bytes += segment.len,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What the head of a segment says it goes on from.
    fn header(&mut self, way: &mut Way<'_>, segment: Segment) -> io::Result<Option<Chain>> {
        let head = way.frames.head()?;
        match Header::parse(&head) {
            Ok(header) if header.number == segment.number => Ok(Some(header.continues)),
            Ok(header) => {
                let words = format!("this file was written as segment {}", header.number);
                self.find(way, FindingKind::Header, words)?;
                Ok(Some(header.continues))
            }
            Err(_) => {
                let words = "the head of the segment does not have its checksum".to_owned();
                self.find(way, FindingKind::Header, words)?;
                Ok(None)
            }
        }
    }

    fn step(&mut self, way: &mut Way<'_>) -> io::Result<bool> {
        match way.frames.peek(way.offset, self.chain)? {
            Peek::End => Ok(false),
            Peek::Good(ahead) if ahead.follows => self.take(way, ahead).map(|()| true),
            Peek::Good(ahead) => self.astray(way, ahead).map(|()| true),
            Peek::Bad(len) => self.skip(way, FindingKind::Edited, Some(len)),
            Peek::Torn | Peek::Unreadable => self.skip(way, FindingKind::Unreadable, None),
        }
    }

    /// A record that is as it was written, where it was written.
    fn take(&mut self, way: &mut Way<'_>, ahead: Ahead) -> io::Result<()> {
        let at = way.position();
        if ahead.kind == kind::REMOVAL
            && let Some(record) = read_record(self.storage, at)?
        {
            let removal = Removal::parse(&record.payload);
            self.removals.extend(removal.map(|it| (way.number, it)));
        }
        if ahead.kind == kind::TOMBSTONE {
            let hash = way.frames.hash_at(way.offset)?;
            self.graves.add(ahead.chain, (at, way.record, hash));
            self.report.deleted += 1;
        }
        if is_timed(ahead.kind) {
            self.timed = Some((ahead.kind, at));
            if !self.untold.is_empty() || !way.findings.is_empty() {
                self.tell_time(way)?;
            }
        }
        self.report.records += 1;
        self.chain = Some(ahead.chain);
        way.pass(ahead.len);
        self.pass(way);
        Ok(())
    }

    /// Compares the point that was reached with those that somebody vouches for.
    fn pass(&mut self, way: &mut Way<'_>) {
        let Some(chain) = self.chain else { return };
        let here = Anchor {
            segment: way.number,
            chain,
        };
        for (anchor, met) in self.anchors.iter_mut().chain(&mut self.seen) {
            *met |= *anchor == here;
        }
        if way.next.and_then(Segment::continues) == Some(chain) {
            way.left = Some(way.offset);
        }
    }

    /// A whole record that does not belong here: one that was met before may, or one that comes.
    fn astray(&mut self, way: &mut Way<'_>, ahead: Ahead) -> io::Result<()> {
        for index in 0..way.astray.len() {
            let (offset, record) = way.astray[index];
            if let Peek::Good(found) = way.frames.peek(offset, self.chain)?
                && found.follows
            {
                way.astray.remove(index);
                self.chain = Some(found.chain);
                let words = format!("it belongs before record {}", way.record);
                return self.find_at(way, FindingKind::Reordered, (offset, record), words);
            }
        }
        if self.comes(way, ahead)? {
            way.astray.push((way.offset, way.record));
            way.pass(ahead.len);
            return Ok(());
        }
        let words = "its checksum holds, but it does not follow from what is before it: it was \
                     changed, or records before it are gone";
        self.find(way, FindingKind::ChainBroken, words.to_owned())?;
        self.chain = Some(ahead.chain);
        way.pass(ahead.len);
        self.pass(way);
        Ok(())
    }

    /// Whether what belongs here is found a little later.
    fn comes(&self, way: &mut Way<'_>, ahead: Ahead) -> io::Result<bool> {
        let mut offset = way.offset + ahead.len;
        for _ in way.astray.len()..LOOK {
            match way.frames.peek(offset, self.chain)? {
                Peek::Good(found) if found.follows => return Ok(true),
                Peek::Good(found) => offset += found.len,
                _ => {
                    let next = way.next.and_then(Segment::continues);
                    return Ok(offset >= way.frames.limit && next == self.chain);
                }
            }
        }
        Ok(false)
    }

    /// Goes to where records can be read again; false at the end.
    fn skip(&mut self, way: &mut Way<'_>, kind: FindingKind, len: Option<u64>) -> io::Result<bool> {
        let (from, limit) = (way.offset, way.frames.limit);
        let found = way.frames.resync(from, len)?;
        let ends_torn = found.is_none() && len.is_none() && way.next.is_none();
        if ends_torn {
            self.report.unfinished_bytes = limit - from;
            return Ok(false);
        }
        let to = found.unwrap_or(limit);
        let words = match kind {
            FindingKind::Edited => "its bytes do not have its checksum".to_owned(),
            _ => format!("no record can be told in {} bytes", to - from),
        };
        self.find(way, kind, words)?;
        self.chain = None;
        way.offset = to;
        way.record += 1;
        Ok(found.is_some())
    }

    /// The end of a segment.
    fn leave(&mut self, mut way: Way<'_>) -> io::Result<()> {
        for (offset, record) in std::mem::take(&mut way.astray) {
            let words = "it follows from nothing: it was put here, or belongs to another place";
            self.find_at(
                &mut way,
                FindingKind::Inserted,
                (offset, record),
                words.to_owned(),
            )?;
        }
        let left = way.left.filter(|left| *left < way.offset);
        if let Some(left) = left {
            // A failed write may leave anything there, but not whole records that follow from nothing.
            let is_tampering = |it: &Finding| {
                let by_hand = !matches!(it.kind, FindingKind::Edited | FindingKind::Unreadable);
                it.at.offset < left || by_hand
            };
            way.findings.retain(is_tampering);
            self.report.given_up_bytes += way.frames.limit - left;
            self.chain = way.next.and_then(Segment::continues);
        }
        self.untold.append(&mut way.findings);
        Ok(())
    }

    fn find(&mut self, way: &mut Way<'_>, kind: FindingKind, words: String) -> io::Result<()> {
        self.find_at(way, kind, (way.offset, way.record), words)
    }

    fn find_at(
        &mut self,
        way: &mut Way<'_>,
        kind: FindingKind,
        (offset, record): (u64, u64),
        words: String,
    ) -> io::Result<()> {
        let at = Position {
            segment: way.number,
            offset,
        };
        let after = self.last_time()?;
        way.findings.push(Finding {
            kind,
            at,
            record,
            after,
            before: None,
            words,
        });
        Ok(())
    }

    fn last_time(&self) -> io::Result<Option<Timestamp>> {
        let Some((kind, at)) = self.timed else {
            return Ok(None);
        };
        let record = read_record(self.storage, at)?;
        Ok(record.and_then(|record| time_of(kind, &record.payload)))
    }

    /// Findings learn when the first record after them was made.
    fn tell_time(&mut self, way: &mut Way<'_>) -> io::Result<()> {
        let waits = |it: &Finding| it.before.is_none();
        if !self.untold.iter().any(waits) && !way.findings.iter().any(waits) {
            return Ok(());
        }
        let now = self.last_time()?;
        for finding in way.findings.iter_mut().filter(|it| waits(it)) {
            finding.before = now;
        }
        for mut finding in self.untold.drain(..) {
            finding.before = finding.before.or(now);
            self.report.add(finding);
        }
        Ok(())
    }

    fn finish(mut self, segments: &[Segment]) -> io::Result<AuditReport> {
        let last = segments.last();
        let begun = segments.iter().rev().find(|it| it.header.is_some());
        self.report.head = begun.zip(self.chain).map(|(last, chain)| Anchor {
            segment: last.number,
            chain,
        });
        if let Some(first) = segments.iter().find(|it| it.header.is_some()) {
            self.front(first, segments)?;
        }
        self.report.tell(&self.removals);
        let first = segments.first().map_or(0, |first| first.number);
        for (kind, at, record, words) in self.graves.judge(&self.removals, first) {
            self.whole(kind, at, words.to_owned())?;
            if let Some(finding) = self.untold.last_mut() {
                finding.record = record;
            }
        }
        let end = last.map(Segment::end).unwrap_or_default();
        let mut unmet = Vec::new();
        for (anchor, met) in &self.anchors {
            self.report.anchors_met += u64::from(*met);
            if !met {
                let first = segments.first().map_or(0, |first| first.number);
                unmet.push(unmet_anchor(*anchor, first));
            }
        }
        if let Some((seen, false)) = self.seen {
            unmet.push(format!(
                "the index saw the log up to {seen}, which it does not hold: its end was cut off, or \
                 records before it were made anew (with `durability = \"relaxed\"` a loss of power does \
                 that as well)"
            ));
        }
        for words in unmet {
            self.whole(FindingKind::Rewritten, end, words)?;
        }
        for finding in std::mem::take(&mut self.untold) {
            self.report.add(finding);
        }
        Ok(self.report)
    }

    /// Where the log begins, and by whose leave.
    fn front(&mut self, first: &Segment, segments: &[Segment]) -> io::Result<()> {
        if first.continues() == Some(Chain::GENESIS) {
            return Ok(());
        }
        let segment = first.number;
        let retired = |(_, removal): &(u64, Removal)| {
            let Removed::Front { before, chain } = &removal.what else {
                return false;
            };
            let border = segments.iter().find(|it| it.number == *before);
            *before >= segment && border.and_then(Segment::continues) == Some(*chain)
        };
        if self.removals.iter().any(retired) {
            self.report.begins = Begin::AfterRetention { segment };
            return Ok(());
        }
        self.report.begins = Begin::Unexplained { segment };
        let words = "the segments before this one are gone, and no record says that retention let \
                     them go";
        self.whole(FindingKind::Missing, first.start(), words.to_owned())
    }

    fn whole(&mut self, kind: FindingKind, at: Position, words: String) -> io::Result<()> {
        let ended = at.offset > HEADER_LEN as u64;
        let after = if ended { self.last_time()? } else { None };
        self.untold.push(Finding {
            kind,
            at,
            record: 0,
            after,
            before: None,
            words,
        });
        Ok(())
    }
}

impl Way<'_> {
    fn position(&self) -> Position {
        Position {
            segment: self.number,
            offset: self.offset,
        }
    }

    fn pass(&mut self, len: u64) {
        self.offset += len;
        self.record += 1;
    }
}

fn unmet_anchor(anchor: Anchor, first: u64) -> String {
    if anchor.segment < first {
        return format!("the anchor {anchor} lies before what is kept: verify against a newer one");
    }
    format!(
        "the log does not hold the anchor {anchor}: its end was cut off, or records before that point \
         were made anew"
    )
}

fn is_timed(kind: u8) -> bool {
    !matches!(
        kind,
        kind::CONTENT | kind::CHECKPOINT | kind::ACCOUNT | kind::TOMBSTONE
    )
}

/// When a record was made, if it says so.
fn time_of(kind: u8, payload: &[u8]) -> Option<Timestamp> {
    match kind {
        kind::ADMISSION => minicbor::decode(payload)
            .ok()
            .map(|it: Admission| it.started_at),
        kind::SETTLEMENT => minicbor::decode(payload)
            .ok()
            .map(|it: Settlement| it.charged_at()),
        kind::EVENT => minicbor::decode(payload).ok().map(|it: Event| it.at),
        kind::ACT => minicbor::decode(payload).ok().map(|it: Act| it.at),
        kind::LATE => minicbor::decode(payload).ok().map(|it: LateUsage| it.at),
        kind::MEASUREMENT => minicbor::decode(payload).ok().map(|it: Measurement| it.at),
        kind::REMOVAL => Removal::parse(payload).map(|it| it.at),
        _ => None,
    }
}
