//! Where two runs part: the first call at which they are not the same.

use crate::core::compare::{Departure, FirstDifference, What};
use crate::core::id::Label;

use super::super::index::IndexError;
use super::super::rows::CallRow;
use super::View;

/// Calls of each run that are looked at.
const MOST: usize = 1000;

impl View {
    /// The first calls of two runs, in the order they came, that are of another agent, ask for another
    /// model or send something else; none among the first 1,000 where there is no such. Where two calls
    /// sent other bytes, `told` says what of it matters, and none where nothing does.
    pub fn part(
        &self,
        (a, b): (&Label, &Label),
        mut told: impl FnMut(&CallRow, &CallRow) -> Result<Option<Departure>, IndexError>,
    ) -> Result<Option<FirstDifference>, IndexError> {
        let of_a = self.run_calls(a, 0, MOST)?.calls;
        let of_b = self.run_calls(b, 0, MOST)?.calls;
        for number in 0..of_a.len().max(of_b.len()) {
            let (one, other) = (of_a.get(number), of_b.get(number));
            let departure = match (one, other) {
                (Some(one), Some(other)) => match plainly(one, other) {
                    None if self.sent_the_same(one, other)? => None,
                    None => told(one, other)?,
                    plain => plain,
                },
                _ => Some(Departure::of(What::Length, "", "")),
            };
            if let Some(departure) = departure {
                return Ok(Some(FirstDifference {
                    number: number as u64,
                    a: one.map(|row| row.id),
                    b: other.map(|row| row.id),
                    departure,
                }));
            }
        }
        Ok(None)
    }

    fn sent_the_same(&self, a: &CallRow, b: &CallRow) -> Result<bool, IndexError> {
        if (a.operation, a.request_bytes) != (b.operation, b.request_bytes) {
            return Ok(false);
        }
        // Contents stand for themselves by their digests: nothing has to be read for that.
        let sent = |row: &CallRow| -> Result<_, IndexError> {
            let detail = self.call(row.id)?;
            Ok(detail
                .and_then(|it| it.admission?.request)
                .filter(|body| !body.truncated)
                .map(|body| body.parts))
        };
        // Two that are not recorded as a whole are not known to be the same.
        let (a_sent, b_sent) = (sent(a)?, sent(b)?);
        Ok(a_sent == b_sent && (a_sent.is_some() || a.request_bytes == 0))
    }
}

/// What differs on the face of it.
fn plainly(a: &CallRow, b: &CallRow) -> Option<Departure> {
    let name = |model: Option<&Label>| model.map_or("none", Label::as_str).to_owned();
    if a.agent != b.agent {
        return Some(Departure::of(
            What::Agent,
            a.agent.as_str(),
            b.agent.as_str(),
        ));
    }
    let (one, other) = (a.request_model.as_ref(), b.request_model.as_ref());
    (one != other).then(|| Departure::of(What::Model, &name(one), &name(other)))
}
