//! One call: what was sent and answered, what it used, how it was decided.

use axum::Router;
use maud::html;

use super::desk::Desk;
use super::here::Here;
use super::page::{Page, Place};
use super::{Answer, view};

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/calls/{id}", view(page))
}

async fn page(_: Desk, _: Here) -> Answer {
    Ok(Page::fixed("call", Place::Elsewhere, html! {}))
}
