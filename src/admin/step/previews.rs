//! What many calls were sent and answered, in a few words each: for lists.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Request, answered};
use crate::core::id::CallId;
use crate::ledger::{BodyReader, IndexError, View};
use crate::wire::readable::{Excerpt, Kind, Message, Piece, Role};

/// Calls that are asked for at once.
pub const MAX_PREVIEWS: usize = 200;

/// Calls in a few words each, in the order they were asked for in; those that are not recorded are
/// left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewList {
    pub previews: Vec<PreviewView>,
}

/// One call in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewView {
    pub id: CallId,
    /// The last thing it was sent by somebody else than the agent itself.
    pub sent: Option<Said>,
    /// The text of its answer, if it has one.
    pub answered: Option<Said>,
    /// The tools that its answer calls, as `search({"q":"x"})`.
    pub calls: Vec<String>,
}

/// The front of what somebody said, in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Said {
    pub role: Role,
    /// The tool, or which of several speakers.
    pub name: Option<String>,
    pub text: String,
    pub is_cut: bool,
}

/// These calls, with up to `chars` characters of each text.
pub fn previews(view: &View, ids: &[CallId], chars: usize) -> Result<Vec<PreviewView>, IndexError> {
    let mut bodies = BodyReader::new(view);
    let mut found = Vec::new();
    for id in ids.iter().take(MAX_PREVIEWS) {
        let Some(detail) = view.call(*id)? else {
            continue;
        };
        // White space is folded, so that more is read than is shown.
        let most = chars.saturating_mul(8);
        let request = Request::read(&detail, &mut bodies)?;
        let answer = answered(&detail, &mut bodies, most)?.messages;
        let answer = answer.first();
        found.push(PreviewView {
            id: *id,
            sent: sent(&request, most, chars),
            answered: answer.and_then(|it| said(it, it.first_text()?, chars)),
            calls: answer
                .iter()
                .flat_map(|it| it.tool_calls())
                .map(|call| called(call, chars))
                .collect(),
        });
    }
    Ok(found)
}

fn sent(request: &Request, most: usize, chars: usize) -> Option<Said> {
    let entries = request.transcript.entries().iter().rev();
    let messages = entries
        .take(32)
        .map(|entry| entry.read(&request.bytes, most));
    let mut by_others = messages.filter(|message| message.role != Role::Assistant);
    by_others.find_map(|message| {
        let results = message.pieces.iter().rev();
        let result = || results.clone().find(|piece| piece.kind == Kind::ToolResult);
        let any = || message.pieces.last();
        let piece = message.first_text().or_else(result).or_else(any)?;
        said(&message, piece, chars)
    })
}

fn said(message: &Message, piece: &Piece, chars: usize) -> Option<Said> {
    let (text, is_cut) = line(&piece.said, chars);
    let media = || piece.media_type.clone();
    let text = Some(text).filter(|text| !text.is_empty()).or_else(media)?;
    Some(Said {
        role: message.role,
        name: piece.name.clone().or_else(|| message.name.clone()),
        text,
        is_cut,
    })
}

fn called(call: &Piece, chars: usize) -> String {
    let (arguments, is_cut) = line(&call.said, chars);
    let more = if is_cut { "..." } else { "" };
    let name = call.name.as_deref().unwrap_or_default();
    format!("{name}({arguments}{more})")
}

/// The front of a text in one line, white space folded.
fn line(said: &Excerpt, chars: usize) -> (String, bool) {
    let words: Vec<&str> = said.text.split_whitespace().collect();
    let line = words.join(" ");
    let end = line.char_indices().nth(chars).map(|(at, _)| at);
    let is_cut = said.is_cut || end.is_some();
    let front = line.get(..end.unwrap_or(line.len())).unwrap_or_default();
    (front.to_owned(), is_cut)
}
