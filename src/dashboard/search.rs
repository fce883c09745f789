//! What a text is found in: runs, agents, and calls by their models, users, errors and ids. It looks
//! at what is newest, so far and no further, and says how far.

use axum::Router;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};

use super::desk::Desk;
use super::figure;
use super::frame;
use super::here::Here;
use super::link;
use super::page::{Page, Place, empty};
use super::text;
use crate::admin::problem::Problem;
use crate::core::id::{CallId, Label};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::ledger::{
    CallFilter, CallRow, IndexError, Page as Rows, RunFilter, RunRow, SpanFilter, View,
};

/// What is looked at: calls one by one, newest first.
const CALLS_LOOKED_AT: usize = 10_000;
const CALLS_AT_ONCE: usize = 1000;
/// What is shown of each kind.
const SHOWN: usize = 25;
/// Bytes of a text that is searched for.
const LONGEST: usize = 256;
/// Characters shown around a hit in a long text.
const AROUND: usize = 60;

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/search", get(search))
}

async fn search(desk: axum::extract::State<Desk>, here: Here) -> Response {
    let axum::extract::State(desk) = desk;
    match look(&desk, &here).await {
        Ok(Found::At(address)) => Redirect::to(&address).into_response(),
        Ok(Found::Page(page)) => frame::respond(&desk, &here, Ok(*page)),
        Err(problem) => frame::respond(&desk, &here, Err(problem)),
    }
}

enum Found {
    /// What was asked for is the name of one thing.
    At(String),
    Page(Box<Page>),
}

/// What a search came to.
struct Hits {
    runs: Rows<RunRow, Timestamp>,
    agents: Vec<Label>,
    calls: Vec<(CallRow, Hit)>,
    /// How many calls were looked at, and when the oldest of them started.
    looked_at: usize,
    oldest: Option<Timestamp>,
    /// There are older ones.
    is_cut: bool,
}

/// Where in a call it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hit {
    what: &'static str,
    text: String,
}

async fn look(desk: &Desk, here: &Here) -> Result<Found, Problem> {
    here.check()?;
    let Some(asked) = here
        .get("q")
        .map(str::trim)
        .filter(|asked| !asked.is_empty())
    else {
        return Ok(Found::Page(Box::new(page(here, "", &html! {}))));
    };
    if asked.len() > LONGEST {
        return Err(Problem::bad_request(format!(
            "q: found {} bytes, expected up to {LONGEST}",
            asked.len()
        )));
    }
    let wanted = asked.to_owned();
    if let Some(address) = desk.ask(move |view| exact(view, &wanted)).await? {
        return Ok(Found::At(address));
    }
    let wanted = asked.to_lowercase();
    let hits = desk.ask(move |view| hits(view, &wanted)).await?;
    let shown = show(&hits, asked, desk, here);
    Ok(Found::Page(Box::new(page(here, asked, &shown))))
}

/// The address of the call, of the run or of the response's call with exactly this name.
fn exact(view: &View, asked: &str) -> Result<Option<String>, IndexError> {
    if let Ok(id) = asked.parse::<CallId>()
        && view.call(id)?.is_some()
    {
        return Ok(Some(link::call(id)));
    }
    let Ok(name) = Label::parse(asked) else {
        return Ok(None);
    };
    if view.run(&name)?.is_some() {
        return Ok(Some(link::run(&name)));
    }
    Ok(view.call_of_response(&name)?.map(link::call))
}

fn hits(view: &View, wanted: &str) -> Result<Hits, IndexError> {
    let runs = view.runs(&RunFilter {
        span: SpanFilter {
            limit: SHOWN,
            ..SpanFilter::default()
        },
        text: Some(wanted.to_owned()),
        ..RunFilter::default()
    })?;
    let agents = view.agents(&SpanFilter::default())?.items.into_iter();
    let mut agents: Vec<Label> = agents
        .map(|row| row.agent)
        .filter(|agent| agent.as_str().to_lowercase().contains(wanted))
        .collect();
    agents.truncate(SHOWN);
    let mut hits = Hits {
        runs,
        agents,
        calls: Vec::new(),
        looked_at: 0,
        oldest: None,
        is_cut: false,
    };
    let mut before = None;
    loop {
        let page = view.calls(&CallFilter {
            before,
            limit: CALLS_AT_ONCE,
            ..CallFilter::default()
        })?;
        before = page.next;
        for call in page.items {
            hits.looked_at += 1;
            hits.oldest = Some(call.started_at);
            if let Some(hit) = hit(&call, wanted) {
                hits.calls.push((call, hit));
            }
            if hits.calls.len() >= SHOWN {
                hits.is_cut = true;
                return Ok(hits);
            }
        }
        if before.is_none() || hits.looked_at >= CALLS_LOOKED_AT {
            hits.is_cut = before.is_some();
            return Ok(hits);
        }
    }
}

/// The first of what a call says of itself that holds the text. Runs and agents are found as such.
fn hit(call: &CallRow, wanted: &str) -> Option<Hit> {
    let label = |label: &Option<Label>| label.as_ref().map(ToString::to_string);
    let mut of: Vec<(&'static str, Option<String>)> = vec![
        ("error", call.error.clone()),
        ("model", label(&call.model)),
        ("model asked for", label(&call.request_model)),
        ("response id", label(&call.response_id)),
        ("user", label(&call.user)),
        ("variant", label(&call.variant)),
        ("upstream", Some(call.upstream.to_string())),
        ("path", Some(call.target.clone())),
        ("id", Some(call.id.to_string())),
    ];
    of.extend(
        call.tags
            .iter()
            .map(|(name, value)| ("tag", Some(format!("{name}={value}")))),
    );
    let found = of.into_iter().find_map(|(what, text)| {
        let text = text?;
        text.to_lowercase().contains(wanted).then_some((what, text))
    });
    found.map(|(what, text)| Hit { what, text })
}

fn page(here: &Here, asked: &str, shown: &Markup) -> Page {
    let main = html! {
        form.filters action="/search" method="get" {
            label { "Find " input type="search" name="q" size="40" maxlength=(LONGEST) value=[here.get("q")]; }
            button { "Search" }
        }
        @if asked.is_empty() {
            (empty("What are you looking for?", &html! {
                p { "The name of a run or an agent, a model, a user, a tag, an error, the id of a call or of an answer." }
            }))
        }
        (shown)
    };
    Page::fixed("Search", Place::Elsewhere, main)
}

fn show(hits: &Hits, asked: &str, desk: &Desk, here: &Here) -> Markup {
    let is_empty = hits.runs.items.is_empty() && hits.agents.is_empty() && hits.calls.is_empty();
    html! {
        @if is_empty {
            (empty("Nothing found", &html! {
                p { "Nothing here has " q { (text::name(asked)) } " in its name, its error or its id." }
            }))
        }
        @if !hits.runs.items.is_empty() {
            section {
                h2 { "Runs" }
                ul.plain { @for row in &hits.runs.items { li {
                    a href=(link::run(&row.run)) { (marked(row.run.as_str(), asked)) }
                    span.muted { " " (figure::count(row.totals.calls)) " calls, last active " (figure::time(row.last_at, &desk.zone)) }
                } } }
                @if hits.runs.next.is_some() {
                    p { a href=(link::to("/runs", [("text", asked), ("range", "all")])) { "All runs with this text" } }
                }
            }
        }
        @if !hits.agents.is_empty() {
            section {
                h2 { "Agents" }
                ul.plain { @for agent in &hits.agents { li {
                    a href=(here.at("/graph", [("range", "all"), ("agent", agent.as_str())])) { (marked(agent.as_str(), asked)) }
                } } }
            }
        }
        @if !hits.calls.is_empty() {
            section {
                h2 { "Calls" }
                ul.plain { @for (call, hit) in &hits.calls { li { (line(call, hit, asked, desk)) } } }
            }
        }
        p.muted { (how_far(hits, desk)) }
    }
}

fn line(call: &CallRow, hit: &Hit, asked: &str, desk: &Desk) -> Markup {
    html! {
        a href=(link::call(call.id)) { (figure::time(call.started_at, &desk.zone)) }
        " " (text::name(call.agent.as_str())) " "
        (figure::cost(call.cost_nano_usd.map(NanoUsd::new)))
        " " span.muted { (hit.what) ": " } (marked(&around(&hit.text, asked), asked))
    }
}

fn how_far(hits: &Hits, desk: &Desk) -> Markup {
    html! {
        @match hits.oldest {
            Some(oldest) if hits.is_cut => {
                "Looked at the newest " (figure::count(hits.looked_at as u64)) " calls, back to " (figure::time(oldest, &desk.zone)) "."
            },
            _ => { "Looked at all " (figure::count(hits.looked_at as u64)) " calls." },
        }
        @if hits.runs.partial { " Of the runs, the last active were looked at." }
    }
}

/// Of a long text the part around the hit.
fn around(text: &str, asked: &str) -> String {
    let hit = find(text, asked).map_or(0, |(start, _)| start);
    let start = text
        .get(..hit)
        .map_or(0, |front| front.chars().count())
        .saturating_sub(AROUND);
    let kept: String = text.chars().skip(start).take(3 * AROUND).collect();
    let (before, after) = (
        if start > 0 { "\u{2026}" } else { "" },
        if text.chars().count() > start + 3 * AROUND {
            "\u{2026}"
        } else {
            ""
        },
    );
    format!("{before}{kept}{after}")
}

/// The text with its first hit marked.
fn marked(text: &str, asked: &str) -> Markup {
    let parts = find(text, asked).and_then(|(start, end)| {
        Some((text.get(..start)?, text.get(start..end)?, text.get(end..)?))
    });
    html! {
        bdi {
            @match parts {
                Some((before, hit, after)) => { (text::shown(before)) mark { (text::shown(hit)) } (text::shown(after)) },
                None => (text::shown(text)),
            }
        }
    }
}

/// Where a text has another one in any case, in bytes. Lower case may be longer or shorter than
/// upper case, so it is gone through character by character.
fn find(text: &str, asked: &str) -> Option<(usize, usize)> {
    let wanted: Vec<char> = asked.to_lowercase().chars().collect();
    text.char_indices().find_map(|(start, _)| {
        let mut left = wanted.as_slice();
        for (at, c) in text.get(start..)?.char_indices() {
            for lower in c.to_lowercase() {
                let (first, rest) = left.split_first()?;
                if *first != lower {
                    return None;
                }
                left = rest;
            }
            if left.is_empty() {
                return Some((start, start + at + c.len_utf8()));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_marked_in_any_case_and_what_is_around_it_is_escaped() {
        let html = marked("<b>Night/1", "nIGHT").into_string();
        assert_eq!(html, "<bdi>&lt;b&gt;<mark>Night</mark>/1</bdi>");
        assert_eq!(
            find("\u{130}x", "X"),
            Some((2, 3)),
            "a letter that grows in lower case"
        );
        assert_eq!(find("abc", "abd"), None);
    }

    #[test]
    fn of_a_long_text_the_part_around_the_hit_is_shown() {
        let long = format!("{}needle{}", "a".repeat(1000), "b".repeat(1000));
        let shown = around(&long, "NEEDLE");
        assert!(shown.contains("aneedleb"), "{shown}");
        assert!(
            shown.chars().count() < 200
                && shown.starts_with('\u{2026}')
                && shown.ends_with('\u{2026}')
        );
        assert_eq!(around("short", "x"), "short");
    }
}
