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
    fn line<'a>(&self, of: OfRef<'a>) -> Option<Whose<'a>> {
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
            By::Agent => Some(Whose::Named(agent)),
            By::Model => Some(model.map_or(Whose::Unnamed, Whose::Named)),
            By::Upstream => Some(Whose::Named(upstream)),
        }
    }
}

/// Whose line it is, while slices are read.
#[derive(Clone, Copy)]
enum Whose<'a> {
    Named(&'a str),
    Unnamed,
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
    Ok(draw_on(txn, filter, ruler)?.unwrap_or_else(|| Drawn::new(ruler, Vec::new(), Vec::new())))
}

/// None where that takes too many slices. Read twice: names may be many, so that buckets are filled
/// only for those that have a line.
fn draw_on(
    txn: &ReadTransaction,
    filter: &SeriesFilter,
    ruler: Ruler,
) -> Result<Option<Drawn>, IndexError> {
    let mut ranks = Ranks::default();
    let mut all = vec![Slice::default(); ruler.buckets()];
    let mut read = 0;
    // There is nothing coarser than days.
    let most = if ruler.grain == Grain::Day {
        usize::MAX
    } else {
        MAX_SLICES
    };
    let span = (ruler.since, ruler.until);
    each_of_grain(txn, ruler.grain, span, |at, of, slice| {
        read += 1;
        if filter.matches(of) {
            if let Some(bucket) = all.get_mut(ruler.bucket(at)) {
                bucket.merge(&slice);
            }
            if let Some(whose) = filter.line(of) {
                ranks.add(whose, &slice);
            }
        }
        read <= most
    })?;
    if read > most {
        return Ok(None);
    }
    let mut drawn = Drawn::new(ruler, all, ranks.first());
    if !drawn.lines.is_empty() {
        each_of_grain(txn, ruler.grain, span, |at, of, slice| {
            if filter.matches(of)
                && let Some(whose) = filter.line(of)
            {
                drawn.add(ruler.bucket(at), whose, &slice);
            }
            true
        })?;
    }
    Ok(Some(drawn))
}

/// What each name spent, then how many calls it made.
#[derive(Default)]
struct Ranks {
    named: HashMap<Label, (i64, u64)>,
    unnamed: Option<(i64, u64)>,
}

impl Ranks {
    fn add(&mut self, whose: Whose<'_>, slice: &Slice) {
        let rank = match whose {
            Whose::Unnamed => self.unnamed.get_or_insert_default(),
            Whose::Named(name) => {
                if !self.named.contains_key(name)
                    && let Ok(name) = Label::parse(name)
                {
                    self.named.insert(name, (0, 0));
                }
                let Some(rank) = self.named.get_mut(name) else {
                    return;
                };
                rank
            }
        };
        rank.0 = rank.0.saturating_add(slice.totals.cost_nano_usd);
        rank.1 = rank.1.saturating_add(slice.totals.calls);
    }

    /// The lines there are, the most expensive first, that of all others last.
    fn first(self) -> Vec<LineOf> {
        let named = self.named.into_iter();
        let named = named.map(|(name, rank)| (LineOf::Named(name), rank));
        let unnamed = self.unnamed.map(|rank| (LineOf::Unnamed, rank));
        let mut lines: Vec<_> = named.chain(unnamed).collect();
        lines.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        let are_more = lines.len() > MAX_LINES;
        lines.truncate(MAX_LINES);
        let others = are_more.then_some(LineOf::Others);
        lines.into_iter().map(|(of, _)| of).chain(others).collect()
    }
}

/// Buckets while they are filled.
struct Drawn {
    ruler: Ruler,
    all: Vec<Slice>,
    lines: Vec<(LineOf, Vec<Slice>)>,
}

impl Drawn {
    fn new(ruler: Ruler, all: Vec<Slice>, lines: Vec<LineOf>) -> Self {
        let empty = vec![Slice::default(); all.len()];
        let lines = lines.into_iter().map(|of| (of, empty.clone())).collect();
        Self { ruler, all, lines }
    }

    fn add(&mut self, bucket: usize, whose: Whose<'_>, slice: &Slice) {
        let is_its = |of: &LineOf| match (of, whose) {
            (LineOf::Named(name), Whose::Named(its)) => name.as_str() == its,
            (LineOf::Unnamed, Whose::Unnamed) | (LineOf::Others, _) => true,
            _ => false,
        };
        // That of all others is the last.
        let line = self.lines.iter_mut().find(|(of, _)| is_its(of));
        if let Some(sum) = line.and_then(|(_, line)| line.get_mut(bucket)) {
            sum.merge(slice);
        }
    }

    fn into_series(self, whole: SpanFigures, before: SpanFigures) -> Series {
        let figures =
            |buckets: &[Slice]| -> Vec<Figures> { buckets.iter().map(Slice::figures).collect() };
        let line = |(of, buckets): (LineOf, Vec<Slice>)| Line {
            of,
            whole: sum(&buckets).figures(),
            buckets: figures(&buckets),
        };
        Series {
            since: self.ruler.since,
            until: self.ruler.until,
            step_us: u64::try_from(self.ruler.step).unwrap_or(0),
            buckets: figures(&self.all),
            lines: self.lines.into_iter().map(line).collect(),
            whole,
            before,
        }
    }
}

fn sum(slices: &[Slice]) -> Slice {
    let mut sum = Slice::default();
    for slice in slices {
        sum.merge(slice);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_filled_for_six_lines_however_many_names_there_are() {
        let mut ranks = Ranks::default();
        let slice = |calls: u64| {
            let mut slice = Slice::default();
            slice.totals.calls = calls;
            slice
        };
        let names: Vec<String> = (0..20_000).map(|name| format!("task-{name:05}")).collect();
        for (name, calls) in names.iter().zip(1..) {
            ranks.add(Whose::Named(name), &slice(calls));
        }
        let filter = SeriesFilter {
            since: Timestamp::from_micros(0),
            until: Timestamp::from_micros(Grain::Hour.micros()),
            by: By::Agent,
            agent: None,
            model: None,
            step_us: None,
        };
        let ruler = Ruler::new(&filter, Grain::Minute.micros());
        let all = vec![Slice::default(); ruler.buckets()];
        let mut drawn = Drawn::new(ruler, all, ranks.first());
        for (name, calls) in names.iter().zip(1..) {
            drawn.add(7, Whose::Named(name), &slice(calls));
        }
        let lines: Vec<_> = drawn.lines.iter().map(|(of, line)| (of, line)).collect();
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert_eq!(
            *lines[0].0,
            LineOf::Named(Label::parse("task-19999").unwrap())
        );
        assert_eq!(lines[0].1[7].totals.calls, 20_000);
        assert_eq!(*lines[5].0, LineOf::Others);
        assert_eq!(lines[5].1[7].totals.calls, (1..=19_995).sum::<u64>());
    }
}
