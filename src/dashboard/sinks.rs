//! The databases that get what is recorded: how each does.

use maud::{Markup, html};

use super::desk::Desk;
use super::{figure, text};
use crate::sinks::{SinkState, SinkStatus};

/// Nothing where there are none.
pub(super) fn section(desk: &Desk) -> Markup {
    let sinks = desk.state.sinks.list();
    html! {
        @if !sinks.is_empty() { section {
            h2 { "Sinks" }
            div.scroll tabindex="0" role="region" aria-label="Sinks" {
                table {
                    thead { tr {
                        th scope="col" { "Sink" }
                        th scope="col" { "Kind" }
                        th scope="col" { "State" }
                        th.n scope="col" { "Behind" }
                        th scope="col" { "All until" }
                        th.n scope="col" { "Rows" }
                        th.n scope="col" { "Left out" }
                        th.n scope="col" { "Gaps" }
                        th scope="col" { "Instance" }
                    } }
                    tbody { @for sink in &sinks { (row(desk, sink)) } }
                }
            }
        } }
    }
}

fn row(desk: &Desk, sink: &SinkStatus) -> Markup {
    let word: &'static str = sink.state.into();
    let kind = match sink.state {
        SinkState::Starting => "off",
        SinkState::Working => "ok",
        SinkState::Failing => "bad",
    };
    html! {
        tr {
            th scope="row" { (text::name(sink.name.as_str())) }
            td { (text::name(&sink.kind)) }
            td {
                (figure::state(kind, word))
                @if let Some(since) = sink.failing_since {
                    " " span.muted { "since " (figure::time(since, &desk.zone)) }
                }
                @if let Some(error) = &sink.error { div.muted { (text::shown(error)) } }
            }
            td.n { (figure::bytes(sink.lag_bytes)) }
            td { @match sink.delivered_until {
                Some(at) => (figure::time(at, &desk.zone)),
                None => span.none { "unknown" },
            } }
            td.n { (figure::count(sink.rows.values().sum())) }
            td.n { (figure::count(sink.refused_rows)) }
            td.n { (figure::count(sink.gaps)) }
            td { (text::name(&sink.instance)) }
        }
    }
}
