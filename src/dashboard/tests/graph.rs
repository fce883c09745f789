//! The call graph.

use super::Site;
use crate::admin::sample::{Call, PLANNER, RESEARCHER};

const CRITIC: Call = Call {
    agent: "critic",
    caller: Some("researcher"),
    ..PLANNER
};
const BACK: Call = Call {
    agent: "researcher",
    caller: Some("critic"),
    ..PLANNER
};

fn with_cycle() -> Site {
    let site = Site::new(&[]);
    for call in [PLANNER, RESEARCHER, CRITIC, BACK] {
        site.record(call);
    }
    site
}

fn svg(html: &str) -> &str {
    let (_, rest) = html
        .split_once("<svg class=\"graph\"")
        .unwrap_or_else(|| panic!("no graph in {html}"));
    rest.split_once("</svg>").unwrap().0
}

#[tokio::test]
async fn agents_are_nodes_and_edges_say_how_often() {
    let html = Site::with_calls().page("/graph").await;
    let svg = svg(&html);
    for title in [
        "planner: 1 call, $0.0020, 100 % of all that was spent",
        "researcher: 2 calls, unpriced",
        "planner calls researcher: 2 calls, unpriced",
        "2 agents, 1 edge between them",
    ] {
        assert!(svg.contains(title), "{title}: {svg}");
    }
    assert!(!svg.contains("cycle"), "{svg}");
}

#[tokio::test]
async fn what_leads_back_is_marked_by_word_shape_and_colour() {
    let html = with_cycle().page("/graph").await;
    let svg = svg(&html);
    assert_eq!(svg.matches("class=\"edge cycle\"").count(), 2, "{svg}");
    assert_eq!(svg.matches("\u{21bb} cycle 1").count(), 2, "{svg}");
    assert!(
        svg.contains("researcher calls critic: 1 call, $0.0020, on a cycle"),
        "{svg}"
    );
    assert!(svg.contains("2 of them on a cycle"), "{svg}");
}

#[tokio::test]
async fn a_call_on_its_way_pulses() {
    let site = with_cycle();
    site.record(Call {
        outcome: None,
        ..CRITIC
    });
    let html = site.page("/graph").await;
    let svg = svg(&html);
    assert!(
        svg.contains("class=\"node pulse\"") && svg.contains("1 call on the way"),
        "{svg}"
    );
    assert!(svg.contains("class=\"edge cycle pulse\""), "{svg}");
}

#[tokio::test]
async fn one_run_has_its_own_graph() {
    let site = with_cycle();
    site.record(Call {
        run: "other",
        agent: "loner",
        caller: None,
        ..PLANNER
    });
    let html = site.page("/graph?run=other").await;
    assert!(
        svg(&html).contains("loner: 1 call") && !svg(&html).contains("planner"),
        "{html}"
    );
    assert!(html.contains("href=\"/runs/other\""));
    assert!(svg(&site.page("/graph?run=night%2F1").await).contains("critic"));
    let unknown = site.get("/graph?run=nobody").await;
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.html.contains("there is no run nobody"),
        "{}",
        unknown.html
    );
}

#[tokio::test]
async fn who_is_chosen_is_described_with_its_last_calls() {
    let site = with_cycle();
    let html = site.page("/graph?agent=researcher").await;
    let (_, side) = html.split_once("aria-label=\"Chosen\"").expect("a panel");
    assert!(
        side.contains("Called by") && side.contains("href=\"/calls/"),
        "{side}"
    );
    assert!(side.contains("/runs?agent=researcher"), "{side}");
    let html = site.page("/graph?edge=researcher..critic").await;
    let (_, side) = html.split_once("aria-label=\"Chosen\"").expect("a panel");
    assert_eq!(
        side.split("</aside>")
            .next()
            .unwrap()
            .matches("href=\"/calls/")
            .count(),
        1,
        "{side}"
    );
    let html = site.page("/graph?agent=nobody").await;
    assert!(html.contains("It is not drawn"), "{html}");
}

#[tokio::test]
async fn the_table_has_every_edge_and_what_nobody_asked_for() {
    let site = with_cycle();
    let file = site.get("/graph?export=edges.csv&sort=agent").await;
    assert_eq!(
        file.html,
        "agent,caller,calls,cost_usd,tokens,p95_ms,failed,marks\r\n\
         critic,researcher,1,0.002000000,1050,,0,cycle\r\n\
         planner,,1,0.002000000,1050,,0,\r\n\
         researcher,critic,1,0.002000000,1050,,0,cycle\r\n\
         researcher,planner,1,,1050,,0,\r\n"
    );
    let wrong = site.get("/graph?sort=colour").await;
    assert_eq!(wrong.status, 400);
    assert!(
        wrong
            .html
            .contains("sort: found `colour`, expected one of agent, caller, calls"),
        "{}",
        wrong.html
    );
}

#[tokio::test]
async fn a_hundred_agents_are_forty_and_others() {
    let site = Site::new(&[]);
    for number in 0..100 {
        let agent: &'static str = Box::leak(format!("agent {number}").into_boxed_str());
        site.record(Call {
            agent,
            caller: Some("planner"),
            ..PLANNER
        });
    }
    let html = site.page("/graph").await;
    assert!(svg(&html).contains("others (61)"), "{}", svg(&html));
    assert_eq!(svg(&html).matches("class=\"node").count(), 41);
    let file = site.get("/graph?export=edges.csv").await;
    assert_eq!(file.html.lines().count(), 101, "the table has them all");
}

#[tokio::test]
async fn without_agents_it_says_how_to_name_them() {
    let html = Site::new(&[]).page("/graph").await;
    assert!(
        html.contains("No agent made a call in the last 24 h") && html.contains("x-aiops-agent"),
        "{html}"
    );
}

#[tokio::test]
async fn nothing_changes_while_nothing_happens() {
    let site = with_cycle();
    assert!(site.state.ledger.sync_index());
    assert_eq!(site.page("/graph").await, site.page("/graph").await);
}
