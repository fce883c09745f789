//! The decision over one call: looks at every account it counts against, all at one moment.
//!
//! What a call may hold comes in two sizes. At first it asks for the worst case: its whole input
//! and every token its output limit allows. Where that does not fit, it asks again with its input
//! counted exactly, for a share of what is left: what hardly any such call exceeds, or a part of what
//! there is if that is more, and at least what such calls put out on average; its output limit is
//! then lowered to what it holds. So what is used can
//! never pass a limit, and the first of many calls does not take all that is left.

use super::super::money::NanoUsd;
use super::super::price::PerMillion;
use super::super::time::Timestamp;
use super::amounts::{Amounts, Limits, Measure};
use super::rule::{Action, OnUnpriced, Rule};

/// Of what is left, a call that could do with less takes a half when it runs alone, and a smaller
/// part beside others; but never less than this one.
const SMALLEST_SHARE: i64 = 8;

/// What a call is going to need, as far as can be known before it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// An upper bound at first, exact when asked for a share.
    pub input_tokens: i64,
    /// The most the answer can have.
    pub most_output: i64,
    /// What answers of such calls have on average: with less to hold the call is not made.
    pub usual_output: i64,
    /// What hardly any answer of such calls exceeds: held where there is so much.
    pub ample_output: i64,
    /// The output limit can be lowered.
    pub is_clampable: bool,
    /// None when the model's price is not known.
    pub tariff: Option<Tariff>,
    /// For where it is not.
    pub fallback: Tariff,
    /// 1, or 0 for a call that was counted before.
    pub calls: i64,
}

/// What a call costs, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tariff {
    /// All but the output.
    pub before_output: NanoUsd,
    pub pico_usd_per_output_token: i64,
}

impl Tariff {
    /// By two prices, for so much input.
    pub fn of(input: PerMillion, output: PerMillion, input_tokens: i64) -> Self {
        let pico = i128::from(input.pico_usd()) * i128::from(input_tokens);
        let nano = i64::try_from((pico + 999) / 1000).unwrap_or(i64::MAX);
        Self {
            before_output: NanoUsd::new(nano),
            pico_usd_per_output_token: i64::try_from(output.pico_usd()).unwrap_or(i64::MAX),
        }
    }

    pub fn cost(&self, output_tokens: i64) -> i64 {
        let output = i128::from(self.pico_usd_per_output_token) * i128::from(output_tokens);
        let nano = i64::try_from((output + 999) / 1000).unwrap_or(i64::MAX);
        self.before_output.get().saturating_add(nano)
    }

    /// The most output tokens that `nano_usd` pay for; none when they do not even pay the input.
    fn output_for(&self, nano_usd: i64) -> Option<i64> {
        let before = self.before_output.get();
        if before > 0 && before > nano_usd {
            return None;
        }
        let left = nano_usd.saturating_sub(before).max(0);
        if self.pico_usd_per_output_token == 0 {
            return Some(i64::MAX);
        }
        let tokens = i128::from(left) * 1000 / i128::from(self.pico_usd_per_output_token);
        Some(i64::try_from(tokens).unwrap_or(i64::MAX))
    }
}

impl Need {
    /// What it costs by the rules of one account.
    fn tariff(&self, on_unpriced: OnUnpriced) -> Tariff {
        match (self.tariff, on_unpriced) {
            (Some(tariff), _) => tariff,
            (None, OnUnpriced::CountOnly) => Tariff::default(),
            (None, OnUnpriced::FallbackPrice | OnUnpriced::Refuse) => self.fallback,
        }
    }

    /// Without so much output it is not worth making: what is usual. An answer that cannot be made
    /// shorter needs its worst case.
    pub fn least_output(&self) -> i64 {
        if self.is_clampable {
            self.usual_output.min(self.most_output)
        } else {
            self.most_output
        }
    }

    /// What it adds to the sum of a metric, of what it says: a call that is made again said it before.
    pub fn micro_metric(&self, said: i64) -> i64 {
        if self.calls > 0 { said } else { 0 }
    }

    /// What it takes of one account with so much output.
    pub fn amounts(&self, on_unpriced: OnUnpriced, output_tokens: i64) -> Amounts {
        Amounts {
            nano_usd: self.tariff(on_unpriced).cost(output_tokens),
            input_tokens: self.input_tokens,
            output_tokens,
            calls: self.calls,
            micro_metric: 0,
        }
    }

    /// The most output that fits into `room` of one measure; none when not even the rest fits.
    fn output_within(&self, tariff: &Tariff, measure: Measure, room: i64) -> Option<i64> {
        // What takes nothing fits even where nothing is left.
        let fits = |taken: i64, output: i64| (taken == 0 || taken <= room).then_some(output.max(0));
        match measure {
            Measure::Usd => tariff.output_for(room),
            Measure::Tokens => fits(self.input_tokens, room.saturating_sub(self.input_tokens)),
            Measure::OutputTokens => fits(0, room),
            Measure::InputTokens => fits(self.input_tokens, i64::MAX),
            Measure::Calls => fits(self.calls, i64::MAX),
            Measure::Concurrent => fits(1, i64::MAX),
            // It is known: a call that it leaves no room for was refused before.
            Measure::Metric => Some(i64::MAX),
        }
    }
}

/// One account of a call at the moment of the decision.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'r> {
    pub rule: &'r Rule,
    /// Those of the rule, with what an operator put on top.
    pub limits: Limits,
    pub used: Amounts,
    pub held: Amounts,
    /// Calls that hold something of it.
    pub running: i64,
    /// Others wait for this account and came before.
    pub is_queued: bool,
    /// What the call adds to the sum of the metric that the rule limits, in millionths.
    pub micro_metric: i64,
}

/// Which size a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    WorstCase,
    Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Hold the input and so much output.
    Hold { output_tokens: i64 },
    /// The worst case does not fit: ask for a share.
    Tight,
    /// Only what running calls hold is in the way, at this seat, or others wait there already.
    Wait {
        seat: usize,
        measure: Option<Measure>,
    },
    /// What is used leaves no room, at this seat.
    Refuse { seat: usize, why: Why },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Not enough is left of it.
    Spent(Measure),
    /// Running calls hold it.
    Held(Measure),
    Unpriced,
}

/// What becomes of a call with these accounts.
pub fn decide(seats: &[Seat<'_>], need: &Need, size: Size) -> Verdict {
    let breaking = || {
        let all = seats.iter().enumerate();
        all.filter(|(_, seat)| seat.rule.action == Action::Break)
    };
    let unpriced = |seat: &Seat<'_>| {
        need.tariff.is_none()
            && seat.limits.nano_usd.is_some()
            && seat.rule.on_unpriced == OnUnpriced::Refuse
    };
    if let Some((seat, _)) = breaking().find(|(_, seat)| unpriced(seat)) {
        let why = Why::Unpriced;
        return Verdict::Refuse { seat, why };
    }
    if size == Size::WorstCase {
        let fits = breaking().all(|(_, seat)| seat.has_room(need, need.most_output));
        return if fits {
            let output_tokens = need.most_output;
            Verdict::Hold { output_tokens }
        } else {
            Verdict::Tight
        };
    }
    share(breaking, need)
}

fn share<'s, 'r: 's, I: Iterator<Item = (usize, &'s Seat<'r>)>>(
    breaking: impl Fn() -> I,
    need: &Need,
) -> Verdict {
    let least = need.least_output();
    for (seat, it) in breaking() {
        if let Some(measure) = it.is_spent(need, least) {
            let why = Why::Spent(measure);
            return Verdict::Refuse { seat, why };
        }
    }
    let mut most = need.most_output;
    for (seat, it) in breaking() {
        let left = it.output_left(need).filter(|left| *left >= least);
        let Some(left) = left.filter(|_| !it.is_queued) else {
            let measure = it.held_up_by(need, least);
            return Verdict::Wait { seat, measure };
        };
        if left < need.most_output {
            let share = left / it.running.saturating_add(2).clamp(2, SMALLEST_SHARE);
            let ample = need.ample_output.clamp(least, left);
            most = most.min(ample.max(share));
        }
    }
    let output_tokens = if need.is_clampable {
        most
    } else {
        need.most_output
    };
    Verdict::Hold { output_tokens }
}

impl Seat<'_> {
    fn wanted(&self, need: &Need, output: i64) -> Amounts {
        Amounts {
            micro_metric: need.micro_metric(self.micro_metric),
            ..need.amounts(self.rule.on_unpriced, output)
        }
    }

    /// The sum of the metric leaves the call no room, or is used up. What running calls say of
    /// themselves is as good as used; a call that is made again had its room.
    fn is_metric_spent(&self, need: &Need, limit: i64) -> bool {
        let taken = self.used.plus(self.held).micro_metric;
        let wanted = self.micro_metric;
        need.calls > 0 && (taken >= limit || (wanted > 0 && taken.saturating_add(wanted) > limit))
    }

    /// Whether a call with so much output fits beside what is used and held.
    fn has_room(&self, need: &Need, output: i64) -> bool {
        let wanted = self.wanted(need, output);
        let taken = self.used.plus(self.held).plus(wanted);
        !self.is_queued
            && self.limits.each().all(|(measure, limit)| match measure {
                Measure::Concurrent => self.running < limit,
                Measure::Metric => !self.is_metric_spent(need, limit),
                counted => taken.of(counted) <= limit,
            })
    }

    /// What leaves no room for a call with so much output even when nothing else runs. Running
    /// calls are calls made: that they end makes no room for another one.
    fn is_spent(&self, need: &Need, output: i64) -> Option<Measure> {
        let wanted = self.wanted(need, output);
        let exceeded = |measure: Measure, limit: i64| match measure {
            Measure::Concurrent => limit <= 0,
            Measure::Metric => self.is_metric_spent(need, limit),
            Measure::Calls => {
                wanted.calls > 0 && self.used.plus(self.held).plus(wanted).calls > limit
            }
            counted => wanted.of(counted) > 0 && self.used.plus(wanted).of(counted) > limit,
        };
        self.limits
            .each()
            .find(|(measure, limit)| exceeded(*measure, *limit))
            .map(|(measure, _)| measure)
    }

    /// The output that fits beside what is used and held; none when not even the rest does.
    fn output_left(&self, need: &Need) -> Option<i64> {
        self.outputs_left(need)
            .try_fold(i64::MAX, |most, (_, output)| Some(most.min(output?)))
    }

    /// What leaves too little output beside what is used and held.
    fn held_up_by(&self, need: &Need, least: i64) -> Option<Measure> {
        self.outputs_left(need)
            .find(|(_, output)| output.is_none_or(|output| output < least))
            .map(|(measure, _)| measure)
    }

    /// The same by each measure.
    fn outputs_left(&self, need: &Need) -> impl Iterator<Item = (Measure, Option<i64>)> {
        let taken = self.used.plus(self.held);
        let tariff = need.tariff(self.rule.on_unpriced);
        self.limits.each().map(move |(measure, limit)| {
            let room = match measure {
                Measure::Concurrent => limit.saturating_sub(self.running),
                counted => limit.saturating_sub(taken.of(counted)),
            };
            (measure, need.output_within(&tariff, measure, room))
        })
    }

    /// What is left of one measure, not counting what running calls hold.
    pub fn left(&self, measure: Measure) -> Option<i64> {
        let limit = self.limits.of(measure)?;
        Some(limit.saturating_sub(self.used.of(measure)).max(0))
    }

    /// How much of its tightest limit is used, in thousandths.
    pub fn used_permille(&self) -> u32 {
        let parts = self.limits.each().filter_map(|(measure, limit)| {
            let used = match measure {
                Measure::Concurrent => return None,
                counted => self.used.of(counted).max(0),
            };
            let part = i128::from(used) * 1000 / i128::from(limit.max(1));
            Some(u32::try_from(part).unwrap_or(u32::MAX))
        });
        parts.max().unwrap_or(0)
    }

    /// How long its rule delays a call now: nothing at the beginning, growing with the square of
    /// the way to the limit.
    pub fn delay_us(&self) -> u64 {
        let Some(slow) = self.rule.slow else { return 0 };
        let whole = u64::from(1000u32.saturating_sub(slow.from).max(1));
        let way = u64::from(self.used_permille().saturating_sub(slow.from)).min(whole);
        let squared = u128::from(slow.max_delay_us) * u128::from(way * way);
        u64::try_from(squared / u128::from(whole * whole)).unwrap_or(u64::MAX)
    }

    /// Whether what was used is worth a warning.
    pub fn is_warning(&self) -> bool {
        let used = self.used_permille();
        self.rule.warn_at.is_some_and(|from| used >= from)
            || (self.rule.action == Action::Warn && used >= 1000)
    }

    /// When so much will have left the window that the call fits; none if that is not known to be.
    pub fn fits_at(&self, need: &Need, spent: &super::Spent, now: Timestamp) -> Option<Timestamp> {
        let known = |at: Timestamp| (at.micros() < i64::MAX).then_some(at);
        let least = need.least_output();
        let window = &self.rule.window;
        let (from, to) = window.counted(now);
        let mut seat = *self;
        for (bucket, sum) in spent.buckets(from, to) {
            seat.used = seat.used.minus(sum);
            if seat.is_spent(need, least).is_none() {
                return known(window.leaves_at(bucket));
            }
        }
        // Calls that run count from now on.
        seat.held = Amounts::default();
        let fits = seat.is_spent(need, least).is_none();
        known(window.leaves_at(window.bucket(now))).filter(|_| fits)
    }
}
