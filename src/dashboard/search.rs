//! What a text is found in.

use axum::Router;
use maud::html;

use super::desk::Desk;
use super::here::Here;
use super::page::{Page, Place};
use super::{Answer, view};

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/search", view(page))
}

async fn page(_: Desk, _: Here) -> Answer {
    Ok(Page::fixed("search", Place::Elsewhere, html! {}))
}
