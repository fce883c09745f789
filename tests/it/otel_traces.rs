//! The trace that a call is part of: read, handed on, kept; and left alone where nobody traces.

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::harness::accounts::used;
use crate::harness::collector::{Collector, attribute};
use crate::harness::{Ask, CHAT, Proxy, Upstream, post, within};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn chat() -> Ask {
    post("/v1/chat/completions", CHAT)
}

fn traced(flags: &str) -> Ask {
    chat()
        .header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"))
        .header("tracestate", "b=2")
        .header("tracestate", "a=1")
        .header("baggage", "user.id=eve,k=v")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

pub(crate) fn otel(collector: &Collector, lines: &str) -> String {
    format!("[otel]\nendpoint = {:?}\n{lines}\n", collector.url())
}

async fn asked(lines: &str, ask: &Ask) -> (Upstream, Collector, Proxy) {
    let (upstream, collector) = (
        Upstream::answers(used(9, 5)).await,
        Collector::start().await,
    );
    let proxy = Proxy::with(&upstream).sections(&otel(&collector, lines));
    let proxy = proxy.start().await;
    assert_eq!(proxy.call(ask).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    (upstream, collector, proxy)
}

/// What the upstream was told: trace, span and flags.
fn told(upstream: &Upstream) -> (String, String, String) {
    let request = upstream.request();
    let parent = request.header("traceparent").expect("a traceparent");
    let [version, trace, span, flags] = parent.split('-').collect::<Vec<_>>()[..] else {
        panic!("{parent}");
    };
    assert_eq!(version, "00");
    (trace.to_owned(), span.to_owned(), flags.to_owned())
}

fn ids(span: &Span) -> (String, String, String) {
    (
        hex(&span.trace_id),
        hex(&span.span_id),
        hex(&span.parent_span_id),
    )
}

#[tokio::test]
async fn the_upstream_is_told_of_the_span_that_the_collector_gets() {
    let (upstream, collector, _proxy) = asked("metrics = false", &traced("01")).await;
    let (trace, span, flags) = told(&upstream);
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "01"));
    assert_ne!(span, PARENT);
    let request = upstream.request();
    assert_eq!(request.header("tracestate"), Some("b=2,a=1"));
    let of_baggage = request.header("baggage");
    assert_eq!(of_baggage, Some("user.id=eve,k=v"), "it is on this machine");
    let spans = collector.took(1).await;
    assert_eq!(ids(&spans[0]), (trace, span, PARENT.to_owned()));
    assert_eq!(spans[0].trace_state, "b=2,a=1");
    let user = attribute(&spans[0].attributes, "user.id");
    assert_eq!(user.as_deref(), Some("eve"));
}

#[tokio::test]
async fn a_malformed_traceparent_begins_a_new_trace() {
    let ask = chat()
        .header("traceparent", format!("00-{}-{PARENT}-01", "0".repeat(32)))
        .header("tracestate", "b=2");
    let (upstream, collector, _proxy) = asked("metrics = false", &ask).await;
    let (trace, span, flags) = told(&upstream);
    assert_eq!(flags, "01");
    assert_eq!(upstream.request().header("tracestate"), None);
    let spans = collector.took(1).await;
    assert_eq!(ids(&spans[0]).0, trace);
    assert_eq!(ids(&spans[0]).1, span);
}

#[tokio::test]
async fn without_a_collector_or_without_propagation_the_headers_pass_untouched() {
    let upstream = Upstream::answers(used(9, 5)).await;
    let plain = Proxy::to(&upstream).await;
    assert_eq!(plain.call(&traced("01")).await.status(), 200);
    let (of_none, _collector, _proxy) = asked("propagate = false", &traced("01")).await;
    for upstream in [&upstream, &of_none] {
        let request = upstream.request();
        let parent = format!("00-{TRACE}-{PARENT}-01");
        assert_eq!(request.header("traceparent"), Some(&*parent));
        let names: Vec<_> = request
            .head
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let states = names
            .iter()
            .filter(|name| name.eq_ignore_ascii_case("tracestate"));
        assert_eq!(states.count(), 2, "each line by itself: {names:?}");
        assert_eq!(request.header("baggage"), Some("user.id=eve,k=v"));
    }
}

#[tokio::test]
async fn a_call_that_is_not_sampled_is_handed_on_and_metered_but_no_span() {
    let (upstream, collector, proxy) = asked("metrics = false", &traced("00")).await;
    assert_eq!(told(&upstream).2, "00");
    assert_eq!(proxy.calls().await, 1);
    assert_eq!(proxy.call(&traced("01")).await.status(), 200);
    let spans = collector.took(1).await;
    assert_eq!(spans.len(), 1);
    assert_eq!(hex(&spans[0].span_id), told(&upstream).1, "of the second");
    proxy.app.stop().await;
    assert_eq!(collector.spans().len(), 1);
}

#[tokio::test]
async fn the_trace_of_a_call_is_kept_however_little_else_is() {
    let ask = traced("01").header("x-aiops-record", "none");
    let (_upstream, collector, _proxy) = asked("content = true", &ask).await;
    let spans = collector.took(1).await;
    assert_eq!(ids(&spans[0]).0, TRACE);
    let content = attribute(&spans[0].attributes, "gen_ai.input.messages");
    assert_eq!(content, None);
}
