use std::collections::BTreeMap;
use std::fmt::Write;

use super::*;
use crate::core::alert::Rule;
use crate::core::call::{Operation, Outcome, Timings};
use crate::core::id::CallId;
use crate::core::loops::finding::Signal;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;
use crate::core::usage::{Provenance, Usage};

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn settlement() -> Settlement {
    Settlement {
        id: CallId::from_bytes([1; 16]),
        started_at: Timestamp::from_micros(0),
        agent: label("planner"),
        caller: None,
        run: None,
        parent_run: None,
        upstream: label("openai"),
        operation: Operation::Chat,
        model: Some(label("gpt-5")),
        outcome: Outcome::Completed,
        status: Some(200),
        usage: Usage {
            input_tokens: 1200,
            output_tokens: 80,
            cache_read_input_tokens: 1000,
            reasoning_output_tokens: 30,
            ..Usage::default()
        },
        provenance: Provenance::Reported,
        cost: Some(NanoUsd::new(2_500_000)),
        cost_source: None,
        response_model: None,
        response_id: None,
        service_tier: None,
        finish_reasons: Vec::new(),
        timings: Timings {
            forwarded_us: Some(150),
            head_us: Some(200_000),
            first_chunk_us: Some(300_150),
            total_us: 2_000_000,
        },
        request_bytes: 5000,
        response_bytes: 900,
        error: None,
        response: None,
        chunks: Vec::new(),
        charges: Vec::new(),
        settled_at: None,
        is_pending: false,
        headers: None,
        instance: None,
    }
}

/// One event of every kind.
fn exercised() -> Metrics {
    let metrics = Metrics::new();
    metrics.call_admitted(true);
    metrics.call_ended(true);
    metrics.call_settled(&settlement(), true);
    metrics.call_admitted(false);
    metrics.call_ended(false);
    let cost = None;
    metrics.call_settled(
        &Settlement {
            cost,
            outcome: Outcome::Cut,
            ..settlement()
        },
        false,
    );
    metrics.call_admitted(true);
    metrics.call_rejected("body_too_large");
    metrics.refused("budget");
    metrics.budget_refused(&Label::parse("each run").unwrap());
    metrics.loop_stopped(Signal::Repeat);
    metrics.alert(Rule::BudgetSpent);
    metrics.alert_messages(MessageResult::Sent, 1);
    metrics.upstream_fault(&label("openai"), "connect");
    metrics.ignored_header();
    metrics.connection_opened();
    metrics.connection_opened();
    metrics.connection_closed();
    metrics.config_reload(true);
    metrics.config_reload(false);
    let figures = LedgerFigures {
        failing: true,
        queued_records: 3,
        syncs: 7,
        sync_us: 1_500_000,
        dropped_records: 2,
        ..LedgerFigures::default()
    };
    metrics.ledger(&figures, vec![(0.25, 5), (0.5, 1), (f64::INFINITY, 1)]);
    metrics
}

#[track_caller]
fn check_line(page: &str, line: &str) {
    assert!(
        page.lines().any(|found| found == line),
        "no line {line:?} in\n{page}"
    );
}

#[test]
fn a_settled_call_is_counted_under_its_labels() {
    let page = exercised().render();
    check_line(
        &page,
        r#"open_aiops_calls_total{operation="chat",upstream="openai",model="gpt-5",agent="planner",outcome="completed",status_class="2xx"} 1"#,
    );
    let spend = r#"upstream="openai",model="gpt-5",agent="planner""#;
    check_line(
        &page,
        &format!(r#"open_aiops_tokens_total{{type="input",provenance="reported",{spend}}} 2400"#),
    );
    check_line(
        &page,
        &format!(r#"open_aiops_tokens_total{{type="reasoning",provenance="reported",{spend}}} 60"#),
    );
    check_line(
        &page,
        &format!("open_aiops_cost_nano_usd_total{{{spend}}} 2500000"),
    );
    check_line(
        &page,
        &format!("open_aiops_unpriced_calls_total{{{spend}}} 1"),
    );
}

#[test]
fn a_call_that_used_nothing_is_not_unpriced() {
    let metrics = Metrics::new();
    let call = Settlement {
        cost: None,
        usage: Usage::default(),
        ..settlement()
    };
    metrics.call_settled(&call, false);
    assert!(
        !metrics
            .render()
            .contains("open_aiops_unpriced_calls_total{")
    );
}

#[test]
fn gauges_follow_admissions_settlements_and_connections() {
    let page = exercised().render();
    check_line(&page, "open_aiops_calls_in_flight 1");
    check_line(&page, "open_aiops_streams_open 1");
    check_line(&page, "open_aiops_connections 1");
    check_line(&page, "open_aiops_connections_opened_total 2");
}

#[test]
fn time_to_first_chunk_is_measured_from_the_forwarded_request_and_for_streams_only() {
    let page = exercised().render();
    let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_response_model="gpt-5""#;
    let name = "gen_ai_client_operation_time_to_first_chunk_seconds";
    check_line(&page, &format!("{name}_count{{{labels}}} 1"));
    check_line(&page, &format!("{name}_sum{{{labels}}} 0.3"));
}

#[test]
fn a_failed_call_carries_its_outcome_as_error_type() {
    let page = exercised().render();
    let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_response_model="gpt-5""#;
    let name = "gen_ai_client_operation_duration_seconds_count";
    check_line(&page, &format!(r#"{name}{{{labels},error_type="cut"}} 1"#));
    check_line(&page, &format!(r#"{name}{{{labels},error_type=""}} 1"#));
}

#[test]
fn the_figures_of_the_ledger_are_mirrored_not_added() {
    let metrics = exercised();
    let page = metrics.render();
    let name = "open_aiops_ledger_sync_seconds";
    check_line(&page, &format!("{name}_sum 1.5"));
    check_line(&page, &format!(r#"{name}_bucket{{le="0.5"}} 6"#));
    check_line(&page, &format!(r#"{name}_bucket{{le="+Inf"}} 7"#));
    let figures = LedgerFigures {
        syncs: 9,
        ..LedgerFigures::default()
    };
    metrics.ledger(&figures, vec![(0.25, 9), (f64::INFINITY, 0)]);
    let page = metrics.render();
    check_line(&page, &format!("{name}_count 9"));
    check_line(&page, &format!(r#"{name}_bucket{{le="+Inf"}} 9"#));
    check_line(&page, "open_aiops_ledger_failing 0");
    check_line(&page, "open_aiops_ledger_dropped_records_total 0");
}

#[test]
fn label_values_beyond_the_bound_are_counted_as_other() {
    let metrics = Metrics::new();
    for i in 0..250 {
        let agent = label(&format!("agent-{i}"));
        metrics.call_settled(
            &Settlement {
                agent,
                ..settlement()
            },
            false,
        );
    }
    metrics.call_settled(
        &Settlement {
            agent: label("agent-3"),
            ..settlement()
        },
        false,
    );
    let page = metrics.render();
    let series = |agent: &str| {
        format!(
            r#"open_aiops_calls_total{{operation="chat",upstream="openai",model="gpt-5",agent="{agent}",outcome="completed",status_class="2xx"}}"#
        )
    };
    check_line(&page, &format!("{} 2", series("agent-3")));
    check_line(&page, &format!("{} 150", series("other")));
    assert!(!page.contains("agent-100\""));
}

#[test]
fn names_of_core_enums_are_the_same_in_metrics_and_json() {
    for name in <Operation as strum::VariantNames>::VARIANTS {
        let operation: Operation = serde_json::from_value((*name).into()).unwrap();
        assert_eq!(<&str>::from(operation), *name);
    }
    for name in <Outcome as strum::VariantNames>::VARIANTS {
        let outcome: Outcome = serde_json::from_value((*name).into()).unwrap();
        assert_eq!(<&str>::from(outcome), *name);
    }
}

/// Type, help and label names per metric, as scraped.
fn scraped(page: &str) -> BTreeMap<String, (String, String, Vec<String>)> {
    let mut metrics = BTreeMap::new();
    let mut kind = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.split(' ').nth(1).unwrap();
            let name = rest.split(' ').next().unwrap();
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let help = help_of(page, name);
            metrics.insert(
                format!("{name}{suffix}"),
                (kind.to_owned(), help, Vec::new()),
            );
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let name = if kind == "histogram" {
                strip_histogram(name)
            } else {
                name
            };
            let names = labels
                .trim_end_matches('}')
                .split("\",")
                .filter_map(|l| l.split_once('='));
            let entry = metrics
                .get_mut(name)
                .unwrap_or_else(|| panic!("no TYPE for {name}"));
            entry.2 = names
                .map(|(name, _)| name.to_owned())
                .filter(|name| name != "le")
                .collect();
        }
    }
    metrics
}

fn help_of(page: &str, name: &str) -> String {
    let prefix = format!("# HELP {name} ");
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .unwrap();
    line.trim_end_matches('.').to_owned()
}

fn strip_histogram(name: &str) -> &str {
    ["_sum", "_count", "_bucket"]
        .iter()
        .find_map(|s| name.strip_suffix(s))
        .unwrap_or(name)
}

fn unit(name: &str) -> &'static str {
    match name.trim_end_matches("_total") {
        name if name.ends_with("_seconds") => "s",
        name if name.ends_with("_bytes") => "bytes",
        name if name.ends_with("_nano_usd") => "1e-9 USD",
        name if name.ends_with("_tokens") || name.ends_with("_token_usage") => "tokens",
        _ => "",
    }
}

/// Set `UPDATE_DOCS=1` to write the table anew.
#[test]
fn docs_list_every_metric_as_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let docs = std::fs::read_to_string(path).unwrap();
    let mut table = String::new();
    for (name, (kind, help, labels)) in scraped(&exercised().render()) {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        writeln!(
            table,
            "| `{name}` | {kind} | {labels} | {} | {help} |",
            unit(&name)
        )
        .unwrap();
    }
    let rows: String = docs
        .split_inclusive('\n')
        .filter(|l| l.starts_with("| `"))
        .collect();
    if rows == table {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_DOCS").is_some(),
        "docs/metrics.md should list\n{table}"
    );
    let start = docs.find("\n| --- ").unwrap() + 1;
    let start = start + docs[start..].find('\n').unwrap() + 1;
    let end = start + rows.len();
    std::fs::write(path, format!("{}{table}{}", &docs[..start], &docs[end..])).unwrap();
}
