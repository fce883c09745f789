//! Who spent most within a span, out of all there are.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::super::index::IndexError;
use super::super::rows::{AgentRow, ModelRow, Tops};
use super::super::slices::Slice;
use super::spans::{self, SpanFilter};
use super::{OpenCalls, View};

impl View {
    /// The agents that spent most in the span, then did most: `filter.limit` of them.
    pub fn top_agents(&self, filter: &SpanFilter) -> Result<Tops<AgentRow>, IndexError> {
        self.index.read(|txn| {
            let open = OpenCalls::count(txn, filter)?;
            let (_, agents) = spans::agents(txn, filter, &open)?;
            Ok(top(
                agents,
                filter,
                |sum| &sum.slice,
                |(agent, sum)| spans::agent_row(agent, sum, &open),
            ))
        })
    }

    /// The models that most was spent on in the span: `filter.limit` of them.
    pub fn top_models(&self, filter: &SpanFilter) -> Result<Tops<ModelRow>, IndexError> {
        self.index.read(|txn| {
            let (_, models) = spans::models(txn, filter)?;
            Ok(top(models, filter, |sum| &sum.slice, spans::model_row))
        })
    }
}

fn top<K: Ord, V, T>(
    all: BTreeMap<K, V>,
    filter: &SpanFilter,
    slice: impl Fn(&V) -> &Slice,
    row: impl FnMut((K, V)) -> T,
) -> Tops<T> {
    let first_at = all.values().map(|sum| slice(sum).first_at).min();
    let mut rows: Vec<(K, V)> = all.into_iter().collect();
    let count = rows.len();
    rows.sort_by_key(|(_, sum)| {
        let totals = &slice(sum).totals;
        Reverse((totals.cost_nano_usd, totals.calls))
    });
    rows.truncate(super::rows(filter.limit));
    Tops {
        items: rows.into_iter().map(row).collect(),
        count,
        first_at,
    }
}
