//! Who may use the admin listener, asked as strangers, programs and browsers ask.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use open_aiops::admin;
use open_aiops::config::Reload;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::harness::process::{self, Ended};
use crate::harness::proxy::Setup;
use crate::harness::{Ask, CHAT, Client, Proxy, Response, Upstream, json, post, records, within};

const TOKEN: &str = "it-admin-token-0123456789";
const FORM: &str = "application/x-www-form-urlencoded";

/// What a request shows to be let in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shown<'s> {
    Nothing,
    Token(&'s str),
    Session(&'s str),
}

fn guarded(setup: Setup) -> Setup {
    setup
        .admin_lines("token_env = \"ADMIN_TOKEN\"")
        .env("ADMIN_TOKEN", TOKEN)
}

/// Sends `ask` under the name that a browser on this machine uses.
async fn send(admin: SocketAddr, ask: &Ask) -> Response {
    let mut client = Client::connect(admin).await;
    let bytes = String::from_utf8(ask.bytes()).unwrap();
    client.send(bytes.replace("proxy.test", &host(admin))).await;
    client.response(false).await
}

fn host(admin: SocketAddr) -> String {
    format!("localhost:{}", admin.port())
}

fn origin(admin: SocketAddr) -> String {
    format!("http://{}", host(admin))
}

/// As the script of one of our own pages, or a program, asks.
async fn ask(admin: SocketAddr, method: &str, path: &str, shown: Shown<'_>) -> Response {
    let ask = match method {
        "GET" => Ask::new(method, path),
        "POST" => post(path, "{}").header("origin", origin(admin)),
        _ => Ask::new(method, path).header("origin", origin(admin)),
    };
    let ask = match shown {
        Shown::Nothing => ask,
        Shown::Token(token) => ask.header("authorization", format!("Bearer {token}")),
        Shown::Session(cookie) => ask.header("cookie", cookie),
    };
    send(admin, &ask).await
}

async fn log_in(admin: SocketAddr, token: &str, next: &str) -> Response {
    let body = serde_urlencoded::to_string([("token", token), ("next", next)]).unwrap();
    let ask = Ask::new("POST", "/login").header("content-type", FORM);
    let ask = ask
        .header("origin", origin(admin))
        .header("accept", "text/html");
    send(admin, &ask.body(body)).await
}

/// The cookie of a new session.
async fn session(admin: SocketAddr) -> String {
    let answer = log_in(admin, TOKEN, "").await;
    assert_eq!(answer.status(), 303, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// Every operation of the API's description: method, path with `id` for its parameters, and whether
/// it is described as open to everybody.
fn operations(id: &str) -> Vec<(String, String, bool)> {
    let document = serde_json::to_value(admin::document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let parts = path.split('/');
        let filled = parts.map(|part| if part.starts_with('{') { id } else { part });
        let filled = filled.collect::<Vec<_>>().join("/");
        for (method, operation) in item.as_object().unwrap() {
            let is_open = operation["security"] == serde_json::json!([{}]);
            operations.push((method.to_uppercase(), filled.clone(), is_open));
        }
    }
    assert!(operations.len() > 20, "{operations:?}");
    operations
}

#[tokio::test]
async fn every_path_asks_for_the_token_but_those_that_are_for_everybody() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = guarded(Proxy::with(&upstream)).start().await;
    let id = proxy.call(&post("/v1/chat/completions", CHAT)).await.call();
    within("the end of all calls", proxy.app.settled()).await;
    let admin = proxy.app.admin_address();
    let session = session(admin).await;
    let mut paths = operations(&id);
    let open: Vec<_> = paths.iter().filter(|(.., is_open)| *is_open).collect();
    assert_eq!(open.len(), 2, "{open:?}");
    for (method, path) in [
        ("GET", "/nowhere"),
        ("GET", "/api/v1/"),
        ("PUT", "/api/v1/calls"),
        ("OPTIONS", "/api/v1/calls"),
        ("GET", "/assets"),
    ] {
        paths.push((method.to_owned(), path.to_owned(), false));
    }
    for (method, path, is_open) in &paths {
        for shown in [
            Shown::Nothing,
            Shown::Token("it-admin-token-0123456788"),
            Shown::Session("aiops_session=x"),
            Shown::Token(TOKEN),
            Shown::Session(&session),
        ] {
            let answer = ask(admin, method, path, shown).await;
            let is_in = matches!(shown, Shown::Token(TOKEN)) || shown == Shown::Session(&session);
            let is_refused = [401, 403, 303].contains(&answer.status());
            assert_eq!(
                !is_refused,
                is_in || *is_open,
                "{method} {path} {shown:?}: {}",
                answer.text()
            );
            if is_refused {
                assert_eq!(answer.status(), 401, "{method} {path} {shown:?}");
                let challenge = answer.header("www-authenticate");
                assert_eq!(challenge, Some("Bearer realm=\"open-aiops\""));
                assert!(!answer.text().contains(&id));
            }
        }
    }
}

#[tokio::test]
async fn a_browser_logs_in_goes_on_to_what_it_wanted_and_logs_out() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = guarded(Proxy::with(&upstream)).start().await;
    let admin = proxy.app.admin_address();
    let browse = async |path: &str, cookie: &str| {
        let ask = Ask::new("GET", path).header("accept", "text/html");
        send(admin, &ask.header("cookie", cookie)).await
    };
    let sent = browse("/api/v1/runs?limit=7", "").await;
    assert_eq!(sent.status(), 303);
    let login = sent.header("location").unwrap();
    let page = browse(login, "").await;
    assert_eq!(page.status(), 200);
    assert!(
        page.text().contains("value=\"/api/v1/runs?limit=7\""),
        "{}",
        page.text()
    );

    let entered = log_in(admin, TOKEN, "/api/v1/runs?limit=7").await;
    assert_eq!(entered.header("location"), Some("/api/v1/runs?limit=7"));
    let cookie = entered.header("set-cookie").unwrap();
    let name = format!("aiops_session_{}=", admin.port());
    assert!(cookie.starts_with(&name), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(browse("/api/v1/runs?limit=7", cookie).await.status(), 200);

    let leave = Ask::new("POST", "/logout").header("content-type", FORM);
    let leave = leave.header("cookie", cookie).body("");
    assert_eq!(
        send(admin, &leave).await.status(),
        403,
        "nobody said which page sent it"
    );
    assert_eq!(browse("/api/v1/runs", cookie).await.status(), 200);
    let left = send(admin, &leave.header("origin", origin(admin))).await;
    assert_eq!(left.status(), 303);
    assert_eq!(browse("/api/v1/runs", cookie).await.status(), 303);
}

#[tokio::test]
async fn the_login_leads_to_no_other_host_and_takes_ten_wrong_tokens_a_minute() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = guarded(Proxy::with(&upstream)).start().await;
    let admin = proxy.app.admin_address();
    for next in [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/\t/evil.example",
    ] {
        let answer = log_in(admin, TOKEN, next).await;
        assert_eq!(answer.header("location"), Some("/"), "{next}");
    }
    for _ in 0..10 {
        assert_eq!(log_in(admin, "guess", "/").await.status(), 403);
    }
    let answer = log_in(admin, "guess", "/").await;
    assert_eq!(answer.status(), 429);
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(answer.header("set-cookie"), None);
    let owner = log_in(admin, TOKEN, "/").await;
    assert_eq!(owner.status(), 303, "guesses of others lock nobody out");
}

#[tokio::test]
async fn neither_token_nor_session_helps_another_site_or_name() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = guarded(Proxy::with(&upstream)).start().await;
    let admin = proxy.app.admin_address();
    let session = session(admin).await;
    let port = admin.port();
    for shown in [
        ("authorization", format!("Bearer {TOKEN}")),
        ("cookie", session),
    ] {
        for (host, header) in [
            (
                format!("evil.example:{port}"),
                ("x-nothing", "said".to_owned()),
            ),
            (
                format!("localhost:{port}"),
                ("origin", "https://evil.example".to_owned()),
            ),
            (
                format!("localhost:{port}"),
                ("origin", format!("http://localhost:{}", port ^ 1)),
            ),
            (format!("localhost:{port}"), ("origin", "null".to_owned())),
            (
                format!("localhost:{port}"),
                ("sec-fetch-site", "cross-site".to_owned()),
            ),
        ] {
            for ask in [
                Ask::new("GET", "/api/v1/config"),
                post("/api/v1/runs/a/stop", "{}"),
            ] {
                let ask = ask.header(shown.0, &shown.1).header(header.0, &header.1);
                let bytes = String::from_utf8(ask.bytes()).unwrap();
                let mut client = Client::connect(admin).await;
                client.send(bytes.replace("proxy.test", &host)).await;
                let answer = client.response(false).await;
                assert_eq!(answer.status(), 403, "{} {host} {header:?}", shown.0);
            }
        }
    }
}

#[tokio::test]
async fn another_token_ends_the_sessions_of_the_one_before_and_a_bad_one_changes_nothing() {
    let upstream = Upstream::answers(json("{}")).await;
    let setup = guarded(Proxy::with(&upstream)).env("OTHER", "it-other-token-0123456789");
    let text = setup.text();
    let proxy = setup.start().await;
    let admin = proxy.app.admin_address();
    let session = session(admin).await;
    let status = async |shown| ask(admin, "GET", "/api/v1/status", shown).await.status();
    assert_eq!(status(Shown::Session(&session)).await, 200);

    let env = |name: &str| (name == "OTHER").then(|| "it-other-token-0123456789".to_owned());
    let read = |text: &str| open_aiops::config::Config::parse("config.toml", text, &env);
    let unset = read(&text).unwrap_err();
    assert!(unset.to_string().contains("ADMIN_TOKEN is not"), "{unset}");
    proxy.app.reload(Reload::Invalid(unset));
    assert_eq!(status(Shown::Session(&session)).await, 200);

    let other = read(&text.replace("ADMIN_TOKEN", "OTHER")).unwrap();
    proxy.app.reload(Reload::Valid(Box::new(other)));
    assert_eq!(status(Shown::Session(&session)).await, 401);
    assert_eq!(status(Shown::Token(TOKEN)).await, 401);
    assert_eq!(status(Shown::Token("it-other-token-0123456789")).await, 200);
}

#[tokio::test]
async fn an_open_listener_without_a_token_is_refused_at_the_start_with_all_else_that_is_wrong() {
    let setup = Setup::new()
        .admin_lines("listen = \"0.0.0.0:0\"")
        .proxy_lines("max_head = \"1 KiB\"");
    let dir = written(&setup);
    for (command, code) in [("serve", 2), ("check-config", 1)] {
        let ended = process::run(dir, &[command]).await;
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        for part in [
            "admin.token_env",
            "token_env = \"OPEN_AIOPS_TOKEN\"",
            "proxy.max_head",
        ] {
            assert!(ended.err.contains(part), "{part} is not in {}", ended.err);
        }
    }
    let setup = guarded(Setup::new()).admin_lines("listen = \"0.0.0.0:0\"");
    let ended = process::run(written(&setup), &["serve"]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("ADMIN_TOKEN is not"), "{}", ended.err);
}

#[tokio::test]
async fn an_open_listener_stays_guarded_when_a_reload_takes_the_token_away() {
    let upstream = Upstream::answers(json("{}")).await;
    let open = guarded(Proxy::with(&upstream)).admin_lines("listen = \"0.0.0.0:0\"");
    let proxy = open.start().await;
    let admin = SocketAddr::from(([127, 0, 0, 1], proxy.app.admin_address().port()));
    let bare = Proxy::with(&upstream).on_data_of(&proxy.dir).config();
    proxy.app.reload(Reload::Valid(Box::new(bare)));
    let status = async |shown| ask(admin, "GET", "/api/v1/events", shown).await;
    assert_eq!(status(Shown::Nothing).await.status(), 401);
    let events = status(Shown::Token(TOKEN)).await;
    let told = "takes effect after a restart only: admin.listen, admin.token_env";
    assert!(events.text().contains(told), "{}", events.text());
}

fn written(setup: &Setup) -> &Path {
    std::fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    setup.dir.path()
}

/// The program on all addresses with all it can log, and where it does.
async fn serve(setup: &Setup) -> (Child, SocketAddr) {
    let log = File::create(setup.dir.path().join("log")).unwrap();
    let mut child = process::command(written(setup), &["serve"])
        .env("ADMIN_TOKEN", TOKEN)
        .env("RUST_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut admin = None;
    while admin.is_none() {
        let line = within("a line", lines.next_line()).await.unwrap().unwrap();
        admin = line
            .strip_prefix("admin listening on http://")
            .map(str::to_owned);
    }
    (child, admin.unwrap().parse().unwrap())
}

async fn command(setup: &Setup, arguments: &[&str], env: &[(&str, &str)]) -> Ended {
    let mut command = process::command(setup.dir.path(), arguments);
    let output = command
        .envs(env.iter().copied())
        .env_remove("OPEN_AIOPS_TOKEN")
        .output();
    let output = within("a command", output).await.unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn the_token_is_in_no_log_no_file_and_no_answer() {
    let upstream = Upstream::answers(json("{}")).await;
    let setup = guarded(Proxy::with(&upstream)).admin_lines("listen = \"0.0.0.0:0\"");
    let (mut child, any) = serve(&setup).await;
    let admin = SocketAddr::from(([127, 0, 0, 1], any.port()));
    let session = session(admin).await;
    assert_eq!(
        log_in(admin, "it-wrong-token-0123456789", "/")
            .await
            .status(),
        403
    );
    let shown = [Shown::Token(TOKEN), Shown::Session(&session)];
    for shown in shown {
        for path in [
            "/api/v1/config",
            "/api/v1/status",
            "/api/v1/events",
            "/metrics",
        ] {
            let answer = ask(admin, "GET", path, shown).await;
            assert_eq!(answer.status(), 200);
            assert!(!answer.text().contains(TOKEN), "{path}");
        }
    }
    let env = [("ADMIN_TOKEN", TOKEN)];
    let checked = command(&setup, &["check-config"], &env).await;
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    assert!(
        checked.out.contains("token_env = \"ADMIN_TOKEN\""),
        "{}",
        checked.out
    );
    assert!(!checked.out.contains(TOKEN) && !checked.err.contains(TOKEN));
    child.kill().await.unwrap();
    let session = session.split_once('=').unwrap().1;
    let log = std::fs::read_to_string(setup.dir.path().join("log")).unwrap();
    assert!(
        log.contains("a wrong admin token was entered at /login"),
        "{log}"
    );
    let mut files = 0;
    for dir in [setup.dir.path().to_owned(), setup.data()] {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files += 1;
                let bytes = std::fs::read(&path).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                for secret in [TOKEN, session, "it-wrong-token"] {
                    assert!(!text.contains(secret), "{secret} is in {}", path.display());
                }
            }
        }
    }
    assert!(files > 3, "{files}");
}

#[tokio::test]
async fn commands_show_the_token_of_their_environment_and_say_which_is_missing() {
    let upstream = Upstream::answers(json("{}")).await;
    let setup = guarded(Proxy::with(&upstream));
    let (mut child, admin) = serve(&setup).await;
    let env = [("ADMIN_TOKEN", TOKEN)];
    for arguments in [&["calls"][..], &["events"], &["budgets"], &["loops"]] {
        let ended = command(&setup, arguments, &env).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.err);
    }
    let stopped = command(&setup, &["run", "stop", "nobody"], &env).await;
    assert_eq!(stopped.code, Some(1), "{}", stopped.err);
    assert!(
        stopped.err.contains("no call of a run nobody"),
        "{}",
        stopped.err
    );

    let wrong = [("ADMIN_TOKEN", "it-wrong-token-0123456789")];
    for arguments in [
        &["calls"][..],
        &["show", "nobody"],
        &["run", "stop", "nobody"],
    ] {
        let ended = command(&setup, arguments, &wrong).await;
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        let told = "asks for its admin token: it is not the one in ADMIN_TOKEN";
        assert!(ended.err.contains(told), "{}", ended.err);
        assert!(!ended.err.contains("it-wrong-token"), "{}", ended.err);
    }
    let unset = command(&setup, &["calls"], &[]).await;
    assert_eq!(unset.code, Some(2));
    assert!(unset.err.contains("ADMIN_TOKEN is not"), "{}", unset.err);

    // Another configuration that knows of the ledger alone.
    let elsewhere = Setup::new();
    let data = setup.data();
    let arguments = ["calls", "--dir", data.to_str().unwrap()];
    std::fs::write(elsewhere.dir.path().join("config.toml"), "").unwrap();
    let nothing = command(&elsewhere, &arguments, &[]).await;
    assert!(
        nothing.err.contains("set OPEN_AIOPS_TOKEN to it"),
        "{}",
        nothing.err
    );
    let mut other = process::command(elsewhere.dir.path(), &arguments);
    let ended = within("a command", other.env("OPEN_AIOPS_TOKEN", TOKEN).output())
        .await
        .unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(told.contains("is sent to 127.0.0.1:8788 only"), "{told}");
    let listen = format!("[admin]\nlisten = \"{admin}\"\n");
    std::fs::write(elsewhere.dir.path().join("config.toml"), listen).unwrap();
    let mut right = process::command(elsewhere.dir.path(), &arguments);
    let ended = within("a command", right.env("OPEN_AIOPS_TOKEN", TOKEN).output())
        .await
        .unwrap();
    assert_eq!(
        ended.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    child.kill().await.unwrap();
}

#[tokio::test]
async fn no_token_no_login() {
    let upstream = Upstream::answers(json("{}")).await;
    let proxy = Proxy::to(&upstream).await;
    let admin = proxy.app.admin_address();
    assert_eq!(records::ask(admin, "/api/v1/status").await.status(), 200);
    let login = send(admin, &Ask::new("GET", "/login")).await;
    assert_eq!((login.status(), login.header("location")), (303, Some("/")));
}
