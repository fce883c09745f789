use super::*;
use crate::config::Config;

fn problems(text: &str, env: Option<&str>) -> String {
    let env = |_: &str| env.map(str::to_owned);
    Config::parse("c.toml", text, &env).unwrap_err().to_string()
}

fn parsed(text: &str, env: &str) -> Config {
    Config::parse("c.toml", text, &|_| Some(env.to_owned())).unwrap()
}

const NAMED: &str = "[[sink]]\nname = \"a\"\n";

#[test]
fn a_sink_needs_a_name_and_a_url_and_the_url_says_what_it_is() {
    let sink = &parsed(&format!("{NAMED}url = \"postgres:///db?host=/run/pg\""), "").sinks[0];
    assert_eq!(sink.kind(), SinkKind::Postgres);
    assert_eq!(
        (sink.schema.as_str(), sink.since),
        ("open_aiops", Since::Start)
    );
    assert_eq!(sink.tables, SinkTable::ALL);
    for (url, kind) in [
        ("postgresql://h/db", SinkKind::Postgres),
        ("http://localhost:8123", SinkKind::ClickHouse),
        ("https://me:secret@ch.example/", SinkKind::ClickHouse),
    ] {
        let sink = &parsed(&format!("{NAMED}url_env = \"URL\""), url).sinks[0];
        assert_eq!(sink.kind(), kind, "{url}");
    }
    let told = problems("[[sink]]\n", None);
    assert!(told.contains("sink[0].name") && told.contains("url_env = \"AIOPS_SINK_URL\""));
}

#[test]
fn a_password_is_never_shown_wherever_it_was_put() {
    let written = [
        "url = \"postgres://me:SECRET@h/db\"",
        "url = \"postgres://h/db?password=SECRET\"",
        "url = \"mysql://SECRET\"",
        "url = \"http://me:SECRET@h\"",
        "url = \"postgres://me:SEC/RETSECRET@h/db\"",
        "url = \"postgres://me:1?SECRET@h/db\"",
        "url = \"http://me:1/SECRET@h\"",
        "url = \"http://h\"\npassword = \"SECRET\"",
        "url_env = \"not a name SECRET\"",
    ];
    for line in written {
        let told = problems(&format!("{NAMED}{line}\n"), Some("SECRET"));
        assert!(!told.contains("SECRET"), "{told}");
    }
    for found in ["SECRET", "ftp://SECRET", "http://", "http://:SECRET@"] {
        let told = problems(&format!("{NAMED}url_env = \"URL\"\n"), Some(found));
        assert!(
            !told.contains("SECRET") && told.contains("that in URL is none"),
            "{told}"
        );
    }
    let text = format!("{NAMED}url_env = \"URL\"\npassword_env = \"PASSWORD\"\n");
    let config = parsed(&text, "postgres://me:SECRET@h/db");
    let shown = format!("{config} {config:?}");
    assert!(!shown.contains("SECRET"), "{shown}");
    assert!(shown.contains("url_env = \"URL\"") && shown.contains("password_env = \"PASSWORD\""));
}

#[test]
fn what_is_configured_reads_back_as_it_was() {
    let text = "[[sink]]\nname = \"a\"\nurl = \"http://127.0.0.1:8123/?x=1\"\nuser = \"me\"\n\
                password_env = \"P\"\nschema = \"traces\"\ntables = [\"decisions\", \"calls\"]\n\
                since = \"now\"\ninstance = \"eu-1\"\ninterval = \"250ms\"\ntimeout = \"7s\"\n\
                [[sink]]\nname = \"b\"\nurl_env = \"U\"\n";
    let config = parsed(text, "postgres://h/db");
    assert_eq!(
        config.sinks[0].tables,
        [SinkTable::Calls, SinkTable::Decisions]
    );
    assert_eq!(parsed(&config.to_string(), "postgres://h/db"), config);
}

#[test]
fn every_wrong_value_is_told_with_what_was_expected() {
    let text = "[[sink]]\nname = \"a\"\nurl = \"http://h\"\nschema = \"Drop Table\"\n\
                tables = [\"bodies\"]\nsince = \"yesterday\"\ninterval = \"2h\"\ntimeout = \"0s\"\n\
                user = \"\"\nurls = 1\n[[sink]]\nname = \"a\"\nurl = \"http://h\"\nurl_env = \"U\"\n";
    let told = problems(text, Some("http://h"));
    for expected in [
        "sink[0].schema",
        "\"calls\", \"decisions\" or \"metrics\"",
        "\"start\" or \"now\"",
        "up to \"1h\"",
        "up to \"10m\"",
        "sink[0].user",
        "sink[0].urls",
        "a name that no other sink has",
        "either url or url_env, not both",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
}

#[test]
fn what_goes_unencrypted_to_another_machine_is_warned_of() {
    let warned = |url: &str| {
        let config = parsed(&format!("{NAMED}url_env = \"URL\""), url);
        config.warnings().iter().any(|it| it.contains("sink a"))
    };
    for url in [
        "http://ch.example:8123",
        "postgres://u@db.example/x?sslmode=disable",
        "postgres://u@db.example/x?sslmode=prefer",
        "postgres:///x?host=db.example&sslmode=disable",
        "postgres://localhost,db.example/x?sslmode=disable",
        "postgres://localhost/x?hostaddr=192.0.2.1&sslmode=disable",
    ] {
        assert!(warned(url), "{url}");
    }
    for url in [
        "https://ch.example",
        "http://127.0.0.1:8123",
        "http://u:p@localhost",
        "postgres://db.example/x",
        "postgres://db.example/x?sslmode=require",
        "postgres://localhost/x?sslmode=disable",
        "postgres://u:p@[::1]:5432/x?sslmode=prefer",
        "postgres:///x?host=/run/postgresql&sslmode=disable",
        "postgres://%2Frun%2Fpostgresql/x?sslmode=disable",
    ] {
        assert!(!warned(url), "{url}");
    }
}

#[test]
fn a_sink_calls_the_process_what_other_instances_call_it_unless_it_says_otherwise() {
    let text = "[shared]\nurl = \"redis://127.0.0.1:6379\"\nsecret_env = \"S\"\ninstance = \"eu-1\"\n\
                [[sink]]\nname = \"a\"\nurl = \"http://h\"\n\
                [[sink]]\nname = \"b\"\nurl = \"http://h\"\ninstance = \"other\"\n";
    let config = parsed(text, "a secret of some length");
    let names = config
        .sinks
        .iter()
        .map(|it| it.instance.as_ref().unwrap().as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["eu-1", "other"]);
    assert_eq!(
        parsed(&config.to_string(), "a secret of some length"),
        config
    );
}
