//! What tells the arms of a comparison apart.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What tells runs apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum By {
    #[default]
    Variant,
    /// The value of a tag of this name.
    Tag(String),
    User,
    /// What each agent did of a run: a run has a part in the arm of every agent of it.
    Agent,
    /// Asked for by the calls of a run.
    Model,
    Upstream,
    /// Single runs, by their names.
    Run,
    /// When runs began.
    Time,
}

/// A text that is no [`By`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{0}`, expected variant, tag.<name>, user, agent, model, upstream, run or time")]
pub struct ByError(String);

impl FromStr for By {
    type Err = ByError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "variant" => Self::Variant,
            "user" => Self::User,
            "agent" => Self::Agent,
            "model" => Self::Model,
            "upstream" => Self::Upstream,
            "run" => Self::Run,
            "time" => Self::Time,
            _ => match text.strip_prefix("tag.").filter(|name| !name.is_empty()) {
                Some(name) => Self::Tag(name.to_ascii_lowercase()),
                None => return Err(ByError(text.to_owned())),
            },
        })
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Variant => "variant",
            Self::Tag(name) => return write!(f, "tag.{name}"),
            Self::User => "user",
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Upstream => "upstream",
            Self::Run => "run",
            Self::Time => "time",
        })
    }
}

impl Serialize for By {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for By {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
