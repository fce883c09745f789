//! The pages of loops.

use std::sync::Arc;

use bytes::Bytes;

use super::Site;
use crate::admin::sample::{Call, PLANNER, Sample, admission};
use crate::config::Config;
use crate::core::call::Operation;
use crate::core::id::CallId;
use crate::ledger::{Durable, Event, SpanFilter, Unavailable};
use crate::loops::recognise::Request;
use crate::loops::{Keeper, Loops};
use crate::wire::route::Dialect;
use crate::wire::scan::scan;

const BODY: &str =
    r#"{"model":"gpt-5","messages":[{"role":"user","content":"Look for <img src=x>"}]}"#;

/// Has an agent of a run send the same request again until it is stopped; the loop's id.
fn stop(site: &Site, run: &'static str) -> CallId {
    let (text, seed) = (
        Bytes::from_static(BODY.as_bytes()),
        site.state.ledger.seed(),
    );
    let facts = scan(Operation::Chat, Dialect::Chat, &text, seed);
    let loops = &site.state.loops;
    for _ in 0..100 {
        let call = site.record(Call { run, ..PLANNER });
        let now = site.sample.clock.now();
        let mut who = admission(call, now, Call { run, ..PLANNER }).attribution;
        let request = Request {
            call,
            operation: Operation::Chat,
            facts: &facts,
            text: &text,
            seed,
            key: None,
            retry: 0,
            shows: true,
            now,
        };
        let turn = loops.recognise(&request, &mut who).unwrap();
        match loops.judge(&turn, &who, call) {
            Ok(_) => loops.failed(&turn, who.run.as_ref()),
            Err(refusal) => {
                assert!(refusal.to_string().contains(&call.to_string()));
                return call;
            }
        }
    }
    panic!("never stopped");
}

#[tokio::test]
async fn a_loop_that_is_stopped_is_told_on_every_page_with_its_evidence() {
    let site = Site::new(&[]);
    let id = stop(&site, "night/1");
    let html = site.page("/budgets").await;
    assert!(html.contains("1 loop is stopped"), "{html}");
    let html = site.page("/loops").await;
    assert!(html.contains("the same request sent again"), "{html}");
    assert!(html.contains("the same request was sent again, and got no other answer."));
    assert!(html.contains("open: its calls are refused"));
    assert!(html.contains("/runs/night%2F1"));
    assert!(html.contains(&format!("/loops/reset?loop={id}")));
    assert!(html.contains("1</strong> call refused"));
    let one = site.page(&format!("/loops/{id}")).await;
    assert!(one.contains("The last rounds, side by side") && one.contains("Loop of planner"));
    let trip = site.state.loops.open_trip(id).unwrap();
    let count = trip.evidence.count;
    assert!(count > 4, "more than are shown");
    assert!(one.contains(&format!("Round {count} of {count}")), "{one}");
    assert!(!one.contains("Round 1 of"));
}

#[tokio::test]
async fn a_loop_goes_on_when_an_operator_says_so_and_is_told_closed() {
    let site = Site::new(&[]);
    let id = stop(&site, "night/1");
    let form = site.page(&format!("/loops/reset?loop={id}&allow=3")).await;
    assert!(
        form.contains("planner may go on in the run night/1."),
        "{form}"
    );
    assert!(form.contains("The next 3 calls of it pass whatever they repeat."));
    assert_eq!(site.state.loops.latest_trips(9).0, 1, "a form does nothing");
    let (_, rest) = form.split_once("name=\"once\" value=\"").unwrap();
    let once = rest.split_once('"').unwrap().0;
    let id = id.to_string();
    let fields = [("once", once), ("loop", &id), ("allow", "3")];
    let done = site.post("/loops/reset", &fields).await;
    assert_eq!(done.status, 303, "{}", done.html);
    assert_eq!(site.state.loops.latest_trips(9).0, 0);
    let html = site.page("/loops").await;
    assert!(html.contains("let go on by an operator") && !html.contains("loop is stopped"));
    assert!(!html.contains("/loops/reset"));
    let one = site.page(&format!("/loops/{id}")).await;
    assert!(one.contains("let go on by an operator"));
    let again = site.get(&format!("/loops/reset?loop={id}")).await;
    assert_eq!(again.status, 404);
    assert!(
        again.html.contains("is open: it may have closed by itself"),
        "{}",
        again.html
    );
}

#[tokio::test]
async fn open_loops_come_first_and_all_are_exported() {
    let site = Site::new(&[]);
    let first = stop(&site, "early");
    let second = stop(&site, "late");
    site.state.loops.reset(second, 0, "test").await.unwrap();
    let html = site.page("/loops").await;
    let at = |id: CallId| html.find(&format!("id=\"loop-{id}\"")).unwrap();
    assert!(at(first) < at(second));
    let csv = site.page("/loops?export=loops.csv").await;
    assert_eq!(csv.lines().count(), 3, "{csv}");
    assert!(
        csv.contains("early,planner,,same_request,conversation,1,"),
        "{csv}"
    );
    assert!(csv.contains(",operator"));
}

/// Takes nothing in.
struct Full;

impl Keeper for Full {
    fn tell(&self, _: Event) {}

    fn keep(&self, _: Event) -> Result<Durable, Unavailable> {
        Err(Unavailable::Full)
    }
}

#[tokio::test]
async fn a_loop_stays_stopped_where_it_cannot_be_recorded_that_it_goes_on() {
    let sample = Sample::new();
    let mut state = sample.state(&[]);
    let clock = sample.clock.clone();
    state.loops = Arc::new(Loops::new(&Config::default(), clock, Box::new(Full)));
    let router = super::site(&state);
    let site = Site {
        state,
        sample,
        router,
    };
    let id = stop(&site, "night/1");
    let form = site.page(&format!("/loops/reset?loop={id}")).await;
    let (_, rest) = form.split_once("name=\"once\" value=\"").unwrap();
    let once = rest.split_once('"').unwrap().0;
    let fields = [("once", once), ("loop", &id.to_string()), ("allow", "0")];
    let shown = site.post("/loops/reset", &fields).await;
    assert_eq!(shown.status, 503);
    assert!(shown.html.contains("nothing was done"), "{}", shown.html);
    assert!(site.state.loops.open_trip(id).is_some());
}

#[tokio::test]
async fn each_loop_is_told_once_over_all_pages_as_it_stood_last() {
    let site = Site::new(&[]);
    let first = stop(&site, "early");
    let second = stop(&site, "late");
    let opened = site.sample.clock.now().plus_micros(1);
    for id in [first, second] {
        site.sample.clock.advance_micros(1_000_000);
        site.state.loops.reset(id, 0, "test").await.unwrap();
    }
    assert!(site.state.ledger.sync_index());
    let view = site.state.ledger.view();
    let mut filter = SpanFilter {
        limit: 1,
        ..SpanFilter::default()
    };
    let mut told = Vec::new();
    loop {
        let page = view.trips(&filter).unwrap();
        told.extend(page.items);
        filter.before = page.next;
        if page.next.is_none() {
            break;
        }
    }
    let ids: Vec<CallId> = told.iter().map(|trip| trip.id).collect();
    assert_eq!(ids, [second, first]);
    assert!(told.iter().all(|trip| trip.closed.is_some()));
    let before = SpanFilter {
        until: Some(opened),
        ..SpanFilter::default()
    };
    let told = view.trips(&before).unwrap().items;
    assert_eq!(told.len(), 2);
    assert!(
        told.iter().all(|trip| trip.closed.is_some()),
        "closed since"
    );
}

#[tokio::test]
async fn without_loops_the_page_says_that_they_are_watched_for() {
    let site = Site::with_calls();
    let html = site.page("/loops").await;
    assert!(html.contains("No loop was stopped") && html.contains("Loops are watched for"));
    let missing = site
        .get("/loops/01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e")
        .await;
    assert_eq!(missing.status, 404);
    assert!(missing.html.contains("is recorded: the id may be wrong"));
    let wrong = site.get("/loops/seven").await;
    assert_eq!(wrong.status, 400);
}

#[tokio::test]
async fn nothing_changes_on_the_page_when_nothing_happened() {
    let site = Site::new(&[]);
    stop(&site, "night/1");
    let (first, second) = (site.page("/loops").await, site.page("/loops").await);
    let parts = |html: &str| {
        html.split("<main")
            .nth(1)
            .unwrap()
            .split("<footer")
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(parts(&first), parts(&second));
}
