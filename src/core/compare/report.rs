//! A comparison as it is told: by the API as it is, by the command line and the page in words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bootstrap::{self, Estimate, Value};
use super::proportion::{self, Share};
use super::words;
use super::{FEW, FirstDifference, Measure, RunFigures, Success, Unit};
use crate::core::id::Label;

/// Agents that are told apart, those with the most calls first.
const MAX_AGENTS: usize = 10;
/// Arms that are named.
const MAX_ARMS: usize = 20;
/// Values that are drawn for one comparison, all its figures together.
const STEPS: usize = 200_000_000;
/// Below this an interval of a bootstrap is far too narrow to be shown.
const LEAST: usize = 5;

/// Two arms side by side.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Comparison {
    /// What tells the arms apart: variant, `tag.<name>`, agent, model, upstream, user, run or time.
    pub by: String,
    /// What the data says, in one sentence.
    pub sentence: String,
    /// What to know about the figures.
    pub notes: Vec<String>,
    /// None where there are no runs to choose from.
    pub a: Option<Arm>,
    pub b: Option<Arm>,
    /// When a run counts as a success.
    pub success: String,
    pub measures: Vec<Compared>,
    /// What each agent did in a run, in mean over all runs, also those it did nothing in.
    pub agents: Vec<ComparedAgent>,
    /// What could be compared, most runs first.
    pub arms: Vec<Arm>,
    pub left_out: LeftOut,
    /// Not all runs of the span were read: the newest were.
    pub partial: bool,
    /// Of two single runs.
    pub first_difference: Option<FirstDifference>,
}

/// One of the groups.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Arm {
    pub name: String,
    pub runs: u64,
}

/// Runs of the span that are in no arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct LeftOut {
    /// Their calls are of more than one arm.
    pub mixed: u64,
    /// None of their calls names an arm.
    pub unnamed: u64,
    /// A call of them is open.
    pub running: u64,
    /// The agent that is asked for made no call in them.
    pub absent: u64,
    /// Some of their calls are not recorded any more, or too many to read.
    pub incomplete: u64,
}

/// One measure of both arms.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Compared {
    /// Such as `cost_nano_usd`.
    pub key: String,
    pub title: String,
    pub unit: Unit,
    pub a: Side,
    pub b: Side,
    /// Of b less that of a.
    pub difference: Option<f64>,
    /// b over a; none where a is zero.
    pub ratio: Option<f64>,
    /// Of 95 %, around the difference; none below five runs of each.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// How often chance alone would make as much of nothing.
    pub p: Option<f64>,
    /// The same, corrected for how many measures were looked at.
    pub p_corrected: Option<f64>,
    pub verdict: Verdict,
}

/// A measure of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct Side {
    /// Runs that have it.
    pub n: u64,
    /// The mean over runs; of shares of calls or tokens, that of all of them together.
    pub value: Option<f64>,
    /// Of the runs.
    pub median: Option<f64>,
}

/// What the data says of b against a.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Lower,
    Higher,
    NoDifferenceShown,
    TooFewRuns,
    NotComparable,
}

/// One agent in both arms.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
pub struct ComparedAgent {
    pub agent: Label,
    /// Cost, calls and failures. Without a verdict: these are too many to be tested one by one. No cost
    /// where the price of one of its calls is not known.
    pub measures: Vec<Compared>,
}

/// Two arms with their runs.
#[derive(Clone, Copy, Debug)]
struct Pair<'a> {
    a: &'a [RunFigures],
    b: &'a [RunFigures],
}

impl Comparison {
    /// Compares two arms of those found. Without names, those with the most runs, in the order of
    /// their names.
    pub fn new(
        by: String,
        found: &BTreeMap<String, Vec<RunFigures>>,
        chosen: (Option<&str>, Option<&str>),
        (success, metrics): (&Success, &[String]),
    ) -> Self {
        let mut arms: Vec<Arm> = found.iter().map(|(name, runs)| arm(name, runs)).collect();
        arms.sort_by(|one, other| other.runs.cmp(&one.runs).then(one.name.cmp(&other.name)));
        let (a, b) = choose(&arms, chosen);
        let runs = |name: Option<&String>| name.and_then(|name| found.get(name));
        let of = |name: Option<&String>| runs(name).map_or(&[][..], Vec::as_slice);
        let pair = Pair {
            a: of(a.as_ref()),
            b: of(b.as_ref()),
        };
        let named = |name: Option<String>, runs| name.map(|name| arm(&name, runs));
        arms.truncate(MAX_ARMS);
        let agents = agents(pair);
        let all = Measure::all(success, metrics);
        let figures = all.len() + agents.len() * Measure::OF_AGENTS.len();
        let steps = STEPS / figures.max(1);
        let mut measures: Vec<Compared> = all
            .iter()
            .map(|measure| compared(measure, values(measure, pair), steps))
            .collect();
        judge(&mut measures);
        let mut told = Self {
            by,
            a: named(a, pair.a),
            b: named(b, pair.b),
            success: success.to_string(),
            measures,
            agents: agents
                .into_iter()
                .map(|agent| of_agent(agent, pair, steps))
                .collect(),
            arms,
            ..Self::default()
        };
        told.sentence = words::sentence(&told);
        told
    }

    /// The same, where only the newest of all runs, calls or measurements were read.
    #[must_use]
    pub fn of_the_newest(self) -> Self {
        let mut told = Self {
            partial: true,
            ..self
        };
        told.sentence = words::sentence(&told);
        told
    }
}

fn arm(name: &str, runs: &[RunFigures]) -> Arm {
    Arm {
        name: name.to_owned(),
        runs: runs.len() as u64,
    }
}

/// Which two; what was named stays as it was named, whether there is such a one or not.
fn choose(arms: &[Arm], (a, b): (Option<&str>, Option<&str>)) -> (Option<String>, Option<String>) {
    let other = |taken: Option<&str>| {
        let mut free = arms.iter().filter(|arm| Some(arm.name.as_str()) != taken);
        free.next().map(|arm| arm.name.clone())
    };
    match (a, b) {
        (Some(a), Some(b)) => (Some(a.to_owned()), Some(b.to_owned())),
        (Some(a), None) => (Some(a.to_owned()), other(Some(a))),
        (None, Some(b)) => (other(Some(b)), Some(b.to_owned())),
        (None, None) => {
            let mut first: Vec<String> = arms.iter().take(2).map(|arm| arm.name.clone()).collect();
            first.sort();
            let mut first = first.into_iter();
            (first.next(), first.next())
        }
    }
}

type Values = (Vec<Value>, Vec<Value>);

fn values(measure: &Measure, pair: Pair<'_>) -> Values {
    let of = |runs: &[RunFigures]| runs.iter().filter_map(|run| measure.of(run)).collect();
    (of(pair.a), of(pair.b))
}

fn side(values: &[Value]) -> Side {
    let each = values.iter().map(|value| value.top / value.of).collect();
    Side {
        n: values.len() as u64,
        value: bootstrap::statistic(values),
        median: bootstrap::median(each),
    }
}

fn compared(measure: &Measure, (a, b): Values, steps: usize) -> Compared {
    let fits = a.len().min(b.len()) >= LEAST;
    let estimate = fits.then(|| estimate(measure, (&a, &b), steps)).flatten();
    let (a, b) = (side(&a), side(&b));
    let both = a.value.zip(b.value);
    Compared {
        key: measure.key(),
        title: measure.title(),
        unit: measure.unit(),
        a,
        b,
        difference: both.map(|(a, b)| b - a),
        ratio: both.filter(|(a, _)| *a > 0.0).map(|(a, b)| b / a),
        low: estimate.map(|it| it.low),
        high: estimate.map(|it| it.high),
        p: estimate.map(|it: Estimate| it.p),
        p_corrected: None,
        verdict: if both.is_some() {
            Verdict::TooFewRuns
        } else {
            Verdict::NotComparable
        },
    }
}

fn estimate(measure: &Measure, (a, b): (&[Value], &[Value]), steps: usize) -> Option<Estimate> {
    if measure.may_be_share_of_runs()
        && let (Some(a), Some(b)) = (Share::of(a), Share::of(b))
    {
        return Some(proportion::difference(a, b));
    }
    let draws = bootstrap::resamples(a.len() + b.len(), steps);
    let found = bootstrap::difference(a, b, draws)?;
    let p = bootstrap::level(&found, a, b);
    Some(Estimate { p, ..found })
}

/// Says of each measure what all of them together allow to say.
fn judge(measures: &mut [Compared]) {
    const LEVEL: f64 = 0.05;
    let enough = |it: &Compared| it.a.n.min(it.b.n) >= FEW as u64 && it.p.is_some();
    let judged: Vec<usize> = (0..measures.len())
        .filter(|index| measures.get(*index).is_some_and(enough))
        .collect();
    let levels: Vec<f64> = judged
        .iter()
        .filter_map(|index| measures.get(*index)?.p)
        .collect();
    for (index, level) in judged.iter().zip(bootstrap::holm(&levels)) {
        let Some(it) = measures.get_mut(*index) else {
            continue;
        };
        it.p_corrected = Some(level);
        let difference = it.difference.unwrap_or(0.0);
        it.verdict = if level > LEVEL {
            Verdict::NoDifferenceShown
        } else if difference < 0.0 {
            Verdict::Lower
        } else {
            Verdict::Higher
        };
    }
}

/// The agents of both arms, those with the most calls first.
fn agents(pair: Pair<'_>) -> Vec<Label> {
    let mut calls: BTreeMap<&Label, u64> = BTreeMap::new();
    for run in pair.a.iter().chain(pair.b) {
        for (agent, figures) in &run.agents {
            *calls.entry(agent).or_default() += figures.calls;
        }
    }
    let mut agents: Vec<(&Label, u64)> = calls.into_iter().collect();
    agents.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
    let agents = agents.into_iter().take(MAX_AGENTS);
    agents.map(|(agent, _)| agent.clone()).collect()
}

fn of_agent(agent: Label, pair: Pair<'_>, steps: usize) -> ComparedAgent {
    let figures = |run: &RunFigures| run.agents.get(&agent).copied().unwrap_or_default();
    // The runs that are left without those would mostly be such that it did nothing in.
    let is_unpriced = |run: &RunFigures| figures(run).unpriced_calls > 0;
    let is_unpriced = pair.a.iter().chain(pair.b).any(is_unpriced);
    let of = |measure: &Measure, runs: &[RunFigures]| -> Vec<Value> {
        let is_known = !is_unpriced || *measure != Measure::Cost;
        runs.iter()
            .filter(|_| is_known)
            .filter_map(|run| measure.of_agent(figures(run)))
            .collect()
    };
    let measures = Measure::OF_AGENTS.iter().map(|measure| {
        let values = (of(measure, pair.a), of(measure, pair.b));
        compared(measure, values, steps)
    });
    let measures = measures.collect();
    ComparedAgent { agent, measures }
}
