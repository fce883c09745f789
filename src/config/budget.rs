//! Budgets: how `[[budget]]` is read into rules, and how a rule is written so that it reads back.
//!
//! Amounts of money and parts of a limit are taken digit by digit, never through floating point.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::time::Duration;

use jiff::tz::TimeZone;
use toml::de::DeValue;
use wildmatch::WildMatch;

use super::read::Section;
use super::render::{list, quoted};
use super::value::{self, Kind};
use crate::core::budget::amounts::micro_text;
use crate::core::budget::{
    Action, Dimension, Limits, Measure, OnUnpriced, Rule, Slow, Unit, Window,
};
use crate::core::id::Label;
use crate::core::metric::parse_name;

/// Names that limits asked for by header go by.
const RESERVED: &str = "x-aiops";
const MAX_AMOUNT: u64 = 1_000_000_000_000_000;
const SECOND_US: i64 = 1_000_000;
const MAX_ROLLING_SECONDS: i64 = 30 * 86_400;
const MAX_DELAY: Duration = Duration::from_secs(30);
const DEFAULT_DELAY: Duration = Duration::from_secs(10);
const DEFAULT_WARN_AT: u32 = 800;
/// A limit as a whole, in the thousandths that its parts are given in.
const WHOLE: u32 = 1000;

const NAME: Kind<Label> = Kind::new(
    "a name of up to 256 bytes without control characters that does not start with x-aiops",
    "\"each run\"",
    |value| {
        let name = Label::parse(value.as_str()?).ok()?;
        let start = name.as_str().get(..RESERVED.len());
        let is_reserved = start.is_some_and(|start| start.eq_ignore_ascii_case(RESERVED));
        (!is_reserved).then_some(name)
    },
);

const DIMENSION: Kind<Dimension> = Kind::new(
    "one of run, agent, caller, user, key, model, upstream, operation, variant, tag.<name>",
    "\"run\"",
    |value| value.as_str()?.parse().ok(),
);

const GLOB: Kind<WildMatch> = Kind::new(
    "a text or a list of texts, in which * and ? are wildcards",
    "\"research*\"",
    value::GLOB.parse,
);

const USD: Kind<i64> = Kind::new(
    "US dollars as a decimal that is not negative, with up to 9 digits before and after the point",
    "2.50",
    |value| value::fixed_point(value, 9, 9),
);

const AMOUNT: Kind<i64> = Kind::new(
    "a whole number from 0 to 1000000000000000",
    "2_000_000",
    |value| {
        let amount = value::integer(value).filter(|amount| *amount <= MAX_AMOUNT)?;
        i64::try_from(amount).ok()
    },
);

/// In millionths.
const METRIC_LIMIT: Kind<i64> = Kind::new(
    "a number above 0, with up to 9 digits before and 6 after the point",
    "500",
    |value| value::fixed_point(value, 9, 6).filter(|limit| *limit > 0),
);

const CONCURRENT: Kind<i64> = Kind::new(value::COUNT.expected, "10", |value| {
    i64::try_from((value::COUNT.parse)(value)?).ok()
});

const WINDOW: Kind<Window> = Kind::new(
    "\"total\", a rolling time from \"1s\" to \"30d\", or \"hour\", \"day\", \"week\", \"month\"",
    "\"24h\"",
    window,
);

const TIME_ZONE: Kind<TimeZone> = Kind::new(
    "a name of the IANA time zone database",
    "\"Europe/Berlin\"",
    |value| {
        let zone = TimeZone::get(value.as_str()?).ok()?;
        zone.iana_name().is_some().then_some(zone)
    },
);

const SLOW_AT: Kind<u32> = Kind::new(
    "a part above 0 and below 1, with up to 3 decimals",
    "0.8",
    |value| part(value).filter(|part| *part < WHOLE),
);

const WARN_AT: Kind<u32> = Kind::new(
    "a part above 0 and up to 1, with up to 3 decimals",
    "0.8",
    part,
);

const DELAY: Kind<Duration> = Kind::new(
    "a duration above zero and up to \"30s\"",
    "\"10s\"",
    |value| (value::DURATION.parse)(value).filter(|delay| *delay <= MAX_DELAY),
);

const ACTION: Kind<Action> = Kind::new("\"break\" or \"warn\"", "\"break\"", |value| {
    value.as_str()?.parse().ok()
});

const ON_UNPRICED: Kind<OnUnpriced> = Kind::new(
    "\"refuse\", \"fallback_price\" or \"count_only\"",
    "\"refuse\"",
    |value| value.as_str()?.parse().ok(),
);

fn window(value: &DeValue<'_>) -> Option<Window> {
    let text = value.as_str()?;
    if text == "total" {
        return Some(Window::Total);
    }
    if let Ok(unit) = text.parse::<Unit>() {
        return Some(Window::Calendar(unit, TimeZone::UTC));
    }
    let (count, unit) = value::count_and_unit(text)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let length = i64::try_from(count).ok()?.checked_mul(seconds)?;
    (1..=MAX_ROLLING_SECONDS)
        .contains(&length)
        .then_some(Window::Rolling(length * SECOND_US))
}

/// A part of a limit in thousandths.
fn part(value: &DeValue<'_>) -> Option<u32> {
    let part = u32::try_from(value::fixed_point(value, 1, 3)?).ok()?;
    (1..=WHOLE).contains(&part).then_some(part)
}

pub(super) fn read(root: &mut Section<'_, '_>) -> Vec<Rule> {
    let mut names = BTreeSet::new();
    let rules = root.tables("budget", |_, section| {
        let rule = rule(section)?;
        if !names.insert(rule.name.clone()) {
            section.problem("name", "a name that no other budget has", "");
        }
        Some(rule)
    });
    rules.into_iter().flatten().collect()
}

/// None when it has no good name; that is a problem already.
fn rule(section: &mut Section<'_, '_>) -> Option<Rule> {
    let name = section.demand("name", &NAME);
    let per = per(section);
    let matching = section.table("match", matching).unwrap_or_default();
    let mut limits = limits(section);
    let metric = section.table("metric", metric).flatten();
    limits.micro_metric = metric.as_ref().map(|(_, limit)| *limit);
    let window = in_zone(section);
    let slow = slow(section);
    let (mut warn_at, mut action) = (DEFAULT_WARN_AT, Action::default());
    section.set("warn_at", &WARN_AT, &mut warn_at);
    section.set("action", &ACTION, &mut action);
    let on_unpriced = section.get("on_unpriced", &ON_UNPRICED);
    if action == Action::Warn && on_unpriced == Some(OnUnpriced::Refuse) {
        let expected = "\"fallback_price\" or \"count_only\" in a budget that only warns";
        section.problem("on_unpriced", expected, "on_unpriced = \"count_only\"");
    }
    let is_only_at_once = section.has("concurrent")
        && !section.has("metric")
        && limits
            .each()
            .all(|(measure, _)| measure == Measure::Concurrent);
    if is_only_at_once {
        only_at_once(section, action);
    }
    if section.has("on_unpriced") && !section.has("usd") {
        let expected = "a limit in US dollars beside it, or no on_unpriced";
        section.problem("on_unpriced", expected, "usd = 2.50");
    }
    Some(Rule {
        name: name?,
        per,
        matching,
        limits,
        metric: metric.map(|(name, _)| name),
        window,
        slow,
        warn_at: (!is_only_at_once).then_some(warn_at),
        action,
        on_unpriced: on_unpriced.unwrap_or_default(),
    })
}

/// Calls at once are never used up: nothing comes near such a limit, or passes it.
fn only_at_once(section: &mut Section<'_, '_>, action: Action) {
    for (key, means_nothing) in [
        ("slow_at", true),
        ("warn_at", true),
        ("action", action == Action::Warn),
    ] {
        if section.has(key) && means_nothing {
            let expected = format!("a limit other than concurrent beside it, or no {key}");
            section.problem(key, &expected, "calls = 100");
        }
    }
}

/// Sorted: accounts stay the same when their dimensions are written in another order.
fn per(section: &mut Section<'_, '_>) -> Vec<Dimension> {
    let mut per = BTreeSet::new();
    for (n, dimension) in section.items("per", &DIMENSION).into_iter().enumerate() {
        if dimension.is_some_and(|dimension| !per.insert(dimension)) {
            section.problem(&format!("per[{n}]"), "each dimension only once", "");
        }
    }
    per.into_iter().collect()
}

fn matching(section: &mut Section<'_, '_>) -> Vec<(Dimension, Vec<WildMatch>)> {
    let mut matching = Vec::new();
    for dimension in Dimension::PLAIN {
        let key = dimension.name();
        let globs = globs(section, key);
        matching.extend(globs.map(|globs| (dimension, globs)));
    }
    matching.extend(section.table("tag", tags).unwrap_or_default());
    matching
}

fn tags(section: &mut Section<'_, '_>) -> Vec<(Dimension, Vec<WildMatch>)> {
    let mut tags: Vec<(Dimension, Vec<WildMatch>)> = Vec::new();
    for name in section.keys() {
        let globs = globs(section, name).unwrap_or_default();
        match Label::parse(name).map(Dimension::Tag) {
            Ok(tag) if tags.iter().all(|(other, _)| *other != tag) => tags.push((tag, globs)),
            Ok(_) => section.problem(name, "each tag only once", ""),
            Err(_) => section.problem(name, "the name of a tag before it", "team = \"search\""),
        }
    }
    tags
}

fn globs<'r>(section: &mut Section<'r, '_>, key: &'r str) -> Option<Vec<WildMatch>> {
    let globs = section.one_or_list(key, &GLOB)?;
    if globs.is_empty() {
        let expected = "at least one text, in which * and ? are wildcards";
        section.problem(key, expected, &format!("{key} = {}", GLOB.example));
    }
    Some(globs.into_iter().flatten().collect())
}

fn limits(section: &mut Section<'_, '_>) -> Limits {
    let mut limits = Limits::default();
    let mut is_limited = false;
    for (measure, kind) in [
        (Measure::Usd, &USD),
        (Measure::Tokens, &AMOUNT),
        (Measure::InputTokens, &AMOUNT),
        (Measure::OutputTokens, &AMOUNT),
        (Measure::Calls, &AMOUNT),
        (Measure::Concurrent, &CONCURRENT),
    ] {
        is_limited |= section.has(measure.name());
        limits.set(measure, section.get(measure.name(), kind));
    }
    if !is_limited && !section.has("metric") {
        let expected = "at least one limit: usd, tokens, input_tokens, output_tokens, calls, \
                        concurrent or metric";
        section.problem("", expected, "usd = 2.50");
    }
    limits
}

/// The one custom metric that is limited, and its limit in millionths.
fn metric(section: &mut Section<'_, '_>) -> Option<(String, i64)> {
    let keys = section.keys();
    if keys.len() != 1 {
        let expected =
            "one custom metric and its limit; another one is limited by a budget of its own";
        section.problem("", expected, "metric = { documents = 500 }");
    }
    let mut metrics = Vec::new();
    for key in keys {
        let limit = section.get(key, &METRIC_LIMIT);
        let Some(name) = parse_name(key) else {
            let expected =
                "the name of a custom metric before it: letters, digits, `_`, `-` and `.`";
            section.problem(key, expected, "documents = 500");
            continue;
        };
        metrics.extend(limit.map(|limit| (name, limit)));
    }
    metrics.into_iter().next()
}

fn in_zone(section: &mut Section<'_, '_>) -> Window {
    let mut window = Window::Total;
    section.set("window", &WINDOW, &mut window);
    let zone = section.get("timezone", &TIME_ZONE);
    match (window, zone) {
        (Window::Calendar(unit, _), Some(zone)) => Window::Calendar(unit, zone),
        (window @ (Window::Total | Window::Rolling(_)), Some(_)) => {
            let expected = "a window of the calendar beside it, or no timezone";
            section.problem("timezone", expected, "window = \"day\"");
            window
        }
        (window, None) => window,
    }
}

fn slow(section: &mut Section<'_, '_>) -> Option<Slow> {
    let from = section.get("slow_at", &SLOW_AT);
    let mut delay = DEFAULT_DELAY;
    section.set("max_delay", &DELAY, &mut delay);
    if section.has("max_delay") && !section.has("slow_at") {
        let expected = "slow_at beside it, or no max_delay";
        section.problem("max_delay", expected, "slow_at = 0.8");
    }
    Some(Slow {
        from: from?,
        max_delay_us: u64::try_from(delay.as_micros()).unwrap_or(u64::MAX),
    })
}

pub(super) fn write(f: &mut impl Write, rule: &Rule) -> fmt::Result {
    writeln!(f, "\n[[budget]]")?;
    writeln!(f, "name = {}", quoted(&rule.name))?;
    writeln!(f, "per = {}", list(&rule.per))?;
    if !rule.matching.is_empty() {
        writeln!(f, "match = {}", match_text(&rule.matching))?;
    }
    for (measure, limit) in rule.limits.each() {
        match measure {
            Measure::Usd => writeln!(f, "usd = {}", value::fixed_point_text(limit, 9, 2))?,
            // It is told with its name.
            Measure::Metric => {}
            counted => writeln!(f, "{} = {limit}", counted.name())?,
        }
    }
    if let (Some(name), Some(limit)) = (&rule.metric, rule.limits.micro_metric) {
        writeln!(f, "metric = {{ {} = {} }}", quoted(name), micro_text(limit))?;
    }
    writeln!(f, "window = {}", quoted(&rule.window))?;
    if let Window::Calendar(_, zone) = &rule.window {
        writeln!(
            f,
            "timezone = {}",
            quoted(zone.iana_name().unwrap_or("UTC"))
        )?;
    }
    if let Some(slow) = rule.slow {
        let delay = value::duration_text(Duration::from_micros(slow.max_delay_us));
        writeln!(f, "slow_at = {}", part_text(slow.from))?;
        writeln!(f, "max_delay = {}", quoted(delay))?;
    }
    if let Some(warn_at) = rule.warn_at {
        writeln!(f, "warn_at = {}", part_text(warn_at))?;
    }
    writeln!(f, "action = {}", quoted(<&str>::from(rule.action)))?;
    if rule.limits.of(Measure::Usd).is_some() {
        let on_unpriced = <&str>::from(rule.on_unpriced);
        writeln!(f, "on_unpriced = {}", quoted(on_unpriced))?;
    }
    Ok(())
}

fn match_text(matching: &[(Dimension, Vec<WildMatch>)]) -> String {
    let texts = |globs: &[WildMatch]| {
        let globs = globs.iter().map(|glob| toml::Value::from(glob.to_string()));
        toml::Value::Array(globs.collect())
    };
    let (mut plain, mut tags) = (toml::Table::new(), toml::Table::new());
    for (dimension, globs) in matching {
        match dimension {
            Dimension::Tag(name) => tags.insert(name.to_string(), texts(globs)),
            dimension => plain.insert(dimension.to_string(), texts(globs)),
        };
    }
    if !tags.is_empty() {
        plain.insert("tag".to_owned(), toml::Value::Table(tags));
    }
    toml::Value::Table(plain).to_string()
}

fn part_text(thousandths: u32) -> String {
    value::fixed_point_text(i64::from(thousandths), 3, 1)
}

#[cfg(test)]
mod tests;
