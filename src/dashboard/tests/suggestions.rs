//! What could be spared, as it is shown.

use super::Site;
use crate::suggest::tests::ledger::{Api, Talk, Work, prose};

#[tokio::test]
async fn a_finding_is_shown_as_text_with_its_figures_for_the_last_week() {
    let mut work = Work::new();
    for n in 0..24 {
        work.run(&format!("run-{}", n / 4));
        let talk = Talk::new(Api::Chat)
            .tool("search", "Finds.")
            .tool("<script>alert(1)</script>", &prose(1, 9000))
            .user(&format!("question {n}"));
        work.asks(&talk).calls("search", &format!("{{\"q\":{n}}}"));
    }
    let site = Site::of(work.sample, &[]);
    let html = site.page("/suggestions").await;
    assert!(
        html.contains("Tools are sent and never called: $"),
        "{html}"
    );
    assert!(
        html.contains("called none of them: &lt;script&gt;"),
        "{html}"
    );
    assert!(!html.contains("<script>alert(1)"));
    assert!(html.contains("24 calls of the last 7 days"), "{html}");
    let other = site.page("/suggestions?rule=waiting").await;
    assert!(other.contains("Nothing found that matters"), "{other}");
}
