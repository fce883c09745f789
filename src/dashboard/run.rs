//! One run: its calls over time, its agents, what was said.

use axum::Router;
use maud::html;

use super::desk::Desk;
use super::here::Here;
use super::page::{Page, Place};
use super::{Answer, view};

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/runs/{run}", view(page))
}

async fn page(_: Desk, _: Here) -> Answer {
    Ok(Page::fixed("run", Place::Elsewhere, html! {}))
}
