//! What is shipped beside the program fits it: dashboards and alerts name metrics that there are, and the
//! documents name every rule that alerts go by.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use open_aiops::core::alert::Rule;
use regex::Regex;
use serde_json::Value;
use strum::IntoEnumIterator;

/// What Prometheus itself puts on every series, and the bound of a bucket.
const OF_PROMETHEUS: [&str; 3] = ["job", "instance", "le"];

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

/// The documented metrics, which are those of the registry, with their labels; histograms by the
/// names of their series.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let row = pattern(r"(?m)^\| `(\w+)` \| (\w+) \| ([^|]*) \|");
    let label = pattern(r"`(\w+)`");
    let mut metrics = BTreeMap::new();
    for found in row.captures_iter(&read("docs/metrics.md")) {
        let labels = label.captures_iter(&found[3]).map(|it| it[1].to_owned());
        let labels: BTreeSet<String> = labels.collect();
        let suffixes: &[&str] = if &found[2] == "histogram" {
            &["_bucket", "_sum", "_count"]
        } else {
            &[""]
        };
        for suffix in suffixes {
            metrics.insert(format!("{}{suffix}", &found[1]), labels.clone());
        }
    }
    assert!(metrics.len() > 40, "{metrics:?}");
    metrics
}

/// Every query of the dashboard, those of its variables too.
fn dashboard_queries(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "expr" || name == "definition" => {
                        found.push(text.clone());
                    }
                    other => dashboard_queries(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| dashboard_queries(item, found)),
        _ => {}
    }
}

/// The `expr` of each rule; it ends where the next key begins.
fn rule_queries() -> Vec<String> {
    let rule = pattern(r"(?s)expr: (.*?)\n\s+(?:for|labels):");
    let rules = read("deploy/prometheus/alerts.yml");
    let queries: Vec<String> = rule
        .captures_iter(&rules)
        .map(|found| found[1].to_owned())
        .collect();
    assert_eq!(queries.len(), rules.matches("- alert:").count());
    queries
}

/// What is wrong with a query, by the metrics there are; and which it names.
fn check(
    query: &str,
    metrics: &BTreeMap<String, BTreeSet<String>>,
) -> Result<BTreeSet<String>, String> {
    let grouping = pattern(r"\b(?:by|on|without|ignoring) \(([^)]*)\)");
    let series = pattern(r"\b((?:open_aiops|gen_ai|process)_\w+)(?:\{([^}]*)\})?");
    let asked = pattern(r"(\w+)\s*(?:=|!=|=~|!~)");
    let (mut named, mut known) = (BTreeSet::new(), BTreeSet::new());
    for found in series.captures_iter(&grouping.replace_all(query, "")) {
        let name = &found[1];
        let labels = metrics.get(name);
        let labels = labels.ok_or_else(|| format!("there is no metric {name}"))?;
        for label in asked.captures_iter(found.get(2).map_or("", |it| it.as_str())) {
            if !labels.contains(&label[1]) && !OF_PROMETHEUS.contains(&&label[1]) {
                return Err(format!("{name} has no label {}", &label[1]));
            }
        }
        named.insert(name.to_owned());
        known.extend(labels.iter().cloned());
    }
    for found in grouping.captures_iter(query) {
        for label in found[1].split(',').map(str::trim) {
            if !known.contains(label) && !OF_PROMETHEUS.contains(&label) {
                return Err(format!("no metric of it has a label {label}"));
            }
        }
    }
    Ok(named)
}

#[track_caller]
fn check_all(queries: &[String]) -> BTreeSet<String> {
    let metrics = documented();
    let checked = queries
        .iter()
        .map(|query| check(query, &metrics).unwrap_or_else(|problem| panic!("{problem}: {query}")));
    checked.flatten().collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/open-aiops.json")).unwrap()
}

#[test]
fn the_grafana_dashboard_shows_metrics_that_there_are_and_leaves_none_out() {
    let mut queries = Vec::new();
    dashboard_queries(&dashboard(), &mut queries);
    let shown = check_all(&queries);
    let metrics = documented();
    let is_shown = |name: &str| {
        let whole = name
            .trim_end_matches("_bucket")
            .trim_end_matches("_sum")
            .trim_end_matches("_count");
        shown.iter().any(|it| it.starts_with(whole))
    };
    // Values of single measurements are for the pages; the totals of these two are shown.
    let apart = [
        "open_aiops_custom_metric_last",
        "open_aiops_custom_metric_dropped_total",
        "open_aiops_ledger_segments",
        "process_virtual_memory_bytes",
    ];
    let missing: Vec<_> = metrics
        .keys()
        .filter(|name| !is_shown(name) && !apart.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "not on the dashboard: {missing:?}");
}

#[test]
fn alert_rules_are_about_metrics_that_there_are() {
    let named = check_all(&rule_queries());
    assert!(named.contains("open_aiops_ledger_failing"));
}

#[test]
fn the_documents_list_every_rule_of_alerts_with_its_severity_and_no_other() {
    let row = pattern(r"(?m)^\| `(\w+)` \| (info|warning|critical) \| [^|]+ \| [^|]+ \|$");
    let documents = read("docs/configuration.md");
    let rows = row.captures_iter(&documents);
    let documented: BTreeSet<[&str; 2]> = rows.map(|found| found.extract().1).collect();
    let rules = Rule::iter().map(|rule| [rule.name(), rule.severity().name()]);
    assert_eq!(documented, rules.collect::<BTreeSet<_>>());
}

#[test]
fn queries_with_wrong_names_are_found() {
    let metrics = documented();
    for (query, wrong) in [
        ("rate(open_aiops_call_total[5m])", "no metric"),
        ("open_aiops_calls_total{agnt=\"a\"}", "no label agnt"),
        (
            "sum by (agent, provenance) (open_aiops_calls_total)",
            "label provenance",
        ),
        ("open_aiops_overhead_seconds", "no metric"),
    ] {
        let problem = check(query, &metrics).unwrap_err();
        assert!(problem.contains(wrong), "{query}: {problem}");
    }
    let good = "sum by (le, gen_ai_response_model) (rate(gen_ai_client_operation_duration_seconds_bucket{job=\"x\"}[5m]))";
    assert_eq!(check(good, &metrics).unwrap().len(), 1);
}

#[test]
fn panels_of_the_dashboard_have_numbers_of_their_own_and_ask_the_chosen_source() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["id"]);
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{target}");
        }
    }
}
