//! Start, reload and stop; TLS on both sides; the program as a user runs it.

use std::os::unix::fs::PermissionsExt as _;

use open_aiops::config::{Config, Reload};
use tokio::net::TcpListener;

use crate::harness::h2::{H2Client, whole};
use crate::harness::process::{self, Server};
use crate::harness::proxy::Setup;
use crate::harness::tls::Identity;
use crate::harness::{
    CHAT, Client, Driver, Proxy, Response, Upstream, get, json, post, records, reply, within,
};

/// A proxy in the middle of a stream.
struct Streaming {
    upstream: Upstream,
    driver: Driver,
    proxy: Proxy,
    client: Client,
    response: Response,
}

impl Streaming {
    async fn begin(proxy_lines: &str) -> Self {
        let head = reply(200).header("content-type", "text/event-stream");
        let (upstream, driver) = Upstream::streams(head).await;
        let proxy = Proxy::with(&upstream)
            .proxy_lines(proxy_lines)
            .start()
            .await;
        let mut client = proxy.client().await;
        client
            .send(post("/v1/chat/completions", CHAT).bytes())
            .await;
        let mut response = client.begin(false).await;
        driver.chunk(": one\n\n").await;
        assert_eq!(client.next(&mut response, 7).await, b": one\n\n");
        Self {
            upstream,
            driver,
            proxy,
            client,
            response,
        }
    }
}

/// What a later start on the same data knows of a call.
async fn remembered(
    upstream: &Upstream,
    dir: &std::sync::Arc<tempfile::TempDir>,
    call: &str,
) -> String {
    let again = Proxy::with(upstream).on_data_of(dir).start().await;
    again.record_of(call).await.outcome().to_owned()
}

async fn until_nobody_listens(address: std::net::SocketAddr) {
    within("the listener's end", async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn stopping_lets_a_stream_end_and_takes_no_new_connection() {
    let Streaming {
        upstream,
        driver,
        proxy,
        mut client,
        mut response,
    } = Streaming::begin("").await;
    let (address, dir) = (proxy.address(), std::sync::Arc::clone(&proxy.dir));
    let stopping = tokio::spawn(proxy.app.stop());
    until_nobody_listens(address).await;
    assert!(!stopping.is_finished());
    driver.chunk("data: [DONE]\n\n").await;
    driver.end().await;
    client.finish(&mut response).await;
    assert!(!response.cut);
    assert_eq!(response.text(), ": one\n\ndata: [DONE]\n\n");
    within("the stop", stopping).await.unwrap();
    assert!(client.rest().await.is_empty());
    assert_eq!(
        remembered(&upstream, &dir, &response.call()).await,
        "completed"
    );
}

#[tokio::test]
async fn what_outlives_the_drain_timeout_is_cut_and_recorded_as_cut() {
    let Streaming {
        upstream,
        driver,
        proxy,
        mut client,
        mut response,
    } = Streaming::begin("drain_timeout = \"50ms\"").await;
    let dir = std::sync::Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    client.finish(&mut response).await;
    assert!(response.cut, "a cut must not look like an end");
    upstream.hung_up().await;
    drop(driver);
    assert_eq!(remembered(&upstream, &dir, &response.call()).await, "cut");
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_stop() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let mut idle = proxy.client().await;
    idle.call(&get("/v1/models")).await;
    let mut silent = proxy.client().await;
    let h2 = proxy.h2_client().await;
    within("the stop", proxy.app.stop()).await;
    assert!(idle.rest().await.is_empty());
    assert!(silent.rest().await.is_empty());
    drop(h2);
}

#[tokio::test]
async fn a_reload_changes_new_calls_and_leaves_running_ones() {
    let Streaming {
        upstream: _old,
        driver,
        proxy,
        mut client,
        mut response,
    } = Streaming::begin("").await;
    let new = Upstream::answers(json(r#"{"from":"new"}"#)).await;
    let config = Proxy::with(&new).on_data_of(&proxy.dir).config();
    proxy.app.reload(Reload::Valid(Box::new(config)));
    let mut other = Client::connect(proxy.address()).await;
    assert_eq!(
        other.call(&get("/v1/models")).await.text(),
        r#"{"from":"new"}"#
    );
    driver.chunk("data: [DONE]\n\n").await;
    driver.end().await;
    client.finish(&mut response).await;
    assert!(!response.cut);
    assert_eq!(proxy.record(&response).await.outcome(), "completed");
}

#[tokio::test]
async fn a_reload_that_is_refused_changes_nothing() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let problems = Config::parse("config.toml", "[proxi]\n", &|_| None).unwrap_err();
    proxy.app.reload(Reload::Invalid(problems));
    proxy.app.reload(Reload::Unchanged);
    assert_eq!(proxy.call(&get("/v1/models")).await.status(), 200);
    assert_eq!(upstream.requests().len(), 1);
}

/// What happened to the proxies on this data, newest first.
async fn events(proxy: &Proxy) -> Vec<(String, String)> {
    let answer = records::ask(proxy.app.admin_address(), "/api/v1/events").await;
    let list: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
    let text = |event: &serde_json::Value, key| event[key].as_str().unwrap_or("").to_owned();
    let events = list["events"].as_array().unwrap();
    events
        .iter()
        .map(|event| (text(event, "what"), text(event, "details")))
        .collect()
}

#[tokio::test]
async fn what_happened_to_the_proxy_is_on_record() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let address = proxy.address().to_string();
    let other = Proxy::with(&upstream).on_data_of(&proxy.dir);
    let config = other.proxy_lines("head_timeout = \"7s\"").config();
    proxy.app.reload(Reload::Valid(Box::new(config)));
    let problems = Config::parse("config.toml", "[proxi]\n", &|_| None).unwrap_err();
    proxy.app.reload(Reload::Invalid(problems));
    let dir = std::sync::Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    let again = Proxy::with(&upstream).on_data_of(&dir).start().await;
    let events = events(&again).await;
    let what: Vec<_> = events.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(
        what,
        [
            "started",
            "stopped",
            "stopping",
            "config_refused",
            "config_reloaded",
            "started"
        ]
    );
    assert!(events[3].1.contains("proxi"), "{events:?}");
    assert!(events[4].1.contains("proxy.head_timeout"), "{events:?}");
    assert!(events[5].1.contains(&address), "{events:?}");
}

#[tokio::test]
async fn what_waits_for_a_restart_is_not_shown_as_in_force_and_not_forgotten() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let reload = |lines: &str| {
        let other = Proxy::with(&upstream).on_data_of(&proxy.dir);
        let config = other.proxy_lines(lines).config();
        proxy.app.reload(Reload::Valid(Box::new(config)));
    };
    reload("head_timeout = \"7s\"");
    reload("head_timeout = \"7s\"\nmax_body = \"5 KiB\"");
    let shown = records::ask(proxy.app.admin_address(), "/api/v1/config").await;
    let shown = shown.text();
    assert!(shown.contains("head_timeout = \"30s\""), "{shown}");
    assert!(shown.contains("max_body = \"5 KiB\""), "{shown}");
    reload("");
    let events = events(&proxy).await;
    let reloads = events.iter().filter(|(what, _)| what == "config_reloaded");
    let waiting: Vec<_> = reloads.map(|(_, waiting)| waiting.as_str()).collect();
    let head_timeout = "takes effect after a restart only: proxy.head_timeout";
    assert_eq!(waiting, ["", head_timeout, head_timeout]);
}

#[tokio::test]
async fn tls_is_served_for_both_versions_of_http() {
    let identity = Identity::new();
    let upstream = Upstream::answers(json(r#"{"ok":true}"#)).await;
    let setup = Proxy::with(&upstream);
    let (certificate, key) = identity.write(setup.dir.path());
    let tls = format!("[proxy.tls]\ncertificate = {certificate:?}\nkey = {key:?}");
    let proxy = setup.sections(&tls).start().await;
    let stream = identity.connect(proxy.address(), "http/1.1").await;
    let mut client = Client::over(stream, proxy.behind());
    for _ in 0..2 {
        assert_eq!(
            client
                .call(&post("/v1/chat/completions", CHAT))
                .await
                .status(),
            200
        );
    }
    let stream = identity.connect(proxy.address(), "h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = H2Client::over(stream, proxy.behind()).await;
    let request = http::Request::get("https://localhost/v1/models")
        .body(whole(""))
        .unwrap();
    assert_eq!(&client.call(request).await.body[..], br#"{"ok":true}"#);
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn a_connection_that_is_silent_after_its_handshake_is_closed() {
    let identity = Identity::new();
    let upstream = Upstream::answers(json("{}")).await;
    let setup = Proxy::with(&upstream).proxy_lines("head_timeout = \"100ms\"");
    let (certificate, key) = identity.write(setup.dir.path());
    let tls = format!("[proxy.tls]\ncertificate = {certificate:?}\nkey = {key:?}");
    let proxy = setup.sections(&tls).start().await;
    for protocol in ["http/1.1", "h2"] {
        let stream = identity.connect(proxy.address(), protocol).await;
        let mut silent = Client::over(stream, proxy.behind());
        assert!(silent.rest().await.is_empty(), "{protocol}");
    }
}

#[tokio::test]
async fn an_upstream_with_a_private_certificate_needs_it_configured() {
    let identity = Identity::new();
    let upstream = Upstream::secure(&identity, json(r#"{"ok":true}"#)).await;
    let base = format!("https://localhost:{}/v1", upstream.address().port());
    let proxy = Setup::new().endpoint("main", &base, "").start().await;
    let response = Client::connect(proxy.address())
        .await
        .call(&get("/v1/models"))
        .await;
    assert_eq!(response.status(), 502);
    assert_eq!(
        response.header("x-aiops-error"),
        Some("upstream_unreachable")
    );
    assert!(
        response.text().contains("certificate"),
        "{}",
        response.text()
    );
    let setup = Setup::new();
    let (certificate, _) = identity.write(setup.dir.path());
    let lines = format!("extra_ca_file = {certificate:?}");
    let proxy = setup.endpoint("main", &base, &lines).start().await;
    let response = Client::connect(proxy.address())
        .await
        .call(&get("/v1/models"))
        .await;
    assert_eq!(
        (response.status(), response.text()),
        (200, r#"{"ok":true}"#)
    );
    assert_eq!(
        upstream.request().header("host"),
        Some(&*format!("localhost:{}", upstream.address().port()))
    );
}

#[track_caller]
fn start_error(started: Result<Proxy, open_aiops::app::StartError>) -> String {
    let error = started.err().expect("no start").to_string();
    assert!(!error.contains('\n'), "not one line: {error}");
    error
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let setup = Setup::new().proxy_lines(&format!("listen = \"{address}\""));
    let error = start_error(setup.try_start().await);
    assert!(
        error.contains(&address.to_string()) && error.contains("[proxy] listen"),
        "{error}"
    );
}

#[tokio::test]
async fn data_in_use_by_another_server_is_named() {
    let upstream = Upstream::answers(json("{}")).await;
    let first = Proxy::to(&upstream).await;
    let error = start_error(
        Proxy::with(&upstream)
            .on_data_of(&first.dir)
            .try_start()
            .await,
    );
    assert!(
        error.contains(&first.dir.path().display().to_string()),
        "{error}"
    );
    assert_eq!(first.call(&get("/v1/models")).await.status(), 200);
}

#[tokio::test]
async fn data_that_cannot_be_written_is_named() {
    let setup = Setup::new();
    std::fs::write(
        setup.dir.path().join("data"),
        "a file where the directory should be",
    )
    .unwrap();
    let error = start_error(setup.try_start().await);
    assert!(error.contains("data"), "{error}");
    let setup = Setup::new();
    let (root, sealed) = (
        setup.dir.path().to_owned(),
        std::fs::Permissions::from_mode(0o500),
    );
    std::fs::set_permissions(&root, sealed).unwrap();
    if std::fs::write(root.join("probe"), "").is_err() {
        let error = start_error(setup.try_start().await);
        assert!(error.contains(&root.display().to_string()), "{error}");
    }
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_damaged_index_stops_neither_start_nor_calls() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let before = proxy.call(&get("/v1/models")).await;
    let dir = std::sync::Arc::clone(&proxy.dir);
    within("the stop", proxy.app.stop()).await;
    let index = dir.path().join("data/index.redb");
    let mut bytes = std::fs::read(&index).unwrap();
    // Past the first page, which says that this is an index at all.
    bytes[4096..]
        .iter_mut()
        .step_by(1000)
        .for_each(|byte| *byte ^= 0x11);
    std::fs::write(index, bytes).unwrap();
    let again = Proxy::with(&upstream).on_data_of(&dir).start().await;
    let after = again.call(&get("/v1/models")).await;
    for response in [&before, &after] {
        assert_eq!(again.record(response).await.outcome(), "completed");
    }
}

/// A directory with this configuration, for the program.
fn directory(setup: &Setup) -> &std::path::Path {
    std::fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    setup.dir.path()
}

#[tokio::test]
async fn the_program_says_where_it_listens_serves_and_ends_on_sigterm() {
    let upstream = Upstream::answers(json("{}")).await;
    let setup = Proxy::with(&upstream);
    let server = Server::start(directory(&setup)).await;
    assert_eq!(
        server.lines[0],
        format!("proxy listening on http://{}", server.proxy)
    );
    assert_eq!(
        server.lines[1],
        format!("admin listening on http://{}", server.admin)
    );
    let response = Client::connect(server.proxy)
        .await
        .call(&get("/v1/models"))
        .await;
    let record = records::settled(server.admin, &response.call()).await;
    assert_eq!(record.outcome(), "completed");
    let second = process::run(setup.dir.path(), &["serve"]).await;
    assert_ne!(second.code, Some(0));
    assert_eq!(second.err.trim().lines().count(), 1, "{}", second.err);
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_program_finishes_running_calls_after_sigterm() {
    let (upstream, driver) = Upstream::streams(reply(200)).await;
    let setup = Proxy::with(&upstream);
    let server = Server::start(directory(&setup)).await;
    let mut client = Client::connect(server.proxy).await;
    client.send(get("/v1/models").bytes()).await;
    let mut response = client.begin(false).await;
    driver.chunk("one").await;
    assert_eq!(client.next(&mut response, 3).await, b"one");
    server.terminate();
    until_nobody_listens(server.proxy).await;
    driver.chunk("two").await;
    driver.end().await;
    client.finish(&mut response).await;
    assert_eq!((response.text(), response.cut), ("onetwo", false));
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_killed_program_is_on_record_even_if_its_ledger_was_looked_at_since() {
    let upstream = Upstream::answers(json("{}")).await;
    let setup = Proxy::with(&upstream);
    let server = Server::start(directory(&setup)).await;
    assert_eq!(
        records::ask(server.admin, "/api/v1/events").await.status(),
        200
    );
    server.kill().await;
    let listed = process::run(setup.dir.path(), &["events"]).await;
    assert_eq!(listed.out.lines().count(), 1, "{}", listed.out);
    let again = Server::start(setup.dir.path()).await;
    again.terminate();
    assert_eq!(again.exit_code().await, Some(0));
    let listed = process::run(setup.dir.path(), &["events"]).await.out;
    let what: Vec<_> = listed.lines().map(|line| line.split('\t').nth(1)).collect();
    let expected = ["stopped", "stopping", "started", "recovered", "started"];
    assert_eq!(what, expected.map(Some));
}

#[tokio::test]
async fn a_second_signal_cuts_what_still_runs() {
    let signals: [fn(&Server); 2] = [Server::terminate, Server::interrupt];
    for (first, second) in [(0, 0), (0, 1), (1, 1)] {
        let (upstream, driver) = Upstream::streams(reply(200)).await;
        let setup = Proxy::with(&upstream).proxy_lines("drain_timeout = \"1h\"");
        let server = Server::start(directory(&setup)).await;
        let mut client = Client::connect(server.proxy).await;
        client.send(get("/v1/models").bytes()).await;
        let mut response = client.begin(false).await;
        driver.chunk("one").await;
        assert_eq!(client.next(&mut response, 3).await, b"one");
        signals[first](&server);
        until_nobody_listens(server.proxy).await;
        signals[second](&server);
        client.finish(&mut response).await;
        assert!(response.cut, "a cut must not look like an end");
        upstream.hung_up().await;
        assert_eq!(server.exit_code().await, Some(0));
        assert_eq!(
            remembered(&upstream, &setup.dir, &response.call()).await,
            "cut"
        );
    }
}

#[tokio::test]
async fn a_removed_file_changes_nothing_until_another_takes_its_place() {
    let (old, new) = (
        Upstream::answers(json("1")).await,
        Upstream::answers(json("2")).await,
    );
    let setup = Proxy::with(&old);
    let server = Server::start(directory(&setup)).await;
    let (file, saved) = ("config.toml", ".config.toml.new");
    let [file, saved] = [file, saved].map(|name| setup.dir.path().join(name));
    std::fs::remove_file(&file).unwrap();
    let refused = "open_aiops_config_reloads_total{result=\"error\"} 1";
    within("the word that there is no file", async {
        server.hang_up();
        while !records::ask(server.admin, "/metrics")
            .await
            .text()
            .contains(refused)
        {}
    })
    .await;
    let mut client = Client::connect(server.proxy).await;
    assert_eq!(client.call(&get("/v1/models")).await.text(), "1");
    std::fs::write(&saved, Proxy::with(&new).on_data_of(&setup.dir).text()).unwrap();
    std::fs::rename(saved, file).unwrap();
    server.hang_up();
    within("the new configuration", async {
        while client.call(&get("/v1/models")).await.text() != "2" {}
    })
    .await;
}

#[tokio::test]
async fn the_program_takes_over_a_changed_file() {
    let (old, new) = (
        Upstream::answers(json("1")).await,
        Upstream::answers(json("2")).await,
    );
    let setup = Proxy::with(&old);
    let server = Server::start(directory(&setup)).await;
    let mut client = Client::connect(server.proxy).await;
    assert_eq!(client.call(&get("/v1/models")).await.text(), "1");
    std::fs::write(setup.dir.path().join("config.toml"), "[proxy\nnonsense").unwrap();
    server.hang_up();
    assert_eq!(client.call(&get("/v1/models")).await.text(), "1");
    let changed = Proxy::with(&new).on_data_of(&setup.dir).text();
    std::fs::write(setup.dir.path().join("config.toml"), changed).unwrap();
    server.hang_up();
    within("the new configuration", async {
        while client.call(&get("/v1/models")).await.text() != "2" {}
    })
    .await;
}

#[tokio::test]
async fn a_bad_configuration_is_told_whole() {
    let setup = Setup::new();
    let dir = setup.dir.path();
    let text = "[proxy]\nlisten = \"nonsense\"\nmax_body = -1\n[ledgr]\ndir = \"x\"\n";
    std::fs::write(dir.join("config.toml"), text).unwrap();
    for (command, code) in [("serve", 2), ("check-config", 1)] {
        let ended = process::run(dir, &[command]).await;
        assert_eq!(ended.code, Some(code), "{command}: {}", ended.err);
        assert_eq!(ended.out, "");
        for key in ["proxy.listen", "proxy.max_body", "ledgr"] {
            assert!(ended.err.contains(key), "{key} is not in {}", ended.err);
        }
        assert!(!dir.join("data").exists());
    }
}

#[tokio::test]
async fn a_good_configuration_is_shown_resolved_and_without_secrets() {
    let upstream = Upstream::answers(json("{}")).await;
    let setup = Proxy::with(&upstream).upstream_lines("api_key_env = \"IT_KEY\"");
    let output = process::command(directory(&setup), &["check-config"])
        .env("IT_KEY", "sk-very-secret")
        .output()
        .await
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        shown.contains("max_read") && shown.contains("IT_KEY"),
        "{shown}"
    );
    assert!(!shown.contains("very-secret"));
    assert!(Config::parse("shown", &shown, &|_| Some("sk".to_owned())).is_ok());
}
