//! `open-aiops instances`: who shares budgets with the running server.

use super::table::Align::Left;
use super::table::{Output, Table};
use super::{Common, Failure, command, operate, source};
use crate::admin::instances::{InstanceList, InstanceView};

pub(super) fn list(common: &Common, out: &mut Output<'_>) -> Result<(), Failure> {
    let (runtime, source) = operate::running(common)?;
    let none: [(&str, &str); 0] = [];
    let body = runtime.block_on(source.ask("/api/v1/instances", &none))?;
    if common.json {
        return command::raw(&body, out);
    }
    let list: InstanceList = source::parse(&body)?;
    if list.standing == "alone" {
        writeln!(
            out.writer,
            "this instance is alone: [shared] is not configured"
        )?;
        return Ok(());
    }
    if list.standing != "joined" {
        let on_failure = list.on_failure.as_deref().unwrap_or_default();
        writeln!(
            out.writer,
            "Redis is away: calls with budgets go by on_failure = \"{on_failure}\""
        )?;
    }
    table(&list.instances, out)?;
    Ok(())
}

fn table(instances: &[InstanceView], out: &mut Output<'_>) -> std::io::Result<()> {
    let mut table = Table::new(&[
        ("INSTANCE", Left),
        ("ID", Left),
        ("STATE", Left),
        ("STARTED", Left),
        ("SEEN", Left),
        ("ABOUT", Left),
    ]);
    for it in instances {
        let state = match (it.is_self, it.lives) {
            (true, _) => "this",
            (false, true) => "lives",
            (false, false) => "gone",
        };
        table.row([
            it.name.clone(),
            it.id.clone(),
            state.to_owned(),
            it.started_at.to_string(),
            it.seen_at.to_string(),
            it.about.clone(),
        ]);
    }
    table.write(out)
}
