//! The process dies or the power goes: what was spent is what the log says of every call, never less
//! than what clients saw answered, and what an operator did still holds.
//!
//! `IT_CRASH_ROUNDS` asks for more rounds than the few that every run makes.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use open_aiops::app::App;
use open_aiops::core::budget::{AccountId, Amounts, Control, Dimension, Limits, Measure, Window};
use open_aiops::core::call::Outcome;
use open_aiops::core::time::Timestamp;
use open_aiops::ledger::{CallFilter, Ledger};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::accounts::{chat, check_idle, label, settled, standing};
use crate::harness::disk::{Loss, TestDisk};
use crate::harness::load::{self, scattered};
use crate::harness::process::Server;
use crate::harness::proxy::Setup;
use crate::harness::{Client, Proxy, Upstream, quiet, within};

const CLIENTS: usize = 8;
const RUNS: usize = 5;
/// What each answered call used by the upstream's own word.
const BILLED: i64 = 18;

const RULES: &str = r#"
[[budget]]
name = "each run"
per = ["run"]
usd = 10
tokens = 4000

[[budget]]
name = "rolling"
per = ["agent"]
window = "24h"
tokens = 10000000
calls = 100000

[[budget]]
name = "day"
window = "day"
usd = 1000

[[budget]]
name = "at once"
concurrent = 5
"#;

fn rounds() -> usize {
    #[expect(clippy::disallowed_methods, reason = "a knob of this test alone")]
    let asked = std::env::var("IT_CRASH_ROUNDS");
    asked
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(4)
}

fn setup(upstream: &Upstream, dir: &Arc<TempDir>) -> Setup {
    Proxy::with(upstream).on_data_of(dir).sections(RULES)
}

fn run_name(number: usize) -> String {
    format!("run-{}", number % RUNS)
}

/// Answers by run: how many calls were answered to their end.
type Answered = BTreeMap<String, i64>;

/// Calls without an end, over all runs, until the proxy is gone. Refused ones count as well.
async fn keep_calling(
    address: SocketAddr,
    client: usize,
    answered: Arc<Mutex<Answered>>,
    count: Arc<watch::Sender<usize>>,
) {
    for turn in 0.. {
        let run = run_name(scattered(client * 1000 + turn));
        let Some(mut client) = Client::try_connect(address).await else {
            return;
        };
        let Some(response) = client.try_call(&chat(&run, 50)).await else {
            return;
        };
        let whole = response.body.done && !response.cut;
        if whole && response.status() == 200 {
            *answered.lock().unwrap().entry(run).or_default() += 1;
        }
        count.send_modify(|count| *count += 1);
    }
}

/// What the log charges every account: settled calls by their charges, and those that were found
/// open by what they held.
fn fold(ledger: &Ledger) -> BTreeMap<AccountId, Amounts> {
    let mut sums = BTreeMap::new();
    let mut filter = CallFilter::default();
    loop {
        let page = ledger.view().calls(&filter).unwrap();
        for row in &page.items {
            let call = ledger.peek().call(row.id).unwrap().unwrap();
            let settlement = call.settlement.expect("every call is settled");
            if settlement.outcome == Outcome::Recovered {
                let admission = call.admission.unwrap();
                assert_eq!(settlement.charges, admission.hold, "{}", row.id);
            }
            assert_eq!(settlement.charges.len(), 4, "by all four rules");
            for charge in &settlement.charges {
                let sum: &mut Amounts = sums.entry(charge.account).or_default();
                *sum = sum.plus(charge.amounts);
            }
        }
        match page.next {
            Some(last) => filter.before = Some(last),
            None => return sums,
        }
    }
}

/// What the ledger keeps of every account.
fn stored(ledger: &Ledger) -> BTreeMap<AccountId, Amounts> {
    let mut sums = BTreeMap::new();
    let take = &mut |id, account: open_aiops::core::budget::StoredAccount| {
        sums.insert(id, account.used(&Window::Total, Timestamp::default()));
        ControlFlow::Continue(())
    };
    ledger.view().each_account(take).unwrap();
    sums
}

/// Compares ledger, accounts and what clients saw; gives what was spent.
async fn check(proxy: &Proxy, answered: &Answered) -> BTreeMap<AccountId, Amounts> {
    let rows = settled(proxy).await;
    check_idle(&rows);
    let ledger = proxy.app.ledger().clone();
    let read = move || (fold(&ledger), stored(&ledger));
    let (folded, stored) = tokio::task::spawn_blocking(read).await.unwrap();
    assert_eq!(folded, stored, "the log and its accounts");
    let seed = proxy.app.ledger().seed();
    for row in rows.iter().filter(|row| row.name.rule.as_str() != "day") {
        let sum = folded[&row.name.id(seed)];
        for measure in row.measures.iter().map(|row| row.measure) {
            assert_eq!(standing(row, measure).0, sum.of(measure), "{}", row.name);
        }
    }
    for (run, calls) in answered {
        let key = Some(label(run));
        let row = rows
            .iter()
            .find(|row| row.name.rule.as_str() == "each run" && row.name.key[0].1 == key);
        let (used, _) = standing(row.expect("an account"), Measure::Tokens);
        assert!(used >= calls * BILLED, "{run}: {used} for {calls} calls");
    }
    folded
}

/// Pauses a run, stops another, and raises the limit of a third.
async fn operate(proxy: &Proxy) {
    for run in ["paused", "stopped", "run-0"] {
        assert_eq!(proxy.call(&chat(run, 50)).await.status(), 200);
    }
    let budgets = proxy.app.budgets();
    for (run, control) in [("paused", Control::Paused), ("stopped", Control::Stopped)] {
        budgets.control(&label(run), control, "me").await.unwrap();
    }
    let key = vec![(Dimension::Run, Some(label("run-0")))];
    let by = Limits {
        tokens: Some(77),
        ..Limits::default()
    };
    let raised = budgets.raise(&label("each run"), &key, by, "me").await;
    assert_eq!(raised.unwrap(), None);
}

/// What [`operate`] did still holds.
async fn check_operated(proxy: &Proxy) {
    let paused = chat("paused", 50).header("x-stainless-read-timeout", "0.01");
    for (ask, kind) in [(paused, "run_paused"), (chat("stopped", 50), "run_stopped")] {
        let refused = proxy.call(&ask).await;
        assert_eq!(refused.header("x-aiops-reason"), Some(kind));
    }
    let rows = settled(proxy).await;
    let of_run = rows.iter().find(|row| {
        row.name.rule.as_str() == "each run" && row.name.key[0].1 == Some(label("run-0"))
    });
    let mut measures = of_run.unwrap().measures.iter();
    let tokens = measures.find(|row| row.measure == Measure::Tokens).unwrap();
    assert_eq!((tokens.limit, tokens.raised), (4077, 77));
}

/// Calls bring accounts back into memory, with all that was spent before.
async fn check_in_memory(proxy: &Proxy, answered: &Answered) {
    for number in 0..RUNS {
        let status = proxy.call(&chat(&run_name(number), 50)).await.status();
        assert!(matches!(status, 200 | 429), "{status}");
    }
    check(proxy, answered).await;
}

async fn stop(app: App) {
    within("the stop", app.stop()).await;
}

#[tokio::test]
async fn totals_after_kill_9_are_what_the_log_says_and_never_too_little() {
    let upstream = load::upstream().await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    fs::write(
        dir.path().join("config.toml"),
        setup(&upstream, &dir).text(),
    )
    .unwrap();
    let first = setup(&upstream, &dir).start().await;
    operate(&first).await;
    stop(first.app).await;
    let answered = Arc::new(Mutex::new(Answered::new()));
    for round in 0..rounds() {
        let wanted = 1 + scattered(round) % 150;
        killed_under_load(dir.path(), wanted, &answered).await;
        let seen = answered.lock().unwrap().clone();
        let again = setup(&upstream, &dir).start().await;
        let spent = check(&again, &seen).await;
        stop(again.app).await;
        let once_more = setup(&upstream, &dir).start().await;
        assert_eq!(
            check(&once_more, &seen).await,
            spent,
            "a start spends nothing"
        );
        check_operated(&once_more).await;
        check_in_memory(&once_more, &seen).await;
        stop(once_more.app).await;
    }
    assert!(answered.lock().unwrap().values().sum::<i64>() >= 10);
}

async fn killed_under_load(dir: &std::path::Path, wanted: usize, answered: &Arc<Mutex<Answered>>) {
    let server = Server::start(dir).await;
    let count = Arc::new(watch::Sender::new(0));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let call = keep_calling(
            server.proxy,
            client,
            Arc::clone(answered),
            Arc::clone(&count),
        );
        clients.spawn(call);
    }
    let mut enough = count.subscribe();
    let enough = enough.wait_for(|count| *count >= wanted);
    within("the load", enough).await.unwrap();
    server.kill().await;
    within("the clients", clients.join_all()).await;
}

/// One life of the process: with its end everything in it is gone.
fn live<T>(life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(life)
}

#[test]
fn totals_after_a_loss_of_power_are_what_the_log_says_and_never_too_little() {
    let mut calls = 0;
    for round in 0..rounds() * 2 {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        live(async {
            let upstream = load::upstream().await;
            let first = setup(&upstream, &dir).start().await;
            operate(&first).await;
            stop(first.app).await;
        });
        let mut answered = Answered::new();
        for outage in 0..2 {
            let chance = scattered(round * 2 + outage);
            for (run, more) in outlived(&dir, chance) {
                calls += more;
                *answered.entry(run).or_default() += more;
            }
            println!("round {round}, outage {outage}: {answered:?}");
            let spent = live(restarted(&dir, &answered));
            assert_eq!(live(restarted(&dir, &answered)), spent);
        }
    }
    assert!(calls > 50, "only {calls} calls");
}

async fn restarted(dir: &Arc<TempDir>, answered: &Answered) -> BTreeMap<AccountId, Amounts> {
    let upstream = load::upstream().await;
    let proxy = setup(&upstream, dir).start().await;
    let spent = check(&proxy, answered).await;
    check_operated(&proxy).await;
    stop(proxy.app).await;
    spent
}

/// The calls that were answered before the power went; the disk is as it comes back.
fn outlived(dir: &Arc<TempDir>, chance: usize) -> Answered {
    let data = dir.path().join("data");
    let disk = TestDisk::at(&data);
    disk.cut_power_after(chance as u64 % 60);
    let answered = live(until_dark(dir, disk.clone()));
    let losses = [Loss::All, Loss::Nothing, Loss::Torn, Loss::Reordered];
    disk.lose(losses[chance / 100 % 4]);
    if (chance / 400).is_multiple_of(2) {
        // Otherwise it may be ahead of what is left of the log.
        let _: Result<(), _> = fs::remove_file(data.join("index.redb"));
    }
    answered
}

async fn until_dark(dir: &Arc<TempDir>, disk: TestDisk) -> Answered {
    let upstream = load::upstream().await;
    let answered = Arc::new(Mutex::new(Answered::new()));
    let count = Arc::new(watch::Sender::new(0));
    let mut clients = JoinSet::new();
    let running = async {
        let proxy = setup(&upstream, dir).on_disk(&disk).start().await;
        for client in 0..CLIENTS {
            let (answered, count) = (Arc::clone(&answered), Arc::clone(&count));
            clients.spawn(keep_calling(proxy.address(), client, answered, count));
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = running => {}
        // What was on its way may still arrive: it was let go before.
        () = async { disk.dark().await; quiet().await } => {}
    }
    clients.shutdown().await;
    disk.give_up();
    std::mem::take(&mut answered.lock().unwrap())
}
