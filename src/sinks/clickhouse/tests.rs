use super::*;
use crate::core::id::Label;
use crate::export::Row;
use crate::sinks::rows::Entry;

fn config(keys: &str, url: &str) -> SinkConfig {
    let text = format!("[[sink]]\nname = \"a\"\nurl_env = \"URL\"\n{keys}");
    let env = |name: &str| Some(if name == "URL" { url } else { "from env" }.to_owned());
    let config = crate::config::Config::parse("c.toml", &text, &env).unwrap();
    config.sinks[0].clone()
}

#[test]
fn user_and_password_go_in_headers_and_leave_the_url() {
    let store = ClickHouse::new(&config("", "http://m%65:o%40e@h:1/")).unwrap();
    assert_eq!(
        store.address(None).as_str(),
        "http://h:1/?wait_end_of_query=1"
    );
    let url = "http://m%65:o%40e@h:1/".parse().unwrap();
    let found = headers(&config("", "http://h"), &url).unwrap();
    assert!(found["x-clickhouse-user"] == "me" && found["x-clickhouse-key"] == "o@e");
    assert!(found["x-clickhouse-key"].is_sensitive());
    let beside = config("user = \"you\"\npassword_env = \"P\"\n", "http://h");
    let found = headers(&beside, &url).unwrap();
    assert!(found["x-clickhouse-user"] == "you" && found["x-clickhouse-key"] == "from env");
}

#[test]
fn what_a_server_can_do_follows_from_its_version() {
    let of = |version| (Server::of(version).times, Server::of(version).can_wait);
    assert_eq!(of("18.16.1"), (Times::Seconds, false));
    assert_eq!(of("20.3.4.10"), (Times::Micros, false));
    assert_eq!(of("21.12.1.1"), (Times::Micros, true));
    assert_eq!(of("26.9.2.1"), (Times::Micros, true));
    assert_eq!(of("?"), (Times::Seconds, false));
}

#[test]
fn a_line_has_the_instance_then_every_column_then_the_version() {
    let shape = Shape::of(SinkTable::Metrics);
    let mut row: Row = vec![Value::Null; shape.columns.len() - 1];
    row[0] = Value::Text("id\t1".to_owned());
    row[1] = Value::Integer(1_500_000);
    let lot = Lot::new(
        SinkTable::Metrics,
        vec![Entry {
            id: String::new(),
            row,
        }],
    );
    let owner = Owner {
        instance: "eu\\1".to_owned(),
        ledger: "l".to_owned(),
    };
    let lines = lines(&shape, &lot, (Reader::ClickHouse(Times::Micros), &owner), 7);
    let line = String::from_utf8(lines).unwrap();
    assert!(
        line.starts_with("eu\\\\1\tid\\t1\t1970-01-01 00:00:01.500000\t\\N\t"),
        "{line}"
    );
    assert!(line.ends_with("\t\\N\t7\n"));
    assert_eq!(line.matches('\t').count(), shape.columns.len());
}

#[test]
fn a_refusal_is_about_rows_by_its_code_and_shows_no_values_of_them() {
    let of = |code: Option<&str>, body: &'static str| {
        let answer = http::Response::builder().status(500);
        let answer = code
            .into_iter()
            .fold(answer, |it, code| it.header(CODE, code));
        let answer = Response::from(answer.body(body).unwrap());
        refusal(&answer, body).unwrap()
    };
    let broken = "Code: 469. DB::Exception: Constraint `c` is violated at row 1. Expression: \
                  (agent_name != 'x'). Column values: agent_name = 'SECRET'. (VIOLATED_CONSTRAINT)";
    let told = of(Some("469"), broken);
    assert!(told.is_about_rows && told.text.ends_with("(agent_name != 'x')."));
    let garbled = "Code: 27. DB::Exception: Cannot parse input: expected '\\t' before: 'SECRET'";
    let told = of(None, garbled);
    assert!(told.is_about_rows && told.text.ends_with("expected '\\t'"));
    assert!(of(Some("349"), "Cannot insert NULL value").is_about_rows);
    // Too many parts: it works again when they are merged.
    for code in ["241", "252", "516"] {
        assert!(!of(Some(code), "Later").is_about_rows, "{code}");
    }
    assert!(!of(None, "<html>413</html>").is_about_rows);
}

#[test]
fn a_text_cannot_leave_its_quotes() {
    assert_eq!(quoted("a'; DROP"), "'a\\'; DROP'");
    assert_eq!(quoted("a\\"), "'a\\\\'");
    assert!(Label::parse("a'b").is_ok(), "so a name may have one");
}

#[test]
fn the_place_of_each_table_is_its_own_and_the_greatest_version_is_of_all() {
    let lines = "metrics\t1-2-a\t7\ncalls\t1-3-b\t5\n";
    let found = known(&[SinkTable::Calls, SinkTable::Decisions], lines);
    assert_eq!(found.places, [Some("1-3-b".to_owned()), None]);
    assert_eq!(found.version, 7);
    assert_eq!(known(&[SinkTable::Calls], "").places, [None]);
}
