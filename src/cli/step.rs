//! One call as messages: what is new in it or all of it, what it answered; and its headers.
//!
//! What agents, models and tools say is shown as they said it, line by line, but for characters that
//! steer a terminal or turn the direction of a line: these are made visible.

use std::io;

use serde::Serialize;
use tokio::runtime::Runtime;

use super::args::Show;
use super::format;
use super::source::{self, Source};
use super::table::{Align, Output, Table, printable};
use super::{Common, Failure, command};
use crate::admin::step::{Answered, History, Sent, StepParams, StepView};
use crate::admin::view::{CallDetail, HeadersView};
use crate::core::id::CallId;
use crate::core::text::visible;
use crate::wire::readable::{Kind, Message, Piece, Role};

pub(super) fn show(
    common: &Common,
    show: &Show,
    (runtime, source): (&Runtime, &Source),
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let id = show.what.parse::<CallId>().map_err(|_| {
        Failure::Negative(format!(
            "{} is no id of a call: only calls have messages and headers",
            show.what
        ))
    })?;
    let path = format!("/api/v1/calls/{id}");
    if show.headers {
        let body = runtime.block_on(source.ask(&path, &()))?;
        let detail = source::parse::<CallDetail>(&body)?;
        if common.json {
            let heads = Heads {
                request_headers: detail.request_headers,
                response_headers: detail.response_headers,
            };
            let json = serde_json::to_vec(&heads).map_err(source::impossible)?;
            return command::raw(&json, out);
        }
        return Ok(headers(&detail, out)?);
    }
    let params = StepParams {
        full: show.messages,
        preview: show.preview,
        message: None,
    };
    let body = runtime.block_on(source.ask(&format!("{path}/step"), &params))?;
    if common.json {
        return command::raw(&body, out);
    }
    Ok(step(&source::parse(&body)?, out)?)
}

/// What `--headers --json` writes.
#[derive(Serialize)]
struct Heads {
    request_headers: Option<HeadersView>,
    response_headers: Option<HeadersView>,
}

/// Writes the headers of both ways.
pub(super) fn headers(detail: &CallDetail, out: &mut Output<'_>) -> io::Result<()> {
    let mut table = Table::new(&[
        ("OF", Align::Left),
        ("HEADER", Align::Left),
        ("VALUE", Align::Left),
    ]);
    let both = [
        ("request", &detail.request_headers),
        ("answer", &detail.response_headers),
    ];
    let mut left_out = 0;
    for (side, view) in both {
        let Some(view) = view else {
            table.row([side.to_owned(), "(not recorded)".to_owned(), String::new()]);
            continue;
        };
        left_out += view.left_out;
        for header in &view.headers {
            let value = match (&header.value, &header.fingerprint) {
                (Some(value), _) if (value.len() as u64) < header.len => {
                    format!("{}... ({} bytes)", visible(value), header.len)
                }
                (Some(value), _) => visible(value).into_owned(),
                (None, Some(print)) => format!("(hidden: {} bytes, #{print})", header.len),
                (None, None) => format!("(hidden: {} bytes)", header.len),
            };
            table.row([side.to_owned(), header.name.clone(), value]);
        }
    }
    table.write(out)?;
    if left_out > 0 {
        writeln!(out.writer, "({left_out} more were not recorded)")?;
    }
    Ok(())
}

/// Writes a step.
pub(super) fn step(step: &StepView, out: &mut Output<'_>) -> io::Result<()> {
    let call = &step.call;
    let mut who = printable(call.agent.as_str());
    if let Some(caller) = &call.caller {
        who = format!("{who}, called by {}", printable(caller.as_str()));
    }
    line(out, "call", &format!("{}  {who}", call.id))?;
    if let Some(conversation) = &call.conversation {
        line(out, "conversation", conversation.as_str())?;
    }
    let around = &step.around;
    for (name, id) in [("before", around.before), ("after", around.after)] {
        if let Some(id) = id {
            line(out, name, &id.to_string())?;
        }
    }
    sent(&step.sent, out)?;
    answered(&step.answered, out)
}

fn line(out: &mut Output<'_>, name: &str, value: &str) -> io::Result<()> {
    writeln!(out.writer, "{name:14}{}", visible(value))
}

fn sent(sent: &Sent, out: &mut Output<'_>) -> io::Result<()> {
    line(out, "history", &history(sent))?;
    let tools = &sent.tools;
    if tools.count > 0 {
        let mut names = tools.names.join(", ");
        if tools.count > tools.names.len() as u64 {
            names.push_str(", ...");
        }
        let changed = if sent.tools_changed { " (changed)" } else { "" };
        line(out, "tools", &format!("{names}{changed}"))?;
    }
    if let Some(missing) = &sent.missing {
        line(out, "request", &missing.detail)?;
    }
    for gone in &sent.dropped {
        writeln!(out.writer, "\n- no longer sent: {}", head(gone, None))?;
        pieces(gone, out)?;
    }
    let more = sent.dropped_count.saturating_sub(sent.dropped.len() as u64);
    if more > 0 {
        writeln!(
            out.writer,
            "\n- and {} more are no longer sent",
            format::count(more)
        )?;
    }
    if sent.left_out > 0 {
        let count = format::count(sent.left_out);
        writeln!(out.writer, "\n({count} earlier messages are not shown)")?;
    }
    for it in &sent.messages {
        let mark = match (it.is_new, it.is_echo) {
            (true, true) => "+ its own answer",
            (true, false) => "+",
            (false, _) => " ",
        };
        let head = head(&it.message, Some(it.index));
        writeln!(out.writer, "\n{mark} {head}")?;
        pieces(&it.message, out)?;
    }
    Ok(())
}

fn history(sent: &Sent) -> String {
    let unchanged = &sent.unchanged;
    let mut same = format!(
        "{} of {} messages were sent before ({}",
        format::count(unchanged.messages),
        format::count(sent.count),
        format::bytes(unchanged.bytes)
    );
    if let Some(tokens) = unchanged.tokens.filter(|tokens| *tokens > 0) {
        same = format!("{same}, ~{} tokens", format::count(tokens));
    }
    let same = format!("{same})");
    let at = sent.changed_at.unwrap_or_default();
    let gone = format::count(sent.dropped_count);
    match sent.history {
        History::First => "nothing is known that it goes on from".to_owned(),
        History::Unknown => "it is not known what was sent before".to_owned(),
        History::Continued => "kept by the upstream; only what is new is sent".to_owned(),
        History::Repeated => format!("the same request again: {same}"),
        History::Grown => same,
        History::Cut => format!("CUT at message {at}, {gone} are gone: {same}"),
        History::Rewritten => format!("REWRITTEN at message {at}, {gone} are gone: {same}"),
    }
}

fn answered(answered: &Answered, out: &mut Output<'_>) -> io::Result<()> {
    for message in &answered.messages {
        writeln!(out.writer, "\n= answered")?;
        pieces(message, out)?;
    }
    if let Some(missing) = &answered.missing {
        writeln!(out.writer, "\n= answered: {}", visible(&missing.detail))?;
    }
    if !answered.finish_reasons.is_empty() {
        let reasons = answered.finish_reasons.iter();
        let reasons: Vec<_> = reasons.map(|it| printable(it.as_str())).collect();
        writeln!(out.writer, "\nfinish        {}", reasons.join(", "))?;
    }
    Ok(())
}

fn head(message: &Message, index: Option<u64>) -> String {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut head = index.map_or_else(String::new, |index| format!("[{index}] "));
    head.push_str(role);
    if let Some(name) = &message.name {
        head = format!("{head} {}", printable(name));
    }
    format!("{head}, {}", format::bytes(message.bytes))
}

fn pieces(message: &Message, out: &mut Output<'_>) -> io::Result<()> {
    for piece in &message.pieces {
        let (before, text) = piece_text(piece);
        let mut text = visible(&text).into_owned();
        if piece.said.is_cut && piece.kind != Kind::Media && !piece.said.text.is_empty() {
            text = format!("{text}\n... ({} in all)", format::bytes(piece.said.len));
        }
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        writeln!(out.writer, "    {before}{first}")?;
        for line in lines {
            writeln!(out.writer, "    {line}")?;
        }
    }
    if message.left_out > 0 {
        writeln!(
            out.writer,
            "    (and {} more)",
            format::count(message.left_out)
        )?;
    }
    Ok(())
}

/// What stands before a piece, and its text.
fn piece_text(piece: &Piece) -> (String, String) {
    let name = printable(piece.name.as_deref().unwrap_or_default());
    let id = piece
        .id
        .as_deref()
        .map_or_else(String::new, |id| format!("  #{}", printable(id)));
    let said = piece.said.text.clone();
    match piece.kind {
        Kind::Text => (String::new(), said),
        Kind::Reasoning if said.is_empty() => {
            let sealed = format!("({}, {})", name, format::bytes(piece.said.len));
            ("reasoning: ".to_owned(), sealed)
        }
        Kind::Reasoning => ("reasoning: ".to_owned(), said),
        Kind::Refusal => ("refuses: ".to_owned(), said),
        Kind::ToolCall => (format!("-> {name}("), format!("{said}){id}")),
        Kind::ToolResult => {
            let asked = piece.asked.as_ref();
            let asked = asked.map_or_else(String::new, |asked| {
                let more = if asked.is_cut { "..." } else { "" };
                format!("({}{more})", asked.text)
            });
            let failed = if piece.is_error { " failed" } else { "" };
            (format!("<- {name}"), format!("{asked}{id}{failed}\n{said}"))
        }
        Kind::Media => {
            let kind = printable(piece.media_type.as_deref().unwrap_or("media"));
            let len = match piece.said.len {
                0 => String::new(),
                len => format!(", {}", format::bytes(len)),
            };
            (
                format!("[{kind}{len}]"),
                if name.is_empty() {
                    name
                } else {
                    format!(" {name}")
                },
            )
        }
        Kind::Error => (format!("error {name}: "), said),
        Kind::Other if name.is_empty() => (String::new(), said),
        Kind::Other => (format!("[{name}] "), said),
    }
}
