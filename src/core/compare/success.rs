//! When a run counts as a success.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::RunFigures;

/// The rule that tells which runs succeeded.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Success {
    /// The last call completed, and neither a breaker nor an operator stopped the run.
    #[default]
    Outcome,
    /// The mean of a custom metric in the run stands so to a bound.
    Metric {
        name: String,
        sign: Sign,
        bound: f64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
}

impl Sign {
    /// Longer ones first: `>` begins `>=`.
    const ALL: [(Self, &'static str); 5] = [
        (Self::AtLeast, ">="),
        (Self::AtMost, "<="),
        (Self::Above, ">"),
        (Self::Below, "<"),
        (Self::Equal, "="),
    ];

    fn text(self) -> &'static str {
        let found = Self::ALL.iter().find(|(sign, _)| *sign == self);
        found.map_or("=", |(_, text)| text)
    }

    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::AtLeast => value >= bound,
            Self::AtMost => value <= bound,
            Self::Above => value > bound,
            Self::Below => value < bound,
            Self::Equal => value.total_cmp(&bound).is_eq(),
        }
    }
}

/// How the mean of a custom metric is to stand to a bound: `score<0.5`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricBound {
    pub name: String,
    sign: Sign,
    bound: f64,
}

impl MetricBound {
    pub fn holds(&self, mean: f64) -> bool {
        self.sign.holds(mean, self.bound)
    }
}

/// A text that is no [`MetricBound`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{0}`, expected a custom metric and a bound, such as score<0.5")]
pub struct MetricBoundError(String);

impl FromStr for MetricBound {
    type Err = MetricBoundError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match format!("metric:{text}").parse() {
            Ok(Success::Metric { name, sign, bound }) => Ok(Self { name, sign, bound }),
            _ => Err(MetricBoundError(text.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for MetricBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.name, self.sign.text(), self.bound)
    }
}

impl Serialize for MetricBound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MetricBound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no [`Success`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{0}`, expected outcome, or a metric and a bound, such as metric:score>=0.5")]
pub struct SuccessError(String);

impl Success {
    /// Whether a run succeeded; none where it has no such number. One that a breaker stopped did not,
    /// whatever was measured of it before.
    pub fn of(&self, run: &RunFigures) -> Option<bool> {
        match self {
            _ if run.is_stopped => Some(false),
            Self::Outcome => Some(run.ended_well),
            Self::Metric { name, sign, bound } => {
                let value = run.metrics.get(name)?;
                Some(sign.holds(*value, *bound))
            }
        }
    }

    /// The number it needs.
    pub fn metric(&self) -> Option<&str> {
        match self {
            Self::Outcome => None,
            Self::Metric { name, .. } => Some(name),
        }
    }
}

impl FromStr for Success {
    type Err = SuccessError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || SuccessError(text.to_owned());
        if text == "outcome" {
            return Ok(Self::Outcome);
        }
        let rest = text.strip_prefix("metric:").ok_or_else(wrong)?;
        let split = |(sign, mark): &(Sign, &str)| {
            let (name, bound) = rest.split_once(mark)?;
            Some((*sign, name.trim(), bound.trim()))
        };
        let (sign, name, bound) = Sign::ALL.iter().find_map(split).ok_or_else(wrong)?;
        let bound: f64 = bound.parse().map_err(|_| wrong())?;
        if name.is_empty() || !bound.is_finite() {
            return Err(wrong());
        }
        Ok(Self::Metric {
            // Their names are those of headers, which have no case.
            name: name.to_ascii_lowercase(),
            sign,
            bound,
        })
    }
}

impl fmt::Display for Success {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome => f.write_str("outcome"),
            Self::Metric { name, sign, bound } => {
                write!(f, "metric:{name}{}{bound}", sign.text())
            }
        }
    }
}

impl Serialize for Success {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Success {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_of_a_metric_reads_as_it_is_written() {
        for (text, low, high) in [
            ("score<0.5", true, false),
            ("score<=0.4", true, false),
            ("score>=0.5", false, true),
            ("score=1", false, true),
        ] {
            let bound: MetricBound = text.parse().unwrap();
            assert_eq!(bound.to_string(), text);
            assert_eq!((bound.holds(0.4), bound.holds(1.0)), (low, high), "{text}");
        }
        for text in ["", "score", "<1", "score<x", "score<NaN"] {
            let said = text.parse::<MetricBound>().unwrap_err().to_string();
            assert!(said.contains("such as score<0.5"), "{said}");
        }
    }

    #[test]
    fn rules_are_read_and_written_alike_and_wrong_ones_named() {
        for text in [
            "outcome",
            "metric:score>=0.5",
            "metric:errors=0",
            "metric:x<-2",
        ] {
            assert_eq!(text.parse::<Success>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "score>=1",
            "metric:",
            "metric:>=1",
            "metric:a>=b",
            "metric:a>=NaN",
        ] {
            let error = text.parse::<Success>().unwrap_err().to_string();
            assert!(error.contains("expected outcome"), "{error}");
        }
    }
}
