//! Messages of requests: an element of `messages`, `contents` or `input`, or what stands alone.

use super::excerpt::Excerpt;
use super::part::Pieces;
use super::{Kind, Message, Piece, name};
use crate::wire::fields::Fields;
use crate::wire::message::Role;

/// Instructions, or a text or texts to embed, complete or speak.
pub(super) fn plain(role: Role, raw: &str, most: usize) -> Message {
    let mut pieces = Pieces::new(most);
    match Fields::parse_str(raw) {
        // `systemInstruction` is a message of its own.
        Some(fields) if fields.has("parts") => {
            pieces.content(fields.raw("parts").unwrap_or_default());
        }
        _ => pieces.content(raw),
    }
    Message::new(role, pieces)
}

/// One message in the words of any dialect.
pub(super) fn message(raw: &str, most: usize) -> Message {
    let mut pieces = Pieces::new(most);
    let Some(fields) = Fields::parse_str(raw) else {
        pieces.content(raw);
        return Message::new(Role::User, pieces);
    };
    let (role, speaker) = read(&fields, raw, &mut pieces);
    Message {
        name: speaker,
        ..Message::new(role, pieces)
    }
}

fn read(item: &Fields<'_>, raw: &str, pieces: &mut Pieces) -> (Role, Option<String>) {
    let kind = item.string("type");
    match kind.as_deref() {
        None | Some("message") => spoken(item, raw, pieces),
        Some(kind) => (output_item(item, kind, raw, pieces), None),
    }
}

/// A message with a role.
fn spoken(item: &Fields<'_>, raw: &str, pieces: &mut Pieces) -> (Role, Option<String>) {
    let role = match item.string("role").as_deref() {
        Some("system" | "developer") => Role::System,
        Some("assistant" | "model") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        _ => Role::User,
    };
    if role == Role::Tool && item.has("content") {
        pieces.result(item, "content");
        return (role, None);
    }
    chat_message(item, pieces);
    let images = item.array("images").into_iter();
    for image in images {
        pieces.push(Piece {
            kind: Kind::Media,
            media_type: Some("image".to_owned()),
            said: Excerpt {
                len: super::part::decoded_len(image.get().trim_matches('"')),
                is_cut: true,
                ..Excerpt::default()
            },
            ..Piece::default()
        });
    }
    if !item.has("role") && !item.has("content") && !item.has("parts") {
        pieces.other(item.string("type"), raw);
    }
    (role, name(item, "name"))
}

/// What a chat message says, in a request or as an answer.
pub(super) fn chat_message(item: &Fields<'_>, pieces: &mut Pieces) {
    for key in ["reasoning_content", "reasoning", "thinking"] {
        pieces.field(Kind::Reasoning, item, key);
    }
    if let Some(content) = item.raw("content").or_else(|| item.raw("parts")) {
        pieces.content(content);
    }
    pieces.field(Kind::Refusal, item, "refusal");
    for call in item.objects("tool_calls") {
        pieces.call(&call);
    }
    if let Some(call) = item.object("function_call") {
        pieces.call(&call);
    }
    if let Some(audio) = item.object("audio") {
        pieces.field(Kind::Text, &audio, "transcript");
        pieces.media(&audio);
    }
}

/// An element of the output of a response, which comes back in the input of the next.
pub(super) fn output_item(item: &Fields<'_>, kind: &str, raw: &str, pieces: &mut Pieces) -> Role {
    match kind {
        "message" => {
            chat_message(item, pieces);
            return Role::Assistant;
        }
        "function_call" | "custom_tool_call" => pieces.call(item),
        "reasoning" => reasoning(item, pieces),
        "image_generation_call" => pieces.media(item),
        "mcp_call" => {
            pieces.call(item);
            if item.has("output") {
                pieces.result(item, "output");
            }
        }
        "item_reference" => pieces.other(Some(kind.to_owned()), raw),
        _ if kind.ends_with("_call_output") => {
            pieces.result(item, "output");
            return Role::Tool;
        }
        _ if kind.ends_with("_call") => {
            let mut call = pieces.called(item);
            call.name = call
                .name
                .or_else(|| Some(kind.trim_end_matches("_call").to_owned()));
            if call.said.len == 0 {
                call.said = pieces.excerpt(item, &["action", "queries", "code"]);
            }
            pieces.push(call);
        }
        // Parts that stand among messages: a text, an image.
        "input_text" | "output_text" | "text" | "input_image" | "input_file" | "input_audio" => {
            pieces.part(raw);
            return Role::User;
        }
        _ => pieces.other(Some(kind.to_owned()), raw),
    }
    Role::Assistant
}

fn reasoning(item: &Fields<'_>, pieces: &mut Pieces) {
    let texts = item.objects("summary").chain(item.objects("content"));
    let mut is_told = false;
    for text in texts {
        is_told |= text.has("text");
        pieces.field(Kind::Reasoning, &text, "text");
    }
    if !is_told && item.has("encrypted_content") {
        pieces.sealed(item, "encrypted_content");
    }
}
