//! Custom metrics: what is said of calls, runs and agents, taken in and told.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::asked::Asked;
use super::params::MetricParams;
use super::problem::Problem;
use super::records::Records;
use super::view::{MeasurementList, MetricList, Recorded};
use crate::budgets::Budgets;
use crate::budgets::ask::{Ask, Measured};
use crate::budgets::measured::NotCharged;
use crate::core::call::Admission;
use crate::core::id::{CallId, Label};
use crate::core::metric::{Measurement, Subject};
use crate::ledger::{Durable, IndexError, Ledger, Unavailable, measured_identity};

mod order;

use order::MeasurementOrder;

/// Where they are.
pub(super) const PATH: &str = "/api/v1/metrics";

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new()
        .routes(routes!(metrics))
        .routes(routes!(metric))
}

pub(super) fn deeds() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(measure))
}

/// What the custom metrics come to, by name
///
/// What is said of a call counts for its run and its agent too.
#[utoipa::path(
    get,
    path = "/api/v1/metrics",
    params(MetricParams),
    responses((status = 200, body = MetricList), (status = 400, body = Problem))
)]
async fn metrics(
    State(records): State<Records>,
    params: Result<Query<MetricParams>, QueryRejection>,
) -> Result<Json<MetricList>, Problem> {
    let filter = params?.0.filter(None, records.clock.now())?;
    let sums = records.ask(move |view| view.metrics(&filter)).await?;
    Ok(Json(sums.into()))
}

/// The measurements of one custom metric, newest first
#[utoipa::path(
    get,
    path = "/api/v1/metrics/{name}",
    params(("name" = String, Path), MetricParams),
    responses(
        (status = 200, body = MeasurementList),
        (status = 400, body = Problem),
        (status = 404, body = Problem)
    )
)]
async fn metric(
    State(records): State<Records>,
    name: Result<Path<String>, PathRejection>,
    params: Result<Query<MetricParams>, QueryRejection>,
) -> Result<Json<MeasurementList>, Problem> {
    let (Path(name), Query(params)) = (name?, params?);
    let filter = params.filter(Some(&name), records.clock.now())?;
    let page = records.ask(move |view| view.measurements(&filter)).await?;
    Ok(Json(MeasurementList {
        measurements: page.items.into_iter().map(Into::into).collect(),
        next: page.next,
        partial: page.partial,
    }))
}

/// Records what somebody measured of a call, a run or an agent; one object, or an array of up to 1000
///
/// It is on disk when this answers; where one of them is wrong, none is recorded. Of a call or a run
/// the same name by the same `who` (and `key`) takes the place of the one before; an agent has one at
/// each moment. A call must be recorded, a run or an agent need not be.
#[utoipa::path(
    post,
    path = "/api/v1/metrics",
    request_body = Vec<MeasurementOrder>,
    responses(
        (status = 200, body = Recorded),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 413, body = Problem),
        (status = 415, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn measure(
    State(state): State<AdminState>,
    asked: Result<Asked<serde_json::Value>, Problem>,
) -> Result<Json<Recorded>, Problem> {
    let recorded = take(&state, asked?.0).await?;
    Ok(Json(Recorded { recorded }))
}

/// Records what is asked for, all or none; says how many that are.
pub(crate) async fn take(state: &AdminState, asked: serde_json::Value) -> Result<u64, Problem> {
    let mut measurements = order::read(asked, state.clock.now())?;
    place(&state.records, &mut measurements).await?;
    record(state, measurements).await
}

/// Finds out whose the calls are.
async fn place(records: &Records, measurements: &mut [Measurement]) -> Result<(), Problem> {
    let call = |it: &Measurement| match it.subject {
        Subject::Call(id) => Some(id),
        Subject::Run(_) | Subject::Agent(_) => None,
    };
    let ids: Vec<Option<CallId>> = measurements.iter().map(call).collect();
    if ids.iter().all(Option::is_none) {
        return Ok(());
    }
    let wanted: Vec<CallId> = ids.iter().flatten().copied().collect();
    let rows = records.ask(move |view| view.rows_of(&wanted)).await?;
    let mut rows = rows.into_iter();
    let mut missing = Vec::new();
    for (n, (it, id)) in measurements.iter_mut().zip(ids).enumerate() {
        let Some(id) = id else { continue };
        match rows.next().flatten() {
            Some(row) => (it.run, it.agent) = (row.run, Some(row.agent)),
            None => missing.push(format!("[{n}]: no call {id} is recorded")),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Problem::not_found(order::listed(&missing)))
}

/// What was recorded, and what it took the place of.
type Told = (Measurement, Option<Measurement>);

/// Records them all, then tells those who watch.
async fn record(state: &AdminState, measurements: Vec<Measurement>) -> Result<u64, Problem> {
    // What one takes the place of must be known before the next one is.
    let turn = Arc::clone(&state.budgets.measuring).lock_owned().await;
    let (ledger, budgets) = (state.ledger.clone(), Arc::clone(&state.budgets));
    let write = move || {
        let mut written = Written::default();
        let done = write_all(&ledger, &budgets, measurements, &mut written);
        drop(turn);
        Ok((written, done))
    };
    let (Written { told, last }, done) = state.records.read(write).await?;
    // They are written in the order they came in.
    if let Some(last) = last {
        last.await;
    }
    // Whatever became of the others: what is sent again takes the place of these.
    for (measurement, before) in &told {
        state.metrics.measured(measurement, before.as_ref());
        state.alerts.measured(measurement, before.as_ref());
    }
    done?;
    if state.ledger.status().failing {
        return Err(Problem::unavailable(
            "the ledger cannot be written at the moment: they are recorded when it can; it does no \
             harm to send them again",
        ));
    }
    Ok(told.len() as u64)
}

#[derive(Default)]
struct Written {
    told: Vec<Told>,
    last: Option<Durable>,
}

fn write_all(
    ledger: &Ledger,
    budgets: &Budgets,
    measurements: Vec<Measurement>,
    written: &mut Written,
) -> Result<(), Problem> {
    let unreadable = |error: IndexError| {
        Problem::unavailable(format!("the ledger cannot be read at the moment: {error}"))
    };
    if !ledger.sync_index() {
        return Err(Problem::unavailable(
            "the ledger cannot be read to its end at the moment, so that nobody knows what these take \
             the place of: none was recorded",
        ));
    }
    let all = gathered(ledger, budgets, measurements).map_err(unreadable)?;
    let asked = all
        .iter()
        .map(|(it, before, whose)| (it, before.as_ref(), whose.measured()));
    let loaded = budgets.load_measured(asked).map_err(unreadable)?;
    let mut same: HashMap<u128, Measurement> = HashMap::new();
    let count = all.len();
    for (it, before, whose) in all {
        let id = measured_identity(&it);
        let before = same.remove(&id).or(before);
        let record = |it: Measurement| Ok((ledger.measured(it.clone())?, it));
        match budgets.charge_measured(it, before.as_ref(), &whose.measured(), record) {
            Ok((durable, it)) => {
                written.last = Some(durable);
                same.insert(id, it.clone());
                written.told.push((it, before));
            }
            Err(NotCharged::Unreadable(error)) => {
                return Err(not_all(written.told.len(), count, error));
            }
            Err(NotCharged::Unrecorded(error)) => {
                let error: Unavailable = error;
                return Err(not_all(written.told.len(), count, error));
            }
        }
    }
    drop(loaded);
    Ok(())
}

/// Whose a measurement is, as far as budgets ask.
struct Whose {
    admission: Option<Admission>,
    key: Option<Label>,
    run: Option<Label>,
    agent: Option<Label>,
}

impl Whose {
    fn of(it: &Measurement, admission: Option<Admission>) -> Self {
        let key = admission.as_ref().and_then(|it| it.key);
        Self {
            key: key.and_then(|key| Label::parse(&key.to_string()).ok()),
            admission,
            run: it.run().cloned(),
            agent: it.agent().cloned(),
        }
    }

    fn measured(&self) -> Measured<'_> {
        let call = self.admission.as_ref();
        Measured {
            call: call.map(|it| Ask::of(it, self.key.as_ref())),
            run: self.run.as_ref(),
            agent: self.agent.as_ref(),
        }
    }
}

/// What each takes the place of, and whose it is.
fn gathered(
    ledger: &Ledger,
    budgets: &Budgets,
    measurements: Vec<Measurement>,
) -> Result<Vec<(Measurement, Option<Measurement>, Whose)>, IndexError> {
    let befores = ledger.peek().measured_before(&measurements)?;
    let of = |(it, before): (Measurement, Option<Measurement>)| {
        let call = match &it.subject {
            Subject::Call(id) if budgets.count_metric(&it.name) => ledger.peek().call(*id)?,
            _ => None,
        };
        let whose = Whose::of(&it, call.and_then(|call| call.admission));
        Ok((it, before, whose))
    };
    measurements.into_iter().zip(befores).map(of).collect()
}

fn not_all(recorded: usize, all: usize, error: impl Display) -> Problem {
    Problem::unavailable(format!(
        "{recorded} of {all} were recorded, the others cannot be: {error}; it does no harm to send \
         all again"
    ))
}
