//! The power goes: of the disk only that is left which was synced, names of files included, and
//! still whatever a client saw answered is in the ledger of the next start.
//!
//! `IT_POWER_ROUNDS` asks for more rounds than the few that every run makes.

use std::fs;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::disk::{Loss, TestDisk};
use crate::harness::load::{self, Answered, keep_calling, scattered};
use crate::harness::proxy::Setup;
use crate::harness::{Proxy, Upstream, quiet};

const CLIENTS: usize = 4;
const OUTAGES: usize = 3;

fn rounds() -> usize {
    #[expect(clippy::disallowed_methods, reason = "a knob of this test alone")]
    let asked = std::env::var("IT_POWER_ROUNDS");
    asked
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(12)
}

/// One life of the process: with its end everything in it is gone.
fn live<T>(life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(life)
}

fn setup(upstream: &Upstream, dir: &Arc<TempDir>) -> Setup {
    Proxy::with(upstream)
        .on_data_of(dir)
        .ledger_lines("segment_size = \"64 KiB\"")
}

#[test]
fn every_answered_call_survives_a_loss_of_power() {
    let mut answered = 0;
    for round in 0..rounds() {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let mut promised = Vec::new();
        for outage in 0..OUTAGES {
            let chance = scattered(round * OUTAGES + outage);
            promised.extend(outlived(&dir, chance));
            live(check(
                &dir,
                &promised,
                format!("round {round}, outage {outage}"),
            ));
        }
        answered += promised.len();
    }
    assert!(answered > rounds() * 10, "only {answered} calls");
}

/// The calls that were answered before the power went; the disk is as it comes back.
fn outlived(dir: &Arc<TempDir>, chance: usize) -> Vec<Answered> {
    let data = dir.path().join("data");
    let disk = TestDisk::at(&data);
    disk.cut_power_after(chance as u64 % 100);
    let answered = live(until_dark(dir, disk.clone()));
    let losses = [Loss::All, Loss::Nothing, Loss::Torn, Loss::Reordered];
    disk.lose(losses[chance / 100 % 4]);
    if (chance / 400).is_multiple_of(2) {
        // Otherwise it may be ahead of what is left of the log.
        let _: Result<(), _> = fs::remove_file(data.join("index.redb"));
    }
    answered
}

async fn until_dark(dir: &Arc<TempDir>, disk: TestDisk) -> Vec<Answered> {
    let upstream = load::upstream().await;
    let answered = Arc::new(Mutex::new(Vec::new()));
    let mut clients = JoinSet::new();
    let running = async {
        let proxy = setup(&upstream, dir).on_disk(&disk).start().await;
        for client in 0..CLIENTS {
            let (answered, address) = (Arc::clone(&answered), proxy.address());
            clients.spawn(keep_calling(address, client, move |call| {
                answered.lock().unwrap().push(call);
            }));
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

async fn check(dir: &Arc<TempDir>, promised: &[Answered], what: String) {
    let upstream = load::upstream().await;
    let proxy = setup(&upstream, dir).start().await;
    println!("{what}: {} calls", promised.len());
    load::check(proxy.app.admin_address(), promised).await;
    proxy.app.stop().await;
}
