//! Prompt caches that are broken, or not asked for.

use super::ledger::{Api, Talk, Work, nano, prose, saved};
use crate::core::suggest::Rule;

/// gpt-5 in nano-USD a token: 1,250 in, 125 from the cache.
const LOST: u64 = 1250 - 125;

fn timed(second: u64, rules: &str) -> Talk {
    let system = format!("Now: 2026-11-01T10:00:{second}Z. {rules}");
    Talk::new(Api::Chat).system(&system)
}

#[test]
fn a_time_in_the_instructions_costs_the_words_around_it_in_each_call_after_the_first() {
    let mut work = Work::new();
    let rules = prose(1, 20_000);
    for n in 10..15 {
        work.asks(&timed(n, &rules).user(&format!("question {n}")))
            .says("a");
    }
    let report = work.report();
    let [found] = report.findings.as_slice() else {
        panic!("{report:#?}");
    };
    // The time with the space behind it is 22 bytes; the JSON around the text 30.
    let text = rules.len() as u64 + 27;
    let lost = (text + 30) * (text - 22) / text;
    assert_eq!(saved(found), (Some(4 * nano(lost, LOST)), 4 * lost, 4));
    assert_eq!((found.rule, report.below), (Rule::CacheBroken, 0));
    let change = found.evidence.last().unwrap();
    assert_eq!(change.what, "first difference: a time or date");
    assert!(
        change
            .value
            .contains("`2026-11-01T10:00:10Z.` became `2026-11-01T10:00:11Z.`")
    );
}

#[test]
fn a_cache_is_claimed_up_to_five_minutes_and_from_1024_tokens_on() {
    let found = |seconds: u64, bytes: usize| {
        let mut work = Work::new();
        let rules = prose(1, bytes);
        for n in 10..13 {
            work.asks(&timed(n, &rules).user("go on"))
                .after_ms(seconds * 1000)
                .says("a");
        }
        work.found(Rule::CacheBroken).len()
    };
    assert_eq!((found(300, 9000), found(301, 9000)), (1, 0));
    let user = Talk::new(Api::Chat).user("go on").last();
    let user = usize::try_from(user).unwrap();
    let could = |bytes: usize| (bytes + 27 + 30) * (bytes + 27 - 22) / (bytes + 27) + user;
    let least = (900..1100).find(|bytes| could(*bytes) >= 1024).unwrap();
    assert_eq!((found(30, least - 1), found(30, least)), (0, 1));
}

#[test]
fn tools_in_another_order_cost_all_that_stays_behind_them() {
    let mut work = Work::new();
    let names = ["alpha", "beta", "gamma"];
    let mut lost = 0;
    for n in 0..3 {
        let mut talk = Talk::new(Api::Chat);
        for at in 0..3 {
            let tool = (at + n) % 3;
            talk = talk.tool(names[tool], &prose(tool + 1, 900));
        }
        talk = talk.system(&prose(9, 4000));
        lost = talk.tokens();
        work.asks(&talk.user(&format!("question {n}"))).says("a");
    }
    let found = work.one(Rule::CacheBroken);
    assert_eq!(saved(&found), (Some(2 * nano(lost, LOST)), 2 * lost, 2));
    assert!(found.fix.contains("Sort the tools"));
}

#[test]
fn a_window_that_slides_costs_what_is_left_in_it() {
    let mut work = Work::new();
    let mut talk = Talk::new(Api::Chat).system(&prose(1, 2000));
    let system = talk.tokens();
    for n in 0..24 {
        talk = talk.user(&prose(n + 10, 200));
    }
    let (mut tokens, mut usd) = (0, 0);
    for n in 0..6 {
        if n > 0 {
            talk.drop_message(0);
            let left = talk.tokens() - system;
            (tokens, usd) = (tokens + left, usd + nano(left, LOST));
            talk = talk.user(&prose(n + 90, 200));
        }
        work.asks(&talk)
            .cached(if n > 0 { system } else { 0 })
            .says("a");
    }
    let found = work.one(Rule::CacheBroken);
    assert_eq!(saved(&found), (Some(usd), tokens, 5));
    assert!(found.fix.contains("many at once"), "{}", found.fix);
}

#[test]
fn a_memory_that_changes_in_front_of_the_history_costs_the_history() {
    let mut work = Work::new();
    let mut history: Vec<String> = vec![prose(5, 3000)];
    let (mut tokens, mut usd) = (0, 0);
    for n in 0..5 {
        let mut talk = Talk::new(Api::Chat)
            .system(&prose(1, 2000))
            .user(&format!("You remember: {}", prose(n + 70, 500)));
        for (at, text) in history.iter().enumerate() {
            talk = if at % 2 == 0 {
                talk.user(text)
            } else {
                talk.said(text)
            };
        }
        if n > 0 {
            // All but the two messages that are new.
            let mut old = Talk::new(Api::Chat);
            for (at, text) in history[..history.len() - 2].iter().enumerate() {
                old = if at % 2 == 0 {
                    old.user(text)
                } else {
                    old.said(text)
                };
            }
            (tokens, usd) = (tokens + old.tokens(), usd + nano(old.tokens(), LOST));
        }
        work.asks(&talk)
            .cached(if n > 0 { 2030 } else { 0 })
            .says("a");
        history.push(prose(n + 100, 1500));
        history.push(prose(n + 200, 1500));
    }
    let found = work.one(Rule::CacheBroken);
    assert_eq!(saved(&found), (Some(usd), tokens, 4));
}

#[test]
fn a_history_of_which_old_results_are_left_out_is_not_broken() {
    let mut work = Work::new();
    for n in 0..4 {
        let result = if n == 0 {
            prose(n, 8000)
        } else {
            "left out".to_owned()
        };
        let talk = Talk::new(Api::Chat)
            .system(&prose(1, 2000))
            .user("go")
            .result("read", "{}", &result)
            .user(&prose(7, 5000));
        work.run(&format!("run-{n}"));
        work.asks(&talk).says(&prose(n + 40, 100));
    }
    assert_eq!(work.found(Rule::CacheBroken), []);
}

/// claude-sonnet-4-5 in nano-USD a token: 3,000 in, 300 from the cache, 3,750 into it.
#[test]
fn a_conversation_that_never_asks_for_the_cache_would_have_saved_reads_less_writes() {
    let mut work = Work::new();
    work.model("claude-sonnet-4-5");
    let mut talk = Talk::new(Api::Messages).system(&prose(1, 9000));
    let (mut before, mut usd, mut tokens) = (0, 0, 0);
    for n in 0..6 {
        talk = talk.user(&prose(n + 10, 400));
        let all = talk.tokens();
        usd += nano(before, 3000 - 300) - nano(all - before, 3750 - 3000);
        tokens += before;
        work.asks(&talk).says("a");
        before = all;
        talk = talk.said("a");
    }
    let found = work.one(Rule::CacheBroken);
    assert_eq!(saved(&found), (Some(usd), tokens, 5));
    assert!(found.fix.contains("cache_control"));
}

#[test]
fn without_marks_no_time_in_the_instructions_breaks_a_cache_and_with_them_writes_count() {
    for is_marked in [false, true] {
        let mut work = Work::new();
        work.model("claude-sonnet-4-5");
        let rules = prose(1, 20_000);
        let mut lost = 0;
        for n in 10..14 {
            let mut talk = Talk::new(Api::Messages)
                .system(&format!("Now: 2026-11-01T10:00:{n}Z. {rules}"))
                .user("go on");
            talk.is_marked = is_marked;
            let text = rules.len() as u64 + 27;
            lost = (text + 2) * (text - 22) / text + 32;
            let mut ask = work.asks(&talk);
            if is_marked {
                ask.usage.cache_write_input_tokens = ask.usage.input_tokens;
            }
            ask.says("a");
        }
        if is_marked {
            let found = work.one(Rule::CacheBroken);
            let (usd, tokens, calls) = saved(&found);
            assert!(tokens.abs_diff(3 * lost) < 200, "{tokens} and {lost}");
            assert_eq!((usd, calls), (Some(3 * nano(tokens / 3, 3750 - 300)), 3));
        } else {
            assert_eq!(work.found(Rule::CacheBroken), []);
        }
    }
}

#[test]
fn a_prompt_is_claimed_from_where_on_its_model_is_cached() {
    for (model, bytes, count) in [
        ("claude-haiku-4-5", 3900, 0),
        ("claude-haiku-4-5", 5000, 1),
        ("claude-sonnet-4-5", 3900, 1),
    ] {
        for is_marked in [false, true] {
            let mut work = Work::new();
            work.model(model);
            let rules = prose(1, bytes);
            for n in 10..16 {
                let system = if is_marked {
                    format!("Now: 2026-11-01T10:00:{n}Z. {rules}")
                } else {
                    rules.clone()
                };
                let mut talk = Talk::new(Api::Messages).system(&system).user("go on");
                talk.is_marked = is_marked;
                work.asks(&talk).cached(0).says("a");
            }
            let found = work.found(Rule::CacheBroken).len();
            assert_eq!(found, count, "{model}, {bytes} bytes, marked: {is_marked}");
        }
    }
}

#[test]
fn of_a_model_without_a_price_a_cache_is_claimed_only_where_it_was_seen() {
    for (read, count) in [(0, 0), (1500, 1)] {
        let mut work = Work::new();
        work.model("house-model");
        let rules = prose(1, 20_000);
        for n in 10..15 {
            let talk = timed(n, &rules).user(&format!("question {n}"));
            work.asks(&talk).cached(0).says("a");
        }
        work.run("another");
        let other = Talk::new(Api::Chat).user(&prose(2, 2000));
        work.asks(&other).cached(read).says("a");
        let found = work.found(Rule::CacheBroken);
        assert_eq!(found.len(), count, "{read} tokens read");
        assert!(found.iter().all(|it| it.saving.nano_usd.is_none()));
    }
}
