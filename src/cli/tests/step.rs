//! Steps and headers as they are printed, whatever agents, models and tools say.

use super::*;
use crate::admin::step::{
    Answered, Around, History, Missing, Reason, Sent, SentMessage, StepView, Unchanged,
};
use crate::admin::view::HeadersView;
use crate::cli::step;
use crate::core::recorded::Header;
use crate::wire::readable::{Excerpt, Kind, Message, Piece, Role, Tools};

/// Text that tries to steer the terminal and to turn the line.
const HOSTILE: &str = "first\n\u{1b}[2J\u{202e}second\rthird";

fn piece(kind: Kind, text: &str) -> Piece {
    Piece {
        kind,
        said: Excerpt::of(text, 4096),
        ..Piece::default()
    }
}

fn message(role: Role, pieces: Vec<Piece>) -> Message {
    Message {
        role,
        name: None,
        pieces,
        left_out: 0,
        bytes: 2048,
        place: None,
        digest: None,
    }
}

fn new(index: u64, message: Message) -> SentMessage {
    SentMessage {
        index,
        is_new: true,
        is_echo: index == 41,
        message,
    }
}

fn called() -> Piece {
    Piece {
        id: Some("c1".to_owned()),
        name: Some("look".to_owned()),
        ..piece(Kind::ToolCall, "{\"at\":1}")
    }
}

fn sent() -> Sent {
    let result = Piece {
        id: Some("c1".to_owned()),
        name: Some("look".to_owned()),
        is_error: true,
        asked: Some(Excerpt::of("{\"at\":1}", 5)),
        ..piece(Kind::ToolResult, HOSTILE)
    };
    let image = Piece {
        media_type: Some("image/png".to_owned()),
        said: Excerpt {
            len: 1_258_291,
            is_cut: true,
            ..Excerpt::default()
        },
        ..Piece::default()
    };
    let image = Piece {
        kind: Kind::Media,
        ..image
    };
    let long = Piece {
        said: Excerpt::of("a long text", 6),
        ..Piece::default()
    };
    Sent {
        history: History::Cut,
        count: 44,
        unchanged: Unchanged {
            messages: 41,
            bytes: 39_117,
            tokens: Some(9_120),
        },
        changed_at: Some(1),
        dropped: vec![message(Role::User, vec![piece(Kind::Text, "gone")])],
        dropped_count: 3,
        messages: vec![
            new(
                41,
                message(
                    Role::Assistant,
                    vec![piece(Kind::Reasoning, "Hm."), called()],
                ),
            ),
            new(42, message(Role::Tool, vec![result])),
            new(43, message(Role::User, vec![long, image])),
        ],
        left_out: 0,
        tools: Tools {
            names: vec!["look".to_owned(), "patch".to_owned()],
            count: 3,
            digest: None,
        },
        tools_changed: true,
        missing: None,
    }
}

fn sample() -> StepView {
    StepView {
        call: finished(),
        around: Around {
            before: Some(id(6)),
            after: Some(id(8)),
            ..Around::default()
        },
        sent: sent(),
        answered: Answered {
            messages: vec![message(
                Role::Assistant,
                vec![piece(Kind::Text, HOSTILE), called()],
            )],
            finish_reasons: vec![label("tool_calls")],
            missing: Some(Missing {
                reason: Reason::Truncated,
                detail: "Only the first 10 of 20 bytes were kept: see max_body of [ledger]."
                    .to_owned(),
            }),
        },
    }
}

#[test]
fn a_step_is_printed_with_what_would_steer_the_terminal_made_visible() {
    check("step", |out| step::step(&sample(), out));
}

#[test]
fn headers_are_printed_with_hidden_ones_as_such() {
    let header = |name: &str, value: Option<&str>, len| Header {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        len,
        fingerprint: value.is_none().then(|| "a3f1".to_owned()),
    };
    let mut detail = detail();
    detail.request_headers = Some(HeadersView {
        headers: vec![
            header("authorization", None, 58),
            header("content-type", Some("application/json"), 16),
            header("x-title", Some("a long title"), 900),
        ],
        left_out: 2,
    });
    check("headers", |out| step::headers(&detail, out));
}
