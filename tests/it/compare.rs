//! Two variants through the real proxy: what is found of them, and that all who tell it agree.

use std::fs;

use serde_json::{Value, json as object};

use crate::harness::process;
use crate::harness::talk::{Talk, calling, saying};
use crate::harness::{Client, Proxy, Upstream, json, post, records, within};

/// A model that answers at a length that changes from call to call.
async fn model() -> Upstream {
    Upstream::with(|n, _| {
        let mut answer = saying("That is that.");
        answer["usage"]["completion_tokens"] = object!(20 + n % 7);
        json(answer.to_string())
    })
    .await
}

async fn proxy(upstream: &Upstream) -> Proxy {
    let setup = Proxy::with(upstream).sections("[loops]\nmode = \"off\"\n");
    fs::write(setup.dir.path().join("config.toml"), setup.text()).unwrap();
    setup.start().await
}

/// A run of so many calls in a variant. Its score is said with its last call.
async fn run(proxy: &Proxy, name: &str, variant: Option<&str>, (calls, score): (usize, f64)) {
    for number in 0..calls {
        let question = format!("{name}: question {number}?");
        let mut talk = Talk::new("You are the planner.", &question)
            .header("x-aiops-run", name)
            .header("x-aiops-agent", "planner");
        if let Some(variant) = variant {
            talk = talk.header("x-aiops-variant", variant);
        }
        if number + 1 == calls {
            talk = talk.header("x-aiops-metric-score", &score.to_string());
        }
        assert_eq!(proxy.call(&talk.ask()).await.status(), 200);
    }
    within("the end of all calls", proxy.app.settled()).await;
}

/// 22 runs of each: `terse` makes fewer calls, and its scores are no better.
async fn two_variants(proxy: &Proxy) {
    for n in 0..22_u32 {
        let calls = 3 + usize::try_from(n % 3).unwrap();
        let score = f64::from(n % 5) / 4.0;
        run(proxy, &format!("base-{n}"), Some("base"), (calls, score)).await;
        run(
            proxy,
            &format!("terse-{n}"),
            Some("terse"),
            (calls - 2, score),
        )
        .await;
    }
}

async fn api(proxy: &Proxy, query: &str) -> Value {
    let target = format!("/api/v1/compare?{query}");
    let answer = records::ask(proxy.app.admin_address(), &target).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

fn measure<'a>(told: &'a Value, key: &str) -> &'a Value {
    let all = told["measures"].as_array().unwrap();
    let found = all.iter().find(|it| it["key"] == key);
    found.unwrap_or_else(|| panic!("no {key} in {told}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_are_compared_and_command_and_api_agree() {
    let upstream = model().await;
    let proxy = proxy(&upstream).await;
    two_variants(&proxy).await;
    run(&proxy, "plain", None, (1, 0.0)).await;
    run(&proxy, "both", Some("base"), (1, 0.0)).await;
    run(&proxy, "both", Some("terse"), (1, 0.0)).await;
    let told = api(
        &proxy,
        "by=variant&metric=score&success=metric:score%3E%3D0.5",
    )
    .await;
    assert_eq!(told["a"], object!({"name": "base", "runs": 22}));
    assert_eq!(told["b"], object!({"name": "terse", "runs": 22}));
    let left = &told["left_out"];
    assert_eq!((&left["mixed"], &left["unnamed"]), (&1.into(), &1.into()));
    let calls = measure(&told, "calls");
    let difference = calls["difference"].as_f64().unwrap();
    assert!((difference + 2.0).abs() < 1e-9, "{calls}");
    let (low, high) = (
        calls["low"].as_f64().unwrap(),
        calls["high"].as_f64().unwrap(),
    );
    assert!(low < -2.0 && -2.0 < high && high < 0.0, "{calls}");
    assert_eq!(calls["verdict"], "lower");
    for key in ["metric.score", "success_rate", "error_rate", "trip_rate"] {
        let it = measure(&told, key);
        assert_eq!(it["verdict"], "no_difference_shown", "{it}");
    }
    let sentence = told["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("terse against base (22 and 22 runs): "),
        "{sentence}"
    );
    assert!(sentence.contains("calls are lower by 2.0"), "{sentence}");
    let arguments = [
        "compare",
        "--by",
        "variant",
        "--metric",
        "score",
        "--success",
        "metric:score>=0.5",
    ];
    let dir = proxy.dir.path();
    let said = process::run(dir, &arguments).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains(sentence), "{}", said.out);
    assert!(said.out.contains("calls\t"), "{}", said.out);
    let mut as_json = arguments.to_vec();
    as_json.push("--json");
    let same = process::run(dir, &as_json).await;
    assert_eq!(serde_json::from_str::<Value>(&same.out).unwrap(), told);
    page_agrees(&proxy, sentence).await;
}

async fn page_agrees(proxy: &Proxy, sentence: &str) {
    let query = "by=variant&metric=score&success=metric:score%3E%3D0.5";
    let ask = async |more: &str| {
        let target = format!("/compare?{query}{more}");
        let answer = records::ask(proxy.app.admin_address(), &target).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.text().to_owned()
    };
    let page = ask("").await;
    let escaped = sentence.replace('<', "&lt;");
    assert!(page.contains(&escaped), "{escaped} is not in {page}");
    for part in [
        "class=\"intervals\"",
        "no difference shown",
        "The other way round",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let csv = ask("&export=figures.csv").await;
    assert!(csv.contains("calls,") && csv.contains(",lower"), "{csv}");
}

async fn posted(proxy: &Proxy, body: &Value) {
    let mut client = Client::connect(proxy.app.admin_address()).await;
    let bytes = String::from_utf8(post("/api/v1/metrics", body.to_string()).bytes()).unwrap();
    client.send(bytes.replace("proxy.test", "localhost")).await;
    let answer = client.response(false).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_judge_says_of_a_run_counts_as_what_came_with_its_calls() {
    let upstream = model().await;
    let proxy = proxy(&upstream).await;
    run(&proxy, "one", Some("base"), (2, 0.25)).await;
    run(&proxy, "two", Some("terse"), (1, 0.5)).await;
    posted(
        &proxy,
        &object!([
            {"name": "score", "value": 0.75, "run": "one"},
            {"name": "solved", "value": false, "run": "one"},
            {"name": "solved", "value": true, "run": "two"},
        ]),
    )
    .await;
    let means = async |query: &str, key: &str| {
        let told = api(&proxy, query).await;
        let it = measure(&told, key);
        (it["a"]["value"].as_f64(), it["b"]["value"].as_f64())
    };
    let score = means("by=variant&metric=score", "metric.score").await;
    assert_eq!(score, (Some(0.5), Some(0.5)), "the mean in each run");
    let solved = "by=variant&metric=solved&success=metric:solved%3E%3D0.5";
    let truths = (Some(0.0), Some(1.0));
    assert_eq!(means(solved, "metric.solved").await, truths);
    assert_eq!(means(solved, "success_rate").await, truths);
    let of_agent = means("by=variant&agent=planner&metric=score", "metric.score").await;
    assert_eq!(
        of_agent.0,
        Some(0.25),
        "what is said of the run is of no agent"
    );
}

/// Calls a tool in vain until it is refused: how often it was answered.
async fn loops(proxy: &Proxy, name: &str, variant: &str) -> u32 {
    let mut talk = Talk::new("You are the coder.", "Mend the parser.")
        .header("x-aiops-run", name)
        .header("x-aiops-agent", "coder")
        .header("x-aiops-variant", variant);
    for answered in 0..8 {
        let answer = proxy.call(&talk.ask()).await;
        if answer.status() == 429 {
            return answered;
        }
        talk = talk.heard(&answer).result("Error: no such file");
    }
    panic!("never refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_a_breaker_stopped_are_told_as_such_and_are_no_successes() {
    let upstream = Upstream::with(|n, _| {
        let arguments = object!({"path": "src/main.rs"});
        json(calling(&format!("call_{n}"), "grep", &arguments).to_string())
    })
    .await;
    let limits = "[loops]\nmax_delay = \"0s\"\n[[budget]]\nname = \"each run\"\nper = [\"run\"]\ncalls = 8\n";
    let proxy = Proxy::with(&upstream).sections(limits).start().await;
    run(&proxy, "base-1", Some("base"), (2, 0.0)).await;
    run(&proxy, "base-2", Some("base"), (2, 0.0)).await;
    let answered = loops(&proxy, "terse-1", "terse").await;
    run(&proxy, "terse-2", Some("terse"), (2, 0.0)).await;
    run(&proxy, "terse-3", Some("terse"), (8, 0.0)).await;
    // Its calls are used up: what is refused now is no call of it, and ends it all the same.
    for _ in 0..3 {
        let talk = Talk::new("You are the planner.", "One more?")
            .header("x-aiops-run", "terse-3")
            .header("x-aiops-agent", "planner");
        assert_eq!(proxy.call(&talk.ask()).await.status(), 429);
    }
    let events = records::ask(proxy.app.admin_address(), "/api/v1/events").await;
    let events = events.json()["events"].as_array().unwrap().clone();
    let refused = events.iter().filter(|it| it["what"] == "run_refused");
    let details: Vec<&str> = refused.filter_map(|it| it["details"].as_str()).collect();
    assert_eq!(
        details,
        ["budget_spent, budget \"each run\"; agent planner, run terse-3"]
    );
    let told = api(&proxy, "by=variant").await;
    let share = |key: &str| {
        let it = measure(&told, key);
        (it["a"]["value"].as_f64(), it["b"]["value"].as_f64())
    };
    assert_eq!(share("trip_rate"), (Some(0.0), Some(2.0 / 3.0)));
    assert_eq!(share("success_rate"), (Some(1.0), Some(1.0 / 3.0)));
    let mean = f64::from(answered + 2 + 8) / 3.0;
    assert_eq!(share("calls"), (Some(2.0), Some(mean)), "no refused ones");
    let by_agent = api(&proxy, "by=agent").await;
    let rate = measure(&by_agent, "trip_rate");
    assert_eq!(
        (&rate["a"]["value"], &rate["b"]["value"]),
        (&object!(1.0), &object!(0.25))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_runs_conclude_nothing_and_single_runs_show_where_they_part() {
    let upstream = model().await;
    let proxy = proxy(&upstream).await;
    run(&proxy, "one", Some("base"), (1, 0.0)).await;
    let alone = api(&proxy, "by=variant").await;
    let sentence = alone["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("Only one arm was found, base"),
        "{sentence}"
    );
    run(&proxy, "two", Some("terse"), (2, 0.0)).await;
    let told = api(&proxy, "by=variant&a=terse&b=base").await;
    let sentence = told["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("Too few runs to conclude anything"),
        "{sentence}"
    );
    let calls = measure(&told, "calls");
    assert_eq!(
        (&calls["difference"], &calls["low"]),
        (&object!(-1.0), &Value::Null)
    );
    assert_eq!(calls["verdict"], "too_few_runs");
    let runs = process::run(proxy.dir.path(), &["compare", "one", "two"]).await;
    assert_eq!(runs.code, Some(0), "{}", runs.err);
    for part in [
        "One run each",
        "They part here: message 2 of call 1 differs.\n  user: [-one:-]{+two:+} question 0?\nA: open-aiops show ",
    ] {
        assert!(runs.out.contains(part), "{part:?} is not in {}", runs.out);
    }
    let page = records::ask(proxy.app.admin_address(), "/compare?a=one&b=two").await;
    assert!(
        page.text()
            .contains("They part at the beginning: message 2")
    );
    for (wrong, code, says) in [
        (
            ["compare", "one", "three"].as_slice(),
            1,
            "no run three with calls is recorded",
        ),
        (
            &["compare", "--by", "colour"],
            2,
            "expected variant, tag.<name>",
        ),
        (&["compare", "--by", "run", "one"], 2, "needs a and b"),
        (
            &["compare", "one", "two", "--since", "1d"],
            2,
            "since, until: expected neither by run",
        ),
        (&["compare", "--success", "score>1"], 2, "expected outcome"),
    ] {
        let ended = process::run(proxy.dir.path(), wrong).await;
        assert_eq!(ended.code, Some(code), "{wrong:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{wrong:?}: {}", ended.err);
    }
}

/// One call of a run with this body, fields of `more` in it.
async fn sent(proxy: &Proxy, run: &str, question: &str, more: &Value) {
    let mut body = object!({"model": "gpt-4o-mini", "messages": [
        {"role": "system", "content": "You plan."}, {"role": "user", "content": question},
    ]});
    let fields = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    let ask = post("/v1/chat/completions", body.to_string())
        .header("x-aiops-run", run)
        .header("x-aiops-agent", "planner");
    assert_eq!(proxy.call(&ask).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_part_where_more_than_a_time_differs_and_the_words_are_told() {
    let upstream = model().await;
    let proxy = proxy(&upstream).await;
    let tool = |name: &str, about: &str| object!({"tools": [{"type": "function", "function": {"name": name, "description": about}}]});
    let none = object!({});
    for (run, time, ask, more) in [
        ("same", "2026-11-30T06:12:34Z", "Which tide is it?", &none),
        ("later", "2026-12-02T07:01:00Z", "Which tide is it?", &none),
        (
            "word",
            "2026-11-30T06:12:34Z",
            "Which <b>moon</b> is it?",
            &none,
        ),
        (
            "warm",
            "2026-11-30T06:12:34Z",
            "Which tide is it?",
            &object!({"temperature": 1.5}),
        ),
        (
            "tool",
            "2026-11-30T06:12:34Z",
            "Which tide is it?",
            &tool("search", "Looks it up."),
        ),
        (
            "told",
            "2026-11-30T06:12:34Z",
            "Which tide is it?",
            &tool("search", "Looks all up."),
        ),
    ] {
        sent(&proxy, run, "Begin.", &none).await;
        sent(&proxy, run, &format!("It is {time}. {ask}"), more).await;
    }
    within("the end of all calls", proxy.app.settled()).await;
    for (a, b, what, said) in [
        (
            "same",
            "word",
            "message",
            "Which [-tide-]{+<b>moon</b>+} is it?",
        ),
        ("same", "warm", "settings", "{+temperature: 1.5+}"),
        ("same", "tool", "tools", "{+search+}"),
        ("tool", "told", "tools", "[-it-]{+all+} up."),
    ] {
        let told = api(&proxy, &format!("a={a}&b={b}")).await;
        let parting = &told["first_difference"];
        assert_eq!(
            (&parting["number"], &parting["what"]),
            (&1.into(), &what.into())
        );
        let ended = process::run(proxy.dir.path(), &["compare", a, b]).await;
        assert!(ended.out.contains(said), "{said} is not in {}", ended.out);
    }
    let alike = api(&proxy, "a=same&b=later").await;
    assert_eq!(alike["first_difference"], Value::Null);
    let page = records::ask(proxy.app.admin_address(), "/compare?a=same&b=word").await;
    let page = page.text();
    for part in [
        "identifiers; message 2 of call 2 differs. ",
        "Which <del>tide</del><ins>&lt;b&gt;moon&lt;/b&gt;</ins> is it?",
        "The call of A</a>",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_recorded_is_not_said_to_be_the_same() {
    let upstream = model().await;
    // The first bytes of both are the same.
    for line in ["record = \"meta\"", "max_body = \"16 B\""] {
        let setup = Proxy::with(&upstream).ledger_lines(line);
        let proxy = setup.start().await;
        for (run, question) in [("one", "Which tide?"), ("other", "Which moon?")] {
            sent(&proxy, run, question, &object!({})).await;
        }
        within("the end of all calls", proxy.app.settled()).await;
        let parting = &api(&proxy, "a=one&b=other").await["first_difference"];
        assert_eq!(parting["what"], "request", "{line}");
    }
}
