//! What rules take out is on no disk.

use regex::bytes::Regex;

use crate::core::alert::{About, Rule as Alert, Scope, Sent, Signal};
use crate::core::metric::{Measurement, Subject, Value};
use crate::core::recorded::HeaderLines;
use crate::core::redaction::{Redaction, Rule};

use super::super::{Capture, Event, SpanFilter};
use super::harness::*;

fn redacting() -> crate::config::LedgerConfig {
    let pattern = Regex::new("sk-[a-z]+").unwrap();
    let rule = Rule {
        pattern,
        replacement: "[key]".to_owned(),
    };
    crate::config::LedgerConfig {
        redact: Redaction::new(vec![rule]),
        ..config()
    }
}

#[test]
fn redaction_keeps_secrets_out_of_every_part() {
    let machine = Machine::new(redacting());
    let (ledger, _) = machine.open();
    let secret = format!("sk-abc {}", "x".repeat(200));
    let request = conversation(ledger.seed(), &["sk-def".to_owned(), secret.clone()]);
    for _ in 0..2 {
        let admission = machine.call("r", "a");
        let entry = ledger
            .admit(admission.clone(), Some(request.clone()))
            .unwrap();
        entry.settle(settlement(&admission), Some(plain(secret.as_bytes())));
        machine.clock.advance_micros(1000);
        let body = ledger.view().request_body(admission.id).unwrap().unwrap();
        let text = String::from_utf8(body.bytes).unwrap();
        assert!(!body.exact, "redacted the second time, too");
        assert!(text.contains("[key],[key] xxx"), "{text}");
        let body = ledger.view().response_body(admission.id).unwrap().unwrap();
        assert!(body.bytes.starts_with(b"[key] x") && !body.exact);
    }
}

#[test]
fn redaction_looks_into_encoded_bodies_or_does_not_store_them() {
    let machine = Machine::new(redacting());
    let (ledger, _) = machine.open();
    let admission = machine.call("r", "a");
    let encoded = |encoding: &str| super::super::Capture {
        content_encoding: Some(encoding.to_owned()),
        ..plain(b"cba-ks says")
    };
    let entry = ledger
        .admit(admission.clone(), Some(encoded("reversed")))
        .unwrap();
    entry.settle(settlement(&admission), Some(encoded("unknown")));
    let body = ledger.view().request_body(admission.id).unwrap().unwrap();
    assert_eq!(body.bytes, b"syas [key]");
    assert_eq!((body.content_encoding, body.exact), (None, false));
    assert_eq!(ledger.view().response_body(admission.id).unwrap(), None);
}

fn headers(name: &str) -> HeaderLines {
    let mut lines = HeaderLines::default();
    lines.show(name, "a sk-header");
    lines.show(
        "x-long",
        &format!("{} sk-{}", "x".repeat(400), "cut".repeat(100)),
    );
    lines
}

fn event(ledger: &super::super::Ledger, at: crate::core::time::Timestamp) {
    let mut signal = Signal::of(Scope::new(About::Budget, ""));
    signal.delivery = Some(Sent {
        rule: Alert::BudgetSpent,
        webhook: label("ops"),
        answer: "no such token sk-webhook".to_owned(),
    });
    let event = Event::own(at, "alert_failed", Some("refused sk-event".to_owned()));
    block_on(ledger.event(event.saying(signal)).unwrap());
    let long = format!("{} sk-{}", "x".repeat(4000), "cut".repeat(100));
    block_on(ledger.event(Event::own(at, "long", Some(long))).unwrap());
}

#[test]
fn no_text_beside_names_keeps_a_secret() {
    let machine = Machine::new(redacting());
    let (ledger, _) = machine.open();
    let mut admission = machine.call("r", "a");
    "/v1/chat?q=sk-target".clone_into(&mut admission.target);
    admission.client = Some(label("client sk-client"));
    admission.headers = Some(headers("x-asked"));
    let request = Capture {
        content_type: Some("text/plain; note=sk-kind".to_owned()),
        ..conversation(
            ledger.seed(),
            &[format!(
                "{{\"content\":\"{}\\u0073k-escaped\"}}",
                "x".repeat(200)
            )],
        )
    };
    let entry = ledger.admit(admission.clone(), Some(request)).unwrap();
    let mut settlement = settlement(&admission);
    settlement.error = Some("refused: sk-error".to_owned());
    settlement.headers = Some(headers("x-told"));
    let events = ["my s", "k-", "pieces"].map(|it| format!("data: {{\"delta\":\"{it}\"}}\n\n"));
    let response = Capture {
        content_type: Some("text/event-stream".to_owned()),
        ..plain(events.concat().as_bytes())
    };
    entry.settle(settlement, Some(response));
    event(&ledger, machine.clock.now());
    let measurement = |value, note: Option<&str>| Measurement {
        at: machine.clock.now(),
        name: "score".to_owned(),
        value,
        subject: Subject::Call(admission.id),
        who: label("judge"),
        note: note.map(str::to_owned),
        key: None,
        run: None,
        agent: None,
        charged: None,
        instance: None,
    };
    let word = Value::category("sk-word").unwrap();
    block_on(ledger.measured(measurement(word, Some("sk-note"))).unwrap());

    let view = ledger.view();
    let answer = view.response_body(admission.id).unwrap().unwrap();
    assert!(!answer.exact);
    assert_eq!(
        String::from_utf8(answer.bytes).unwrap(),
        "data: {\"delta\":\"my [key]\"}\n\ndata: {\"delta\":\"\"}\n\ndata: {\"delta\":\"\"}\n\n"
    );
    let asked = view.request_body(admission.id).unwrap().unwrap();
    assert!(String::from_utf8(asked.bytes).unwrap().contains("x[key]"));
    let told = view.events(&SpanFilter::default()).unwrap().items;
    assert!(
        told.iter()
            .any(|it| it.details.as_deref() == Some("refused [key]"))
    );
    block_on(ledger.close()).unwrap();
    let files = [machine.disk.bytes(1), machine.index.bytes()];
    for secret in ["sk-", "escaped", "pieces", "cutcut"] {
        for bytes in &files {
            assert_eq!(
                memchr::memmem::find(bytes, secret.as_bytes()),
                None,
                "{secret}"
            );
        }
    }
}

/// As long as texts are kept of it, with the front of a secret at its end.
fn cut(bytes: usize) -> String {
    let all = format!("{} sk-{}", "x".repeat(bytes - 30), "cut".repeat(14));
    all[..bytes].to_owned()
}

#[test]
fn a_secret_at_the_end_of_a_text_that_was_cut_is_not_left_in_part() {
    let rule = Rule {
        pattern: Regex::new("sk-[a-z]{42}").unwrap(),
        replacement: "[key]".to_owned(),
    };
    let machine = Machine::new(crate::config::LedgerConfig {
        redact: Redaction::new(vec![rule]),
        ..config()
    });
    let (ledger, _) = machine.open();
    let mut admission = machine.call("r", "a");
    admission.client = Some(label(&cut(256)));
    let mut lines = HeaderLines::default();
    lines.show("x-long", &(cut(512) + "cut"));
    admission.headers = Some(lines);
    let entry = ledger.admit(admission.clone(), None).unwrap();
    entry.settle(settlement(&admission), None);
    let long = Event::own(machine.clock.now(), "long", Some(cut(4096) + "cut"));
    block_on(ledger.event(long).unwrap());
    block_on(ledger.close()).unwrap();
    for bytes in [machine.disk.bytes(1), machine.index.bytes()] {
        assert_eq!(memchr::memmem::find(&bytes, b"cut"), None);
        assert!(memchr::memmem::find(&bytes, &[b'x'; 200]).is_some());
    }
}

#[test]
fn a_secret_at_the_end_of_an_answer_that_broke_off_is_not_left_in_part() {
    let rule = Rule {
        pattern: Regex::new("sk-[a-z0-9]{20,}").unwrap(),
        replacement: "[key]".to_owned(),
    };
    let machine = Machine::new(crate::config::LedgerConfig {
        redact: Redaction::new(vec![rule]),
        ..config()
    });
    let (ledger, _) = machine.open();
    let admission = machine.call("r", "a");
    let said = format!("{} sk-abcdefgh1234567890", "word ".repeat(100));
    let events = said.as_bytes()[..said.len() - 2]
        .chunks(5)
        .fold(String::new(), |all, piece| {
            let piece = std::str::from_utf8(piece).unwrap();
            format!("{all}data: {{\"delta\":\"{piece}\"}}\n\n")
        });
    let entry = ledger.admit(admission.clone(), None).unwrap();
    let broken = Capture {
        content_type: Some("text/event-stream".to_owned()),
        is_broken: true,
        ..plain(events.as_bytes())
    };
    entry.settle(settlement(&admission), Some(broken));
    let body = ledger.view().response_body(admission.id).unwrap().unwrap();
    assert!(body.truncated && !body.exact);
    let kept = String::from_utf8(body.bytes).unwrap();
    for part in ["sk-", "abcd", "1234"] {
        assert!(!kept.contains(part), "{kept}");
    }
    assert!(kept.contains("word"));
}

#[test]
fn a_secret_at_the_end_of_a_cut_body_is_not_left_in_part() {
    let machine = Machine::new(crate::config::LedgerConfig {
        max_body_bytes: 1000,
        ..redacting()
    });
    let (ledger, _) = machine.open();
    let admission = machine.call("r", "a");
    let text = format!("{}sk-{}", "x".repeat(990), "a".repeat(40));
    let entry = ledger
        .admit(admission.clone(), Some(plain(text.as_bytes())))
        .unwrap();
    entry.settle(settlement(&admission), None);
    let body = ledger.view().request_body(admission.id).unwrap().unwrap();
    assert!(body.truncated && body.bytes.iter().all(|byte| *byte == b'x'));
    assert_eq!(body.wire_len, text.len() as u64);
}
