//! The page of budgets.

use super::Site;
use crate::admin::sample::{Call, PLANNER, claim, hold, rules};
use crate::budgets::Used;
use crate::core::budget::Limits;
use crate::core::money::NanoUsd;

/// Spends so many nano-USD of the budgets of a run.
async fn spend(site: &Site, run: &'static str, nano: i64) {
    let call = Call { run, ..PLANNER };
    site.record(call);
    let budgets = &site.state.budgets;
    let mut claimed = claim(budgets, call, Limits::default()).await;
    let used = Used {
        input_tokens: 1000,
        output_tokens: 50,
        cost: Some(NanoUsd::new(nano)),
        fallback: NanoUsd::ZERO,
        is_call: true,
    };
    let hold = hold(budgets, &mut claimed).await;
    hold.settle(&used, site.sample.clock.now(), drop);
}

/// What stands in a part of a page.
fn part<'h>(html: &'h str, id: &str) -> &'h str {
    let (_, rest) = html
        .split_once(&format!("<div id=\"{id}\" data-part"))
        .unwrap();
    rest.split("data-part").next().unwrap()
}

#[tokio::test]
async fn accounts_stand_most_used_first_with_what_can_be_done() {
    let site = Site::new(&rules());
    spend(&site, "small", 100_000_000).await;
    spend(&site, "large/1", 1_700_000_000).await;
    let html = site.page("/budgets").await;
    let (large, small) = (
        html.find("/runs/large%2F1").unwrap(),
        html.find("/runs/small").unwrap(),
    );
    assert!(large < small);
    assert!(
        html.contains("$2.00, 100 calls for each run, for ever."),
        "{html}"
    );
    assert!(
        html.contains(
            "Slows calls from 80 % on, by up to 10.00 s. At the limit calls are refused."
        )
    );
    assert!(html.contains("$1.70 of $2.00 used, $0.00 held"));
    assert!(html.contains("85 %"));
    assert!(
        html.contains("/budgets/raise?rule=each%20run&amp;back=%2Fbudgets&amp;key.run=large%2F1")
    );
    assert!(html.contains("/budgets/stop?run=large%2F1&amp;back=%2Fbudgets"));
    assert!(html.contains("almost used"));
}

#[tokio::test]
async fn every_page_tells_of_budgets_that_are_almost_used() {
    let site = Site::new(&rules());
    spend(&site, "small", 100_000_000).await;
    assert!(!site.page("/loops").await.contains("almost used"));
    spend(&site, "large", 1_700_000_000).await;
    let told = "&quot;each run&quot;, run large: 85 %";
    let html = until(&site, |html| html.contains(told)).await;
    assert!(html.contains("budget is almost used"), "{html}");
    // A run that did nothing for a while is no concern of every page any more.
    site.sample.clock.advance_micros(1_000_000_000);
    site.record(PLANNER);
    until(&site, |html| !html.contains(told)).await;
}

/// A page that tells what it should: it is not looked again at once when looking took long.
async fn until(site: &Site, is_so: impl Fn(&str) -> bool) -> String {
    for _ in 0..10_000 {
        let html = site.page("/loops").await;
        if is_so(&html) {
            return html;
        }
    }
    panic!("it is never told");
}

#[tokio::test]
async fn the_time_to_the_limit_goes_by_what_was_used_lately() {
    let site = Site::new(&rules());
    spend(&site, "night/1", 1_000_000_000).await;
    // The one call of the last 15 minutes cost $0.002; $1 is left: 500 times 15 minutes.
    let html = site.page("/budgets").await;
    assert!(
        html.contains("at the rate of the last 15 minutes\">~5 days"),
        "{html}"
    );
    site.sample.clock.advance_micros(2_000_000_000);
    assert!(
        !site
            .page("/budgets")
            .await
            .contains("at the rate of the last 15 minutes")
    );
}

#[tokio::test]
async fn the_page_can_be_filtered_and_says_so() {
    let site = Site::new(&rules());
    spend(&site, "small", 100_000_000).await;
    spend(&site, "large", 1_700_000_000).await;
    let html = site.page("/budgets?value=small").await;
    assert!(html.contains("/runs/small") && !html.contains("/runs/large"));
    assert!(html.contains("Show all"));
    let none = site.page("/budgets?rule=each+run&value=nobody").await;
    assert!(none.contains("No call was counted yet") || none.contains("No account fits"));
    let wrong = site.get("/budgets?rule=nope").await;
    assert_eq!(wrong.status, 404);
    assert!(
        wrong
            .html
            .contains("there is no budget &quot;nope&quot;; configured:"),
        "{}",
        wrong.html
    );
    assert_eq!(site.get("/budgets?value=%00").await.status, 400);
}

#[tokio::test]
async fn without_budgets_there_is_an_example_to_copy_that_is_valid() {
    let html = Site::new(&[]).page("/budgets").await;
    assert!(html.contains("No budget is configured") && html.contains("data-copy"));
    let config =
        crate::config::Config::parse("config.toml", super::super::budgets::EXAMPLE, &|_| None);
    assert_eq!(config.unwrap().budgets.len(), 1);
}

#[tokio::test]
async fn accounts_are_exported_with_exact_figures() {
    let site = Site::new(&rules());
    spend(&site, "large", 1_700_000_001).await;
    let csv = site.page("/budgets?export=budgets.csv").await;
    let line = "each run,run=large,usd,1.700000001,0.00,0.299999999,2.00,0.00,850,warning,0,";
    assert!(csv.lines().any(|it| it.starts_with(line)), "{csv}");
    assert_eq!(csv.lines().count(), 1 + 2 + 1 + 1);
}

#[tokio::test]
async fn nothing_changes_on_the_page_when_nothing_happened() {
    let site = Site::new(&rules());
    spend(&site, "large", 1_700_000_000).await;
    let first = site.page("/budgets").await;
    site.sample.clock.advance_micros(3_000_000);
    let second = site.page("/budgets").await;
    for id in ["budgets", "deeds", "banners"] {
        assert_eq!(part(&first, id), part(&second, id), "{id}");
    }
}

#[tokio::test]
async fn names_that_would_deceive_are_shown_for_what_they_are() {
    let site = Site::new(&rules());
    spend(
        &site,
        "\"><img src=x onerror=alert(1)>\u{202e}",
        100_000_000,
    )
    .await;
    let html = site.page("/budgets").await;
    assert!(!html.contains("<img src=x") && html.contains("&lt;img src=x"));
    assert!(html.contains("U+202E"));
}
