//! From recorded bodies to findings.

use bytes::Bytes;

use super::*;
use crate::admin::sample::{self, PLANNER, Sample, label};
use crate::core::money::NanoUsd;
use crate::core::suggest::{Rule, Settings};
use crate::core::usage::Usage;
use crate::ledger::Capture;

fn body(text: &str) -> Capture {
    Capture {
        chunks: vec![Bytes::copy_from_slice(text.as_bytes())],
        len: text.len() as u64,
        ..Capture::default()
    }
}

/// Records a call of a minute later: 10,000 tokens in and 50 out of gpt-5.
fn record(sample: &Sample, request: &str, answer: &str) {
    sample.clock.advance_micros(60_000_000);
    let admission = sample::admission(sample.clock.call_id(), sample.clock.now(), PLANNER);
    let entry = sample
        .ledger
        .admit(admission.clone(), Some(body(request)))
        .unwrap();
    let mut settlement = sample::settlement(admission, PLANNER, Outcome::Completed);
    settlement.usage = Usage {
        input_tokens: 10_000,
        output_tokens: 50,
        ..Usage::default()
    };
    // gpt-5: 1.25 USD a million in, 10 out.
    settlement.cost = Some(NanoUsd::new(13_000_000));
    settlement.request_bytes = request.len() as u64;
    entry.settle(settlement, Some(body(answer)));
}

fn ask(sample: &Sample) -> Report {
    suggest(
        sample.ledger.view(),
        &Question::default(),
        &Config::default(),
    )
    .unwrap()
}

fn answer(text: &str) -> String {
    format!(r#"{{"choices":[{{"message":{{"role":"assistant","content":"{text}"}}}}]}}"#)
}

#[test]
fn a_time_in_recorded_instructions_is_found_shown_and_priced() {
    let sample = Sample::new();
    let rules = "Follow each of these rules with care. ".repeat(400);
    for n in 10..15 {
        let system =
            format!(r#"{{"role":"system","content":"Now: 2026-11-01T10:00:{n}Z. {rules}"}}"#);
        let user = format!(r#"{{"role":"user","content":"question {n}"}}"#);
        let request = format!(r#"{{"model":"gpt-5","messages":[{system},{user}]}}"#);
        record(&sample, &request, &answer(&format!("said {n}")));
    }
    let report = ask(&sample);
    let [found] = report.findings.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!((found.rule, found.call_count), (Rule::CacheBroken, 4));
    let change = found.evidence.last().unwrap();
    assert_eq!(change.what, "first difference: a time or date");
    assert!(
        change.value.contains("2026-11-01T10:00:10Z"),
        "{}",
        change.value
    );
    // All but the share of the question, at 1.25 USD less 0.125 USD a million.
    let system = 38 * 400 + 27 + 30;
    let share = 10_000 * system / (system + r#"{"role":"user","content":"question 10"}"#.len());
    let tokens = found.saving.tokens / 4;
    assert!(tokens.abs_diff(share as u64) <= 1, "{tokens} and {share}");
    let nano = found.saving.nano_usd.unwrap().get();
    assert_eq!(nano, 4 * i64::try_from(tokens).unwrap() * 1_125_000 / 1000);
    assert_eq!(report.spent_nano_usd, NanoUsd::new(5 * 13_000_000));
}

#[test]
fn a_healthy_ledger_has_no_finding() {
    let sample = Sample::new();
    let mut messages = vec![r#"{"role":"system","content":"You plan trips."}"#.to_owned()];
    for n in 0..12 {
        messages.push(format!(r#"{{"role":"user","content":"question {n}"}}"#));
        let request = format!(r#"{{"model":"gpt-5","messages":[{}]}}"#, messages.join(","));
        record(&sample, &request, &answer(&format!("answer {n}")));
        messages.push(format!(r#"{{"role":"assistant","content":"answer {n}"}}"#));
    }
    let report = ask(&sample);
    assert_eq!(
        (report.findings, report.below, report.calls, report.unread),
        (Vec::new(), 0, 12, 0)
    );
}

#[test]
fn an_unused_tool_is_found_by_its_name_and_an_agent_that_is_not_asked_for_is_not() {
    let sample = Sample::new();
    let tool = |name: &str| {
        let about = "Does what it says. ".repeat(20);
        format!(r#"{{"type":"function","function":{{"name":"{name}","description":"{about}"}}}}"#)
    };
    for n in 0..20 {
        let tools = [tool("search"), tool("deploy")].join(",");
        let user = format!(r#"{{"role":"user","content":"question {n}"}}"#);
        let request = format!(r#"{{"model":"gpt-5","messages":[{user}],"tools":[{tools}]}}"#);
        let said = format!(
            r#"{{"choices":[{{"message":{{"role":"assistant","tool_calls":[{{"id":"c","type":"function","function":{{"name":"search","arguments":"{{\"q\":{n}}}"}}}}]}}}}]}}"#
        );
        record(&sample, &request, &said);
    }
    let report = ask(&sample);
    let rules: Vec<Rule> = report.findings.iter().map(|it| it.rule).collect();
    assert_eq!(rules, [Rule::UnusedTools]);
    assert!(report.findings[0].sentence.ends_with(": deploy."));
    let other = Question {
        agent: Some(label("researcher")),
        ..Question::default()
    };
    let report = suggest(sample.ledger.view(), &other, &Config::default()).unwrap();
    assert_eq!((report.calls, report.findings.len()), (0, 0));
    assert_eq!(Config::default().suggestions, Settings::default());
}
