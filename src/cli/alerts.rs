//! Alerts: listed, and tried.

use std::io;

use super::args::AlertsTest;
use super::table::Align::{Left, Right};
use super::table::{Output, Table};
use super::{Common, Failure, command, format, operate};
use crate::admin::alerts::{AlertList, AlertParams, TestedList};
use crate::alerts::{Alert, Delivery, Tested};

const NONE: &str = "-";

pub(super) fn list(
    common: &Common,
    params: &AlertParams,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let path = "/api/v1/alerts";
    command::list(common, path, params, out, |list: AlertList, out| {
        table(&list.alerts, out)
    })
}

/// Fails where a webhook did, so that a script can tell.
pub(super) fn test(
    common: &Common,
    AlertsTest { webhook }: &AlertsTest,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let webhook = webhook.as_ref().map(ToString::to_string);
    let order = operate::order_by([("webhook", webhook.into())]);
    let mut failed = Vec::new();
    operate::post(
        common,
        "/api/v1/alerts/test",
        &order,
        out,
        |done: TestedList| {
            let names = done.webhooks.iter().filter(|it| !it.is_ok);
            failed.extend(names.map(|it| it.webhook.to_string()));
            tested(&done.webhooks)
        },
    )?;
    if failed.is_empty() {
        return Ok(());
    }
    let names = failed.join(", ");
    Err(Failure::Negative(format!("the test did not reach {names}")))
}

fn tested(webhooks: &[Tested]) -> String {
    if webhooks.is_empty() {
        return "no webhook is configured: add [[alerts.webhook]] to the config file".to_owned();
    }
    let line = |it: &Tested| format!("{}: {}", it.webhook, it.answer);
    webhooks.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn table(alerts: &[Alert], out: &mut Output<'_>) -> io::Result<()> {
    let mut table = Table::new(&[
        ("STATE", Left),
        ("SEVERITY", Left),
        ("RULE", Left),
        ("LAST (UTC)", Left),
        ("FIRST (UTC)", Left),
        ("COUNT", Right),
        ("VALUE", Right),
        ("LIMIT", Right),
        ("SENT", Left),
        ("WHAT", Left),
    ]);
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| NONE.to_owned());
    for it in alerts {
        table.row([
            if it.is_open { "open" } else { "over" }.to_owned(),
            it.severity.name().to_owned(),
            it.rule.name().to_owned(),
            format::time(it.last_at),
            format::time(it.first_at),
            format::count(it.count),
            or_none(&it.value),
            or_none(&it.limit),
            sent(&it.sent),
            it.text.clone(),
        ]);
    }
    table.write(out)
}

fn sent(deliveries: &[Delivery]) -> String {
    if deliveries.is_empty() {
        return NONE.to_owned();
    }
    let one = |it: &Delivery| {
        let how = if it.is_ok { "ok" } else { "failed" };
        format!("{} {how}", it.webhook)
    };
    deliveries.iter().map(one).collect::<Vec<_>>().join(", ")
}
