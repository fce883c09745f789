//! The shapes of a step.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use utoipa::ToSchema;

use crate::admin::view::CallView;
use crate::core::id::{CallId, Label};
use crate::wire::readable::{Message, Tools};

/// One call as a step: what it was sent that was not sent before, and what it answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    #[serde(flatten)]
    pub call: CallView,
    pub around: Around,
    pub sent: Sent,
    pub answered: Answered,
}

/// The calls around a call; null where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Around {
    /// The call before in its conversation: the one that `sent` is compared with.
    pub before: Option<CallId>,
    pub after: Option<CallId>,
    pub before_in_run: Option<CallId>,
    pub after_in_run: Option<CallId>,
}

/// What a call was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sent {
    pub history: History,
    /// Messages in the request, instructions among them.
    pub count: u64,
    /// Those that were sent before, too.
    pub unchanged: Unchanged,
    /// Where a history was cut or rewritten: the first message that differs, from 0.
    pub changed_at: Option<u64>,
    /// The messages of the call before that are not sent any more: the first of them.
    pub dropped: Vec<Message>,
    pub dropped_count: u64,
    /// Those that were not sent before; with `full` all of them.
    pub messages: Vec<SentMessage>,
    /// Messages that would be here and are not: too many. They come before the others.
    pub left_out: u64,
    pub tools: Tools,
    /// Others are offered than in the call before.
    pub tools_changed: bool,
    /// Why nothing, or not all, can be shown.
    pub missing: Option<Missing>,
}

/// How what is sent stands to what was sent before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// Nothing is known that it goes on from.
    #[default]
    First,
    /// All that was sent before, and more.
    Grown,
    /// The same again: a retry, or another sample.
    Repeated,
    /// The upstream keeps what was said before; only what is new is sent.
    Continued,
    /// Some of what was sent before is left out, nothing is put in its place.
    Cut,
    /// Something else stands where it stood before.
    Rewritten,
    /// The call before is known, and what it was sent is not.
    Unknown,
}

/// What was sent before, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unchanged {
    pub messages: u64,
    pub bytes: u64,
    /// Their share of the input tokens by bytes: an estimate. Null where these are not known.
    pub tokens: Option<u64>,
}

/// One message of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SentMessage {
    /// Its place among the messages of the request, from 0; instructions come first.
    pub index: u64,
    pub is_new: bool,
    /// It is what the call before answered, sent back.
    pub is_echo: bool,
    #[serde(flatten)]
    pub message: Message,
}

/// What a call was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Answered {
    /// One for each choice.
    pub messages: Vec<Message>,
    pub finish_reasons: Vec<Label>,
    /// Why nothing, or not all, can be shown.
    pub missing: Option<Missing>,
}

/// Why a body cannot be shown, or not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Missing {
    pub reason: Reason,
    /// One sentence that says what to change to have it another time.
    pub detail: String,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Reason {
    /// `[ledger] record` keeps no bodies.
    Config,
    /// The client asked for that: `x-aiops-record`.
    Client,
    /// There was none.
    Empty,
    /// It went through without being read: an upload, a tunnel, or more than `max_read`.
    Unread,
    /// The call has not ended.
    Open,
    /// There was no answer.
    Unanswered,
    /// Only the front was kept.
    Truncated,
    /// There was no room for it.
    NoRoom,
    /// Redaction or decoding changed it.
    Changed,
    /// The records of it are not kept any more.
    Gone,
    /// Another instance served the call, and has it.
    Elsewhere,
    /// Its encoding is not known, or it is not what that says.
    Encoded,
    /// Not recorded, and it is not known why.
    Unknown,
}

impl Missing {
    /// Whether nothing at all can be shown.
    pub fn is_all(&self) -> bool {
        !matches!(self.reason, Reason::Truncated | Reason::Changed)
    }
}
