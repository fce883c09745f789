//! What Prometheus is told of a whole proxy.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use open_aiops::clock::Clock;
use open_aiops::core::time::Timestamp;
use regex::Regex;

use crate::harness::accounts::{chat, used};
use crate::harness::records::ask;
use crate::harness::{Client, Proxy, Response, Upstream, get, within};

const BUDGETS: &str = "[[budget]]\nname = \"all\"\ncalls = 4\n\
                       [[budget]]\nname = \"each run\"\nper = [\"run\"]\nusd = 2.00\n";

async fn page(proxy: &Proxy) -> String {
    let answer = ask(proxy.app.admin_address(), "/metrics").await;
    assert_eq!(answer.status(), 200);
    answer.text().to_owned()
}

#[track_caller]
fn check_lines(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|it| it == *line), "no {line} in {page}");
    }
}

/// The values of a label of one metric.
fn values(page: &str, metric: &str, label: &str) -> BTreeSet<String> {
    let series = Regex::new(&format!(r#"(?m)^{metric}\{{[^}}]*{label}="([^"]*)""#)).unwrap();
    let found = series.captures_iter(page);
    found.map(|it| it[1].to_owned()).collect()
}

/// The words that a function called `kind` in a source file may answer.
fn kinds(file: &str) -> BTreeSet<String> {
    let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(path).unwrap();
    let (_, rest) = source.split_once("fn kind(&self)").unwrap();
    let (body, _) = rest.split_once("\n    }\n").unwrap();
    let word = Regex::new(r#""(\w+)""#).unwrap();
    let found = word.captures_iter(body);
    found.map(|it| it[1].to_owned()).collect()
}

#[tokio::test]
async fn whatever_can_be_refused_rejected_or_fail_is_counted_from_the_start() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let page = page(&Proxy::to(&upstream).await).await;
    let mut told = values(&page, "open_aiops_refusals_total", "reason");
    told.extend(values(&page, "open_aiops_rejects_total", "kind"));
    told.extend(values(&page, "open_aiops_upstream_faults_total", "kind"));
    let mut known = kinds("src/proxy/respond.rs");
    known.extend(kinds("src/budgets/refusal.rs"));
    known.extend(kinds("src/core/loops/refusal.rs"));
    assert_eq!(told, known);
}

#[tokio::test]
async fn openmetrics_is_sent_to_who_takes_it_and_plain_text_to_all_others() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let proxy = Proxy::to(&upstream).await;
    let asked = async |accept: &'static str| -> Response {
        let mut client = Client::connect(proxy.app.admin_address()).await;
        let bytes = get("/metrics").header("accept", accept).bytes();
        let bytes = String::from_utf8(bytes).unwrap();
        client.send(bytes.replace("proxy.test", "localhost")).await;
        client.response(false).await
    };
    let new = asked("application/openmetrics-text;version=1.0.0,text/plain;q=0.5").await;
    assert!(new.text().ends_with("# EOF\n"), "{}", new.text());
    let old = asked("*/*").await;
    assert!(
        old.text()
            .contains("# TYPE open_aiops_calls_in_flight gauge\n")
    );
    assert!(!old.text().contains("# EOF"));
}

#[tokio::test]
async fn what_budgets_have_left_is_told_before_and_after_calls_and_after_a_restart() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let proxy = Proxy::with(&upstream).sections(BUDGETS).start().await;
    check_lines(
        &page(&proxy).await,
        &[
            "open_aiops_budget_left{budget=\"all\",measure=\"calls\"} 4.0",
            "open_aiops_budget_left{budget=\"each run\",measure=\"usd\"} 2.0",
            "open_aiops_budget_used_ratio{budget=\"each run\",measure=\"usd\"} 0.0",
            "open_aiops_budget_accounts{budget=\"each run\"} 0.0",
            "open_aiops_budget_refusals_total{budget=\"all\"} 0",
        ],
    );
    for run in ["one", "two", "three"] {
        let answer = proxy.call(&chat(run, 20)).await;
        assert_eq!(answer.status(), 200);
    }
    within("the end", proxy.app.settled()).await;
    check_lines(
        &page(&proxy).await,
        &[
            "open_aiops_budget_left{budget=\"all\",measure=\"calls\"} 1.0",
            "open_aiops_budget_used_ratio{budget=\"all\",measure=\"calls\"} 0.75",
            "open_aiops_budget_accounts{budget=\"each run\"} 3.0",
        ],
    );
    let dir = Arc::clone(&proxy.dir);
    proxy.app.stop().await;
    let again = Proxy::with(&upstream)
        .sections(BUDGETS)
        .on_data_of(&dir)
        .start()
        .await;
    check_lines(
        &page(&again).await,
        &["open_aiops_budget_used_ratio{budget=\"all\",measure=\"calls\"} 0.75"],
    );
}

#[tokio::test]
async fn a_run_that_used_up_its_budget_is_told_of_as_long_as_somebody_asks_for_it() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let clock = Clock::manual(Timestamp::from_micros(1_793_536_200_000_000));
    let budget = "[[budget]]\nname = \"each run\"\nper = [\"run\"]\ncalls = 1\n";
    let setup = Proxy::with(&upstream).sections(budget);
    let proxy = setup.on_clock(&clock).start().await;
    let used = |ratio| {
        format!("open_aiops_budget_used_ratio{{budget=\"each run\",measure=\"calls\"}} {ratio}")
    };
    assert_eq!(proxy.call(&chat("one", 20)).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    clock.advance_micros(30 * 60 * 1_000_000);
    check_lines(&page(&proxy).await, &[&used("1.0")]);
    assert_eq!(proxy.call(&chat("one", 20)).await.status(), 429);
    clock.advance_micros(59 * 60 * 1_000_000);
    check_lines(&page(&proxy).await, &[&used("1.0")]);
    clock.advance_micros(2 * 60 * 1_000_000);
    check_lines(&page(&proxy).await, &[&used("0.0")]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_process_tells_what_it_takes_of_the_machine() {
    let upstream = Upstream::answers(used(9, 60)).await;
    let page = page(&Proxy::to(&upstream).await).await;
    let figure = |name: &str| -> f64 {
        let found = page.lines().find_map(|line| line.strip_prefix(name));
        found
            .unwrap_or_else(|| panic!("no {name} in {page}"))
            .trim()
            .parse()
            .unwrap()
    };
    assert!(figure("process_resident_memory_bytes ") > 1e6);
    assert!(figure("process_virtual_memory_bytes ") > figure("process_resident_memory_bytes "));
    assert!(figure("process_open_fds ") >= 3.0);
    assert!(figure("process_max_fds ") >= figure("process_open_fds "));
    assert!(figure("process_threads ") >= 1.0);
    assert!(figure("process_cpu_seconds_total ") >= 0.0);
    assert!(figure("process_start_time_seconds ") > 1.7e9);
    assert!(figure("open_aiops_ledger_free_bytes ") > 0.0);
}
