//! What somebody should know of.

use axum::Router;
use maud::html;

use super::desk::Desk;
use super::here::Here;
use super::page::{Page, Place};
use super::{Answer, view};

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/alerts", view(page))
}

async fn page(_: Desk, _: Here) -> Answer {
    Ok(Page::fixed("alerts", Place::Alerts, html! {}))
}
