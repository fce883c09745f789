//! Custom metrics that people enter on pages: shown with who said them, kept where they are wrong.

use axum::body::Body;
use http::Request;

use super::rules::complaints;
use super::{Shown, Site};
use crate::admin::sample::PLANNER;
use crate::core::metric::{BY_HEADER, Measurement, Value};
use crate::ledger::MetricFilter;

const RUN: &str = "night/1";

/// All that was measured, but for what came with calls.
fn recorded(site: &Site) -> Vec<Measurement> {
    let view = site.state.ledger.view();
    let all = view.measurements(&MetricFilter::default()).unwrap().items;
    let is_entered = |it: &Measurement| it.who.as_str() != BY_HEADER;
    all.into_iter().filter(is_entered).collect()
}

fn back(shown: &Shown) -> String {
    assert_eq!(shown.status, 303, "{}", shown.html);
    shown.headers["location"].to_str().unwrap().to_owned()
}

/// The part of a page.
fn part<'h>(html: &'h str, id: &str) -> &'h str {
    let (_, rest) = html
        .split_once(&format!("<div id=\"{id}\" data-part"))
        .unwrap();
    rest.split_once("<details").unwrap().0
}

#[tokio::test]
async fn a_score_that_is_entered_on_a_run_is_shown_there_with_who_said_it() {
    let site = Site::with_calls();
    let html = site.page("/runs/night%2F1?view=steps").await;
    for field in [
        "method=\"post\" action=\"/measure?run=night%2F1\"",
        "type=\"hidden\" name=\"back\" value=\"/runs/night%2F1?view=steps\"",
    ] {
        assert!(html.contains(field), "{field}: {html}");
    }
    let enter = |value: &'static str| {
        let fields = [
            ("back", "/runs/night%2F1?view=steps"),
            ("name", "Quality"),
            ("value", value),
            ("note", "one <source> is missing"),
        ];
        let site = &site;
        async move { back(&site.post("/measure?run=night%2F1", &fields).await) }
    };
    let to = enter("0.5").await;
    assert!(to.starts_with("/runs/night%2F1?view=steps&done="), "{to}");
    // Said again, it takes the place of what was said.
    let to = enter("0.8").await;
    let html = site.page(&to).await;
    assert!(
        html.contains("quality = 0.8 was recorded for the run night/1."),
        "{html}"
    );
    assert_eq!(html.matches("<strong>Done").count(), 1, "{html}");
    let shown = part(&html, "run-metrics");
    for cell in [
        "0.8",
        "<bdi>dashboard</bdi>",
        "one &lt;source&gt; is missing",
    ] {
        assert!(shown.contains(cell), "{cell}: {shown}");
    }
    assert_eq!(shown.matches("<tr id=\"said-").count(), 1, "{shown}");
    let all = recorded(&site);
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].who.as_str(), all[0].key.as_ref()),
        ("dashboard", None)
    );
}

#[tokio::test]
async fn a_call_is_given_a_truth_or_a_word_on_its_page() {
    let site = Site::new(&[]);
    let id = site.record(PLANNER).to_string();
    let html = site.page(&format!("/calls/{id}?tab=usage")).await;
    assert!(
        html.contains(&format!("action=\"/measure?call={id}\"")),
        "{html}"
    );
    for (name, value) in [("solved", "true"), ("tone", "kind")] {
        let fields = [("call", id.as_str()), ("name", name), ("value", value)];
        let to = back(&site.post("/measure", &fields).await);
        assert!(to.starts_with(&format!("/calls/{id}?done=")), "{to}");
        let html = site.page(&to).await;
        assert!(
            html.contains(&format!("{name} = {value} was recorded")),
            "{html}"
        );
        let shown = part(&html, "metrics");
        assert!(
            shown.contains(value) && shown.contains("dashboard"),
            "{shown}"
        );
    }
    let all = recorded(&site);
    assert_eq!(all[0].value, Value::Boolean(true));
    assert!(matches!(all[1].value, Value::Category(_)));
    assert!(
        all.iter().all(|it| it.run().is_some()),
        "it counts for its run too"
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_at_the_form_which_keeps_what_was_typed() {
    let site = Site::with_calls();
    let nobody = "01936f0e-7a3b-7c55-9f3e-6c1f0a2b4d5e";
    for (of, name, value, status, words) in [
        (
            ("run", RUN),
            "two words",
            "nan",
            400,
            "name: expected letters",
        ),
        (
            ("run", RUN),
            "two words",
            "nan",
            400,
            "value: expected a finite number",
        ),
        (
            ("run", RUN),
            "score",
            "",
            400,
            "value: expected a finite number",
        ),
        (("call", nobody), "score", "0.5", 404, "no call 01936f0e"),
    ] {
        let fields = [of, ("name", name), ("value", value), ("note", "\"><b>")];
        let shown = site.post("/measure", &fields).await;
        assert_eq!(shown.status, status, "{}", shown.html);
        let html = &shown.html;
        assert!(
            html.contains("role=\"alert\"") && html.contains(words),
            "{words}: {html}"
        );
        assert!(html.contains(&format!("value=\"{name}\"")), "{html}");
        assert!(
            value.is_empty() || html.contains(&format!("value=\"{value}\"")),
            "{html}"
        );
        assert!(html.contains("value=\"&quot;&gt;&lt;b&gt;\""), "{html}");
        assert!(
            html.contains(&format!(
                "action=\"/measure?{}={}\"",
                of.0,
                of.1.replace('/', "%2F")
            )),
            "{html}"
        );
        assert_eq!(complaints("/measure", &shown), [""; 0]);
    }
    for fields in [
        vec![("name", "score"), ("value", "1")],
        vec![
            ("name", "score"),
            ("value", "1"),
            ("run", RUN),
            ("call", nobody),
        ],
    ] {
        let shown = site.post("/measure", &fields).await;
        assert_eq!(shown.status, 400);
        assert!(
            shown
                .html
                .contains("run, call: expected exactly one of them")
        );
    }
    assert_eq!(recorded(&site), []);
}

#[tokio::test]
async fn a_link_fills_the_form_in_and_records_nothing() {
    let site = Site::with_calls();
    let shown = site.get("/measure?run=night%2F1&name=score&value=1").await;
    assert_eq!(shown.status, 200);
    assert!(shown.html.contains("name=\"name\"") && shown.html.contains("value=\"score\""));
    assert!(!shown.html.contains("role=\"alert\""));
    assert_eq!(complaints("/measure", &shown), [""; 0]);
    assert_eq!(recorded(&site), []);
}

#[tokio::test]
async fn nobody_elses_page_can_enter_a_score() {
    let site = Site::with_calls();
    let form = "application/x-www-form-urlencoded";
    for (host, origin, kind, status) in [
        ("localhost:8788", Some("https://evil.example"), form, 403),
        ("localhost:8788", Some("null"), form, 403),
        ("localhost:8788", None, form, 403),
        ("evil.example", Some("http://evil.example"), form, 403),
        (
            "localhost:8788",
            Some("http://localhost:8788"),
            "text/plain",
            415,
        ),
    ] {
        let mut request = Request::post("/measure")
            .header("host", host)
            .header("content-type", kind);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let body = Body::from("run=night%2F1&name=score&value=1");
        let refused = site.send(request.body(body).unwrap()).await;
        assert_eq!(refused.status, status, "{host} {origin:?} {kind}");
    }
    assert_eq!(recorded(&site), []);
}
