//! Loops are stopped and work is not: a generator of both, and what must not make a difference.

mod generator;
mod ladder;
mod properties;

use generator::{Rng, Script, Step};

use super::settings::Settings;
use super::turn::From;
use super::watch::Watch;

/// The first call that the default settings would refuse.
fn stopped_at(script: &Script) -> Option<usize> {
    stopped_under(&Settings::BALANCED, script)
}

fn stopped_under(settings: &Settings, script: &Script) -> Option<usize> {
    let mut watch = Watch::default();
    script.steps.iter().position(|step| {
        let ask = step.ask();
        let found = watch.ask(&ask, settings);
        match step.answer() {
            Some(answer) => watch.answer(ask.conversation, &answer, ask.idle_ms),
            None => watch.fail(ask.conversation),
        }
        found.iter().any(super::finding::Finding::trips)
    })
}

/// Each kind of loop, how many calls it may go on for, and a script of it after some good work.
fn loops(rng: &mut Rng) -> Vec<(&'static str, usize, Script)> {
    let rng = &mut *rng;
    vec![
        ("the same action fails the same way", 6, same_error(rng)),
        (
            "the same error under new times and ids",
            6,
            same_error_with_ids(rng),
        ),
        ("new arguments, the same error", 9, varied_arguments(rng)),
        (
            "two agents hand one text back and forth",
            8,
            pass_around(rng, 2),
        ),
        ("three agents hand texts round", 12, pass_around(rng, 3)),
        ("five agents hand texts round", 20, pass_around(rng, 5)),
        ("an agent without tools repeats itself", 6, monologue(rng)),
        ("a patch and its inverse", 14, flip_flop(rng)),
        (
            "a draft and a critic who change a word or two",
            14,
            stuck_critic(rng),
        ),
        ("a task handed down and down", 10, handed_down(rng)),
        (
            "a request again and again, which fails",
            11,
            retry_storm(rng),
        ),
        ("answers that chant", 3, chanting(rng)),
        ("six actions in turn, again and again", 19, long_period(rng)),
        ("a poll that never moves", 44, stuck_poll(rng)),
    ]
}

/// Work that looks like a loop and is none.
fn work(rng: &mut Rng) -> Vec<(&'static str, Script)> {
    let rng = &mut *rng;
    vec![
        ("a poll whose answer moves now and then", slow_poll(rng)),
        ("a poll that is waited for", patient_poll(rng)),
        ("paging through a file", paging(rng)),
        ("one key pressed for new pages", same_key_new_page(rng)),
        ("one template over many items", map_items(rng)),
        ("samples of one question", samples(rng)),
        ("tests that fail less and less", converging_tests(rng)),
        ("one edit in many files", many_edits(rng)),
        ("a user who only says yes", short_user(rng)),
        ("upstream failures that end", few_failures(rng)),
        ("a plan that is kept up to date", kept_plan(rng)),
        ("a check between any two steps", check_between(rng)),
        ("a supervisor who asks round", supervisor(rng)),
        ("a draft that gets better", better_draft(rng)),
        ("an agent that nods to news of another", nodding(rng)),
        ("one job several times in a run", same_job_again(rng)),
        ("a batch judged twice", judged_twice(rng)),
        (
            "failures that become fewer",
            tests_that_all_fail_at_first(rng),
        ),
        ("results that deny an error", denied_errors(rng)),
        (
            "a job that is polled and says that no error is there",
            polled_job(rng),
        ),
        ("a wait with two tools", wait_with_two_tools(rng)),
        (
            "a batch of short items under a long template",
            short_items(rng),
        ),
        ("numbers alone as answers", numbers_alone(rng)),
        ("pages in a script without spaces", unspaced_pages(rng)),
        (
            "a batch of items told apart by a number",
            numbered_items(rng),
        ),
        ("yes and no, many times", yes_and_no(rng)),
        ("a check between two waits", check_between_waits(rng)),
        ("heartbeats", heartbeats(rng)),
        ("a tool that is asked four times", asked_four_times(rng)),
        ("code that is mended by its blanks", mended_blanks(rng)),
    ]
}

#[test]
fn loops_are_stopped_soon_after_they_begin() {
    for seed in 0..40 {
        for (name, within, script) in loops(&mut Rng::new(seed)) {
            let Some(at) = stopped_at(&script) else {
                panic!("not stopped (seed {seed}): {name}");
            };
            let begins = script.loop_begins;
            assert!(at > begins, "stopped before it began (seed {seed}): {name}");
            assert!(
                at <= begins + within,
                "{} calls (seed {seed}): {name}",
                at - begins
            );
        }
    }
}

#[test]
fn work_is_not_stopped() {
    for seed in 0..40 {
        for (name, script) in work(&mut Rng::new(seed)) {
            let at = stopped_at(&script);
            assert_eq!(at, None, "of {} (seed {seed}): {name}", script.steps.len());
        }
    }
}

#[test]
fn cautious_settings_wait_longer_and_observing_ones_find_the_same() {
    let script = same_error(&mut Rng::new(1));
    let balanced = stopped_at(&script).unwrap();
    let cautious = stopped_under(&Settings::CAUTIOUS, &script).unwrap();
    assert!(cautious > balanced, "{cautious}");
}

// Loops.

fn same_error(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let arguments = format!(r#"{{"path":"src/{}.rs","mode":"full"}}"#, rng.word());
    script.repeat_tool(30, |_| {
        ("grep", arguments.clone(), "Error: no such file".to_owned())
    });
    script
}

fn same_error_with_ids(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let mut noise = rng.clone();
    script.repeat_tool(30, |_| {
        let arguments = format!(
            r#"{{"path":"web/index.ts","request_id":"{}"}}"#,
            noise.uuid()
        );
        let result = format!(
            "[{}] HTTP 403 Forbidden (trace {})",
            noise.time(),
            noise.hex()
        );
        ("http_get", arguments, result)
    });
    script
}

fn varied_arguments(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let mut words = rng.clone();
    script.repeat_tool(30, |_| {
        let arguments = format!(r#"{{"target":"{}/{}"}}"#, words.word(), words.word());
        (
            "fetch",
            arguments,
            "HTTP 403 Forbidden: the token lacks a scope".to_owned(),
        )
    });
    script
}

fn pass_around(rng: &mut Rng, agents: usize) -> Script {
    let mut script = Script::after_work(rng);
    let names = ["coder", "tester", "reviewer", "writer", "planner"];
    let texts: Vec<String> = (0..agents).map(|_| rng.sentence(14)).collect();
    for round in 0..60 {
        let (of, by) = (round % agents, (round + 1) % agents);
        let handed = format!("[{}] (msg {round}) {}", rng.time(), texts[of]);
        script.push(
            Step::of(names[by])
                .from(names[of])
                .hears_agent(&handed)
                .says(&texts[by]),
        );
    }
    script
}

fn monologue(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let text = format!("I will now proceed. {}", rng.sentence(16));
    for _ in 0..20 {
        script.push(Step::of("agent").hears("Continue.").says(&text));
    }
    script
}

fn flip_flop(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let (one, other) = (rng.sentence(8), rng.sentence(8));
    let failures = [rng.sentence(9), rng.sentence(9)];
    let mut noise = rng.clone();
    for round in 0..40_usize {
        let (old, new) = if round.is_multiple_of(2) {
            (&one, &other)
        } else {
            (&other, &one)
        };
        let edit = format!(r#"{{"path":"core/auth.go","old":"{old}","new":"{new}"}}"#);
        let took = noise.below(900) + 100;
        script.tool("agent", "edit_file", &edit, &format!("ok  [{took}.89s]"));
        let failed = format!("failed: {}  [{took}.64s]", failures[round % 2]);
        script.tool("agent", "run_tests", r#"{"suite":"all"}"#, &failed);
    }
    script
}

fn stuck_critic(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let (draft, verdict) = (rng.sentence(60), rng.sentence(40));
    for _ in 0..40 {
        let (a, b) = (rng.change_a_word(&draft), rng.change_a_word(&verdict));
        script.push(Step::of("writer").from("critic").hears_agent(&b).says(&a));
        script.push(Step::of("critic").from("writer").hears_agent(&a).says(&b));
    }
    script
}

fn handed_down(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let task = rng.sentence(16);
    let arguments = format!(r#"{{"task":"{task}"}}"#);
    for level in 0..40 {
        let helper = Step::of("helper").from("helper").fresh().deep(level + 2);
        script.push(helper.hears_agent(&task).calls("delegate", &arguments));
    }
    script
}

fn retry_storm(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    script.push(Step::of("agent").hears(&rng.sentence(12)).fails());
    for _ in 0..30 {
        script.push(Step::of("agent").again().fails());
    }
    script
}

fn chanting(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..10 {
        let piece = rng.sentence(9);
        script.push(
            Step::of("agent")
                .hears("Please continue.")
                .says(&piece.repeat(60)),
        );
    }
    script
}

fn long_period(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let steps: Vec<(String, String)> = (0..6)
        .map(|_| (rng.sentence(5), rng.sentence(12)))
        .collect();
    for round in 0..60_usize {
        let (query, found) = &steps[round % 6];
        script.tool("agent", "search", &format!(r#"{{"q":"{query}"}}"#), found);
    }
    script
}

fn stuck_poll(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let job = rng.word();
    script.repeat_tool(80, |_| {
        let state = r#"{"state":"queued"}"#.to_owned();
        ("get_job_status", format!(r#"{{"job":"{job}"}}"#), state)
    });
    script
}

// Work.

fn slow_poll(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let mut progress = 0;
    for _ in 0..60 {
        if rng.below(3) == 0 {
            progress += 1 + rng.below(5);
        }
        let state = format!(r#"{{"state":"running","progress":{progress}}}"#);
        script.tool("runner", "get_job_status", r#"{"job":"j1"}"#, &state);
    }
    script
}

fn patient_poll(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..15 {
        script.tool(
            "runner",
            "describe_order",
            r#"{"order":"o1"}"#,
            "still being packed",
        );
        script.last().waits(45_000);
    }
    script
}

fn paging(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for page in 0..40 {
        let arguments = format!(r#"{{"path":"log.txt","offset":{}}}"#, page * 200);
        let lines: Vec<String> = (0..12)
            .map(|at| format!("{}\t{}", page * 200 + at, rng.word()))
            .collect();
        script.tool("reader", "read_file", &arguments, &lines.join("\n"));
    }
    script
}

fn same_key_new_page(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..30 {
        let page = rng.sentence(30);
        script.tool("driver", "send_keys", r#"{"keys":" "}"#, &page);
    }
    script
}

fn map_items(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for item in 0..80 {
        let ticket = format!(
            "Classify the mood in one word.\nTicket #{item}: {}",
            rng.sentence(10)
        );
        let step = Step::of("classifier").from("orchestrator").fresh().deep(2);
        script.push(step.hears(&ticket).says("positive"));
    }
    script
}

fn samples(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let question = rng.sentence(14);
    for _ in 0..20 {
        script.push(
            Step::of("sampler")
                .fresh()
                .hears(&question)
                .says(&rng.sentence(25)),
        );
    }
    script
}

fn converging_tests(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for left in (0..25).rev() {
        let failed = format!("{left} failed, {} passed", 60 - left);
        script.tool("coder", "run_tests", r#"{"suite":"all"}"#, &failed);
        let edit = format!(r#"{{"path":"src/app.py","new":"{}"}}"#, rng.sentence(8));
        script.tool("coder", "edit_file", &edit, "File updated successfully.");
    }
    script
}

fn many_edits(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for at in 0..40 {
        let edit = format!(
            r#"{{"path":"{}/{}_{at}.py","new":"SPDX MIT"}}"#,
            rng.word(),
            rng.word()
        );
        script.tool("editor", "edit_file", &edit, "File updated successfully.");
    }
    script
}

fn short_user(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for step in 0..25 {
        let text = format!("Step {step}: {} Shall I go on?", rng.sentence(12));
        script.push(Step::of("assistant").hears("yes").says(&text));
    }
    script
}

fn few_failures(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..6 {
        script.push(Step::of("agent").hears(&rng.sentence(10)).fails());
        for _ in 0..4 {
            script.push(Step::of("agent").again().fails());
        }
        script.push(Step::of("agent").again().says(&rng.sentence(12)));
    }
    script
}

fn kept_plan(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let steps: Vec<String> = (0..8).map(|_| rng.sentence(4)).collect();
    for done in 0..8 {
        let plan = format!(r#"{{"done":{done},"plan":"{}"}}"#, steps.join(" "));
        script.tool("dev", "update_plan", &plan, "Plan updated");
        for _ in 0..2 {
            let query = format!(r#"{{"q":"{}"}}"#, rng.sentence(4));
            script.tool("dev", "grep", &query, &rng.sentence(18));
        }
    }
    script
}

fn check_between(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..12 {
        let edit = format!(r#"{{"path":"core/auth.go","new":"{}"}}"#, rng.sentence(7));
        script.tool("dev", "edit_file", &edit, "ok");
        script.tool(
            "dev",
            "bash",
            r#"{"command":"git diff --stat"}"#,
            " 1 file changed",
        );
        let commit = format!(r#"{{"command":"git commit -am '{}'"}}"#, rng.sentence(4));
        script.tool(
            "dev",
            "bash",
            &commit,
            &format!("[main {}] 1 file changed", rng.hex()),
        );
    }
    script
}

fn supervisor(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..10 {
        for worker in ["tester", "writer", "coder"] {
            let (task, done) = (rng.sentence(9), rng.sentence(18));
            script.tool(
                "supervisor",
                "handoff",
                &format!(r#"{{"task":"{task}"}}"#),
                &done,
            );
            let step = Step::of(worker).from("supervisor").deep(2);
            script.push(step.hears_agent(&task).says(&done));
        }
    }
    script
}

fn better_draft(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let mut verdict = rng.sentence(9);
    for round in 0..12 {
        let draft = rng.sentence(40);
        let writer = Step::of("writer").from("judge");
        script.push(writer.hears_agent(&verdict).says(&draft));
        verdict = format!("Score 0.{}. Focus on: {}", 50 + round, rng.sentence(6));
        let judge = Step::of("judge").from("writer");
        script.push(judge.hears_agent(&draft).says(&verdict));
    }
    script
}

/// Who nods to each draft learns something each time, though it was said before by another.
fn nodding(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..30 {
        let draft = rng.sentence(40);
        script.push(
            Step::of("writer")
                .from("checker")
                .hears_agent("OK")
                .says(&draft),
        );
        script.push(
            Step::of("checker")
                .from("writer")
                .hears_agent(&draft)
                .says("OK"),
        );
    }
    script
}

/// The same job three times in one run.
fn same_job_again(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let (question, query) = (rng.sentence(9), rng.sentence(3));
    let (found, told) = (rng.sentence(20), rng.sentence(12));
    for _ in 0..4 {
        let planner = Step::of("planner").fresh().hears(&question);
        script.push(planner.calls("ask", &format!(r#"{{"q":"{query}"}}"#)));
        let researcher = Step::of("researcher").from("planner").fresh().deep(2);
        script.push(researcher.hears_agent(&query).calls("search", "{}"));
        let result = |text: &str| Step::of(text);
        let from = From::Tool {
            call: 1,
            is_error: false,
        };
        script.push(result("researcher").brings(from, &found).says(&told));
        script.push(result("planner").brings(from, &told).says(&told));
    }
    script
}

/// A batch in which each item is judged twice, with the same answer.
fn judged_twice(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..60 {
        let document = rng.sentence(20);
        for _ in 0..2 {
            let judge = Step::of("judge").from("batch").fresh().deep(2);
            script.push(judge.hears(&document).says("yes"));
        }
    }
    script
}

fn tests_that_all_fail_at_first(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for left in (3..16).rev() {
        let failed = format!("FAILED: {left} failed, {} passed", 40 - left);
        script.tool("coder", "run_tests", r#"{"suite":"all"}"#, &failed);
        let edit = format!(r#"{{"path":"src/app.py","new":"{}"}}"#, rng.sentence(8));
        script.tool("coder", "edit_file", &edit, "ok");
    }
    script
}

fn denied_errors(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..20 {
        let file = format!(
            r#"{{"path":"src/{}.rs","text":"{}"}}"#,
            rng.word(),
            rng.sentence(9)
        );
        let written = r#"{"success":true,"error":null,"isError":false,"warnings":"0 errors"}"#;
        script.tool("coder", "write_file", &file, written);
    }
    script
}

fn polled_job(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for at in 0..30 {
        let state = format!(
            r#"{{"status":"running","progress":{},"errors":[]}}"#,
            at * 3
        );
        script.tool("runner", "get_job_status", r#"{"job":"j1"}"#, &state);
    }
    script
}

fn wait_with_two_tools(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..12 {
        script.tool("runner", "sleep", r#"{"seconds":60}"#, "ok");
        script.tool("runner", "get_run_status", r#"{"run":7}"#, "in_progress");
        script.last().waits(60_000);
    }
    script
}

fn short_items(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let template = rng.sentence(100);
    for _ in 0..60 {
        let item = format!("{template}\n{}", rng.sentence(6));
        script.push(Step::of("judge").fresh().hears(&item).says("positive"));
    }
    script
}

fn numbers_alone(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..60 {
        let number = rng.below(100_000).to_string();
        script.push(Step::of("guesser").fresh().hears("How many?").says(&number));
    }
    script
}

fn unspaced_pages(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..20 {
        let text: String = rng
            .sentence(30)
            .bytes()
            .map(|byte| char::from_u32(0x4e00 + u32::from(byte) * 7).unwrap())
            .collect();
        let page = format!("\u{67e5}\u{8be2}\u{7ed3}\u{679c}\u{ff1a}{text}");
        script.tool("reader", "next_page", "{}", &page);
    }
    script
}

fn numbered_items(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let template = rng.sentence(60);
    for item in 0..60 {
        let asked = format!("{template} Record {} of {}.", item, rng.uuid());
        script.push(Step::of("judge").fresh().hears(&asked).says("valid"));
    }
    script
}

fn yes_and_no(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let question = rng.sentence(9);
    for _ in 0..100 {
        let answer = if rng.below(3) == 0 { "no" } else { "yes" };
        script.push(Step::of("sampler").fresh().hears(&question).says(answer));
    }
    script
}

fn check_between_waits(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..10 {
        script.tool("runner", "bash", r#"{"command":"sleep 60"}"#, "");
        script.tool(
            "runner",
            "bash",
            r#"{"command":"kubectl get pods"}"#,
            "Pending",
        );
        script.last().waits(60_000);
    }
    script
}

fn heartbeats(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..60 {
        let step = Step::of("watcher")
            .fresh()
            .hears("Scheduled check.")
            .says("HEARTBEAT_OK");
        script.push(step);
        script.last().waits(60_000);
    }
    script
}

fn asked_four_times(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    for _ in 0..6 {
        let (query, found) = (rng.sentence(2), rng.sentence(8));
        for _ in 0..4 {
            script.tool("agent", "lookup", &format!(r#"{{"q":"{query}"}}"#), &found);
        }
    }
    script
}

fn mended_blanks(rng: &mut Rng) -> Script {
    let mut script = Script::after_work(rng);
    let words = rng.sentence(30);
    for blanks in 1..8 {
        let code = words.replace(' ', &" ".repeat(blanks));
        script.push(Step::of("coder").hears("Not yet. Try again.").says(&code));
    }
    script
}
