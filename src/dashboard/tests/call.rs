//! The page of a call.

use super::Site;
use crate::admin::sample::{Call, FAILED, PLANNER, RESEARCHER};
use crate::core::id::CallId;

const TABS: [&str; 7] = [
    "messages",
    "raw",
    "headers",
    "usage",
    "attribution",
    "decisions",
    "timing",
];

fn request(messages: &[(&str, &str)]) -> Vec<u8> {
    let messages: Vec<_> = messages
        .iter()
        .map(|(role, text)| serde_json::json!({"role": role, "content": text}))
        .collect();
    serde_json::to_vec(&serde_json::json!({"model": "gpt-5", "messages": messages})).unwrap()
}

fn answer(text: &str) -> Vec<u8> {
    let message = serde_json::json!({"role": "assistant", "content": text});
    serde_json::to_vec(&serde_json::json!({"choices": [{"message": message}]})).unwrap()
}

fn talk(site: &Site, messages: &[(&str, &str)], said: &str) -> CallId {
    site.sample
        .record_saying(PLANNER, &request(messages), &answer(said))
}

#[tokio::test]
async fn a_call_shows_what_is_new_and_leads_to_those_around_it() {
    let site = Site::new(&[]);
    let first = talk(
        &site,
        &[("system", "You plan."), ("user", "Begin.")],
        "I begin.",
    );
    let second = talk(
        &site,
        &[
            ("system", "You plan."),
            ("user", "Begin."),
            ("assistant", "I begin."),
            ("user", "Go on."),
        ],
        "I go on.",
    );
    let html = site.page(&format!("/calls/{second}")).await;
    assert!(
        html.contains("Go on.") && html.contains("I go on."),
        "{html}"
    );
    assert!(
        !html.contains("You plan."),
        "what was sent before is one line"
    );
    assert!(html.contains("2 messages, unchanged"));
    assert!(html.contains("its own answer, sent back"));
    assert!(html.contains(&format!("href=\"/calls/{first}\" rel=\"prev\"")));
    let all = site.page(&format!("/calls/{second}?show=all")).await;
    assert!(all.contains("You plan.") && all.contains("#1 "));
    let one = site.page(&format!("/calls/{second}?message=0")).await;
    assert!(one.contains("You plan.") && !one.contains("I go on."));
}

#[tokio::test]
async fn every_tab_is_there_and_the_same_twice() {
    let site = Site::with_calls();
    let call = site.record(FAILED);
    for tab in TABS {
        let path = format!("/calls/{call}?tab={tab}");
        let (first, second) = (site.page(&path).await, site.page(&path).await);
        let main = |html: &str| {
            html.split("<main")
                .nth(1)
                .unwrap()
                .split("<footer")
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(main(&first), main(&second), "{tab}");
        assert_eq!(first.matches("<h1>").count(), 1);
        assert!(first.len() < 400 << 10, "{tab}: {}", first.len());
        assert!(
            !first.contains("style=\"") && !first.contains("<script>"),
            "{tab}"
        );
    }
    for path in [
        format!("/calls/{call}?tab=none"),
        format!("/calls/{call}?show=none"),
        format!("/calls/{call}?message=x"),
        format!("/calls/{call}?tab=raw&preview=x"),
        "/calls/x".to_owned(),
    ] {
        assert_eq!(site.get(&path).await.status, 400, "{path}");
    }
    let missing = site
        .get("/calls/01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e")
        .await;
    assert_eq!(missing.status, 404);
    assert!(missing.html.contains("keep_for"));
}

#[tokio::test]
async fn what_models_and_clients_say_is_text() {
    let site = Site::new(&[]);
    let evil =
        "</script><script>alert(1)</script>\"><img src=x onerror=alert(2)>\u{202e}\u{1b}[31m";
    let call = Call {
        run: "\"><img src=x>",
        agent: "<b>agent</b>\u{202e}",
        ..PLANNER
    };
    let id = site
        .sample
        .record_saying(call, &request(&[("user", evil)]), &answer(evil));
    for tab in TABS {
        let html = site.page(&format!("/calls/{id}?tab={tab}")).await;
        for bad in [
            "<script>alert",
            "<img src=x",
            "<b>agent",
            "\u{202e}",
            "\u{1b}",
        ] {
            assert!(!html.contains(bad), "{tab}: {bad:?}");
        }
    }
    let html = site.page(&format!("/calls/{id}")).await;
    assert!(html.contains("&lt;img src=x") && html.contains("U+202E") && html.contains("U+001B"));
}

#[tokio::test]
async fn a_message_of_ten_megabytes_is_cut_and_can_be_had() {
    let site = Site::new(&[]);
    let long = "<&\u{1}".repeat(10 << 20 >> 2);
    let id = site
        .sample
        .record_saying(PLANNER, &request(&[("user", &long)]), &answer(&long));
    for (tab, more) in [("messages", "/request"), ("raw", "preview=long")] {
        let html = site.page(&format!("/calls/{id}?tab={tab}")).await;
        assert!(html.len() < 400 << 10, "{tab}: {}", html.len());
        assert!(
            html.contains("Show more") && html.contains(more) || tab == "messages",
            "{tab}"
        );
    }
    let whole = site.page(&format!("/calls/{id}?message=0")).await;
    assert!(whole.len() < 400 << 10, "{}", whole.len());
    let raw = site.page(&format!("/calls/{id}?tab=raw")).await;
    assert!(raw.contains(&format!("/api/v1/calls/{id}/request")));
}

#[tokio::test]
async fn what_is_said_of_usage_adds_up() {
    let site = Site::new(&[]);
    let id = site.record(PLANNER);
    let html = site.page(&format!("/calls/{id}?tab=usage")).await;
    assert!(html.contains("<strong>1,000</strong> new input + <strong>50</strong> output = <strong>1,050</strong> tokens"), "{html}");
    assert!(html.contains("by the upstream"));
    // gpt-5: $1.25 in and $10 out for a million.
    assert!(html.contains("$1.25") && html.contains("$10.00"), "{html}");
    let csv = site
        .page(&format!("/calls/{id}?tab=usage&export=usage.csv"))
        .await;
    assert_eq!(
        csv,
        "kind,quantity,usd_per_million,cost_usd\r\nnew input,1000,1.25,0.00125\r\noutput,50,10.00,0.0005\r\n"
    );
    let unpriced = site.record(RESEARCHER);
    let html = site.page(&format!("/calls/{unpriced}?tab=usage")).await;
    assert!(html.contains("unpriced") && html.contains("[[price]]"));
}

#[tokio::test]
async fn whose_call_it_is_says_how_that_is_known() {
    let site = Site::new(&[]);
    let id = site.record(RESEARCHER);
    let html = site.page(&format!("/calls/{id}?tab=attribution")).await;
    assert!(html.contains("said by an x-aiops header or in the base URL"));
    assert!(html.contains("researcher") && html.contains("planner") && html.contains("tag team"));
    let csv = site
        .page(&format!(
            "/calls/{id}?tab=attribution&export=attribution.csv"
        ))
        .await;
    assert!(csv.contains("caller,planner,said by the client"), "{csv}");
}

#[tokio::test]
async fn a_call_that_runs_is_told_to_run_and_its_page_is_live() {
    let site = Site::new(&[]);
    let id = site.record(Call {
        outcome: None,
        ..PLANNER
    });
    for tab in TABS {
        let html = site.page(&format!("/calls/{id}?tab={tab}")).await;
        assert!(
            html.contains("running since") && html.contains("data-live"),
            "{tab}"
        );
    }
    let done = site.record(PLANNER);
    assert!(
        !site
            .page(&format!("/calls/{done}"))
            .await
            .contains("data-live")
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_are_shown_as_such() {
    let site = Site::new(&[]);
    let id = site
        .sample
        .record_saying(PLANNER, b"\xff\xd8\xff\xe0image", b"plain");
    let html = site.page(&format!("/calls/{id}?tab=raw")).await;
    assert!(html.contains("ff d8 ff e0 69 6d 61 67 65"), "{html}");
    assert!(html.contains("byte for byte as on the wire"));
}

#[tokio::test]
async fn a_message_that_no_request_can_have_is_said_not_to_be_there() {
    let site = Site::new(&[]);
    let call = talk(&site, &[("user", "Begin.")], "I begin.");
    let html = site
        .page(&format!("/calls/{call}?message={}", u64::MAX))
        .await;
    assert!(html.contains("The request has no message"), "{html}");
}
