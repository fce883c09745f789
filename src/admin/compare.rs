//! Two groups of runs side by side.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use clap::Args;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::When;
use super::problem::Problem;
use super::records::Records;
use super::step::departure;
use crate::core::compare::{
    By, Compared, Comparison, Departure, FEW, FirstDifference, Success, Verdict, What,
};
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::{BodyReader, CompareFilter, Gathered, IndexError, View};

/// Calls of two runs that are read to tell times and identifiers from what differs; those after them
/// are taken to differ where their bytes do.
const MAX_PAIRS_READ: usize = 200;

/// A run that did something within this may still go on.
const FRESH_US: i64 = 5 * 60 * 1_000_000;

pub(super) fn routes() -> OpenApiRouter<Records> {
    OpenApiRouter::new().routes(routes!(compare))
}

/// Which runs, what tells them apart, and which two groups of them.
#[derive(Args, Clone, Debug, Default, Deserialize, IntoParams, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CompareParams {
    /// One side: a variant, a run, ... as --by says; a span such as 2026-11-01..2026-11-08 with
    /// --by time. The sides with the most runs when not given
    #[arg(value_name = "A")]
    pub a: Option<String>,
    /// The other side
    #[arg(value_name = "B")]
    pub b: Option<String>,
    /// What tells the sides apart: variant, `tag.<name>`, user, agent, model, upstream, run or time;
    /// run when both sides are given without it, else variant
    #[arg(long, value_name = "WHAT")]
    #[param(value_type = Option<String>, example = "variant")]
    pub by: Option<By>,
    /// Only runs that began from this time on: 1h, 7d (that long ago), 2026-11-01. Not of two runs, nor
    /// of two spans
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>, example = "7d")]
    pub since: Option<When>,
    /// Only runs that began before this time; likewise
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>)]
    pub until: Option<When>,
    /// Only what this agent did in each run
    #[arg(long)]
    pub agent: Option<Label>,
    /// When a run is a success: outcome (its last call completed, and neither a breaker nor an operator
    /// stopped it), or the mean of a custom metric, such as metric:score>=0.5
    #[arg(long, value_name = "RULE")]
    #[param(value_type = Option<String>, example = "metric:score>=0.5")]
    pub success: Option<Success>,
    /// Compare this custom metric, too: its mean in each run, yes as 1 and no as 0
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
}

/// A comparison that can be carried out.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    filter: CompareFilter,
    a: Option<String>,
    b: Option<String>,
    success: Success,
    metrics: Vec<String>,
}

impl CompareParams {
    /// By what, where nobody says: two names alone are runs.
    pub(crate) fn by(&self) -> By {
        let two = self.a.is_some() && self.b.is_some();
        let default = if two { By::Run } else { By::Variant };
        self.by.clone().unwrap_or(default)
    }

    /// Reads what is asked for.
    pub(crate) fn ask(self, now: Timestamp) -> Result<Ask, Problem> {
        let by = self.by();
        let (since, until) = super::params::span(self.since.as_ref(), self.until.as_ref(), now)?;
        if matches!(by, By::Run | By::Time) && (since.is_some() || until.is_some()) {
            return Err(Problem::bad_request(format!(
                "query parameters: since, until: expected neither by {by}: the two sides say what is compared"
            )));
        }
        let success = self.success.unwrap_or_default();
        let metric = self.metric.map(|name| name.to_ascii_lowercase());
        let metrics: Vec<String> = metric.into_iter().collect();
        let needed = success.metric().map(str::to_owned);
        let mut wanted = metrics.clone();
        wanted.extend(needed.filter(|name| !metrics.contains(name)));
        let mut filter = CompareFilter {
            since,
            until,
            agent: self.agent,
            metrics: wanted,
            fresh_since: Some(Timestamp::from_micros(
                now.micros().saturating_sub(FRESH_US),
            )),
            ..CompareFilter::default()
        };
        let names = (self.a.as_deref(), self.b.as_deref());
        match by {
            By::Run => {
                let (a, b) = both(&by, names)?;
                filter.runs = vec![run("a", &a)?, run("b", &b)?];
            }
            By::Time => {
                let (a, b) = both(&by, names)?;
                filter.times = apart(times("a", &a, now)?, times("b", &b, now)?)?;
            }
            _ => {}
        }
        filter.by = by;
        Ok(Ask {
            filter,
            a: self.a,
            b: self.b,
            success,
            metrics,
        })
    }
}

/// Both names, which those who compare runs or spans must give.
fn both(by: &By, (a, b): (Option<&str>, Option<&str>)) -> Result<(String, String), Problem> {
    let what = match by {
        By::Time => "two spans, such as 2026-11-01..2026-11-08",
        _ => "the names of two runs",
    };
    let both = a.zip(b).map(|(a, b)| (a.to_owned(), b.to_owned()));
    both.ok_or_else(|| {
        Problem::bad_request(format!("query parameters: by={by} needs a and b: {what}"))
    })
}

fn run(name: &str, text: &str) -> Result<Label, Problem> {
    Label::parse(text).map_err(|error| Problem::bad_request(format!("{name}: the run {error}")))
}

type Span = (String, Timestamp, Timestamp);

fn apart(a: Span, b: Span) -> Result<Vec<Span>, Problem> {
    if a.1 < b.2 && b.1 < a.2 {
        return Err(Problem::bad_request(format!(
            "query parameters: a: {} and b: {} overlap: a run would be on both sides",
            a.0, b.0
        )));
    }
    Ok(vec![a, b])
}

/// `2026-11-01..2026-11-08`, `14d..7d`, `7d..`
fn times(name: &str, text: &str, now: Timestamp) -> Result<Span, Problem> {
    let wrong = |why: String| Problem::bad_request(format!("query parameters: {name}: {why}"));
    let (from, until) = text.split_once("..").ok_or_else(|| {
        wrong(format!(
            "found `{text}`, expected a span, such as 2026-11-01..2026-11-08 or 14d..7d"
        ))
    })?;
    let read = |text: &str| {
        let when: When = text
            .parse()
            .map_err(|error: super::params::WhenError| wrong(error.to_string()))?;
        Ok::<_, Problem>(when.before(now))
    };
    let from = read(from)?;
    let until = if until.is_empty() { now } else { read(until)? };
    if from >= until {
        return Err(wrong(format!("{from} is not before {until}")));
    }
    Ok((text.to_owned(), from, until))
}

impl Ask {
    /// Of runs that began in this span, unless it compares spans or two runs.
    pub(crate) fn within(mut self, since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        if !matches!(self.filter.by, By::Time | By::Run) {
            (self.filter.since, self.filter.until) = (since, until);
        }
        self
    }

    /// Carries it out. Takes up to seconds where there are very many runs.
    pub(crate) fn answer(&self, view: &View) -> Result<Comparison, IndexError> {
        let gathered = view.gather(&self.filter)?;
        let chosen = (self.a.as_deref(), self.b.as_deref());
        let how = (&self.success, self.metrics.as_slice());
        let mut told = Comparison::new(self.filter.by.to_string(), &gathered.runs, chosen, how);
        told.left_out = gathered.left_out;
        if gathered.partial {
            told = told.of_the_newest();
        }
        told.notes = notes(&told, &gathered);
        if let [a, b] = self.filter.runs.as_slice() {
            told.first_difference = parting(view, (a, b))?;
        }
        Ok(told)
    }

    /// Says which of two runs is not there.
    pub(crate) fn check(&self, told: &Comparison) -> Result<(), Problem> {
        if self.filter.by != By::Run {
            return Ok(());
        }
        let missing = [&told.a, &told.b].into_iter().flatten();
        let missing = missing.into_iter().find(|arm| arm.runs == 0);
        missing.map_or(Ok(()), |arm| {
            Err(Problem::not_found(format!(
                "no run {} with calls is recorded: the name may be wrong, or its records are not kept \
                 any more",
                arm.name
            )))
        })
    }
}

/// Where two runs part, with what they say there.
fn parting(view: &View, runs: (&Label, &Label)) -> Result<Option<FirstDifference>, IndexError> {
    let (mut bodies, mut read) = (BodyReader::new(view), 0);
    view.part(runs, |one, other| {
        read += 1;
        if read > MAX_PAIRS_READ {
            return Ok(Some(Departure::of(What::Unread, "", "")));
        }
        match (view.call(one.id)?, view.call(other.id)?) {
            (Some(one), Some(other)) => departure((&one, &other), &mut bodies),
            _ => Ok(Some(Departure::of(What::Request, "", ""))),
        }
    })
}

fn notes(told: &Comparison, gathered: &Gathered) -> Vec<String> {
    let left = gathered.left_out;
    let mut notes = Vec::new();
    let mut say = |count: u64, one: &str, many: &str| {
        if count > 0 {
            let what = if count == 1 { one } else { many };
            notes.push(format!("{count} {what}"));
        }
    };
    let is_single = told.by == "run";
    say(
        left.mixed,
        "run is of more than one arm and left out.",
        "runs are of more than one arm and left out.",
    );
    if is_single {
        say(
            left.running,
            "run has calls that are open: its figures will change.",
            "runs have calls that are open: their figures will change.",
        );
        say(
            left.incomplete,
            "run is not recorded as a whole any more.",
            "runs are not recorded as a whole any more.",
        );
    } else {
        say(left.unnamed, "run is in no arm.", "runs are in no arm.");
        say(
            left.running,
            "run has open calls and is left out until they end.",
            "runs have open calls and are left out until they end.",
        );
        say(
            left.incomplete,
            "run is not recorded as a whole any more and left out.",
            "runs are not recorded as a whole any more and left out.",
        );
    }
    say(
        left.absent,
        "run has no call of the agent and is left out.",
        "runs have no call of the agent and are left out.",
    );
    say(
        gathered.unpriced,
        "run has calls whose price is not known: its cost is not compared.",
        "runs have calls whose price is not known: their cost is not compared.",
    );
    say(
        gathered.fresh,
        "run was active in the last 5 minutes: if it goes on, its figures change.",
        "runs were active in the last 5 minutes: if they go on, their figures change.",
    );
    if gathered.partial {
        notes.push(
            "There are more runs, calls or measurements than are read: these are the newest."
                .to_owned(),
        );
    }
    cautions(told, &mut notes);
    notes
}

/// What a reader might take the figures for and they are not.
fn cautions(told: &Comparison, notes: &mut Vec<String>) {
    let (Some(a), Some(b)) = (&told.a, &told.b) else {
        return;
    };
    for it in &told.measures {
        let is_said = it.key == "success_rate" || it.key.starts_with("metric.");
        if is_said && (it.a.n < a.runs || it.b.n < b.runs) && told.by != "run" {
            notes.push(format!(
                "{}: {} of {} and {} of {} runs say it. Those that do not may be others than those that do.",
                it.title, it.a.n, a.runs, it.b.n, b.runs
            ));
        }
    }
    if told.by != "run" && told.agents.len() > 1 {
        notes.push(
            "Of single agents nothing is concluded: of so many intervals some miss zero by chance."
                .to_owned(),
        );
    }
    if told.by == "agent" {
        notes.push(
            "Agents that work in the same runs hang together, and the intervals take them as if they did \
             not."
                .to_owned(),
        );
    }
    let tested = told.measures.iter().filter(|it| it.p_corrected.is_some());
    let tested = tested.count();
    if tested > 0 {
        notes.push(format!(
            "Each interval is of 95 % for its figure alone. A difference is called one only where it \
             also stands after a correction for the {tested} figures looked at (Holm, 5 %), with at \
             least {FEW} runs of each."
        ));
    }
    let differs = |it: &Compared| matches!(it.verdict, Verdict::Lower | Verdict::Higher);
    if told.measures.iter().any(differs) {
        notes.push(
            "That they differ does not say why: the tasks may have been others, or the time of day."
                .to_owned(),
        );
    }
}

/// Two groups of runs side by side: figures, differences, 95 % intervals, and what they allow to say
///
/// The unit is the run: those that began in the span and have no open call, up to the newest 10,000 runs and
/// 100,000 calls and as many measurements. Figures are means over runs, or ratios of sums. Intervals of the difference are bias-corrected
/// bootstrap intervals, of shares of runs score intervals (Newcombe); the same for the same data.
/// Runs whose calls name more than one arm are left out and counted; by agent, each run has a part in
/// the arm of each of its agents. Refused calls are no calls and in no figure but that of the runs that
/// a breaker stopped: a loop was stopped, or a budget or a limit refused a call for good.
#[utoipa::path(
    get,
    path = "/api/v1/compare",
    params(CompareParams),
    responses(
        (status = 200, body = Comparison),
        (status = 400, body = Problem),
        (status = 404, body = Problem)
    )
)]
async fn compare(
    State(records): State<Records>,
    params: Result<Query<CompareParams>, QueryRejection>,
) -> Result<Json<Comparison>, Problem> {
    let Query(params) = params?;
    let ask = params.ask(records.clock.now())?;
    let asked = ask.clone();
    let told = records.ask(move |view| asked.answer(view)).await?;
    ask.check(&told)?;
    Ok(Json(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_793_536_205_000_000);

    fn ask(query: &str) -> Result<Ask, Problem> {
        let params: CompareParams = serde_urlencoded::from_str(query).unwrap();
        params.ask(NOW)
    }

    #[test]
    fn two_names_alone_are_runs_and_nothing_is_variants() {
        assert_eq!(ask("a=x&b=y").unwrap().filter.by, By::Run);
        assert_eq!(ask("").unwrap().filter.by, By::Variant);
        assert_eq!(
            ask("by=tag.Team").unwrap().filter.by,
            By::Tag("team".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_compared_says_what_is_missing() {
        for (query, says) in [
            ("by=run&a=x", "by=run needs a and b: the names of two runs"),
            ("by=time&a=x&b=y", "found `x`, expected a span"),
            ("by=time&a=7d..&b=14d..3d", "overlap"),
            ("by=time&a=1d..2d&b=14d..7d", "is not before"),
        ] {
            let problem = ask(query).unwrap_err();
            assert!(problem.detail.contains(says), "{}", problem.detail);
        }
        let wrong = serde_urlencoded::from_str::<CompareParams>("by=colour").unwrap_err();
        assert!(wrong.to_string().contains("expected variant, tag.<name>"));
    }
}
