//! The page of alerts.

use super::Site;
use crate::alerts::list_recorded;
use crate::core::alert::{About, Rule, Scope, Sent, Signal};
use crate::ledger::Event;

#[tokio::test]
async fn without_alerts_the_page_has_a_webhook_to_copy_that_is_valid() {
    let html = Site::with_calls().page("/alerts").await;
    assert!(html.contains("Nothing to tell") && html.contains("data-copy"));
    let env = |_: &str| Some("https://hooks.example/x".to_owned());
    let config = crate::config::Config::parse("config.toml", super::super::alerts::EXAMPLE, &env);
    assert_eq!(config.unwrap().alerts.webhooks.len(), 1);
}

#[tokio::test]
async fn what_happened_to_the_proxy_is_listed_as_text_and_in_pages() {
    let site = Site::new(&[]);
    for n in 0..60 {
        site.sample.clock.advance_micros(1_000_000);
        let details = format!("<img src=x> no. {n}.");
        let event = Event::own(site.sample.clock.now(), "config_refused", Some(details));
        drop(site.state.ledger.event(event).unwrap());
    }
    let mut seen = Vec::new();
    let mut path = "/alerts".to_owned();
    loop {
        let html = site.page(&path).await;
        assert!(!html.contains("<img src=x") && html.contains("config refused"));
        seen.extend((0..60).filter(|n| html.contains(&format!("no. {n}.<"))));
        let Some((before, _)) = html.split_once("\" rel=\"next\"") else {
            break;
        };
        path = before.rsplit('"').next().unwrap().replace("&amp;", "&");
    }
    assert_eq!(seen.len(), 60, "none is lost, none is there twice");
    seen.sort_unstable();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
    let csv = site.page("/alerts?export=events.csv").await;
    assert_eq!(csv.lines().count(), 61);
}

#[tokio::test]
async fn a_webhook_is_tested_by_a_button_alone() {
    let site = Site::new(&[]);
    let html = site.page("/alerts/test?webhook=team").await;
    assert!(
        html.contains("A test is sent to the webhook team"),
        "{html}"
    );
    let (_, rest) = html.split_once("name=\"once\" value=\"").unwrap();
    let once = rest.split_once('"').unwrap().0;
    let shown = site
        .post("/alerts/test", &[("once", once), ("webhook", "team")])
        .await;
    assert_eq!(shown.status, 404);
    assert!(
        shown
            .html
            .contains("there is no webhook team; there are: none"),
        "{}",
        shown.html
    );
}

#[tokio::test]
async fn an_unknown_severity_is_said_with_what_is_expected() {
    let shown = Site::new(&[]).get("/alerts?severity=loud").await;
    assert_eq!(shown.status, 400);
    assert!(
        shown
            .html
            .contains("found `loud`, expected info, warning or critical")
    );
}

#[tokio::test]
async fn an_open_alert_is_known_after_a_start_however_much_was_recorded_since() {
    let site = Site::new(&[]);
    let (clock, ledger) = (&site.sample.clock, &site.state.ledger);
    let signal = Signal::of(Scope::new(About::Budget, "each month"));
    let mut spent = Event::own(clock.now(), "budget_spent", None);
    spent.signal = Some(Box::new(Signal {
        until: Some(clock.now().plus_micros(7 * 86_400_000_000)),
        ..signal.clone()
    }));
    drop(ledger.event(spent).unwrap());
    let sent = Signal {
        delivery: Some(Sent {
            rule: Rule::UpstreamFailing,
            webhook: "ops".parse().unwrap(),
            answer: "200 OK".to_owned(),
        }),
        ..Signal::of(Scope::new(About::Upstream, "local"))
    };
    let mut last = None;
    for _ in 0..1100 {
        clock.advance_micros(1_000_000);
        let mut event = Event::own(clock.now(), "alert_sent", None);
        event.signal = Some(Box::new(sent.clone()));
        last = Some(ledger.event(event).unwrap());
    }
    last.unwrap().await;
    let list = list_recorded(ledger.view(), clock.now()).unwrap();
    let open: Vec<Rule> = list
        .iter()
        .filter(|it| it.is_open)
        .map(|it| it.rule)
        .collect();
    assert_eq!(open, [Rule::BudgetSpent]);
}

#[tokio::test]
async fn events_keep_their_rows_when_newer_ones_come() {
    let site = Site::new(&[]);
    let tell = |what: &'static str| {
        let event = Event::own(site.state.clock.now(), what, None);
        drop(site.state.ledger.event(event).unwrap());
    };
    let keys = |html: &str| -> Vec<String> {
        let rows = html.split("<tr id=\"events-").skip(1);
        rows.map(|row| row.split('"').next().unwrap().to_owned())
            .collect()
    };
    tell("started");
    tell("config_reloaded");
    let before = keys(&site.page("/alerts?range=all").await);
    assert_eq!(before.len(), 2);
    site.state.clock.advance_micros(1);
    tell("stopping");
    let after = keys(&site.page("/alerts?range=all").await);
    assert_eq!(after[1..], before[..]);
}
