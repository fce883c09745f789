//! From where on a suggestion matters: how `[suggestions]` is read and written.

use std::fmt::{self, Write};

use super::read::Section;
use super::value::{self, Kind, fixed_point, fixed_point_text};
use crate::core::money::NanoUsd;
use crate::core::suggest::{Rule, Settings};

const USD: Kind<i64> = Kind::new("USD with up to nine decimals", "0.01", |value| {
    fixed_point(value, 9, 9)
});

const RULE: Kind<Rule> = Kind::new(
    "\"cache_broken\", \"repeated_request\", \"unused_tools\", \"carried_results\", \"cut_output\", \
     \"timeout_retries\", \"smaller_model\", \"parallel\" or \"waiting\"",
    "\"parallel\"",
    |value| value.as_str()?.parse().ok(),
);

pub(super) fn read(root: &mut Section<'_, '_>) -> Settings {
    let mut settings = Settings::default();
    root.table("suggestions", |section| {
        let mut usd = settings.min_usd_per_day.get();
        section.set("min_usd_per_day", &USD, &mut usd);
        settings.min_usd_per_day = NanoUsd::new(usd);
        section.set("min_calls", &value::COUNT, &mut settings.min_calls);
        settings.ignore = section.list("ignore", &RULE);
    });
    settings
}

pub(super) fn write(f: &mut impl Write, settings: &Settings) -> fmt::Result {
    writeln!(f, "\n[suggestions]")?;
    let usd = fixed_point_text(settings.min_usd_per_day.get(), 9, 2);
    writeln!(f, "min_usd_per_day = {usd}")?;
    writeln!(f, "min_calls = {}", settings.min_calls)?;
    let ignore = settings.ignore.iter().map(|it| format!("{:?}", it.name()));
    let ignore: Vec<String> = ignore.collect();
    writeln!(f, "ignore = [{}]", ignore.join(", "))
}
