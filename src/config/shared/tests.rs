use crate::config::Config;

const SECRET: &str = "secret_env = \"SECRET\"\n";

fn read(text: &str) -> Result<Config, String> {
    let env = |name: &str| match name {
        "SECRET" => Some("0123456789abcdef-shared".to_owned()),
        "SHORT" => Some("short".to_owned()),
        "PASSWORD_URL" => Some("rediss://:hunter2@redis.example:6380/1".to_owned()),
        _ => None,
    };
    Config::parse("c.toml", text, &env).map_err(|problems| problems.to_string())
}

#[test]
fn instance_is_alone_without_the_section() {
    assert_eq!(read("").unwrap().shared, None);
}

#[test]
fn neither_secret_nor_password_is_shown() {
    let text = "[shared]\nurl_env = \"PASSWORD_URL\"\nsecret_env = \"SECRET\"\n";
    let config = read(text).unwrap();
    let shown = format!("{config} {config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!shown.contains("0123456789abcdef"), "{shown}");
    assert!(shown.contains("url_env = \"PASSWORD_URL\""), "{shown}");
}

#[test]
fn password_in_the_file_is_refused_and_not_repeated() {
    for url in [
        "redis://:hunter2@127.0.0.1:6379",
        "redis://user:hunter2@127.0.0.1:6379/0",
        "redis://user:1/hunter2@127.0.0.1",
        "unix:///run/redis.sock?pass=hunter2",
    ] {
        let problems = read(&format!("[shared]\nurl = \"{url}\"\n{SECRET}")).unwrap_err();
        assert!(problems.contains("shared.url"), "{problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
    }
}

#[test]
fn every_problem_is_told_at_once_with_what_was_expected() {
    let text = "[shared]\nnamespace = \"a b\"\ntimeout = \"1m\"\nlease = \"1ms\"\n\
                keep_for = \"1s\"\non_failure = \"serve\"\nsecret = \"x\"\nsecret_env = \"SHORT\"\n";
    let problems = read(text).unwrap_err();
    for expected in [
        "where Redis is: url, or url_env",
        "1 to 64 letters, digits, - and _",
        "a duration from \"1ms\" to \"5s\"",
        "a duration from \"1s\" to \"5m\"",
        "a duration of at least \"1h\"",
        "\"local_share\", \"allow\" or \"refuse\"",
        "a secret of at least 16 bytes",
        "the secret in an environment variable",
    ] {
        assert!(problems.contains(expected), "{expected}\n{problems}");
    }
}

#[test]
fn urls_of_redis_and_valkey_are_taken_and_others_are_not() {
    for url in [
        "redis://127.0.0.1:6379",
        "rediss://redis.example:6380/2",
        "valkey://localhost",
        "unix:///run/redis/redis.sock",
    ] {
        let text = format!("[shared]\nurl = \"{url}\"\n{SECRET}");
        let config = read(&text).unwrap().shared.unwrap();
        assert_eq!(config.url.expose(), url);
    }
    for url in [
        "http://127.0.0.1:6379",
        "127.0.0.1:6379",
        "redis://",
        "unix://x",
    ] {
        let problems = read(&format!("[shared]\nurl = \"{url}\"\n{SECRET}")).unwrap_err();
        assert!(problems.contains("a URL like redis://"), "{problems}");
    }
}

#[test]
fn lease_must_outlast_several_timeouts() {
    let text = format!(
        "[shared]\nurl = \"redis://localhost\"\n{SECRET}timeout = \"1s\"\nlease = \"5s\"\n"
    );
    let problems = read(&text).unwrap_err();
    assert!(
        problems.contains("at least six times the timeout"),
        "{problems}"
    );
}

#[test]
fn redis_elsewhere_without_tls_is_warned_about() {
    let warnings = |url: &str| {
        let text = format!("[shared]\nurl = \"{url}\"\n{SECRET}");
        read(&text).unwrap().warnings().len()
    };
    assert_eq!(warnings("redis://redis.example"), 1);
    assert_eq!(warnings("rediss://redis.example"), 0);
    assert_eq!(warnings("redis://127.0.0.1"), 0);
}
