//! Custom metrics: measured by hand or by a script, and listed.

use std::io;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value as Json};

use super::table::Align::{Left, Right};
use super::table::{Output, Table};
use super::{Common, Failure, command, format, lists, operate};
use crate::admin::params::MetricParams;
use crate::admin::view::{MeasurementList, MeasurementView, MetricList, MetricView, Recorded};
use crate::core::id::{CallId, Label};
use crate::core::metric::{Value, parse_name, short};

pub(super) const NOTE: &str = "\
A value is a number, true or false, or a short word. Of a call or a run the same name by the same person
(and --key) takes the place of the one before; an agent has one at each moment. What is said of a call
counts for its run and its agent too. Clients can send numbers with a call: x-aiops-metric-<name>.

Examples:
  open-aiops metric set score 0.8 --run nightly-42 --who judge --note 'missed one source'
  open-aiops metric set solved true --call 01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e
  open-aiops metric list --since 1d
  open-aiops metric list --run nightly-42 --name score";

const NONE: &str = "-";

#[derive(Args, Debug)]
pub struct MetricArgs {
    #[command(subcommand)]
    pub command: MetricCommand,
}

#[derive(Debug, Subcommand)]
pub enum MetricCommand {
    /// Record what was measured of a call, a run or an agent; needs a running server
    Set(Set),
    /// List what custom metrics come to, or the measurements of one
    List(List),
}

#[derive(Args, Debug)]
pub struct Set {
    /// Letters, digits, `_`, `-` and `.`
    #[arg(value_parser = name)]
    pub name: String,
    /// A number, true or false, or a short word
    #[arg(allow_negative_numbers = true)]
    pub value: Value,
    #[command(flatten)]
    pub of: Of,
    /// Who measured it; the user at this machine when not given
    #[arg(long)]
    pub who: Option<Label>,
    /// Why it is so
    #[arg(long)]
    pub note: Option<String>,
    /// Tells it apart from others of this name that the same person says of the same
    #[arg(long)]
    pub key: Option<Label>,
}

/// What it is said of.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Of {
    /// It is said of this call
    #[arg(long)]
    pub call: Option<CallId>,
    /// It is said of this run
    #[arg(long)]
    pub run: Option<Label>,
    /// It is said of this agent
    #[arg(long)]
    pub agent: Option<Label>,
}

#[derive(Args, Debug)]
pub struct List {
    /// The measurements of this one
    #[arg(long, value_parser = name)]
    pub name: Option<String>,
    #[command(flatten)]
    pub params: MetricParams,
}

fn name(text: &str) -> Result<String, String> {
    let expected = || "expected letters, digits, `_`, `-` and `.`, 1 to 64".to_owned();
    parse_name(text).ok_or_else(expected)
}

pub(super) fn run(
    common: &Common,
    MetricArgs { command }: &MetricArgs,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    match command {
        MetricCommand::Set(it) => set(common, it, out),
        MetricCommand::List(it) => list(common, it, out),
    }
}

fn set(common: &Common, it: &Set, out: &mut Output<'_>) -> Result<(), Failure> {
    let text = |label: &Option<Label>| label.as_ref().map(Label::to_string);
    let who = text(&it.who).unwrap_or_else(operate::who);
    let fields = [
        ("name", Some(it.name.clone().into())),
        ("value", serde_json::to_value(&it.value).ok()),
        ("call", it.of.call.map(|id| id.to_string().into())),
        ("run", text(&it.of.run).map(Json::from)),
        ("agent", text(&it.of.agent).map(Json::from)),
        ("who", Some(who.into())),
        ("note", it.note.clone().map(Json::from)),
        ("key", text(&it.key).map(Json::from)),
    ];
    let given = fields.into_iter();
    let order: Map<String, Json> = given
        .filter_map(|(field, value)| Some((field.to_owned(), value?)))
        .collect();
    operate::post(common, "/api/v1/metrics", &order, out, |_: Recorded| {
        let of = [
            it.of.call.map(|id| format!("call {id}")),
            it.of.run.as_ref().map(|run| format!("run {run}")),
            it.of.agent.as_ref().map(|agent| format!("agent {agent}")),
        ];
        let of: Vec<String> = of.into_iter().flatten().collect();
        format!("{} of {} is {}", it.name, of.join(""), it.value)
    })
}

fn list(
    common: &Common,
    List { name, params }: &List,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let Some(name) = name else {
        let path = "/api/v1/metrics";
        return command::list(common, path, params, out, |list: MetricList, out| {
            sums(&list.metrics, out)?;
            if list.is_cut && out.terminal {
                writeln!(
                    out.writer,
                    "There is more than can be read: the newest of each count."
                )?;
            }
            Ok(())
        });
    };
    let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
    let path = format!("/api/v1/metrics/{name}");
    command::list(common, &path, params, out, |list: MeasurementList, out| {
        measurements(&list.measurements, out)?;
        lists::more("--before", list.next, list.partial, out)
    })
}

fn sums(metrics: &[MetricView], out: &mut Output<'_>) -> io::Result<()> {
    let mut table = Table::new(&[
        ("METRIC", Left),
        ("COUNT", Right),
        ("IS", Left),
        ("MEAN", Right),
        ("MIN", Right),
        ("MAX", Right),
        ("LAST", Left),
        ("LAST (UTC)", Left),
    ]);
    let number = |it: Option<f64>| it.map_or_else(|| NONE.to_owned(), short);
    for it in metrics {
        table.row([
            it.name.clone(),
            format::count(it.count),
            it.text.clone(),
            number(it.mean),
            number(it.min),
            number(it.max),
            it.last.as_ref().map_or_else(|| NONE.to_owned(), shown),
            it.last_at.map_or_else(|| NONE.to_owned(), format::time),
        ]);
    }
    table.write(out)
}

fn measurements(list: &[MeasurementView], out: &mut Output<'_>) -> io::Result<()> {
    let mut table = Table::new(&[
        ("TIME (UTC)", Left),
        ("VALUE", Right),
        ("WHO", Left),
        ("RUN", Left),
        ("AGENT", Left),
        ("CALL", Left),
        ("NOTE", Left),
    ]);
    let or_none = |label: &Option<Label>| label.as_ref().map_or(NONE, Label::as_str).to_owned();
    for it in list {
        table.row([
            format::time(it.at),
            shown(&it.value),
            it.who.to_string(),
            or_none(&it.run),
            or_none(&it.agent),
            it.call.map_or_else(|| NONE.to_owned(), |id| id.to_string()),
            it.note.clone().unwrap_or_else(|| NONE.to_owned()),
        ]);
    }
    table.write(out)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => short(*number),
        Value::Boolean(_) | Value::Category(_) => value.to_string(),
    }
}
