//! The bytes of a call: what of them is kept, a preview, and when the chunks of a stream came.

use std::borrow::Cow;

use maud::{Markup, html};

use super::super::here::Here;
use super::super::{figure, said, text};
use super::Known;
use crate::admin::problem::Problem;
use crate::admin::step::Missing;
use crate::core::call::ChunkMark;
use crate::core::id::CallId;
use crate::ledger::Body;
use crate::wire::decode::decode_all;

/// Bytes of HTML that a preview takes, and the longer one.
const PREVIEW: (usize, usize) = (48 << 10, 256 << 10);
/// Bytes of a body that is no text which are shown.
const DUMPED: usize = 512;
/// Chunks that are listed.
const CHUNKS: usize = 200;
/// Characters of each.
const CHUNK_TEXT: usize = 120;
/// What an encoded body may grow to before its front is cut off.
const MAX_DECODED: usize = 64 << 20;

pub(super) fn draw(here: &Here, known: &Known) -> Result<Markup, Problem> {
    let long = match here.get("preview") {
        None => false,
        Some("long") => true,
        Some(other) => {
            return Err(Problem::bad_request(format!(
                "preview: found `{other}`, expected long"
            )));
        }
    };
    let id = known.detail.row.id;
    let side = |name, body, missing| Side {
        name,
        body,
        missing,
        id,
        long,
    };
    let step = &known.step;
    let request = side(
        "request",
        known.request.as_ref(),
        step.sent.missing.as_ref(),
    );
    let response = side(
        "response",
        known.response.as_ref(),
        step.answered.missing.as_ref(),
    );
    Ok(html! {
        section { h2 { "Request" } (request.draw(here)) }
        section {
            h2 { "Response" }
            (response.draw(here))
            (chunks(known))
        }
    })
}

/// One of the two bodies.
struct Side<'k> {
    name: &'static str,
    body: Option<&'k Body>,
    missing: Option<&'k Missing>,
    id: CallId,
    long: bool,
}

impl Side<'_> {
    fn draw(&self, here: &Here) -> Markup {
        let url = format!("/api/v1/calls/{}/{}", self.id, self.name);
        let Some(body) = self.body.filter(|body| !body.bytes.is_empty()) else {
            return html! {
                @match self.missing {
                    Some(missing) => div.empty { p.empty-head { "Not recorded" } p { (text::shown(&missing.detail)) } },
                    None => p.muted { "It has no body." },
                }
            };
        };
        html! {
            p {
                (figure::bytes(body.wire_len)) " on the wire"
                @if let Some(kind) = &body.content_type { ", " code { (text::name(kind)) } }
                @if let Some(encoding) = &body.content_encoding { ", encoded as " code { (text::name(encoding)) } }
                ". "
                @if body.exact { (figure::state("ok", "byte for byte as on the wire")) }
                " " a.button href=(url) download { "Download" }
            }
            @if !body.exact { (said::missing(self.missing, &url)) }
            (self.preview(here, body))
        }
    }

    fn preview(&self, here: &Here, body: &Body) -> Markup {
        let plain = match plain(body) {
            Ok(plain) => plain,
            Err(error) => {
                return html! { p.note.warn { "No preview: " (error) "." } (dump(&body.bytes)) };
            }
        };
        let Some(text) = as_text(&plain) else {
            return dump(&plain);
        };
        let room = if self.long { PREVIEW.1 } else { PREVIEW.0 };
        let (front, _) = said::fitting(text, room);
        let is_cut = front.len() < plain.len();
        html! {
            @if body.content_encoding.is_some() { p.muted { "Shown decoded, " (figure::bytes(plain.len() as u64)) "." } }
            pre.text.raw dir="auto" tabindex="0" { (text::shown(front)) }
            @if is_cut {
                p.muted { "the first " (figure::bytes(front.len() as u64)) " of " (figure::bytes(plain.len() as u64))
                    @if !self.long { " " a href=(here.with(&[("preview", Some("long"))])) { "Show more" } } }
            }
        }
    }
}

/// The bytes without their encoding.
fn plain(body: &Body) -> Result<Cow<'_, [u8]>, String> {
    let Some(encoding) = &body.content_encoding else {
        return Ok(Cow::Borrowed(&body.bytes));
    };
    let decoded = decode_all(encoding, &body.bytes, MAX_DECODED);
    decoded.map(Cow::Owned).map_err(|error| error.to_string())
}

/// A body that is a text, or whose front is one: it may be cut within a character.
fn as_text(bytes: &[u8]) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()
        }
        Err(_) => None,
    }
}

/// What is no text, as hexadecimal.
fn dump(bytes: &[u8]) -> Markup {
    let front = bytes.get(..DUMPED.min(bytes.len())).unwrap_or_default();
    let line = |(at, line): (usize, &[u8])| {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = |byte: &u8| {
            if byte.is_ascii_graphic() {
                char::from(*byte)
            } else {
                '.'
            }
        };
        let text: String = line.iter().map(shown).collect();
        format!("{:06x}  {:<47}  {text}\n", at * 16, hex.join(" "))
    };
    let lines: String = front.chunks(16).enumerate().map(line).collect();
    html! {
        pre.raw tabindex="0" { (lines) }
        @if bytes.len() > front.len() {
            p.muted { "no text: the first " (front.len()) " of " (figure::bytes(bytes.len() as u64)) }
        }
    }
}

/// When each chunk of a recorded stream came.
fn chunks(known: &Known) -> Markup {
    let Some(settlement) = &known.detail.settlement else {
        return html! {};
    };
    let marks = &settlement.chunks;
    if marks.len() < 2 {
        return html! {};
    }
    let head = settlement.timings.head_us.unwrap_or(0);
    let exact = known.response.as_ref().filter(|body| body.exact);
    let shown = marks.len().min(CHUNKS);
    html! {
        details.chunks id="chunks" {
            summary { (figure::count(marks.len() as u64)) " chunks, as they came" }
            div.scroll tabindex="0" role="region" aria-label="Chunks of the response" {
                table {
                    thead { tr {
                        th scope="col" { "No." } th.n scope="col" { "After the start" }
                        th.n scope="col" { "After the one before" } th.n scope="col" { "Bytes" }
                        th scope="col" { "Begins with" }
                    } }
                    tbody {
                        @for (number, at, from, mark) in laid_out(marks, head).take(CHUNKS) {
                            tr {
                                th scope="row" { (number) }
                                td.n { (figure::duration(at)) }
                                td.n { (figure::duration(u64::from(mark.gap_us))) }
                                td.n { (figure::count(u64::from(mark.len))) }
                                td.mono { (begins(exact, from, mark)) }
                            }
                        }
                    }
                }
            }
            @if marks.len() > shown { p.muted { (figure::count((marks.len() - shown) as u64)) " more" } }
        }
    }
}

/// Number, microseconds since the call began, first byte.
fn laid_out(
    marks: &[ChunkMark],
    head: u64,
) -> impl Iterator<Item = (usize, u64, usize, &ChunkMark)> {
    let (mut at, mut from) = (head, 0_usize);
    marks.iter().enumerate().map(move |(index, mark)| {
        at = at.saturating_add(u64::from(mark.gap_us));
        let begin = from;
        from = from.saturating_add(usize::try_from(mark.len).unwrap_or(usize::MAX));
        (index + 1, at, begin, mark)
    })
}

fn begins(body: Option<&Body>, from: usize, mark: &ChunkMark) -> Markup {
    let len = usize::try_from(mark.len)
        .unwrap_or(usize::MAX)
        .min(4 * CHUNK_TEXT);
    let bytes = body
        .filter(|body| body.content_encoding.is_none())
        .and_then(|body| body.bytes.get(from..from.saturating_add(len)));
    let Some(bytes) = bytes else {
        return html! { span.none { "-" } };
    };
    let text = String::from_utf8_lossy(bytes);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let front: String = line.chars().take(CHUNK_TEXT).collect();
    text::shown(&front)
}
