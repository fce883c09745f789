//! Spans of runs, which are told when a run is over: not while it goes on, and by whichever process.

use open_aiops::clock::Clock;
use open_aiops::core::time::Timestamp;
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::harness::accounts::{chat, finish, pending, used};
use crate::harness::collector::{Collector, Reply, attribute};
use crate::harness::{Upstream, within};
use crate::otel::{called, counts, services, telling};

const SECOND: i64 = 1_000_000;

fn clock() -> Clock {
    Clock::manual(Timestamp::from_micros(1_800_000_000 * SECOND))
}

/// Runs that were told as a whole, and of how many calls.
fn runs(spans: &[Span]) -> Vec<(String, String)> {
    let roots = spans.iter().filter(|it| it.name == "invoke_workflow");
    let of = |span: &Span, key| attribute(&span.attributes, key).unwrap();
    roots
        .map(|it| (of(it, "aiops.run"), of(it, "aiops.calls")))
        .collect()
}

fn told(run: &str, calls: u64) -> (String, String) {
    (run.to_owned(), calls.to_string())
}

fn calls(spans: &[Span]) -> usize {
    let calls = spans.iter().filter(|it| it.name.starts_with("chat"));
    calls.count()
}

#[tokio::test]
async fn a_run_is_told_as_a_whole_by_the_next_process_where_this_one_could_not() {
    let (upstream, collector) = services().await;
    let clock = clock();
    let setup = || telling(&upstream, &collector, "metrics = false").on_clock(&clock);
    let first = setup().start().await;
    called(&first, &[chat("trip", 20), chat("over", 20)]).await;
    collector.took(2).await;
    clock.advance_micros(50 * SECOND);
    called(&first, &[chat("trip", 20)]).await;
    collector.took(3).await;
    clock.advance_micros(20 * SECOND);
    collector.took(5).await;
    // Only then nothing is on its way any more.
    let exported = "open_aiops_otel_exported_total{signal=\"traces\"} 5";
    counts(&first, exported).await;
    assert_eq!(runs(&collector.spans()), [told("over", 1)]);
    collector.says(Reply::Status(503));
    let dir = first.dir.clone();
    first.app.stop().await;
    collector.says(Reply::Takes);
    let second = setup().on_data_of(&dir).start().await;
    called(&second, &[chat("trip", 20)]).await;
    second.app.stop().await;
    let spans = collector.spans();
    assert_eq!(runs(&spans), [told("over", 1), told("trip", 3)]);
    assert_eq!(calls(&spans), 4, "each is told once");
}

#[tokio::test]
async fn a_run_is_not_over_while_a_call_of_it_is_open() {
    let (answer, driver) = pending();
    let answers = [used(9, 5), answer, used(9, 5)];
    let upstream = Upstream::answers_each(answers).await;
    let collector = Collector::start().await;
    let clock = clock();
    let setup = telling(&upstream, &collector, "metrics = false").on_clock(&clock);
    let proxy = setup.start().await;
    called(&proxy, &[chat("busy", 20)]).await;
    let mut client = proxy.client().await;
    client.send(chat("busy", 20).bytes()).await;
    upstream.until(|requests| requests.len() == 2).await;
    assert_eq!(proxy.call(&chat("over", 20)).await.status(), 200);
    // What was recorded before its end is known of.
    collector.took(2).await;
    clock.advance_micros(120 * SECOND);
    let spans = collector.took(4).await;
    assert_eq!(runs(&spans), [told("over", 1)]);
    finish(&driver, 9, 5).await;
    within("the end", proxy.app.settled()).await;
    collector.took(5).await;
    clock.advance_micros(120 * SECOND);
    let spans = collector.took(7).await;
    assert_eq!(runs(&spans), [told("over", 1), told("busy", 2)]);
}
