//! The list of runs.

use axum::Router;
use maud::html;

use super::desk::Desk;
use super::here::Here;
use super::page::{Page, Place};
use super::{Answer, view};

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/runs", view(page))
}

async fn page(_: Desk, _: Here) -> Answer {
    Ok(Page::fixed("runs", Place::Runs, html! {}))
}
