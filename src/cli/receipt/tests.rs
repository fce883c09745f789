use super::*;
use crate::core::time::Timestamp;

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn totals(calls: u64, errors: u64, cost: i64, unpriced_calls: u64) -> TotalsView {
    TotalsView {
        calls,
        errors,
        input_tokens: 12_345 * calls,
        output_tokens: 100 * calls,
        cache_read_input_tokens: 1000,
        cost_nano_usd: NanoUsd::new(cost),
        unpriced_calls,
        ..TotalsView::default()
    }
}

fn receipt() -> Receipt {
    Receipt {
        run: label("crew-4k7xpq"),
        parent_run: None,
        variant: None,
        exit_code: 1,
        duration_us: 12_400_000,
        is_tripped: true,
        ok: 2,
        failed: 1,
        refused: 4,
        open: 0,
        totals: totals(3, 1, 1_500_000_000, 1),
        agents: vec![
            Spent {
                name: label("planner"),
                totals: totals(2, 1, 1_500_000_000, 0),
            },
            Spent {
                name: label("evil\u{202e}agent"),
                totals: totals(1, 0, 0, 1),
            },
        ],
        runs: vec![Spent {
            name: label("inner-2"),
            totals: totals(1, 0, 0, 0),
        }],
        slowest: vec![Slow {
            call: CallId::from_bytes([1; 16]),
            agent: label("planner"),
            model: None,
            duration_us: 3_200_000,
        }],
        metrics: Vec::new(),
        warnings: vec!["1 call failed: \u{1b}[2Jupstream error".to_owned()],
        trips: vec![RefusalView {
            kind: "budget_spent".to_owned(),
            budget: Some(label("each run")),
            is_break: true,
            calls: 4,
            last_at: Timestamp::from_micros(0),
            message: "the budget is spent.\nTo raise it: ...".to_owned(),
        }],
        page: None,
        log: None,
    }
}

fn text(receipt: &Receipt, colours: bool) -> String {
    let mut written = Vec::new();
    let mut out = Output {
        writer: &mut written,
        terminal: true,
    };
    receipt.write(&mut out, colours).unwrap();
    String::from_utf8(written).unwrap()
}

#[test]
fn receipt_says_what_was_used_by_whom_and_what_was_refused() {
    let expected = "\
open-aiops: run crew-4k7xpq  12.4s, 3 calls, 1 failed, 4 refused
  tokens   37,035 in (1,000 cached), 300 out
  cost     $1.50 and 1 unpriced
  AGENT       CALLS  FAILED   INPUT  OUTPUT      COST
  planner         2       1  24,690     200     $1.50
  evil?agent      1       0  12,345     100  unpriced
  RUN WITHIN  CALLS  FAILED   INPUT  OUTPUT   COST
  inner-2         1       0  12,345     100  $0.00
  slowest  3.2s  planner, ?, 01010101-0101-0101-0101-010101010101
  warning  1 call failed: ?[2Jupstream error
  tripped  4 calls refused: the budget is spent.?To raise it: ...
  look at  open-aiops show crew-4k7xpq
";
    assert_eq!(text(&receipt(), false), expected);
}

#[test]
fn colours_are_all_that_a_terminal_gets_more() {
    let receipt = receipt();
    let coloured = text(&receipt, true);
    assert!(
        coloured.contains("\u{1b}[31mtripped\u{1b}[0m"),
        "{coloured}"
    );
    let mut plain = coloured;
    for code in ["[0m", "[1m", "[31m", "[33m"] {
        plain = plain.replace(&format!("\u{1b}{code}"), "");
    }
    assert_eq!(plain, text(&receipt, false));
}

#[test]
fn run_without_calls_is_short_and_page_is_named_where_it_stays() {
    let nothing = Receipt {
        totals: TotalsView::default(),
        failed: 0,
        refused: 0,
        warnings: Vec::new(),
        trips: Vec::new(),
        ..receipt()
    };
    let head = "open-aiops: run crew-4k7xpq  12.4s, 0 calls\n";
    assert_eq!(text(&nothing, false), head);
    let stays = Receipt {
        page: Some("http://127.0.0.1:8788/runs/crew-4k7xpq".to_owned()),
        ..receipt()
    };
    let shown = text(&stays, false);
    let page = "  page     http://127.0.0.1:8788/runs/crew-4k7xpq\n";
    assert!(shown.ends_with(page), "{shown}");
}

#[test]
fn receipt_is_json_too() {
    let value = serde_json::to_value(receipt()).unwrap();
    assert_eq!(value["run"], "crew-4k7xpq");
    assert_eq!(value["is_tripped"], true);
    assert_eq!(value["totals"]["cost_nano_usd"], 1_500_000_000);
    assert_eq!(value["totals"]["unpriced_calls"], 1);
    assert_eq!(value["agents"][0]["name"], "planner");
    assert_eq!(value["trips"][0]["calls"], 4);
}
