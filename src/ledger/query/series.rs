//! What calls used over time, bucket by bucket.

use std::collections::HashMap;

use redb::ReadTransaction;

use crate::core::id::Label;
use crate::core::time::Timestamp;

use super::super::index::IndexError;
use super::super::index::batch::slices::reach;
use super::super::rows::{Figures, Line, LineOf, Series, SpanFigures};
use super::super::slices::{Grain, Kind, Slice};
use super::View;
use super::sums::{OfRef, Span, each_of_grain};

/// Buckets of one series, at most.
pub const MAX_BUCKETS: usize = 120;
/// Lines beside that of all others.
const MAX_LINES: usize = 5;
/// Slices that are read for one series before wider ones are taken.
const MAX_SLICES: usize = 100_000;

/// Widths that people can read off, in minutes.
const STEPS: [i64; 17] = [
    1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080, 20_160, 43_200, 129_600,
];

/// What a series is told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    #[default]
    None,
    Agent,
    Model,
    Upstream,
}

/// Which calls, and how they are told apart.
#[derive(Clone, Debug)]
pub struct SeriesFilter {
    pub since: Timestamp,
    /// The first moment after the span; later than `since`.
    pub until: Timestamp,
    pub by: By,
    pub agent: Option<Label>,
    /// Answered by, else asked for.
    pub model: Option<Label>,
    /// Buckets at least so wide, in microseconds.
    pub step_us: Option<u64>,
}

impl SeriesFilter {
    fn matches(&self, of: OfRef<'_>) -> bool {
        let OfRef::Work { agent, model, .. } = of else {
            return false;
        };
        let is = |wanted: &Option<Label>, actual: Option<&str>| {
            wanted.is_none() || wanted.as_ref().map(Label::as_str) == actual
        };
        is(&self.agent, Some(agent)) && is(&self.model, model)
    }

    /// Whose line a slice belongs to; none if it is not told apart.
    fn line<'a>(&self, of: OfRef<'a>) -> Option<Option<&'a str>> {
        let OfRef::Work {
            agent,
            model,
            upstream,
        } = of
        else {
            return None;
        };
        match self.by {
            By::None => None,
            By::Agent => Some(Some(agent)),
            By::Model => Some(model),
            By::Upstream => Some(Some(upstream)),
        }
    }
}

impl View {
    /// What calls that started in a span used over time. Buckets are whole minutes, hours or days
    /// (UTC), at most [`MAX_BUCKETS`].
    pub fn series(&self, filter: &SeriesFilter) -> Result<Series, IndexError> {
        self.index.read(|txn| {
            let length = filter.until.micros_since(filter.since);
            // The span before begins as long before it as it ends after that.
            let before = filter.since.micros().saturating_sub_unsigned(length);
            let before = (Timestamp::from_micros(before), filter.since);
            let drawn = draw(txn, filter)?;
            Ok(drawn.into_series(
                whole(txn, filter, (filter.since, filter.until))?,
                whole(txn, filter, before)?,
            ))
        })
    }
}

fn whole(
    txn: &ReadTransaction,
    filter: &SeriesFilter,
    (since, until): (Timestamp, Timestamp),
) -> Result<SpanFigures, IndexError> {
    let span = Span::new(txn, Some(since), Some(until))?;
    let mut sum = Slice::default();
    span.each(txn, Kind::Work, |of, slice| {
        if filter.matches(of) {
            sum.merge(slice);
        }
        Ok(())
    })?;
    Ok(SpanFigures {
        since: span.since.unwrap_or(since),
        until: span.until.unwrap_or(until),
        figures: sum.figures(),
    })
}

/// Where the buckets of a series lie.
#[derive(Clone, Copy, Debug)]
struct Ruler {
    grain: Grain,
    since: Timestamp,
    until: Timestamp,
    step: i64,
}

impl Ruler {
    fn new(filter: &SeriesFilter, step: i64) -> Self {
        let grain = [Grain::Day, Grain::Hour];
        let grain = grain.into_iter().find(|grain| step % grain.micros() == 0);
        let grain = grain.unwrap_or(Grain::Minute);
        // Wide buckets begin with the day that was asked for, others where the clock strikes.
        let aligned = step.min(Grain::Day.micros());
        let since = filter.since.micros().div_euclid(aligned) * aligned;
        let length = filter.until.micros().saturating_sub(since).max(1);
        let buckets = length.div_euclid(step) + i64::from(length.rem_euclid(step) > 0);
        let until = since.saturating_add(buckets.saturating_mul(step));
        Self {
            grain,
            since: Timestamp::from_micros(since),
            until: Timestamp::from_micros(until),
            step,
        }
    }

    fn buckets(self) -> usize {
        let buckets = (self.until.micros() - self.since.micros()) / self.step;
        usize::try_from(buckets).unwrap_or(usize::MAX)
    }

    fn bucket(self, at: Timestamp) -> usize {
        let bucket = (at.micros() - self.since.micros()) / self.step;
        usize::try_from(bucket).unwrap_or(usize::MAX)
    }
}

/// The finest series that fits: not too many buckets, slices that are kept and can be read in time.
fn draw(txn: &ReadTransaction, filter: &SeriesFilter) -> Result<Drawn, IndexError> {
    let reach = reach(txn)?;
    let least = filter
        .step_us
        .map_or(0, |step| i64::try_from(step).unwrap_or(i64::MAX));
    let named = STEPS
        .into_iter()
        .map(|minutes| minutes * Grain::Minute.micros());
    // However long the span is, one of them is wide enough.
    let wider = (1..=10).map(|doublings| (Grain::Day.micros() * 90) << doublings);
    let mut too_many = None;
    for step in named.chain(wider) {
        let ruler = Ruler::new(filter, step);
        let fits = step >= least
            && ruler.buckets() <= MAX_BUCKETS
            && reach.keeps(ruler.grain, ruler.since)
            && too_many != Some(ruler.grain);
        if !fits {
            continue;
        }
        if let Some(drawn) = draw_on(txn, filter, ruler)? {
            return Ok(drawn);
        }
        too_many = Some(ruler.grain);
    }
    let length = filter.until.micros().saturating_sub(filter.since.micros());
    let days = length / Grain::Day.micros() + 2;
    let ruler = Ruler::new(filter, days.saturating_mul(Grain::Day.micros()));
    Ok(draw_on(txn, filter, ruler)?.unwrap_or_else(|| Drawn::new(ruler)))
}

/// None where that takes too many slices.
fn draw_on(
    txn: &ReadTransaction,
    filter: &SeriesFilter,
    ruler: Ruler,
) -> Result<Option<Drawn>, IndexError> {
    let mut drawn = Drawn::new(ruler);
    let mut read = 0;
    // There is nothing coarser than days.
    let most = if ruler.grain == Grain::Day {
        usize::MAX
    } else {
        MAX_SLICES
    };
    each_of_grain(
        txn,
        ruler.grain,
        (ruler.since, ruler.until),
        |at, of, slice| {
            read += 1;
            if filter.matches(of) {
                drawn.add(ruler.bucket(at), filter.line(of), &slice);
            }
            read <= most
        },
    )?;
    Ok((read <= most).then_some(drawn))
}

/// Buckets while they are filled.
struct Drawn {
    ruler: Ruler,
    all: Vec<Slice>,
    lines: Vec<(LineOf, Vec<Slice>)>,
    /// Where the line of each name is.
    named: HashMap<Label, usize>,
    unnamed: Option<usize>,
}

impl Drawn {
    fn new(ruler: Ruler) -> Self {
        Self {
            ruler,
            all: vec![Slice::default(); ruler.buckets()],
            lines: Vec::new(),
            named: HashMap::new(),
            unnamed: None,
        }
    }

    fn add(&mut self, bucket: usize, line: Option<Option<&str>>, slice: &Slice) {
        if let Some(all) = self.all.get_mut(bucket) {
            all.merge(slice);
        }
        let Some(name) = line else { return };
        let known = name.map_or(self.unnamed, |name| self.named.get(name).copied());
        let at = known.unwrap_or_else(|| self.new_line(name));
        let line = self.lines.get_mut(at);
        if let Some(sum) = line.and_then(|(_, line)| line.get_mut(bucket)) {
            sum.merge(slice);
        }
    }

    fn new_line(&mut self, name: Option<&str>) -> usize {
        let at = self.lines.len();
        let named = name.and_then(|name| Label::parse(name).ok());
        if let Some(name) = &named {
            self.named.insert(name.clone(), at);
        } else {
            self.unnamed = Some(at);
        }
        let of = named.map_or(LineOf::Unnamed, LineOf::Named);
        self.lines
            .push((of, vec![Slice::default(); self.all.len()]));
        at
    }

    fn into_series(self, whole: SpanFigures, before: SpanFigures) -> Series {
        let mut lines: Vec<(LineOf, Slice, Vec<Slice>)> = Vec::new();
        for (of, buckets) in self.lines {
            lines.push((of, sum(&buckets), buckets));
        }
        let rank = |slice: &Slice| (slice.totals.cost_nano_usd, slice.totals.calls);
        lines.sort_by(|(a, x, _), (b, y, _)| rank(y).cmp(&rank(x)).then_with(|| a.cmp(b)));
        let others = lines.split_off(lines.len().min(MAX_LINES));
        if !others.is_empty() {
            let mut buckets = vec![Slice::default(); self.all.len()];
            for (_, _, line) in &others {
                for (sum, slice) in buckets.iter_mut().zip(line) {
                    sum.merge(slice);
                }
            }
            lines.push((LineOf::Others, sum(&buckets), buckets));
        }
        let figures =
            |buckets: &[Slice]| -> Vec<Figures> { buckets.iter().map(Slice::figures).collect() };
        let line = |(of, whole, buckets): (LineOf, Slice, Vec<Slice>)| Line {
            of,
            whole: whole.figures(),
            buckets: figures(&buckets),
        };
        Series {
            since: self.ruler.since,
            until: self.ruler.until,
            step_us: u64::try_from(self.ruler.step).unwrap_or(0),
            buckets: figures(&self.all),
            lines: lines.into_iter().map(line).collect(),
            whole,
            before,
        }
    }
}

fn sum(slices: &[Slice]) -> Slice {
    let mut sum = Slice::default();
    slices.iter().for_each(|slice| sum.merge(slice));
    sum
}
