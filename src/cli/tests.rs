use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use super::*;
use crate::admin;
use crate::admin::sample::{PLANNER, REQUEST, RESEARCHER, RESPONSE, Sample};
use crate::admin::view::{
    AgentView, BodyView, CallDetail, CallList, CallView, EventView, FiguresView, OPEN,
    RunAgentView, RunDetail, RunEdgeView, RunView, TotalsView,
};
use crate::core::attribution::{Confidence, Source};
use crate::core::budget::Control;
use crate::core::build;
use crate::core::call::{CostSource, Operation};
use crate::core::id::{CallId, Label};
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::usage::{Provenance, Usage};
use crate::ledger::{Doors, Event};

mod audit;
mod budgets;
mod step;

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn doors(admin: SocketAddr) -> Doors {
    Doors {
        admin,
        proxy: admin,
        is_tls: false,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_793_536_200_000_000 + seconds * 1_000_000)
}

fn id(last: u8) -> CallId {
    let mut bytes = [
        0x01, 0x93, 0x6f, 0x0e, 0x7a, 0x3b, 0x7c, 0x55, 0x9f, 0x3e, 0, 0, 0, 0, 0, 0,
    ];
    bytes[15] = last;
    CallId::from_bytes(bytes)
}

fn finished() -> CallView {
    CallView {
        instance: None,
        id: id(1),
        started_at: at(0),
        run: Some(label("nightly-42")),
        parent_run: None,
        agent: label("planner"),
        caller: None,
        path: Vec::new(),
        depth: 1,
        user: None,
        variant: None,
        conversation: None,
        tags: BTreeMap::new(),
        agent_source: Some(Source::Own),
        run_source: Some(Source::Own),
        inferred: Confidence::default(),
        upstream: label("openai"),
        operation: Operation::Chat,
        method: "POST".to_owned(),
        target: "/v1/chat/completions".to_owned(),
        request_model: Some(label("gpt-5")),
        response_model: Some(label("gpt-5")),
        model: Some(label("gpt-5")),
        response_id: None,
        service_tier: None,
        stream: true,
        status: Some(200),
        outcome: "completed".to_owned(),
        finish_reasons: Vec::new(),
        usage: Usage {
            input_tokens: 12_345,
            output_tokens: 678,
            ..Usage::default()
        },
        provenance: Some(Provenance::Reported),
        cost_nano_usd: Some(NanoUsd::new(22_211_250)),
        cost_source: Some(CostSource::Table),
        duration_us: Some(3_449_000),
        head_us: Some(410_000),
        first_chunk_us: Some(412_000),
        request_bytes: 48_640,
        response_bytes: 9_000,
        client: None,
        retry: 0,
        error: None,
        metrics: BTreeMap::new(),
    }
}

/// One that ended well, one without a price, one that runs.
fn calls() -> Vec<CallView> {
    let unpriced = CallView {
        id: id(2),
        started_at: at(5),
        agent: label("researcher"),
        caller: Some(label("planner")),
        model: Some(label("local-llama")),
        outcome: "upstream_error".to_owned(),
        status: Some(500),
        cost_nano_usd: None,
        duration_us: Some(850),
        ..finished()
    };
    let open = CallView {
        id: id(3),
        started_at: at(9),
        run: None,
        model: None,
        outcome: OPEN.to_owned(),
        status: None,
        usage: Usage::default(),
        cost_nano_usd: None,
        duration_us: None,
        ..finished()
    };
    vec![open, unpriced, finished()]
}

fn totals(calls: u64, unpriced_calls: u64) -> TotalsView {
    TotalsView {
        calls,
        errors: calls / 10,
        unpriced_calls,
        input_tokens: calls * 10_000,
        output_tokens: calls * 512,
        cost_nano_usd: NanoUsd::new(i64::try_from(calls - unpriced_calls).unwrap() * 12_500_000),
        ..TotalsView::default()
    }
}

fn run_view(run: &str, parent: Option<&str>, totals: TotalsView) -> RunView {
    RunView {
        run: label(run),
        parent_run: parent.map(label),
        control: Control::Running,
        first_at: at(0),
        last_at: at(125),
        open_calls: 0,
        agents: Vec::new(),
        depth: 2,
        variant: None,
        tags: BTreeMap::new(),
        trips: 0,
        totals,
        metrics: Vec::new(),
    }
}

fn by_agent() -> Vec<RunAgentView> {
    [
        ("planner", totals(12, 0)),
        ("researcher", totals(1234, 34)),
        ("local", totals(3, 3)),
    ]
    .map(|(agent, totals)| RunAgentView {
        agent: label(agent),
        first_at: at(0),
        last_at: at(60),
        open_calls: 0,
        totals,
    })
    .to_vec()
}

fn agents() -> Vec<AgentView> {
    let agent = |row: RunAgentView| AgentView {
        agent: row.agent,
        first_at: row.first_at,
        last_at: row.last_at,
        open_calls: 0,
        models: Vec::new(),
        runs: 1,
        figures: FiguresView {
            totals: row.totals,
            ..FiguresView::default()
        },
        metrics: Vec::new(),
    };
    by_agent().into_iter().map(agent).collect()
}

/// Edges of every shape: a root, a recursion, a stranger, a circle.
fn edges() -> Vec<RunEdgeView> {
    [
        (None, "planner", 2),
        (Some("planner"), "researcher", 1),
        (Some("researcher"), "researcher", 1),
        (Some("researcher"), "local", 1),
        (Some("cron"), "reporter", 1),
        (Some("ping"), "pong", 1),
        (Some("pong"), "ping", 1),
    ]
    .map(|(caller, agent, calls)| RunEdgeView {
        caller: caller.map(label),
        agent: label(agent),
        first_at: at(0),
        last_at: at(60),
        open_calls: u64::from(agent == "pong"),
        totals: TotalsView {
            calls,
            unpriced_calls: if agent == "local" { calls } else { 0 },
            cost_nano_usd: NanoUsd::new(if agent == "local" { 0 } else { 500_000_000 }),
            ..TotalsView::default()
        },
    })
    .to_vec()
}

fn run_detail() -> RunDetail {
    RunDetail {
        run: run_view("nightly-42", None, totals(1249, 37)),
        children: vec![run_view(
            "nightly-42/retry",
            Some("nightly-42"),
            totals(2, 0),
        )],
        by_agent: by_agent(),
        edges: edges(),
        metrics_by_agent: Vec::new(),
    }
}

fn detail() -> CallDetail {
    CallDetail {
        call: CallView {
            agent: label("researcher"),
            caller: Some(label("planner")),
            path: vec![label("planner"), label("researcher")],
            user: Some(label("ada")),
            tags: [("team".to_owned(), label("search"))].into(),
            client: Some(label("OpenAI/Python 2.1.0")),
            retry: 1,
            outcome: "upstream_cut".to_owned(),
            model: Some(label("gpt-5-2026-08-01")),
            response_id: Some(label("chatcmpl-1")),
            finish_reasons: vec![label("stop"), label("length")],
            usage: Usage {
                cache_read_input_tokens: 11_000,
                reasoning_output_tokens: 512,
                ..finished().usage
            },
            provenance: Some(Provenance::Counted),
            cost_nano_usd: None,
            duration_us: Some(125_000_000),
            error: Some("the upstream closed\u{1b}[31m the connection".to_owned()),
            metrics: [("score".to_owned(), crate::core::metric::Value::Number(0.5))].into(),
            ..finished()
        },
        output_limit: Some(4096),
        estimated_input_tokens: Some(12_000),
        key: None,
        previous_response: None,
        decision: None,
        forwarded_us: Some(210),
        kept: None,
        request_headers: None,
        response_headers: None,
        request_body: Some(BodyView {
            len: 48_640,
            content_type: Some("application/json".to_owned()),
            content_encoding: None,
            changed: true,
            truncated: true,
        }),
        response_body: None,
    }
}

/// Compares with `tests/fixtures/cli/<name>`; set `UPDATE_FIXTURES=1` to write it anew.
#[track_caller]
fn check_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/cli")
        .join(name);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "differs from {}", path.display());
}

/// What `write` prints on a terminal and into a pipe.
#[track_caller]
fn check(name: &str, write: impl Fn(&mut Output<'_>) -> io::Result<()>) {
    for (terminal, extension) in [(true, "terminal"), (false, "pipe")] {
        let mut text = Vec::new();
        write(&mut Output {
            writer: &mut text,
            terminal,
        })
        .unwrap();
        check_golden(
            &format!("{name}.{extension}.txt"),
            &String::from_utf8(text).unwrap(),
        );
    }
}

#[test]
fn calls_are_listed_with_unknown_and_running_marked() {
    check("calls", |out| lists::calls(&calls(), out));
}

#[test]
fn only_a_person_is_told_that_there_is_more() {
    let cut = "\nlooked at 10,000 only; go on with --before 7\n";
    for (terminal, partial, expected) in [
        (true, false, "\nmore with --before 7\n"),
        (true, true, cut),
        (false, false, ""),
        (false, true, ""),
    ] {
        let mut text = Vec::new();
        let mut out = Output {
            writer: &mut text,
            terminal,
        };
        lists::more("--before", Some(7), partial, &mut out).unwrap();
        lists::more("--before", None::<u8>, partial, &mut out).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}

#[test]
fn runs_are_listed_with_what_they_cost() {
    let runs = [
        run_view("nightly-42", None, totals(1234, 4)),
        run_view("x", Some("y"), totals(1, 0)),
    ];
    check("runs", |out| lists::runs(&runs, out));
}

#[test]
fn agents_are_listed_with_partly_and_wholly_unknown_costs() {
    check("agents", |out| lists::agents(&agents(), out));
}

#[test]
fn events_are_listed_with_what_they_say() {
    let event = |seconds, what: &str, details: Option<&str>| EventView {
        at: at(seconds),
        who: "open-aiops".to_owned(),
        what: what.to_owned(),
        details: details.map(str::to_owned),
    };
    let events = [
        event(60, "stopping", None),
        event(
            0,
            "started",
            Some("0.1.0\u{1b}[31m, proxy on 127.0.0.1:8787"),
        ),
    ];
    check("events", |out| lists::events(&events, out));
}

#[test]
fn a_run_shows_its_tree_even_when_agents_call_each_other_in_circles() {
    let made = CallList {
        calls: calls(),
        next: None,
        partial: false,
    };
    check("run", |out| lists::run(&run_detail(), &made, out));
}

#[test]
fn a_run_says_how_many_calls_it_does_not_show() {
    let made = CallList {
        calls: calls(),
        next: Some(id(1)),
        partial: false,
    };
    let mut text = Vec::new();
    let mut out = Output {
        writer: &mut text,
        terminal: false,
    };
    lists::run(&run_detail(), &made, &mut out).unwrap();
    let text = String::from_utf8(text).unwrap();
    let last = "... and 6 more calls: open-aiops calls --run 'nightly-42' --before ";
    assert!(text.ends_with(&format!("\n\n{last}{}\n", id(1))), "{text}");
}

#[test]
fn a_run_that_was_held_up_says_so_and_how_it_goes_on() {
    let made = CallList {
        calls: Vec::new(),
        next: None,
        partial: false,
    };
    for (control, expected) in [
        (Control::Running, None),
        (Control::Paused, Some("\npaused: its new calls wait; ")),
        (
            Control::Stopped,
            Some("\nstopped: its calls are refused; to let it go on: open-aiops run resume '"),
        ),
    ] {
        let mut run = run_detail();
        run.run.control = control;
        let mut text = Vec::new();
        let mut out = Output {
            writer: &mut text,
            terminal: false,
        };
        lists::run(&run, &made, &mut out).unwrap();
        let text = String::from_utf8(text).unwrap();
        let said = expected.is_some_and(|expected| text.contains(expected));
        assert!(
            said || (expected.is_none() && !text.contains("go on")),
            "{text}"
        );
    }
}

#[test]
fn a_person_is_told_what_span_the_figures_are_of() {
    let since: SpanParams = serde_urlencoded::from_str("since=1h&until=2026-11-01").unwrap();
    for (params, terminal, expected) in [
        (&since, true, "\ncalls since 1h ago and before 2026-11-01\n"),
        (&since, false, ""),
        (&SpanParams::default(), true, ""),
    ] {
        let mut text = Vec::new();
        let mut out = Output {
            writer: &mut text,
            terminal,
        };
        let span = (params.since.as_ref(), params.until.as_ref());
        lists::span("calls", span, &mut out).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}

#[test]
fn figures_of_more_than_was_asked_for_say_of_what() {
    let mut text = Vec::new();
    let mut out = Output {
        writer: &mut text,
        terminal: true,
    };
    lists::widened((Some(at(0)), Some(at(60))), &mut out).unwrap();
    let expected = format!(
        "counted whole from {} to {} (UTC)\n",
        super::format::time(at(0)),
        super::format::time(at(60))
    );
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

#[test]
fn a_call_shows_everything_known_of_it() {
    check("call", |out| call::write(&detail(), out));
}

#[test]
fn an_open_call_says_so() {
    let call = CallView {
        outcome: OPEN.to_owned(),
        ..finished()
    };
    let open = CallDetail { call, ..detail() };
    let mut text = Vec::new();
    call::write(
        &open,
        &mut Output {
            writer: &mut text,
            terminal: false,
        },
    )
    .unwrap();
    assert!(
        String::from_utf8(text)
            .unwrap()
            .ends_with("outcome\topen\n")
    );
}

// === the program ===

struct Ran {
    out: String,
    errors: String,
    code: String,
}

fn ran(arguments: &[&str]) -> Ran {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let arguments = ["open-aiops"].iter().chain(arguments).map(OsString::from);
    let code = run(
        arguments,
        &mut Output {
            writer: &mut out,
            terminal: false,
        },
        &mut errors,
    );
    Ran {
        out: String::from_utf8(out).unwrap(),
        errors: String::from_utf8(errors).unwrap(),
        code: format!("{code:?}"),
    }
}

#[track_caller]
fn check_code(ran: &Ran, code: u8) {
    let expected = format!("{:?}", ExitCode::from(code));
    assert_eq!(
        ran.code, expected,
        "out: {}\nerrors: {}",
        ran.out, ran.errors
    );
}

#[test]
fn help_is_an_answer() {
    for (name, arguments) in [
        ("help.txt", &["--help"][..]),
        ("help-calls.txt", &["calls", "--help"]),
        ("help-agents.txt", &["agents", "--help"]),
        ("help-show.txt", &["show", "--help"]),
        ("help-budgets.txt", &["budgets", "--help"]),
        ("help-budgets-raise.txt", &["budgets", "raise", "--help"]),
        ("help-run.txt", &["run", "--help"]),
    ] {
        let ran = ran(arguments);
        check_code(&ran, 0);
        check_golden(name, &ran.out);
    }
}

#[test]
fn the_version_names_the_commit() {
    let ran = ran(&["--version"]);
    check_code(&ran, 0);
    let expected = format!("{} ({})\n", env!("CARGO_PKG_VERSION"), build::COMMIT);
    assert_eq!(ran.out, format!("open-aiops {expected}"));
    assert!(build::COMMIT == "unknown" || build::COMMIT.len() == 12);
}

#[test]
fn wrong_usage_is_explained_and_exits_with_2() {
    for (arguments, expected) in [
        (
            &["calls", "--since", "yesterday"][..],
            "found `yesterday`, expected a time such as",
        ),
        (
            &["calls", "--limit", "0"],
            "found `0`, expected a number from 1 to 1000",
        ),
        (
            &["calls", "--outcome", "bad"],
            "found `bad`, expected open, completed, upstream_error",
        ),
        (&["calls", "--agent", ""], "is empty"),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&["show"], "required arguments were not provided"),
        (
            &["show", "x", "--request", "--response"],
            "cannot be used with",
        ),
    ] {
        let ran = ran(arguments);
        check_code(&ran, 2);
        assert!(
            ran.errors.contains(expected),
            "{arguments:?}: {}",
            ran.errors
        );
        assert_eq!(ran.out, "");
    }
}

#[test]
fn a_missing_config_file_is_one_line_and_exits_with_2() {
    let ran = ran(&["calls", "--config", "/nonexistent/config.toml"]);
    check_code(&ran, 2);
    assert!(
        ran.errors
            .starts_with("open-aiops: /nonexistent/config.toml: "),
        "{}",
        ran.errors
    );
    assert_eq!(ran.errors.lines().count(), 1);
}

#[test]
fn check_config_prints_what_the_file_comes_to_or_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "[admin]\nlisten = \"127.0.0.1:9999\"\n").unwrap();
    let good = ran(&["check-config", "--config", file.to_str().unwrap()]);
    check_code(&good, 0);
    assert!(
        good.out.contains("listen = \"127.0.0.1:9999\""),
        "{}",
        good.out
    );
    std::fs::write(&file, "[admin]\nlisten = \"nowhere\"\n").unwrap();
    let bad = ran(&["check-config", "--config", file.to_str().unwrap()]);
    check_code(&bad, 1);
    assert!(bad.errors.contains("admin.listen"), "{}", bad.errors);
}

struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let mut errors = Vec::new();
    let arguments = ["open-aiops", "check-config"].map(OsString::from);
    let mut out = Output {
        writer: &mut ClosedPipe,
        terminal: false,
    };
    let code = run(arguments, &mut out, &mut errors);
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    assert_eq!(String::from_utf8(errors).unwrap(), "");
}

// === with a ledger ===

fn printed(dir: &Path, arguments: &[&str]) -> String {
    let dir = dir.to_str().unwrap();
    let ran = ran(&[arguments, &["--dir", dir]].concat());
    check_code(&ran, 0);
    ran.out
}

/// Every reading command, for a ledger with a call `id`.
fn answers(dir: &Path, id: CallId) -> Vec<String> {
    let id = id.to_string();
    [
        &["calls"][..],
        &["calls", "--json", "--agent", "planner"],
        &["runs", "--since", "2026-11-01"],
        &["agents"],
        &["events"],
        &["show", "night/1"],
        &["show", "night/1", "--json"],
        &["show", &id],
        &["show", &id, "--json"],
        &["show", &id, "--request"],
        &["show", &id, "--response"],
        &["show", &id, "--step"],
        &["show", &id, "--step", "--json"],
        &["show", &id, "--messages", "--preview", "10"],
        &["show", &id, "--headers"],
        &["show", &id, "--headers", "--json"],
    ]
    .map(|arguments| printed(dir, arguments))
    .to_vec()
}

#[test]
fn answers_are_the_same_from_the_running_server_and_from_the_files() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let sample = Sample::new();
    let id = sample.record(PLANNER);
    sample.record(RESEARCHER);
    let event = Event::own(sample.clock.now(), "started", None);
    sample.ledger.event(event).unwrap().block();
    let state = sample.state(&[]);
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    sample
        .ledger
        .announce(doors(listener.local_addr().unwrap()))
        .unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async {
        stopped.await.unwrap();
    };
    let server = runtime.spawn(admin::serve(
        listener,
        admin::router(state, axum::Router::new()),
        shutdown,
    ));

    let dir = sample.dir.path();
    let from_server = answers(dir, id);
    let busy = ran(&["ledger", "rebuild", "--dir", dir.to_str().unwrap()]);
    check_code(&busy, 2);

    stop.send(()).unwrap();
    runtime.block_on(server).unwrap();
    runtime.block_on(sample.ledger.close()).unwrap();
    let Sample { dir, ledger, .. } = sample;
    drop(ledger);
    assert_eq!(answers(dir.path(), id), from_server);
    assert!(
        from_server[4].ends_with("\tstarted\topen-aiops\t-\n"),
        "{}",
        from_server[4]
    );
    assert_eq!(from_server[9].as_bytes(), REQUEST);
    assert_eq!(from_server[10].as_bytes(), RESPONSE);
}

#[test]
fn a_ledger_is_checked_and_its_index_rebuilt() {
    let sample = Sample::new();
    sample.record(PLANNER);
    sample.ledger.sync_index();
    let Sample { dir, ledger, .. } = sample;
    drop(ledger);
    let checked = printed(dir.path(), &["ledger", "check"]);
    assert!(checked.contains("settlements\t1\n"), "{checked}");
    assert!(checked.contains("damaged parts\t0\n"), "{checked}");
    let rebuilt = printed(dir.path(), &["ledger", "rebuild"]);
    assert!(rebuilt.starts_with("the index holds "), "{rebuilt}");
    assert!(printed(dir.path(), &["runs"]).contains("night/1"));
}

#[test]
fn a_damaged_index_is_told_with_what_to_do() {
    let Sample { dir, ledger, .. } = Sample::new();
    drop(ledger);
    let path = dir.path().to_str().unwrap();
    let sound = ran(&["ledger", "check", "--dir", path]);
    check_code(&sound, 0);
    assert!(sound.out.contains("index\tsound\n"), "{}", sound.out);
    std::fs::write(dir.path().join("index.redb"), [0x5a; 9999]).unwrap();
    let damaged = ran(&["ledger", "check", "--dir", path]);
    check_code(&damaged, 1);
    assert!(damaged.out.contains("index\tdamaged\n"), "{}", damaged.out);
    assert!(
        damaged.errors.contains("ledger rebuild"),
        "{}",
        damaged.errors
    );
}

#[test]
fn what_is_not_recorded_is_said_and_exits_with_1() {
    let Sample { dir, ledger, .. } = Sample::new();
    drop(ledger);
    let dir = dir.path().to_str().unwrap();
    let id = id(9).to_string();
    for arguments in [
        &["show", "nobody"][..],
        &["show", &id],
        &["show", &id, "--request"],
        &["show", "nobody", "--response"],
        &["show", "nobody", "--step"],
        &["show", &id, "--step"],
        &["show", &id, "--headers"],
    ] {
        let ran = ran(&[arguments, &["--dir", dir]].concat());
        check_code(&ran, 1);
        assert!(ran.errors.contains(arguments[1]), "{}", ran.errors);
        assert_eq!(ran.errors.lines().count(), 1);
    }
}

#[test]
fn a_directory_without_a_ledger_is_said_and_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let ran = ran(&["calls", "--dir", dir.path().to_str().unwrap()]);
    check_code(&ran, 2);
    assert_eq!(ran.errors.lines().count(), 1, "{}", ran.errors);
}
