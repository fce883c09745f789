//! The bytes of a call: what of them is kept, a preview, and when the chunks of a stream came.

use maud::{Markup, html};

use super::super::here::Here;
use super::super::{figure, said, text};
use super::Known;
use crate::admin::problem::Problem;
use crate::admin::step::{Missing, lacks};
use crate::core::call::ChunkMark;
use crate::ledger::{Body, CallDetail, IndexError, View};
use crate::wire::decode::{DecodeError, Decoder};

/// Bytes of HTML that a preview takes, and the longer one.
const PREVIEW: (usize, usize) = (48 << 10, 256 << 10);
/// Bytes of a body that is no text which are shown.
const DUMPED: usize = 512;
/// Chunks that are listed.
const CHUNKS: usize = 200;
/// Characters of each.
const CHUNK_TEXT: usize = 120;

/// The two bodies, as far as they are shown.
pub(super) struct Bodies {
    request: Side,
    response: Side,
    is_long: bool,
}

/// One of them.
struct Side {
    body: Option<Body>,
    missing: Option<Missing>,
    /// The front of it without its encoding, or why there is none.
    front: Result<Front, String>,
}

/// The first bytes of a body without its encoding.
#[derive(Default)]
struct Front {
    bytes: Vec<u8>,
    is_whole: bool,
}

/// Whether the longer preview is asked for.
pub(super) fn is_long(here: &Here) -> Result<bool, Problem> {
    match here.get("preview") {
        None => Ok(false),
        Some("long") => Ok(true),
        Some(other) => Err(Problem::bad_request(format!(
            "preview: found `{other}`, expected long"
        ))),
    }
}

impl Bodies {
    pub(super) fn read(
        view: &View,
        detail: &CallDetail,
        is_long: bool,
    ) -> Result<Self, IndexError> {
        let id = detail.row.id;
        let (request, response) = (view.request_body(id)?, view.response_body(id)?);
        let bodies = (request.as_ref(), response.as_ref());
        let (no_request, no_response) = lacks(detail, bodies);
        Ok(Self {
            request: Side::new(request, no_request, room(is_long)),
            response: Side::new(response, no_response, room(is_long)),
            is_long,
        })
    }
}

fn room(is_long: bool) -> usize {
    if is_long { PREVIEW.1 } else { PREVIEW.0 }
}

pub(super) fn draw(here: &Here, known: &Known) -> Markup {
    let Some(raw) = &known.raw else {
        return html! {};
    };
    let url = |name: &str| format!("/api/v1/calls/{}/{name}", known.detail.row.id);
    let draw = |side: &Side, name| side.draw(here, &url(name), raw.is_long);
    html! {
        section { h2 { "Request" } (draw(&raw.request, "request")) }
        section {
            h2 { "Response" }
            (draw(&raw.response, "response"))
            (chunks(known, raw.response.body.as_ref()))
        }
    }
}

impl Side {
    fn new(body: Option<Body>, missing: Option<Missing>, room: usize) -> Self {
        let front = body.as_ref().map(|body| Front::of(body, room));
        Self {
            front: front.unwrap_or_else(|| Ok(Front::default())),
            body,
            missing,
        }
    }

    fn draw(&self, here: &Here, url: &str, is_long: bool) -> Markup {
        let Some(body) = self.body.as_ref().filter(|body| !body.bytes.is_empty()) else {
            return html! {
                @match &self.missing {
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
            @if !body.exact { (said::missing(self.missing.as_ref(), url)) }
            @match &self.front {
                Ok(front) => (preview(here, (body, front), is_long)),
                Err(error) => { p.note.warn { "No preview: " (error) "." } (dump(&body.bytes, true)) },
            }
        }
    }
}

fn preview(here: &Here, (body, front): (&Body, &Front), is_long: bool) -> Markup {
    let Some(text) = as_text(&front.bytes) else {
        return dump(&front.bytes, front.is_whole);
    };
    let (shown, _) = said::fitting(text, room(is_long));
    let is_cut = !front.is_whole || shown.len() < front.bytes.len();
    let is_encoded = body.content_encoding.is_some();
    html! {
        @if is_encoded { p.muted { "Shown decoded." } }
        pre.text.raw dir="auto" tabindex="0" { (text::shown(shown)) }
        @if is_cut {
            p.muted { "the first " (figure::bytes(shown.len() as u64))
                @if !is_encoded { " of " (figure::bytes(body.bytes.len() as u64)) }
                @if !is_long { " " a href=(here.with(&[("preview", Some("long"))])) { "Show more" } } }
        }
    }
}

impl Front {
    /// Decodes until a preview is full: what is beyond is not looked at.
    fn of(body: &Body, room: usize) -> Result<Self, String> {
        /// Bytes that are decoded at once.
        const SLICE: usize = 4 << 10;
        let Some(encoding) = &body.content_encoding else {
            let front = body.bytes.get(..room).unwrap_or(&body.bytes);
            return Ok(Self {
                bytes: front.to_vec(),
                is_whole: front.len() == body.bytes.len(),
            });
        };
        let unknown = || DecodeError::UnknownEncoding.to_string();
        let mut decoder = Decoder::new(encoding).ok_or_else(unknown)?;
        let mut front = Self {
            is_whole: true,
            ..Self::default()
        };
        for slice in body.bytes.chunks(SLICE) {
            let mut take = |piece: &[u8]| {
                let left = room.saturating_sub(front.bytes.len());
                let fits = piece.get(..left).unwrap_or(piece);
                front.bytes.extend_from_slice(fits);
                front.is_whole &= fits.len() == piece.len();
            };
            let decoded = decoder.push(slice, &mut take);
            if !front.is_whole {
                break;
            }
            decoded.map_err(|error| error.to_string())?;
        }
        Ok(front)
    }
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
fn dump(bytes: &[u8], is_whole: bool) -> Markup {
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
            p.muted { "no text: the first " (front.len())
                @if is_whole { " of " (figure::bytes(bytes.len() as u64)) } @else { " bytes" } }
        }
    }
}

/// When each chunk of a recorded stream came.
fn chunks(known: &Known, response: Option<&Body>) -> Markup {
    let Some(settlement) = &known.detail.settlement else {
        return html! {};
    };
    let marks = &settlement.chunks;
    if marks.len() < 2 {
        return html! {};
    }
    let head = settlement.timings.head_us.unwrap_or(0);
    let exact = response.filter(|body| body.exact);
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
                                td.mono { (begins(exact, from, *mark)) }
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

fn begins(body: Option<&Body>, from: usize, mark: ChunkMark) -> Markup {
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn zipped(bytes: &[u8]) -> Body {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        Body {
            bytes: encoder.finish().unwrap(),
            content_type: None,
            content_encoding: Some("gzip".to_owned()),
            exact: true,
            truncated: false,
            wire_len: 0,
        }
    }

    #[test]
    fn no_more_is_decoded_than_a_preview_has_room_for() {
        let body = zipped(&vec![b'x'; 32 << 20]);
        let front = Front::of(&body, 1000).unwrap();
        assert_eq!((front.bytes.len(), front.is_whole), (1000, false));
        assert!(front.bytes.capacity() < 1 << 20);
        let front = Front::of(&zipped(b"short"), 1000).unwrap();
        assert_eq!(
            (front.bytes.as_slice(), front.is_whole),
            (&b"short"[..], true)
        );
    }
}
