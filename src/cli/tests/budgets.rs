//! Budgets on the command line: their tables, and orders to a running server.

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::admin::sample::{self, Call, rules};
use crate::admin::view::{
    AccountView, BudgetView, CountedMeasure, KeyPart, MeasureView, UsdMeasure,
};
use crate::budgets::{Budgets, Used};
use crate::core::budget::{Limits, Measure};

fn usd(used: i64, held: i64, limit: i64) -> MeasureView {
    let cents = |cents: i64| NanoUsd::new(cents * 10_000_000);
    MeasureView::Usd(UsdMeasure {
        measure: Measure::Usd,
        used_nano_usd: cents(used),
        held_nano_usd: cents(held),
        limit_nano_usd: cents(limit),
        raised_nano_usd: NanoUsd::ZERO,
    })
}

fn counted(measure: Measure, used: i64, held: i64, limit: i64) -> MeasureView {
    MeasureView::Counted(CountedMeasure {
        measure,
        used,
        held,
        limit,
        raised: 0,
    })
}

fn account(key: &[(&str, &str)], state: &str, measures: Vec<MeasureView>) -> AccountView {
    let part = |(dimension, value): &(&str, &str)| KeyPart {
        dimension: (*dimension).to_owned(),
        value: Label::parse(value).ok(),
    };
    let texts: Vec<_> = key
        .iter()
        .map(|(of, value)| format!("{of}={value}"))
        .collect();
    AccountView {
        key: key.iter().map(part).collect(),
        key_text: texts.join(","),
        measures,
        metric: None,
        used_permille: 0,
        state: state.to_owned(),
        running: 1,
        waiting: 0,
        refused: 0,
        resets_at: None,
        last_at: None,
    }
}

fn budget(name: &str, per: &[&str], window: &str, accounts: Vec<AccountView>) -> BudgetView {
    BudgetView {
        name: label(name),
        per: per.iter().map(ToString::to_string).collect(),
        matching: String::new(),
        window: window.to_owned(),
        timezone: None,
        limits: Limits::default(),
        metric: None,
        slow_at_permille: None,
        max_delay_us: None,
        warn_at_permille: None,
        action: "break".to_owned(),
        on_unpriced: "refuse".to_owned(),
        accounts_total: accounts.len() as u64,
        accounts,
    }
}

fn each_run() -> BudgetView {
    let mut spent = account(
        &[("run", "nightly-42")],
        "spent",
        vec![
            usd(200, 0, 200),
            counted(Measure::InputTokens, 234_567, 10_000, 1_000_000),
        ],
    );
    spent.refused = 1234;
    let held = account(&[("run", "n")], "open", vec![usd(42, 30, 200)]);
    let mut each_run = budget("each run", &["run"], "total", vec![spent, held]);
    each_run.accounts_total = 17;
    each_run
}

fn budgets() -> Vec<BudgetView> {
    let mut all = account(&[], "passed", vec![counted(Measure::Tokens, -5, 0, 100)]);
    all.resets_at = Some(at(3_600 * 11 + 29 * 60));
    let day = BudgetView {
        timezone: Some("Europe/Berlin".to_owned()),
        action: "warn".to_owned(),
        matching: "agent=plan*|research*".to_owned(),
        ..budget("day", &[], "day", vec![all])
    };
    let measures = vec![
        counted(Measure::Concurrent, 3, 0, 2),
        counted(Measure::Calls, 0, 0, 0),
        counted(Measure::OutputTokens, i64::MAX, i64::MAX, i64::MAX),
    ];
    let key = [("user", ""), ("tag.team", "se\u{1b}arch")];
    let mut team = account(&key, "open", measures);
    team.key_text = "user=,tag.team=se\u{1b}arch".to_owned();
    let unlimited = account(&[("run", "x")], "open", Vec::new());
    vec![
        each_run(),
        day,
        budget("team", &["user", "tag.team"], "15m", vec![team]),
        budget("nobody called", &["agent"], "total", Vec::new()),
        budget("x-aiops-budget", &["run"], "total", vec![unlimited]),
    ]
}

#[test]
fn budgets_are_shown_with_bars_of_what_is_used_and_held() {
    check("budgets", |out| {
        super::super::budgets::list(&budgets(), at(0), out)
    });
}

#[test]
fn usual_budgets_are_readable_at_100_columns() {
    let mut text = Vec::new();
    let mut out = Output {
        writer: &mut text,
        terminal: true,
    };
    super::super::budgets::list(&[each_run()], at(0), &mut out).unwrap();
    let text = String::from_utf8(text).unwrap();
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn no_budgets_are_said_to_be_none_to_a_person() {
    for (terminal, expected) in [(true, "no budgets are configured\n"), (false, "")] {
        let mut text = Vec::new();
        let mut out = Output {
            writer: &mut text,
            terminal,
        };
        super::super::budgets::list(&[], at(0), &mut out).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}

#[test]
fn wrong_order_is_explained_and_exits_with_2() {
    for (arguments, expected) in [
        (&["budgets", "raise"][..], "required arguments were not"),
        (&["budgets", "raise", "x"], "<--usd <USD>|--tokens <N>|"),
        (
            &["budgets", "raise", "x", "--usd", "0"],
            "found `0`, expected an amount",
        ),
        (
            &["budgets", "raise", "x", "--usd", "1e3"],
            "found `1e3`, expected",
        ),
        (
            &["budgets", "raise", "x", "--calls", "1.5"],
            "expected a whole number",
        ),
        (
            &["budgets", "reset", "x", "--key", "run"],
            "expected DIM=VALUE",
        ),
        (
            &["budgets", "reset", "x", "--key", "hue=1"],
            "found `hue`, expected run,",
        ),
        (
            &["budgets", "reset", "x", "--usd", "1"],
            "unexpected argument '--usd'",
        ),
        (
            &["budgets", "--rule", "x", "reset", "y"],
            "choose what is listed",
        ),
        (&["run"], "what to launch comes after --"),
        (&["run", "kill", "x"], "put -- before it"),
        (&["run", "stop"], "required arguments were not"),
        (&["run", "stop", " "], "is empty"),
    ] {
        let ran = ran(arguments);
        check_code(&ran, 2);
        let errors = &ran.errors;
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
        assert_eq!(ran.out, "");
    }
}

#[test]
fn without_a_server_that_is_said_and_exits_with_2() {
    let Sample { dir, ledger, .. } = Sample::new();
    drop(ledger);
    let dir = dir.path().to_str().unwrap();
    for arguments in [
        &["budgets"][..],
        &["budgets", "--json"],
        &["budgets", "raise", "x", "--usd", "1"],
        &["budgets", "reset", "x"],
        &["run", "stop", "x"],
    ] {
        let ran = ran(&[arguments, &["--dir", dir]].concat());
        check_code(&ran, 2);
        let none = format!("open-aiops: no server runs on the ledger in {dir}: ");
        assert!(ran.errors.starts_with(&none), "{}", ran.errors);
        assert_eq!(ran.errors.lines().count(), 1);
    }
}

// === with a server ===

struct Server {
    sample: Sample,
    runtime: Runtime,
    budgets: std::sync::Arc<Budgets>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let sample = Sample::new();
        let state = sample.state(&rules());
        let budgets = std::sync::Arc::clone(&state.budgets);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        sample.ledger.announce(doors(address)).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let served = runtime.spawn(admin::serve(
            listener,
            admin::router(state, axum::Router::new()),
            shutdown,
        ));
        Self {
            sample,
            runtime,
            budgets,
            stop,
            served,
        }
    }

    /// A call of `run` that uses $0.42.
    fn spend(&self, run: &'static str) {
        let used = Used {
            cost: Some(NanoUsd::new(420_000_000)),
            is_call: true,
            ..Used::default()
        };
        let call = Call { run, ..PLANNER };
        self.runtime.block_on(async {
            let mut claim = sample::claim(&self.budgets, call, Limits::default()).await;
            let hold = sample::hold(&self.budgets, &mut claim).await;
            hold.settle(&used, self.sample.clock.now(), drop);
        });
    }

    fn ran(&self, arguments: &[&str]) -> Ran {
        let dir = self.sample.dir.path().to_str().unwrap();
        ran(&[arguments, &["--dir", dir]].concat())
    }

    #[track_caller]
    fn printed(&self, arguments: &[&str]) -> String {
        let ran = self.ran(arguments);
        check_code(&ran, 0);
        ran.out
    }

    fn end(self) {
        self.stop.send(()).unwrap();
        self.runtime.block_on(self.served).unwrap();
    }
}

#[test]
fn orders_are_carried_out_by_the_running_server_and_said_in_a_line() {
    let server = Server::start();
    server.spend("night/1 a=b");
    let run = "run=night/1 a=b";
    for (arguments, expected) in [
        (
            &[
                "budgets", "raise", "each run", "--key", run, "--usd", "1.00",
            ][..],
            "\"each run\", run night/1 a=b: raised by $1.00, now $0.42 used of $3.00\n",
        ),
        (
            &[
                "budgets", "raise", "each run", "--key", run, "--usd", "0.5", "--calls", "2000",
            ],
            "\"each run\", run night/1 a=b: raised by $0.50 and 2,000 calls, now $0.42 used of \
             $3.50, 1 used of 2,100 calls\n",
        ),
        (
            &["budgets", "raise", "day/all", "--tokens", "500"],
            "\"day/all\", all calls: raised by 500 tokens until 2026-11-01 23:00:00 (UTC), now 0 \
             used of 10,500 tokens\n",
        ),
        (
            &["budgets", "reset", "each run", "--key", run],
            "\"each run\", run night/1 a=b: reset, now $0.00 used of $2.00, 0 used of 100 calls\n",
        ),
        (
            &[
                "budgets",
                "reset",
                "team",
                "--key",
                "tag.team=search",
                "--key",
                "user=",
            ],
            "\"team\", user (none), tag.team search: reset, now 0 used of 2 calls at once\n",
        ),
        (
            &["run", "pause", "night/1 a=b"],
            "run night/1 a=b: paused, new calls wait\n",
        ),
        (
            &["run", "resume", "night/1 a=b"],
            "run night/1 a=b: it goes on\n",
        ),
        (
            &["run", "stop", "night/1 a=b"],
            "run night/1 a=b: stopped, 0 running calls ended\n",
        ),
    ] {
        assert_eq!(server.printed(arguments), expected);
    }
    let json = server.printed(&["run", "resume", "night/1 a=b", "--json"]);
    let expected = r#"{"run":"night/1 a=b","control":"running","ended_calls":0}"#;
    assert_eq!(json, format!("{expected}\n"));
    server.end();
}

#[test]
fn budgets_of_the_running_server_are_shown() {
    let server = Server::start();
    server.spend("night/1");
    server.spend("day/2");
    server.spend("day/2");
    let shown = server.printed(&["budgets", "--rule", "each run", "--value", "night/1"]);
    assert_eq!(
        shown,
        "each run\trun=night/1\t$0.42 / $0.00 / $2.00\t[##........]\topen\t0\t0\t0\t-\n\
         each run\trun=night/1\t1 / 0 / 100 calls\t[..........]\topen\t0\t0\t0\t-\n"
    );
    let json = server.printed(&["budgets", "--limit", "1", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(list["budgets"][0]["accounts"][0]["key_text"], "run=day/2");
    assert_eq!(list["budgets"][0]["accounts_total"], 2);
    server.end();
}

#[test]
fn what_is_not_there_exits_with_1_and_what_cannot_be_with_2() {
    let server = Server::start();
    server.spend("night/1");
    let twice = ["--key", "run=a", "--key", "run=b"];
    for (arguments, code, expected) in [
        (
            &["budgets", "--rule", "x"][..],
            1,
            "no budget \"x\"; configured: \"each run\"",
        ),
        (
            &["budgets", "reset", "x"],
            1,
            "no budget \"x\"; configured: \"each run\"",
        ),
        (
            &["budgets", "reset", "each run", "--key", "run=a"],
            1,
            "no call was counted for \"each run\", run a yet; its accounts: run=night/1",
        ),
        (&["run", "stop", "a"], 1, "no call of a run a was seen yet"),
        (
            &["budgets", "reset", "each run"],
            2,
            "counts apart by run=...",
        ),
        (
            &["budgets", "raise", "day/all", "--usd", "1"],
            2,
            "has no limit of usd",
        ),
        (
            &[&["budgets", "reset", "each run"], &twice[..]].concat(),
            2,
            "given twice",
        ),
    ] {
        let ran = server.ran(arguments);
        check_code(&ran, code);
        let errors = &ran.errors;
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1);
        assert_eq!(ran.out, "");
    }
    server.end();
}
