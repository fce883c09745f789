//! What of a run a reader asks for, by the query string.

use std::str::FromStr;

use super::super::here::Here;
use crate::admin::problem::Problem;
use crate::core::id::{CallId, Label};

/// How the calls of a run are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tab {
    /// Where time and money went.
    #[default]
    Timeline,
    /// What was said.
    Steps,
}

impl Tab {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Timeline => "timeline",
            Self::Steps => "steps",
        }
    }
}

impl FromStr for Tab {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "timeline" => Ok(Self::Timeline),
            "steps" => Ok(Self::Steps),
            other => Err(format!("found `{other}`, expected timeline or steps")),
        }
    }
}

/// A switch of the query string.
pub(super) struct Switch(pub(super) bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(Self(true)),
            "false" => Ok(Self(false)),
            other => Err(format!("found `{other}`, expected true or false")),
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) run: Label,
    pub(super) tab: Tab,
    /// Only its calls.
    pub(super) agent: Option<Label>,
    /// The page that shows this call.
    pub(super) from: Option<CallId>,
    /// The same, and the call is opened.
    pub(super) call: Option<CallId>,
    /// Similar calls are one line.
    pub(super) folds: bool,
    /// Idle stretches are as long as they were.
    pub(super) true_scale: bool,
    /// All calls are wanted.
    pub(super) is_export: bool,
}

impl Asked {
    pub(super) fn read(here: &Here) -> Result<Self, Problem> {
        let is_on = |name, otherwise| {
            let said: Option<Switch> = here.read(name)?;
            Ok::<bool, Problem>(said.map_or(otherwise, |said| said.0))
        };
        Ok(Self {
            run: here.named("run")?,
            tab: here.read("view")?.unwrap_or_default(),
            agent: here.read("agent")?,
            from: here.read("from")?,
            call: here.read("call")?,
            folds: is_on("fold", true)?,
            true_scale: is_on("scale", false)?,
            is_export: here.export.is_some(),
        })
    }
}
