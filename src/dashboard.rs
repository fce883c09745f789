//! The pages of the admin listener: what a person sees of calls, runs, money and loops.
//!
//! Every view is a URL, is drawn on the server, and works without a script. A page is made by one
//! function from `Desk` and `Here`; `frame` puts the same things around each, answers
//! `?export=` with one of its tables, and `live` tells an open page when to look again. Texts of
//! models and clients are shown as text: maud escapes them, and nothing here gets around that.

mod alerts;
mod assets;
mod budgets;
mod call;
mod chart;
mod compare;
mod deeds;
mod desk;
mod differs;
mod export;
mod figure;
mod frame;
mod graph;
mod here;
mod instances;
mod link;
mod live;
mod loops;
mod measured;
mod near;
mod overview;
mod page;
mod range;
mod run;
mod runs;
mod said;
mod search;
mod sinks;
mod suggestions;
mod table;
mod text;
mod theme;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, get};

use self::desk::Desk;
use self::here::Here;
use self::page::Page;
use crate::admin::problem::Problem;
use crate::admin::{self, AdminState};

/// Everything the admin listener answers: its API and the pages, guarded.
pub fn site(state: &AdminState) -> Router {
    admin::router(state.clone(), pages(state)).layer(from_fn(frame::for_people))
}

/// The pages over what `state` shows, unguarded: [`site`] guards them.
fn pages(state: &AdminState) -> Router {
    Router::new()
        .route("/live", get(live::ticks))
        .route("/theme", get(theme::set))
        .merge(assets::routes())
        .merge(overview::routes())
        .merge(graph::routes())
        .merge(runs::routes())
        .merge(run::routes())
        .merge(call::routes())
        .merge(search::routes())
        .merge(budgets::routes())
        .merge(loops::routes())
        .merge(compare::routes())
        .merge(suggestions::routes())
        .merge(alerts::routes())
        .merge(deeds::routes())
        .with_state(Desk::new(state.clone()))
}

/// A page, or why there is none.
type Answer = Result<Page, Problem>;

/// Answers GET with the page that `draw` makes, framed.
fn view<F, Fut>(draw: F) -> MethodRouter<Desk>
where
    F: Fn(Desk, Here) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send,
{
    get(move |State(desk): State<Desk>, here: Here| async move {
        let begun = tokio::time::Instant::now();
        let answer = match here.check() {
            Ok(()) => draw(desk.clone(), here.clone()).await,
            Err(problem) => Err(problem),
        };
        desk.look_around().await;
        desk.drawn_in(begun.elapsed());
        frame::respond(&desk, &here, answer)
    })
}

#[cfg(test)]
mod tests;
