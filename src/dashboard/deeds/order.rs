//! An order as a form gives it: read, put into words, carried out.

use std::sync::Arc;

use maud::{Markup, html};

use super::super::desk::Desk;
use super::super::{figure, text};
use super::Deed;
use crate::admin::alerts::send_test;
use crate::admin::budgets::Desk as Teller;
use crate::admin::loops::let_go;
use crate::admin::order::{Addressed, read_amount};
use crate::admin::params::key_part;
use crate::admin::problem::Problem;
use crate::budgets::{AccountRow, MeasureRow};
use crate::core::budget::{Control, Limits, Measure, Rule, Window};
use crate::core::id::{CallId, Label};
use crate::core::loops::refusal;
use crate::core::loops::trip::Trip;

/// Who is recorded to have done it.
pub(super) const WHO: &str = "dashboard";
/// What the names of the fields of a key begin with: `key.run`.
pub(in crate::dashboard) const KEY: &str = "key.";

const MEASURES: [Measure; 7] = [
    Measure::Usd,
    Measure::Tokens,
    Measure::InputTokens,
    Measure::OutputTokens,
    Measure::Calls,
    Measure::Concurrent,
    Measure::Metric,
];

/// What a form was filled in with.
#[derive(Clone, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn of(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// A field that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        let value = found.map(|(_, value)| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// All but some.
    pub(super) fn besides<'f>(
        &'f self,
        some: &'f [&str],
    ) -> impl Iterator<Item = (&'f str, &'f str)> + 'f {
        let pairs = self
            .0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        pairs.filter(|(key, _)| !some.contains(key))
    }

    fn label(&self, name: &str) -> Result<Label, Problem> {
        Label::parse(self.get(name).unwrap_or_default())
            .map_err(|error| Problem::bad_request(format!("{name}: {error}")))
    }

    fn account(&self) -> Result<Addressed, Problem> {
        let mut key = Vec::new();
        for (name, value) in &self.0 {
            if let Some(dimension) = name.strip_prefix(KEY) {
                let part = key_part(dimension, Some(value));
                key.push(part.map_err(|wrong| Problem::bad_request(format!("key: {wrong}")))?);
            }
        }
        Ok(Addressed {
            rule: self.label("rule")?,
            key,
            who: WHO.to_owned(),
        })
    }

    fn amounts(&self) -> Result<Limits, Problem> {
        let mut by = Limits::default();
        for measure in MEASURES {
            if let Some(said) = self.get(measure.name()) {
                let said = said.trim_start_matches('$');
                by.set(measure, Some(read_amount(measure, said)?));
            }
        }
        Ok(by)
    }

    fn trip(&self) -> Result<CallId, Problem> {
        let said = self.get("loop").unwrap_or_default();
        said.parse()
            .map_err(|error| Problem::bad_request(format!("loop: {error}")))
    }

    fn allow(&self) -> Result<u32, Problem> {
        let said = self.get("allow").unwrap_or("0");
        said.parse().map_err(|_| {
            Problem::bad_request(format!(
                "allow: found `{said}`, expected a whole number from 0 on"
            ))
        })
    }
}

/// An order that can be carried out.
pub(super) enum Order {
    Raise(Addressed, Limits),
    Reset(Addressed),
    Control(Label, Control),
    LetGo(CallId, u32),
    Test(Label),
}

/// What an order will do, in sentences.
pub(super) struct Effect {
    pub(super) lines: Vec<String>,
}

/// What is missing of an order that cannot be carried out.
pub(super) fn nothing(deed: Deed) -> &'static str {
    match deed {
        Deed::Raise => {
            "say by how much: one of usd, tokens, input_tokens, output_tokens, calls, concurrent"
        }
        _ => "something is missing in this form: open it again",
    }
}

impl Order {
    /// None where it is not said yet how much.
    pub(super) fn read(deed: Deed, fields: &Fields) -> Result<Option<Self>, Problem> {
        let control = |control| Ok::<_, Problem>(Self::Control(fields.label("run")?, control));
        Ok(Some(match deed {
            Deed::Raise => {
                let by = fields.amounts()?;
                if by.is_empty() {
                    return Ok(None);
                }
                Self::Raise(fields.account()?, by)
            }
            Deed::Reset => Self::Reset(fields.account()?),
            Deed::Pause => control(Control::Paused)?,
            Deed::Resume => control(Control::Running)?,
            Deed::Stop => control(Control::Stopped)?,
            Deed::LetGo => Self::LetGo(fields.trip()?, fields.allow()?),
            Deed::Test => Self::Test(fields.label("webhook")?),
        }))
    }

    pub(super) async fn effect(&self, desk: &Desk) -> Result<Effect, Problem> {
        let lines = match self {
            Self::Raise(to, by) => {
                let (rule, row) = teller(desk).standing(to).await?;
                raised(desk, (&rule, &row), by)?
            }
            Self::Reset(to) => {
                let (rule, row) = teller(desk).standing(to).await?;
                reset(&rule, &row)
            }
            Self::Control(run, control) => controlled(desk, run, *control).await?,
            Self::LetGo(id, allow) => let_going(open_trip(desk, *id)?.as_ref(), *allow),
            Self::Test(webhook) => vec![format!(
                "A test is sent to the webhook {webhook}, and what it answers is shown and recorded."
            )],
        };
        Ok(Effect { lines })
    }

    /// Does it; says what was done.
    pub(super) async fn carry_out(self, desk: &Desk) -> Result<String, Problem> {
        Ok(match self {
            Self::Raise(to, by) => {
                let until = teller(desk).raise(&to, by).await?;
                let sums: Vec<String> = by.each().map(|(of, sum)| of.text(sum)).collect();
                let until = until.map_or_else(
                    || "for good".to_owned(),
                    |until| format!("until {}", local(desk, until)),
                );
                format!(
                    "\"{}\" was raised by {}, {until}.",
                    to.rule,
                    sums.join(", ")
                )
            }
            Self::Reset(to) => {
                teller(desk).reset(&to).await?;
                format!(
                    "\"{}\" was reset: the account counts from nothing.",
                    to.rule
                )
            }
            Self::Control(run, control) => {
                let done = teller(desk).control(run, control, WHO).await?;
                let run = done.run;
                match control {
                    Control::Running => format!("Run {run} goes on."),
                    Control::Paused => format!("Run {run} is paused: its new calls wait."),
                    Control::Stopped => format!(
                        "Run {run} is stopped: {} of its calls were ended, new ones are refused.",
                        done.ended_calls
                    ),
                }
            }
            Self::LetGo(id, allow) => {
                let trip = let_go(&desk.state.loops, id, allow, WHO).await?;
                format!("The loop of {} may go on.", trip.agent)
            }
            Self::Test(webhook) => {
                let tested = send_test(&desk.state.alerts, Some(&webhook), WHO).await?;
                let words = tested.iter().map(|it| {
                    let word = if it.is_ok {
                        "took the test"
                    } else {
                        "did not take the test"
                    };
                    format!("{} {word}: {}.", it.webhook, it.answer)
                });
                words.collect::<Vec<_>>().join(" ")
            }
        })
    }
}

/// Who knows of budgets and does things to them.
pub(in crate::dashboard) fn teller(desk: &Desk) -> Teller {
    Teller::new(Arc::clone(&desk.state.budgets), desk.state.records.clone())
}

fn local(desk: &Desk, at: crate::core::time::Timestamp) -> String {
    figure::local(at, &desk.zone, "%Y-%m-%d %H:%M:%S")
}

/// `may spend $3.00 more`
fn allowance(rule: &Rule, measure: Measure, amount: i64) -> String {
    let amount = rule.text(measure, amount);
    match measure {
        Measure::Usd => format!("may spend {amount} more"),
        Measure::Calls => format!("may make {amount} more"),
        Measure::Concurrent => format!("may have {amount} more"),
        _ => format!("may use {amount} more"),
    }
}

fn raised(
    desk: &Desk,
    (rule, row): (&Rule, &AccountRow),
    by: &Limits,
) -> Result<Vec<String>, Problem> {
    let mut lines = Vec::new();
    for (measure, amount) in by.each() {
        let Some(now) = row.measures.iter().find(|it| it.measure == measure) else {
            let names: Vec<&str> = row.measures.iter().map(|it| it.measure.name()).collect();
            return Err(Problem::bad_request(format!(
                "{}: the budget \"{}\" has no limit of it; it limits {}",
                measure.name(),
                rule.name,
                names.join(", ")
            )));
        };
        lines.push(format!(
            "{} {} under \"{}\": its limit goes from {} to {}, of which {} is used.",
            capital(&row.name.to_string()),
            allowance(rule, measure, amount),
            rule.name,
            rule.text(measure, now.limit),
            rule.text(measure, now.limit.saturating_add(amount)),
            rule.text(measure, now.used),
        ));
    }
    lines.push(match rule.window.resets_at(desk.now()) {
        None => "That holds for good, or until it is reset.".to_owned(),
        Some(until) => format!(
            "That holds until {}, when what is used now counts no more.",
            local(desk, until)
        ),
    });
    Ok(lines)
}

fn reset(rule: &Rule, row: &AccountRow) -> Vec<String> {
    let list = |of: fn(&MeasureRow) -> i64| {
        let some = row
            .measures
            .iter()
            .filter(|it| of(it) > 0 && it.measure != Measure::Concurrent);
        some.map(|it| rule.text(it.measure, of(it)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (used, on_top) = (list(|it| it.used), list(|it| it.raised));
    let used = if used.is_empty() {
        "nothing yet"
    } else {
        &used
    };
    let mut lines = vec![format!(
        "What {} used of \"{}\" ({used}) is forgotten: it counts from nothing.",
        row.name, rule.name
    )];
    if !on_top.is_empty() {
        lines.push(format!(
            "So is what was put on top of its limits: {on_top}."
        ));
    }
    if row.running > 0 {
        lines.push(format!(
            "{} calls run and keep what they hold.",
            row.running
        ));
    }
    if rule.window == Window::Total {
        lines.push("Records of its calls stay as they are.".to_owned());
    }
    lines
}

async fn controlled(desk: &Desk, run: &Label, control: Control) -> Result<Vec<String>, Problem> {
    let name = run.clone();
    let known = desk.ask(move |view| view.run(&name)).await?;
    let Some(known) = known else {
        return Err(Problem::not_found(format!(
            "no call of a run {run} was seen yet"
        )));
    };
    let now = known.row.control;
    let mut lines = Vec::new();
    if now == control {
        let word: &'static str = now.into();
        lines.push(format!(
            "The run {run} is {word} already: this changes nothing."
        ));
    }
    lines.push(match control {
        Control::Paused => format!(
            "New calls of the run {run}, and of runs that it began, wait until it is resumed. Calls \
             that run now go on."
        ),
        Control::Running => format!("Calls of the run {run} that wait go on, new ones are let through."),
        Control::Stopped => format!(
            "The {} calls of the run {run} that run now are ended. New ones, and those of runs that \
             it began, are refused until it is resumed.",
            known.row.open_calls
        ),
    });
    Ok(lines)
}

fn open_trip(desk: &Desk, id: CallId) -> Result<Arc<Trip>, Problem> {
    desk.state.loops.open_trip(id).ok_or_else(|| {
        Problem::not_found(format!(
            "no trip {id} is open: it may have closed by itself; see the loops page"
        ))
    })
}

fn let_going(trip: &Trip, allow: u32) -> Vec<String> {
    let run = trip
        .run
        .as_ref()
        .map_or_else(String::new, |run| format!(" in the run {run}"));
    let mut lines = vec![format!(
        "{} may go on{run}. It was stopped for: {}.",
        trip.agent,
        refusal::summary(&trip.evidence)
    )];
    lines.push(match allow {
        0 => "Its pattern has to show again from nothing before it is stopped again.".to_owned(),
        1 => "The next call of it passes whatever it repeats.".to_owned(),
        more => format!("The next {more} calls of it pass whatever they repeat."),
    });
    lines
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

/// What has to be filled in before the effect can be said, if anything has. Sent by GET: it changes
/// nothing.
pub(super) async fn inputs(
    desk: &Desk,
    deed: Deed,
    fields: &Fields,
) -> Result<Option<Markup>, Problem> {
    Ok(match deed {
        Deed::Raise => {
            let to = fields.account()?;
            let (rule, row) = teller(desk).standing(&to).await?;
            Some(raise_inputs(&rule, &row, fields))
        }
        Deed::LetGo => {
            open_trip(desk, fields.trip()?)?;
            Some(ask(
                deed,
                fields,
                &["allow"],
                &html! {
                    label { "Calls that pass whatever they repeat "
                        input type="number" name="allow" min="0" max="1000000" value=(fields.get("allow").unwrap_or("0")); }
                },
            ))
        }
        _ => None,
    })
}

fn raise_inputs(rule: &Rule, row: &AccountRow, fields: &Fields) -> Markup {
    let own: Vec<&str> = MEASURES.iter().map(|it| it.name()).collect();
    let content = html! {
        @for it in &row.measures {
            @let name = it.measure.name();
            label {
                @match (&rule.metric, it.measure) {
                    (Some(metric), Measure::Metric) => (text::name(metric)),
                    (_, measure) => (unit(measure)),
                }
                " more "
                input name=(name) size="12" inputmode="decimal" autocomplete="off" value=[fields.get(name)];
                span.muted { "now " (rule.text(it.measure, it.used)) " of " (rule.text(it.measure, it.limit)) }
            }
        }
    };
    html! {
        p { strong { (text::name(rule.name.as_str())) } ": " (text::name(&row.name.to_string())) }
        (ask(Deed::Raise, fields, &own, &content))
    }
}

fn unit(measure: Measure) -> &'static str {
    match measure {
        Measure::Usd => "USD",
        Measure::Tokens => "Tokens",
        Measure::InputTokens => "Input tokens",
        Measure::OutputTokens => "Output tokens",
        Measure::Calls => "Calls",
        Measure::Concurrent => "Calls at once",
        Measure::Metric => "Of its metric",
    }
}

fn ask(deed: Deed, fields: &Fields, own: &[&str], content: &Markup) -> Markup {
    html! {
        form.asked method="get" action=(deed.path()) {
            @for (name, value) in fields.besides(own) {
                input type="hidden" name=(name) value=(value);
            }
            (content)
            button { "Show what it does" }
        }
    }
}
