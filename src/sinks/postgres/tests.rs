use tokio_postgres::config::Host;

use super::*;

fn config(keys: &str, url: &str) -> SinkConfig {
    let text = format!("[[sink]]\nname = \"a\"\nurl_env = \"URL\"\n{keys}");
    let env = |name: &str| Some(if name == "URL" { url } else { "from env" }.to_owned());
    let config = crate::config::Config::parse("c.toml", &text, &env).unwrap();
    config.sinks[0].clone()
}

#[test]
fn user_and_password_beside_the_url_count_before_those_in_it() {
    let url = "postgres://me:one@h:7/db";
    let own = parse(&config("", url)).unwrap();
    assert_eq!(
        (own.get_user(), own.get_password()),
        (Some("me"), Some(&b"one"[..]))
    );
    let beside = parse(&config("user = \"you\"\npassword_env = \"P\"\n", url)).unwrap();
    assert_eq!(beside.get_user(), Some("you"));
    assert_eq!(beside.get_password(), Some(&b"from env"[..]));
    assert_eq!(beside.get_ports(), [7]);
    assert_eq!(beside.get_application_name(), Some("open-aiops"));
    assert_eq!(beside.get_connect_timeout(), Some(&Duration::from_secs(30)));
}

#[test]
fn tls_is_asked_for_unless_nothing_leaves_the_machine_or_the_url_says_otherwise() {
    let mode = |url: &str| parse(&config("", url)).unwrap().get_ssl_mode();
    assert_eq!(mode("postgres://h/db"), SslMode::Require);
    assert_eq!(mode("postgres:///db?host=h"), SslMode::Require);
    assert_eq!(mode("postgres://127.0.0.1/db"), SslMode::Prefer);
    assert_eq!(mode("postgres:///db?host=/run/pg"), SslMode::Prefer);
    assert_eq!(mode("postgres://h/db?sslmode=prefer"), SslMode::Prefer);
    assert_eq!(mode("postgres://h/db?sslmode=disable"), SslMode::Disable);
    for asked in ["require", "verify-ca", "verify-full"] {
        assert_eq!(
            mode(&format!("postgres://h/db?sslmode={asked}")),
            SslMode::Require
        );
    }
}

#[test]
fn a_socket_is_a_host() {
    let parsed = parse(&config("", "postgres:///db?host=/run/pg&port=6000")).unwrap();
    assert!(matches!(parsed.get_hosts(), [Host::Unix(path)] if path.ends_with("run/pg")));
}

#[test]
fn a_url_that_cannot_be_used_is_refused_without_being_shown() {
    for url in [
        "postgres://SECRET@h/db?sslmode=maybe",
        "postgres://SECRET@h:port/db",
    ] {
        let told = parse(&config("", url)).unwrap_err();
        assert!(
            told.contains("not one of PostgreSQL") && !told.contains("SECRET"),
            "{told}"
        );
    }
}

#[test]
fn only_the_tables_of_a_newer_version_are_left_alone() {
    assert!(check_version("s", None).is_ok() && check_version("s", Some(VERSION)).is_ok());
    let told = check_version("s", Some(VERSION + 1)).unwrap_err();
    assert!(
        told.text.contains("made by a newer open-aiops"),
        "{}",
        told.text
    );
    assert!(!told.is_about_rows);
}
