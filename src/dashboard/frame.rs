//! What stands around every page: navigation, range, search, theme, and the banners that must not
//! be overlooked.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, html};

use super::Answer;
use super::assets::{ICON, SCRIPT, STYLE};
use super::deeds;
use super::desk::Desk;
use super::figure;
use super::here::Here;
use super::link;
use super::page::{Page, Place, empty, part};
use super::range;
use super::text;
use super::theme::Theme;
use crate::admin::problem::Problem;
use crate::core::loops::refusal::summary;

const PROBLEM: &str = "application/problem+json";
/// Of a problem that we wrote ourselves.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// The page, framed, or one of its tables as a file.
pub(super) fn respond(desk: &Desk, here: &Here, answer: Answer) -> Response {
    let (status, page) = match answer {
        Ok(page) => match &here.export {
            Some(export) => {
                let file = export.answer(&page.tables);
                return file.unwrap_or_else(IntoResponse::into_response);
            }
            None => (page.status, page),
        },
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status);
            (
                status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                sorry(&problem),
            )
        }
    };
    (status, Html(framed(desk, here, &page).into_string())).into_response()
}

/// Problems of what is no page, as a page for who reads pages: without anything that only those may
/// see who are let in.
pub(super) async fn for_people(request: Request, next: Next) -> Response {
    let is_wanted = reads_pages(request.headers()) && !request.uri().path().starts_with("/api/");
    let response = next.run(request).await;
    let media_type = response.headers().get(header::CONTENT_TYPE);
    if !is_wanted || media_type.is_none_or(|media_type| media_type != PROBLEM) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, MAX_PROBLEM_BYTES).await.unwrap_or_default();
    let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
        return (parts, body).into_response();
    };
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    parts.headers.insert(header::CONTENT_TYPE, html);
    parts.headers.remove(header::CONTENT_LENGTH);
    (parts, bare(&problem).into_string()).into_response()
}

fn reads_pages(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted.filter_map(|accepted| accepted.to_str().ok());
    accepted.any(|accepted| accepted.contains("text/html"))
}

fn bare(problem: &Problem) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (problem.title) " - Open-AIOps" }
                link rel="icon" href=(ICON.path) type="image/svg+xml";
                link rel="stylesheet" href=(STYLE.path);
            }
            body {
                header.top { a.brand href="/" { img src=(ICON.path) alt="" width="20" height="20"; "Open-AIOps" } }
                main { h1 { (problem.title) } p.prose { (text::shown(&problem.detail)) } p { a href="/" { "To the overview" } } }
            }
        }
    }
}

fn sorry(problem: &Problem) -> Page {
    let advice =
        html! { p { (text::shown(&problem.detail)) } p { a href="/" { "To the overview" } } };
    Page::fixed(
        &problem.title,
        Place::Elsewhere,
        empty(&problem.title, &advice),
    )
}

fn framed(desk: &Desk, here: &Here, page: &Page) -> Markup {
    let theme: &'static str = here.theme.into();
    html! {
        (DOCTYPE)
        html lang="en" data-theme=(theme) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (text::plain(&page.title)) " - Open-AIOps" }
                link rel="icon" href=(ICON.path) type="image/svg+xml";
                link rel="stylesheet" href=(STYLE.path);
                script type="module" src=(SCRIPT.path) {}
            }
            body data-snapshot=(here.snapshot) data-live=[page.live.then_some("")] {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    a.brand href="/" { img src=(ICON.path) alt="" width="20" height="20"; "Open-AIOps" }
                    (navigation(here, page.place))
                    (tools(desk, here, page))
                }
                (banners(desk, here))
                main id="main" tabindex="-1" {
                    div.head { h1 { (text::name(&page.title)) } @if page.ranged { (range::picker(here)) } }
                    (deeds::note(desk, here))
                    (page.main)
                }
                (foot(desk, here))
                (keys())
            }
        }
    }
}

fn navigation(here: &Here, place: Place) -> Markup {
    html! {
        nav.places aria-label="Pages" {
            @for (other, name, path) in Place::ALL {
                a href=(here.at(path, [])) aria-current=[(other == place).then_some("page")] { (name) }
            }
        }
    }
}

fn tools(desk: &Desk, here: &Here, page: &Page) -> Markup {
    let theme: &'static str = here.theme.next().into();
    let back = here.with(&[]);
    let word = match here.theme {
        Theme::Auto => "Theme: as the system",
        Theme::Light => "Theme: light",
        Theme::Dark => "Theme: dark",
    };
    html! {
        div.tools {
            form.search role="search" action="/search" method="get" {
                input type="search" name="q" placeholder="Search" aria-label="Search calls and runs" value=[here.get("q")];
            }
            @if page.live {
                button.pause type="button" data-pause hidden title="Pause and go on (p)" { "Live" }
            }
            a.theme href=(link::to("/theme", [("to", theme), ("back", back.as_str())])) title=(word) aria-label=(word) { span.theme-mark {} }
            @if desk.state.config.load().admin.token.is_some() {
                form method="post" action="/logout" { button { "Log out" } }
            }
        }
    }
}

/// What is wrong right now, on every page.
fn banners(desk: &Desk, here: &Here) -> Markup {
    let status = desk.state.ledger.status();
    let (open, latest) = desk.state.loops.latest_trips(1);
    let content = html! {
        @if let Some(trip) = latest.first() {
            div.banner.bad role="status" {
                strong { @if open == 1 { "1 loop is stopped" } @else { (figure::count(open as u64)) " loops are stopped" } }
                ": " (text::shown(&summary(&trip.evidence)))
                @if let Some(run) = &trip.run { ", run " (text::name(run.as_str())) }
                "; " (figure::count(u64::from(trip.refused)))
                @if trip.refused == 1 { " call refused " } @else { " calls refused " }
                a href=(here.at("/loops", [])) { "Look" }
            }
        }
        (desk.near.banner(here))
        @if status.failing || status.index_failing {
            div.banner.bad role="status" {
                strong { "The ledger is in trouble" } " "
                (status.last_error.as_deref().unwrap_or("records cannot be written")) " "
                a href=(here.at("/alerts", [])) { "Alerts" }
            }
        }
        @if status.dropped_records > 0 {
            div.banner.warn role="status" {
                strong { (figure::count(status.dropped_records)) " records were lost" }
                " since the start, because the ledger could not take them"
            }
        }
    };
    part("banners", &content)
}

fn foot(desk: &Desk, here: &Here) -> Markup {
    html! {
        footer {
            div id="drawn" data-part { "As of " (figure::time(here.now, &desk.zone)) " " (zone(desk, here)) }
            div { button.quiet type="button" data-keys hidden { "Keys" } " " a href="/api/v1/openapi.json" { "API" } " " a href="/metrics" { "Metrics" } " " (crate::core::build::DESCRIPTION) }
        }
    }
}

fn zone(desk: &Desk, here: &Here) -> String {
    figure::local(here.now, &desk.zone, "%Z")
}

/// The help of the keys; the script opens it.
fn keys() -> Markup {
    const KEYS: [(&str, &str); 7] = [
        ("j k", "next and previous row"),
        ("o, Enter", "open the row"),
        ("[ ]", "previous and next of the same agent"),
        ("/", "search"),
        ("p", "pause and go on"),
        (
            "g then o g r b l a",
            "overview, graph, runs, budgets, loops, alerts",
        ),
        ("?", "this list"),
    ];
    html! {
        dialog id="keys" aria-labelledby="keys-head" {
            h2 id="keys-head" { "Keys" }
            dl { @for (key, what) in KEYS { dt { kbd { (key) } } dd { (what) } } }
            p { label { input type="checkbox" id="keys-off"; " switch them off in this browser" } }
            form method="dialog" { button { "Close" } }
        }
    }
}
