use super::*;

fn known(shape: &Shape) -> Vec<String> {
    let names = shape.columns.iter().map(|it| it.name.to_owned());
    names.chain(["written_at".to_owned()]).collect()
}

fn complete() -> Found {
    let shapes = SinkTable::ALL.map(Shape::of);
    let tables = shapes
        .iter()
        .map(|shape| (shape.name().to_owned(), known(shape)));
    let others = ["schema_version", "position"].map(|name| (name.to_owned(), Vec::new()));
    tables.chain(others).collect()
}

#[test]
fn a_database_that_has_all_is_told_nothing() {
    let told = postgres("aiops", &SinkTable::ALL, Some(&complete()));
    assert_eq!(told, Vec::<String>::new());
    let told = clickhouse("aiops", &SinkTable::ALL, &complete(), Times::Micros);
    assert_eq!(told, Vec::<String>::new());
}

#[test]
fn an_empty_one_gets_every_exported_column_of_each_table_with_its_meaning() {
    let all = postgres("aiops", &SinkTable::ALL, None).join("\n");
    let other = clickhouse("aiops", &SinkTable::ALL, &Found::new(), Times::Micros).join("\n");
    for shape in SinkTable::ALL.map(Shape::of) {
        for column in &shape.columns {
            let (name, kind) = (column.name, postgres_type(column.kind));
            assert!(all.contains(&format!("\"{name}\" {kind}")), "{name}");
            assert!(all.contains(&format!(
                ".\"{name}\" IS '{}'",
                column.doc.replace('\'', "''")
            )));
            let kind = clickhouse_type(column.kind, Times::Micros);
            let [plain, null] = [
                format!("`{name}` {kind} "),
                format!("`{name}` Nullable({kind}) "),
            ];
            assert!(
                other.contains(&plain) || other.contains(&null),
                "{name}: {other}"
            );
        }
    }
}

#[test]
fn a_table_of_an_earlier_version_gets_what_it_lacks_and_loses_nothing() {
    let mut found = complete();
    let calls = found.get_mut("calls").unwrap();
    calls.retain(|name| name != "user" && name != "cost_usd" && name != "written_at");
    calls.push("of_their_own".to_owned());
    let told = postgres("aiops", &SinkTable::ALL, Some(&found));
    assert_eq!(told.len(), 5, "{told:?}");
    let add = "ALTER TABLE \"aiops\".\"calls\" ADD COLUMN IF NOT EXISTS";
    assert_eq!(told[0], format!("{add} \"user\" text"));
    assert_eq!(told[2], format!("{add} \"cost_usd\" numeric(19,9)"));
    assert!(told[4].contains("written_at"));
    let told = clickhouse("aiops", &SinkTable::ALL, &found, Times::Micros);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with(
        "ALTER TABLE `aiops`.`calls` ADD COLUMN IF NOT EXISTS `user` Nullable(String)"
    ));
}

#[test]
fn only_the_tables_that_are_wanted_are_made() {
    let told = postgres("aiops", &[SinkTable::Decisions], None).join("\n");
    assert!(told.contains("\"decisions\"") && !told.contains("\"calls\""));
    let told = clickhouse("aiops", &[SinkTable::Metrics], &Found::new(), Times::Micros).join("\n");
    assert!(told.contains("`metrics`") && !told.contains("`decisions`"));
}

#[test]
fn a_row_replaces_the_one_of_its_key_in_all_but_the_key() {
    let upsert = postgres_upsert("aiops", &Shape::of(SinkTable::Decisions));
    assert!(upsert.contains("ON CONFLICT (\"instance\", \"id\") DO UPDATE SET \"at\" = "));
    assert!(!upsert.contains("\"id\" = excluded") && !upsert.contains("\"instance\" = excluded"));
    let columns = Shape::of(SinkTable::Decisions).columns.len();
    assert!(upsert.contains(&format!("${columns}::text[]")));
    assert!(!upsert.contains(&format!("${}::text[]", columns + 1)));
}

#[test]
fn what_may_change_its_time_is_not_parted_by_it() {
    let told = clickhouse("aiops", &SinkTable::ALL, &Found::new(), Times::Micros);
    let of = |name: &str| {
        told.iter()
            .find(|it| it.contains(&format!(".`{name}` (")))
            .unwrap()
    };
    assert!(of("calls").ends_with(
        "PARTITION BY toYYYYMM(`started_at`) ORDER BY (`instance`, `started_at`, `call_id`)"
    ));
    assert!(of("metrics").ends_with("(`version`) ORDER BY (`instance`, `id`)"));
}

#[test]
fn an_old_server_is_told_nothing_it_does_not_know() {
    let mut found = complete();
    found
        .get_mut("calls")
        .unwrap()
        .retain(|name| name != "user");
    found.remove("metrics");
    let told = clickhouse("aiops", &SinkTable::ALL, &found, Times::Seconds).join("\n");
    assert!(told.contains("ADD COLUMN `user` Nullable(String)"));
    assert!(!told.contains("DateTime64") && !told.contains("COMMENT"));
}

/// Rows of a table of the documentation that begin with a column's name.
#[test]
fn the_documentation_has_every_column_with_its_types_and_meaning() {
    let docs = include_str!("../../../docs/sinks.md");
    let mut expected = String::new();
    for shape in SinkTable::ALL.map(Shape::of) {
        let _ = write!(
            expected,
            "### `{}`\n\n| column | PostgreSQL | ClickHouse | meaning |\n| --- | --- | --- | --- |\n",
            shape.name()
        );
        for column in &shape.columns {
            let [one, other] = type_names(column.kind);
            let _ = writeln!(
                expected,
                "| `{}` | {one} | {other} | {} |",
                column.name, column.doc
            );
        }
        expected.push('\n');
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let (before, rest) = docs.split_once("<!-- columns -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- /columns -->").unwrap();
        let docs = format!("{before}<!-- columns -->\n{expected}<!-- /columns -->{after}");
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sinks.md"), docs).unwrap();
        return;
    }
    assert!(docs.contains(&expected), "{expected}");
}
