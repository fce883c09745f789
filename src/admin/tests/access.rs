//! Who is let in, and how, at the router.

use http::HeaderValue;
use http::request::Builder;

use super::*;
use crate::config::Secret;

const TOKEN: &str = "0123456789abcdef+/=~";
const HOST: &str = "localhost:8788";
const ORIGIN: &str = "http://localhost:8788";
const FORM: &str = "application/x-www-form-urlencoded";

fn guarded() -> Listener {
    let listener = Listener::new();
    listener.set_token(Some(TOKEN));
    listener
}

fn get(path: &str) -> Builder {
    Request::get(path).header("host", HOST)
}

fn post(path: &str) -> Builder {
    Request::post(path).header("host", HOST)
}

fn form(path: &str) -> Builder {
    let request = post(path).header("content-type", FORM);
    request
        .header("accept", "text/html")
        .header("origin", ORIGIN)
}

fn entered(token: &str, next: &str) -> String {
    serde_urlencoded::to_string([("token", token), ("next", next)]).unwrap()
}

impl Listener {
    fn set_token(&self, token: Option<&str>) {
        let mut config = Config::default();
        config.admin.token = token.map(|token| Secret::new(token.to_owned()));
        self.state.config.store(Arc::new(config));
    }

    async fn ask(&self, request: Builder) -> Answer {
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn enter(&self, token: &str, next: &str) -> Answer {
        let body = Body::from(entered(token, next));
        self.send(form("/login").body(body).unwrap()).await
    }

    /// The cookie of a new session, as a browser sends it.
    async fn session(&self) -> String {
        let answer = self.enter(TOKEN, "").await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        answer.cookie().split(';').next().unwrap().to_owned()
    }
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    fn cookie(&self) -> &str {
        self.header("set-cookie")
    }
}

#[tokio::test]
async fn without_a_configured_token_everybody_is_let_in() {
    let listener = Listener::new();
    assert_eq!(listener.ask(get("/api/v1/calls")).await.status, 200);
    let any = get("/api/v1/calls").header("authorization", "Bearer whatever");
    assert_eq!(listener.ask(any).await.status, 200);
    for answer in [
        listener.ask(get("/login?next=%2Fapi%2Fv1%2Fcalls")).await,
        listener.enter("whatever", "/api/v1/calls").await,
    ] {
        assert_eq!(answer.status, 303);
        assert_eq!(answer.header("location"), "/api/v1/calls");
        assert_eq!(answer.cookie(), "");
    }
}

#[tokio::test]
async fn the_token_is_needed_from_the_moment_it_is_configured() {
    let listener = Listener::new();
    listener.set_token(Some(TOKEN));
    let answer = listener.ask(get("/api/v1/config")).await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("www-authenticate"),
        "Bearer realm=\"open-aiops\""
    );
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(
        answer.text().contains("Authorization: Bearer"),
        "{}",
        answer.text()
    );
    let with =
        |token: &str| get("/api/v1/config").header("authorization", format!("Bearer {token}"));
    assert_eq!(listener.ask(with(TOKEN)).await.status, 200);
    for wrong in [
        "",
        "x",
        &TOKEN[1..],
        &format!("{TOKEN}x"),
        &TOKEN.to_uppercase(),
    ] {
        assert_eq!(listener.ask(with(wrong)).await.status, 401, "{wrong}");
    }
    let unreadable = HeaderValue::from_bytes(b"Bearer \xff").unwrap();
    let unreadable = get("/api/v1/config").header("authorization", unreadable);
    assert_eq!(listener.ask(unreadable).await.status, 401);
}

#[tokio::test]
async fn a_login_begins_a_session_that_opens_everything_until_the_logout() {
    let listener = guarded();
    let page = listener.ask(get("/login")).await;
    assert_eq!(page.status, 200);
    let answer = listener.enter(TOKEN, "/api/v1/calls?limit=2").await;
    assert_eq!(answer.status, 303);
    assert_eq!(answer.header("location"), "/api/v1/calls?limit=2");
    let (pair, attributes) = answer.cookie().split_once("; ").unwrap();
    assert!(pair.starts_with("aiops_session_8788="), "{pair}");
    assert_eq!(
        attributes,
        "Path=/; Max-Age=604800; HttpOnly; SameSite=Strict"
    );
    assert!(!pair.contains(TOKEN));

    let status = async |path| listener.ask(get(path).header("cookie", pair)).await.status;
    assert_eq!(status("/api/v1/calls").await, 200);
    assert_eq!(status("/metrics").await, 200);
    assert_eq!(status("/login").await, 303, "it is not asked for again");

    let left = listener.ask(form("/logout").header("cookie", pair)).await;
    assert_eq!(left.status, 303);
    assert_eq!(left.header("location"), "/login");
    assert!(
        left.cookie()
            .starts_with("aiops_session_8788=; Path=/; Max-Age=0")
    );
    assert_eq!(status("/api/v1/calls").await, 401);
}

#[tokio::test]
async fn sessions_end_with_the_token_they_began_with_and_do_not_come_back_with_it() {
    const OTHER: &str = "another-token-of-32-characters--";
    let listener = guarded();
    for between in [Some(OTHER), None] {
        let session = listener.session().await;
        let status = async || {
            let request = get("/api/v1/status").header("cookie", &session);
            listener.ask(request).await.status
        };
        assert_eq!(status().await, 200);
        listener.set_token(between);
        // A request that has nothing to do with sessions.
        let health = get("/healthz").header("authorization", format!("Bearer {OTHER}"));
        assert_eq!(listener.ask(health).await.status, 200);
        listener.set_token(Some(TOKEN));
        assert_eq!(status().await, 401);
    }
}

#[tokio::test]
async fn a_session_ends_at_once_when_the_token_changes() {
    let listener = guarded();
    let session = listener.session().await;
    listener.set_token(Some("another-token-of-32-characters--"));
    let request = get("/api/v1/status").header("cookie", &session);
    assert_eq!(listener.ask(request).await.status, 401);
}

#[tokio::test]
async fn wrong_tokens_show_the_page_again_and_then_have_to_wait_but_not_the_right_one() {
    let listener = guarded();
    for _ in 0..10 {
        let answer = listener.enter("<script>guess", "/api/v1/calls").await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.cookie(), "");
        let page = answer.text();
        assert!(page.contains("This is not the admin token."), "{page}");
        assert!(page.contains("value=\"/api/v1/calls\""), "{page}");
        assert!(!page.contains("guess"), "{page}");
    }
    let answer = listener.enter("guess", "/").await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), "60");
    assert!(
        answer.text().contains("Try again in 60 s"),
        "{}",
        answer.text()
    );
    let api = get("/api/v1/calls").header("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(listener.ask(api).await.status, 200, "others go on");
    assert_eq!(listener.enter(TOKEN, "/").await.status, 303);
}

#[tokio::test]
async fn a_browser_is_sent_to_the_login_and_everybody_else_told() {
    let listener = guarded();
    for (path, to) in [
        ("/", "/login"),
        (
            "/api/v1/calls?limit=2&run=a%2Fb",
            "/login?next=%2Fapi%2Fv1%2Fcalls%3Flimit%3D2%26run%3Da%252Fb",
        ),
        ("/nowhere", "/login?next=%2Fnowhere"),
        ("//evil.example/", "/login"),
    ] {
        let answer = listener
            .ask(get(path).header("accept", "text/html,*/*;q=0.8"))
            .await;
        assert_eq!(answer.status, 303, "{path}");
        assert_eq!(answer.header("location"), to);
    }
    for accept in ["*/*", "application/json", "text/event-stream", ""] {
        let answer = listener.ask(get("/").header("accept", accept)).await;
        assert_eq!(answer.status, 401, "{accept}");
    }
    let sent = listener.ask(form("/loops/reset")).await;
    assert_eq!(
        (sent.status.as_u16(), sent.header("location")),
        (303, "/login")
    );
    let json = post("/api/v1/budgets/raise").header("accept", "text/html");
    let json = json.header("content-type", "application/json");
    assert_eq!(listener.ask(json).await.status, 401);
}

#[tokio::test]
async fn after_the_login_nobody_goes_to_another_host() {
    let listener = guarded();
    for next in [
        "",
        "x",
        "https://evil.example/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/a\\b",
        "/\t/evil.example",
        "/\r\nset-cookie: a=b",
        "/\n",
        " /x",
        "/\u{7f}",
        "/\u{e9}",
        "javascript:alert(1)",
        "/ x",
    ] {
        let answer = listener.enter(TOKEN, next).await;
        assert_eq!(answer.status, 303, "{next:?}");
        assert_eq!(answer.header("location"), "/", "{next:?}");
        let query = serde_urlencoded::to_string([("next", next)]).unwrap();
        let page = listener.ask(get(&format!("/login?{query}"))).await;
        assert!(
            page.text().contains("name=\"next\" value=\"/\""),
            "{next:?}"
        );
    }
    let long = format!("/{}", "x".repeat(2048));
    assert_eq!(listener.enter(TOKEN, &long).await.header("location"), "/");
    for next in [
        "/",
        "/runs?state=open",
        "/a//b",
        "/?to=https://x",
        "/login",
        "/runs/a%2Fb#c",
    ] {
        assert_eq!(listener.enter(TOKEN, next).await.header("location"), next);
    }
    let hostile = "/login?next=%2F%22%3E%3Cscript%3E";
    let page = listener.ask(get(hostile)).await.text();
    assert!(
        page.contains("value=\"/&quot;&gt;&lt;script&gt;\""),
        "{page}"
    );
}

#[tokio::test]
async fn the_page_works_without_script_and_within_its_policy() {
    let listener = guarded();
    let answer = listener.ask(get("/login?next=/runs")).await;
    let policy = answer.header("content-security-policy");
    for part in [
        "form-action 'self'",
        "img-src 'self' data:",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    // With `no-referrer` browsers would send `Origin: null` with our own forms.
    assert_eq!(answer.header("referrer-policy"), "same-origin");
    assert_eq!(answer.header("cache-control"), "no-store");
    let page = answer.text();
    for part in [
        "<form method=\"post\" action=\"/login\">",
        "type=\"password\"",
        "<label for=\"token\">",
    ] {
        assert!(page.contains(part), "{page}");
    }
    for never in ["<script", "style=\"", "<style", " on"] {
        assert!(!page.contains(never), "{never}: {page}");
    }
}

#[tokio::test]
async fn forms_are_taken_from_our_own_pages_only() {
    let listener = guarded();
    for (name, value, status) in [
        ("origin", ORIGIN, 303),
        ("origin", "https://localhost:8788", 303),
        ("sec-fetch-site", "same-origin", 303),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "none", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("origin", "null", 403),
        ("origin", "http://localhost:3000", 403),
        ("origin", "https://evil.example", 403),
        ("x-nothing", "said", 403),
    ] {
        let body = || Body::from(entered(TOKEN, "/"));
        let request = post("/login")
            .header("content-type", FORM)
            .header(name, value);
        let answer = listener.send(request.body(body()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {value}");
        assert_eq!(answer.cookie().is_empty(), status != 303);
        let request = post("/logout")
            .header("content-type", FORM)
            .header(name, value);
        assert_eq!(listener.ask(request).await.status.as_u16(), status);
    }
    let typed = post("/login").header("origin", ORIGIN);
    for kind in ["application/json", "text/plain", "multipart/form-data"] {
        let request = typed_as(kind)
            .body(Body::from(entered(TOKEN, "/")))
            .unwrap();
        assert_eq!(listener.send(request).await.status, 415, "{kind}");
    }
    assert_eq!(listener.ask(typed).await.status, 415);
    let request = form("/login").body(Body::from("next=/")).unwrap();
    let problem = listener.send(request).await;
    assert_eq!(problem.status, 400);
    assert!(
        problem.text().contains("missing field `token`"),
        "{}",
        problem.text()
    );
    let large = form("/login")
        .body(Body::from(vec![b'a'; 100_000]))
        .unwrap();
    assert_eq!(listener.send(large).await.status, 413);
}

fn typed_as(kind: &str) -> Builder {
    post("/login")
        .header("origin", ORIGIN)
        .header("content-type", kind)
}

#[tokio::test]
async fn the_api_takes_no_form_even_of_our_own_pages() {
    let listener = guarded();
    let session = listener.session().await;
    let request = form("/api/v1/budgets/raise").header("cookie", session);
    assert_eq!(listener.ask(request).await.status, 415);
}

#[tokio::test]
async fn a_cookie_changes_something_only_from_our_own_page() {
    let listener = guarded();
    let session = listener.session().await;
    for (name, value, status) in [
        ("origin", ORIGIN, 404),
        ("sec-fetch-site", "same-origin", 404),
        ("origin", "http://localhost:3000", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "none", 403),
        ("x-nothing", "said", 403),
    ] {
        let request = || {
            let request = post("/api/v1/runs/nobody/stop").header(name, value);
            request.header("content-type", "application/json")
        };
        let by_cookie = listener.ask(request().header("cookie", &session)).await;
        assert_eq!(by_cookie.status.as_u16(), status, "{name}: {value}");
        let bearer = format!("Bearer {TOKEN}");
        let by_token = listener
            .ask(request().header("authorization", bearer))
            .await;
        let expected = if name == "origin" { status } else { 404 };
        assert_eq!(by_token.status.as_u16(), expected, "{name}: {value}");
    }
}

#[tokio::test]
async fn the_right_token_opens_nothing_to_another_site_or_name() {
    let listener = guarded();
    for (name, value) in [
        ("host", "evil.example"),
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let session = listener.session().await;
        let mut request = Request::get("/api/v1/config").header(name, value);
        if name != "host" {
            request = request.header("host", HOST);
        }
        let request = request.header("authorization", format!("Bearer {TOKEN}"));
        let answer = listener.ask(request.header("cookie", session)).await;
        assert_eq!(answer.status, 403, "{name}: {value}");
        assert!(!answer.text().contains("listen ="));
    }
}

#[tokio::test]
async fn a_session_is_kept_to_tls_where_the_login_came_by_it() {
    let listener = guarded();
    let request = post("/login").header("content-type", FORM);
    let request = request.header("origin", "https://localhost:8788");
    let request = request.body(Body::from(entered(TOKEN, "/"))).unwrap();
    let answer = listener.send(request).await;
    assert!(
        answer.cookie().ends_with("; SameSite=Strict; Secure"),
        "{}",
        answer.cookie()
    );
}

#[tokio::test]
async fn a_wrong_token_outranks_a_right_session_but_another_scheme_does_not() {
    let listener = guarded();
    let session = listener.session().await;
    for (authorization, status) in [("Bearer wrong", 401), ("Basic YTpi", 200)] {
        let request = get("/api/v1/status").header("authorization", authorization);
        let answer = listener.ask(request.header("cookie", &session)).await;
        assert_eq!(answer.status.as_u16(), status, "{authorization}");
    }
}

#[tokio::test]
async fn a_logout_takes_a_form_and_no_link() {
    let listener = guarded();
    let answer = listener.ask(get("/logout")).await;
    assert_eq!(answer.status, 405);
    assert!(
        answer.text().contains("/logout does something"),
        "{}",
        answer.text()
    );
}
