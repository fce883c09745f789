//! Where two runs part: the first call at which they are not the same.

use crate::core::compare::{FirstDifference, What};
use crate::core::id::Label;

use super::super::index::IndexError;
use super::super::rows::CallRow;
use super::View;

/// Calls of each run that are looked at.
const MOST: usize = 1000;

impl View {
    /// The first calls of two runs, in the order they came, that are of another agent, ask for another
    /// model or send something else; none among the first 1,000 where there is no such.
    pub fn part(&self, a: &Label, b: &Label) -> Result<Option<FirstDifference>, IndexError> {
        let of_a = self.run_calls(a, 0, MOST)?.calls;
        let of_b = self.run_calls(b, 0, MOST)?.calls;
        for number in 0..of_a.len().max(of_b.len()) {
            let (one, other) = (of_a.get(number), of_b.get(number));
            if let Some(what) = self.differs(one, other)? {
                return Ok(Some(FirstDifference {
                    number: number as u64,
                    a: one.map(|row| row.id),
                    b: other.map(|row| row.id),
                    what,
                }));
            }
        }
        Ok(None)
    }

    fn differs(
        &self,
        a: Option<&CallRow>,
        b: Option<&CallRow>,
    ) -> Result<Option<What>, IndexError> {
        let (Some(a), Some(b)) = (a, b) else {
            return Ok(Some(What::Length));
        };
        if a.agent != b.agent {
            return Ok(Some(What::Agent));
        }
        if a.request_model != b.request_model {
            return Ok(Some(What::Model));
        }
        if (a.operation, a.request_bytes) != (b.operation, b.request_bytes) {
            return Ok(Some(What::Request));
        }
        // Contents stand for themselves by their digests: nothing has to be read for that.
        let sent = |row: &CallRow| -> Result<_, IndexError> {
            let detail = self.call(row.id)?;
            Ok(detail
                .and_then(|it| it.admission?.request)
                .map(|body| body.parts))
        };
        let is_other = sent(a)? != sent(b)?;
        Ok(is_other.then_some(What::Request))
    }
}
