//! The page of a run, its deeds and its files.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Site;
use crate::admin::sample::{self, Call, PLANNER, label};
use crate::core::budget::Control;
use crate::core::call::{Outcome, Settlement};
use crate::core::id::CallId;
use crate::core::loops::finding::{Scope, Signal};
use crate::core::loops::trip::{Evidence, Trip};
use crate::ledger::{Capture, Event};

/// One call of a run under test.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) run: String,
    pub(super) parent: Option<&'static str>,
    pub(super) agent: &'static str,
    pub(super) caller: Option<&'static str>,
    pub(super) outcome: Option<Outcome>,
    pub(super) cost: Option<i64>,
    /// How long it takes, in microseconds; the next call starts as long after it.
    pub(super) took_us: u64,
    /// How long nothing happens before it.
    pub(super) after_us: u64,
    pub(super) decision: Option<&'static str>,
    pub(super) sent: Value,
    pub(super) answer: Value,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            run: "night/1".to_owned(),
            parent: None,
            agent: "planner",
            caller: None,
            outcome: Some(Outcome::Completed),
            cost: Some(2_000_000),
            took_us: 1_000_000,
            after_us: 0,
            decision: None,
            sent: json!([{"role": "user", "content": "What now?"}]),
            answer: said("Nothing."),
        }
    }
}

pub(super) fn said(text: &str) -> Value {
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
}

fn capture(value: &Value) -> Capture {
    let bytes = Bytes::from(value.to_string());
    Capture {
        is_broken: false,
        len: bytes.len() as u64,
        chunks: vec![bytes],
        segments: Vec::new(),
        content_type: Some("application/json".to_owned()),
        content_encoding: None,
    }
}

impl Site {
    pub(super) fn make(&self, made: &Made) -> CallId {
        let sample = &self.sample;
        sample.clock.advance_micros(made.after_us.cast_signed());
        let call = Call {
            agent: made.agent,
            caller: made.caller,
            outcome: made.outcome,
            cost: made.cost,
            ..PLANNER
        };
        let (id, now) = (sample.clock.call_id(), sample.clock.now());
        let mut admission = sample::admission(id, now, call);
        admission.attribution.run = Some(label(&made.run));
        admission.attribution.parent_run = made.parent.map(label);
        admission.decision = made.decision.map(str::to_owned);
        let body = json!({"model": "gpt-5", "messages": made.sent});
        let entry = sample
            .ledger
            .admit(admission.clone(), Some(capture(&body)))
            .unwrap();
        sample.clock.advance_micros(made.took_us.cast_signed());
        match made.outcome {
            None => std::mem::forget(entry),
            Some(outcome) => {
                let mut end: Settlement = sample::settlement(admission, call, outcome);
                end.parent_run = made.parent.map(label);
                end.timings.total_us = made.took_us;
                end.timings.forwarded_us = Some(made.took_us / 4);
                end.timings.first_chunk_us = Some(made.took_us / 2);
                entry.settle(end, Some(capture(&made.answer)));
            }
        }
        id
    }

    /// So many calls like this one.
    fn make_many(&self, count: usize, made: &Made) -> Vec<CallId> {
        (0..count).map(|_| self.make(made)).collect()
    }
}

const RUN: &str = "/runs/night%2F1";

/// The part of a page with this id.
fn part<'p>(html: &'p str, id: &str) -> &'p str {
    let from = html
        .find(&format!("<div id=\"{id}\" data-part"))
        .unwrap_or_else(|| panic!("no part {id}"));
    let rest = &html[from..];
    let inside = rest.find('>').unwrap();
    let next = rest[inside..]
        .find("data-part")
        .map_or(rest.len(), |at| inside + at);
    &rest[..next]
}

fn researcher() -> Made {
    Made {
        agent: "researcher",
        caller: Some("planner"),
        cost: Some(1_000_000),
        ..Made::default()
    }
}

#[tokio::test]
async fn the_head_says_what_a_run_used_in_sums_that_add_up() {
    let site = Site::new(&[]);
    site.make(&Made::default());
    site.make_many(2, &researcher());
    site.make(&Made {
        outcome: Some(Outcome::UpstreamError),
        ..researcher()
    });
    site.make(&Made {
        run: "night/1/sub".to_owned(),
        parent: Some("night/1"),
        cost: Some(7_000_000),
        ..Made::default()
    });
    let html = site.page(RUN).await;
    let head = part(&html, "run-head");
    assert!(
        head.contains(
            "4,000 new input + 0 cache read + 0 cache write + 200 output = <strong>4,200</strong>"
        ),
        "{head}"
    );
    assert!(
        head.contains("3 ok, <span class=\"state bad\">1 failed</span>"),
        "{head}"
    );
    // Its own calls cost $0.005, with those of the run below it $0.012.
    assert!(head.contains("title=\"$0.005\">$0.0050</span>"), "{head}");
    assert!(head.contains("title=\"$0.012\">$0.01</span>"), "{head}");
    assert!(head.contains("href=\"/runs/night%2F1%2Fsub\""), "{head}");
    let child = site.page("/runs/night%2F1%2Fsub").await;
    assert!(
        part(&child, "run-head").contains("Part of</dt><dd><a href=\"/runs/night%2F1\""),
        "{child}"
    );
}

#[tokio::test]
async fn costs_of_agents_are_told_with_and_without_those_they_set_off() {
    let site = Site::new(&[]);
    site.make(&Made::default());
    site.make_many(2, &researcher());
    let rows = exported(&site, &format!("{RUN}?export=agents.json")).await;
    let of = |agent: &str| {
        rows.iter()
            .find(|row| row["agent"] == agent)
            .unwrap()
            .clone()
    };
    assert_eq!(of("planner")["own_usd"], "0.002000000");
    assert_eq!(of("planner")["with_callees_usd"], "0.004000000");
    assert_eq!(of("researcher")["with_callees_usd"], "0.002000000");
    assert_eq!(of("planner")["share"], "0.500");
}

async fn exported(site: &Site, path: &str) -> Vec<Value> {
    let text = site.page(path).await;
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn similar_calls_fold_failures_and_running_ones_never() {
    let site = Site::new(&[]);
    site.make_many(5, &researcher());
    let failed = site.make(&Made {
        outcome: Some(Outcome::UpstreamCut),
        ..researcher()
    });
    site.make_many(6, &researcher());
    let runs = site.make(&Made {
        outcome: None,
        ..researcher()
    });
    let html = site.page(RUN).await;
    let calls = part(&html, "run-calls");
    assert_eq!(calls.matches("<details").count(), 2);
    assert!(
        calls.contains("researcher</bdi></strong> \u{d7}5") && calls.contains("\u{d7}6"),
        "{calls}"
    );
    for loud in [failed, runs] {
        assert!(
            calls.contains(&format!("<tr id=\"call-{loud}\" data-key")),
            "{calls}"
        );
    }
    assert!(
        calls.contains("cut by the upstream") && calls.contains("rect class=\"open\""),
        "{calls}"
    );
    let flat = site.page(&format!("{RUN}?fold=false")).await;
    assert!(!part(&flat, "run-calls").contains("<details"));
    assert_eq!(
        part(&flat, "run-calls").matches("<tr id=\"call-").count(),
        13
    );
}

#[tokio::test]
async fn long_idle_time_is_a_labelled_break_unless_the_scale_is_true() {
    let site = Site::new(&[]);
    site.make_many(2, &Made::default());
    site.make(&Made {
        after_us: 720_000_000,
        ..Made::default()
    });
    let html = site.page(RUN).await;
    assert!(
        part(&html, "run-calls").contains("12 min 00 s idle</td>"),
        "{html}"
    );
    let html = site.page(&format!("{RUN}?scale=true")).await;
    assert!(!part(&html, "run-calls").contains("idle</td>"), "{html}");
}

#[tokio::test]
async fn pages_of_a_long_run_hold_every_call_once_in_order() {
    let site = Site::new(&[]);
    let mut all = Vec::new();
    for index in 0..450 {
        let outcome = if index % 9 == 0 {
            Outcome::UpstreamError
        } else {
            Outcome::Completed
        };
        all.push(site.make(&Made {
            outcome: Some(outcome),
            ..researcher()
        }));
    }
    for query in ["", "fold=false"] {
        let mut seen = Vec::new();
        let mut path = format!("{RUN}?{query}");
        loop {
            let html = site.page(&path).await;
            assert!(html.len() < 400_000, "{} bytes", html.len());
            let calls = part(&html, "run-calls");
            let ids = calls
                .split("<tr id=\"call-")
                .skip(1)
                .map(|row| row[..36].parse::<CallId>().unwrap());
            seen.extend(ids);
            let Some(next) = calls
                .split("rel=\"next\"")
                .next()
                .filter(|_| calls.contains("rel=\"next\""))
            else {
                break;
            };
            let from = next.rfind("href=\"").unwrap() + 6;
            path = next[from..]
                .split('"')
                .next()
                .unwrap()
                .replace("&amp;", "&");
        }
        assert_eq!(seen, all, "{query}");
    }
}

#[tokio::test]
async fn a_link_to_a_call_opens_the_page_and_the_step_it_is_on() {
    let site = Site::new(&[]);
    let all = site.make_many(300, &Made::default());
    let html = site.page(&format!("{RUN}?call={}", all[250])).await;
    let calls = part(&html, "run-calls");
    assert!(
        calls.contains(&format!("<tr id=\"call-{}\"", all[250])),
        "{calls}"
    );
    assert_eq!(calls.matches("data-at=").count(), 1);
    assert!(
        calls.contains("Newly sent") && calls.contains("Nothing.</pre>"),
        "{calls}"
    );
    assert_eq!(calls.matches("Newly sent").count(), 1);
    // The map leads into the middle of the run.
    assert!(
        part(&html, "run-map").contains("aria-label=\"to call "),
        "{html}"
    );
}

#[tokio::test]
async fn steps_show_what_is_new_and_one_line_for_what_is_not() {
    let site = Site::new(&[]);
    let first = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What now?"}]);
    site.make(&Made {
        sent: first.clone(),
        answer: said("Look at cats."),
        ..Made::default()
    });
    let mut second = first.as_array().unwrap().clone();
    second.push(json!({"role": "assistant", "content": "Look at cats."}));
    second.push(json!({"role": "user", "content": "And then?"}));
    site.make(&Made {
        sent: Value::Array(second.clone()),
        answer: said("Dogs."),
        ..Made::default()
    });
    second[1] = json!({"role": "user", "content": "Something else"});
    site.make(&Made {
        sent: Value::Array(second),
        answer: said("Birds."),
        ..Made::default()
    });
    let html = site.page(&format!("{RUN}?view=steps")).await;
    let cards: Vec<&str> = part(&html, "run-steps").split("<article").skip(1).collect();
    assert_eq!(cards.len(), 3);
    assert!(
        cards[0].contains("Be brief.") && cards[0].contains("Look at cats."),
        "{}",
        cards[0]
    );
    assert!(
        cards[1].contains("2 earlier messages, unchanged"),
        "{}",
        cards[1]
    );
    assert!(
        !cards[1].contains("Be brief.") && cards[1].contains("And then?"),
        "{}",
        cards[1]
    );
    assert!(
        cards[1].contains("its own answer, sent back"),
        "{}",
        cards[1]
    );
    assert!(
        cards[2].contains("The history changed at message 2"),
        "{}",
        cards[2]
    );
    assert!(
        cards[2].contains("Something else") && cards[2].contains("What now?"),
        "{}",
        cards[2]
    );
}

#[tokio::test]
async fn a_call_that_was_slowed_says_so_and_for_how_long() {
    let site = Site::new(&[]);
    site.make(&Made {
        decision: Some("slow: made to wait for 250 ms"),
        ..Made::default()
    });
    let html = site.page(RUN).await;
    let calls = part(&html, "run-calls");
    assert!(
        calls.contains("slowed for 250 ms, first byte after 500 ms, completed after 1.00 s"),
        "{calls}"
    );
    assert!(
        calls.contains("rect class=\"slow\"")
            && calls.contains("<span class=\"state warn\">slow</span>"),
        "{calls}"
    );
}

/// What deceives or would be markup, from everybody who has a say.
const HOSTILE: &str =
    "</script><script>alert(1)</script>\"><img src=x onerror=alert(1)>\u{202e}end";

fn assert_harmless(html: &str, what: &str) {
    for bad in ["<script>alert", "<img src=x", "\u{202e}"] {
        assert!(!html.contains(bad), "{what} has {bad:?}");
    }
}

#[tokio::test]
async fn hostile_texts_and_names_are_text_everywhere() {
    let site = Site::new(&[]);
    let run = format!("r{HOSTILE}");
    let made = Made {
        run: run.clone(),
        agent: "<img src=x onerror=alert(1)>\u{202e}agent",
        sent: json!([{"role": "user", "content": HOSTILE}]),
        answer: json!({"choices": [{"message": {"role": "assistant", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": HOSTILE, "arguments": HOSTILE}}]}}]}),
        ..Made::default()
    };
    let id = site.make(&made);
    let run =
        percent_encoding::utf8_percent_encode(&run, percent_encoding::NON_ALPHANUMERIC).to_string();
    for page in [
        "/runs".to_owned(),
        format!("/runs/{run}?call={id}"),
        format!("/runs/{run}?view=steps"),
        format!("/runs/{run}/export.html?texts=true"),
    ] {
        let html = site.page(&page).await;
        assert_harmless(&html, &page);
        if page.contains("call=") || page.contains("view=") {
            assert!(
                html.contains("&lt;img src=x") && html.contains("U+202E"),
                "{page}: {html}"
            );
        }
    }
}

#[tokio::test]
async fn a_message_of_ten_megabytes_costs_a_page_no_more_than_a_short_one() {
    let site = Site::new(&[]);
    let huge = "\u{202e}x".repeat(2_500_000);
    let sent = json!([{"role": "user", "content": huge}]);
    for _ in 0..10 {
        site.make(&Made {
            sent: sent.clone(),
            answer: said(&huge),
            ..Made::default()
        });
    }
    for query in ["view=steps", "fold=false"] {
        let html = site.page(&format!("{RUN}?{query}")).await;
        assert!(html.len() < 400_000, "{query}: {} bytes", html.len());
    }
    let html = site.page(&format!("{RUN}?view=steps")).await;
    assert!(html.contains("10.0 MB in all"), "{html}");
}

#[tokio::test]
async fn drawn_again_without_news_a_page_has_the_same_bytes() {
    let site = Site::new(&[]);
    site.make_many(5, &researcher());
    site.make(&Made {
        outcome: None,
        ..researcher()
    });
    for query in ["", "?view=steps", "?fold=false"] {
        let path = format!("{RUN}{query}");
        let before = site.page(&path).await;
        site.sample.clock.advance_micros(3_000_000);
        let after = site.page(&path).await;
        let main = |html: &str| {
            html.split("<main")
                .nth(1)
                .unwrap()
                .split("</main>")
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(main(&before), main(&after), "{path}");
    }
}

#[tokio::test]
async fn only_calls_of_one_agent_are_shown_when_it_is_chosen() {
    let site = Site::new(&[]);
    site.make_many(3, &researcher());
    site.make(&Made::default());
    let html = site.page(&format!("{RUN}?agent=planner")).await;
    let calls = part(&html, "run-calls");
    assert_eq!(calls.matches("<tr id=\"call-").count(), 1);
    // It keeps the number it has among all.
    assert!(calls.contains(">4</a>"), "{calls}");
    let none = site.page(&format!("{RUN}?agent=nobody")).await;
    assert!(
        none.contains("No call of this agent") && none.contains("Show those of all agents"),
        "{none}"
    );
}

#[tokio::test]
async fn what_is_not_there_or_not_understood_is_said() {
    let site = Site::new(&[]);
    site.make(&Made::default());
    let other = CallId::from_bytes([9; 16]);
    for (path, status, words) in [
        (
            "/runs/nobody",
            404,
            "no call of a run nobody is recorded; records are kept",
        ),
        (&*format!("{RUN}?call={other}"), 404, "has no call"),
        (
            &*format!("{RUN}?call=x"),
            400,
            "found `x`, expected the id of a call",
        ),
        (
            &*format!("{RUN}?view=cards"),
            400,
            "expected timeline or steps",
        ),
        (&*format!("{RUN}?scale=1"), 400, "expected true or false"),
        (
            &*format!("{RUN}?export=nothing.csv"),
            404,
            "no table `nothing`",
        ),
        ("/runs/nobody/export.json", 404, "no call of a run nobody"),
        (
            &*format!("{RUN}/export.html?texts=1"),
            400,
            "expected true or false",
        ),
    ] {
        let shown = site.get(path).await;
        assert_eq!(shown.status.as_u16(), status, "{path}: {}", shown.html);
        assert!(shown.html.contains(words), "{path}: {}", shown.html);
    }
}

#[tokio::test]
async fn a_run_leads_to_forms_that_pause_stop_and_resume_it_and_says_what_was_done() {
    let site = Site::new(&[]);
    site.make(&Made::default());
    // The engine knows a run that the index knows.
    site.page(RUN).await;
    for (control, word, next) in [
        (Control::Paused, "paused", "/budgets/resume?"),
        (Control::Stopped, "stopped", "/budgets/resume?"),
        (Control::Running, "ended", "/budgets/pause?"),
    ] {
        let run = label("night/1");
        let budgets = &site.state.budgets;
        budgets.control(&run, control, "dashboard").await.unwrap();
        let html = site.page(RUN).await;
        let head = part(&html, "run-head");
        assert!(head.contains(&format!(">{word}</span>")), "{word}: {head}");
        let from = head
            .find(next)
            .unwrap_or_else(|| panic!("no {next}: {head}"));
        let form = head[from..]
            .split('"')
            .next()
            .unwrap()
            .replace("&amp;", "&");
        assert!(
            site.page(&form).await.contains("<form method=\"post\""),
            "{form}"
        );
    }
    // What was done stands among the calls.
    let html = site.page(RUN).await;
    assert!(html.contains("paused by <bdi>dashboard</bdi>"), "{html}");
}

#[tokio::test]
async fn calls_are_exported_all_with_units_in_their_names() {
    let site = Site::new(&[]);
    site.make_many(250, &Made::default());
    let csv = site.page(&format!("{RUN}?export=calls.csv")).await;
    assert_eq!(csv.lines().count(), 251);
    assert!(csv.starts_with("number,id,started_at,run,"), "{csv}");
    let rows = exported(&site, &format!("{RUN}?export=calls.json")).await;
    assert_eq!(rows.len(), 250);
    assert_eq!(rows[249]["number"], 250);
    assert_eq!(rows[0]["cost_usd"], "0.002000000");
    assert_eq!(rows[0]["duration_us"], 1_000_000);
}

#[tokio::test]
async fn a_file_of_a_run_needs_nothing_else_and_has_texts_only_when_asked() {
    let site = Site::new(&[]);
    let secret = "what only the model should see";
    site.make(&Made {
        sent: json!([{"role": "user", "content": secret}]),
        ..Made::default()
    });
    let plain = site.get(&format!("{RUN}/export.html")).await;
    assert_eq!(plain.status, 200);
    assert!(
        plain.headers["content-disposition"]
            .to_str()
            .unwrap()
            .contains("run-night-1.html")
    );
    assert!(!plain.html.contains(secret), "{}", plain.html);
    let with = site.page(&format!("{RUN}/export.html?texts=true")).await;
    assert!(with.contains(secret), "{with}");
    for html in [&plain.html, &with] {
        for outward in [
            "<script",
            "<link",
            " src=",
            "url(",
            "@import",
            "href=\"/",
            "href=\"http",
        ] {
            assert!(!html.contains(outward), "{outward}: {html}");
        }
        assert!(
            html.contains("http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'"),
            "{html}"
        );
    }
}

#[tokio::test]
async fn a_run_as_json_has_its_calls_and_on_demand_what_was_said() {
    let site = Site::new(&[]);
    site.make_many(2, &Made::default());
    let read = async |query: &str| -> Value {
        serde_json::from_str(&site.page(&format!("{RUN}/export.json{query}")).await).unwrap()
    };
    let plain = read("").await;
    assert_eq!(plain["run"]["run"], "night/1");
    assert_eq!(plain["calls"].as_array().unwrap().len(), 2);
    assert_eq!(plain["calls"][1]["call"]["agent"], "planner");
    assert_eq!(plain["agents"][0]["own"]["cost_nano_usd"], 4_000_000);
    assert!(!plain.to_string().contains("What now?"));
    let with = read("?texts=true").await;
    assert!(
        with["calls"][0]["sent"].to_string().contains("What now?"),
        "{with}"
    );
    assert!(
        with["calls"][0]["answered"]
            .to_string()
            .contains("Nothing."),
        "{with}"
    );
}

#[tokio::test]
async fn a_run_shows_its_own_trips_and_deeds_however_much_happened_to_others() {
    let site = Site::new(&[]);
    let calls = site.make_many(6, &researcher());
    let (clock, ledger) = (&site.sample.clock, &site.sample.ledger);
    let trip = trip(&site, &calls);
    let told = |trip: &Trip| Event {
        trip: Some(Box::new(trip.clone())),
        ..Event::own(clock.now(), "loop_tripped", None)
    };
    let deed = Event::own(clock.now(), "run_paused", Some("run night/1".to_owned()));
    drop(ledger.event(deed).unwrap());
    drop(ledger.event(told(&trip)).unwrap());
    let mut last = None;
    for number in 0..1100_u128 {
        clock.advance_micros(1000);
        let other = Trip {
            id: CallId::from_bytes((number + 1_000_000).to_be_bytes()),
            run: Some(label("another")),
            ..trip.clone()
        };
        last = Some(ledger.event(told(&other)).unwrap());
    }
    last.unwrap().await;
    let detail = ledger.view().run(&label("night/1")).unwrap().unwrap();
    let span = (detail.row.first_at, clock.now().plus_micros(1));
    let found = ledger.view().events_of_run(&detail.row.run, span).unwrap();
    assert_eq!(found.trips, [trip]);
    assert_eq!(found.deeds.len(), 1);
    let html = site.page(RUN).await;
    assert!(
        part(&html, "run-trips").contains("3 times in a row"),
        "{html}"
    );
}

fn trip(site: &Site, calls: &[CallId]) -> Trip {
    Trip {
        id: CallId::from_bytes([3; 16]),
        at: site.sample.clock.now(),
        run: Some(label("night/1")),
        conversation: None,
        agent: label("researcher"),
        caller: None,
        evidence: Evidence {
            signal: Signal::Repeat,
            scope: Scope::Run,
            period: 1,
            count: 3,
            agents: vec![label("researcher")],
            calls: calls[3..].to_vec(),
            since: site.sample.clock.now(),
            tokens: 1234,
            sample: vec![format!("search({HOSTILE})")],
        },
        refused: 5,
        closed: None,
    }
}

#[tokio::test]
async fn a_loop_that_was_stopped_stands_where_it_happened_with_its_evidence() {
    let site = Site::new(&[]);
    let calls = site.make_many(6, &researcher());
    let trip = trip(&site, &calls);
    let event = Event {
        trip: Some(Box::new(trip)),
        ..Event::own(site.sample.clock.now(), "loop_tripped", None)
    };
    site.sample.ledger.event(event).unwrap().await;
    let html = site.page(RUN).await;
    let told = part(&html, "run-trips");
    assert!(
        told.contains("the same action with the same result, 3 times in a row"),
        "{told}"
    );
    assert!(
        told.contains("1,234 tokens, 5 calls refused") && told.contains("call 6</a>"),
        "{told}"
    );
    assert_harmless(&html, "the page");
    // Its calls stand alone, those before it are too few to fold.
    assert!(!part(&html, "run-calls").contains("<details"), "{html}");
    assert!(
        part(&html, "run-calls").contains("class=\"happened\""),
        "{html}"
    );
    let listed = site.page("/runs?problems=on").await;
    assert!(listed.contains("night%2F1"), "{listed}");
    // What it did is a text of a message: a file has it only when asked.
    let sample = async |query: &str| -> Value {
        let file = site.page(&format!("{RUN}/export.json{query}")).await;
        let file: Value = serde_json::from_str(&file).unwrap();
        file["happened"][0]["trip"]["evidence"]["sample"].clone()
    };
    assert_eq!(sample("").await, json!([]));
    assert_eq!(
        sample("?texts=true").await,
        json!([format!("search({HOSTILE})")])
    );
}
