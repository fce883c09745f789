//! The span of time a page shows: `?range=24h`, or `?since=..&until=..`. Relative ranges stay so.

use maud::{Markup, html};

use super::here::Here;
use crate::admin::params::When;
use crate::admin::problem::Problem;
use crate::core::time::Timestamp;

/// A span of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// None: since ever.
    pub(super) since: Option<Timestamp>,
    /// The first moment after it; now, where nothing else was chosen.
    pub(super) until: Timestamp,
    /// It ends now, whenever that is.
    pub(super) is_open: bool,
    /// As in `the last 24 h`.
    pub(super) words: String,
}

/// What the picker offers: the parameter, its meaning, in words.
const CHOICES: [(&str, Option<&str>, &str); 6] = [
    ("15m", Some("15m"), "the last 15 min"),
    ("1h", Some("1h"), "the last hour"),
    ("24h", Some("24h"), "the last 24 h"),
    ("7d", Some("7d"), "the last 7 days"),
    ("30d", Some("30d"), "the last 30 days"),
    ("all", None, "all time"),
];

/// As the commands do: suggestions look at a week.
fn default(here: &Here) -> &'static str {
    if here.path() == "/suggestions" {
        "7d"
    } else {
        "24h"
    }
}

impl Range {
    /// The parameters that make a range.
    pub(super) const NAMES: [&'static str; 3] = ["range", "since", "until"];

    pub(super) fn all(now: Timestamp) -> Self {
        Self {
            since: None,
            until: now,
            is_open: true,
            words: "all time".to_owned(),
        }
    }

    pub(super) fn read(here: &Here) -> Result<Self, Problem> {
        let since: Option<When> = here.read("since")?;
        let until: Option<When> = here.read("until")?;
        if since.is_none() && until.is_none() {
            return Self::chosen(here.get("range").unwrap_or_else(|| default(here)), here.now);
        }
        let first = since.as_ref().map(|when| when.before(here.now));
        let end = until
            .as_ref()
            .map_or(here.now, |when| when.before(here.now));
        if first.is_some_and(|first| first >= end) {
            return Err(Problem::bad_request(format!(
                "since: {} is not before until: {end}",
                first.unwrap_or(end)
            )));
        }
        let words = match (&since, &until) {
            (Some(since), Some(until)) => {
                format!("the time from {} to {}", since.spoken(), until.spoken())
            }
            (Some(since), None) => format!("the time since {}", since.spoken()),
            (None, Some(until)) => format!("the time until {}", until.spoken()),
            (None, None) => String::new(),
        };
        Ok(Self {
            since: first,
            until: end,
            is_open: until.is_none(),
            words,
        })
    }

    fn chosen(name: &str, now: Timestamp) -> Result<Self, Problem> {
        if let Some((_, ago, words)) = CHOICES.iter().find(|choice| choice.0 == name) {
            let when = ago.and_then(|ago| ago.parse::<When>().ok());
            return Ok(Self {
                since: when.map(|when| when.before(now)),
                words: (*words).to_owned(),
                ..Self::all(now)
            });
        }
        let when: When = name.parse().map_err(|_| {
            Problem::bad_request(format!(
                "range: found `{name}`, expected 15m, 1h, 24h, 7d, 30d, all or how long, such as 90m"
            ))
        })?;
        Ok(Self {
            since: Some(when.before(now)),
            words: format!("the last {name}"),
            ..Self::all(now)
        })
    }
}

/// Chooses a range by links, or by two fields.
pub(super) fn picker(here: &Here) -> Markup {
    let custom = here.is_on("since") || here.is_on("until");
    let chosen = here.get("range").unwrap_or_else(|| default(here));
    html! {
        nav.range aria-label="Range of time" {
            @for (name, _, words) in CHOICES {
                @let current = !custom && chosen == name;
                a href=(here.with(&[("range", Some(name)), ("since", None), ("until", None), ("before", None)]))
                    title=(words) aria-current=[current.then_some("true")] { (name) }
            }
            details.custom open[custom] {
                summary { "custom" }
                form method="get" action=(here.path()) {
                    @for (key, value) in here.kept(&["range", "since", "until", "before"]) {
                        input type="hidden" name=(key) value=(value);
                    }
                    label { "from" input name="since" size="20" placeholder="2h or 2026-11-01" value=[here.get("since")]; }
                    label { "to" input name="until" size="20" placeholder="now" value=[here.get("until")]; }
                    button { "Show" }
                }
            }
        }
    }
}
