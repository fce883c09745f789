//! The overview.

use super::Site;
use crate::admin::sample::{Call, FAILED, PLANNER, claim, hold, rules};
use crate::core::budget::Limits;

/// What stands between two texts.
fn between<'a>(html: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = html
        .split_once(from)
        .unwrap_or_else(|| panic!("no {from} in {html}"));
    rest.split_once(to).map_or(rest, |(found, _)| found)
}

fn part<'a>(html: &'a str, id: &str) -> &'a str {
    between(html, &format!("id=\"{id}\" data-part"), "data-part")
}

#[tokio::test]
async fn the_tiles_say_what_the_ledger_sums_up() {
    let html = Site::with_calls().page("/").await;
    let tiles = part(&html, "tiles");
    let said = [
        "$0.0020",
        "3.1k",
        "3.0k new, 0 cached, 150 out",
        "33 % failed",
        "2 calls unpriced",
        "known from 20 answers on",
    ];
    for text in said {
        assert!(tiles.contains(text), "{text}: {tiles}");
    }
    assert!(tiles.contains("3 ended"), "{tiles}");
    assert!(tiles.contains("no calls in the span before"), "{tiles}");
    assert_eq!(tiles.matches("<a class=\"tile\"").count(), 5);
}

#[tokio::test]
async fn figures_are_compared_with_the_span_before() {
    let site = Site::with_calls();
    site.sample.clock.advance_micros(86_400_000_000);
    site.record(PLANNER);
    let html = site.page("/?range=24h").await;
    let tiles = part(&html, "tiles");
    assert!(
        tiles.contains("as in the span before"),
        "the same spend: {tiles}"
    );
    assert!(
        tiles.contains("\u{2193} 66 %") || tiles.contains("\u{2193} 67 %"),
        "one call after three: {tiles}"
    );
    assert!(!site.page("/?range=all").await.contains("the span before"));
}

#[tokio::test]
async fn percentiles_are_there_from_twenty_answers_on() {
    let site = Site::new(&[]);
    for _ in 0..20 {
        site.record(PLANNER);
    }
    let html = site.page("/").await;
    assert!(part(&html, "tiles").contains("p50 "), "{html}");
    assert!(!part(&html, "tiles").contains("known from"), "{html}");
}

#[tokio::test]
async fn a_column_of_the_chart_makes_its_time_the_range() {
    let site = Site::with_calls();
    let html = site.page("/?range=15m").await;
    let data = part(&html, "trend-rows");
    let link = between(data, "<th scope=\"row\"><a href=\"", "\"").replace("&amp;", "&");
    assert!(
        link.contains("since=") && link.contains("until=") && !link.contains("range="),
        "{link}"
    );
    let zoomed = site.page(&link).await;
    assert!(part(&zoomed, "tiles").contains("3 ended"), "{link}");
    let chart = between(&html, "<svg class=\"columns-chart\"", "</svg>");
    assert!(chart.contains(&link.replace('&', "&amp;")), "{chart}");
}

#[tokio::test]
async fn the_chart_tells_apart_what_it_is_asked_to() {
    let site = Site::with_calls();
    let legend = |html: &str| between(html, "<ul class=\"legend\">", "</ul>").to_owned();
    let by_agent = legend(&site.page("/?by=agent&show=calls").await);
    assert!(
        by_agent.contains("planner") && by_agent.contains("researcher"),
        "{by_agent}"
    );
    let by_model = legend(&site.page("/?by=model&show=tokens").await);
    assert!(
        by_model.contains("gpt-5") && by_model.contains("local-llama"),
        "{by_model}"
    );
    let by_upstream = legend(&site.page("/?by=upstream").await);
    assert!(by_upstream.contains("openai"), "{by_upstream}");
}

#[tokio::test]
async fn a_wrong_parameter_is_told_with_what_would_be_right() {
    let site = Site::with_calls();
    let shown = site.get("/?by=colour").await;
    assert_eq!(shown.status, 400);
    assert!(
        shown
            .html
            .contains("by: found `colour`, expected one of agent, model, upstream"),
        "{}",
        shown.html
    );
    let shown = site.get("/?show=fun").await;
    assert!(
        shown.html.contains("expected one of cost, calls, tokens"),
        "{}",
        shown.html
    );
}

#[tokio::test]
async fn many_agents_are_five_lines_and_all_others() {
    let site = Site::new(&[]);
    for agent in ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8"] {
        site.record(Call { agent, ..PLANNER });
    }
    let html = site.page("/").await;
    let legend = between(&html, "<ul class=\"legend\">", "</ul>");
    assert_eq!(legend.matches("<li>").count(), 6, "{legend}");
    assert!(legend.contains("all others"));
    let chart = between(&html, "<svg class=\"columns-chart\"", "</svg>");
    assert!(
        chart.contains("class=\"stack-4\"") && chart.contains("class=\"stack-5\""),
        "{chart}"
    );
}

#[tokio::test]
async fn tables_are_of_the_range_and_can_be_exported() {
    let site = Site::with_calls();
    let html = site.page("/").await;
    assert!(
        part(&html, "agents").contains(">planner<") && part(&html, "runs").contains("night/1"),
        "{html}"
    );
    let file = site.get("/?export=agents.csv").await;
    let head = "agent,calls,cost_usd,tokens,cached_percent,p95_ms,failed\r\n";
    assert!(file.html.starts_with(head), "{}", file.html);
    assert!(
        file.html.contains("planner,1,0.002000000,1050,0.0,,0\r\n"),
        "{}",
        file.html
    );
    assert!(
        file.html.contains("researcher,2,,2100,0.0,,1\r\n"),
        "unpriced is no 0: {}",
        file.html
    );
    for table in ["models", "runs", "trend"] {
        let file = site.get(&format!("/?export={table}.json")).await;
        assert!(file.html.starts_with("[\n"), "{table}: {}", file.html);
    }
}

#[tokio::test]
async fn a_run_with_a_call_on_its_way_runs_now_and_shows_its_budget() {
    let site = Site::new(&rules());
    let budgets = &site.state.budgets;
    let mut its = claim(budgets, PLANNER, Limits::default()).await;
    let _held = hold(budgets, &mut its).await;
    site.record(Call {
        outcome: None,
        ..PLANNER
    });
    let html = site.page("/").await;
    let running = part(&html, "running");
    assert!(
        running.contains("night/1") && running.contains("1 open"),
        "{running}"
    );
    assert!(
        running.contains("0 of 100 calls") && running.contains("<svg class=\"meter\""),
        "{running}"
    );
    let site = Site::with_calls();
    assert!(
        site.page("/")
            .await
            .contains("No run has a call on its way.")
    );
}

#[tokio::test]
async fn without_any_call_it_says_what_to_do() {
    let site = Site::new(&[]);
    let html = site.page("/").await;
    let setup = part(&html, "setup");
    assert!(
        setup.contains("export OPENAI_BASE_URL=http://127.0.0.1:8787/v1"),
        "{setup}"
    );
    assert!(
        setup.contains("data-copy") && html.contains("data-live"),
        "{html}"
    );
}

#[tokio::test]
async fn a_range_without_calls_leads_to_all_time() {
    let site = Site::with_calls();
    site.sample.clock.advance_micros(7_200_000_000);
    let html = site.page("/?range=1h").await;
    assert!(
        html.contains("No call ended in the last hour") && html.contains("range=all"),
        "{html}"
    );
    assert!(!html.contains("OPENAI_BASE_URL"), "it is in use already");
}

#[tokio::test]
async fn nothing_changes_while_nothing_happens() {
    let site = Site::with_calls();
    site.record(FAILED);
    assert!(site.state.ledger.sync_index());
    assert_eq!(site.page("/").await, site.page("/").await);
}

#[tokio::test]
async fn the_most_expensive_agent_is_the_first_however_many_were_active_since() {
    let site = Site::new(&[]);
    let names: Vec<&'static str> = (0..1005)
        .map(|n| &*Box::leak(format!("agent-{n:04}").into_boxed_str()))
        .collect();
    let call = |agent: &'static str, cost: i64| Call {
        agent,
        model: agent,
        cost: Some(cost),
        ..PLANNER
    };
    site.record(call("first", 9_000_000));
    site.sample.clock.advance_micros(86_400_000_000);
    for name in names {
        site.record(call(name, 1_000));
    }
    let html = site.page("/?range=all").await;
    for id in ["agents", "models"] {
        let table = part(&html, id);
        assert!(table.contains(">first<"), "{id}: {table}");
        assert!(
            table.contains("10 of 1 006")
                || table.contains("10 of 1,006")
                || table.contains("10 of 1006"),
            "{id}: {table}"
        );
    }
    let calls = part(&html, "tiles");
    assert!(calls.contains("006 ended"), "all time has all: {calls}");
}

#[tokio::test]
async fn runs_of_a_range_say_that_their_figures_are_of_all_they_did() {
    let site = Site::with_calls();
    let words = "active in this range, each with all it ever used";
    let html = site.page("/?range=1h").await;
    assert!(part(&html, "runs").contains(words), "{html}");
    let html = site.page("/?range=all").await;
    assert!(!part(&html, "runs").contains(words), "{html}");
}
