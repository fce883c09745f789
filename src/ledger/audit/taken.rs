//! What was taken out of the log, as its own records say.

use std::collections::VecDeque;

use super::super::record::{Chain, Event, Position};
use super::super::removal::{Removal, Removed};
use super::Anchor;
use super::graves::Graves;
use super::report::{AuditReport, MAX_FINDINGS, OnRecord, TakenOut};

/// Taken out after an anchor although it lay before it.
pub(super) struct Reaching {
    pub(super) at: Position,
    pub(super) anchor: Anchor,
    pub(super) records: u64,
    pub(super) accept: Anchor,
}

#[derive(Default)]
pub(super) struct Taken {
    rows: VecDeque<OnRecord>,
    more_rows: u64,
    /// Of the newest row, while more may be added to it.
    reaching: Option<Reaching>,
    /// The first of all of them.
    found: Vec<Reaching>,
    /// How many more nobody accepted, and how many somebody did.
    more: [u64; 2],
    /// Where retention had the log begin.
    fronts: Vec<(u64, Chain)>,
}

impl Taken {
    /// Takes in one record, read at a position and followed by `here`; `met` is the last anchor that
    /// was met before it.
    pub(super) fn add(
        &mut self,
        (removal, at, here): (Removal, Position, Anchor),
        met: Option<(Anchor, Position)>,
        (graves, accepted): (&mut Graves, &[Anchor]),
    ) {
        let Removal {
            at: time,
            who,
            what,
            ..
        } = removal;
        let segments = match what {
            Removed::Front { before, chain } => {
                self.fronts.push((before, chain));
                self.row(
                    OnRecord {
                        at: time,
                        who,
                        what: TakenOut::Segments { before, rounds: 1 },
                        accept: here,
                        words: String::new(),
                    },
                    accepted,
                );
                return;
            }
            Removed::Records { segments } => segments,
        };
        let (mut records, mut reaching) = (0, 0);
        let (mut first, mut last) = (u64::MAX, 0);
        // A deletion is put on record behind all that it takes out.
        for erased in segments.iter().filter(|it| it.number < here.segment) {
            let named = graves.name(erased, met.map(|(_, at)| at));
            records += named.records;
            reaching += named.reaching;
            (first, last) = (first.min(erased.number), last.max(erased.number));
        }
        self.row(
            OnRecord {
                at: time,
                who,
                what: TakenOut::Records {
                    records,
                    first: first.min(last),
                    last,
                },
                accept: here,
                words: String::new(),
            },
            accepted,
        );
        if let Some((anchor, _)) = met.filter(|_| reaching > 0) {
            let before = self.reaching.take();
            self.reaching = Some(Reaching {
                at: before.as_ref().map_or(at, |it| it.at),
                anchor,
                records: reaching + before.as_ref().map_or(0, |it| it.records),
                accept: here,
            });
        } else if let Some(reaching) = &mut self.reaching {
            reaching.accept = here;
        }
    }

    /// Adds a row, or to the newest one what belongs to it: one deletion has several records, and of
    /// rounds of retention the last says all.
    fn row(&mut self, row: OnRecord, accepted: &[Anchor]) {
        if let Some(newest) = self.rows.back_mut()
            && let Some(what) = joined(newest, &row)
        {
            *newest = OnRecord { what, ..row };
            return;
        }
        self.close(accepted);
        if self.rows.len() == MAX_FINDINGS {
            self.rows.pop_front();
            self.more_rows += 1;
        }
        self.rows.push_back(row);
    }

    /// Nothing is added to the newest row any more.
    fn close(&mut self, accepted: &[Anchor]) {
        let Some(reaching) = self.reaching.take() else {
            return;
        };
        if self.found.len() < MAX_FINDINGS {
            self.found.push(reaching);
        } else {
            self.more[usize::from(accepted.contains(&reaching.accept))] += 1;
        }
    }

    /// Whether retention is on record to have let go all before `first`, with others since: what the
    /// segments of the log go on from tells, where that can be read.
    pub(super) fn lets_begin(&self, first: u64, goes_on: impl Fn(u64, Chain) -> bool) -> bool {
        let mut fronts = self.fronts.iter();
        fronts.any(|(before, chain)| *before >= first && goes_on(*before, *chain))
    }

    /// Hands over the rows; what reaches before an anchor is left to be found.
    pub(super) fn tell(mut self, report: &mut AuditReport, accepted: &[Anchor]) -> Vec<Reaching> {
        self.close(accepted);
        for row in &mut self.rows {
            row.words = row.what.words();
        }
        report.on_record = self.rows.into();
        report.more_on_record = self.more_rows;
        report.more_findings += self.more[0];
        report.more_accepted += self.more[1];
        self.found
    }
}

fn joined(newest: &OnRecord, row: &OnRecord) -> Option<TakenOut> {
    match (newest.what, row.what) {
        (TakenOut::Segments { rounds, .. }, TakenOut::Segments { before, .. }) => {
            Some(TakenOut::Segments {
                before,
                rounds: rounds + 1,
            })
        }
        (
            TakenOut::Records {
                records,
                first,
                last,
            },
            TakenOut::Records {
                records: more,
                first: from,
                last: to,
            },
        ) if (newest.at, &newest.who) == (row.at, &row.who) => Some(TakenOut::Records {
            records: records + more,
            first: first.min(from),
            last: last.max(to),
        }),
        _ => None,
    }
}

impl TakenOut {
    pub(super) fn words(self) -> String {
        match self {
            Self::Segments { before, rounds } => {
                format!("all segments before {before}, by retention, in {rounds} rounds")
            }
            Self::Records {
                records,
                first,
                last,
            } => format!("{records} records of segments {first} to {last}, by a deletion"),
        }
    }
}

/// What an event says of a log that was shorter than it had been.
pub(super) fn shortened(payload: &[u8]) -> Option<String> {
    memchr::memmem::find(payload, Event::LOG_SHORTER.as_bytes())?;
    let event: Event = minicbor::decode(payload).ok()?;
    let is_that = event.what == Event::LOG_SHORTER;
    event.details.filter(|_| is_that)
}
