//! The second listener: health, metrics, the JSON API over the ledger, and the budgets.
//!
//! It shares nothing with the proxy listener but the state handed in. Whatever is asked with GET
//! changes nothing; all that changes something is a POST in `admin/budgets.rs`, and does so through the
//! engine, which records it. [`records()`] is the part that needs no running proxy: the command
//! line uses it too.

mod access;
pub mod alerts;
mod asked;
mod body;
pub(crate) mod budgets;
mod calls;
pub mod compare;
mod connections;
mod events;
pub mod export;
mod guard;
pub mod instances;
mod login;
pub(crate) mod loops;
pub(crate) mod metrics;
pub(crate) mod order;
pub mod params;
pub mod problem;
mod process;
pub mod records;
mod runs;
mod scrape;
mod series;
pub mod sinks;
pub mod step;
pub mod suggestions;
mod totals;
pub mod view;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use axum::Router;
use axum::middleware::from_fn_with_state;
use http::{Method, Uri};
use tokio::net::TcpListener;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;

pub use self::access::Access;
use self::access::Schemes;
pub(crate) use self::access::cookies;
pub(crate) use self::asked::Form;
use self::budgets::Desk;
use self::connections::Bounds;
pub(crate) use self::login::own_path;
use self::problem::Problem;
pub use self::records::{Records, Source};
use crate::alerts::Alerts;
use crate::budgets::Budgets;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::space::Space;
use crate::core::time::Timestamp;
use crate::ledger::Ledger;
use crate::loops::Loops;
use crate::metrics::Metrics;
use crate::sinks::Sinks;

/// What the listener shows. Cheap to clone.
#[derive(Clone)]
pub struct AdminState {
    pub ledger: Ledger,
    pub metrics: Arc<Metrics>,
    pub config: Arc<ArcSwap<Config>>,
    /// Taken by bodies of running calls.
    pub memory: Arc<Space>,
    pub budgets: Arc<Budgets>,
    pub loops: Arc<Loops>,
    /// What the ledger is asked through, few at a time.
    pub records: Records,
    pub access: Arc<Access>,
    pub alerts: Arc<Alerts>,
    pub sinks: Arc<Sinks>,
    /// Set once the process has been told to end.
    pub draining: Arc<AtomicBool>,
    pub started_at: Timestamp,
    pub clock: Clock,
}

impl AdminState {
    /// A number that changes whenever something was recorded, the ledger or its index begins or
    /// ends to fail, or a loop opens or closes.
    pub fn happened(&self) -> u64 {
        let health = self.ledger.health();
        let (open, _) = self.loops.latest_trips(0);
        let open = u64::try_from(open).unwrap_or(u64::MAX);
        self.ledger.written() ^ (health << 62) ^ open.rotate_right(8)
    }
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Open-AIOps admin API",
    description = "Answers about recorded calls and the running proxy, and what operators do to \
                   budgets and runs. GET changes nothing; every POST takes JSON, said to be \
                   `application/json`, and is recorded as an event. Where `[admin] token_env` \
                   names a token, it is needed as `Authorization: Bearer <token>`, or the cookie \
                   of a session that began at `/login`; what comes without is answered 401."
    ),
    modifiers(&Schemes),
    security((), ("token" = []), ("session" = []))
)]
struct Description;

/// Answers with `router` until `shutdown` resolves and running answers have gone out.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    connections::serve(listener, router, Bounds::default(), shutdown).await;
}

/// Everything the listener answers, `pages` for people among it, guarded.
pub fn router(state: AdminState, pages: Router) -> Router {
    let records = state.records.clone();
    let desk = Desk::new(Arc::clone(&state.budgets), records.clone());
    Router::from(
        process::routes()
            .merge(metrics::deeds())
            .merge(sinks::routes())
            .merge(instances::routes()),
    )
    .with_state(state.clone())
    .merge(Router::from(record_routes()).with_state(records))
    .merge(Router::from(budgets::routes().merge(runs::routes())).with_state(desk))
    .merge(Router::from(loops::deeds()).with_state(Arc::clone(&state.loops)))
    .merge(pages)
    .merge(login::routes().with_state(state.clone()))
    .merge(Router::from(alerts::deeds()).with_state(Arc::clone(&state.alerts)))
    .fallback(no_such_path)
    .method_not_allowed_fallback(not_allowed)
    .layer(from_fn_with_state(state.clone(), access::gate))
    .layer(from_fn_with_state(state, guard::guard))
}

/// The part that answers from the ledger alone, unguarded: for use within the process.
pub fn records(source: Source, clock: Clock) -> Router {
    Router::from(record_routes()).with_state(Records::new(source, clock, (None, None)))
}

/// The same, by a configuration.
pub fn configured_records(source: Source, clock: Clock, config: Config) -> Router {
    let records = Records::new(source, clock, (None, None));
    let config = Arc::new(ArcSwap::from_pointee(config));
    Router::from(record_routes()).with_state(records.configured(config))
}

/// What [`router`] answers, as an `OpenAPI` document.
pub fn document() -> Document {
    let mut document = Description::openapi();
    document.merge(
        process::routes()
            .merge(metrics::deeds())
            .merge(sinks::routes())
            .merge(instances::routes())
            .into_openapi(),
    );
    document.merge(record_routes().into_openapi());
    document.merge(budgets::routes().into_openapi());
    document.merge(runs::routes().into_openapi());
    document.merge(loops::deeds().into_openapi());
    document.merge(alerts::deeds().into_openapi());
    document
}

fn record_routes() -> OpenApiRouter<Records> {
    calls::routes()
        .merge(step::routes())
        .merge(totals::routes())
        .merge(series::routes())
        .merge(events::routes())
        .merge(loops::routes())
        .merge(alerts::routes())
        .merge(metrics::routes())
        .merge(compare::routes())
        .merge(export::routes())
        .merge(suggestions::routes())
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::not_found(format!(
        "there is no {}; see /api/v1/openapi.json",
        uri.path()
    ))
}

async fn not_allowed(method: Method, uri: Uri) -> Problem {
    let path = uri.path();
    Problem::method_not_allowed(
        if budgets::is_deed(path)
            || loops::is_deed(path)
            || alerts::is_deed(path)
            || login::is_deed(path)
        {
            format!("{path} does something: use POST, not {method}")
        } else {
            format!("{path} can only be read: use GET, not {method}")
        },
    )
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
