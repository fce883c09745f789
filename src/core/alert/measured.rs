//! Whether a custom metric is where it should not be, by its mean over the last while.

use std::collections::{HashMap, VecDeque};

use super::super::id::Label;
use super::super::metric::{Measurement, short};
use super::super::time::Timestamp;

/// Agents or runs that one rule tells apart.
const MAX_KEYS: usize = 1000;
/// Values of each that are kept; older ones give way.
const MAX_VALUES: usize = 1000;

/// When a custom metric is worth an alert. Yes counts as 1 and no as 0, categories do not count.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricRule {
    pub name: Label,
    pub metric: String,
    /// Each agent, or each run, by itself; else all together.
    pub per: Option<Per>,
    pub below: Option<f64>,
    pub above: Option<f64>,
    /// Microseconds.
    pub over_us: u64,
    /// With fewer values than this nothing is said.
    pub at_least: usize,
}

/// What is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Per {
    Agent,
    Run,
}

/// An alert begins or is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    pub rule: Label,
    pub metric: String,
    /// `agent planner`; none where all count together.
    pub key: Option<String>,
    pub begins: bool,
    /// Of so many values of the last while.
    pub mean: f64,
    pub count: usize,
    /// `below 0.5`
    pub limit: String,
}

/// The values of the last while, for each rule.
#[derive(Debug, Default)]
pub struct Watched(Vec<(MetricRule, HashMap<Option<Label>, Window>)>);

#[derive(Debug, Default)]
struct Window {
    values: VecDeque<(Timestamp, f64)>,
    is_off: bool,
}

impl MetricRule {
    /// What it counts for, where this rule tells that apart.
    fn key(&self, it: &Measurement) -> Option<Label> {
        match self.per? {
            Per::Agent => it.agent().cloned(),
            Per::Run => it.run().cloned(),
        }
    }

    fn looks_at(&self, it: &Measurement) -> bool {
        it.name == self.metric && (self.per.is_none() || self.key(it).is_some())
    }

    fn is_off(&self, mean: f64) -> bool {
        self.below.is_some_and(|least| mean < least) || self.above.is_some_and(|most| mean > most)
    }

    /// In words.
    pub fn limit(&self) -> String {
        let below = self.below.map(|least| format!("below {}", short(least)));
        let above = self.above.map(|most| format!("above {}", short(most)));
        let both: Vec<String> = below.into_iter().chain(above).collect();
        both.join(" or ")
    }
}

impl Window {
    /// Takes in a value; says the mean and of how many, and whether it is off now, if that changed.
    fn note(&mut self, rule: &MetricRule, now: Timestamp, value: f64) -> Option<(f64, usize)> {
        self.values.push_back((now, value));
        let is_old = |at: Timestamp| now.micros_since(at) > rule.over_us;
        while self.values.len() > MAX_VALUES
            || self.values.front().is_some_and(|(at, _)| is_old(*at))
        {
            self.values.pop_front();
        }
        let count = self.values.len();
        if count < rule.at_least {
            return None;
        }
        let sum: f64 = self.values.iter().map(|(_, value)| value).sum();
        let mean = sum / f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let is_off = rule.is_off(mean);
        let has_changed = is_off != self.is_off;
        self.is_off = is_off;
        has_changed.then_some((mean, count))
    }

    fn is_idle(&self, rule: &MetricRule, now: Timestamp) -> bool {
        let last = self.values.back();
        last.is_none_or(|(at, _)| now.micros_since(*at) > rule.over_us)
    }
}

impl Watched {
    /// Goes by these rules from now on; what is known of those that stay is kept.
    pub fn set_rules(&mut self, rules: &[MetricRule]) {
        let mut before = std::mem::take(&mut self.0);
        for rule in rules {
            let same = before.iter().position(|(known, _)| known == rule);
            self.0.push(match same {
                Some(at) => before.swap_remove(at),
                None => (rule.clone(), HashMap::new()),
            });
        }
    }

    /// Takes in what somebody measured, at the time it came.
    pub fn note(&mut self, it: &Measurement, now: Timestamp) -> Vec<Turn> {
        let Some(value) = it.value.as_number() else {
            return Vec::new();
        };
        let mut turns = Vec::new();
        for (rule, windows) in &mut self.0 {
            if !rule.looks_at(it) {
                continue;
            }
            let key = rule.key(it);
            if windows.len() >= MAX_KEYS && !windows.contains_key(&key) {
                windows.retain(|_, window| !window.is_idle(rule, now));
                if windows.len() >= MAX_KEYS {
                    continue;
                }
            }
            let window = windows.entry(key.clone()).or_default();
            let Some((mean, count)) = window.note(rule, now, value) else {
                continue;
            };
            let per: Option<&'static str> = rule.per.map(Into::into);
            turns.push(Turn {
                rule: rule.name.clone(),
                metric: rule.metric.clone(),
                key: key.and_then(|key| Some(format!("{} {key}", per?))),
                begins: window.is_off,
                mean,
                count,
                limit: rule.limit(),
            });
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::metric::{Subject, Value};
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn rule(per: Option<Per>) -> MetricRule {
        MetricRule {
            name: Label::parse("low score").unwrap(),
            metric: "score".to_owned(),
            per,
            below: Some(0.5),
            above: None,
            over_us: 60_000_000,
            at_least: 3,
        }
    }

    fn watched(rule: MetricRule) -> Watched {
        let mut watched = Watched::default();
        watched.set_rules(&[rule]);
        watched
    }

    fn score(agent: &str, value: f64) -> Measurement {
        Measurement {
            at: Timestamp::from_micros(0),
            name: "score".to_owned(),
            value: Value::Number(value),
            subject: Subject::Agent(Label::parse(agent).unwrap()),
            who: Label::parse("judge").unwrap(),
            note: None,
            key: None,
            run: None,
            agent: None,
        }
    }

    /// What is said of each value, one a second.
    fn said(watched: &mut Watched, agent: &str, values: &[f64]) -> Vec<Option<bool>> {
        let one = |(n, value): (i64, &f64)| {
            let now = Timestamp::from_micros(n * SECOND);
            let turns = watched.note(&score(agent, *value), now);
            turns.first().map(|turn| turn.begins)
        };
        (0..).zip(values).map(one).collect()
    }

    #[test]
    fn a_mean_that_is_too_low_is_told_once_and_so_is_its_end() {
        let mut watched = watched(rule(None));
        let said = said(&mut watched, "a", &[0.1, 0.2, 0.3, 0.1, 1.0, 1.0, 1.0, 1.0]);
        let expected = [None, None, Some(true), None, None, None, Some(false), None];
        // The first six come to 2.7, which is below 0.5 each; with one more of 1.0 they do not.
        assert_eq!(said, expected);
    }

    #[test]
    fn each_agent_counts_by_itself_where_the_rule_says_so() {
        let mut watched = watched(rule(Some(Per::Agent)));
        assert_eq!(said(&mut watched, "a", &[0.1, 0.1]), [None, None]);
        assert_eq!(said(&mut watched, "b", &[0.1, 0.1]), [None, None]);
        let turns = watched.note(&score("a", 0.1), Timestamp::from_micros(2 * SECOND));
        assert_eq!(turns[0].key.as_deref(), Some("agent a"));
        assert_eq!((turns[0].count, turns[0].limit.as_str()), (3, "below 0.5"));
    }

    #[test]
    fn what_is_older_than_the_while_does_not_count() {
        let mut watched = watched(rule(None));
        said(&mut watched, "a", &[0.1, 0.1]);
        let later = Timestamp::from_micros(100 * SECOND);
        assert_eq!(watched.note(&score("a", 0.1), later), []);
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let mut watched = watched(rule(Some(Per::Agent)));
        for n in 0..2 * MAX_KEYS {
            watched.note(
                &score(&format!("agent {n}"), 1.0),
                Timestamp::from_micros(0),
            );
        }
        assert_eq!(watched.0[0].1.len(), MAX_KEYS);
        for _ in 0..2 * MAX_VALUES {
            watched.note(&score("agent 0", 1.0), Timestamp::from_micros(0));
        }
        let window = &watched.0[0].1[&Some(Label::parse("agent 0").unwrap())];
        assert_eq!(window.values.len(), MAX_VALUES);
    }
}
