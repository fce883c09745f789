//! Why a body cannot be shown, and what to change to have it another time.

use super::shape::{Missing, Reason};
use crate::core::call::{Operation, Outcome};
use crate::ledger::{Body, CallDetail};

fn because(reason: Reason, detail: impl Into<String>) -> Missing {
    Missing {
        reason,
        detail: detail.into(),
    }
}

/// Of a request without a recorded body.
pub(super) fn request(detail: &CallDetail) -> Missing {
    if detail.admission.is_none() {
        return because(
            Reason::Gone,
            "The record of this request is not kept any more: see keep_for and keep_size of [ledger].",
        );
    }
    let row = &detail.row;
    let is_upload = matches!(
        row.operation,
        Operation::Transcription | Operation::Translation | Operation::WebSocket | Operation::Other
    );
    if detail.settlement.is_some() && row.request_bytes == 0 {
        return because(Reason::Empty, "The request has no body.");
    }
    if is_upload {
        return because(
            Reason::Unread,
            "It went through without being read, as uploads, tunnels and paths that are not known do.",
        );
    }
    because(
        Reason::Unknown,
        "It is not recorded: [ledger] record = \"full\" keeps bodies, unless a client asks for less by \
         x-aiops-record.",
    )
}

/// Of a response without a recorded body.
pub(super) fn response(detail: &CallDetail) -> Missing {
    let row = &detail.row;
    let Some(settlement) = &detail.settlement else {
        return match row.outcome {
            None => because(Reason::Open, "The call has not ended yet."),
            Some(_) => because(
                Reason::Gone,
                "The record of this answer is not kept any more: see keep_for and keep_size of [ledger].",
            ),
        };
    };
    if settlement.response_bytes == 0 {
        let there_was_none = matches!(
            settlement.outcome,
            Outcome::UpstreamUnavailable
                | Outcome::ClientGone
                | Outcome::Recovered
                | Outcome::Cut
                | Outcome::Rejected
        );
        return if there_was_none {
            because(Reason::Unanswered, "There was no answer.")
        } else {
            because(Reason::Empty, "The answer has no body.")
        };
    }
    because(
        Reason::Unknown,
        "It is not recorded: [ledger] record = \"full\" keeps bodies, unless a client asks for less by \
         x-aiops-record.",
    )
}

/// What is to be said of a body that is there.
pub(super) fn of_body(body: &Body, is_changed: bool) -> Option<Missing> {
    if body.exact {
        return None;
    }
    Some(if body.bytes.is_empty() {
        because(
            Reason::NoRoom,
            "There was no room for it among the records that wait for the disk: see max_queue of [ledger].",
        )
    } else if body.truncated {
        because(
            Reason::Truncated,
            format!(
                "Only the first {} of {} bytes were kept: see max_body of [ledger].",
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
