//! Where two runs part.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::core::diff::Diff;
use crate::core::id::CallId;

/// The first calls of two runs that are not the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct FirstDifference {
    /// The number of the calls in their runs, from 0.
    pub number: u64,
    pub a: Option<CallId>,
    pub b: Option<CallId>,
    #[serde(flatten)]
    pub departure: Departure,
}

/// How one call differs from another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Departure {
    pub what: What,
    /// The first message that differs, from 0, where it is one.
    pub message: Option<u64>,
    /// What `a` says, and what `b` says instead. Without pieces where it is not recorded, or no text.
    pub said: Diff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Agent,
    Model,
    /// Another message, one more, or one less.
    Message,
    /// The tools that are offered.
    Tools,
    /// Any other field of the request.
    Settings,
    /// What was sent is not recorded of both as a whole: it may be the same.
    Request,
    /// So many calls were read that no more are: it may be the same.
    Unread,
    /// One run has no more calls.
    Length,
}

impl Departure {
    /// Of two texts, or two names.
    pub fn of(what: What, a: &str, b: &str) -> Self {
        Self {
            what,
            message: None,
            said: Diff::of(a, b),
        }
    }

    /// Of this message.
    #[must_use]
    pub fn at(self, message: u64) -> Self {
        Self {
            message: Some(message),
            ..self
        }
    }
}

impl FirstDifference {
    /// `call 3: message 2 differs`
    pub fn sentence(&self) -> String {
        let number = self.number + 1;
        let message = self.departure.message.unwrap_or(0) + 1;
        match self.departure.what {
            What::Agent => format!("call {number} is of another agent"),
            What::Model => format!("call {number} asks for another model"),
            What::Message => format!("message {message} of call {number} differs"),
            What::Tools => format!("call {number} offers other tools"),
            What::Settings => format!("call {number} has other settings"),
            What::Request => {
                format!(
                    "what call {number} sends is not recorded of both as a whole, so no more can be said"
                )
            }
            What::Unread => {
                format!("from call {number} on no more were read, so no more can be said")
            }
            What::Length => format!("call {number} is there in one of them only"),
        }
    }
}
