//! Calls that were picked one by one.

use crate::core::id::CallId;

use super::super::index::IndexError;
use super::super::index::batch::id_key;
use super::super::rows::CallRow;
use super::{View, stored_call};

impl View {
    /// These calls, in the order they were asked for in; those that are not recorded are left out.
    pub fn picked(&self, ids: &[CallId]) -> Result<Vec<CallRow>, IndexError> {
        self.index.read(|txn| {
            let mut rows = Vec::with_capacity(ids.len());
            for id in ids {
                rows.extend(stored_call(txn, id_key(*id))?.map(|call| call.row));
            }
            Ok(rows)
        })
    }
}
