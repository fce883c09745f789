//! Loops that were stopped: listed, and let go on.

use std::io;

use super::args::{AllowArgs, LoopId};
use super::table::Align::{Left, Right};
use super::table::{Output, Table};
use super::{Common, Failure, command, format, lists, operate};
use crate::admin::params::SpanParams;
use crate::admin::view::{LoopList, LoopView};
use crate::core::id::Label;

const NONE: &str = "-";

pub(super) fn list(
    common: &Common,
    params: &SpanParams,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    command::list(
        common,
        "/api/v1/loops",
        params,
        out,
        |list: LoopList, out| {
            table(&list.loops, out)?;
            lists::more("--before", list.next, false, out)
        },
    )
}

pub(super) fn reset(
    common: &Common,
    LoopId { id }: &LoopId,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let path = format!("/api/v1/loops/{id}/reset");
    let order = operate::order_by([("allow", 0.into())]);
    operate::post(common, &path, &order, out, |done: LoopView| {
        format!(
            "{}: goes on; its pattern has to show again from nothing",
            done.id
        )
    })
}

pub(super) fn allow(
    common: &Common,
    AllowArgs { id, calls }: &AllowArgs,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let path = format!("/api/v1/loops/{id}/reset");
    let order = operate::order_by([("allow", (*calls).into())]);
    operate::post(common, &path, &order, out, |done: LoopView| {
        format!("{}: {calls} calls pass whatever they repeat", done.id)
    })
}

fn table(loops: &[LoopView], out: &mut Output<'_>) -> io::Result<()> {
    let mut table = Table::new(&[
        ("LOOP", Left),
        ("STOPPED (UTC)", Left),
        ("STATE", Left),
        ("RUN", Left),
        ("AGENTS", Left),
        ("SIGNAL", Left),
        ("COUNT", Right),
        ("TOKENS", Right),
        ("REFUSED", Right),
        ("WHAT", Left),
    ]);
    for it in loops {
        let signal: &'static str = it.signal.into();
        let scope: &'static str = it.scope.into();
        let agents: Vec<&str> = it.agents.iter().map(Label::as_str).collect();
        table.row([
            it.id.to_string(),
            format::time(it.at),
            state(it),
            it.run.as_ref().map_or(NONE, Label::as_str).to_owned(),
            agents.join(", "),
            format!("{signal} in {scope}"),
            format::count(u64::from(it.count)),
            format::count(it.tokens),
            format::count(u64::from(it.refused)),
            it.sample
                .first()
                .cloned()
                .unwrap_or_else(|| NONE.to_owned()),
        ]);
    }
    table.write(out)
}

fn state(it: &LoopView) -> String {
    if it.is_open {
        return "open".to_owned();
    }
    let by = it.closed_by.map_or("end", Into::into);
    format!("closed by {by}")
}
