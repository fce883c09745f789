//! Ledgers in which nothing is wasted, so that nothing may be found.

use serde_json::json;

use super::ledger::{Api, Talk, Work, prose};

#[test]
fn nothing_is_found_in_a_coding_agent_that_reads_and_edits_with_a_warm_cache() {
    for api in [Api::Chat, Api::Messages] {
        let mut work = Work::new();
        if api == Api::Messages {
            work.model("claude-sonnet-4-5");
        }
        for run in 0..6 {
            work.run(&format!("run-{run}"));
            let mut talk = Talk::new(api)
                .system(&prose(1, 12_000))
                .tool("read", "Reads a file.")
                .tool("edit", "Edits a file.")
                .user(&format!("Mend the fault number {run}."));
            talk.is_marked = api == Api::Messages;
            for step in 0..25 {
                let tool = if step % 3 == 2 { "edit" } else { "read" };
                let arguments = json!({"file": format!("src/{run}/{step}.rs")}).to_string();
                work.asks(&talk).after_ms(3000).calls(tool, &arguments);
                let given = prose(run * 100 + step, 6000);
                talk = talk.result(tool, &arguments, &given);
            }
            work.asks(&talk).says("The fault is mended.");
        }
        work.is_healthy();
    }
}

#[test]
fn nothing_is_found_in_single_questions_with_numbers_in_them() {
    let mut work = Work::new();
    let table = |n: usize| {
        let rows = (0..400).map(|row| format!("{n},{row},{}", n * row));
        rows.collect::<Vec<_>>().join("\n")
    };
    for n in 0..60 {
        work.run(&format!("job-{n}"));
        let talk = Talk::new(Api::Chat).system("You sum tables up.");
        let ticket = talk.clone().user(&format!("Summarise ticket {n}."));
        work.asks(&ticket)
            .says(&format!("Ticket {n} is about a printer without paper."));
        let csv = talk.user(&format!("Sum this up:\n{}", table(n)));
        work.asks(&csv).says(&format!("Its sum is {n}."));
    }
    work.is_healthy();
}

#[test]
fn nothing_is_found_in_a_fan_out_over_sources_with_screenshots() {
    let mut work = Work::new();
    for n in 0..40 {
        work.run(&format!("search-{}", n / 8));
        let image = format!(
            "data:image/png;base64,{}",
            format!("{n:04}QUJD").repeat(20_000)
        );
        let mut talk = Talk::new(Api::Chat)
            .system(&prose(2, 4000))
            .tool("browse", &prose(3, 900))
            .tool("ask_human", &prose(4, 900));
        let shot = json!({"type": "image_url", "image_url": {"url": image}});
        let text = json!({"type": "text", "text": format!("{}\nWhat does source {n} say?", prose(n + 10, 3000))});
        talk.push(&json!({"role": "user", "content": [text, shot]}));
        work.asks(&talk)
            .input(9000)
            .cached(0)
            .calls("browse", r#"{"to":"next"}"#);
    }
    work.is_healthy();
}

#[test]
fn nothing_is_found_in_routing_by_difficulty() {
    let mut work = Work::new();
    for n in 0..80 {
        let is_hard = n % 3 == 0;
        work.run(&format!("question-{n}"));
        work.model(if is_hard { "gpt-5" } else { "gpt-5-mini" });
        let talk = Talk::new(Api::Chat)
            .system(&prose(1, 3000))
            .user(&prose(n + 9, 600));
        work.asks(&talk).output(400).says(&prose(n + 500, 800));
    }
    work.is_healthy();
}

#[test]
fn nothing_is_found_in_a_chain_that_refines_its_own_answers() {
    for api in [Api::Chat, Api::Messages] {
        let mut work = Work::new();
        for run in 0..5 {
            work.run(&format!("essay-{run}"));
            let mut draft = prose(run + 50, 90);
            for step in 0..10 {
                let talk = Talk::new(api).system("You improve texts.");
                let talk = talk.user(&format!("Summary so far:\t\"{draft}\"\nMake it better."));
                draft = format!("{} and {}", prose(run * 50 + step + 700, 60), &draft[..40]);
                work.asks(&talk).after_ms(100).for_seconds(9).says(&draft);
            }
        }
        work.is_healthy();
    }
}

#[test]
fn nothing_is_found_in_steps_that_take_up_a_name_or_a_short_answer() {
    let mut work = Work::new();
    for run in 0..5 {
        work.run(&format!("fruit-{run}"));
        let fruits = [
            "apricots",
            "blackberries",
            "cherries",
            "damsons",
            "elderberries",
        ];
        let plan = Talk::new(Api::Chat)
            .system("You help.")
            .user(&format!("Which fruits are there in {run}?"));
        work.asks(&plan).for_seconds(9).says(&fruits.join(", "));
        for fruit in fruits {
            let ask = Talk::new(Api::Chat)
                .system("You help.")
                .user(&format!("Describe {fruit} from {run}"));
            work.asks(&ask).after_ms(50).for_seconds(9).says("Sweet.");
        }
    }
    work.is_healthy();
}

#[test]
fn nothing_is_found_in_a_dialogue_that_the_provider_keeps() {
    let mut work = Work::new();
    for run in 0..6 {
        work.run(&format!("chat-{run}"));
        for turn in 0..12 {
            let talk = Talk::new(Api::Responses)
                .system(&prose(1, 300))
                .tool("refund", &prose(2, 700))
                .tool("search", &prose(3, 700))
                .with(&format!(r#""previous_response_id":"resp_{run}_{turn}""#))
                .user(&format!("{} then?", prose(run * 20 + turn, 80)));
            work.asks(&talk)
                .after_ms(500)
                .for_seconds(6)
                .input(100_000)
                .says(&prose(run * 20 + turn + 400, 200));
        }
    }
    work.is_healthy();
}

#[test]
fn nothing_is_found_in_an_agent_that_polls_and_is_told_something_new_each_time() {
    let mut work = Work::new();
    for run in 0..5 {
        work.run(&format!("build-{run}"));
        let mut talk = Talk::new(Api::Chat)
            .system(&prose(1, 3000))
            .user(&format!("Build {run} and tell me how it went."));
        for step in 0..12 {
            work.asks(&talk)
                .after_ms(2000)
                .calls("get_job", r#"{"id":7}"#);
            talk = talk.result(
                "get_job",
                r#"{"id":7}"#,
                &format!("{step} of 12 steps done"),
            );
        }
        work.asks(&talk).says("It is built.");
    }
    work.is_healthy();
}

#[test]
fn nothing_is_found_in_an_agent_that_presses_a_key_again_and_again() {
    let mut work = Work::new();
    for run in 0..5 {
        work.run(&format!("form-{run}"));
        let mut talk = Talk::new(Api::Chat)
            .system(&prose(1, 3000))
            .user(&format!("Fill form {run} in."));
        for _ in 0..9 {
            work.asks(&talk)
                .after_ms(900)
                .calls("press_key", r#"{"key":"Tab"}"#);
            talk = talk.result("press_key", r#"{"key":"Tab"}"#, "done");
        }
        work.asks(&talk).calls("type_text", r#"{"text":"yes"}"#);
        talk = talk.result("type_text", r#"{"text":"yes"}"#, "done");
        work.asks(&talk).says("The form is filled in.");
    }
    work.is_healthy();
}

#[test]
fn nothing_is_found_in_an_agent_that_scrolls_to_the_end() {
    let mut work = Work::new();
    for run in 0..5 {
        work.run(&format!("page-{run}"));
        let mut talk = Talk::new(Api::Chat)
            .system(&prose(1, 3000))
            .user(&format!("Read page {run}."));
        for step in 0..8 {
            work.asks(&talk).after_ms(900).calls("scroll_down", "{}");
            let told = if step == 7 { "the end" } else { "ok" };
            talk = talk.result("scroll_down", "{}", told);
        }
        work.asks(&talk).says("It is read.");
    }
    work.is_healthy();
}

#[test]
fn nothing_is_found_in_steps_of_a_program_that_uses_each_answer_for_the_next() {
    let mut work = Work::new();
    for run in 0..5 {
        work.run(&format!("report-{run}"));
        // A query is run, its rows are drawn, the picture is judged: no answer comes in a question.
        for step in 0..4 {
            let talk = Talk::new(Api::Chat)
                .system("You help.")
                .user(&prose(run * 10 + step, 500));
            let ask = work.asks(&talk).after_ms(100).for_seconds(20);
            ask.says(&format!("select {} from a table", 1000 + step));
        }
    }
    work.is_healthy();
}

#[test]
fn nothing_is_found_in_a_person_who_goes_on_after_a_cut_answer() {
    let mut work = Work::new();
    for chat in 0..12 {
        work.run(&format!("chat-{chat}"));
        let talk = Talk::new(Api::Chat)
            .system(&prose(1, 3000))
            .user(&prose(chat + 10, 200));
        work.asks(&talk).output(4000).cut().says("half of it");
        // What one says after any answer, and what but one says.
        let talk = talk.said("half of it");
        let thanks = talk.clone().user("Thanks!");
        work.asks(&thanks).says("You are welcome.");
        let other = thanks
            .said("You are welcome.")
            .user(&format!("And what of {chat}?"));
        work.asks(&other).says("The same.");
        work.asks(&other.said("The same.").user("Thanks!"))
            .says("Bye.");
    }
    work.is_healthy();
}
