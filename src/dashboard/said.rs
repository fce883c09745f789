//! What was said in a call, drawn: the messages it was sent and what it answered. For the page of a
//! call and the steps of a run.

use maud::{Markup, html};

use super::here::Here;
use super::{figure, link, text};
use crate::admin::step::{Answered, History, Missing, Sent, SentMessage, StepView};
use crate::core::id::CallId;
use crate::wire::readable::{Excerpt, Kind, Message, Piece, Role, Tools};

/// Bytes of HTML that the texts of one call take at most; what is beyond is a link away.
const ROOM: usize = 256 << 10;

/// Where what is not shown can be seen.
pub(super) struct Links {
    /// All messages of the call.
    all: String,
    /// One message with its whole texts; its index is appended.
    one: String,
    /// The bytes of the answer.
    answer: String,
    /// The bytes of the request.
    request: String,
    /// What ids of this call on the page begin with.
    prefix: String,
}

impl Links {
    pub(super) fn of(here: &Here, call: CallId) -> Self {
        let page = link::call(call);
        Self {
            all: here.at(&page, [("show", "all")]),
            one: here.at(&page, [("message", "")]),
            answer: format!("/api/v1/calls/{call}/response"),
            request: format!("/api/v1/calls/{call}/request"),
            prefix: format!("said-{call}"),
        }
    }
}

/// What a call was sent that was not sent before - with [`full`](crate::admin::step::Options) all of
/// it - behind one line for what was.
pub(super) fn sent(step: &StepView, links: &Links) -> Markup {
    let sent = &step.sent;
    let mut drawer = Drawer::new(links);
    html! {
        (history(sent))
        (dropped(sent, &mut drawer))
        (missing(sent.missing.as_ref(), &links.request))
        (unchanged(sent, links))
        @if sent.left_out > 0 {
            p.note { (figure::count(sent.left_out)) " messages before these are not shown: "
                a href=(links.request) download { "the whole request" } }
        }
        @for message in &sent.messages { (drawer.sent(message)) }
        (tools(&sent.tools, sent.tools_changed, links))
    }
}

/// What a call was answered.
pub(super) fn answered(step: &StepView, links: &Links) -> Markup {
    answer(&step.answered, links)
}

fn answer(answered: &Answered, links: &Links) -> Markup {
    let mut drawer = Drawer::new(links);
    let choices = answered.messages.len();
    html! {
        (missing(answered.missing.as_ref(), &links.answer))
        @for (index, message) in answered.messages.iter().enumerate() {
            @if choices > 1 { h4.message-head { "Choice " (index + 1) " of " (choices) } }
            (drawer.answered(index, message))
        }
    }
}

/// Says that a body, or a part of it, is not there, and why.
pub(super) fn missing(missing: Option<&Missing>, bytes: &str) -> Markup {
    let Some(missing) = missing else {
        return html! {};
    };
    html! {
        @if missing.is_all() {
            div.empty { p.empty-head { "Not shown" } p { (text::shown(&missing.detail)) } }
        } @else {
            p.note.warn { (text::shown(&missing.detail)) " " a href=(bytes) download { "Download what is kept" } }
        }
    }
}

/// How what is sent stands to what was sent before, where that is worth a word.
fn history(sent: &Sent) -> Markup {
    let at = sent.changed_at.map(|at| at + 1);
    let gone = sent.dropped_count;
    html! {
        @match sent.history {
            History::First | History::Grown => {},
            History::Repeated => p.note { "The same request as in the call before: sent again, or another sample." },
            History::Continued => p.note { "The upstream keeps what was said before: only what is new is sent." },
            History::Unknown => p.note { "It is not known what was sent in the call before: all of this may be new, or none." },
            History::Cut => p.note.warn {
                strong { "History cut" }
                @if let Some(at) = at { " at message " (at) }
                ": " (messages(gone)) " of the call before " (are(gone)) " not sent any more."
            },
            History::Rewritten => p.note.warn {
                strong { "History changed" }
                @if let Some(at) = at { " at message " (at) }
                @if gone > 0 { ": " (messages(gone)) " of the call before " (are(gone)) " not sent any more" }
                "."
            },
        }
    }
}

fn messages(count: u64) -> String {
    let noun = if count == 1 { "message" } else { "messages" };
    format!("{} {noun}", figure::count(count))
}

fn are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn dropped(sent: &Sent, drawer: &mut Drawer<'_>) -> Markup {
    if sent.dropped.is_empty() {
        return html! {};
    }
    let more = sent.dropped_count.saturating_sub(sent.dropped.len() as u64);
    let id = format!("{}-gone", drawer.links.prefix);
    html! {
        details.gone id=(id) {
            summary { (messages(sent.dropped_count)) " that " (are(sent.dropped_count)) " gone" }
            @for (index, message) in sent.dropped.iter().enumerate() {
                (drawer.gone(index, message))
            }
            @if more > 0 { p.muted { (figure::count(more)) " more" } }
        }
    }
}

/// One line for what was sent before, too.
fn unchanged(sent: &Sent, links: &Links) -> Markup {
    let old = sent.unchanged;
    let shows_all = sent.messages.iter().any(|message| !message.is_new);
    if old.messages == 0 || shows_all {
        return html! {};
    }
    html! {
        p.unchanged {
            a href=(links.all) { (messages(old.messages)) ", unchanged" }
            ", " (figure::bytes(old.bytes))
            @if let Some(tokens) = old.tokens { ", ~" (figure::count(tokens)) " tokens" }
        }
    }
}

fn tools(tools: &Tools, changed: bool, links: &Links) -> Markup {
    let more = tools.count.saturating_sub(tools.names.len() as u64);
    html! {
        @if tools.count > 0 || changed {
            details.tools id=(format!("{}-tools", links.prefix)) {
                summary {
                    (figure::count(tools.count)) @if tools.count == 1 { " tool" } @else { " tools" } " offered"
                    @if changed { " " (figure::state("warn", "others than in the call before")) }
                }
                p { @for (index, name) in tools.names.iter().enumerate() {
                    @if index > 0 { ", " }
                    code { (text::name(name)) }
                } @if more > 0 { " and " (figure::count(more)) " more" } }
            }
        }
    }
}

/// Draws messages as long as there is room.
struct Drawer<'l> {
    links: &'l Links,
    left: usize,
}

impl<'l> Drawer<'l> {
    fn new(links: &'l Links) -> Self {
        Self { links, left: ROOM }
    }

    fn sent(&mut self, sent: &SentMessage) -> Markup {
        let more = format!("{}{}", self.links.one, sent.index);
        let mark = match (sent.is_echo, sent.is_new) {
            (true, _) => Some("its own answer, sent back"),
            (false, false) => Some("unchanged"),
            (false, true) => None,
        };
        let place = format!("m{}", sent.index);
        let number = Some(sent.index + 1);
        self.message(&sent.message, (number, mark), &place, Some(&more))
    }

    fn answered(&mut self, index: usize, message: &Message) -> Markup {
        let more = self.links.answer.clone();
        self.message(message, (None, None), &format!("a{index}"), Some(&more))
    }

    fn gone(&mut self, index: usize, message: &Message) -> Markup {
        self.message(message, (None, Some("gone")), &format!("g{index}"), None)
    }

    fn message(
        &mut self,
        message: &Message,
        (number, mark): (Option<u64>, Option<&str>),
        place: &str,
        more: Option<&str>,
    ) -> Markup {
        let id = format!("{}-{place}", self.links.prefix);
        let (class, word) = role(message.role);
        let class = format!("message {class}");
        html! {
            div class=(class) id=(id) {
                p.message-head {
                    @if let Some(number) = number { "#" (number) " " }
                    strong { (word) }
                    @if let Some(name) = &message.name { " " (text::name(name)) }
                    @if message.bytes > 0 { ", " (figure::bytes(message.bytes)) }
                    @if let Some(mark) = mark { ", " (mark) }
                }
                @for (index, piece) in message.pieces.iter().enumerate() {
                    (self.piece(piece, &format!("{id}-{index}"), more))
                }
                @if message.left_out > 0 {
                    p.muted { (figure::count(message.left_out)) " more parts are not shown" }
                }
            }
        }
    }

    fn piece(&mut self, piece: &Piece, id: &str, more: Option<&str>) -> Markup {
        match piece.kind {
            Kind::Text => self.verbatim(&piece.said, more),
            Kind::Reasoning => html! {
                details.reasoning id=(id) {
                    summary { "Reasoning, " (figure::bytes(piece.said.len)) }
                    (self.verbatim(&piece.said, more))
                }
            },
            Kind::Refusal => html! {
                p { (figure::state("warn", "declined by the model")) }
                (self.verbatim(&piece.said, more))
            },
            Kind::Error => html! {
                p { (figure::state("bad", "error")) }
                (self.verbatim(&piece.said, more))
            },
            Kind::ToolCall => html! {
                p.tool { "Calls " (tool(piece)) }
                (self.verbatim(&piece.said, more))
            },
            Kind::ToolResult => self.result(piece, id, more),
            Kind::Media => html! {
                p { span.chip {
                    (text::name(piece.media_type.as_deref().unwrap_or("media")))
                    @if piece.said.len > 0 { ", " (figure::bytes(piece.said.len)) }
                    @if let Some(name) = &piece.name { ", " (text::name(name)) }
                } }
            },
            Kind::Other => html! {
                @if let Some(name) = &piece.name { p.tool { (text::name(name)) } }
                (self.verbatim(&piece.said, more))
            },
        }
    }

    fn result(&mut self, piece: &Piece, id: &str, more: Option<&str>) -> Markup {
        html! {
            p.tool {
                "Result of " (tool(piece))
                @if piece.is_error { " " (figure::state("bad", "the tool failed")) }
            }
            @if let Some(asked) = &piece.asked {
                details.asked id=(id) {
                    summary { "asked with" }
                    (self.verbatim(asked, None))
                }
            }
            (self.verbatim(&piece.said, more))
        }
    }

    /// A text as it is, cut where there is no more room; `more` leads to the rest.
    fn verbatim(&mut self, said: &Excerpt, more: Option<&str>) -> Markup {
        let (front, cost) = fitting(&said.text, self.left);
        self.left -= cost;
        let is_cut = said.is_cut || front.len() < said.text.len();
        html! {
            @if !front.is_empty() { pre.text dir="auto" { (text::shown(front)) } }
            @if said.len == 0 { p.muted { "(empty)" } }
            @if is_cut {
                p.muted.cut {
                    "the first " (figure::bytes(front.len() as u64)) " of " (figure::bytes(said.len))
                    @if let Some(more) = more { " " a href=(more) { "Show more" } }
                }
            }
        }
    }
}

/// As much of a text as takes no more than `room` bytes of HTML, and how many it takes.
pub(super) fn fitting(text: &str, room: usize) -> (&str, usize) {
    /// What a character that is shown by its code takes.
    const HIDDEN: usize = 42;
    let mut cost = 0;
    for (at, c) in text.char_indices() {
        let more = match c {
            '<' | '>' | '&' | '"' => 6,
            c if text::is_hidden(c) => HIDDEN,
            c => c.len_utf8(),
        };
        if cost + more > room {
            return (text.get(..at).unwrap_or_default(), cost);
        }
        cost += more;
    }
    (text, cost)
}

fn tool(piece: &Piece) -> Markup {
    html! {
        strong { (text::name(piece.name.as_deref().unwrap_or("a tool"))) }
        @if let Some(id) = &piece.id { " " span.muted.mono { (text::name(id)) } }
    }
}

/// The class and the word of who speaks.
fn role(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::System => ("system", "system"),
        Role::User => ("user", "user"),
        Role::Assistant => ("assistant", "assistant"),
        Role::Tool => ("tool", "tool"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_no_more_room_than_there_is() {
        for text in [
            "plain",
            "<<<<<<<<",
            "\u{202e}\u{202e}\u{202e}x",
            "\u{1f600}\u{1f600}\u{1f600}",
            "\"&\"\u{1}",
        ] {
            for room in 0..200 {
                let (front, cost) = fitting(text, room);
                let html = text::shown(front).into_string();
                assert!(
                    html.len() <= cost && cost <= room,
                    "{text:?} in {room}: {html}"
                );
                assert!(text.starts_with(front));
            }
        }
    }
}
