//! The other rules, and what a report says of them all.

use serde_json::json;

use super::ledger::{Api, Talk, Work, nano, prose, saved};
use crate::config::Config;
use crate::core::call::Outcome;
use crate::core::money::NanoUsd;
use crate::core::suggest::Rule;
use crate::suggest::{Question, suggest};

const DAY_US: i64 = 86_400_000_000;

fn ask(n: usize) -> Talk {
    Talk::new(Api::Chat)
        .system("You answer.")
        .user(&prose(n, 4000))
}

#[test]
fn each_answer_after_the_first_to_one_request_is_spare_for_an_hour() {
    let mut work = Work::new();
    work.asks(&ask(1)).says("a");
    let usd: i64 = (0..2).map(|_| work.asks(&ask(1)).says("a").get()).sum();
    work.asks(&ask(2)).says("b");
    let found = work.one(Rule::RepeatedRequest);
    assert_eq!(saved(&found), (Some(usd), 2 * (ask(1).tokens() + 50), 2));
    assert_eq!(found.evidence[0].value, "1");
    for (seconds, count) in [(3600, 1), (3601, 0)] {
        let mut work = Work::new();
        for _ in 0..3 {
            work.asks(&ask(1)).after_ms(seconds * 1000).says("a");
        }
        // The third comes too late for the answer to the first.
        let found = work.found(Rule::RepeatedRequest);
        let calls: u64 = found.iter().map(|it| it.call_count).sum();
        assert_eq!(calls, count, "{seconds}");
    }
}

#[test]
fn two_models_of_an_agent_count_their_own_requests() {
    let mut work = Work::new();
    for (model, requests) in [("gpt-5", 1), ("gpt-5-mini", 2)] {
        work.model(model);
        for n in 0..requests {
            work.asks(&ask(n)).says("a");
            work.asks(&ask(n)).says("a");
        }
    }
    let found = work.found(Rule::RepeatedRequest);
    let counts: Vec<&str> = found
        .iter()
        .map(|it| it.evidence[0].value.as_str())
        .collect();
    assert_eq!(counts, ["1", "2"]);
}

/// In each of `runs` runs four calls that call `search` and offer `deploy` as well.
fn offering(api: Api, runs: usize) -> Work {
    let mut work = Work::new();
    for n in 0..runs * 4 {
        work.run(&format!("run-{}", n / 4));
        let talk = offer(api).user(&prose(n + 10, 300));
        work.asks(&talk)
            .calls("search", &json!({"q": n}).to_string());
    }
    work
}

fn offer(api: Api) -> Talk {
    Talk::new(api)
        .tool("search", "Finds.")
        .tool("deploy", &prose(1, 700))
}

#[test]
fn a_tool_that_is_never_called_costs_its_definition_in_each_call() {
    let work = offering(Api::Chat, 5);
    let found = work.one(Rule::UnusedTools);
    let with = offer(Api::Chat).tokens();
    // Its comma is no part of it.
    let tokens = with - Talk::new(Api::Chat).tool("search", "Finds.").tokens() - 1;
    assert_eq!(
        saved(&found),
        (Some(20 * nano(tokens, 1250)), 20 * tokens, 20)
    );
    assert!(
        found.sentence.ends_with("none of them: deploy."),
        "{}",
        found.sentence
    );
}

#[test]
fn few_runs_or_a_call_in_a_history_say_nothing_against_a_tool() {
    assert_eq!(offering(Api::Chat, 4).found(Rule::UnusedTools), []);
    for api in [Api::Chat, Api::Messages] {
        let mut work = offering(api, 6);
        assert_eq!(work.found(Rule::UnusedTools).len(), 1);
        // Its answer is not on record, the history that follows is.
        let talk = offer(api).user("go").result("deploy", "{}", "done");
        work.asks(&talk).says("deployed");
        assert_eq!(work.found(Rule::UnusedTools), []);
    }
}

#[test]
fn an_answer_that_is_not_on_record_may_have_called_any_tool() {
    let mut work = offering(Api::Chat, 6);
    work.asks(&ask(1)).answers(None);
    assert_eq!(work.found(Rule::UnusedTools), []);
    let unseen = work.report().unseen;
    assert_eq!((unseen.answers, unseen.agents), (1, 1));
    assert_eq!(unseen.words().len(), 2);
}

/// A long result at the front, then `steps` short turns.
fn carrying(steps: usize, quoted_in: Option<usize>) -> (Work, u64, i64) {
    let mut work = Work::new();
    let result = prose(3, 30_000);
    let mut talk = Talk::new(Api::Chat)
        .system(&prose(1, 2000))
        .user("What does it say?")
        .result("read", "{}", &result);
    let (front, size) = (talk.tokens(), talk.last());
    let (mut tokens, mut usd) = (0, 0);
    for step in 0..steps {
        if step >= 5 {
            tokens += size - 100;
            usd += nano(size - 100, 125);
        }
        if step == 5 {
            usd -= nano(talk.tokens() - front, 1250 - 125);
        }
        let quote = quoted_in == Some(step);
        let said = if quote {
            result[..80].to_owned()
        } else {
            format!("Noted {step}.")
        };
        work.asks(&talk).says(&said);
        talk = talk.said(&said).user(&prose(step + 100, 200));
    }
    (work, tokens, usd)
}

#[test]
fn a_long_result_that_nothing_quotes_is_spare_from_the_sixth_call_less_the_cache_it_breaks() {
    let (work, tokens, usd) = carrying(20, None);
    let found = work.one(Rule::CarriedResults);
    assert_eq!(saved(&found), (Some(usd), tokens, 15));
    assert!(usd > 0);
}

#[test]
fn a_result_that_is_quoted_later_or_does_not_pay_off_is_carried_rightly() {
    assert_eq!(carrying(20, Some(12)).0.found(Rule::CarriedResults), []);
    assert_eq!(
        carrying(20, Some(4)).0.found(Rule::CarriedResults).len(),
        1,
        "while it is fresh"
    );
    assert_eq!(carrying(5, None).0.found(Rule::CarriedResults), []);
}

#[test]
fn an_agent_that_is_told_the_same_until_it_changes_is_charged_all_but_the_first_call() {
    for (polls, pause, count) in [(5, 30_000, 1), (4, 30_000, 0), (5, 1000, 1), (5, 999, 0)] {
        let mut work = Work::new();
        let mut talk = Talk::new(Api::Chat).system("You wait.").user("Build it.");
        let (mut usd, mut tokens) = (0, 0);
        for step in 0..polls {
            let ask = work.asks(&talk).after_ms(pause);
            let cost = ask.calls("get_job", r#"{"id":7}"#).get();
            if step > 0 {
                (usd, tokens) = (usd + cost, tokens + talk.tokens() + 50);
            }
            let told = if step + 1 == polls { "done" } else { "running" };
            talk = talk.result("get_job", r#"{"id":7}"#, told);
        }
        work.asks(&talk).after_ms(pause).says("It is built.");
        let found = work.found(Rule::Waiting);
        assert_eq!(found.len(), count, "{polls} calls, {pause} ms");
        for found in found {
            assert_eq!(saved(&found), (Some(usd), tokens, 4));
            // From the end of the first to the end of the last of five; the run goes on for one more.
            let each = pause / 1000 + 1;
            let (waited, all) = (4 * each, 5 * each + 1);
            assert_eq!(
                found.evidence[2].value,
                format!("{waited} of the {all} s that these runs took")
            );
        }
    }
}

fn two_models(same_agent: bool) -> Work {
    let mut work = Work::new();
    for n in 0..40 {
        let is_small = n % 2 == 0;
        work.run(&format!("run-{n}"));
        work.model(if is_small { "gpt-5-mini" } else { "gpt-5" });
        if !same_agent {
            work.variant(if is_small { "small" } else { "large" });
        }
        let talk = Talk::new(Api::Chat)
            .system(&prose(1, 3000))
            .user(&prose(n + 9, 600));
        work.asks(&talk).output(400).says(&prose(n + 500, 800));
    }
    work
}

#[test]
fn a_cheaper_model_is_named_where_another_variant_does_as_well_with_it() {
    let work = two_models(false);
    let found = work.one(Rule::SmallerModel);
    let tokens = Talk::new(Api::Chat)
        .system(&prose(1, 3000))
        .user(&prose(9, 600))
        .tokens();
    // The dear calls read the instructions from the cache, the first apart.
    let small = nano(tokens, 250) + nano(400, 2000);
    let (usd, _, calls) = saved(&found);
    assert_eq!(calls, 20);
    let cached = 3030;
    let dear = nano(tokens, 1250) + nano(400, 10_000);
    let most = 20 * (dear - small);
    let least = most - 19 * nano(cached + 30, 1125);
    assert!(
        usd.is_some_and(|usd| (least..most).contains(&usd)),
        "{usd:?}"
    );
    assert_eq!(
        two_models(true).found(Rule::SmallerModel),
        [],
        "it may choose"
    );
}

#[test]
fn of_calls_in_a_row_only_repeats_after_a_pause_are_waits() {
    let mut work = Work::new();
    let mut talk = Talk::new(Api::Chat).system("You wait.").user("Build it.");
    for step in 0..9 {
        // Three of eight come at once.
        let pause = if step % 3 == 1 { 200 } else { 5000 };
        work.asks(&talk).after_ms(pause).calls("get_job", "{}");
        let told = if step == 8 { "done" } else { "running" };
        talk = talk.result("get_job", "{}", told);
    }
    work.asks(&talk).says("It is built.");
    let found = work.one(Rule::Waiting);
    assert_eq!(found.call_count, 5);
    assert!(found.evidence[2].value.starts_with("30 of"), "{found:?}");
}

#[test]
fn calls_of_one_template_in_a_row_could_run_at_once() {
    for (gap, count) in [(2000, 1), (2001, 0)] {
        let mut work = Work::new();
        for n in 0..8 {
            let seconds = if n == 3 { 20 } else { 10 };
            let talk = Talk::new(Api::Chat).system("You sum up.").user(&format!(
                "Sum up what the report says about trade in the town of {}.",
                prose(n, 14)
            ));
            let ask = work.asks(&talk).after_ms(gap).for_seconds(seconds);
            ask.says(&format!("{n} It says nothing of {}", 1000 + n));
        }
        let found = work.found(Rule::Parallel);
        assert_eq!(found.len(), count);
        for found in found {
            assert_eq!(saved(&found), (None, 0, 8));
            assert_eq!(found.saving.duration_us, 70_000_000);
        }
    }
}

#[test]
fn of_several_claims_on_one_call_the_largest_counts_in_the_total() {
    let mut work = Work::new();
    for n in 0..24 {
        work.run(&format!("run-{}", n / 4));
        let talk = offer(Api::Chat)
            .system(&format!("It is 10:00:{}. {}", 10 + n, prose(1, 8000)))
            .user(&format!("question {n}"));
        work.asks(&talk)
            .calls("search", &json!({"q": n}).to_string());
    }
    let (cache, tools) = (work.one(Rule::CacheBroken), work.one(Rule::UnusedTools));
    let report = work.report();
    let rules: Vec<Rule> = report.findings.iter().map(|it| it.rule).collect();
    assert_eq!(
        rules,
        [Rule::CacheBroken, Rule::UnusedTools],
        "the dearest first"
    );
    // The first call has an idle tool alone.
    let each = |nano: Option<NanoUsd>, calls: i64| nano.unwrap().get() / calls;
    let joint = cache.saving.nano_usd.unwrap().get() + each(tools.saving.nano_usd, 24);
    assert_eq!(report.total.nano_usd, Some(NanoUsd::new(joint)));
    assert_eq!(
        report.total.tokens,
        cache.saving.tokens + tools.saving.tokens / 24
    );
}

#[test]
fn a_day_is_a_share_of_the_span_that_was_asked_for() {
    let mut work = Work::new();
    work.asks(&ask(9)).says("long ago");
    work.sample.clock.advance_micros(10 * DAY_US);
    let usd: i64 = (0..4)
        .map(|_| work.asks(&ask(1)).says("a").get())
        .skip(1)
        .sum();
    let until = work.sample.clock.now();
    let days = |days: i64| {
        let since = crate::core::time::Timestamp::from_micros(until.micros() - days * DAY_US);
        let question = Question {
            since: Some(since),
            until,
            agent: None,
        };
        let mut config = Config::default();
        config.suggestions.min_usd_per_day = NanoUsd::ZERO;
        let report = suggest(work.sample.ledger.view(), &question, &config).unwrap();
        assert_eq!((report.from, report.until), (since, until));
        report.findings[0].saving.nano_usd_per_day.unwrap().get()
    };
    assert_eq!((days(1), days(5)), (usd, usd / 5));
    // Of all time: the days since the first call.
    let all = work.found(Rule::RepeatedRequest)[0]
        .saving
        .nano_usd_per_day
        .unwrap()
        .get();
    assert!((usd / 11..=usd / 10).contains(&all), "{all}");
}

#[test]
fn calls_without_a_price_are_counted_beside_the_amount() {
    let mut work = Work::new();
    work.asks(&ask(1)).says("a");
    let usd = work.asks(&ask(1)).says("a").get();
    work.asks(&ask(1)).unpriced().says("a");
    let found = work.one(Rule::RepeatedRequest);
    assert_eq!(saved(&found).0, Some(usd));
    assert_eq!(found.saving.unpriced, 1);
}

#[test]
fn from_the_threshold_on_a_finding_matters() {
    let mut work = Work::new();
    work.asks(&ask(1)).says("a");
    let usd: i64 = (0..3).map(|_| work.asks(&ask(1)).says("a").get()).sum();
    let found = |least: i64, calls: usize| {
        let mut config = Config::default();
        config.suggestions.min_usd_per_day = NanoUsd::new(least);
        config.suggestions.min_calls = calls;
        let report = work.report_of(&config);
        (report.findings.len(), report.below)
    };
    assert_eq!(found(usd, 3), (1, 0));
    assert_eq!(found(usd + 1, 3), (0, 1));
    assert_eq!(found(usd, 4), (0, 1));
}

#[test]
fn what_is_not_recorded_whole_is_said_by_what_was_missing() {
    let mut work = Work::new();
    work.asks(&ask(1))
        .ends(Outcome::ClientGone, 200)
        .answers(None);
    work.asks(&ask(2)).answers(None);
    let mut image = Talk::new(Api::Chat).system("You see.");
    image.push(&json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}));
    work.asks(&image).says("a");
    let mut broken = work.asks(&ask(3));
    broken.request.clear();
    broken.says("a");
    let unseen = work.report().unseen;
    assert_eq!(
        (unseen.requests, unseen.answers, unseen.uncountable),
        (1, 1, 1)
    );
}
