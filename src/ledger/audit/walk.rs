//! Going through the log from its first record to its last.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use super::super::log::Segment;
use super::super::record::{Chain, HEADER_LEN, Header, Position, kind};
use super::super::removal::Removal;
use super::super::storage::Storage;
use super::damage::Around;
use super::frames::{Ahead, Frames, Peek};
use super::graves::Graves;
use super::heads::Heads;
use super::report::{AuditReport, Begin, Finding, FindingKind, MAX_FINDINGS};
use super::taken::{Taken, shortened};
use super::times::{LastTime, is_stamped, is_timed};
use super::{Anchor, Given, damage};

/// How far from its place a record is looked for.
const LOOK: usize = 64;

/// Verifies the whole log: see [`verify`](super::verify).
pub(super) fn verify(
    storage: &dyn Storage,
    segments: &[Segment],
    given: &Given<'_>,
) -> io::Result<AuditReport> {
    let awaited = given.anchors.iter().map(|it| (*it, false)).collect();
    let mut walk = Walk {
        storage,
        report: AuditReport::default(),
        chain: None,
        time: LastTime::default(),
        untold: Vec::new(),
        anchors: awaited,
        met: None,
        seen: given.seen.map(|seen| (Anchor::of(seen), false)),
        accepted: given.accepted,
        retells: given.retells,
        taken: Taken::default(),
        graves: Graves::default(),
        heads: Heads::default(),
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
    time: LastTime,
    /// Findings to which the time after them is still to be told.
    untold: Vec<Finding>,
    /// Those that somebody vouches for, and whether each was met.
    anchors: HashMap<Anchor, bool>,
    /// The last of them that was met.
    met: Option<(Anchor, Position)>,
    seen: Option<(Anchor, bool)>,
    accepted: &'a [Anchor],
    /// What a server found is a finding once more.
    retells: bool,
    taken: Taken,
    graves: Graves,
    heads: Heads,
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
            frames: Frames::open(self.storage, (segment.number, segment.len))?,
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
        let header = Header::parse(&head);
        self.heads.enter(segment.number, header.ok());
        match header {
            Ok(header) if header.number == segment.number => Ok(Some(header.continues)),
            Ok(header) => {
                let words = format!("this file was written as segment {}", header.number);
                self.find_head(way, words, Around::default())?;
                Ok(Some(header.continues))
            }
            Err(_) => {
                let words = "the head of the segment does not have its checksum".to_owned();
                let next = way.next.filter(|_| way.offset >= way.frames.limit);
                self.find_head(way, words, Around::of(self.chain, next))?;
                Ok(None)
            }
        }
    }

    /// The first record follows from nothing that can be read.
    fn find_head(
        &mut self,
        way: &mut Way<'_>,
        words: String,
        around: Around<'_>,
    ) -> io::Result<()> {
        let end = way.frames.end_of(way.offset)?;
        let accept = self.damage(way, FindingKind::Header, 0..end, around)?;
        let at = (way.offset, way.record);
        self.find_at(way, FindingKind::Header, at, words, Some(accept))
    }

    fn damage(
        &self,
        way: &Way<'_>,
        kind: FindingKind,
        bytes: Range<u64>,
        around: Around<'_>,
    ) -> io::Result<Anchor> {
        damage::accept(self.storage, (way.number, kind), bytes, around)
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
        if way.left.is_some() {
            // A failed write may leave anything behind the point that the next segment goes on from: it is
            // no part of the log, and vouches for nothing.
            self.chain = Some(ahead.chain);
            way.pass(ahead.len);
            return Ok(());
        }
        let (at, record) = (way.position(), way.record);
        self.read(way, ahead)?;
        if is_stamped(ahead.kind) {
            self.heads.pass((ahead.kind, at));
        }
        if is_timed(ahead.kind) {
            self.time.pass((ahead.kind, at));
            if !self.untold.is_empty() || !way.findings.is_empty() {
                self.tell_time(way)?;
            }
        }
        if ahead.kind == kind::TOMBSTONE {
            let payload = way.frames.payload(at.offset);
            self.graves.add((at, record), ahead.chain, payload);
        }
        self.report.records += 1;
        self.chain = Some(ahead.chain);
        way.pass(ahead.len);
        self.pass(way);
        Ok(())
    }

    /// What some records say of the log itself.
    fn read(&mut self, way: &mut Way<'_>, ahead: Ahead) -> io::Result<()> {
        let at = way.position();
        let here = Anchor {
            segment: at.segment,
            chain: ahead.chain,
        };
        let payload = way.frames.payload(at.offset);
        match ahead.kind {
            kind::REMOVAL => {
                let given = (&mut self.graves, self.accepted);
                if let Some(removal) = Removal::parse(payload) {
                    self.taken.add((removal, at, here), self.met, given);
                }
                Ok(())
            }
            kind::BEGUN if !self.heads.compare(payload) => {
                let words =
                    "its head says of when it was begun, or of its secret, what is not on record";
                let (kind, head) = (FindingKind::Header, 0..HEADER_LEN as u64);
                let accept = self.damage(way, kind, head, Around::default())?;
                self.find_at(way, kind, (0, 0), words.to_owned(), Some(accept))
            }
            kind::EVENT if self.retells => {
                let Some(told) = shortened(payload) else {
                    return Ok(());
                };
                let words = format!(
                    "{told} (with `durability = \"relaxed\"` a loss of power does that as well)"
                );
                let at = (at.offset, way.record);
                self.find_at(way, FindingKind::Shortened, at, words, Some(here))
            }
            _ => Ok(()),
        }
    }

    /// Compares the point that was reached with those that somebody vouches for.
    fn pass(&mut self, way: &mut Way<'_>) {
        let Some(chain) = self.chain.filter(|_| way.left.is_none()) else {
            return;
        };
        let here = Anchor {
            segment: way.number,
            chain,
        };
        if let Some(met) = self.anchors.get_mut(&here) {
            *met = true;
            self.met = Some((here, way.position()));
        }
        if let Some((seen, met)) = &mut self.seen {
            *met |= *seen == here;
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
                let at = (offset, record);
                return self.find_at(way, FindingKind::Reordered, at, words, None);
            }
        }
        if self.comes(way, ahead)? {
            way.astray.push((way.offset, way.record));
            way.pass(ahead.len);
            return Ok(());
        }
        let words = "its checksum holds, but it does not follow from what is before it: it was \
                     changed, or records before it are gone";
        let (kind, bytes) = (FindingKind::ChainBroken, way.offset..way.offset + ahead.len);
        let accept = self.damage(way, kind, bytes, Around::of(self.chain, None))?;
        let at = (way.offset, way.record);
        self.find_at(way, kind, at, words.to_owned(), Some(accept))?;
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
        let ends = found.is_none() && way.next.is_none();
        if ends && (len.is_none() || !self.is_awaited(way.number)) {
            self.report.unfinished_bytes = limit - from;
            return Ok(false);
        }
        let to = found.unwrap_or(limit);
        let words = match kind {
            FindingKind::Edited => "its bytes do not have its checksum".to_owned(),
            _ => format!("no record can be told in {} bytes", to - from),
        };
        // Of the record there nobody can say what it follows from.
        let bytes = from..way.frames.end_of(to)?;
        let next = way.next.filter(|_| found.is_none());
        let accept = self.damage(way, kind, bytes, Around::of(self.chain, next))?;
        let at = (from, way.record);
        self.find_at(way, kind, at, words, Some(accept))?;
        self.chain = None;
        way.offset = to;
        way.record += 1;
        Ok(found.is_some())
    }

    /// Whether somebody says that the log goes on in this segment or behind it, which was not met.
    /// Without that, a record at its end whose checksum does not hold is one that was never finished:
    /// what of it is on disk after a loss of power is anybody's guess.
    fn is_awaited(&self, segment: u64) -> bool {
        let anchors = self.anchors.iter().map(|(anchor, met)| (anchor, *met));
        let mut all = anchors.chain(self.seen.iter().map(|(seen, met)| (seen, *met)));
        all.any(|(anchor, met)| !met && anchor.segment >= segment)
    }

    /// The end of a segment.
    fn leave(&mut self, mut way: Way<'_>) -> io::Result<()> {
        for (offset, record) in std::mem::take(&mut way.astray) {
            let words = "it follows from nothing: it was put here, or belongs to another place";
            let at = (offset, record);
            self.find_at(&mut way, FindingKind::Inserted, at, words.to_owned(), None)?;
        }
        let left = way.left.filter(|left| *left < way.offset);
        let limit = left.unwrap_or(way.frames.limit);
        self.graves.leave(way.number, limit);
        if let Some(left) = left {
            // A failed write may leave anything there, but not whole records that follow from nothing.
            way.findings
                .retain(|it| it.at.offset < left || it.kind.is_by_hand());
            self.report.given_up_bytes += way.frames.limit - left;
            self.chain = way.next.and_then(Segment::continues);
        }
        self.untold.append(&mut way.findings);
        Ok(())
    }

    fn find(&mut self, way: &mut Way<'_>, kind: FindingKind, words: String) -> io::Result<()> {
        self.find_at(way, kind, (way.offset, way.record), words, None)
    }

    fn find_at(
        &mut self,
        way: &mut Way<'_>,
        kind: FindingKind,
        (offset, record): (u64, u64),
        words: String,
        accept: Option<Anchor>,
    ) -> io::Result<()> {
        let accepted = self.is_accepted(accept);
        if self.is_full(way.findings.len()) {
            if way.left.is_none() || kind.is_by_hand() {
                self.report.count(accepted);
            }
            return Ok(());
        }
        let at = Position {
            segment: way.number,
            offset,
        };
        way.findings.push(Finding {
            kind,
            at,
            record,
            after: self.time.get(self.storage)?,
            before: None,
            words,
            accept,
            accepted,
        });
        Ok(())
    }

    fn is_accepted(&self, accept: Option<Anchor>) -> bool {
        accept.is_some_and(|accept| self.accepted.contains(&accept))
    }

    /// Whether further findings are only counted, beside `more` that are not handed over yet.
    fn is_full(&self, more: usize) -> bool {
        self.report.findings.len() + self.untold.len() + more >= MAX_FINDINGS
    }

    /// Findings learn when the first record after them was made.
    fn tell_time(&mut self, way: &mut Way<'_>) -> io::Result<()> {
        let waits = |it: &Finding| it.before.is_none();
        if !self.untold.iter().any(waits) && !way.findings.iter().any(waits) {
            return Ok(());
        }
        let now = self.time.get(self.storage)?;
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
        let begun = segments.iter().rev().find(|it| it.header.is_some());
        self.report.head = begun.zip(self.chain).map(|(last, chain)| Anchor {
            segment: last.number,
            chain,
        });
        self.front(segments)?;
        self.judge(segments)?;
        let end = segments.last().map(Segment::end).unwrap_or_default();
        for words in self.unmet(segments) {
            self.whole(FindingKind::Rewritten, (end, 0), words, None)?;
        }
        for finding in std::mem::take(&mut self.untold) {
            self.report.add(finding);
        }
        Ok(self.report)
    }

    /// What can only be said once all was read.
    fn judge(&mut self, segments: &[Segment]) -> io::Result<()> {
        for (segment, words) in self.heads.judge(self.storage)? {
            let at = Position { segment, offset: 0 };
            let damaged = (segment, FindingKind::Header);
            let head = 0..HEADER_LEN as u64;
            let accept = damage::accept(self.storage, damaged, head, Around::default())?;
            self.whole(FindingKind::Header, (at, 0), words, Some(accept))?;
        }
        let first = segments.first();
        let start = first.and_then(Segment::continues).unwrap_or_default();
        let mut wrong = self.graves.judge(first.map_or(0, |first| first.number));
        wrong.extend(self.graves.loops(self.storage, start)?);
        for (kind, at, record, words) in wrong {
            self.whole(kind, (at, record), words.to_owned(), None)?;
        }
        self.report.deleted = self.graves.count();
        let taken = std::mem::take(&mut self.taken);
        for reaching in taken.tell(&mut self.report, self.accepted) {
            let words = format!(
                "{} records before the anchor {} were taken out or replaced after it was taken, and others \
                 may have been put before them: accept it if that was you",
                reaching.records, reaching.anchor
            );
            let at = (reaching.at, 0);
            self.whole(FindingKind::TakenOut, at, words, Some(reaching.accept))?;
        }
        Ok(())
    }

    /// What the log does not hold although somebody says that it did.
    fn unmet(&mut self, segments: &[Segment]) -> Vec<String> {
        let first = segments.first().map_or(0, |first| first.number);
        let retired = matches!(self.report.begins, Begin::AfterRetention { .. });
        let mut unmet = Vec::new();
        for (anchor, met) in &self.anchors {
            self.report.anchors_met += u64::from(*met);
            if !met && retired && anchor.segment < first {
                self.report.anchors_before_retention += 1;
            } else if !met {
                unmet.push(format!(
                    "the log does not hold the anchor {anchor}: its end was cut off, or records before \
                     that point were made anew"
                ));
            }
        }
        unmet.sort_unstable();
        let old = self.report.anchors_before_retention;
        if old > 0 && old == self.anchors.len() as u64 {
            unmet.push(
                "all anchors are of segments that retention let go: nothing vouches for what is kept, \
                 verify against a newer one"
                    .to_owned(),
            );
        }
        if let Some((seen, false)) = self.seen {
            unmet.push(format!(
                "the index saw the log up to {seen}, which it does not hold: its end was cut off, or \
                 records before it were made anew (with `durability = \"relaxed\"` a loss of power does \
                 that as well)"
            ));
        }
        unmet
    }

    /// Where the log begins, and by whose leave.
    fn front(&mut self, segments: &[Segment]) -> io::Result<()> {
        let begun = segments.iter().find_map(Segment::continues);
        let (Some(first), Some(begun)) = (segments.first(), begun) else {
            return Ok(());
        };
        // A head that cannot be read is a finding of its own: nothing is missing before the first.
        let is_first = first.header.is_none() && first.number == 1;
        if is_first || begun == Chain::GENESIS {
            return Ok(());
        }
        let segment = first.number;
        let goes_on = |number, chain| {
            let border = segments.iter().find(|it| it.number == number);
            border.is_some_and(|it| it.continues().is_none_or(|from| from == chain))
        };
        if self.taken.lets_begin(segment, goes_on) {
            self.report.begins = Begin::AfterRetention { segment };
            return Ok(());
        }
        self.report.begins = Begin::Unexplained { segment };
        let words = "the segments before this one are gone, and no record says that retention let \
                     them go";
        let at = (first.start(), 0);
        self.whole(FindingKind::Missing, at, words.to_owned(), None)
    }

    fn whole(
        &mut self,
        kind: FindingKind,
        (at, record): (Position, u64),
        words: String,
        accept: Option<Anchor>,
    ) -> io::Result<()> {
        let accepted = self.is_accepted(accept);
        if self.is_full(0) {
            self.report.count(accepted);
            return Ok(());
        }
        let ended = at.offset > HEADER_LEN as u64;
        let after = if ended {
            self.time.get(self.storage)?
        } else {
            None
        };
        self.untold.push(Finding {
            kind,
            at,
            record,
            after,
            before: None,
            words,
            accept,
            accepted,
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
