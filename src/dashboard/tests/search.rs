//! Search.

use super::Site;
use crate::admin::sample::{Call, PLANNER};

#[tokio::test]
async fn an_exact_name_goes_straight_to_its_page() {
    let site = Site::new(&[]);
    let id = site.sample.record(PLANNER);
    for (asked, address) in [
        (id.to_string(), format!("/calls/{id}")),
        ("night%2F1".to_owned(), "/runs/night%2F1".to_owned()),
    ] {
        let shown = site.get(&format!("/search?q={asked}")).await;
        assert_eq!(shown.status, 303, "{asked}");
        assert_eq!(shown.headers["location"], address);
    }
}

#[tokio::test]
async fn parts_of_names_are_found_in_any_case_and_marked() {
    let site = Site::with_calls();
    let html = site.page("/search?q=NIGHT").await;
    assert!(html.contains("<mark>night</mark>/1"), "{html}");
    let html = site.page("/search?q=search").await;
    assert!(html.contains("re<mark>search</mark>er"), "an agent: {html}");
    assert!(
        html.contains("tag: ") && html.contains("team=<mark>search</mark>"),
        "a tag: {html}"
    );
    let html = site.page("/search?q=llama").await;
    assert!(
        html.contains("model: ") && html.contains("local-<mark>llama</mark>"),
        "{html}"
    );
    assert!(html.contains("Looked at all 3 calls."), "{html}");
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_not_there() {
    let site = Site::with_calls();
    let html = site
        .page("/search?q=%3Cscript%3Ealert(1)%3C/script%3E")
        .await;
    assert!(
        html.contains("Nothing found") && html.contains("&lt;script&gt;alert(1)"),
        "{html}"
    );
    assert!(!html.contains("<script>alert"));
    let html = site.page("/search").await;
    assert!(html.contains("What are you looking for?"), "{html}");
    let shown = site.get(&format!("/search?q={}", "x".repeat(300))).await;
    assert_eq!(shown.status, 400);
    assert!(
        shown.html.contains("found 300 bytes, expected up to 256"),
        "{}",
        shown.html
    );
}

#[tokio::test]
async fn of_many_hits_the_newest_are_shown_and_how_far_it_looked() {
    let site = Site::new(&[]);
    for _ in 0..30 {
        site.record(Call {
            model: "needle",
            ..PLANNER
        });
    }
    let html = site.page("/search?q=needle").await;
    assert_eq!(html.matches("<mark>needle</mark>").count(), 25, "{html}");
    assert!(
        html.contains("Looked at the newest 25 calls, back to"),
        "{html}"
    );
}
