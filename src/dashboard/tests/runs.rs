//! The list of runs: filters, pages, what is said when there is none.

use serde_json::Value;

use super::Site;
use super::run::Made;
use crate::admin::sample::rules;
use crate::core::call::Outcome;
use crate::ledger::RunFilter;

fn made(run: &str) -> Made {
    Made {
        run: run.to_owned(),
        ..Made::default()
    }
}

async fn names(site: &Site, query: &str) -> Vec<String> {
    let text = site
        .page(&format!("/runs?export=runs.json&range=all&{query}"))
        .await;
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    rows.iter()
        .map(|row| row["run"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn runs_are_listed_newest_first_with_what_they_used() {
    let site = Site::new(&[]);
    site.make(&made("first"));
    site.make(&Made {
        outcome: Some(Outcome::UpstreamError),
        cost: None,
        ..made("second")
    });
    site.make(&Made {
        outcome: None,
        after_us: 1_000_000,
        ..made("third")
    });
    let html = site.page("/runs").await;
    let at = |what: &str| {
        html.find(what)
            .unwrap_or_else(|| panic!("no {what}: {html}"))
    };
    let places = ["/runs/third", "/runs/second", "/runs/first"].map(at);
    assert!(places.is_sorted(), "{places:?}: {html}");
    assert!(
        html.contains("<span class=\"state run\">running</span>"),
        "{html}"
    );
    assert!(
        html.contains("<span class=\"state bad\">1 failed</span>"),
        "{html}"
    );
    assert!(html.contains("unpriced"), "{html}");
}

#[tokio::test]
async fn every_filter_keeps_what_it_names() {
    let site = Site::new(&[]);
    site.make(&made("plain"));
    site.make(&Made {
        outcome: Some(Outcome::UpstreamCut),
        ..made("failed")
    });
    site.make(&Made {
        cost: Some(3_000_000_000),
        ..made("dear")
    });
    site.make(&Made {
        agent: "critic",
        ..made("other")
    });
    site.make(&Made {
        outcome: None,
        ..made("open")
    });
    assert_eq!(names(&site, "problems=on").await, ["failed"]);
    assert_eq!(names(&site, "cost=2.50").await, ["dear"]);
    assert_eq!(names(&site, "agent=critic").await, ["other"]);
    assert_eq!(names(&site, "state=running").await, ["open"]);
    assert_eq!(names(&site, "text=AIL").await, ["failed"]);
    assert_eq!(names(&site, "tag=team%3Dsearch").await.len(), 5);
    assert_eq!(names(&site, "tag=team%3Dsales&state=ended").await, [""; 0]);
}

#[tokio::test]
async fn pages_lead_through_all_runs_without_loss_or_doubles() {
    let site = Site::new(&[]);
    for index in 0..230 {
        site.make(&made(&format!("run-{index:03}")));
    }
    let mut seen = Vec::new();
    let mut path = "/runs?range=all".to_owned();
    loop {
        let html = site.page(&path).await;
        let rows = html.split("<tr id=\"runs-").skip(1);
        seen.extend(rows.map(|row| {
            let from = row.find("/runs/").unwrap() + 6;
            row[from..from + 7].to_owned()
        }));
        assert!(html.len() < 400_000);
        let Some(more) = html.split("<p class=\"more\"><a href=\"").nth(1) else {
            break;
        };
        path = more.split('"').next().unwrap().replace("&amp;", "&");
    }
    let all: Vec<String> = (0..230)
        .rev()
        .map(|index| format!("run-{index:03}"))
        .collect();
    assert_eq!(seen, all);
}

#[tokio::test]
async fn nothing_to_see_says_why_and_what_to_do() {
    let site = Site::new(&[]);
    let html = site.page("/runs?range=all").await;
    assert!(
        html.contains("No run yet") && html.contains("OPENAI_BASE_URL=http://127.0.0.1:8787/v1"),
        "{html}"
    );
    site.make(&made("plain"));
    let html = site.page("/runs?agent=nobody&problems=on&range=all").await;
    assert!(
        html.contains("No run matches") && html.contains("<strong><bdi>nobody</bdi></strong>"),
        "{html}"
    );
    assert!(
        html.contains("href=\"/runs?problems=on&amp;range=all\""),
        "{html}"
    );
    site.sample.clock.advance_micros(3 * 86_400_000_000);
    let html = site.page("/runs?range=1h").await;
    assert!(
        html.contains("No run was active in the last hour") && html.contains("Look at all time"),
        "{html}"
    );
}

#[tokio::test]
async fn parameters_that_are_wrong_are_refused_with_what_is_expected() {
    let site = Site::new(&[]);
    for (query, words) in [
        (
            "state=dead",
            "expected running, ended, paused, stopped or tripped",
        ),
        ("tag=team", "expected &lt;name&gt;=&lt;value&gt;"),
        ("cost=much", "expected an amount in USD, such as 1.50"),
        ("before=yesterday", "expected a time"),
        ("range=x", "expected 15m"),
    ] {
        let shown = site.get(&format!("/runs?{query}")).await;
        assert_eq!(shown.status, 400, "{query}");
        assert!(shown.html.contains(words), "{query}: {}", shown.html);
    }
}

#[tokio::test]
async fn a_run_with_a_budget_to_itself_shows_how_much_of_it_is_used() {
    use crate::admin::sample::{PLANNER, claim, hold};
    use crate::core::budget::Limits;
    let site = Site::new(&rules());
    site.record(PLANNER);
    let mut claim = claim(&site.state.budgets, PLANNER, Limits::default()).await;
    let held = hold(&site.state.budgets, &mut claim).await;
    let at = site.sample.clock.now();
    held.settle_as_held(at, |_| ());
    let html = site.page("/runs").await;
    assert!(html.contains("budget each run: "), "{html}");
    let run = site.page("/runs/night%2F1").await;
    assert!(
        run.contains("Budget <a href=\"/budgets?rule=each%20run\">"),
        "{run}"
    );
}

/// With these runs, in the order they are made, and what was said of them.
async fn measured(runs: &[(&str, Option<&str>)]) -> Site {
    let site = Site::new(&[]);
    for (run, quality) in runs {
        site.make(&made(run));
        if let Some(quality) = quality {
            let fields = [("name", "quality"), ("value", *quality)];
            let shown = site.post(&format!("/measure?run={run}"), &fields).await;
            assert_eq!(shown.status, 303, "{}", shown.html);
        }
    }
    site
}

#[tokio::test]
async fn runs_are_chosen_and_sorted_by_a_metric_as_the_api_names_it() {
    let site = measured(&[
        ("bad", Some("0.2")),
        ("good", Some("0.9")),
        ("none", None),
        ("fair", Some("0.5")),
    ])
    .await;
    assert_eq!(names(&site, "metric=quality%3C0.6").await, ["fair", "bad"]);
    let listed = site.state.ledger.view().runs(&RunFilter {
        metric: "quality<0.6".parse().ok(),
        ..RunFilter::default()
    });
    let listed = listed.unwrap().items.into_iter();
    let listed: Vec<String> = listed.map(|row| row.run.to_string()).collect();
    assert_eq!(listed, ["fair", "bad"], "as the API has it");
    assert_eq!(
        names(&site, "sort=quality").await,
        ["good", "fair", "bad", "none"]
    );
    assert_eq!(
        names(&site, "sort=-quality").await,
        ["bad", "fair", "good", "none"]
    );
    assert_eq!(
        names(&site, "sort=-quality&metric=quality%3E0.4").await,
        ["fair", "good"]
    );
    for (query, words) in [
        (
            "metric=quality",
            "expected a custom metric and a bound, such as score&lt;0.5",
        ),
        (
            "sort=two+words",
            "expected the name of a custom metric such as score",
        ),
        (
            "columns=two+words",
            "expected names of custom metrics such as score,docs",
        ),
    ] {
        let shown = site.get(&format!("/runs?{query}")).await;
        assert_eq!(shown.status, 400, "{query}");
        assert!(shown.html.contains(words), "{query}: {}", shown.html);
    }
}

#[tokio::test]
async fn links_sort_runs_by_their_metrics_and_turn_the_order_around() {
    let site = measured(&[("one", Some("1")), ("two", Some("2"))]).await;
    let html = site.page("/runs").await;
    assert!(html.contains("href=\"/runs?sort=quality\""), "{html}");
    let html = site.page("/runs?sort=quality&metric=quality%3E0").await;
    assert!(
        html.contains("most first") && !html.contains("least first"),
        "{html}"
    );
    assert!(
        html.contains("href=\"/runs?metric=quality%3E0&amp;sort=-quality\""),
        "the filter stays: {html}"
    );
    assert!(
        html.contains("<td><bdi>quality</bdi> <bdi>2</bdi>"),
        "{html}"
    );
    let html = site.page("/runs?sort=score").await;
    let cell = "<td><bdi>score</bdi>";
    assert!(html.contains(cell), "what is sorted by comes first: {html}");
    let html = site.page("/runs?columns=score").await;
    assert!(!html.contains("<td><bdi>quality"), "{html}");
    assert!(
        html.contains("href=\"/runs?columns=score&amp;sort=score\""),
        "{html}"
    );
}

#[tokio::test]
async fn a_page_of_sorted_runs_says_how_many_it_leaves_out() {
    let site = Site::new(&[]);
    for index in 0..130 {
        site.make(&made(&format!("run-{index:03}")));
    }
    let html = site.page("/runs?range=all&sort=quality").await;
    assert_eq!(html.matches("<tr id=\"runs-").count(), 100);
    assert!(html.contains("These are the first 100 of 130."), "{html}");
}
