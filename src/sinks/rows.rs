//! Rows on their way: those of one table together, each under an id, none twice.

use std::collections::HashMap;

use crate::config::SinkTable;
use crate::export::Row;

/// Rows of one table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lot {
    pub(super) table: SinkTable,
    pub(super) rows: Vec<Entry>,
}

/// One row, all of its columns but the instance; `id` tells it apart within its table and instance.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) row: Row,
}

impl Lot {
    /// Of rows with one id the last stays: no statement may touch a row twice.
    pub(super) fn new(table: SinkTable, rows: Vec<Entry>) -> Self {
        let mut places = HashMap::with_capacity(rows.len());
        let mut kept: Vec<Entry> = Vec::with_capacity(rows.len());
        for entry in rows {
            let known = places.get(&entry.id);
            if let Some(known) = known.and_then(|at: &usize| kept.get_mut(*at)) {
                *known = entry;
            } else {
                places.insert(entry.id.clone(), kept.len());
                kept.push(entry);
            }
        }
        Self { table, rows: kept }
    }

    /// Two halves; none of a single row.
    pub(super) fn halves(mut self) -> Option<[Self; 2]> {
        let half = self.rows.len() / 2;
        if half == 0 {
            return None;
        }
        let table = self.table;
        let rows = self.rows.split_off(half);
        Some([self, Self { table, rows }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Value;

    fn entry(id: &str, number: i64) -> Entry {
        Entry {
            id: id.to_owned(),
            row: vec![Value::Integer(number)],
        }
    }

    #[test]
    fn of_rows_with_one_id_the_last_stays_in_the_place_of_the_first() {
        let rows = vec![entry("a", 1), entry("b", 2), entry("a", 3)];
        let lot = Lot::new(SinkTable::Calls, rows);
        assert_eq!(lot.rows, [entry("a", 3), entry("b", 2)]);
    }

    #[test]
    fn halves_are_all_of_it_until_there_is_one_row() {
        let rows: Vec<_> = (0..5).map(|n| entry(&n.to_string(), n)).collect();
        let [one, other] = Lot::new(SinkTable::Metrics, rows).halves().unwrap();
        assert_eq!((one.rows.len(), other.rows.len()), (2, 3));
        let single = Lot::new(SinkTable::Metrics, vec![entry("a", 1)]);
        assert_eq!(single.halves(), None);
    }
}
