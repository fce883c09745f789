//! Custom metrics in the index: each measurement under all that it counts for, found by name and
//! time. It goes with the segment that holds it; what came with a call goes with its admission.

use redb::{ReadableTable, Table, WriteTransaction};

use crate::core::call::Admission;
use crate::core::metric::{Measurement, Subject};
use crate::core::time::Timestamp;

use super::super::super::query::MetricScope;
use super::super::{IndexError, MEASURED, MEASURES};
use super::{decode, encode};

pub(in super::super) struct Measured<'t> {
    rows: Table<'t, (&'static str, &'static str, i64, u64), &'static [u8]>,
    /// The one row of each that says the same of the same by the same.
    known: Table<'t, u128, (i64, u64)>,
}

impl<'t> Measured<'t> {
    pub(in super::super) fn begin(txn: &'t WriteTransaction) -> Result<Self, IndexError> {
        Ok(Self {
            rows: txn.open_table(MEASURED)?,
            known: txn.open_table(MEASURES)?,
        })
    }

    /// What came with a call.
    pub(super) fn put_headers(
        &mut self,
        admission: &Admission,
        segment: u64,
    ) -> Result<(), IndexError> {
        if admission.attribution.metrics.is_empty() {
            return Ok(());
        }
        for it in Measurement::of_headers(admission) {
            self.put(&it, segment)?;
        }
        Ok(())
    }

    /// Takes the place of what the same said of the same before. Says whether what it was charged
    /// is new: a record may have been written again after a failure, and others between; and what
    /// was said to another instance may come after what was said later.
    pub(super) fn put(&mut self, it: &Measurement, segment: u64) -> Result<bool, IndexError> {
        let id = identity(it);
        let before = self.known.get(id)?.map(|known| known.value().0);
        let mut is_new = true;
        if let Some(at) = before {
            let charged = it.charged.as_ref().map(|charged| charged.at);
            let last = self.charged_at(it, at, id)?;
            // What came with a call, or was recorded by an older version, says no time: it is older.
            if last > charged {
                return Ok(false);
            }
            is_new = charged.is_none() || last < charged;
            self.remove_rows(it, at, id)?;
        }
        let mut buffer = Vec::new();
        let row = encode(it, &mut buffer)?;
        let at = it.at.micros();
        for scope in MetricScope::all_of(it) {
            let key = (&*scope.to_key(), it.name.as_str(), at, tie(id));
            self.rows.insert(key, row)?;
        }
        self.known.insert(id, (at, segment))?;
        Ok(is_new)
    }

    /// When the one that is known was said.
    fn charged_at(
        &self,
        it: &Measurement,
        at: i64,
        id: u128,
    ) -> Result<Option<Timestamp>, IndexError> {
        let scope = MetricScope::All.to_key();
        let row = self.rows.get((&*scope, it.name.as_str(), at, tie(id)))?;
        let row = row.map(|row| decode::<Measurement>(row.value()));
        let charged = row.transpose()?.and_then(|row| row.charged);
        Ok(charged.map(|charged| charged.at))
    }

    /// Lets it go if its latest record lies before a segment.
    pub(in super::super) fn forget(
        &mut self,
        it: &Measurement,
        before: u64,
    ) -> Result<(), IndexError> {
        let id = identity(it);
        let known = self.known.get(id)?.map(|known| known.value());
        if let Some((at, segment)) = known
            && segment < before
        {
            self.remove_rows(it, at, id)?;
            self.known.remove(id)?;
        }
        Ok(())
    }

    /// The segment `to` holds it from now on, if its latest record lies before another one.
    pub(in super::super) fn hand_over(
        &mut self,
        it: &Measurement,
        before: u64,
        to: u64,
    ) -> Result<(), IndexError> {
        let id = identity(it);
        let known = self.known.get(id)?.map(|known| known.value());
        if let Some((at, segment)) = known
            && segment < before
        {
            self.known.insert(id, (at, to))?;
        }
        Ok(())
    }

    fn remove_rows(&mut self, it: &Measurement, at: i64, id: u128) -> Result<(), IndexError> {
        for scope in MetricScope::all_of(it) {
            let key = (&*scope.to_key(), it.name.as_str(), at, tie(id));
            self.rows.remove(key)?;
        }
        Ok(())
    }
}

/// Of a call or a run there is one value by each name, person and key; an agent has one at each
/// moment, as it lasts.
pub(in super::super::super) fn identity(it: &Measurement) -> u128 {
    let mut hasher = blake3::Hasher::new();
    let mut part = |text: &[u8]| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    part(MetricScope::of(&it.subject).to_key().as_bytes());
    part(it.name.as_bytes());
    part(it.who.as_str().as_bytes());
    match (&it.key, &it.subject) {
        (Some(key), _) => part(key.as_str().as_bytes()),
        (None, Subject::Agent(_)) => part(&it.at.micros().to_le_bytes()),
        (None, Subject::Call(_) | Subject::Run(_)) => {}
    }
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    u128::from_le_bytes(id)
}

/// Keeps measurements of one moment apart.
pub(in super::super::super) fn tie(id: u128) -> u64 {
    u64::try_from(id & u128::from(u64::MAX)).unwrap_or(0)
}
