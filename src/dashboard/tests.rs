//! Pages over a small ledger: what they say, and what every one of them must keep to.

mod alerts;
mod budgets;
mod call;
mod deeds;
mod graph;
mod loops;
mod measure;
mod overview;
mod palette;
mod rules;
mod run;
mod runs;
mod search;
mod suggestions;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::site;
use crate::admin::AdminState;
use crate::admin::sample::{Call, FAILED, PLANNER, RESEARCHER, Sample};
use crate::core::budget::Rule;
use crate::core::id::CallId;

/// A listener with pages over an own ledger at a fixed time.
pub(super) struct Site {
    pub(super) state: AdminState,
    pub(super) sample: Sample,
    router: Router,
}

pub(super) struct Shown {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) html: String,
}

impl Site {
    pub(super) fn new(rules: &[Rule]) -> Self {
        Self::of(Sample::new(), rules)
    }

    /// Over what is recorded already.
    pub(super) fn of(sample: Sample, rules: &[Rule]) -> Self {
        let state = sample.state(rules);
        let router = site(&state);
        Self {
            state,
            sample,
            router,
        }
    }

    /// With three calls of one run: two that completed, one that failed.
    pub(super) fn with_calls() -> Self {
        let site = Self::new(&[]);
        for call in [PLANNER, RESEARCHER, FAILED] {
            site.record(call);
        }
        site
    }

    pub(super) fn record(&self, call: Call) -> CallId {
        self.sample.record(call)
    }

    /// What a form of one of our pages sends.
    pub(super) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Shown {
        let request = Request::post(path)
            .header("host", "localhost:8788")
            .header("origin", "http://localhost:8788")
            .header("content-type", "application/x-www-form-urlencoded");
        let body = serde_urlencoded::to_string(fields).unwrap();
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Shown {
        let router = self.router.clone();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Shown {
            status: parts.status,
            headers: parts.headers,
            html: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Shown {
        let request = Request::get(path).header("host", "localhost:8788");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// A page that is there.
    pub(super) async fn page(&self, path: &str) -> String {
        let shown = self.get(path).await;
        assert_eq!(shown.status, 200, "{path}: {}", shown.html);
        shown.html
    }
}

/// Paths of all pages that need no name of something.
const PAGES: [&str; 8] = [
    "/",
    "/graph",
    "/runs",
    "/budgets",
    "/loops",
    "/compare",
    "/suggestions",
    "/alerts",
];

#[tokio::test]
async fn every_page_is_framed_and_names_itself() {
    let site = Site::with_calls();
    for path in PAGES {
        let html = site.page(path).await;
        assert_eq!(html.matches("<h1>").count(), 1, "{path}");
        assert_eq!(html.matches("aria-current=\"page\"").count(), 1, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_page_for_people_and_a_problem_for_programs() {
    let site = Site::with_calls();
    let ask = |path: &str, accept: &str| {
        let request = Request::get(path)
            .header("host", "localhost")
            .header("accept", accept);
        request.body(Body::empty()).unwrap()
    };
    let page = site.send(ask("/nowhere", "text/html,*/*")).await;
    assert_eq!(page.status, 404);
    assert!(page.html.starts_with("<!DOCTYPE html>") && page.html.contains("there is no /nowhere"));
    assert!(page.headers.contains_key("content-security-policy"));
    for (path, accept) in [("/nowhere", "*/*"), ("/api/v1/nothing", "text/html")] {
        let problem = site.send(ask(path, accept)).await;
        assert_eq!(
            problem.headers["content-type"], "application/problem+json",
            "{path}"
        );
    }
}

#[tokio::test]
async fn whoever_is_refused_learns_nothing_from_the_page_that_says_so() {
    let site = Site::with_calls();
    let request = Request::get("/runs")
        .header("host", "evil.example")
        .header("accept", "text/html");
    let refused = site.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(refused.status, 403);
    assert!(!refused.html.contains("night") && !refused.html.contains("data-part"));
}
