use tokio::net::TcpListener;
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
}

#[test]
fn hosts_that_are_away_leave_time_for_the_last_one() {
    let of = |url: &str| parse(&config("", url)).unwrap();
    let seconds = |url: &str| of(url).get_connect_timeout().map(Duration::as_secs);
    assert_eq!(seconds("postgres://h/db"), Some(15));
    assert_eq!(seconds("postgres://h1,h2/db"), Some(10));
    assert_eq!(seconds("postgres://h1,h2/db?connect_timeout=3"), Some(3));
}

#[tokio::test]
async fn a_host_that_says_nothing_does_not_keep_the_others_from_being_asked() {
    let listen = || TcpListener::bind("127.0.0.1:0");
    let (silent, other) = (listen().await.unwrap(), listen().await.unwrap());
    let [first, second] = [&silent, &other].map(|it| it.local_addr().unwrap());
    let url = format!("postgres://me@{first},{second}/db");
    let mut store = Postgres::new(&config("timeout = \"50ms\"\n", &url)).unwrap();
    let owner = Owner {
        instance: "eu-1".to_owned(),
        ledger: "l".to_owned(),
    };
    let ask = async {
        loop {
            store.open(&owner).await.unwrap_err();
        }
    };
    let mut taken = Vec::new();
    let say_nothing = async {
        loop {
            taken.push(silent.accept().await.unwrap());
        }
    };
    let asked = async {
        tokio::select! {
            () = ask => {}
            () = say_nothing => {}
            asked = other.accept() => drop(asked.unwrap()),
        }
    };
    let limit = Duration::from_secs(30);
    let asked = tokio::time::timeout(limit, Box::pin(asked)).await;
    assert!(asked.is_ok(), "only the first is asked");
}

#[test]
fn tls_is_asked_for_unless_nothing_leaves_the_machine_or_the_url_says_otherwise() {
    let mode = |url: &str| parse(&config("", url)).unwrap().get_ssl_mode();
    assert_eq!(mode("postgres://h/db"), SslMode::Require);
    assert_eq!(mode("postgres:///db?host=h"), SslMode::Require);
    assert_eq!(mode("postgres://127.0.0.1/db"), SslMode::Disable);
    assert_eq!(mode("postgres:///db?host=/run/pg"), SslMode::Disable);
    assert_eq!(
        mode("postgres://localhost/db?sslmode=prefer"),
        SslMode::Prefer
    );
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
