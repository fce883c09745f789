//! Custom metrics: how `[metrics]` and `[[alerts.metric]]` are read and written.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::time::Duration;

use toml::de::DeValue;

use super::read::Section;
use super::render::{list, quoted};
use super::value::{self, Kind, duration_text};
use crate::core::alert::measured::{MetricRule, Per};
use crate::core::id::Label;
use crate::core::metric::parse_name;

const MAX_EXPORTED: usize = 100;
const MAX_RULES: usize = 64;

/// Which custom metrics `/metrics` tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsConfig {
    /// None where the first twenty names that come are told.
    pub export: Option<Vec<String>>,
}

const METRIC: Kind<String> = Kind::new(
    "the name of a custom metric: letters, digits, `_`, `-` and `.`, 1 to 64",
    "\"score\"",
    |value| value.as_str().and_then(parse_name),
);

const NUMBER: Kind<f64> = Kind::new("a finite number", "0.5", |value| {
    let number: f64 = match value {
        DeValue::Float(float) => float.as_str().replace('_', "").parse().ok()?,
        DeValue::Integer(whole) if whole.radix() == 10 => {
            whole.as_str().replace('_', "").parse().ok()?
        }
        _ => return None,
    };
    number.is_finite().then_some(number)
});

const RULE_NAME: Kind<Label> = Kind::new(
    "a text of 1 to 256 bytes without control characters",
    "\"low score\"",
    |value| Label::parse(value.as_str()?).ok(),
);

const PER: Kind<Per> = Kind::new("\"agent\" or \"run\"", "[\"agent\"]", |value| {
    value.as_str()?.parse().ok()
});

const AT_LEAST: Kind<usize> = Kind::new("a whole number from 1 to 1000", "5", |value| {
    (value::COUNT.parse)(value).filter(|least| *least <= 1000)
});

pub(super) fn read(root: &mut Section<'_, '_>) -> MetricsConfig {
    let mut config = MetricsConfig::default();
    root.table("metrics", |section| {
        let is_said = section.has("export");
        let names = section.list("export", &METRIC);
        if names.len() > MAX_EXPORTED {
            section.problem("export", "at most 100 names", "");
        }
        config.export = is_said.then_some(names);
    });
    config
}

/// The `[[alerts.metric]]` of `[alerts]`.
pub(super) fn rules(section: &mut Section<'_, '_>) -> Vec<MetricRule> {
    let mut names = BTreeSet::new();
    let rules = section.tables("metric", |n, section| {
        if n == MAX_RULES {
            section.problem("name", "at most 64 alerts of metrics", "");
        }
        let name = section.demand("name", &RULE_NAME);
        let is_taken = |name| !names.insert(name);
        if name.clone().is_some_and(is_taken) {
            section.problem("name", "a name that no other alert of a metric has", "");
        }
        let metric = section.demand("metric", &METRIC);
        let per = section.list("per", &PER);
        if per.len() > 1 {
            section.problem("per", "one of \"agent\" and \"run\", or none", "");
        }
        let below = section.get("below", &NUMBER);
        let above = section.get("above", &NUMBER);
        if !section.has("below") && !section.has("above") {
            section.problem("below", "a finite number, or above", "below = 0.5");
        }
        let mut over = Duration::from_secs(900);
        section.set("over", &value::DURATION.like("\"15m\""), &mut over);
        let mut at_least = 1;
        section.set("at_least", &AT_LEAST, &mut at_least);
        Some(MetricRule {
            name: name?,
            metric: metric?,
            per: per.first().copied(),
            below,
            above,
            over_us: u64::try_from(over.as_micros()).unwrap_or(u64::MAX),
            at_least,
        })
    });
    rules.into_iter().flatten().collect()
}

pub(super) fn write(f: &mut impl Write, config: &MetricsConfig) -> fmt::Result {
    writeln!(f, "\n[metrics]")?;
    if let Some(names) = &config.export {
        writeln!(f, "export = {}", list(names))?;
    }
    Ok(())
}

pub(super) fn write_rules(f: &mut impl Write, rules: &[MetricRule]) -> fmt::Result {
    for rule in rules {
        writeln!(f, "\n[[alerts.metric]]")?;
        writeln!(f, "name = {}", quoted(&rule.name))?;
        writeln!(f, "metric = {}", quoted(&rule.metric))?;
        let per: Vec<&'static str> = rule.per.into_iter().map(Into::into).collect();
        writeln!(f, "per = {}", list(&per))?;
        for (key, limit) in [("below", rule.below), ("above", rule.above)] {
            if let Some(limit) = limit {
                writeln!(f, "{key} = {limit:?}")?;
            }
        }
        let over = Duration::from_micros(rule.over_us);
        writeln!(f, "over = {}", quoted(duration_text(over)))?;
        writeln!(f, "at_least = {}", rule.at_least)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn problems(text: &str) -> String {
        Config::parse("c.toml", text, &|_| None)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn rules_of_metrics_are_read_and_written_alike() {
        let text = "[metrics]\nexport = [\"score\", \"Docs\"]\n\n[[alerts.metric]]\n\
                    name = \"low score\"\nmetric = \"score\"\nper = [\"agent\"]\nbelow = 0.5\n\
                    above = 1\nover = \"15m\"\nat_least = 5\n";
        let config = Config::parse("c.toml", text, &|_| None).unwrap();
        let names = config.metrics.export.as_deref().unwrap();
        assert_eq!(names, ["score", "docs"]);
        assert_eq!(config.alerts.metrics[0].above, Some(1.0));
        let again = Config::parse("c.toml", &config.to_string(), &|_| None).unwrap();
        assert_eq!(again.alerts, config.alerts);
        assert_eq!(again.metrics, config.metrics);
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said_with_what_was_expected() {
        let said = problems(
            "[metrics]\nexport = [\"a b\"]\n[[alerts.metric]]\nname = \"x\"\nmetric = 7\n\
             per = [\"user\"]\nat_least = 0\n[[alerts.metric]]\nname = \"x\"\n\
             metric = \"score\"\nbelow = \"low\"\n",
        );
        for part in [
            "metrics.export",
            "the name of a custom metric",
            "\"agent\" or \"run\"",
            "a whole number from 1 to 1000",
            "a finite number, or above",
            "a name that no other alert of a metric has",
            "expected a finite number",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}
