use std::collections::BTreeMap;
use std::fmt::Write;

use super::*;
use crate::core::alert::Rule;
use crate::core::budget::Measure;
use crate::core::budget::fill::{Fill, Fullest};
use crate::core::call::{Operation, Outcome, Timings};
use crate::core::id::CallId;
use crate::core::loops::finding::Signal;
use crate::core::metric::{Subject, Value};
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

fn measurement() -> Measurement {
    Measurement {
        at: Timestamp::from_micros(0),
        name: "score".to_owned(),
        value: Value::Number(0.5),
        subject: Subject::Agent(label("planner")),
        who: label("judge"),
        note: None,
        key: None,
        run: None,
        agent: None,
        charged: None,
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
    metrics.otel_exported(Otel::Traces, 3);
    metrics.otel_dropped(Otel::Traces, Loss::Late, 2);
    metrics.otel_failed(Otel::Metrics);
    metrics.otel_lag(4096);
    metrics.measured(&measurement(), None);
    metrics.connection_opened();
    metrics.connection_opened();
    metrics.connection_closed();
    metrics.sink_rows(&label("warehouse"), "calls", 3);
    metrics.sink_refused(&label("warehouse"), 1);
    metrics.sink_gap(&label("warehouse"));
    metrics.sink_failed(&label("warehouse"), Some(7));
    metrics.sink_reached(
        &label("warehouse"),
        0,
        Some(Timestamp::from_micros(9_999_999)),
    );
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
    let mut syncs = Latencies::default();
    for millis in [100, 100, 50, 50, 100, 100, 1000] {
        syncs.add(millis * 1000);
    }
    metrics.ledger(&figures, syncs);
    mirrored(&metrics);
    metrics
}

/// What is looked up when metrics are scraped.
fn mirrored(metrics: &Metrics) {
    metrics.budgets(&[Fullest {
        budget: label("each run"),
        accounts: 12,
        fills: vec![
            Fill {
                measure: Measure::Usd,
                used: 1_500_000_000,
                limit: 2_000_000_000,
            },
            Fill {
                measure: Measure::Metric,
                used: 7_500_000,
                limit: 5_000_000,
            },
            Fill {
                measure: Measure::Calls,
                used: 0,
                limit: 0,
            },
        ],
    }]);
    metrics.watched_runs(5, 2);
    metrics.open_alerts(&[(Rule::BudgetSpent, 3)]);
    metrics.bounds(&BoundFigures {
        connections: 4096,
        body_bytes: 1 << 30,
        queue_bytes: 64 << 20,
        free_bytes: Some(10_000_000_000),
    });
    metrics.process(&ProcessFigures {
        started_at_seconds: Some(1_793_536_200.5),
        cpu_seconds: Some(1.25),
        resident_bytes: Some(30e6),
        virtual_bytes: Some(900e6),
        open_files: Some(25.0),
        most_files: Some(1024.0),
        threads: Some(4.0),
    });
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
    let page = exercised().render(Exposition::OpenMetrics);
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
            .render(Exposition::OpenMetrics)
            .contains("open_aiops_unpriced_calls_total{")
    );
}

#[test]
fn gauges_follow_admissions_settlements_and_connections() {
    let page = exercised().render(Exposition::OpenMetrics);
    check_line(&page, "open_aiops_calls_in_flight 1");
    check_line(&page, "open_aiops_streams_open 1");
    check_line(&page, "open_aiops_connections 1");
    check_line(&page, "open_aiops_connections_opened_total 2");
}

#[test]
fn time_to_first_chunk_is_measured_from_the_forwarded_request_and_for_streams_only() {
    let page = exercised().render(Exposition::OpenMetrics);
    let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_response_model="gpt-5""#;
    let name = "gen_ai_client_operation_time_to_first_chunk_seconds";
    check_line(&page, &format!("{name}_count{{{labels}}} 1"));
    check_line(&page, &format!("{name}_sum{{{labels}}} 0.3"));
}

#[test]
fn a_failed_call_carries_its_outcome_as_error_type() {
    let page = exercised().render(Exposition::OpenMetrics);
    let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_response_model="gpt-5""#;
    let name = "gen_ai_client_operation_duration_seconds_count";
    check_line(&page, &format!(r#"{name}{{{labels},error_type="cut"}} 1"#));
    check_line(&page, &format!(r#"{name}{{{labels},error_type=""}} 1"#));
}

#[test]
fn a_sink_that_is_configured_no_more_fails_no_more() {
    let metrics = exercised();
    let page = metrics.render(Exposition::OpenMetrics);
    check_line(
        &page,
        r#"open_aiops_sink_rows_total{sink="warehouse",table="calls"} 3"#,
    );
    check_line(
        &page,
        r#"open_aiops_sink_failures_total{sink="warehouse"} 1"#,
    );
    check_line(&page, r#"open_aiops_sink_failing{sink="warehouse"} 0"#);
    check_line(
        &page,
        r#"open_aiops_sink_delivered_timestamp_seconds{sink="warehouse"} 9"#,
    );
    metrics.sink_gone(&label("warehouse"));
    let page = metrics.render(Exposition::OpenMetrics);
    assert!(!page.contains("open_aiops_sink_failing{") && !page.contains("sink_lag_bytes{"));
    check_line(
        &page,
        r#"open_aiops_sink_failures_total{sink="warehouse"} 1"#,
    );
}

#[test]
fn the_figures_of_the_ledger_are_mirrored_not_added() {
    let metrics = exercised();
    let page = metrics.render(Exposition::OpenMetrics);
    let name = "open_aiops_ledger_sync_seconds";
    check_line(&page, &format!("{name}_sum 1.5"));
    check_line(&page, &format!(r#"{name}_bucket{{le="0.5"}} 6"#));
    check_line(&page, &format!(r#"{name}_bucket{{le="+Inf"}} 7"#));
    let figures = LedgerFigures {
        syncs: 9,
        ..LedgerFigures::default()
    };
    let mut syncs = Latencies::default();
    for _ in 0..9 {
        syncs.add(100_000);
    }
    metrics.ledger(&figures, syncs);
    let page = metrics.render(Exposition::OpenMetrics);
    check_line(&page, &format!("{name}_count 9"));
    check_line(&page, &format!(r#"{name}_bucket{{le="+Inf"}} 9"#));
    check_line(&page, "open_aiops_ledger_failing 0");
    check_line(&page, "open_aiops_ledger_dropped_records_total 0");
}

#[test]
fn budgets_tell_how_full_they_are_and_what_is_left_in_units_of_people() {
    let page = exercised().render(Exposition::OpenMetrics);
    for (measure, used, left) in [
        ("usd", "0.75", "0.5"),
        ("metric", "1.5", "-2.5"),
        ("calls", "1.0", "0.0"),
    ] {
        let labels = format!(r#"{{budget="each run",measure="{measure}"}}"#);
        check_line(
            &page,
            &format!("open_aiops_budget_used_ratio{labels} {used}"),
        );
        check_line(&page, &format!("open_aiops_budget_left{labels} {left}"));
    }
    check_line(
        &page,
        r#"open_aiops_budget_accounts{budget="each run"} 12.0"#,
    );
}

#[test]
fn what_is_looked_up_again_leaves_nothing_of_before() {
    let metrics = exercised();
    metrics.budgets(&[]);
    metrics.open_alerts(&[]);
    metrics.process(&ProcessFigures::default());
    let page = metrics.render(Exposition::OpenMetrics);
    assert!(!page.contains("open_aiops_budget_left{"), "{page}");
    check_line(&page, r#"open_aiops_alerts_open{rule="budget_spent"} 0.0"#);
    assert!(!page.contains("\nprocess_open_fds "), "{page}");
}

#[test]
fn what_can_be_named_beforehand_is_there_from_the_start() {
    let metrics = Metrics::new();
    metrics.foresee(&["budget_spent"], &["body_too_large"]);
    metrics.foresee_upstream(&label("openai"), &["upstream_timeout"]);
    metrics.foresee_budget(&label("each run"));
    let page = metrics.render(Exposition::Text);
    for line in [
        r#"open_aiops_refusals_total{reason="budget_spent"} 0"#,
        r#"open_aiops_rejects_total{kind="body_too_large"} 0"#,
        r#"open_aiops_upstream_faults_total{upstream="openai",kind="upstream_timeout"} 0"#,
        r#"open_aiops_budget_refusals_total{budget="each run"} 0"#,
        r#"open_aiops_loops_stopped_total{signal="repeat"} 0"#,
        r#"open_aiops_alerts_total{rule="ledger_failed"} 0"#,
        r#"open_aiops_alerts_open{rule="ledger_failed"} 0.0"#,
        r#"open_aiops_alert_messages_total{result="held_back"} 0"#,
        r#"open_aiops_config_reloads_total{result="error"} 0"#,
    ] {
        check_line(&page, line);
    }
}

/// However many of each there are, together they would be more by far.
#[test]
fn label_sets_of_one_metric_are_bounded_together_and_no_count_is_lost() {
    let metrics = Metrics::new();
    let calls = 150 * 40;
    for i in 0..calls {
        let call = Settlement {
            agent: label(&format!("agent-{}", i % 150)),
            model: Some(label(&format!("model-{}", i / 150))),
            ..settlement()
        };
        metrics.call_settled(&call, true);
    }
    let page = metrics.render(Exposition::OpenMetrics);
    let series = |start: &str| {
        let all = page.lines().filter(|line| line.starts_with(start));
        all.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .collect::<Vec<_>>()
    };
    let counted = series("open_aiops_calls_total{");
    assert_eq!(counted.len(), bounded::MOST + 1);
    assert_eq!(counted.iter().sum::<u64>(), calls);
    let durations = series("gen_ai_client_operation_duration_seconds_count{");
    assert!(durations.len() <= bounded::MOST_HISTOGRAMS + 1);
    assert_eq!(durations.iter().sum::<u64>(), calls);
    assert!(page.contains(r#"upstream="other",model="other",agent="other""#));
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
    let page = metrics.render(Exposition::OpenMetrics);
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
    for (name, (kind, help, labels)) in scraped(&exercised().render(Exposition::OpenMetrics)) {
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
