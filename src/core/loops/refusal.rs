//! Why a call of a loop is not let through, in words that a person can act on.

use std::fmt::{self, Write as _};

use super::super::id::Label;
use super::finding::{Finding, Scope, Signal};
use super::limits::Beyond;
use super::trip::{ClosedBy, Evidence, Trip};

/// Calls and agents that are named in one sentence.
const NAMED: usize = 6;

/// The policy says no.
#[derive(Clone, Debug)]
pub enum Refusal {
    Tripped(Box<Trip>),
    Beyond(Beyond, Label),
    /// A running answer says one piece over and over.
    Chant,
}

impl Refusal {
    /// All that [`kind`](Self::kind) says.
    pub const KINDS: [&'static str; 5] = [
        "loop",
        "chant",
        "too_deep",
        "too_wide",
        "too_many_calls_of_run",
    ];

    /// Low-cardinality name: what headers, metrics and logs call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tripped(_) => "loop",
            Self::Chant => "chant",
            Self::Beyond(Beyond::Depth(_), _) => "too_deep",
            Self::Beyond(Beyond::FanOut(_), _) => "too_wide",
            Self::Beyond(Beyond::Calls(_) | Beyond::CallsPerMinute(..), _) => {
                "too_many_calls_of_run"
            }
        }
    }

    /// What gave the loop away, if it is stopped with this call.
    pub fn opens(&self) -> Option<Signal> {
        match self {
            Self::Tripped(trip) if trip.refused == 1 => Some(trip.evidence.signal),
            _ => None,
        }
    }

    /// Seconds after which trying again makes sense.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Beyond(Beyond::CallsPerMinute(_, seconds), _) => Some(*seconds),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tripped(trip) => {
                write!(f, "a loop was stopped: {}", evidence(&trip.evidence))?;
                // Bodies do not reach the log.
                let hides = f.alternate();
                for sample in trip.evidence.sample.iter().filter(|_| !hides) {
                    write!(f, " | {sample}")?;
                }
                write!(
                    f,
                    " | It goes on when a user says something new. To let it go on: open-aiops loops \
                     reset {}",
                    trip.id
                )
            }
            Self::Chant => f.write_str(
                "the answer said one piece over and over and was ended; see [loops] chant",
            ),
            Self::Beyond(beyond, run) => match beyond {
                Beyond::Depth(most) => write!(
                    f,
                    "the chain of agents of the run {run} is longer than {most}; raise [loops] \
                     max_depth to allow it"
                ),
                Beyond::FanOut(most) => write!(
                    f,
                    "an agent of the run {run} set off more than {most} others; raise [loops] \
                     max_fan_out to allow it"
                ),
                Beyond::Calls(most) => write!(
                    f,
                    "the run {run} made {most} calls, as many as it may; raise [loops] \
                     max_calls_per_run to allow more"
                ),
                Beyond::CallsPerMinute(most, _) => write!(
                    f,
                    "the run {run} makes more than {most} calls a minute; raise [loops] \
                     max_calls_per_minute to allow more"
                ),
            },
        }
    }
}

/// `the same action with the same result, 3 times in a row`
pub fn describe(finding: &Finding) -> String {
    pattern(finding.signal, finding.period, finding.count)
}

fn pattern(signal: Signal, period: u32, count: u32) -> String {
    match signal {
        Signal::Repeat => format!("the same action with the same result, {count} times in a row"),
        Signal::Period => format!("a pattern of {period} calls, {count} times in a row"),
        Signal::Stale => format!("{count} calls in a row said and learned nothing new"),
        Signal::SameError => format!("the same error of a tool, {count} times in a row"),
        Signal::SameRequest => {
            format!("the same request sent again {count} times, without another answer")
        }
        Signal::SameAnswer => format!("the same first request with the same answer, {count} times"),
        Signal::Delegation => format!("one task handed down {count} levels"),
        Signal::Chant => format!("{count} answers in a row said one piece over and over"),
    }
}

/// Which pattern, how far it reaches, by whom.
pub fn summary(evidence: &Evidence) -> String {
    let what = pattern(evidence.signal, evidence.period, evidence.count);
    let agents = named(evidence.agents.iter().map(Label::to_string));
    let scope = match evidence.scope {
        Scope::Conversation => "one conversation",
        Scope::Edge => "one request of its caller",
        Scope::Run => "the whole run",
    };
    let mut text = format!("{what}, in {scope}");
    if !agents.is_empty() {
        let _ = write!(text, ", by {agents}");
    }
    text
}

/// Which pattern, by whom, in which calls, at what cost.
pub fn evidence(evidence: &Evidence) -> String {
    let mut text = summary(evidence);
    let calls = evidence.calls.len();
    if let (Some(first), Some(last)) = (evidence.calls.first(), evidence.calls.last()) {
        let _ = write!(
            text,
            "; its last {calls} calls, {first} to {last}, used {} tokens since {}",
            evidence.tokens, evidence.since
        );
    }
    text
}

/// That a trip opened, for whoever reads the events.
pub fn opened(trip: &Trip) -> String {
    format!(
        "{}: {}; agent {}, {}",
        trip.id,
        evidence(&trip.evidence),
        trip.agent,
        of_run(trip)
    )
}

/// That it closed, and why.
pub fn closed(trip: &Trip) -> String {
    let by = trip.closed.as_ref().map(|closed| closed.by);
    let why = match by {
        None => "is open",
        Some(ClosedBy::Operator) => "was reset",
        Some(ClosedBy::User) => "ended: a user said something new",
        Some(ClosedBy::Probe) => "ended: a call let through to see brought something new",
        Some(ClosedBy::End) => "ended with its run",
    };
    format!(
        "{} {why}; {} calls were refused; agent {}, {}",
        trip.id,
        trip.refused,
        trip.agent,
        of_run(trip)
    )
}

fn of_run(trip: &Trip) -> String {
    match &trip.run {
        Some(run) => format!("run {run}"),
        None => "no run".to_owned(),
    }
}

fn named(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let mut text = names.take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}
