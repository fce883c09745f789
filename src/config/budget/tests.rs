use proptest::prelude::*;

use super::*;
use crate::config::Config;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse("config.toml", text, &|_| None).map_err(|problems| problems.to_string())
}

#[track_caller]
fn budget(keys: &str) -> Rule {
    let text = format!("[[budget]]\nname = \"a\"\n{keys}\n");
    parse(&text).unwrap().budgets.remove(0)
}

#[track_caller]
fn problem(keys: &str) -> String {
    parse(&format!("[[budget]]\nname = \"a\"\n{keys}\n")).unwrap_err()
}

#[test]
fn budget_of_a_name_and_a_limit_has_the_documented_defaults() {
    assert_eq!(
        budget("calls = 0"),
        Rule {
            name: Label::parse("a").unwrap(),
            per: Vec::new(),
            matching: Vec::new(),
            limits: Limits {
                calls: Some(0),
                ..Limits::default()
            },
            window: Window::Total,
            metric: None,
            slow: None,
            warn_at: Some(800),
            action: Action::Break,
            on_unpriced: OnUnpriced::FallbackPrice,
        }
    );
    let slow = budget("usd = 1\nslow_at = 0.5").slow.unwrap();
    assert_eq!((slow.from, slow.max_delay_us), (500, 10_000_000));
}

#[test]
fn budget_with_every_key_is_read_value_by_value() {
    let full = std::fs::read_to_string("tests/fixtures/config/valid/full.toml").unwrap();
    let full = full.split("[[budget]]").nth(1).unwrap();
    let rule = parse(&format!("[[budget]]{full}"))
        .unwrap()
        .budgets
        .remove(0);
    assert_eq!(rule.name.as_str(), "each \"run\"");
    let tag = |name| Dimension::Tag(Label::parse(name).unwrap());
    assert_eq!(rule.per, [Dimension::Run, tag("team")]);
    let globs = |texts: &[&str]| texts.iter().map(|text| WildMatch::new(text)).collect();
    let matching: Vec<(Dimension, Vec<WildMatch>)> = vec![
        (Dimension::Run, globs(&["?"])),
        (Dimension::Agent, globs(&["research*"])),
        (Dimension::Model, globs(&["gpt-*", "o3*"])),
        (tag("a.b c"), globs(&["\n'", "*"])),
        (tag("team"), globs(&["search"])),
    ];
    assert_eq!(rule.matching, matching);
    let limits: Vec<i64> = rule.limits.each().map(|(_, limit)| limit).collect();
    let most = 1_000_000_000_000_000;
    assert_eq!(limits, [2_000_000_001, 2_000_000, 0, most, 16, 3]);
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    assert_eq!(rule.window, Window::Calendar(Unit::Week, berlin));
    let slow = rule.slow.unwrap();
    assert_eq!((slow.from, slow.max_delay_us), (250, 1_500_000));
    assert_eq!(rule.warn_at, Some(1000));
    assert_eq!(
        (rule.action, rule.on_unpriced),
        (Action::Warn, OnUnpriced::CountOnly)
    );
}

#[test]
fn budget_of_a_custom_metric_is_read_and_written_exactly() {
    let rule = budget("per = [\"run\"]\nmetric = { \"Docs.Read\" = 12.000001 }");
    assert_eq!(
        rule.metric.as_deref(),
        Some("docs.read"),
        "headers have no case"
    );
    assert_eq!(rule.limits.micro_metric, Some(12_000_001));
    assert_eq!(rule.warn_at, Some(800));
    let mut text = String::new();
    write(&mut text, &rule).unwrap();
    assert_eq!(parse(&text).unwrap().budgets, [rule]);
    let beside = budget("metric = { documents = 500 }\nusd = 1\nconcurrent = 2");
    assert_eq!(beside.limits.each().count(), 3);
}

#[test]
fn what_is_wrong_with_the_limit_of_a_metric_is_said_with_what_was_expected() {
    for (keys, expected) in [
        ("metric = {}", "one custom metric and its limit"),
        (
            "metric = { a = 1, b = 2 }",
            "one custom metric and its limit",
        ),
        (
            "metric = { \"a b\" = 1 }",
            "the name of a custom metric before it",
        ),
        ("metric = { docs = 0 }", "a number above 0"),
        ("metric = { docs = -1 }", "a number above 0"),
        ("metric = { docs = 0.0000001 }", "a number above 0"),
        ("metric = { docs = true }", "a number above 0"),
        ("metric = \"docs\"", "metric"),
    ] {
        let said = problem(keys);
        assert!(said.contains(expected), "{keys}: {said}");
        assert!(!said.contains("at least one limit"), "{keys}: {said}");
    }
}

#[test]
fn budget_of_calls_at_once_alone_is_read_and_written() {
    let config = parse("[[budget]]\nname = \"b\"\nconcurrent = 2\naction = \"break\"\n").unwrap();
    assert_eq!(config.budgets[0].warn_at, None);
    assert_eq!(parse(&config.to_string()).unwrap(), config);
}

#[test]
fn windows_are_read_up_to_the_ends_of_their_range() {
    let window = |text: &str| budget(&format!("calls = 1\nwindow = \"{text}\"")).window;
    for (text, seconds) in [("1s", 1), ("90s", 90), ("24h", 86_400), ("30d", 2_592_000)] {
        assert_eq!(window(text), Window::Rolling(seconds * SECOND_US), "{text}");
    }
    assert_eq!(
        window("month"),
        Window::Calendar(Unit::Month, TimeZone::UTC)
    );
    for bad in [
        "0s", "2592001s", "721h", "31d", "1.5h", "10", "1ms", "year", "Day", "",
    ] {
        let problem = problem(&format!("calls = 1\nwindow = \"{bad}\""));
        assert!(problem.contains("from \"1s\" to \"30d\""), "{problem}");
    }
}

#[test]
fn money_is_exact_to_the_last_digit() {
    for (text, nano) in [
        ("0", 0),
        ("0.000000001", 1),
        ("0.1", 100_000_000),
        ("\"2.50\"", 2_500_000_000),
        ("9007199.254740993", 9_007_199_254_740_993),
        ("999_999_999.999999999", 999_999_999_999_999_999),
    ] {
        let limits = budget(&format!("usd = {text}")).limits;
        assert_eq!(limits.nano_usd, Some(nano), "{text}");
    }
}

#[test]
fn order_of_dimensions_does_not_matter() {
    let one = budget("calls = 1\nper = [\"tag.a\", \"model\", \"run\"]");
    let other = budget("calls = 1\nper = [\"run\", \"tag.a\", \"model\"]");
    assert_eq!(one, other);
}

#[test]
fn every_dimension_can_be_matched_and_is_documented() {
    let documented = std::fs::read_to_string("docs/configuration.md").unwrap();
    for dimension in Dimension::PLAIN {
        let rule = budget(&format!("calls = 1\nmatch = {{ {dimension} = \"x*\" }}"));
        assert_eq!(
            rule.matching,
            [(dimension.clone(), vec![WildMatch::new("x*")])]
        );
        assert!(
            documented.contains(&format!("`{dimension}`")),
            "{dimension}"
        );
        assert!(DIMENSION.expected.contains(dimension.name()), "{dimension}");
    }
}

#[test]
fn each_problem_has_its_message() {
    let table = [
        (
            "usd = 1\nmatch = { modle = \"x\" }",
            "config.toml:4: budget[0].match.modle: found an unknown key, expected \"model\"",
        ),
        (
            "usd = 1\nmatch = { something = \"x\" }",
            "config.toml:4: budget[0].match.something: found an unknown key, expected one of run, \
             agent, caller, user, key, model, upstream, operation, variant, tag",
        ),
        (
            "calls = 1\nper = [\"run\", \"agent\", \"run\"]",
            "config.toml:4: budget[0].per[2]: found \"run\", expected each dimension only once",
        ),
        (
            "calls = 1\nwindow = \"1h\"\ntimezone = \"UTC\"",
            "config.toml:5: budget[0].timezone: found \"UTC\", expected a window of the calendar \
             beside it, or no timezone, for example window = \"day\"",
        ),
        (
            "calls = 1\nmax_delay = \"5s\"",
            "config.toml:4: budget[0].max_delay: found \"5s\", expected slow_at beside it, or no \
             max_delay, for example slow_at = 0.8",
        ),
        (
            "calls = 1\non_unpriced = \"refuse\"",
            "config.toml:4: budget[0].on_unpriced: found \"refuse\", expected a limit in US \
             dollars beside it, or no on_unpriced, for example usd = 2.50",
        ),
        (
            "usd = 1\naction = \"warn\"\non_unpriced = \"refuse\"",
            "config.toml:5: budget[0].on_unpriced: found \"refuse\", expected \"fallback_price\" or \
             \"count_only\" in a budget that only warns, for example on_unpriced = \"count_only\"",
        ),
        (
            "concurrent = 2\naction = \"warn\"",
            "config.toml:4: budget[0].action: found \"warn\", expected a limit other than concurrent \
             beside it, or no action, for example calls = 100",
        ),
        (
            "concurrent = 2\nslow_at = 0.5",
            "config.toml:4: budget[0].slow_at: found 0.5, expected a limit other than concurrent \
             beside it, or no slow_at, for example calls = 100",
        ),
        (
            "per = [\"run\"]",
            "config.toml:1: budget[0]: found [[budget]], expected at least one limit: usd, tokens, \
             input_tokens, output_tokens, calls, concurrent or metric, for example usd = 2.50",
        ),
    ];
    for (keys, message) in table {
        assert_eq!(problem(keys), message);
    }
}

/// A key of a budget with one of its values, or nothing.
fn line(key: &'static str, values: &[&str]) -> impl Strategy<Value = String> + use<> {
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    let line = proptest::sample::select(values);
    proptest::option::of(line)
        .prop_map(move |value| value.map_or_else(String::new, |value| format!("{key} = {value}\n")))
}

fn quoted_text() -> impl Strategy<Value = String> {
    any::<String>()
        .prop_filter("a label", |text| Label::parse(text).is_ok())
        .prop_map(|text| quoted(format!("a{}", Label::parse(&text).unwrap())))
        .prop_filter("short", |text| text.len() < 200)
}

fn written_budget() -> impl Strategy<Value = String> {
    let limits = (
        0..1_000_000_000_000_000_000_i64,
        0..1_000_000_000_000_000_i64,
    )
        .prop_map(|(nano, tokens)| {
            let usd = value::fixed_point_text(nano, 9, 0);
            format!(
                "usd = \"{}\"\ntokens = {tokens}\n",
                usd.trim_end_matches('.')
            )
        });
    let windows = (
        proptest::sample::select(vec!["hour", "day", "week", "month"]),
        proptest::sample::select(vec!["UTC", "Etc/UTC", "us/eastern", "Asia/Kolkata", "EST"]),
        1..=MAX_ROLLING_SECONDS,
        any::<bool>(),
    )
        .prop_map(|(unit, zone, seconds, is_rolling)| {
            if is_rolling {
                format!("window = \"{seconds}s\"\n")
            } else {
                format!("window = \"{unit}\"\ntimezone = \"{zone}\"\n")
            }
        });
    let parts = (1..1000_u32, 1..=1000_u32, 1..=30_000_u32).prop_map(|(slow, warn, delay)| {
        let (slow, warn) = (part_text(slow), part_text(warn));
        format!("slow_at = {slow}\nwarn_at = {warn}\nmax_delay = \"{delay}ms\"\n")
    });
    let per = line("per", &["[]", "[\"tag.x y\", \"run\"]", "[\"key\"]"]);
    let [breaks, warns] = ["action = \"break\"\n", "action = \"warn\"\n"];
    let [refuse, fallback, count] =
        ["refuse", "fallback_price", "count_only"].map(|it| format!("on_unpriced = {it:?}\n"));
    let action = proptest::sample::select(vec![
        format!("{breaks}{refuse}"),
        format!("{breaks}{fallback}"),
        format!("{warns}{fallback}"),
        format!("{warns}{count}"),
        breaks.to_owned(),
    ]);
    let names = (quoted_text(), quoted_text(), quoted_text()).prop_map(|(name, glob, tag)| {
        format!("name = {name}\nmatch = {{ agent = {glob}, tag = {{ x = [{tag}, {glob}] }} }}\n")
    });
    (names, per, limits, windows, parts, action).prop_map(
        |(names, per, limits, windows, parts, action)| {
            format!("[[budget]]\n{names}{per}{limits}{windows}{parts}{action}")
        },
    )
}

proptest! {
    #[test]
    fn a_written_budget_is_read_back(text in written_budget()) {
        let config = parse(&text).unwrap();
        let written = config.to_string();
        prop_assert_eq!(parse(&written).unwrap(), config, "{}", written);
    }

    #[test]
    fn a_written_amount_is_read_back(nano in 0..1_000_000_000_000_000_000_i64) {
        let text = value::fixed_point_text(nano, 9, 2);
        let limits = budget(&format!("usd = {text}")).limits;
        prop_assert_eq!(limits.nano_usd, Some(nano), "{}", text);
    }
}
