//! What calls add to slices: gathered by the minute, and brought to all grains once per batch.

use std::collections::{BTreeMap, HashMap};
use std::mem;

use redb::{ReadableTable, WriteTransaction};

use crate::core::call::Settlement;
use crate::core::id::Label;
use crate::core::time::Timestamp;

use super::super::super::record::Checkpoint;
use super::super::super::rows::CallRow;
use super::super::super::slices::{Grain, Kind, Of, Reach, Slice, SliceKey};
use super::super::super::summary::Summary;
use super::super::super::totals::Totals;
use super::super::{IndexError, META, SLICES};
use super::{Batch, Rows, decode, encode};

const REACH: &str = "reach";

/// What a batch adds to slices.
#[derive(Default)]
pub(super) struct Sliced {
    reach: Reach,
    /// As the tables have it.
    stored: Reach,
    /// By minute.
    fresh: HashMap<(Timestamp, Of), Slice>,
    /// Days of a checkpoint.
    days: Vec<(SliceKey, Slice)>,
    /// Calls whose estimate gave way to what they really used.
    corrected: Vec<(CallRow, Totals, Totals)>,
}

impl Sliced {
    pub(super) fn begin(meta: &Rows<'_, &'static str>) -> Result<Self, IndexError> {
        let reach = read_reach(meta)?;
        Ok(Self {
            reach,
            stored: reach,
            ..Self::default()
        })
    }

    /// Counts a call that ended.
    pub(super) fn add(&mut self, settlement: &Settlement, ended: Timestamp, totals: Totals) {
        let started_at = settlement.started_at;
        self.reach.see(started_at);
        let minute = Grain::Minute.floor(started_at);
        for of in Of::of_settlement(settlement) {
            let slice = self.fresh.entry((minute, of)).or_default();
            slice.add(settlement, ended, &totals);
        }
    }

    /// Counts an agent that came into a run.
    pub(super) fn join(&mut self, agent: Label, at: Timestamp) {
        let minute = Grain::Minute.floor(at);
        let slice = self.fresh.entry((minute, Of::Joined(agent)));
        slice.or_default().merge(&Slice::joined(at));
    }

    pub(super) fn correct(&mut self, row: CallRow, estimate: Totals, used: Totals) {
        self.corrected.push((row, estimate, used));
    }

    /// Takes over the days of a checkpoint.
    pub(super) fn load(&mut self, base: &Checkpoint) {
        let days = base.days.iter().cloned();
        let grain = Grain::Day;
        let named = |(start, of, slice)| (SliceKey { grain, start, of }, slice);
        self.days.extend(days.map(named));
        self.reach.raise(base.at);
    }

    pub(super) fn load_rollup(&mut self, key: SliceKey, day: &Summary) {
        let slice = Slice::of_totals(day.first_at, day.last_at, day.totals);
        self.days.push((key, slice));
    }

    pub(super) fn finish(&self, meta: &mut Rows<'_, &'static str>) -> Result<(), IndexError> {
        if self.reach != self.stored {
            meta.insert(REACH, encode(&self.reach, &mut Vec::new())?)?;
        }
        Ok(())
    }

    /// What is to be added to each slice that is kept.
    fn take(&mut self) -> BTreeMap<Vec<u8>, Slice> {
        let mut slices: BTreeMap<Vec<u8>, Slice> = BTreeMap::new();
        for ((minute, of), added) in mem::take(&mut self.fresh) {
            for grain in Grain::ALL {
                let start = grain.floor(minute);
                if self.reach.keeps(grain, start) {
                    let of = of.clone();
                    let key = SliceKey { grain, start, of }.to_bytes();
                    slices.entry(key).or_default().merge(&added);
                }
            }
        }
        for (key, day) in mem::take(&mut self.days) {
            slices.entry(key.to_bytes()).or_default().merge(&day);
        }
        slices
    }
}

impl Batch<'_> {
    /// Brings slices up to what was taken in, and lets those go that are too old.
    pub(super) fn flush_slices(&mut self, buffer: &mut Vec<u8>) -> Result<(), IndexError> {
        for (key, added) in self.sliced.take() {
            let stored = self.slices.get(key.as_slice())?;
            let stored = stored.map(|slice| decode(slice.value())).transpose()?;
            let mut slice: Slice = stored.unwrap_or_default();
            slice.merge(&added);
            self.slices
                .insert(key.as_slice(), encode(&slice, buffer)?)?;
        }
        for (row, estimate, used) in mem::take(&mut self.sliced.corrected) {
            self.correct_slices(&row, &estimate, &used, buffer)?;
        }
        let (before, reach) = (self.sliced.stored, self.sliced.reach);
        for grain in [Grain::Minute, Grain::Hour] {
            if before.from(grain) != reach.from(grain) {
                forget_old(&mut self.slices, reach, grain)?;
            }
        }
        Ok(())
    }

    fn correct_slices(
        &mut self,
        row: &CallRow,
        estimate: &Totals,
        used: &Totals,
        buffer: &mut Vec<u8>,
    ) -> Result<(), IndexError> {
        let of = Of::edge(row).into_iter().chain([Of::work(row)]);
        for of in of {
            for grain in Grain::ALL {
                let start = grain.floor(row.started_at);
                let of = of.clone();
                let key = SliceKey { grain, start, of }.to_bytes();
                let stored = self.slices.get(key.as_slice())?;
                let stored = stored.map(|slice| decode(slice.value())).transpose()?;
                let stored: Option<Slice> = stored;
                // It may be older than what is kept.
                if let Some(mut slice) = stored {
                    slice.totals.exchange(estimate, used);
                    self.slices
                        .insert(key.as_slice(), encode(&slice, buffer)?)?;
                }
            }
        }
        Ok(())
    }

    /// Every slice of a day, as it is encoded.
    pub(super) fn each_day(
        &self,
        mut take: impl FnMut(Timestamp, Of, &[u8]) -> std::io::Result<()>,
    ) -> Result<(), IndexError> {
        let from = SliceKey::first_of(Grain::Day);
        for entry in self.slices.range(from.as_slice()..)? {
            let (key, slice) = entry?;
            let key = SliceKey::from_bytes(key.value()).ok_or(IndexError::Damaged)?;
            if key.grain != Grain::Day {
                break;
            }
            take(key.start, key.of, slice.value())?;
        }
        Ok(())
    }
}

fn read_reach(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Reach, IndexError> {
    let reach = meta.get(REACH)?;
    let reach = reach.map(|reach| decode(reach.value())).transpose()?;
    Ok(reach.unwrap_or_default())
}

/// From when on there are slices.
pub(crate) fn reach(txn: &redb::ReadTransaction) -> Result<Reach, IndexError> {
    match txn.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(Reach::default()),
        meta => read_reach(&meta?),
    }
}

/// The log holds only what was settled from `floor` on from now on.
pub(in super::super) fn raise_floor(
    txn: &WriteTransaction,
    floor: Timestamp,
) -> Result<(), IndexError> {
    let mut meta = txn.open_table(META)?;
    let mut reach = read_reach(&meta)?;
    reach.raise(floor);
    meta.insert(REACH, encode(&reach, &mut Vec::new())?)?;
    let mut slices = txn.open_table(SLICES)?;
    forget_old(&mut slices, reach, Grain::Minute)?;
    forget_old(&mut slices, reach, Grain::Hour)
}

fn forget_old(
    slices: &mut Rows<'_, &'static [u8]>,
    reach: Reach,
    grain: Grain,
) -> Result<(), IndexError> {
    let Some(from) = reach.from(grain) else {
        return Ok(());
    };
    for kind in Kind::ALL {
        let first = SliceKey::prefix(grain, kind, Timestamp::from_micros(i64::MIN));
        let kept = SliceKey::prefix(grain, kind, from);
        slices.retain_in(first.as_slice()..kept.as_slice(), |_, _| false)?;
    }
    Ok(())
}
