use super::*;
use crate::config::Config;

fn webhook(url: &str) -> WebhookConfig {
    let text = "[proxy]\nlisten = \"127.0.0.1:1\"\n[admin]\nlisten = \"127.0.0.1:2\"\n\
                [[alerts.webhook]]\nname = \"a\"\nurl_env = \"HOOK\"\n";
    let env = |_: &str| Some(url.to_owned());
    Config::parse("c.toml", text, &env)
        .unwrap()
        .alerts
        .webhooks
        .remove(0)
}

fn problems(text: &str, url: Option<&str>) -> String {
    let env = |_: &str| url.map(str::to_owned);
    Config::parse("c.toml", text, &env).unwrap_err().to_string()
}

#[test]
fn listener_of_our_own_is_known_by_any_of_its_names() {
    let own: [SocketAddr; 3] =
        ["127.0.0.1:8787", "[::]:8788", "10.0.0.5:80"].map(|own| own.parse().unwrap());
    for url in [
        "http://127.0.0.1:8787/x",
        "http://localhost:8787",
        "http://LOCALHOST.:8788/api",
        "https://[::1]:8788/",
        "http://[::ffff:127.0.0.1]:8787/",
        "http://0.0.0.0:8787/",
        "http://10.0.0.5/",
    ] {
        assert!(webhook(url).is_own(&own), "{url}");
    }
    for url in [
        "http://127.0.0.1:9000/",
        "https://hooks.example/8787",
        "http://10.0.0.6/",
    ] {
        assert!(!webhook(url).is_own(&own), "{url}");
    }
}

#[test]
fn own_listener_as_webhook_is_refused_with_the_file() {
    let text = "[[alerts.webhook]]\nname = \"me\"\nurl = \"http://localhost:8788/hook\"\n";
    let problems = problems(text, None);
    assert!(problems.contains("no listener of our own"), "{problems}");
}

#[test]
fn url_is_never_shown_in_config_problem_or_debug() {
    let secret = "https://hooks.slack.example/services/T0/SECRET";
    let text = format!("[[alerts.webhook]]\nname = \"a\"\nurl = \"{secret}\"\n");
    let config = Config::parse("c.toml", &text, &|_| None).unwrap();
    let shown = format!("{config} {config:?}");
    assert!(!shown.contains("SECRET"), "{shown}");
    assert!(
        shown.contains("url = \"https://hooks.slack.example/****\""),
        "{shown}"
    );
    for bad in ["ftp://x/SECRET", "https://me:SECRET@x/", "SECRET"] {
        let text = format!("[[alerts.webhook]]\nname = \"a\"\nurl = \"{bad}\"\n");
        let told = problems(&text, None);
        assert!(!told.contains("SECRET"), "{told}");
        let text = "[[alerts.webhook]]\nname = \"a\"\nurl_env = \"HOOK\"\n";
        let told = problems(text, Some(bad));
        assert!(!told.contains("SECRET") && told.contains("HOOK"), "{told}");
    }
}

#[test]
fn rules_and_severity_choose_what_is_sent() {
    let text = "[[alerts.webhook]]\nname = \"a\"\nurl_env = \"HOOK\"\nrules = [\"budget_*\"]\n\
                min_severity = \"critical\"\n";
    let env = |_: &str| Some("https://x.example/".to_owned());
    let config = Config::parse("c.toml", text, &env).unwrap();
    let hook = &config.alerts.webhooks[0];
    let takes = |rule: Rule| hook.takes(rule, rule.severity());
    assert!(takes(Rule::BudgetSpent));
    assert!(!takes(Rule::BudgetWarning) && !takes(Rule::LoopTripped));
    let none = "[[alerts.webhook]]\nname = \"a\"\nurl_env = \"HOOK\"\nrules = [\"bugdet_*\"]\n";
    let told = problems(none, Some("https://x.example/"));
    assert!(told.contains("fits at least one"), "{told}");
}
