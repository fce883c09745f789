//! What is seen at one moment, and what is done: questions and orders to the running server.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::source::{self, Source};
use super::super::{Failure, budgets, operate};
use super::screen::View;
use crate::admin::params::{BudgetParams, CallParams, Limit, SpanParams};
use crate::admin::view::{
    AgentList, AgentView, BudgetList, BudgetView, CallList, CallView, LoopList, LoopView,
    RunControlled, RunDetail, RunList, RunView, Status,
};
use crate::core::id::Label;

/// Rows of a list that are asked for: more than a screen has.
const ROWS: &str = "200";
/// Of each budget those closest to their limits: runs that are not among them have much left.
const MOST_ACCOUNTS: &str = "1000";
const LATEST_CALLS: &str = "60";

/// Everything that one frame shows.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    /// What it was asked for.
    pub(super) view: View,
    pub(super) status: Status,
    pub(super) runs: Vec<RunView>,
    pub(super) agents: Vec<AgentView>,
    pub(super) budgets: Vec<BudgetView>,
    pub(super) loops: Vec<LoopView>,
    /// Of the view of one run: none where it is not recorded.
    pub(super) run: Option<RunDetail>,
    pub(super) calls: Vec<CallView>,
}

/// Asks what `view` shows, and no more.
pub(super) async fn take(server: &Source, view: &View) -> Result<Shot, Failure> {
    let status: Status = get(server, "/api/v1/status").await?;
    let fullest = BudgetParams {
        limit: MOST_ACCOUNTS.parse().ok(),
        ..BudgetParams::default()
    };
    let budgets: BudgetList = ask(server, "/api/v1/budgets", &fullest).await?;
    let loops: LoopList = ask(server, "/api/v1/loops", &latest()).await?;
    let runs: RunList = ask(server, "/api/v1/runs", &latest()).await?;
    let mut shot = Shot {
        view: view.clone(),
        status,
        runs: runs.runs,
        agents: Vec::new(),
        budgets: budgets.budgets,
        loops: loops.loops,
        run: None,
        calls: Vec::new(),
    };
    match view {
        View::Agents => {
            let agents: AgentList = ask(server, "/api/v1/agents", &latest()).await?;
            shot.agents = agents.agents;
        }
        View::Run(run) => {
            let found = server.get(&format!("/api/v1/runs/{}", encode(run))).await?;
            shot.run = found.map(|body| source::parse(&body)).transpose()?;
            let params = CallParams {
                run: Some(run.clone()),
                limit: LATEST_CALLS.parse().ok(),
                ..CallParams::default()
            };
            let calls: CallList = ask(server, "/api/v1/calls", &params).await?;
            shot.calls = calls.calls;
        }
        View::Runs | View::Budgets | View::Loops => {}
    }
    Ok(shot)
}

fn latest() -> SpanParams {
    SpanParams {
        limit: ROWS.parse::<Limit>().ok(),
        ..SpanParams::default()
    }
}

async fn get<T: DeserializeOwned>(server: &Source, path: &str) -> Result<T, Failure> {
    ask(server, path, &()).await
}

async fn ask<T: DeserializeOwned>(
    server: &Source,
    path: &str,
    params: &impl Serialize,
) -> Result<T, Failure> {
    source::parse(&server.ask(path, params).await?)
}

/// What is done to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deed {
    pub(super) kind: Kind,
    pub(super) run: Label,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pause,
    Resume,
    Stop,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop => "stop",
        }
    }
}

/// Does it; says what came of it.
pub(super) async fn act(server: &Source, deed: &Deed) -> Result<String, Failure> {
    let path = format!("/api/v1/runs/{}/{}", encode(&deed.run), deed.kind.word());
    let body = server.post(&path, &operate::order_by([])).await?;
    let done: RunControlled = source::parse(&body)?;
    Ok(budgets::controlled(&done))
}

fn encode(run: &Label) -> String {
    utf8_percent_encode(run.as_str(), NON_ALPHANUMERIC).to_string()
}
