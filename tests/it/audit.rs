//! Somebody changes the files of the ledger: `open-aiops audit` says what and where, and raises no
//! alarm where nobody did.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::load;
use crate::harness::process::{self, Ended, Server};
use crate::harness::proxy::Setup;
use crate::harness::talk::{Talk, calling, saying};
use crate::harness::{Client, Proxy, Upstream, json, post, within};

const SETTINGS: &str = "segment_size = \"64 KiB\"";
const HEAD: usize = 56;
/// The kind of a record that says how a call ended.
const SETTLEMENT: u8 = 3;

/// What is on disk after calls, a loop that was stopped, and a run that a person stopped.
struct Recorded {
    dir: TempDir,
    /// Taken at the end.
    anchor: String,
}

/// Answers as a model that greps in vain where it is asked to mend something.
async fn upstream() -> Upstream {
    Upstream::with(|n, request| {
        if !request.text().contains("Mend") {
            return json(saying(&noise(n)).to_string());
        }
        let arguments = serde_json::json!({"path": "src/parser.rs", "pattern": "fn parse"});
        json(calling(&format!("call_{n}"), "grep", &arguments).to_string())
    })
    .await
}

fn configured(upstream: &Upstream, ledger: &str) -> Setup {
    let setup = Proxy::with(upstream)
        .ledger_lines(ledger)
        .sections("[loops]\nmax_delay = \"0s\"\n");
    fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    setup
}

/// Calls with long requests of their own, so that segments fill.
async fn fill(server: &Server, calls: Range<usize>) {
    let mut client = Client::connect(server.proxy).await;
    for call in calls {
        let noise = noise(call);
        let body = format!(
            "{{\"model\":\"gpt-4o-mini\",\"messages\":[{{\"role\":\"user\",\"content\":\"{noise}\"}}]}}"
        );
        let ask = post("/v1/chat/completions", body).header("x-aiops-run", "nightly");
        assert_eq!(client.call(&ask).await.status(), 200);
    }
}

/// Text that does not compress to nothing.
fn noise(seed: usize) -> String {
    let numbers = (0..900).map(|n| load::scattered(seed * 1000 + n).to_string());
    numbers.collect()
}

async fn go_round_in_circles(server: &Server) {
    let mut client = Client::connect(server.proxy).await;
    let mut talk = Talk::new("You are the coder.", "Mend what is broken in the parser.");
    loop {
        let response = client.call(&talk.ask()).await;
        if response.status() != 200 {
            return;
        }
        talk = talk.heard(&response).result("Error: no such file");
    }
}

async fn recorded() -> Recorded {
    let upstream = upstream().await;
    let setup = configured(&upstream, SETTINGS);
    let server = Server::start(setup.dir.path()).await;
    fill(&server, 0..40).await;
    go_round_in_circles(&server).await;
    let stopped = process::run(setup.dir.path(), &["run", "stop", "nightly"]).await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.err);
    // Beside the server.
    let verified = verify(setup.dir.path(), &[]).await;
    assert_eq!(verified.ended.code, Some(0), "{}", verified.ended.err);
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    let head = process::run(setup.dir.path(), &["audit", "head"]).await;
    assert_eq!(head.code, Some(0), "{}", head.err);
    let dir = copy(setup.dir.path());
    assert!(segments(dir.path()).len() > 4);
    Recorded {
        dir,
        anchor: head.out.trim().to_owned(),
    }
}

/// The configuration and the ledger once more, to be changed.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    let data = to.path().join("data");
    fs::create_dir_all(data.join("log")).unwrap();
    let text = fs::read_to_string(from.join("config.toml")).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix("dir = ") {
        Some(_) => format!("dir = {data:?}\n"),
        None => format!("{line}\n"),
    });
    fs::write(to.path().join("config.toml"), lines.collect::<String>()).unwrap();
    fs::copy(from.join("data/index.redb"), data.join("index.redb")).unwrap();
    for segment in segments(from) {
        let name = segment.file_name().unwrap();
        fs::copy(&segment, data.join("log").join(name)).unwrap();
    }
    to
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("data/log")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("data/log/{number:020}.seg"))
}

struct Verified {
    ended: Ended,
    report: Value,
}

async fn verify(dir: &Path, more: &[&str]) -> Verified {
    let arguments = [&["audit", "verify", "--json"], more].concat();
    let ended = process::run(dir, &arguments).await;
    let report = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{}", ended.err));
    Verified { ended, report }
}

impl Verified {
    /// What was found, in which segment, at which byte.
    fn found(&self) -> Vec<(&str, u64, u64)> {
        let findings = self.report["findings"].as_array().unwrap();
        let found = findings.iter().map(|it| {
            let at = |name: &str| it["at"][name].as_u64().unwrap();
            (it["kind"].as_str().unwrap(), at("segment"), at("offset"))
        });
        found.collect()
    }
}

/// Where the frames of a segment lie.
fn frames(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = HEAD;
    while let Some(len) = bytes.get(at + 2..at + 6) {
        let len = u32::from_le_bytes(len.try_into().unwrap()) as usize + 27;
        found.push(at..at + len);
        at += len;
    }
    found
}

/// Has a segment consist of other frames; says where each of those before lay.
fn rearrange(dir: &Path, number: u64, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<usize> {
    let file = segment(dir, number);
    let bytes = fs::read(&file).unwrap();
    let ranges = frames(&bytes);
    let mut parts: Vec<_> = ranges.iter().map(|it| bytes[it.clone()].to_vec()).collect();
    change(&mut parts);
    fs::write(&file, [&bytes[..HEAD], &parts.concat()].concat()).unwrap();
    ranges.into_iter().map(|it| it.start).collect()
}

fn fix_checksum(frame: &mut [u8]) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[2..6]);
    hasher.update(&frame[10..]);
    frame[6..10].copy_from_slice(&hasher.finalize().to_le_bytes());
}

/// A frame in its place in the chain, if `chain` is that after it.
fn frame(kind: u8, chain: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_le_bytes();
    let mut frame = [&[0xa7, 0x1e][..], &len, &[0; 4], &[kind], &chain, payload].concat();
    fix_checksum(&mut frame);
    frame
}

fn next(before: [u8; 16], kind: u8, payload: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before).update(&[kind]).update(payload);
    let mut chain = [0; 16];
    hasher.finalize_xof().fill(&mut chain);
    chain
}

fn chain_of(frame: &[u8]) -> [u8; 16] {
    frame[11..27].try_into().unwrap()
}

fn fix_head(head: &mut [u8]) {
    let sum = crc32fast::hash(&head[..52]);
    head[52..56].copy_from_slice(&sum.to_le_bytes());
}

#[tokio::test]
async fn each_kind_of_tampering_is_found_where_it_was_done() {
    let recorded = recorded().await;
    let untouched = verify(recorded.dir.path(), &["--against", &recorded.anchor]).await;
    assert_eq!(untouched.ended.code, Some(0), "{}", untouched.ended.err);
    assert_eq!(untouched.report["anchors_met"], 1);

    let check = async |change: &dyn Fn(&Path) -> Vec<usize>, expected: (&str, u64, usize)| {
        let dir = copy(recorded.dir.path());
        let offsets = change(dir.path());
        let verified = verify(dir.path(), &[]).await;
        assert_eq!(verified.ended.code, Some(1));
        let (kind, segment, frame) = expected;
        let at = offsets.get(frame).map_or(0, |at| *at as u64);
        assert_eq!(
            verified.found()[0],
            (kind, segment, at),
            "{}",
            verified.ended.err
        );
    };
    let edit = |fixed: bool| {
        move |dir: &Path| {
            rearrange(dir, 2, |parts| {
                let last = parts[3].len() - 1;
                parts[3][last] ^= 1;
                if fixed {
                    fix_checksum(&mut parts[3]);
                }
            })
        }
    };
    check(&edit(false), ("edited", 2, 3)).await;
    check(&edit(true), ("chain_broken", 2, 3)).await;
    let drop_one = |dir: &Path| rearrange(dir, 2, |parts| drop(parts.remove(3)));
    check(&drop_one, ("chain_broken", 2, 3)).await;
    let exchange = |dir: &Path| {
        rearrange(dir, 2, |parts| parts.swap(3, 4));
        let bytes = fs::read(segment(dir, 2)).unwrap();
        // The one that came first lies second now.
        vec![frames(&bytes)[3].start]
    };
    check(&exchange, ("reordered", 2, 0)).await;
    let insert = |dir: &Path| {
        rearrange(dir, 2, |parts| {
            let copied = parts[1].clone();
            parts.insert(3, copied);
        })
    };
    check(&insert, ("inserted", 2, 3)).await;
    let misdate = |dir: &Path| {
        let file = segment(dir, 2);
        let mut bytes = fs::read(&file).unwrap();
        bytes[20..28].fill(0);
        fix_head(&mut bytes);
        fs::write(file, bytes).unwrap();
        vec![0]
    };
    check(&misdate, ("header", 2, 0)).await;
}

#[tokio::test]
async fn segments_that_are_gone_exchanged_or_cut_are_found() {
    let recorded = recorded().await;
    let changed = async |change: &dyn Fn(&Path)| {
        let dir = copy(recorded.dir.path());
        change(dir.path());
        let verified = verify(dir.path(), &[]).await;
        assert_eq!(verified.ended.code, Some(1));
        let found = verified.found();
        found
            .iter()
            .map(|(kind, at, _)| ((*kind).to_owned(), *at))
            .collect::<Vec<_>>()
    };
    let gone = changed(&|dir| fs::remove_file(segment(dir, 2)).unwrap()).await;
    assert_eq!(gone, [("missing".to_owned(), 3)]);
    let front = changed(&|dir| fs::remove_file(segment(dir, 1)).unwrap()).await;
    assert_eq!(front, [("missing".to_owned(), 2)]);
    let exchanged = changed(&|dir| {
        let beside = dir.join("beside");
        fs::rename(segment(dir, 2), &beside).unwrap();
        fs::rename(segment(dir, 3), segment(dir, 2)).unwrap();
        fs::rename(beside, segment(dir, 3)).unwrap();
    })
    .await;
    assert_eq!(exchanged[0], ("header".to_owned(), 2));
    let last = segments(recorded.dir.path()).len() as u64;
    let cut = changed(&|dir| {
        rearrange(dir, last, |parts| drop(parts.pop()));
    })
    .await;
    assert_eq!(cut, [("rewritten".to_owned(), last)]);

    // A server that starts on it cuts nothing short of saying so.
    let dir = copy(recorded.dir.path());
    rearrange(dir.path(), last, |parts| drop(parts.pop()));
    let server = Server::start(dir.path()).await;
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    let verified = verify(dir.path(), &[]).await;
    assert_eq!(verified.ended.code, Some(1));
    assert_eq!(verified.found()[0].0, "shortened");
    let events = process::run(dir.path(), &["events"]).await.out;
    assert!(events.contains("log_shorter_than_index"), "{events}");
}

#[tokio::test]
async fn log_that_was_made_anew_is_found_by_an_anchor_alone() {
    let recorded = recorded().await;
    let dir = copy(recorded.dir.path());
    let mut chain = None;
    for number in 2..=segments(dir.path()).len() as u64 {
        let file = segment(dir.path(), number);
        let bytes = fs::read(&file).unwrap();
        let mut head = bytes[..HEAD].to_vec();
        let mut before: [u8; 16] = chain.unwrap_or_else(|| head[36..52].try_into().unwrap());
        head[36..52].copy_from_slice(&before);
        fix_head(&mut head);
        for range in frames(&bytes) {
            let kind = bytes[range.start + 10];
            let mut payload = bytes[range.start + 27..range.end].to_vec();
            if number == 2 && kind == SETTLEMENT {
                let last = payload.len() - 1;
                payload[last] ^= 1;
            }
            before = next(before, kind, &payload);
            head.extend(frame(kind, before, &payload));
        }
        fs::write(file, head).unwrap();
        chain = Some(before);
    }
    fs::remove_file(dir.path().join("data/index.redb")).unwrap();
    let alone = verify(dir.path(), &[]).await;
    assert_eq!(alone.ended.code, Some(0), "{}", alone.ended.err);
    let against = verify(dir.path(), &["--against", &recorded.anchor]).await;
    assert_eq!(against.ended.code, Some(1));
    assert_eq!(against.found()[0].0, "rewritten");
}

/// What stands for a record of a kind, and what a record of the deletion says of it.
fn buried(kind: u8, len: usize, before: [u8; 16]) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    let encoded = encoder.map(3).and_then(|it| {
        it.u8(0)?.u8(kind)?.u8(1)?.u64(len as u64)?;
        it.u8(2)?.bytes(&before)
    });
    encoded.unwrap();
    encoder.into_writer()
}

fn removal(at: i64, segment: u64, entries: &[u8]) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    let encoded = encoder.map(4).and_then(|it| {
        it.u8(20)?.i64(at)?.u8(21)?.str("open-aiops")?;
        it.u8(22)?.str("retention, as ever")?.u8(23)?;
        it.array(2)?.u8(1)?.array(1)?.array(1)?;
        it.map(2)?.u8(0)?.u64(segment)?.u8(1)?.bytes(entries)
    });
    encoded.unwrap();
    encoder.into_writer()
}

#[tokio::test]
async fn deletion_that_somebody_forged_is_told_and_found_by_an_anchor() {
    let recorded = recorded().await;
    let dir = copy(recorded.dir.path());
    let mut entries = Vec::new();
    rearrange(dir.path(), 2, |parts| {
        let (before, chain) = (chain_of(&parts[2]), chain_of(&parts[3]));
        let stone = buried(parts[3][10], parts[3].len() - 27, before);
        entries.extend(chain);
        let mut hash = [0; 16];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&stone).finalize_xof().fill(&mut hash);
        entries.extend(hash);
        parts[3] = frame(11, chain, &stone);
    });
    let unaccounted = verify(dir.path(), &[]).await;
    assert_eq!(unaccounted.found()[0].0, "forged_tombstone");

    let last = segments(dir.path()).len() as u64;
    let bytes = fs::read(segment(dir.path(), last)).unwrap();
    let end = chain_of(&bytes[frames(&bytes).pop().unwrap()]);
    let mut new = bytes[..HEAD].to_vec();
    new[12..20].copy_from_slice(&(last + 1).to_le_bytes());
    new[36..52].copy_from_slice(&end);
    fix_head(&mut new);
    let at = i64::from_le_bytes(bytes[20..28].try_into().unwrap());
    let payload = removal(at, 2, &entries);
    new.extend(frame(9, next(end, 9, &payload), &payload));
    fs::write(segment(dir.path(), last + 1), new).unwrap();

    let alone = verify(dir.path(), &[]).await;
    assert_eq!(alone.ended.code, Some(0), "{}", alone.ended.err);
    let told = &alone.report["on_record"][0];
    assert_eq!(told["words"], "1 records of segments 2 to 2, by a deletion");
    let against = ["--against", recorded.anchor.as_str()];
    let found = verify(dir.path(), &against).await;
    assert_eq!(found.ended.code, Some(1));
    assert_eq!(found.found()[0].0, "taken_out");
    let accept = told["accept"].as_str().unwrap();
    let accepted = verify(dir.path(), &[&against[..], &["--accept", accept]].concat()).await;
    assert_eq!(accepted.ended.code, Some(0), "{}", accepted.ended.err);
}

#[tokio::test]
async fn neither_kill_nor_retention_raises_an_alarm() {
    let upstream = load::upstream().await;
    let settings = "segment_size = \"64 KiB\"\nkeep_size = \"192 KiB\"";
    let setup = configured(&upstream, settings);
    let dir = setup.dir.path();
    let mut anchors = String::new();
    for round in 0..4 {
        let server = Server::start(dir).await;
        fill(&server, round * 40..(round + 1) * 40).await;
        if round == 3 {
            let (first, _) = anchors.split_once(':').unwrap();
            let first = segment(dir, first.parse().unwrap());
            let retired = async {
                while first.exists() {
                    tokio::task::yield_now().await;
                }
            };
            within("retention", retired).await;
        }
        server.kill().await;
        let killed = verify(dir, &[]).await;
        assert_eq!(killed.ended.code, Some(0), "{}", killed.ended.err);
        let head = process::run(dir, &["audit", "head"]).await;
        anchors.push_str(&head.out);
    }
    let server = Server::start(dir).await;
    let beside = verify(dir, &[]).await;
    assert_eq!(beside.ended.code, Some(0), "{}", beside.ended.err);
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    fs::write(dir.join("anchors"), anchors).unwrap();
    let after = verify(dir, &["--against", "anchors"]).await;
    assert_eq!(after.ended.code, Some(0), "{}", after.ended.err);
    let begins = &after.report["begins"]["after_retention"]["segment"];
    assert!(begins.as_u64() > Some(1), "{}", after.report);
    let of = |name: &str| after.report[name].as_u64().unwrap();
    assert_eq!(of("anchors_met") + of("anchors_before_retention"), 4);
    assert!(of("anchors_before_retention") > 0);
}

#[tokio::test]
async fn decisions_are_listed_with_their_places_and_anchors() {
    let recorded = recorded().await;
    let dir = recorded.dir.path();
    let lines = |out: &str| -> Vec<Value> {
        let lines = out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let all = process::run(dir, &["audit", "log", "--json"]).await;
    assert_eq!(all.code, Some(0), "{}", all.err);
    let all = lines(&all.out);
    let what: Vec<_> = all.iter().map(|it| it["what"].as_str().unwrap()).collect();
    assert_eq!((what[0], what[what.len() - 1]), ("started", "stopped"));
    for expected in ["loop_tripped", "run_stopped"] {
        assert!(what.contains(&expected), "{expected} in {what:?}");
    }
    let places = all
        .iter()
        .map(|it| (it["segment"].as_u64(), it["offset"].as_u64()));
    assert!(places.is_sorted(), "newest last");

    let of_run = ["audit", "log", "--json", "--run", "nightly"];
    let of_run = lines(&process::run(dir, &of_run).await.out);
    let stopped = of_run
        .iter()
        .find(|it| it["what"] == "run_stopped")
        .unwrap();
    assert!(of_run.iter().all(|it| it["run"] == "nightly"), "{of_run:?}");
    let number = stopped["segment"].as_u64().unwrap();
    let bytes = fs::read(segment(dir, number)).unwrap();
    let at = usize::try_from(stopped["offset"].as_u64().unwrap()).unwrap();
    let chain = u128::from_be_bytes(chain_of(&bytes[at..]));
    assert_eq!(stopped["anchor"], format!("{number}:{chain:032x}"));
    let anchor = stopped["anchor"].as_str().unwrap();
    let verified = verify(dir, &["--against", anchor]).await;
    assert_eq!(verified.report["anchors_met"], 1, "it can be pointed at");

    let of_agent = ["audit", "log", "--json", "--agent", "coder"];
    let of_agent = lines(&process::run(dir, &of_agent).await.out);
    assert!(of_agent.iter().any(|it| it["what"] == "loop_tripped"));
    let one = ["audit", "log", "--limit", "1"];
    let newest = process::run(dir, &one).await.out;
    assert_eq!(newest.lines().count(), 1);
    assert!(newest.contains("stopped"), "{newest}");
    let none = ["audit", "log", "--until", "2001-01-01"];
    assert_eq!(process::run(dir, &none).await.out, "");

    rearrange(dir, 2, |parts| parts[3][30] ^= 1);
    let damaged = process::run(dir, &["audit", "log"]).await;
    assert_eq!(damaged.code, Some(1));
    assert!(
        damaged.err.contains("open-aiops audit verify"),
        "{}",
        damaged.err
    );
}
