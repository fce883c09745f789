//! Why a body cannot be shown, and what to change to have it another time.

use super::shape::{Missing, Reason};
use crate::core::call::{Operation, Outcome};
use crate::core::id::Label;
use crate::core::recorded::{Kept, Level};
use crate::ledger::{Body, CallDetail};

fn because(reason: Reason, detail: impl Into<String>) -> Missing {
    Missing {
        reason,
        detail: detail.into(),
    }
}

/// Of a request without a recorded body.
pub(super) fn request(detail: &CallDetail) -> Missing {
    let Some(admission) = &detail.admission else {
        return gone("request");
    };
    let row = &detail.row;
    if let Some(instance) = &row.instance {
        return elsewhere(instance);
    }
    if detail.settlement.is_some() && row.request_bytes == 0 {
        return because(Reason::Empty, "The request has no body.");
    }
    not_kept(admission.kept).unwrap_or_else(|| match row.operation {
        Operation::Transcription
        | Operation::Translation
        | Operation::WebSocket
        | Operation::Image
        | Operation::Batch
        | Operation::Other => because(
            Reason::Unread,
            "It went through unread, as uploads, tunnels and paths that are not known do.",
        ),
        _ => because(
            Reason::Unread,
            "It is not recorded: it went through unread, being no JSON or longer than max_read of [proxy], \
             was encoded so that redaction could not look into it, or was not there at all.",
        ),
    })
}

/// Of a response without a recorded body.
pub(super) fn response(detail: &CallDetail) -> Missing {
    let Some(settlement) = &detail.settlement else {
        return match detail.row.outcome {
            None => because(Reason::Open, "The call has not ended yet."),
            Some(_) => gone("answer"),
        };
    };
    if let Some(instance) = &detail.row.instance {
        return elsewhere(instance);
    }
    if settlement.response_bytes == 0 {
        return match settlement.outcome {
            Outcome::Completed | Outcome::UpstreamError => {
                because(Reason::Empty, "The answer has no body.")
            }
            _ => because(Reason::Unanswered, "There was no answer."),
        };
    }
    let kept = detail.admission.as_ref().and_then(|it| it.kept);
    not_kept(kept).unwrap_or_else(|| {
        because(
            Reason::Unread,
            "It is not recorded: it went through a tunnel, there was no memory for it, or redaction could \
             not look into its encoding.",
        )
    })
}

fn elsewhere(instance: &Label) -> Missing {
    because(
        Reason::Elsewhere,
        format!("The instance {instance} served this call, and keeps what was said."),
    )
}

fn gone(what: &str) -> Missing {
    because(
        Reason::Gone,
        format!(
            "The record of this {what} is not kept any more: see keep_for and keep_size of [ledger]."
        ),
    )
}

/// Why no body was to be kept; none where it was.
fn not_kept(kept: Option<Kept>) -> Option<Missing> {
    match kept {
        None => Some(because(
            Reason::Unknown,
            "It is not recorded: [ledger] record = \"full\" keeps bodies, unless a client asks for less by \
             x-aiops-record.",
        )),
        Some(Kept {
            level: Level::Full, ..
        }) => None,
        Some(Kept { level, by_client }) => {
            let level: &str = level.into();
            Some(if by_client {
                because(
                    Reason::Client,
                    format!("Its client asked for that: it sent x-aiops-record: {level}."),
                )
            } else {
                because(
                    Reason::Config,
                    format!("[ledger] record = \"{level}\" keeps no bodies; \"full\" does."),
                )
            })
        }
    }
}

/// What is to be said of a body that is there.
pub(super) fn of_body(body: &Body, is_changed: bool) -> Option<Missing> {
    if body.exact {
        return None;
    }
    Some(if body.bytes.is_empty() {
        because(
            Reason::NoRoom,
            "Nothing of it was kept: there was no room among the records that wait for the disk (max_queue of \
             [ledger]), or it broke off at once, and then redaction takes the end.",
        )
    } else if body.truncated {
        because(
            Reason::Truncated,
            format!(
                "Only the first {} of {} bytes were kept: it was longer than max_body of [ledger], or broke off, \
                 and then redaction takes the end.",
                body.bytes.len(),
                body.wire_len
            ),
        )
    } else if is_changed {
        because(
            Reason::Changed,
            "Redaction changed it before it was stored: see redact of [ledger].",
        )
    } else {
        because(
            Reason::Gone,
            "Parts of it are not kept any more: see keep_for and keep_size of [ledger].",
        )
    })
}

pub(super) fn encoded(encoding: &str, error: &str) -> Missing {
    because(
        Reason::Encoded,
        format!("It is encoded as {encoding}, and cannot be read: {error}."),
    )
}
