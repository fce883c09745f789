//! What was told last of custom metrics, by the rules that watch them.

use std::collections::{BTreeSet, HashMap};

use super::{Rule, Scope};

/// The event that a metric is where it should be again.
pub const RECOVERED: &str = "metric_recovered";

/// Agents and runs that it is remembered of, those that were told of last.
const MOST: usize = 4096;
/// Events that are looked at for that.
const MOST_EVENTS: usize = 100_000;

/// Whether each was off when it was told of last.
#[derive(Debug)]
pub struct LastTold {
    /// Of these rules.
    rules: BTreeSet<String>,
    was_off: HashMap<(String, Option<String>), bool>,
    most: usize,
    events_left: usize,
    is_cut: bool,
}

impl LastTold {
    /// Nothing is known of what other rules told.
    pub fn of(rules: impl IntoIterator<Item = String>) -> Self {
        Self {
            rules: rules.into_iter().collect(),
            was_off: HashMap::new(),
            most: MOST,
            events_left: MOST_EVENTS,
            is_cut: false,
        }
    }

    /// Takes in an event, the newest first; says whether it wants to know more.
    pub fn hear(&mut self, what: &str, scope: Option<&Scope>) -> bool {
        let Some(left) = self.events_left.checked_sub(1) else {
            self.is_cut = true;
            return false;
        };
        self.events_left = left;
        let off = match what {
            RECOVERED => false,
            _ if what == Rule::MetricOff.name() => true,
            _ => return true,
        };
        let Some(scope) = scope.filter(|scope| self.rules.contains(&scope.name)) else {
            return true;
        };
        let of = (scope.name.clone(), scope.key.clone());
        if self.was_off.len() >= self.most && !self.was_off.contains_key(&of) {
            self.is_cut = true;
            return false;
        }
        self.was_off.entry(of).or_insert(off);
        true
    }

    /// None where it may have been told or not.
    pub fn was_off(&self, rule: &str, key: Option<&str>) -> Option<bool> {
        let of = (rule.to_owned(), key.map(str::to_owned));
        let known = self.was_off.get(&of).copied();
        known.or((!self.is_cut).then_some(false))
    }

    /// The keys that this rule told to be off last.
    pub fn off_by<'a>(&'a self, rule: &'a str) -> impl Iterator<Item = Option<&'a str>> {
        let off = self.was_off.iter().filter(|(_, is_off)| **is_off);
        off.filter(move |((name, _), _)| name == rule)
            .map(|((_, key), _)| key.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::super::About;
    use super::*;

    fn scope(key: &str) -> Scope {
        Scope::new(About::Metric, "low score").with_key(key)
    }

    #[test]
    fn the_newest_that_was_told_counts() {
        let mut told = LastTold::of(["low score".to_owned()]);
        for (what, key) in [
            ("metric_off", "agent a"),
            ("metric_recovered", "agent b"),
            ("started", "agent c"),
            ("metric_recovered", "agent a"),
            ("metric_off", "agent b"),
        ] {
            assert!(told.hear(what, Some(&scope(key))));
        }
        let other = Scope::new(About::Metric, "another rule");
        assert!(told.hear("metric_off", Some(&other)) && told.hear("metric_off", None));
        let was_off = |key| told.was_off("low score", Some(key));
        assert_eq!(was_off("agent a"), Some(true));
        assert_eq!(was_off("agent b"), Some(false));
        assert_eq!(was_off("agent c"), Some(false), "nothing was told of it");
        let off: Vec<_> = told.off_by("low score").collect();
        assert_eq!(off, [Some("agent a")]);
        assert_eq!(told.off_by("another rule").count(), 0);
    }

    #[test]
    fn what_does_not_fit_is_not_known() {
        let mut told = LastTold {
            most: 1,
            ..LastTold::of(["low score".to_owned()])
        };
        assert!(told.hear("metric_off", Some(&scope("agent a"))));
        assert_eq!(told.was_off("low score", Some("agent b")), Some(false));
        assert!(told.hear("metric_recovered", Some(&scope("agent a"))));
        assert!(!told.hear("metric_off", Some(&scope("agent b"))));
        assert_eq!(told.was_off("low score", Some("agent b")), None);
        assert_eq!(told.was_off("low score", Some("agent a")), Some(true));
    }

    #[test]
    fn what_is_behind_many_events_is_not_known() {
        let mut told = LastTold {
            events_left: 2,
            ..LastTold::of(["low score".to_owned()])
        };
        assert!(told.hear("started", None) && told.hear("started", None));
        assert_eq!(told.was_off("low score", None), Some(false));
        assert!(!told.hear("metric_off", Some(&scope("agent a"))));
        assert_eq!(told.was_off("low score", None), None);
    }
}
