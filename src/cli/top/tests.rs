//! Keys and frames over made-up moments.

use ratatui::crossterm::event::{KeyCode, KeyModifiers};
use serde_json::json;

use super::shot::Kind;
use super::*;
use crate::admin::view::{RunView, TotalsView};
use crate::core::budget::Control;
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;

const START: i64 = 1_793_536_200_000_000;

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

/// A run that made so many calls, each of a cent and 1,000 tokens.
fn run(name: &str, calls: u64, open_calls: u64) -> RunView {
    let at = Timestamp::from_micros(START);
    RunView {
        run: label(name),
        parent_run: None,
        control: Control::Running,
        first_at: at,
        last_at: at,
        open_calls,
        agents: vec![label("planner")],
        depth: 1,
        variant: None,
        tags: std::collections::BTreeMap::new(),
        trips: 0,
        totals: TotalsView {
            calls,
            input_tokens: calls * 900,
            output_tokens: calls * 100,
            cost_nano_usd: NanoUsd::new(i64::try_from(calls).unwrap() * 10_000_000),
            ..TotalsView::default()
        },
        metrics: Vec::new(),
    }
}

/// What is seen so many seconds after the start.
fn shot(seconds: u64, runs: Vec<RunView>) -> Shot {
    let status = json!({
        "version": "1.2.3", "commit": "abc", "started_at": Timestamp::from_micros(START),
        "uptime_us": seconds * 1_000_000, "draining": false,
        "listeners": {"proxy": "127.0.0.1:8787", "admin": "127.0.0.1:8788"},
        "upstreams": [],
        "ledger": {
            "failing": false, "index_failing": false, "queued_records": 0, "reserved_bytes": 0,
            "segments": 1, "log_bytes": 0, "dropped_records": 0, "dropped_bodies": 0, "syncs": 0,
            "sync_us": 0, "last_error": null,
        },
    });
    let budgets = json!([{
        "name": "each run", "per": ["run"], "match": "", "window": "total", "timezone": null,
        "limits": {}, "slow_at_permille": null, "max_delay_us": null, "warn_at_permille": 800,
        "action": "break", "on_unpriced": "refuse", "accounts_total": 1,
        "accounts": [{
            "key": [{"dimension": "run", "value": "night"}], "key_text": "run=night",
            "measures": [{
                "measure": "usd", "used_nano_usd": 900_000_000, "held_nano_usd": 0,
                "limit_nano_usd": 1_000_000_000, "raised_nano_usd": 0,
            }],
            "used_permille": 900, "state": "warning", "running": 1, "waiting": 0, "refused": 2,
            "resets_at": null, "last_at": null,
        }],
    }]);
    Shot {
        view: View::Runs,
        status: serde_json::from_value(status).unwrap(),
        runs,
        agents: Vec::new(),
        budgets: serde_json::from_value(budgets).unwrap(),
        loops: Vec::new(),
        run: None,
        calls: Vec::new(),
    }
}

fn press(screen: &mut Screen, keys: &str) -> Vec<Wish> {
    let key = |key| screen.key(KeyCode::Char(key), KeyModifiers::NONE);
    keys.chars().map(key).collect()
}

fn shown(screen: &Screen) -> String {
    frame(screen, 130, 20)
}

#[test]
fn choice_stays_with_its_run_when_rows_move() {
    let mut screen = Screen::new(View::Runs);
    screen.see(shot(1, vec![run("night", 1, 1), run("noon", 1, 0)]));
    press(&mut screen, "j");
    assert_eq!(screen.row(), Some(1));
    screen.see(shot(2, vec![run("noon", 2, 1), run("night", 1, 1)]));
    assert_eq!(screen.row(), Some(0));
    screen.see(shot(3, vec![run("night", 1, 1)]));
    assert_eq!(screen.row(), None, "one that is gone leaves nothing chosen");
    assert_eq!(press(&mut screen, "p"), [Wish::Nothing]);
    press(&mut screen, "j");
    assert_eq!(screen.row(), Some(0));
}

#[test]
fn only_a_stop_asks_first_and_only_yes_stops() {
    let mut screen = Screen::new(View::Runs);
    screen.see(shot(1, vec![run("night", 1, 1)]));
    let deed = |kind| Deed {
        kind,
        run: label("night"),
    };
    assert_eq!(press(&mut screen, "p"), [Wish::Do(deed(Kind::Pause))]);
    assert_eq!(press(&mut screen, "r"), [Wish::Do(deed(Kind::Resume))]);
    assert_eq!(press(&mut screen, "sn"), [Wish::Nothing, Wish::Nothing]);
    assert_eq!(
        press(&mut screen, "sq"),
        [Wish::Nothing, Wish::Nothing],
        "q is no yes either"
    );
    assert_eq!(press(&mut screen, "s"), [Wish::Nothing]);
    assert!(shown(&screen).contains("stop night? Its running calls end"));
    assert_eq!(press(&mut screen, "y"), [Wish::Do(deed(Kind::Stop))]);
}

#[test]
fn a_run_is_looked_into_and_left() {
    let mut screen = Screen::new(View::Runs);
    screen.see(shot(1, vec![run("night", 1, 1), run("noon", 1, 0)]));
    press(&mut screen, "j");
    assert_eq!(screen.key(KeyCode::Enter, KeyModifiers::NONE), Wish::Look);
    assert_eq!(screen.view, View::Run(label("noon")));
    assert_eq!(screen.key(KeyCode::Esc, KeyModifiers::NONE), Wish::Look);
    assert_eq!((screen.view.clone(), screen.row()), (View::Runs, Some(1)));
    assert_eq!(
        screen.key(KeyCode::Char('c'), KeyModifiers::CONTROL),
        Wish::Quit
    );
}

#[test]
fn a_filter_is_typed_and_letters_are_no_orders_meanwhile() {
    let mut screen = Screen::new(View::Runs);
    screen.see(shot(1, vec![run("night", 1, 1), run("spare", 1, 0)]));
    assert!(
        press(&mut screen, "/SPq")
            .iter()
            .all(|wish| *wish == Wish::Nothing)
    );
    assert_eq!(screen.runs().len(), 0);
    screen.key(KeyCode::Backspace, KeyModifiers::NONE);
    assert_eq!(screen.runs().len(), 1);
    screen.key(KeyCode::Esc, KeyModifiers::NONE);
    assert_eq!(screen.runs().len(), 2);
}

#[test]
fn rates_are_of_what_came_within_the_last_minute() {
    let mut screen = Screen::new(View::Runs);
    screen.see(shot(0, vec![run("night", 0, 1)]));
    assert_eq!(
        screen.rate_of_run(&label("night")),
        None,
        "one moment is no rate"
    );
    screen.see(shot(30, vec![run("night", 10, 1)]));
    let rate = screen.rate_of_run(&label("night")).unwrap();
    assert_eq!(
        (rate.calls, rate.tokens, rate.nano_usd),
        (20, 20_000, 200_000_000)
    );
    screen.see(shot(200, vec![run("night", 10, 1)]));
    screen.see(shot(210, vec![run("night", 10, 1)]));
    assert_eq!(screen.rate_of_run(&label("night")).unwrap().calls, 0);
}

#[test]
fn held_screen_does_not_change_until_it_is_let_go() {
    let mut screen = Screen::new(View::Runs);
    screen.see(shot(1, vec![run("night", 1, 1)]));
    press(&mut screen, " ");
    screen.see(shot(2, vec![run("noon", 1, 1)]));
    assert!(shown(&screen).contains("night") && shown(&screen).contains("HELD"));
    press(&mut screen, " ");
    screen.see(shot(3, vec![run("noon", 1, 1)]));
    assert!(!shown(&screen).contains("night"));
}

#[test]
fn frame_shows_runs_with_their_budgets_and_nothing_steers_the_terminal() {
    let mut screen = Screen::new(View::Runs);
    let mut bad = run("night", 1234, 1);
    bad.agents = vec![label("plan\u{202e}ner")];
    screen.see(shot(5, vec![bad]));
    let text = shown(&screen);
    for part in [
        "Open-AIOps 1.2.3",
        "ledger ok",
        "running",
        "night",
        "1,234",
        "$12.34",
        " 90 %",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{202e}'), "{text}");
    screen.miss("refused \u{1b}[2J".to_owned());
    let text = shown(&screen);
    assert!(
        text.contains("not answered: refused") && !text.contains('\u{1b}'),
        "{text}"
    );
}

#[test]
fn budgets_show_what_is_used_of_the_limit() {
    let mut screen = Screen::new(View::Budgets);
    screen.see(Shot {
        view: View::Budgets,
        ..shot(5, vec![])
    });
    let text = shown(&screen);
    for part in ["each run", "run=night", "warning", "$0.90 of $1.00", "2"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_frame_fits_any_terminal() {
    let mut screen = Screen::new(View::Runs);
    screen.see(shot(5, vec![run("night", 1, 1)]));
    screen.shows_help = true;
    for (width, height) in [(1, 1), (10, 3), (80, 24), (300, 100)] {
        assert!(frame(&screen, width, height).lines().count() <= usize::from(height));
    }
}
