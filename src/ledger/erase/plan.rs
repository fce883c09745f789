//! Which records have to go so that calls are gone.

use std::collections::{HashMap, HashSet};
use std::io;

use crate::core::budget::Act;
use crate::core::call::{Admission, LateUsage, Part, Settlement, StoredBody};
use crate::core::digest::Digest;
use crate::core::id::CallId;
use crate::core::metric::{Measurement, Subject};

use super::super::body::unpack_content;
use super::super::checkpoint;
use super::super::log::{LogReader, Segment, Step};
use super::super::record::{Content, Event, NewAccount, kind};
use super::super::removal::{Erased, Tombstone};
use super::super::storage::Storage;
use super::rules::Rules;
use super::{ErasedReport, Scope};

pub(super) struct Plan {
    pub(super) erased: Vec<Erased>,
    pub(super) report: ErasedReport,
}

/// What is known of the whole log before any record is judged.
struct Judge {
    rules: Rules,
    /// Calls that go.
    going: HashSet<CallId>,
    /// Contents of calls that go and of no call that stays.
    unshared: HashSet<Digest>,
    running: u64,
}

/// Goes through the log and writes down each record that goes, and what is left of it.
pub(super) fn plan(storage: &dyn Storage, segments: &[Segment], scope: &Scope) -> io::Result<Plan> {
    let judge = Judge::read(storage, segments, scope)?;
    let mut report = ErasedReport {
        calls: judge.going.len() as u64,
        running_calls: judge.running,
        ..ErasedReport::default()
    };
    let mut erased: Vec<Erased> = Vec::new();
    let mut reader = LogReader::from_start(storage, segments);
    let mut before = reader.cursor().chain;
    loop {
        let found = match reader.next()? {
            None => break,
            Some(Step::Record { at, kind, payload }) if judge.condemns(kind, payload) => {
                let residue = judge.rules.residue(kind, payload);
                let tombstone = Tombstone::of(kind, payload.len(), before, residue);
                let left = tombstone.to_bytes().len();
                report.records += 1;
                report.contents += u64::from(kind == kind::CONTENT);
                report.freed_bytes += payload.len().saturating_sub(left) as u64;
                Some((at.segment, tombstone))
            }
            Some(_) => None,
        };
        before = reader.cursor().chain;
        let Some((number, tombstone)) = found else {
            continue;
        };
        if erased.last().is_none_or(|it| it.number != number) {
            erased.push(Erased::of(number));
        }
        if let Some(erased) = erased.last_mut() {
            erased.add(before, &tombstone);
        }
    }
    report.segments = erased.len() as u64;
    Ok(Plan { erased, report })
}

/// Contents that bodies are made of, and what groups among them hold.
#[derive(Default)]
struct References {
    groups: HashMap<Digest, Vec<Digest>>,
    staying: HashSet<Digest>,
    going: HashSet<Digest>,
}

impl References {
    fn see_content(&mut self, content: &Content<'_>) {
        let parts = unpack_content(content);
        let parts = parts.and_then(|bytes| minicbor::decode::<Vec<Part>>(&bytes).ok());
        if let Some(parts) = parts {
            let digests = parts.iter().filter_map(|part| match part {
                Part::Content(digest) => Some(*digest),
                _ => None,
            });
            self.groups.insert(content.digest, digests.collect());
        }
    }

    fn see_body(&mut self, body: Option<&StoredBody>, goes: bool) {
        let set = if goes {
            &mut self.going
        } else {
            &mut self.staying
        };
        for part in body.iter().flat_map(|body| &body.parts) {
            match part {
                Part::Content(digest) => drop(set.insert(*digest)),
                Part::Group(digest) => {
                    set.insert(*digest);
                    set.extend(self.groups.get(digest).into_iter().flatten());
                }
                Part::Literal(_) | Part::Compressed(..) => {}
            }
        }
    }
}

impl Judge {
    fn read(storage: &dyn Storage, segments: &[Segment], scope: &Scope) -> io::Result<Self> {
        let mut judge = Self {
            rules: Rules::read(storage, segments, scope)?,
            going: HashSet::new(),
            unshared: HashSet::new(),
            running: 0,
        };
        judge.read_calls(storage, segments)?;
        judge.read_contents(storage, segments)?;
        Ok(judge)
    }

    fn read_calls(&mut self, storage: &dyn Storage, segments: &[Segment]) -> io::Result<()> {
        let mut meant = HashSet::new();
        let mut reader = LogReader::from_start(storage, segments);
        while let Some(step) = reader.next()? {
            let Step::Record { kind, payload, .. } = step else {
                continue;
            };
            if kind == kind::ADMISSION
                && let Ok(admission) = minicbor::decode::<Admission>(payload)
                && self.rules.means_admission(&admission)
            {
                meant.insert(admission.id);
            } else if kind == kind::SETTLEMENT
                && let Ok(settlement) = minicbor::decode::<Settlement>(payload)
                && (meant.contains(&settlement.id) || self.rules.means_settlement(&settlement))
            {
                self.going.insert(settlement.id);
            }
        }
        self.running = meant.difference(&self.going).count() as u64;
        Ok(())
    }

    fn read_contents(&mut self, storage: &dyn Storage, segments: &[Segment]) -> io::Result<()> {
        let mut seen = References::default();
        let mut reader = LogReader::from_start(storage, segments);
        while let Some(step) = reader.next()? {
            let Step::Record { kind, payload, .. } = step else {
                continue;
            };
            match kind {
                kind::CONTENT => {
                    if let Ok(content) = minicbor::decode::<Content<'_>>(payload) {
                        seen.see_content(&content);
                    }
                }
                kind::ADMISSION => {
                    if let Ok(it) = minicbor::decode::<Admission>(payload) {
                        seen.see_body(it.request.as_ref(), self.going.contains(&it.id));
                    }
                }
                kind::SETTLEMENT => {
                    if let Ok(it) = minicbor::decode::<Settlement>(payload) {
                        seen.see_body(it.response.as_ref(), self.going.contains(&it.id));
                    }
                }
                _ => {}
            }
        }
        let References { staying, going, .. } = seen;
        self.unshared = going.difference(&staying).copied().collect();
        Ok(())
    }

    /// Whether a record goes.
    fn condemns(&self, kind: u8, payload: &[u8]) -> bool {
        let goes = |id: CallId| self.going.contains(&id);
        let rules = &self.rules;
        match kind {
            kind::CONTENT => {
                decode(payload).is_some_and(|it: Content<'_>| self.unshared.contains(&it.digest))
            }
            kind::ADMISSION => decode(payload).is_some_and(|it: Admission| goes(it.id)),
            kind::SETTLEMENT => decode(payload).is_some_and(|it: Settlement| goes(it.id)),
            kind::LATE => decode(payload).is_some_and(|it: LateUsage| goes(it.id)),
            kind::MEASUREMENT => decode(payload).is_some_and(|it: Measurement| match &it.subject {
                Subject::Call(id) if goes(*id) => true,
                _ => rules.means_measurement(&it),
            }),
            kind::EVENT => decode(payload).is_some_and(|it: Event| rules.tells(&it)),
            kind::ACT => decode(payload).is_some_and(|it: Act| rules.tells_act(&it)),
            kind::ACCOUNT => {
                decode(payload).is_some_and(|it: NewAccount| rules.names(&it.name.key))
            }
            kind::CHECKPOINT => {
                checkpoint::parse(payload).is_some_and(|mut it| rules.strip(&mut it))
            }
            _ => false,
        }
    }
}

fn decode<'b, T: minicbor::Decode<'b, ()>>(payload: &'b [u8]) -> Option<T> {
    minicbor::decode(payload).ok()
}
