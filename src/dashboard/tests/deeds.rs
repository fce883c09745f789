//! What is done from pages: said before, done once, recorded, and by nobody else.

use axum::body::Body;
use http::Request;

use super::{Shown, Site};
use crate::admin::sample::{PLANNER, claim, hold, label, rules};
use crate::core::budget::{Dimension, Limits, Measure};
use crate::ledger::{Event, SpanFilter};

const RUN: &str = "night/1";
const RAISE: &str = "/budgets/raise?rule=each+run&key.run=night%2F1";

/// With an account of the first rule: the run holds something of it.
async fn with_account() -> Site {
    let site = Site::new(&rules());
    site.record(PLANNER);
    let budgets = &site.state.budgets;
    let mut claimed = claim(budgets, PLANNER, Limits::default()).await;
    let hold = hold(budgets, &mut claimed).await;
    hold.settle_as_held(site.sample.clock.now(), drop);
    site
}

/// The limit of the account in USD, in nano.
async fn limit(site: &Site) -> i64 {
    let key = vec![(Dimension::Run, Some(label(RUN)))];
    let row = site
        .state
        .budgets
        .account_row(&label("each run"), &key)
        .await;
    let measures = row.unwrap().1.measures;
    let usd = measures.iter().find(|it| it.measure == Measure::Usd);
    usd.unwrap().limit
}

/// Names, doers and details of what was recorded, the latest first.
fn events(site: &Site) -> Vec<(String, String, String)> {
    let page = site
        .state
        .ledger
        .view()
        .events(&SpanFilter::default())
        .unwrap();
    let event = |it: Event| (it.what, it.who, it.details.unwrap_or_default());
    page.items.into_iter().map(event).collect()
}

/// The number of the form on a page.
fn once(html: &str) -> String {
    let (_, rest) = html.split_once("name=\"once\" value=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

fn raise<'f>(once: &'f str, usd: &'f str) -> [(&'f str, &'f str); 5] {
    [
        ("once", once),
        ("back", "/budgets?value=night%2F1&export=budgets.csv"),
        ("rule", "each run"),
        ("key.run", RUN),
        ("usd", usd),
    ]
}

fn location(shown: &Shown) -> String {
    assert_eq!(shown.status, 303, "{}", shown.html);
    shown.headers["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_raise_is_said_in_words_and_done_by_its_button_alone() {
    let site = with_account().await;
    let html = site.page(RAISE).await;
    assert!(html.contains("name=\"usd\"") && html.contains("Show what it does"));
    assert!(!html.contains("method=\"post\""), "nothing to confirm yet");

    let html = site.page(&format!("{RAISE}&usd=3")).await;
    let words = "Run night/1 may spend $3.00 more under &quot;each run&quot;: its limit goes from $2.00 to \
                 $5.00, of which $0.02 is used.";
    assert!(html.contains(words), "{html}");
    assert!(html.contains("That holds for good"));
    assert_eq!(
        (limit(&site).await, events(&site)),
        (2_000_000_000, Vec::new())
    );

    let done = site.post("/budgets/raise", &raise(&once(&html), "3")).await;
    let back = location(&done);
    assert!(back.starts_with("/budgets?value=night%2F1&done="), "{back}");
    assert_eq!(limit(&site).await, 5_000_000_000);
    let html = site.page(&back).await;
    assert!(
        html.contains("&quot;each run&quot; was raised by $3.00, for good."),
        "{html}"
    );
    assert!(!html.contains("href=\"/budgets?value=night%2F1&amp;done="));
    let recorded = events(&site);
    assert_eq!(recorded.len(), 1);
    assert_eq!(
        (recorded[0].0.as_str(), recorded[0].1.as_str()),
        ("budget_raised", "dashboard")
    );
    assert!(
        html.contains("budget raised") && html.contains("dashboard"),
        "it is in the list below"
    );
}

#[tokio::test]
async fn a_form_that_is_sent_twice_is_carried_out_once() {
    let site = with_account().await;
    let once = once(&site.page(&format!("{RAISE}&usd=3")).await);
    for _ in 0..3 {
        let done = site.post("/budgets/raise", &raise(&once, "3")).await;
        assert!(location(&done).contains(&once));
    }
    assert_eq!(limit(&site).await, 5_000_000_000);
    assert_eq!(events(&site).len(), 1);
}

#[tokio::test]
async fn a_form_that_came_to_nothing_can_be_sent_again() {
    let site = with_account().await;
    let once = once(&site.page(&format!("{RAISE}&usd=3")).await);
    let mut wrong = raise(&once, "3");
    wrong[3] = ("key.run", "nobody");
    let shown = site.post("/budgets/raise", &wrong).await;
    assert_eq!(shown.status, 404);
    assert!(shown.html.contains("no call was counted for") && shown.html.contains("<h1>"));
    assert!(
        shown.html.contains("run=night/1"),
        "it names those that are there"
    );
    location(&site.post("/budgets/raise", &raise(&once, "3")).await);
    assert_eq!(limit(&site).await, 5_000_000_000);
}

#[tokio::test]
async fn nobody_elses_page_can_make_it_happen() {
    let site = with_account().await;
    let once = once(&site.page(&format!("{RAISE}&usd=3")).await);
    let body = serde_urlencoded::to_string(raise(&once, "3")).unwrap();
    let of = |origin: Option<&str>, media_type: &str| {
        let mut request = Request::post("/budgets/raise")
            .header("host", "localhost:8788")
            .header("content-type", media_type);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.body(Body::from(body.clone())).unwrap()
    };
    let form = "application/x-www-form-urlencoded";
    for (origin, media_type, status) in [
        (Some("https://evil.example"), form, 403),
        (Some("null"), form, 403),
        (Some("http://localhost:8789"), form, 403),
        (None, form, 403),
        (Some("http://localhost:8788"), "text/plain", 415),
        (Some("http://localhost:8788"), "application/json", 415),
    ] {
        let refused = site.send(of(origin, media_type)).await;
        assert_eq!(refused.status, status, "{origin:?} {media_type}");
    }
    assert_eq!(
        (limit(&site).await, events(&site)),
        (2_000_000_000, Vec::new())
    );
}

#[tokio::test]
async fn what_is_wrong_in_a_form_is_said_with_what_is_expected() {
    let site = with_account().await;
    let number = once(&site.page(&format!("{RAISE}&usd=3")).await);
    for (path, expected) in [
        (
            format!("{RAISE}&usd=three"),
            "usd: found `three`, expected an amount in USD",
        ),
        (format!("{RAISE}&usd=-1"), "usd: found `-1`"),
        (
            format!("{RAISE}&calls=1.5"),
            "calls: found `1.5`, expected a whole number above 0",
        ),
        (
            format!("{RAISE}&tokens=5"),
            "has no limit of it; it limits usd, calls",
        ),
        (
            "/budgets/reset?rule=each+run".to_owned(),
            "counts apart by run=...",
        ),
        ("/budgets/reset?rule=none".to_owned(), "there is no budget"),
        (
            "/budgets/raise?rule=each+run&key.colour=red".to_owned(),
            "found `colour`, expected run",
        ),
        ("/budgets/pause".to_owned(), "run: is empty"),
        (
            "/budgets/pause?run=nobody".to_owned(),
            "no call of a run nobody was seen yet",
        ),
        (
            "/loops/reset?loop=7".to_owned(),
            "loop: found `7`, expected the id of a call",
        ),
    ] {
        let shown = site.get(&path).await;
        assert!(
            [400, 404].contains(&shown.status.as_u16()),
            "{path}: {}",
            shown.status
        );
        assert!(shown.html.contains(expected), "{path}: {}", shown.html);
    }
    for (fields, expected) in [
        (
            raise("", "3").to_vec(),
            "once: a form of this listener carries its number",
        ),
        (raise(&number, "").to_vec(), "say by how much"),
    ] {
        let shown = site.post("/budgets/raise", &fields).await;
        assert_eq!(shown.status, 400);
        assert!(shown.html.contains(expected), "{}", shown.html);
    }
    site.sample.clock.advance_micros(3_700_000_000);
    let old = site.post("/budgets/raise", &raise(&number, "3")).await;
    assert_eq!(old.status, 400);
    assert!(old.html.contains("more than an hour old"), "{}", old.html);
    assert_eq!(limit(&site).await, 2_000_000_000);
}

#[tokio::test]
async fn a_reset_says_what_is_lost() {
    let site = with_account().await;
    let html = site
        .page("/budgets/reset?rule=each+run&key.run=night%2F1")
        .await;
    assert!(
        html.contains(
            "What run night/1 used of &quot;each run&quot; ($0.02, 1 calls) is forgotten"
        ),
        "{html}"
    );
    assert!(html.contains("this cannot be undone"));
    let fields = [
        ("once", &*once(&html)),
        ("rule", "each run"),
        ("key.run", RUN),
    ];
    assert!(location(&site.post("/budgets/reset", &fields).await).starts_with("/budgets?done="));
    assert_eq!(events(&site)[0].0, "budget_reset");
}

#[tokio::test]
async fn the_account_of_calls_that_do_not_say_can_be_reset_too() {
    let site = with_account().await;
    let html = site.page("/budgets").await;
    let path = "/budgets/reset?rule=team&amp;back=%2Fbudgets&amp;key.user=&amp;key.tag.team=search";
    assert!(html.contains(path), "{html}");
    let form = site.page(&path.replace("&amp;", "&")).await;
    assert!(form.contains("user (none), tag.team search used"), "{form}");
    assert!(
        form.contains("%26key.user%3D%26"),
        "the link that changes the theme leads back to this account: {form}"
    );
    let number = once(&form);
    let fields = [
        ("once", &*number),
        ("rule", "team"),
        ("key.user", ""),
        ("key.tag.team", "search"),
    ];
    location(&site.post("/budgets/reset", &fields).await);
    assert_eq!(events(&site)[0].0, "budget_reset");
}

#[tokio::test]
async fn runs_are_paused_resumed_and_stopped_and_the_page_says_so() {
    let site = with_account().await;
    for (deed, words, what) in [
        (
            "pause",
            "Run night/1 is paused: its new calls wait.",
            "run_paused",
        ),
        ("resume", "Run night/1 goes on.", "run_resumed"),
        (
            "stop",
            "Run night/1 is stopped: 0 of its calls were ended",
            "run_stopped",
        ),
    ] {
        let path = format!("/budgets/{deed}");
        let html = site
            .page(&format!("{path}?run=night%2F1&back=%2Fruns%2Fnight%252F1"))
            .await;
        let number = once(&html);
        let fields = [
            ("once", number.as_str()),
            ("run", RUN),
            ("back", "/runs/night%2F1"),
        ];
        let back = location(&site.post(&path, &fields).await);
        assert!(back.starts_with("/runs/night%2F1?done="), "{back}");
        assert!(
            site.page(&back.replace("/runs/night%2F1", "/budgets"))
                .await
                .contains(words)
        );
        assert_eq!(events(&site)[0].0, what);
    }
    let html = site.page("/budgets/stop?run=night%2F1").await;
    assert!(
        html.contains("is stopped already: this changes nothing"),
        "{html}"
    );
    let html = site.page("/budgets").await;
    assert!(html.contains("run stopped") && html.contains(">resume<") && !html.contains(">pause<"));
}

#[tokio::test]
async fn what_was_typed_stays_beside_what_is_wrong_with_it() {
    let site = with_account().await;
    let shown = site.get(&format!("{RAISE}&usd=three&calls=7")).await;
    assert_eq!(shown.status, 400);
    for part in [
        "name=\"usd\" size=\"12\" inputmode=\"decimal\" autocomplete=\"off\" value=\"three\"",
        "value=\"7\"",
        "role=\"alert\"",
        "usd: found `three`",
    ] {
        assert!(shown.html.contains(part), "{part}: {}", shown.html);
    }
    assert!(!shown.html.contains("method=\"post\" action=\"/budgets"));
}

#[tokio::test]
async fn a_wrong_range_is_said_within_the_frame() {
    let site = with_account().await;
    for path in [
        "/runs?range=soon",
        "/loops?since=x",
        "/budgets/pause?run=a&until=x",
    ] {
        let shown = site.get(path).await;
        assert_eq!(shown.status, 400, "{path}");
        assert!(shown.html.contains("aria-label=\"Pages\""), "{path}");
    }
}

#[tokio::test]
async fn a_form_from_before_the_start_or_from_later_is_not_carried_out() {
    let site = with_account().await;
    let old = once(&site.page(&format!("{RAISE}&usd=3")).await);
    location(&site.post("/budgets/raise", &raise(&old, "3")).await);
    assert!(site.state.ledger.sync_index());
    let Site { sample, .. } = site;
    sample.clock.advance_micros(2_000_000);
    let state = sample.state(&rules());
    let router = super::site(&state);
    let site = Site {
        state,
        sample,
        router,
    };
    let new = once(&site.page(&format!("{RAISE}&usd=3")).await);
    let refused = site.post("/budgets/raise", &raise(&old, "3")).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.html.contains("this form is too old"),
        "{}",
        refused.html
    );
    assert_eq!(limit(&site).await, 5_000_000_000, "it is done once");
    site.sample.clock.advance_micros(-1_000_000);
    let refused = site.post("/budgets/raise", &raise(&new, "3")).await;
    assert_eq!(refused.status, 400);
    assert_eq!(limit(&site).await, 5_000_000_000);
}

#[tokio::test]
async fn deeds_are_listed_however_much_else_happened_since() {
    let site = with_account().await;
    let number = once(&site.page(&format!("{RAISE}&usd=3")).await);
    location(&site.post("/budgets/raise", &raise(&number, "3")).await);
    for _ in 0..1001 {
        site.sample.clock.advance_micros(1);
        let event = Event::own(site.sample.clock.now(), "unpriced_model", None);
        drop(site.state.ledger.event(event).unwrap());
    }
    assert!(site.state.ledger.sync_index());
    let html = site.page("/budgets").await;
    assert!(html.contains("budget raised") && !html.contains("Nobody raised"));
}

#[tokio::test]
async fn a_note_is_shown_for_what_was_done_only() {
    let site = with_account().await;
    let html = site
        .page("/budgets?done=01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e")
        .await;
    assert!(!html.contains("<strong>Done"));
    let html = site.page("/budgets?done=%3Cscript%3E").await;
    assert!(!html.contains("<strong>Done") && !html.contains("<script>"));
}
