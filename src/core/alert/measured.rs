//! Whether a custom metric is where it should not be, by its mean over the last while.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::super::id::Label;
use super::super::metric::{Measurement, short};
use super::super::time::Timestamp;
use super::last_told::LastTold;

/// Agents and runs that all rules together tell apart. With the most that one keeps of each, 31
/// slices of 24 bytes and a name of 256, that is less than 5 MB.
const MAX_WINDOWS: usize = 4096;
/// Parts of its time in which a window moves on.
const SLICES: u64 = 30;

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

/// Sums of the values of the last while, for each rule.
#[derive(Debug, Default)]
pub struct Watched(Vec<(MetricRule, HashMap<Option<Label>, Window>)>);

/// Slices of the last while that have values, oldest first.
#[derive(Debug, Default)]
struct Window {
    slices: VecDeque<Slice>,
    is_off: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slice {
    /// Which of all slices since 1970.
    number: u64,
    count: i64,
    sum: f64,
}

impl MetricRule {
    /// What it counts for, where this rule tells that apart.
    fn key(&self, it: &Measurement) -> Option<Label> {
        match self.per? {
            Per::Agent => it.agent().cloned(),
            Per::Run => it.run().cloned(),
        }
    }

    /// `run nightly`
    fn told_key(&self, key: &Label) -> Option<String> {
        let per: &'static str = self.per?.into();
        Some(format!("{per} {key}"))
    }

    /// The key that is told so, if this rule has such keys.
    fn parse_key(&self, told: &str) -> Option<Label> {
        let per: &'static str = self.per?.into();
        let key = told.strip_prefix(per)?.strip_prefix(' ')?;
        Label::parse(key).ok()
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

/// Microseconds of a slice.
fn width(rule: &MetricRule) -> u64 {
    (rule.over_us / SLICES).max(1)
}

fn slice_of(rule: &MetricRule, at: Timestamp) -> u64 {
    u64::try_from(at.micros()).unwrap_or(0) / width(rule)
}

impl Window {
    /// Counts so many more values of a moment, or fewer; those too old to count are let go.
    fn add(&mut self, rule: &MetricRule, now: Timestamp, (at, count, sum): (Timestamp, i64, f64)) {
        let oldest = slice_of(rule, now).saturating_sub(SLICES);
        while self.slices.front().is_some_and(|it| it.number < oldest) {
            self.slices.pop_front();
        }
        let number = slice_of(rule, at);
        if number < oldest {
            return;
        }
        match self.slices.binary_search_by_key(&number, |it| it.number) {
            Ok(place) => {
                if let Some(slice) = self.slices.get_mut(place) {
                    slice.count += count;
                    slice.sum += sum;
                }
            }
            // What is taken back was let go before.
            Err(_) if count < 0 => {}
            Err(place) => self.slices.insert(place, Slice { number, count, sum }),
        }
    }

    /// The mean and of how many, if there are enough.
    fn mean(&self, rule: &MetricRule) -> Option<(f64, usize)> {
        let all = self.slices.iter();
        let (count, sum) = all.fold((0, 0.0), |(count, sum), it| {
            (count + it.count, sum + it.sum)
        });
        let count = usize::try_from(count).ok()?;
        if count < rule.at_least.max(1) {
            return None;
        }
        Some((
            sum / f64::from(u32::try_from(count).unwrap_or(u32::MAX)),
            count,
        ))
    }

    /// What to tell if whether it is off changed.
    fn turned(&mut self, rule: &MetricRule, key: Option<String>) -> Option<Turn> {
        let (mean, count) = self.mean(rule)?;
        let is_off = rule.is_off(mean);
        let has_changed = is_off != self.is_off;
        self.is_off = is_off;
        has_changed.then(|| Turn {
            rule: rule.name.clone(),
            metric: rule.metric.clone(),
            key,
            begins: is_off,
            mean,
            count,
            limit: rule.limit(),
        })
    }

    fn is_idle(&self, rule: &MetricRule, now: Timestamp) -> bool {
        let oldest = slice_of(rule, now).saturating_sub(SLICES);
        let last = self.slices.back();
        last.is_none_or(|it| it.number < oldest)
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

    /// The metrics that are watched, and since when each counts.
    pub fn wanted(&self, now: Timestamp) -> BTreeMap<String, Timestamp> {
        let mut wanted: BTreeMap<String, Timestamp> = BTreeMap::new();
        for (rule, _) in &self.0 {
            let over = i64::try_from(rule.over_us).unwrap_or(i64::MAX);
            let since = Timestamp::from_micros(now.micros().saturating_sub(over));
            let known = wanted.entry(rule.metric.clone()).or_insert(since);
            *known = since.min(*known);
        }
        wanted
    }

    /// Of what it wants to know what was told last.
    pub fn told(&self) -> LastTold {
        LastTold::of(self.0.iter().map(|(rule, _)| rule.name.to_string()))
    }

    /// Takes in what was measured before it watched, at the time it was measured. What is otherwise
    /// than it was told last turned meanwhile; where that is not known nothing is said of it.
    pub fn recall(&mut self, all: &[Measurement], now: Timestamp, told: &LastTold) -> Vec<Turn> {
        for it in all {
            self.take(it, None, it.at.min(now), now);
        }
        let mut turns = Vec::new();
        for (rule, windows) in &mut self.0 {
            for (key, window) in windows {
                let key = key.as_ref().and_then(|key| rule.told_key(key));
                let was_off = told.was_off(rule.name.as_str(), key.as_deref());
                window.is_off = was_off.unwrap_or_default();
                let turn = window.turned(rule, key);
                turns.extend(turn.filter(|_| was_off.is_some()));
            }
        }
        self.recall_off(told);
        turns
    }

    /// What was off stays so where nothing of late says how it is.
    fn recall_off(&mut self, told: &LastTold) {
        let mut kept = self.kept();
        for (rule, windows) in &mut self.0 {
            for told_key in told.off_by(rule.name.as_str()) {
                let key = told_key.and_then(|key| rule.parse_key(key));
                // It may have told others apart, by then.
                if [told_key.is_some(), key.is_some()] != [rule.per.is_some(); 2] {
                    continue;
                }
                if kept < MAX_WINDOWS && !windows.contains_key(&key) {
                    kept += 1;
                    let is_off = true;
                    let slices = VecDeque::new();
                    windows.insert(key, Window { slices, is_off });
                }
            }
        }
    }

    /// Whether it is of something that no window is for yet.
    fn has_new(&self, it: &Measurement) -> bool {
        let is_new = |(rule, windows): &(MetricRule, HashMap<_, _>)| {
            rule.looks_at(it) && !windows.contains_key(&rule.key(it))
        };
        self.0.iter().any(is_new)
    }

    fn kept(&self) -> usize {
        self.0.iter().map(|(_, windows)| windows.len()).sum()
    }

    /// Takes in what somebody measured at `at`, in the place of `before`.
    pub fn note(
        &mut self,
        it: &Measurement,
        before: Option<&Measurement>,
        (at, now): (Timestamp, Timestamp),
    ) -> Vec<Turn> {
        let mut turns = Vec::new();
        self.take(it, before, at, now);
        for (rule, windows) in &mut self.0 {
            if !rule.looks_at(it) {
                continue;
            }
            let key = rule.key(it);
            let Some(window) = windows.get_mut(&key) else {
                continue;
            };
            turns.extend(window.turned(rule, key.and_then(|key| rule.told_key(&key))));
        }
        turns
    }

    fn take(
        &mut self,
        it: &Measurement,
        before: Option<&Measurement>,
        at: Timestamp,
        now: Timestamp,
    ) {
        let mut kept = self.kept();
        if kept >= MAX_WINDOWS && self.has_new(it) {
            for (rule, windows) in &mut self.0 {
                windows.retain(|_, window| !window.is_idle(rule, now));
            }
            kept = self.kept();
        }
        for (rule, windows) in &mut self.0 {
            if !rule.looks_at(it) {
                continue;
            }
            let key = rule.key(it);
            if kept >= MAX_WINDOWS && !windows.contains_key(&key) {
                continue;
            }
            let window = windows.entry(key).or_insert_with(|| {
                kept += 1;
                Window::default()
            });
            let gone = before.and_then(|before| Some((before.at, before.value.as_number()?)));
            if let Some((at, gone)) = gone {
                window.add(rule, now, (at.min(now), -1, -gone));
            }
            if let Some(value) = it.value.as_number() {
                window.add(rule, now, (at, 1, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::metric::{Subject, Value};
    use super::super::{About, Scope};
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
            charged: None,
            instance: None,
        }
    }

    /// With these events of the rule, newest first.
    fn told(events: &[&str]) -> LastTold {
        let mut told = watched(rule(None)).told();
        let scope = Scope::new(About::Metric, "low score");
        for what in events {
            told.hear(what, Some(&scope));
        }
        told
    }

    /// What is said of each value, one a second.
    fn said(watched: &mut Watched, agent: &str, values: &[f64]) -> Vec<Option<bool>> {
        let one = |(n, value): (i64, &f64)| {
            let now = Timestamp::from_micros(n * SECOND);
            let turns = watched.note(&score(agent, *value), None, (now, now));
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
        let now = Timestamp::from_micros(2 * SECOND);
        let turns = watched.note(&score("a", 0.1), None, (now, now));
        assert_eq!(turns[0].key.as_deref(), Some("agent a"));
        assert_eq!((turns[0].count, turns[0].limit.as_str()), (3, "below 0.5"));
    }

    #[test]
    fn what_is_older_than_the_while_does_not_count() {
        let mut watched = watched(rule(None));
        said(&mut watched, "a", &[0.1, 0.1]);
        let later = Timestamp::from_micros(100 * SECOND);
        assert_eq!(watched.note(&score("a", 0.1), None, (later, later)), []);
    }

    #[test]
    fn no_more_is_kept_than_may_be_of_all_rules_together() {
        let of_agents = rule(Some(Per::Agent));
        let another = MetricRule {
            name: Label::parse("other").unwrap(),
            ..of_agents.clone()
        };
        let mut watched = Watched::default();
        watched.set_rules(&[of_agents, another]);
        for n in 0..2 * i64::try_from(MAX_WINDOWS).unwrap() {
            let now = Timestamp::from_micros(n);
            watched.note(&score(&format!("agent {n}"), 1.0), None, (now, now));
        }
        let kept: usize = watched.0.iter().map(|(_, windows)| windows.len()).sum();
        assert_eq!(kept, MAX_WINDOWS);
        for n in 0..4000 {
            let now = Timestamp::from_micros(n * 50_000);
            watched.note(&score("agent 0", 1.0), None, (now, now));
        }
        let window = &watched.0[0].1[&Some(Label::parse("agent 0").unwrap())];
        assert_eq!(window.slices.len(), 31, "a minute and the part that begins");
        let (mean, count) = window.mean(&watched.0[0].0).unwrap();
        assert_eq!((count, short(mean).as_str()), (1240, "1"));
    }

    #[test]
    fn what_takes_the_place_of_another_does_not_count_beside_it() {
        let mut watched = watched(rule(None));
        let now = Timestamp::from_micros(0);
        let low = score("a", 0.1);
        for _ in 0..2 {
            watched.note(&low, None, (now, now));
        }
        for _ in 0..9 {
            let turns = watched.note(&low, Some(&low), (now, now));
            assert_eq!(turns, [], "two are too few to tell");
        }
        let high = score("a", 1.0);
        watched.note(&high, Some(&low), (now, now));
        let (mean, count) = {
            watched.note(&low, None, (now, now));
            watched.0[0].1[&None].mean(&watched.0[0].0).unwrap()
        };
        assert_eq!((count, (mean * 1000.0).round()), (3, 400.0));
    }

    #[test]
    fn what_was_measured_before_the_start_counts_and_is_not_told_again() {
        let mut watched = watched(rule(None));
        let now = Timestamp::from_micros(3600 * SECOND);
        let before = |seconds: i64, value: f64| Measurement {
            at: Timestamp::from_micros((3600 - seconds) * SECOND),
            ..score("a", value)
        };
        assert_eq!(
            watched.wanted(now)["score"],
            Timestamp::from_micros(3540 * SECOND)
        );
        let all = [
            before(7, 0.1),
            before(6, 0.2),
            before(5, 0.1),
            before(90, 9.0),
        ];
        let turns = watched.recall(&all, now, &told(&["metric_off"]));
        assert_eq!(turns, [], "that was told");
        let turns = watched.note(&score("a", 0.1), None, (now, now));
        assert_eq!(turns, [], "it is off since before");
        let turns = watched.note(&score("a", 9.0), None, (now, now));
        assert_eq!((turns[0].begins, turns[0].count), (false, 5));
    }

    #[test]
    fn what_turned_while_nobody_watched_is_told_at_the_start() {
        let now = Timestamp::from_micros(3600 * SECOND);
        let all = |value: f64| {
            [5, 6, 7].map(|seconds| Measurement {
                at: Timestamp::from_micros((3600 - seconds) * SECOND),
                ..score("a", value)
            })
        };
        for (value, events, begins) in [
            (0.1, &[][..], true),
            (0.1, &["metric_recovered", "metric_off"], true),
            (0.9, &["metric_off", "metric_recovered"], false),
        ] {
            let mut watched = watched(rule(None));
            let turns = watched.recall(&all(value), now, &told(events));
            assert_eq!((turns.len(), turns[0].begins), (1, begins));
        }
    }

    #[test]
    fn what_may_have_been_told_before_is_not_told_again() {
        let mut watched = watched(rule(Some(Per::Agent)));
        let mut told = watched.told();
        let scope = |n| Scope::new(About::Metric, "low score").with_key(&format!("agent {n}"));
        let fit = (0..).take_while(|n| told.hear("metric_off", Some(&scope(*n))));
        assert_eq!(fit.count(), MAX_WINDOWS);
        let now = Timestamp::from_micros(0);
        let all = [0.1; 3].map(|value| score("a", value));
        assert_eq!(watched.recall(&all, now, &told), []);
        assert_eq!(
            said(&mut watched, "a", &[0.1, 9.0]),
            [None, Some(false)],
            "it is off by then"
        );
    }

    #[test]
    fn idle_windows_of_one_rule_make_room_for_another() {
        let per_agent = MetricRule {
            name: Label::parse("of agents").unwrap(),
            ..rule(Some(Per::Agent))
        };
        let of_all = MetricRule {
            at_least: 1,
            ..rule(None)
        };
        let mut watched = Watched::default();
        watched.set_rules(&[per_agent, of_all]);
        let mut told = watched.told();
        for n in 0..MAX_WINDOWS {
            let scope = Scope::new(About::Metric, "of agents").with_key(&format!("agent {n}"));
            told.hear("metric_off", Some(&scope));
        }
        let now = Timestamp::from_micros(0);
        assert_eq!(watched.recall(&[], now, &told), []);
        let turns = watched.note(&score("0", 0.1), None, (now, now));
        assert!(turns.iter().any(|it| it.begins), "{turns:?}");
    }

    #[test]
    fn what_was_off_and_had_no_value_of_late_is_off_still() {
        for (key, per) in [(None, None), (Some("agent a"), Some(Per::Agent))] {
            let mut watched = watched(rule(per));
            let mut told = watched.told();
            let scope = Scope {
                key: key.map(str::to_owned),
                ..Scope::new(About::Metric, "low score")
            };
            told.hear("metric_off", Some(&scope));
            let now = Timestamp::from_micros(0);
            assert_eq!(watched.recall(&[], now, &told), []);
            assert_eq!(said(&mut watched, "a", &[0.1, 0.1, 0.1]), [None; 3]);
            let said = said(&mut watched, "a", &[9.0, 9.0, 9.0]);
            assert_eq!(said, [Some(false), None, None]);
        }
    }
}
