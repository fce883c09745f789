//! The shapes of sums over a span of time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::TotalsView;
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::{Figures, Latency, Line, LineOf, ModelRow, Series, SpanFigures, Spanned};

/// What a group of calls used and how long they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FiguresView {
    #[serde(flatten)]
    pub totals: TotalsView,
    /// How long calls took that completed.
    pub duration: Latency,
    /// How long they took to the first bytes of the response's body.
    pub first_chunk: Latency,
}

impl From<Figures> for FiguresView {
    fn from(figures: Figures) -> Self {
        Self {
            totals: figures.totals.into(),
            duration: figures.duration,
            first_chunk: figures.first_chunk,
        }
    }
}

/// Models, the last used first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// What the figures are of; null is all time.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// That is somewhat more than what was asked for.
    pub widened: bool,
    pub models: Vec<ModelView>,
    /// What to pass as `before` for those that follow; null when there are none.
    pub next: Option<Timestamp>,
}

impl From<Spanned<ModelRow>> for ModelList {
    fn from(list: Spanned<ModelRow>) -> Self {
        Self {
            since: list.since,
            until: list.until,
            widened: list.widened,
            models: list.items.into_iter().map(Into::into).collect(),
            next: list.next,
        }
    }
}

/// One model and what its calls of the span used, or those of all days that are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    /// Null of calls that name none.
    pub model: Option<Label>,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub agents: Vec<Label>,
    pub upstreams: Vec<Label>,
    #[serde(flatten)]
    pub figures: FiguresView,
}

impl From<ModelRow> for ModelView {
    fn from(row: ModelRow) -> Self {
        Self {
            model: row.model,
            first_at: row.first_at,
            last_at: row.last_at,
            agents: row.agents,
            upstreams: row.upstreams,
            figures: row.figures.into(),
        }
    }
}

/// What calls used over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeriesView {
    /// The first moment of the first bucket, and the first one after the last: buckets are whole
    /// minutes, hours or days (UTC).
    pub since: Timestamp,
    pub until: Timestamp,
    /// How wide each bucket is; of days only where hours are no longer kept.
    pub step_us: u64,
    /// All calls, bucket by bucket.
    pub buckets: Vec<FiguresView>,
    /// The same taken apart, the most expensive first, then all others; empty without `by`.
    pub lines: Vec<LineView>,
    /// What was asked for as a whole.
    pub whole: SpanView,
    /// The span of the same length just before it.
    pub before: SpanView,
}

impl From<Series> for SeriesView {
    fn from(series: Series) -> Self {
        Self {
            since: series.since,
            until: series.until,
            step_us: series.step_us,
            buckets: series.buckets.into_iter().map(Into::into).collect(),
            lines: series.lines.into_iter().map(Into::into).collect(),
            whole: series.whole.into(),
            before: series.before.into(),
        }
    }
}

/// One line of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LineView {
    /// Null of calls that name none, and of all others.
    pub name: Option<Label>,
    /// It stands for all that have no line of their own.
    pub others: bool,
    pub whole: FiguresView,
    /// As many as the series has.
    pub buckets: Vec<FiguresView>,
}

impl From<Line> for LineView {
    fn from(line: Line) -> Self {
        let (name, others) = match line.of {
            LineOf::Named(name) => (Some(name), false),
            LineOf::Unnamed => (None, false),
            LineOf::Others => (None, true),
        };
        Self {
            name,
            others,
            whole: line.whole.into(),
            buckets: line.buckets.into_iter().map(Into::into).collect(),
        }
    }
}

/// What the calls of a span used as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpanView {
    /// What the figures are of, which may be somewhat wider than what was asked for.
    pub since: Timestamp,
    pub until: Timestamp,
    #[serde(flatten)]
    pub figures: FiguresView,
}

impl From<SpanFigures> for SpanView {
    fn from(span: SpanFigures) -> Self {
        Self {
            since: span.since,
            until: span.until,
            figures: span.figures.into(),
        }
    }
}
