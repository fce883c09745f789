//! Calls that wait for their budgets: what lets them go on, whom they keep waiting when their client
//! leaves or the process ends, and which rules count when those change meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use open_aiops::budgets::{Ask as Question, Budgets, Used};
use open_aiops::clock::Clock;
use open_aiops::config::{Config, Reload};
use open_aiops::core::attribution::{Attribution, Confidence, Source};
use open_aiops::core::budget::decide::{Need, Tariff};
use open_aiops::core::budget::{Control, Limits, Measure};
use open_aiops::core::call::Operation;
use open_aiops::core::money::NanoUsd;
use open_aiops::core::time::Timestamp;
use open_aiops::ledger;
use tokio::task::JoinHandle;

use crate::harness::accounts::{
    chat, check_idle, finish, label, pending, running, settled, standing, used, waiting,
};
use crate::harness::process::Server;
use crate::harness::proxy::Setup;
use crate::harness::{Ask, Client, Driver, Proxy, Response, Upstream, quiet, within};

fn rule(name: &str, lines: &str) -> String {
    format!("[[budget]]\nname = {name:?}\n{lines}\n")
}

/// A call that runs, and so holds 9 tokens and what was asked for.
struct Busy {
    upstream: Upstream,
    proxy: Arc<Proxy>,
    driver: Driver,
    running: JoinHandle<Response>,
}

impl Busy {
    async fn with(lines: &str, output: u64) -> Self {
        let (slow, driver) = pending();
        let upstream = Upstream::answers_each([slow, used(9, 5)]).await;
        let setup = Proxy::with(&upstream).sections(&rule("all", lines));
        let proxy = Arc::new(setup.start().await);
        let running = call(&proxy, chat("r1", output));
        upstream.asked().await;
        Self {
            upstream,
            proxy,
            driver,
            running,
        }
    }

    fn call(&self, ask: Ask) -> JoinHandle<Response> {
        call(&self.proxy, ask)
    }

    fn reload(&self, budgets: &str) {
        let setup = Proxy::with(&self.upstream).on_data_of(&self.proxy.dir);
        let config = setup.sections(budgets).config();
        self.proxy.app.reload(Reload::Valid(Box::new(config)));
    }

    /// Lets the first call end.
    async fn end(self) -> Arc<Proxy> {
        finish(&self.driver, 9, 5).await;
        assert_eq!(done(self.running).await.status(), 200);
        self.proxy
    }
}

fn call(proxy: &Arc<Proxy>, ask: Ask) -> JoinHandle<Response> {
    let proxy = Arc::clone(proxy);
    tokio::spawn(async move { proxy.call(&ask).await })
}

async fn done(call: JoinHandle<Response>) -> Response {
    within("an answer", call).await.unwrap()
}

fn nobody() -> Attribution {
    Attribution {
        agent: label("unknown"),
        caller: None,
        run: None,
        parent_run: None,
        path: Vec::new(),
        depth: 0,
        user: None,
        variant: None,
        conversation: None,
        tags: BTreeMap::new(),
        metrics: BTreeMap::new(),
        agent_source: Source::Own,
        run_source: None,
        inferred: Confidence::default(),
    }
}

#[tokio::test]
async fn call_that_waits_goes_on_when_time_alone_made_room() {
    let dir = tempfile::tempdir().unwrap();
    let text = rule("minute", "tokens = 100\nwindow = \"60s\"");
    let mut config = Config::parse("c", &text, &|_| None).unwrap();
    config.ledger.dir = dir.path().to_owned();
    let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
    let (ledger, _) = ledger::open(&config.ledger, clock.clone(), |_, _, _| None).unwrap();
    let budgets = Budgets::new(&config.budgets, 100, ledger, clock.clone());
    let (who, upstream) = (nobody(), label("main"));
    let ask = Question {
        attribution: &who,
        key: None,
        model: None,
        upstream: &upstream,
        operation: Operation::Chat,
        tightened: Limits::default(),
    };
    let hold = async |tokens: i64| {
        let need = Need {
            input_tokens: tokens,
            tariff: Some(Tariff::default()),
            calls: 1,
            ..Need::default()
        };
        let mut claim = budgets.claim(&ask).await.unwrap();
        let exact = async || need;
        let patience = Duration::from_secs(3600);
        budgets
            .hold((&mut claim, &ask), &need, exact, patience)
            .await
    };
    let ended = Used {
        input_tokens: 60,
        output_tokens: 0,
        cost: Some(NanoUsd::ZERO),
        fallback: NanoUsd::ZERO,
        is_call: true,
    };
    hold(60)
        .await
        .unwrap()
        .hold
        .settle(&ended, clock.now(), drop);
    let running = hold(30).await.unwrap();
    // A task of its own: what it does wakes nobody.
    tokio::spawn(async move {
        quiet().await;
        clock.advance_micros(62_000_000);
    });
    let waited = within("room", hold(40)).await;
    assert!(waited.is_ok(), "what was used has left the window");
    drop(running);
}

#[tokio::test]
async fn raised_limit_lets_calls_that_wait_go_on_at_once() {
    let busy = Busy::with("tokens = 80", 50).await;
    let others: Vec<_> = (0..3).map(|_| busy.call(chat("r2", 50))).collect();
    waiting(&busy.proxy, 3).await;
    busy.reload(&rule("all", "tokens = 1000"));
    for other in others {
        assert_eq!(done(other).await.status(), 200);
    }
    check_idle(&settled(&*busy.end().await).await);
}

#[tokio::test]
async fn lowered_limit_refuses_calls_that_wait() {
    let busy = Busy::with("tokens = 80", 50).await;
    let other = busy.call(chat("r2", 50));
    waiting(&busy.proxy, 1).await;
    busy.reload(&rule("all", "tokens = 20"));
    let refused = done(other).await;
    assert_eq!(refused.header("x-aiops-reason"), Some("budget_spent"));
    assert!(
        refused.text().contains("of 20 tokens"),
        "{}",
        refused.text()
    );
    let rows = settled(&*busy.end().await).await;
    check_idle(&rows);
    assert_eq!(standing(&rows[0], Measure::Tokens), (14, 0));
}

#[tokio::test]
async fn renamed_rule_starts_anew_for_calls_that_wait_as_well() {
    let busy = Busy::with("tokens = 80", 50).await;
    let other = busy.call(chat("r2", 50));
    waiting(&busy.proxy, 1).await;
    busy.reload(&rule("other", "tokens = 80"));
    assert_eq!(done(other).await.status(), 200);
    let rows = settled(&*busy.end().await).await;
    check_idle(&rows);
    assert_eq!(rows.len(), 1, "only the rule there is now");
    assert_eq!(standing(&rows[0], Measure::Tokens), (14, 0));
}

#[tokio::test]
async fn removed_rule_lets_calls_that_wait_go_on() {
    let busy = Busy::with("tokens = 80", 50).await;
    let others: Vec<_> = (0..3).map(|_| busy.call(chat("r2", 50))).collect();
    waiting(&busy.proxy, 3).await;
    busy.reload("");
    for other in others {
        assert_eq!(done(other).await.status(), 200);
    }
    busy.end().await;
}

#[tokio::test]
async fn changed_window_keeps_what_falls_into_it() {
    let upstream = Upstream::answers(used(9, 5)).await;
    let sections = |window: &str| rule("all", &format!("tokens = 500\nwindow = {window:?}"));
    let setup = Proxy::with(&upstream).sections(&sections("10m"));
    let proxy = setup.start().await;
    for _ in 0..3 {
        assert_eq!(proxy.call(&chat("r1", 50)).await.status(), 200);
    }
    for window in ["1h", "total", "24h", "15m"] {
        within("the end", proxy.app.settled()).await;
        let setup = Proxy::with(&upstream).on_data_of(&proxy.dir);
        let config = setup.sections(&sections(window)).config();
        proxy.app.reload(Reload::Valid(Box::new(config)));
        let rows = settled(&proxy).await;
        assert_eq!(standing(&rows[0], Measure::Tokens), (42, 0), "{window}");
    }
}

#[tokio::test]
async fn edited_file_lets_a_call_that_waits_go_on() {
    let (slow, driver) = pending();
    let upstream = Upstream::answers_each([slow, used(9, 5)]).await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let write = |limit: u32| {
        let lines = rule("all", &format!("concurrent = {limit}"));
        let setup = Proxy::with(&upstream).on_data_of(&dir).sections(&lines);
        std::fs::write(dir.path().join("config.toml"), setup.text()).unwrap();
    };
    write(1);
    let server = Server::start(dir.path()).await;
    let (mut first, mut second) = (
        Client::connect(server.proxy).await,
        Client::connect(server.proxy).await,
    );
    first.send(chat("r1", 50).bytes()).await;
    upstream.asked().await;
    second.send(chat("r1", 50).bytes()).await;
    second.gets_nothing().await;
    write(2);
    server.hang_up();
    assert_eq!(second.response(false).await.status(), 200);
    finish(&driver, 9, 5).await;
    assert_eq!(first.response(false).await.status(), 200);
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn client_that_leaves_the_queue_frees_its_place() {
    let busy = Busy::with("concurrent = 1\ntokens = 1000", 50).await;
    let mut gone = busy.proxy.client().await;
    gone.send(chat("gone", 50).bytes()).await;
    waiting(&busy.proxy, 1).await;
    let next = busy.call(chat("next", 50));
    waiting(&busy.proxy, 2).await;
    drop(gone);
    waiting(&busy.proxy, 1).await;
    let proxy = {
        let Busy {
            driver,
            running,
            proxy,
            ..
        } = busy;
        finish(&driver, 9, 5).await;
        assert_eq!(done(running).await.status(), 200);
        proxy
    };
    assert_eq!(done(next).await.status(), 200);
    let rows = settled(&proxy).await;
    check_idle(&rows);
    assert_eq!(standing(&rows[0], Measure::Tokens), (28, 0));
    assert_eq!(proxy.calls().await, 2);
}

#[tokio::test]
async fn client_that_leaves_while_it_is_delayed_gives_its_hold_back() {
    let upstream = Upstream::answers(used(9, 141)).await;
    let lines = "tokens = 250\nslow_at = 0.01\nmax_delay = \"30s\"";
    let setup = Proxy::with(&upstream).sections(&rule("all", lines));
    let proxy = Arc::new(setup.start().await);
    assert_eq!(proxy.call(&chat("r1", 50)).await.status(), 200);
    within("the end", proxy.app.settled()).await;
    let mut gone = proxy.client().await;
    gone.send(chat("gone", 50).bytes()).await;
    until(&proxy, |running| running == 1).await;
    drop(gone);
    until(&proxy, |running| running == 0).await;
    let rows = settled(&proxy).await;
    check_idle(&rows);
    assert_eq!(standing(&rows[0], Measure::Tokens), (150, 0));
    assert_eq!((proxy.calls().await, upstream.requests().len()), (1, 1));
}

/// Waits until so many calls hold something.
async fn until(proxy: &Proxy, wanted: impl Fn(i64) -> bool) {
    within("calls that hold", async {
        while !wanted(
            running(proxy.app.budgets())
                .await
                .iter()
                .map(|row| row.running)
                .sum(),
        ) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn pause_holds_calls_that_wait_for_others_and_gives_their_place_to_the_next() {
    let busy = Busy::with("concurrent = 1\ntokens = 1000", 50).await;
    let budgets = Arc::clone(busy.proxy.app.budgets());
    let control = async |control| budgets.control(&label("r2"), control, "me").await.unwrap();
    let paused = busy.call(chat("r2", 50));
    waiting(&busy.proxy, 1).await;
    control(Control::Paused).await;
    let Busy {
        upstream,
        proxy,
        driver,
        running: first,
    } = busy;
    finish(&driver, 9, 5).await;
    assert_eq!(done(first).await.status(), 200);
    // The place that came free is not kept by who cannot use it.
    assert_eq!(done(call(&proxy, chat("r3", 50))).await.status(), 200);
    quiet().await;
    assert!(!paused.is_finished());
    assert_eq!(upstream.requests().len(), 2, "the paused call went nowhere");
    until(&proxy, |running| running == 0).await;
    control(Control::Running).await;
    let response = done(paused).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("x-aiops-decision"), Some("slow"));
    let rows = settled(&proxy).await;
    check_idle(&rows);
    assert_eq!(standing(&rows[0], Measure::Tokens), (42, 0));
}

#[tokio::test]
async fn call_that_was_paused_goes_on_under_the_rules_of_then() {
    let busy = Busy::with("tokens = 1000", 50).await;
    let budgets = Arc::clone(busy.proxy.app.budgets());
    let control = async |control| budgets.control(&label("r1"), control, "me").await.unwrap();
    control(Control::Paused).await;
    let paused = busy.call(chat("r1", 50));
    quiet().await;
    busy.reload(&rule("all", "calls = 1"));
    control(Control::Running).await;
    let refused = done(paused).await;
    assert_eq!(refused.status(), 429, "{}", refused.text());
    assert_eq!(refused.header("x-aiops-reason"), Some("budget_spent"));
    check_idle(&settled(&*busy.end().await).await);
}

#[tokio::test]
async fn client_that_leaves_while_its_run_is_paused_is_forgotten() {
    let busy = Busy::with("concurrent = 2\ntokens = 1000", 50).await;
    let budgets = Arc::clone(busy.proxy.app.budgets());
    let control = async |control| budgets.control(&label("r1"), control, "me").await.unwrap();
    control(Control::Paused).await;
    let mut gone = busy.proxy.client().await;
    gone.send(chat("r1", 50).bytes()).await;
    gone.gets_nothing().await;
    drop(gone);
    quiet().await;
    control(Control::Running).await;
    assert_eq!(done(busy.call(chat("r1", 50))).await.status(), 200);
    let rows = settled(&*busy.end().await).await;
    check_idle(&rows);
    assert_eq!(standing(&rows[0], Measure::Tokens), (28, 0));
}

/// One call that runs, one that waits in the queue, one that is delayed, one whose run is paused.
struct Crowd {
    upstream: Upstream,
    dir: Arc<tempfile::TempDir>,
    proxy: Proxy,
    clients: Vec<Client>,
}

impl Crowd {
    fn setup(upstream: &Upstream) -> Setup {
        let one = "per = [\"run\"]\nmatch = { run = \"one*\" }\nconcurrent = 1\ntokens = 1000";
        let slow =
            "match = { run = \"slow*\" }\ntokens = 250\nslow_at = 0.001\nmax_delay = \"30s\"";
        let rules = [
            rule("one", one),
            rule("slow", slow),
            rule("all", "tokens = 100000"),
        ];
        Proxy::with(upstream)
            .proxy_lines("drain_timeout = \"200ms\"")
            .sections(&rules.concat())
    }

    async fn gather() -> Self {
        let (slow, _driver) = pending();
        let upstream = Upstream::answers_each([used(9, 141), used(9, 41), slow]).await;
        let proxy = Self::setup(&upstream).start().await;
        let dir = Arc::clone(&proxy.dir);
        for run in ["slow", "paused"] {
            assert_eq!(proxy.call(&chat(run, 50)).await.status(), 200);
            within("the end", proxy.app.settled()).await;
        }
        let paused = label("paused");
        let control = proxy.app.budgets().control(&paused, Control::Paused, "me");
        control.await.unwrap();
        let mut clients = Vec::new();
        for run in ["one", "one", "slow", "paused"] {
            let mut client = proxy.client().await;
            client.send(chat(run, 50).bytes()).await;
            clients.push(client);
            if run == "one" {
                upstream.until(|requests| requests.len() == 3).await;
            }
        }
        waiting(&proxy, 1).await;
        until(&proxy, |running| running == 4).await;
        Self {
            upstream,
            dir,
            proxy,
            clients,
        }
    }
}

#[tokio::test]
async fn end_of_the_process_ends_calls_wherever_they_are_and_charges_each_once() {
    let Crowd {
        upstream,
        dir,
        proxy,
        clients,
    } = Crowd::gather().await;
    within("the stop", proxy.app.stop()).await;
    // The first one got the head of its answer.
    for mut client in clients.into_iter().skip(1) {
        assert_eq!(client.rest().await, b"", "nobody else got an answer");
    }
    assert_eq!(upstream.requests().len(), 3, "who waited went nowhere");
    let again = Crowd::setup(&upstream).on_data_of(&dir).start().await;
    let rows = settled(&again).await;
    check_idle(&rows);
    let of = |name: &str| {
        let row = rows.iter().find(|row| row.name.rule.as_str() == name);
        row.map(|row| standing(row, Measure::Tokens).0)
    };
    // What ran had its prompt read upstream, 8 tokens as they are counted. Of its answer nothing was
    // seen: it is charged what is usual, at most the 50 that it was allowed.
    let cut = of("one").unwrap();
    assert!((58..=59).contains(&cut), "{cut}");
    assert_eq!(of("slow"), Some(150));
    assert_eq!(of("all"), Some(200 + cut));
    assert_eq!(again.calls().await, 3);
}
