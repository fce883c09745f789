//! Budgets over the router: how they stand, orders that are carried out, and all that must not be.

use serde_json::json;

use super::*;
use crate::admin::sample::{admission, claim, hold, rules, settlement};
use crate::budgets::Used;
use crate::core::budget::Limits;
use crate::core::call::Outcome;
use crate::core::money::NanoUsd;

const NIGHT: &str = "night/1";
const RAISE: &str = "/api/v1/budgets/raise";
const RESET: &str = "/api/v1/budgets/reset";

impl Listener {
    /// Lets a call of `run` use $0.42, 1000 tokens in and 50 out.
    async fn spend(&self, run: &'static str) {
        let budgets = &self.state.budgets;
        let call = Call { run, ..PLANNER };
        let mut claim = claim(budgets, call, Limits::default()).await;
        let used = Used {
            input_tokens: 1000,
            output_tokens: 50,
            cost: Some(NanoUsd::new(420_000_000)),
            fallback: NanoUsd::ZERO,
            is_call: true,
        };
        let now = self.state.clock.now();
        hold(budgets, &mut claim).await.settle(&used, now, drop);
    }

    async fn post(&self, path: &str, order: &str) -> Answer {
        let request = Request::post(path)
            .header("host", "localhost:8788")
            .header("content-type", "application/json");
        let body = Body::from(order.to_owned());
        self.send(request.body(body).unwrap()).await
    }

    async fn order(&self, path: &str, order: Value) -> Value {
        let answer = self.post(path, &order.to_string()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// What is wrong with an order.
    async fn wrong(&self, path: &str, order: &str, status: u16) -> String {
        let answer = self.post(path, order).await;
        let text = answer.text();
        assert_eq!(answer.status.as_u16(), status, "{path} {order}: {text}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        serde_json::from_slice::<Problem>(&answer.body)
            .unwrap()
            .detail
    }

    async fn budgets(&self, query: &str) -> Vec<Value> {
        let list = self.json(&format!("/api/v1/budgets?{query}")).await;
        list["budgets"].as_array().unwrap().clone()
    }

    async fn used_of_night(&self) -> Value {
        let budgets = self.budgets("rule=each%20run&value=night%2F1").await;
        budgets[0]["accounts"][0]["measures"][0]["used_nano_usd"].clone()
    }
}

// === how they stand ===

#[tokio::test]
async fn rules_in_force_are_shown_before_anybody_called() {
    let listener = Listener::with(&rules());
    let budgets = listener.budgets("").await;
    let names: Vec<_> = budgets.iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["each run", "day/all", "team"]);
    assert_eq!(
        budgets[0],
        json!({
            "name": "each run", "per": ["run"], "match": "", "window": "total", "timezone": null,
            "limits": {
                "nano_usd": 2_000_000_000, "tokens": null, "input_tokens": null,
                "output_tokens": null, "calls": 100, "concurrent": null,
                "micro_metric": null
            },
            "metric": null,
            "slow_at_permille": 800, "max_delay_us": 10_000_000, "warn_at_permille": 500,
            "action": "break", "on_unpriced": "fallback_price",
            "accounts": [], "accounts_total": 0
        })
    );
    assert_eq!(budgets[1]["match"], "agent=plan*|research*");
    assert_eq!(budgets[1]["window"], "day");
    assert_eq!(budgets[1]["timezone"], "Europe/Berlin");
    assert_eq!(budgets[2]["per"], json!(["user", "tag.team"]));
    assert_eq!(budgets[2]["window"], "15m");
    assert_eq!(Listener::new().budgets("").await, [] as [Value; 0]);
}

#[tokio::test]
async fn accounts_show_what_is_used_held_and_left() {
    let listener = Listener::with(&rules());
    listener.spend(NIGHT).await;
    let budgets = &listener.state.budgets;
    let mut claimed = claim(budgets, PLANNER, Limits::default()).await;
    let running = hold(budgets, &mut claimed).await;
    let shown = listener.budgets("").await;
    assert_eq!(
        shown[0]["accounts"],
        json!([{
            "key": [{"dimension": "run", "value": "night/1"}],
            "key_text": "run=night/1",
            "measures": [
                {
                    "measure": "usd", "used_nano_usd": 420_000_000, "held_nano_usd": 20_000_000,
                    "limit_nano_usd": 2_000_000_000, "raised_nano_usd": 0
                },
                {"measure": "calls", "used": 1, "held": 1, "limit": 100, "raised": 0}
            ],
            "metric": null, "used_permille": 210, "state": "open", "running": 1, "waiting": 0, "refused": 0,
            "resets_at": null, "last_at": "2026-11-01T12:30:05.000000Z"
        }])
    );
    let day = &shown[1]["accounts"][0];
    assert_eq!(day["key"], json!([]));
    assert_eq!(day["resets_at"], "2026-11-01T23:00:00.000000Z");
    let team = &shown[2]["accounts"][0];
    assert_eq!(team["key_text"], "user=,tag.team=search");
    assert_eq!(team["key"][0]["value"], Value::Null);
    assert_eq!(team["measures"][0]["used"], 1);
    drop(running);
}

#[tokio::test]
async fn accounts_are_found_by_rule_and_value_the_fullest_first() {
    let listener = Listener::with(&rules());
    for run in ["a", "b", "b", "b", "c", "c"] {
        listener.spend(run).await;
    }
    let keys = |budgets: &[Value]| -> Vec<String> {
        let accounts = budgets[0]["accounts"].as_array().unwrap();
        let key = |it: &Value| it["key_text"].as_str().unwrap().to_owned();
        accounts.iter().map(key).collect()
    };
    let fullest = listener.budgets("limit=2").await;
    assert_eq!(keys(&fullest), ["run=b", "run=c"]);
    assert_eq!(fullest[0]["accounts_total"], 3);
    assert_eq!(fullest[0]["accounts"][0]["state"], "warning");
    let one = listener.budgets("rule=each+run&value=a").await;
    assert_eq!((one.len(), keys(&one)), (1, vec!["run=a".to_owned()]));
    let detail = listener.problem("/api/v1/budgets?rule=x", 404).await;
    let known = "configured: \"each run\", \"day/all\", \"team\"";
    assert!(detail.ends_with(known), "{detail}");
    let detail = listener.problem("/api/v1/budgets?limit=0", 400).await;
    assert!(detail.contains("limit: found `0`"), "{detail}");
}

#[tokio::test]
async fn limits_that_clients_brought_are_shown_where_there_are_some() {
    let listener = Listener::with(&rules());
    listener.spend(NIGHT).await;
    assert_eq!(listener.budgets("").await.len(), 3);
    let tightened = Limits {
        calls: Some(5),
        ..Limits::default()
    };
    drop(claim(&listener.state.budgets, PLANNER, tightened).await);
    let budgets = listener.budgets("").await;
    assert_eq!(budgets[3]["name"], "x-aiops-budget");
    assert_eq!(budgets[3]["accounts"][0]["measures"][0]["limit"], 5);
    let order = json!({"rule": "x-aiops-budget", "key": {"run": NIGHT}, "calls": 2});
    let raised = listener.order(RAISE, order).await;
    assert_eq!(raised["measures"][0]["limit"], 7);
}

// === orders ===

#[tokio::test]
async fn account_is_raised_and_reset() {
    let listener = Listener::with(&rules());
    listener.spend(NIGHT).await;
    let key = json!({"run": NIGHT});
    for (usd, limit) in [
        (json!("1.50"), 3_500_000_000_u64),
        (json!(0.1), 3_600_000_000),
        (json!("0.000000001"), 3_600_000_001),
    ] {
        let order = json!({"rule": "each run", "key": key, "usd": usd, "calls": 3, "who": "ada"});
        let raised = listener.order(RAISE, order).await;
        assert_eq!(raised["rule"], "each run");
        assert_eq!(raised["key_text"], "run=night/1");
        assert_eq!(raised["measures"][0]["limit_nano_usd"], limit);
        assert_eq!(raised["until"], Value::Null);
    }
    // Exact where floating point would not be.
    let text = r#"{"rule": "each run", "key": {"run": "night/1"}, "usd": 9007199.254740993}"#;
    let answer = listener.post(RAISE, text).await;
    let raised: Value = serde_json::from_slice(&answer.body).unwrap();
    let put_on_top = &raised["measures"][0]["raised_nano_usd"];
    assert_eq!(*put_on_top, 9_007_200_854_740_994_u64);
    let reset = listener
        .order(RESET, json!({"rule": "each run", "key": key}))
        .await;
    assert_eq!(reset["measures"][0]["used_nano_usd"], 0);
    assert_eq!(reset["measures"][0]["raised_nano_usd"], 0);
    assert_eq!(reset["measures"][1]["limit"], 100);
    assert_eq!(listener.used_of_night().await, 0);
}

#[tokio::test]
async fn raise_of_a_window_ends_with_it() {
    let listener = Listener::with(&rules());
    listener.spend(NIGHT).await;
    let raised = listener
        .order(RAISE, json!({"rule": "day/all", "tokens": 500}))
        .await;
    assert_eq!(raised["until"], "2026-11-01T23:00:00.000000Z");
    assert_eq!(raised["measures"][0]["limit"], 10_500);
    for none in [json!(null), json!("")] {
        let order =
            json!({"rule": "team", "key": {"tag.team": "search", "user": none}, "concurrent": 1});
        assert_eq!(listener.order(RAISE, order).await["rule"], "team");
    }
}

#[tokio::test]
async fn run_is_paused_resumed_and_stopped() {
    let listener = Listener::with(&rules());
    listener.records(&[PLANNER]);
    listener.spend(NIGHT).await;
    let claim = claim(&listener.state.budgets, PLANNER, Limits::default()).await;
    let running = listener.state.budgets.enlist(&claim);
    let shown = listener.json("/api/v1/runs/night%2F1").await;
    assert_eq!(shown["control"], "running");
    for (deed, control, ended) in [
        ("pause", "paused", 0),
        ("resume", "running", 0),
        ("stop", "stopped", 1),
        ("resume", "running", 0),
    ] {
        let path = format!("/api/v1/runs/night%2F1/{deed}");
        let order = json!({"who": "ada at home"});
        let done = listener.order(&path, order).await;
        let expected = json!({"run": NIGHT, "control": control, "ended_calls": ended});
        assert_eq!(done, expected);
        let patience = std::time::Duration::ZERO;
        let entered = listener.state.budgets.enter(&claim, patience).await;
        assert_eq!(entered.is_ok(), control == "running", "{deed}");
    }
    assert!(running.switch().why().is_some(), "it was told to end");
    let nobody = listener.post("/api/v1/runs/night%2F1/pause", "").await;
    assert_eq!(nobody.status, 200, "an empty body asks with all defaults");
}

impl Listener {
    /// Records a call that uses $0.42 of all its accounts, the ones its client limits among them.
    async fn record_charged(&self, call: Call, tightened: Limits) {
        let (budgets, ledger) = (&self.state.budgets, &self.state.ledger);
        let mut claim = claim(budgets, call, tightened).await;
        let mut hold = hold(budgets, &mut claim).await;
        budgets.open_accounts(&claim);
        let clock = &self.state.clock;
        let mut admission = admission(clock.call_id(), clock.now(), call);
        admission.tightened = tightened;
        admission.hold = hold.charges();
        let entry = ledger.admit(admission.clone(), None).unwrap();
        hold.recorded();
        clock.advance_micros(2_000_000);
        let mut settled = settlement(admission, call, Outcome::Completed);
        let used = Used {
            cost: Some(NanoUsd::new(420_000_000)),
            is_call: true,
            ..Used::default()
        };
        hold.settle(&used, clock.now(), |charges| settled.charges = charges);
        entry.settle(settled, None);
    }
}

#[tokio::test]
async fn what_was_done_is_known_when_memory_is_not() {
    let mut listener = Listener::with(&rules());
    let tightened = Limits {
        calls: Some(5),
        ..Limits::default()
    };
    listener.record_charged(PLANNER, tightened).await;
    let order = json!({"rule": "each run", "key": {"run": NIGHT}, "usd": "1"});
    listener.order(RAISE, order).await;
    let order = json!({"who": " ada "});
    let stop = "/api/v1/runs/night%2F1/stop";
    listener.order(stop, order).await;
    let shown = listener.json("/api/v1/runs/night%2F1").await;
    assert_eq!(shown["control"], "stopped");
    let events = listener.json("/api/v1/events").await;
    let latest = |n: usize| {
        (
            events["events"][n]["what"].clone(),
            events["events"][n]["who"].clone(),
        )
    };
    assert_eq!(latest(0), (json!("run_stopped"), json!("ada")));
    assert_eq!(latest(1), (json!("budget_raised"), json!("api")));
    let before = listener.budgets("").await;

    listener.state = listener.sample.state(&rules());
    assert_eq!(listener.budgets("").await, before);
    let order = json!({"rule": "x-aiops-budget", "key": {"run": NIGHT}, "calls": 2});
    let raised = listener.order(RAISE, order).await;
    assert_eq!(raised["measures"][0]["used"], 1);
    assert_eq!(raised["measures"][0]["limit"], 7);
    let claim = claim(&listener.state.budgets, PLANNER, Limits::default()).await;
    let entered = listener
        .state
        .budgets
        .enter(&claim, std::time::Duration::ZERO);
    assert!(entered.await.is_err(), "it is still stopped");
}

#[tokio::test]
async fn what_is_not_there_is_told_with_what_is() {
    let listener = Listener::with(&rules());
    listener.records(&[PLANNER]);
    listener.spend(NIGHT).await;
    for (path, order, expected) in [
        (
            RAISE,
            r#"{"rule": "each rum", "usd": "1"}"#,
            "there is no budget \"each rum\"; configured: \"each run\", \"day/all\", \"team\"",
        ),
        (
            RESET,
            r#"{"rule": "each run", "key": {"run": "night"}}"#,
            "no call was counted for \"each run\", run night yet; its accounts: run=night/1",
        ),
        (
            "/api/v1/runs/other/pause",
            "{}",
            "no call of a run other was seen yet; the latest runs: night/1",
        ),
    ] {
        assert_eq!(listener.wrong(path, order, 404).await, expected);
    }
    let (accounts, _) = listener.state.budgets.in_memory();
    assert_eq!(accounts, 3, "those of its call alone");
    let none = Listener::new();
    let detail = none.wrong(RESET, r#"{"rule": "x"}"#, 404).await;
    assert_eq!(detail, "there is no budget \"x\"; configured: none");
}

#[tokio::test]
async fn wrong_order_is_told_what_was_expected_and_changes_nothing() {
    let listener = Listener::with(&rules());
    listener.spend(NIGHT).await;
    let before = listener.budgets("").await;
    let amount = "expected an amount in USD above 0";
    let count = "expected a whole number above 0";
    for (rest, expected) in [
        ("", "say by how much: one of usd, tokens"),
        (r#", "usd": "0""#, amount),
        (r#", "usd": -1"#, amount),
        (r#", "usd": "1,50""#, amount),
        (r#", "usd": "1e3""#, amount),
        (r#", "usd": 1e3"#, amount),
        (r#", "usd": "0.0000000001""#, amount),
        (r#", "usd": {"nano": 1}"#, amount),
        (r#", "usd": true"#, amount),
        (r#", "usd": 99999999999"#, amount),
        (r#", "calls": 0"#, count),
        (r#", "calls": -1"#, count),
        (r#", "calls": 1.5"#, count),
        (r#", "calls": "7""#, count),
        (r#", "calls": 99999999999999999999"#, count),
        (r#", "tokens": 7"#, "has no limit of tokens"),
        (r#", "usd": 1, "eur": 1"#, "unknown field `eur`"),
        (r#", "usd": 1, "usd": 2"#, "duplicate field `usd`"),
        (r#", "usd": 1, "who": "a\nb""#, "who: expected at most 128"),
        (r#", "usd": 1, "who": 7"#, "expected a string"),
    ] {
        let order = format!(r#"{{"rule": "each run", "key": {{"run": "night/1"}}{rest}}}"#);
        let detail = listener.wrong(RAISE, &order, 400).await;
        assert!(detail.contains(expected), "{order}: {detail}");
    }
    let long = format!(r#"{{"who": "{}"}}"#, "x".repeat(129));
    let path = "/api/v1/runs/night%2F1/stop";
    assert!(listener.wrong(path, &long, 400).await.starts_with("who: "));
    assert_eq!(listener.budgets("").await, before);
}

#[tokio::test]
async fn wrong_key_is_told_what_was_expected() {
    let listener = Listener::with(&rules());
    listener.spend(NIGHT).await;
    let apart = "the budget \"each run\" counts apart by run=...";
    for (order, expected) in [
        (r#"{"rule": "each run"}"#, apart),
        (r#"{"rule": "each run", "key": {"agent": "a"}}"#, apart),
        (
            r#"{"rule": "each run", "key": {"run": "night/1", "agent": "a"}}"#,
            apart,
        ),
        (
            r#"{"rule": "day/all", "key": {"run": "a"}}"#,
            "counts apart nothing: all calls are one",
        ),
        (
            r#"{"rule": "each run", "key": {"colour": "a"}}"#,
            "key: found `colour`, expected run, ",
        ),
        (
            r#"{"rule": "each run", "key": {"run": 7}}"#,
            "invalid type: integer `7`",
        ),
        (
            r#"{"rule": "each run", "key": {"run": "a", "run": "b"}}"#,
            "run is there twice",
        ),
        (
            r#"{"rule": "each run", "key": "run=a"}"#,
            "expected a key such as",
        ),
        (
            r#"{"rule": "each run", "key": {"run": " \t"}}"#,
            "key: run: is empty",
        ),
        (r#"{"rule": ""}"#, "rule: is empty"),
        (r#"{"key": {}}"#, "missing field `rule`"),
        ("", "missing field `rule`"),
        ("[]", "body: invalid length 0"),
        ("{", "body: EOF while parsing"),
        ("rule=each+run", "body: expected value"),
    ] {
        let detail = listener.wrong(RESET, order, 400).await;
        assert!(detail.contains(expected), "{order}: {detail}");
    }
    assert_eq!(listener.used_of_night().await, 420_000_000);
}

// === who may not ===

#[tokio::test]
async fn order_of_another_site_is_never_carried_out() {
    let listener = Listener::with(&rules());
    listener.spend(NIGHT).await;
    let json = ("content-type", "application/json");
    let form = "application/x-www-form-urlencoded";
    for (headers, status) in [
        (&[json, ("origin", "https://evil.example")][..], 403),
        (&[json, ("origin", "null")], 403),
        (&[json, ("sec-fetch-site", "cross-site")], 403),
        (&[], 415),
        (&[("content-type", "text/plain")], 415),
        (&[("content-type", form)], 415),
        (&[("content-type", "multipart/form-data; boundary=x")], 415),
        (&[json, ("content-type", "text/plain")], 415),
    ] {
        for path in [RESET, "/api/v1/runs/night%2F1/stop"] {
            let order = match path {
                RESET => r#"{"rule": "each run", "key": {"run": "night/1"}}"#,
                _ => "{}",
            };
            let mut request = Request::post(path).header("host", "localhost:8788");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = listener.send(request.body(order.into()).unwrap()).await;
            assert_eq!(answer.status.as_u16(), status, "{path} {headers:?}");
            assert!(!answer.headers.contains_key("access-control-allow-origin"));
        }
    }
    let foreign = Request::post(RESET)
        .header("host", "evil.example")
        .header(json.0, json.1)
        .body(Body::from(
            r#"{"rule": "each run", "key": {"run": "night/1"}}"#,
        ));
    assert_eq!(listener.send(foreign.unwrap()).await.status, 403);
    assert_eq!(listener.used_of_night().await, 420_000_000);
    let claim = claim(&listener.state.budgets, PLANNER, Limits::default()).await;
    let entered = listener
        .state
        .budgets
        .enter(&claim, std::time::Duration::ZERO);
    assert!(entered.await.is_ok(), "the run was not stopped");
}

#[tokio::test]
async fn nothing_is_done_by_get_and_no_preflight_is_answered() {
    let listener = Listener::with(&rules());
    listener.spend(NIGHT).await;
    for path in [RAISE, RESET, "/api/v1/runs/night%2F1/stop"] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
            let request = Request::builder().method(method).uri(path);
            let request = request.header("host", "localhost").body(Body::empty());
            let answer = listener.send(request.unwrap()).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.headers["allow"], "POST");
            if method != "HEAD" {
                let text = answer.text();
                assert!(text.contains("does something: use POST"), "{text}");
            }
        }
    }
    assert_eq!(listener.used_of_night().await, 420_000_000);
}

#[tokio::test]
async fn order_of_more_than_64_kib_is_too_large() {
    let listener = Listener::with(&rules());
    let long = format!("{{{}}}", " ".repeat(64 * 1024));
    let detail = listener.wrong(RESET, &long, 413).await;
    assert!(detail.contains("65536"), "{detail}");
}
