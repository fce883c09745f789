//! Two groups of runs side by side.

use std::fmt;
use std::str::FromStr;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use clap::Args;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::When;
use super::problem::Problem;
use super::records::Records;
use crate::core::compare::{Comparison, FEW, Success};
use crate::core::id::Label;
use crate::core::time::Timestamp;
use crate::ledger::{Arms, CompareFilter, Gathered, IndexError, View};

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
    /// Only runs that began from this time on: 1h, 7d (that long ago), 2026-11-01
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>, example = "7d")]
    pub since: Option<When>,
    /// Only runs that began before this time
    #[arg(long, value_name = "WHEN")]
    #[param(value_type = Option<String>)]
    pub until: Option<When>,
    /// Only what this agent did in each run
    #[arg(long)]
    pub agent: Option<Label>,
    /// When a run is a success: outcome (its last call completed and no loop was stopped), or the mean
    /// of a custom metric, such as metric:score>=0.5
    #[arg(long, value_name = "RULE")]
    #[param(value_type = Option<String>, example = "metric:score>=0.5")]
    pub success: Option<Success>,
    /// Compare this custom metric, too: its mean in each run, yes as 1 and no as 0
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
}

/// What tells runs apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    Variant,
    Tag(String),
    User,
    Agent,
    Model,
    Upstream,
    Run,
    Time,
}

/// A text that is no [`By`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{0}`, expected variant, tag.<name>, user, agent, model, upstream, run or time")]
pub struct ByError(String);

impl FromStr for By {
    type Err = ByError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "variant" => Self::Variant,
            "user" => Self::User,
            "agent" => Self::Agent,
            "model" => Self::Model,
            "upstream" => Self::Upstream,
            "run" => Self::Run,
            "time" => Self::Time,
            _ => match text.strip_prefix("tag.").filter(|name| !name.is_empty()) {
                Some(name) => Self::Tag(name.to_ascii_lowercase()),
                None => return Err(ByError(text.to_owned())),
            },
        })
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Variant => "variant",
            Self::Tag(name) => return write!(f, "tag.{name}"),
            Self::User => "user",
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Upstream => "upstream",
            Self::Run => "run",
            Self::Time => "time",
        })
    }
}

impl Serialize for By {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for By {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A comparison that can be carried out.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    by: By,
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
        let success = self.success.unwrap_or_default();
        let metric = self.metric.map(|name| name.to_ascii_lowercase());
        let metrics: Vec<String> = metric.into_iter().collect();
        let needed = success.metric().map(str::to_owned);
        let mut wanted = metrics.clone();
        wanted.extend(needed.filter(|name| !metrics.contains(name)));
        let arms = arms(&by, (self.a.as_deref(), self.b.as_deref()), now)?;
        let of_times = match &arms {
            Arms::Times([(_, from, to), (_, other, end)]) => {
                (Some(*from.min(other)), Some(*to.max(end)))
            }
            _ => (since, until),
        };
        Ok(Ask {
            by,
            filter: CompareFilter {
                arms,
                since: of_times.0,
                until: of_times.1,
                agent: self.agent,
                metrics: wanted,
            },
            a: self.a,
            b: self.b,
            success,
            metrics,
        })
    }
}

fn arms(by: &By, (a, b): (Option<&str>, Option<&str>), now: Timestamp) -> Result<Arms, Problem> {
    let both = |what: &str| {
        a.zip(b).ok_or_else(|| {
            Problem::bad_request(format!("query parameters: by={by} needs a and b: {what}"))
        })
    };
    Ok(match by {
        By::Variant => Arms::Variant,
        By::Tag(name) => Arms::Tag(name.clone()),
        By::User => Arms::User,
        By::Agent => Arms::Agent,
        By::Model => Arms::Model,
        By::Upstream => Arms::Upstream,
        By::Run => {
            let (a, b) = both("the names of two runs")?;
            let run = |name: &str, text: &str| {
                Label::parse(text)
                    .map_err(|error| Problem::bad_request(format!("{name}: the run {error}")))
            };
            Arms::Runs([run("a", a)?, run("b", b)?])
        }
        By::Time => {
            let (a, b) = both("two spans, such as 2026-11-01..2026-11-08")?;
            let spans = [times("a", a, now)?, times("b", b, now)?];
            let [(_, from, to), (_, other, end)] = &spans;
            if from < end && other < to {
                return Err(Problem::bad_request(format!(
                    "query parameters: a: {a} and b: {b} overlap: a run would be on both sides"
                )));
            }
            Arms::Times(spans)
        }
    })
}

/// `2026-11-01..2026-11-08`, `14d..7d`, `7d..`
fn times(
    name: &str,
    text: &str,
    now: Timestamp,
) -> Result<(String, Timestamp, Timestamp), Problem> {
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
        if !matches!(self.filter.arms, Arms::Times(_) | Arms::Runs(_)) {
            (self.filter.since, self.filter.until) = (since, until);
        }
        self
    }

    /// Carries it out. Takes up to seconds where there are very many runs.
    pub(crate) fn answer(&self, view: &View) -> Result<Comparison, IndexError> {
        let gathered = view.gather(&self.filter)?;
        let chosen = (self.a.as_deref(), self.b.as_deref());
        let how = (&self.success, self.metrics.as_slice());
        let mut told = Comparison::new(self.by.to_string(), &gathered.runs, chosen, how);
        told.left_out = gathered.left_out;
        told.partial = gathered.partial;
        told.notes = notes(&told, &gathered);
        if let Arms::Runs([a, b]) = &self.filter.arms {
            told.first_difference = view.part(a, b)?;
        }
        Ok(told)
    }

    /// Says which of two runs is not there.
    pub(crate) fn check(&self, told: &Comparison) -> Result<(), Problem> {
        let Arms::Runs(_) = &self.filter.arms else {
            return Ok(());
        };
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
        gathered.unpriced,
        "run has calls whose price is not known: its cost is not compared.",
        "runs have calls whose price is not known: their cost is not compared.",
    );
    if gathered.partial {
        notes.push(
            "There are more runs, calls or measurements than are read: these are the newest."
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
    notes
}

/// Two groups of runs side by side: figures, differences, 95 % intervals, and what they allow to say
///
/// The unit is the run: those that began in the span and have ended, up to the newest 10,000 runs and
/// 100,000 calls and as many measurements. Figures are means over runs, or ratios of sums. Intervals are bias-corrected bootstrap intervals of the difference, the same for the same data.
/// Runs whose calls name more than one arm are left out and counted; by agent, each run has a part in
/// the arm of each of its agents. Refused calls are not recorded, and in no figure.
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
        assert_eq!(ask("a=x&b=y").unwrap().by, By::Run);
        assert_eq!(ask("").unwrap().by, By::Variant);
        assert_eq!(ask("by=tag.Team").unwrap().by, By::Tag("team".to_owned()));
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
