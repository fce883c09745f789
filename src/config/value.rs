//! Kinds of values: how each is read from TOML, how it is called in a problem, how it is written.
//! Sizes and durations are written in the largest unit that is exact.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use regex::bytes::Regex;
use toml::de::DeValue;
use wildmatch::WildMatch;

use super::{Durability, OnFailure, RecordLevel};
use crate::core::id::Label;
use crate::core::price::PerMillion;
use crate::core::recorded::is_secret_name;

/// A kind of value.
pub(super) struct Kind<T> {
    /// What a problem says was expected.
    pub expected: &'static str,
    /// A value in TOML that would do.
    pub example: &'static str,
    /// Whether a wrong value might be a secret that was put into the wrong place.
    pub hidden: bool,
    pub parse: fn(&DeValue<'_>) -> Option<T>,
}

impl<T> Kind<T> {
    pub(super) const fn new(
        expected: &'static str,
        example: &'static str,
        parse: fn(&DeValue<'_>) -> Option<T>,
    ) -> Self {
        Self {
            expected,
            example,
            hidden: false,
            parse,
        }
    }

    /// The same with another example.
    pub(super) fn like(&self, example: &'static str) -> Self {
        Self { example, ..*self }
    }
}

pub(super) const BOOL: Kind<bool> = Kind::new("true or false", "true", |value| match value {
    DeValue::Boolean(boolean) => Some(*boolean),
    _ => None,
});

pub(super) const COUNT: Kind<usize> =
    Kind::new("a whole number from 1 to 1000000", "1000", |value| {
        let count = usize::try_from(integer(value)?).ok()?;
        (1..=1_000_000).contains(&count).then_some(count)
    });

pub(super) const SIZE: Kind<u64> = Kind::new(
    "a size of at least one byte, like \"64 MiB\", \"1GB\" or 4096",
    "\"64 MiB\"",
    size,
);

pub(super) const MEMORY_SIZE: Kind<usize> = Kind::new(SIZE.expected, SIZE.example, |value| {
    size(value).and_then(|bytes| usize::try_from(bytes).ok())
});

pub(super) const SIZE_LIMIT: Kind<Option<u64>> = Kind::new(
    "a size like \"20 GiB\", or \"unlimited\"",
    "\"20 GiB\"",
    |value| {
        if is_unlimited(value) {
            Some(None)
        } else {
            size(value).map(Some)
        }
    },
);

pub(super) const DURATION: Kind<Duration> = Kind::new(
    "a duration above zero, like \"250ms\", \"90s\", \"15m\"",
    "\"90s\"",
    timeout,
);

pub(super) const DURATION_OR_ZERO: Kind<Duration> = Kind::new(
    "a duration like \"0s\", \"90s\", \"15m\"",
    "\"30s\"",
    duration,
);

pub(super) const AGE_LIMIT: Kind<Option<Duration>> = Kind::new(
    "a duration like \"24h\" or \"30d\", or \"unlimited\"",
    "\"30d\"",
    |value| {
        if is_unlimited(value) {
            Some(None)
        } else {
            timeout(value).map(Some)
        }
    },
);

pub(super) const ADDRESS: Kind<SocketAddr> =
    Kind::new("an IP address and a port", "\"127.0.0.1:8787\"", |value| {
        value.as_str()?.parse().ok()
    });

pub(super) const PATH: Kind<PathBuf> =
    Kind::new("a path", "\"/etc/ssl/open-aiops.pem\"", |value| {
        value
            .as_str()
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    });

pub(super) const TEXT: Kind<String> = Kind::new("a text", "\"[redacted]\"", |value| {
    value.as_str().map(str::to_owned)
});

pub(super) const PATTERN: Kind<Option<Regex>> = Kind::new(
    "a regular expression",
    r"'sk-[A-Za-z0-9_-]{20,}'",
    |value| {
        let pattern = value.as_str().filter(|pattern| !pattern.is_empty())?;
        Regex::new(pattern).ok().map(Some)
    },
);

pub(super) const GLOB: Kind<WildMatch> = Kind::new(
    "a model name, in which * and ? are wildcards",
    "\"claude-*\"",
    |value| {
        value
            .as_str()
            .filter(|glob| !glob.trim().is_empty())
            .map(WildMatch::new)
    },
);

pub(super) const HEADER_GLOB: Kind<WildMatch> = Kind::new(
    "a header name, in which * and ? are wildcards; one that carries secrets (authorization, cookie, or with \
     key, token, secret, password, ... in it) cannot be shown",
    "\"x-my-*\"",
    |value| {
        let glob = value.as_str()?.to_ascii_lowercase();
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.*?".contains(c);
        let is_glob = !glob.is_empty() && glob.chars().all(is_name) && !is_secret_name(&glob);
        is_glob.then(|| WildMatch::new(&glob))
    },
);

pub(super) const HOST: Kind<String> = Kind::new(
    "a host name without scheme and port",
    "\"aiops.internal\"",
    |value| {
        let host = value.as_str().filter(|host| !host.is_empty())?;
        let is_host = host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
        is_host.then(|| host.to_ascii_lowercase())
    },
);

pub(super) const NAME: Kind<Label> = Kind::new(
    "a name made of letters, digits, '-', '_' and '.'",
    "\"openai\"",
    |value| {
        let name = value.as_str()?;
        let is_plain = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        Label::parse(name).ok().filter(|_| is_plain)
    },
);

pub(super) const BASE_URL: Kind<Uri> = Kind::new(
    "an http or https URL without user, query and fragment",
    "\"https://api.openai.com/v1\"",
    |value| base_url(value.as_str()?),
);

/// The value is not shown: people put the key itself here.
pub(super) const VARIABLE: Kind<String> = Kind {
    hidden: true,
    ..Kind::new(
        "the name of an environment variable",
        "\"OPENAI_API_KEY\"",
        |value| {
            let name = value.as_str()?;
            let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
            let is_name = name.starts_with(is_start)
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            is_name.then(|| name.to_owned())
        },
    )
};

pub(super) const DECIMAL: Kind<String> = Kind::new(
    "US dollars as a decimal that is not negative, with up to 6 digits before and after the point",
    "2.50",
    decimal,
);

pub(super) const PER_MILLION: Kind<PerMillion> =
    Kind::new(DECIMAL.expected, DECIMAL.example, |value| {
        PerMillion::parse(&decimal(value)?).ok()
    });

pub(super) const DURABILITY: Kind<Durability> = Kind::new(
    "\"strict\" or \"relaxed\"",
    "\"strict\"",
    |value| match value.as_str()? {
        "strict" => Some(Durability::Strict),
        "relaxed" => Some(Durability::Relaxed),
        _ => None,
    },
);

pub(super) const RECORD: Kind<RecordLevel> =
    Kind::new("\"full\", \"meta\" or \"none\"", "\"full\"", |value| {
        RecordLevel::from_name(value.as_str()?)
    });

pub(super) const ON_FAILURE: Kind<OnFailure> = Kind::new(
    "\"serve\" or \"refuse\"",
    "\"serve\"",
    |value| match value.as_str()? {
        "serve" => Some(OnFailure::Serve),
        "refuse" => Some(OnFailure::Refuse),
        _ => None,
    },
);

const UNLIMITED: &str = "unlimited";

/// Largest first, so that a value is written in the largest unit that fits it.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1000),
    ("B", 1),
];

/// Milliseconds, largest first.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// A century: anything longer is a slip, and overflows clocks.
const MAX_DURATION: Duration = Duration::from_secs(36_500 * 86_400);

pub(super) fn integer(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn size(value: &DeValue<'_>) -> Option<u64> {
    let bytes = match value.as_str() {
        Some(text) => {
            let (count, unit) = count_and_unit(text)?;
            let (_, factor) = SIZE_UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
            count.checked_mul(*factor)?
        }
        None => integer(value)?,
    };
    (bytes > 0).then_some(bytes)
}

fn duration(value: &DeValue<'_>) -> Option<Duration> {
    let (count, unit) = count_and_unit(value.as_str()?)?;
    let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
    let duration = Duration::from_millis(count.checked_mul(*factor)?);
    (duration <= MAX_DURATION).then_some(duration)
}

fn timeout(value: &DeValue<'_>) -> Option<Duration> {
    duration(value).filter(|duration| !duration.is_zero())
}

fn is_unlimited(value: &DeValue<'_>) -> bool {
    value.as_str() == Some(UNLIMITED)
}

/// `"64 MiB"` -> `(64, "MiB")`
pub(super) fn count_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at_checked(end)?;
    Some((count.parse().ok()?, unit.trim_start()))
}

fn base_url(text: &str) -> Option<Uri> {
    let url: Uri = text.trim_end_matches('/').parse().ok()?;
    let authority = url.authority()?;
    let is_http = matches!(url.scheme_str()?, "http" | "https");
    let is_plain = !authority.as_str().contains('@') && !text.contains(['?', '#']);
    (is_http && is_plain && !authority.host().is_empty()).then_some(url)
}

/// A decimal in units of its last of `places`, with up to `whole` digits before the point.
pub(super) fn fixed_point(value: &DeValue<'_>, whole: usize, places: usize) -> Option<i64> {
    let text = plain_number(value)?;
    let (before, after) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_plain = before == "0" || !before.starts_with('0');
    let after_digits = after.trim_end_matches('0');
    let fits = before.len() <= whole && after_digits.len() <= places;
    if !(is_digits(before) && is_digits(after) && is_plain && fits) {
        return None;
    }
    format!("{before}{after_digits:0<places$}").parse().ok()
}

/// What [`fixed_point`] reads, with at least so many decimals.
pub(super) fn fixed_point_text(value: i64, places: usize, least: usize) -> String {
    let digits = format!("{value:0>width$}", width = places + 1);
    let (before, after) = digits.split_at(digits.len() - places);
    let kept = after.trim_end_matches('0').len().max(least);
    format!("{before}.{}", after.get(..kept).unwrap_or(after))
}

/// The exact text of a number or of a string that is one.
fn decimal(value: &DeValue<'_>) -> Option<String> {
    let text = plain_number(value)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits =
        |part: &str| (1..=6).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let is_plain = whole == "0" || !whole.starts_with('0');
    (is_plain && is_digits(whole) && is_digits(fraction)).then(|| text.to_owned())
}

fn plain_number<'v>(value: &'v DeValue<'_>) -> Option<&'v str> {
    match value {
        DeValue::Integer(integer) if integer.radix() == 10 => Some(integer.as_str()),
        DeValue::Float(float) => Some(float.as_str()),
        DeValue::String(text) => Some(text),
        _ => None,
    }
}

impl RecordLevel {
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "full" => Some(Self::Full),
            "meta" => Some(Self::Meta),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Meta => "meta",
            Self::None => "none",
        }
    }
}

impl Durability {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Relaxed => "relaxed",
        }
    }
}

impl OnFailure {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Refuse => "refuse",
        }
    }
}

/// A size as [`SIZE`] reads it.
pub(super) fn size_text(bytes: u64) -> String {
    in_largest_unit(bytes, &SIZE_UNITS, " ")
}

/// A duration as [`DURATION`] reads it; durations of a config are whole milliseconds.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        "0s".to_owned()
    } else {
        in_largest_unit(millis, &DURATION_UNITS, "")
    }
}

/// A limit as [`SIZE_LIMIT`] and [`AGE_LIMIT`] read it.
pub(super) fn limit_text<T>(limit: Option<T>, text: fn(T) -> String) -> String {
    limit.map_or_else(|| UNLIMITED.to_owned(), text)
}

fn in_largest_unit(value: u64, units: &[(&str, u64)], space: &str) -> String {
    let fitting = units
        .iter()
        .find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    match fitting {
        Some((unit, factor)) => format!("{}{space}{unit}", value / factor),
        None => format!("{value}"),
    }
}

#[cfg(test)]
mod tests;
