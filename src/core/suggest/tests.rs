//! Constructed calls of which the right answer is known. A token in costs 1,000 pico-USD, one read from
//! the cache 100, one out 4,000; so 1,000,000 tokens in are 1,000,000 nano-USD.

use proptest::prelude::*;

use super::facts::{Answered, Caching, Part, PartKind, Rates, Sent};
use super::*;
use crate::core::call::Outcome;
use crate::core::digest::{Digest, DigestSeed};
use crate::core::usage::Usage;

const SECOND: i64 = 1_000_000;
const RATES: Rates = Rates {
    input: Some(1_000),
    cache_read: Some(100),
    cache_write: Some(1_000),
    output: Some(4_000),
};

/// The small model, at a tenth of all prices.
struct Tenth;

impl Tariff for Tenth {
    fn quote(&self, _: &Label, model: &Label, usage: &Usage) -> Option<NanoUsd> {
        let pico = usage.input_tokens * 100 + usage.output_tokens * 400;
        let nano = NanoUsd::new(i64::try_from(pico / 1000).unwrap());
        Some(nano).filter(|_| model.as_str() == "small")
    }
}

/// A day, from the first call on.
fn day() -> Window {
    Window {
        from: Timestamp::from_micros(0),
        until: Timestamp::from_micros(86_400 * SECOND),
    }
}

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn digest(text: &str) -> Digest {
    DigestSeed(1).digest(text.as_bytes())
}

/// Whatever threshold: the rules alone are asked.
fn everything(calls: &[CallFacts]) -> Report {
    let settings = Settings {
        min_usd_per_day: NanoUsd::ZERO,
        min_calls: 1,
        ignore: Vec::new(),
    };
    look(calls, day(), &settings, &Tenth)
}

fn only(calls: &[CallFacts], rule: Rule) -> Finding {
    let report = everything(calls);
    let mut its = report.findings.into_iter().filter(|it| it.rule == rule);
    let found = its.next().expect("a finding");
    assert_eq!(its.next(), None);
    found
}

fn saved(finding: &Finding) -> (Option<i64>, u64, u64) {
    let nano = finding.saving.nano_usd.map(NanoUsd::get);
    (nano, finding.saving.tokens, finding.call_count)
}

fn part(kind: PartKind, text: &str, bytes: u32) -> Part {
    // What follows a `#` is volatile.
    Part {
        kind,
        digest: digest(text),
        shape: digest(text.split('#').next().unwrap_or_default()),
        bytes,
        steady: bytes,
        words: None,
        calls: None,
        is_nudge: text == "go on",
    }
}

fn sent(parts: Vec<Part>) -> Sent {
    let digests: String = parts.iter().map(|part| part.digest.to_string()).collect();
    Sent {
        body: digest(&digests),
        parts,
        tools: None,
        earlier: None,
        besides: 0,
        has_unseen: false,
        caching: Caching::Automatic,
        asked: None,
    }
}

/// The `n`th call, each 30 s after the one before and 1 s long: 10,000 tokens in and 100 out of a
/// request of 10,000 bytes.
fn call(n: u64, parts: Vec<Part>) -> CallFacts {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    let usage = Usage {
        input_tokens: 10_000,
        output_tokens: 100,
        ..Usage::default()
    };
    let mut call = CallFacts {
        id: CallId::from_bytes(id),
        at: Timestamp::from_micros(i64::try_from(n).unwrap() * 30 * SECOND),
        duration_us: 1_000_000,
        agent: label("worker"),
        run: Some(label("run")),
        conversation: None,
        variant: None,
        upstream: label("openai"),
        model: Some(label("large")),
        outcome: Outcome::Completed,
        status: Some(200),
        usage,
        cost: None,
        rates: RATES,
        is_cut: false,
        sent: Some(sent(parts)),
        answered: Some(Answered::default()),
    };
    pay(&mut call);
    call
}

fn pay(call: &mut CallFacts) {
    let cached = call.usage.cache_read_input_tokens;
    let fresh = call.usage.input_tokens - cached;
    let pico = fresh * 1_000 + cached * 100 + call.usage.output_tokens * 4_000;
    call.cost = Some(NanoUsd::new(i64::try_from(pico / 1000).unwrap()));
}

fn system(text: &str, bytes: u32) -> Part {
    part(PartKind::System, text, bytes)
}

fn user(text: &str, bytes: u32) -> Part {
    part(PartKind::User, text, bytes)
}

fn calls(count: u64, mut one: impl FnMut(u64) -> CallFacts) -> Vec<CallFacts> {
    (0..count).map(&mut one).collect()
}

#[test]
fn tools_in_another_order_break_the_cache_of_all_that_follows() {
    let calls = calls(3, |n| {
        let tools = part(PartKind::Tools, &format!("tools#{n}"), 4_000);
        call(
            n,
            vec![
                tools,
                system("prompt", 5_000),
                user(&format!("ask {n}"), 1_000),
            ],
        )
    });
    let found = only(&calls, Rule::CacheBroken);
    assert_eq!(saved(&found), (Some(2 * 9_000 * 900 / 1000), 18_000, 2));
    assert!(found.fix.contains("Sort the tools"));
}

#[test]
fn what_was_read_from_the_cache_all_the_same_is_not_claimed() {
    let mut calls = calls(2, |n| {
        call(
            n,
            vec![
                system(&format!("prompt#{n}"), 8_000),
                user(&format!("{n}"), 2_000),
            ],
        )
    });
    calls[1].usage.cache_read_input_tokens = 7_000;
    pay(&mut calls[1]);
    assert_eq!(saved(&only(&calls, Rule::CacheBroken)).1, 1_000);
}

#[test]
fn a_history_that_grows_or_a_cache_gone_cold_is_not_broken() {
    let mut calls = calls(6, |n| {
        let mut parts = vec![system("prompt", 4_000)];
        parts.extend((0..=n).map(|turn| user(&format!("turn {turn}"), 1_000)));
        call(n, parts)
    });
    assert_eq!(everything(&calls).findings, []);
    calls.truncate(2);
    calls[1] = call(40, vec![system("prompt#2", 8_000), user("other", 2_000)]);
    calls[0] = call(0, vec![system("prompt#1", 8_000), user("one", 2_000)]);
    assert_eq!(everything(&calls).findings, [], "20 minutes later");
}

#[test]
fn below_the_threshold_nothing_is_said_and_what_is_ignored_is_not_looked_for() {
    let calls = calls(4, |n| {
        call(n, vec![user("same", 10_000 + u32::from(n > 9))])
    });
    let report = look(&calls, day(), &Settings::default(), &Tenth);
    assert_eq!((report.findings.len(), report.below), (0, 1));
    let mut settings = Settings {
        min_usd_per_day: NanoUsd::new(3 * 10_400),
        ..Settings::default()
    };
    assert_eq!(look(&calls, day(), &settings, &Tenth).findings.len(), 1);
    settings.ignore.push(Rule::RepeatedRequest);
    assert_eq!(look(&calls, day(), &settings, &Tenth).findings.len(), 0);
}

#[test]
fn a_saving_reads_as_what_is_known_of_it() {
    let seconds = |us: u64| format!("{} s", us / 1_000_000);
    let mut saving = Saving::default();
    assert_eq!(saving.words(seconds), "nothing");
    saving.duration_us = 2_000_000;
    assert_eq!(saving.words(seconds), "2 s");
    saving = Saving {
        nano_usd: Some(NanoUsd::new(2_000_000_000)),
        nano_usd_per_day: Some(NanoUsd::new(1_000_000_000)),
        tokens: 1,
        unpriced: 1,
        ..saving
    };
    let words = "$2.00 ($1.00 a day), 1 token, 2 s, of 1 call no price is known";
    assert_eq!(saving.words(seconds), words);
}

fn any_call() -> impl Strategy<Value = (u8, u8, u8, u16, bool, u8, u8)> {
    let bits = (0..3_u8, 0..4_u8, 0..3_u8, 0..20_000_u16);
    (bits, any::<bool>(), 0..4_u8, 0..3_u8)
        .prop_map(|((a, b, c, d), e, f, g)| (a, b, c, d, e, f, g))
}

proptest! {
    #[test]
    fn findings_never_claim_more_than_was_spent(made in prop::collection::vec(any_call(), 0..80)) {
        let mut all = Vec::new();
        for (n, (prompt, ask, turns, cached, is_cut, end, tool)) in made.into_iter().enumerate() {
            let mut parts = vec![system(&format!("prompt#{prompt}"), 5_000), user(&format!("{ask}"), 3_000)];
            parts.extend((0..turns).map(|_| part(PartKind::ToolResult, "result", 2_000)));
            let mut call = call(n as u64, parts);
            call.usage.cache_read_input_tokens = u64::from(cached).min(10_000);
            pay(&mut call);
            call.is_cut = is_cut;
            call.outcome = [Outcome::Completed, Outcome::ClientGone, Outcome::Completed, Outcome::UpstreamCut][usize::from(end)];
            call.answered.as_mut().unwrap().calls = vec![(format!("tool{tool}"), 0)];
            all.push(call);
        }
        let report = everything(&all);
        let spent = report.spent_nano_usd;
        let tokens: u64 = all.iter().map(CallFacts::tokens).sum();
        for finding in &report.findings {
            prop_assert!(finding.saving.nano_usd <= Some(spent));
            prop_assert!(finding.saving.tokens <= tokens);
        }
        prop_assert!(report.total.nano_usd <= Some(spent));
        prop_assert!(report.total.tokens <= tokens);
    }
}
