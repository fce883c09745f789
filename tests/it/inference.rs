//! Who calls, where nobody says so: conversations, agents, callers and runs by what calls repeat and
//! begin with.

use serde_json::{Value, json as object};

use crate::harness::records::Record;
use crate::harness::talk::{Talk, calling, saying};
use crate::harness::{Ask, Proxy, Upstream, json, post};

const TASK: &str = "Find out when the tide turns tomorrow, and how strong the wind will be then.";
const FOUND: &str = "The tide turns at seven in the morning, with a wind of four from the west.";

/// Answers one after the other.
async fn answering(answers: Vec<Value>) -> Upstream {
    let answers: Vec<_> = answers.iter().map(|it| json(it.to_string())).collect();
    Upstream::answers_each(answers).await
}

fn planner() -> Talk {
    Talk::new(
        "You are the planner.",
        "When shall we leave the harbour tomorrow?",
    )
}

fn researcher(task: &str) -> Talk {
    Talk::new("You are the researcher.", task)
}

async fn record(proxy: &Proxy, ask: &Ask) -> (crate::harness::Response, Record) {
    let response = proxy.call(ask).await;
    let record = proxy.record(&response).await;
    (response, record)
}

#[tokio::test]
async fn agent_caller_and_run_follow_from_what_is_said() {
    let ask_tool = calling("call_1", "ask_researcher", &object!({"task": TASK}));
    let upstream = answering(vec![ask_tool, saying(FOUND), saying("Leave at seven.")]).await;
    let proxy = Proxy::to(&upstream).await;
    let (answer, first) = record(&proxy, &planner().ask()).await;
    let (_, second) = record(&proxy, &researcher(TASK).ask()).await;
    let back = planner().heard(&answer).result(FOUND);
    let (_, third) = record(&proxy, &back.ask()).await;
    assert_eq!(first.agent(), "planner");
    assert_eq!(first.get("/caller"), &Value::Null);
    assert_eq!(second.agent(), "researcher");
    assert_eq!(second.text("/caller"), "planner");
    assert_eq!(second.number("/depth"), 2);
    assert_eq!(second.get("/path"), &object!(["planner", "researcher"]));
    assert_eq!(third.agent(), "planner");
    assert_eq!(third.get("/caller"), &Value::Null, "a result is no call");
    let runs = [first.text("/run"), second.text("/run"), third.text("/run")];
    assert!(runs[0].starts_with("auto-"), "{}", runs[0]);
    assert_eq!(runs, [runs[0]; 3]);
    assert_eq!(first.text("/agent_source"), "inferred");
    assert_eq!(first.text("/run_source"), "inferred");
    assert_eq!(second.number("/inferred/caller"), 90);
    let marks = answer.header("x-aiops-inferred").unwrap();
    assert_eq!(marks, "agent=80, run=60, conversation=60");
}

#[tokio::test]
async fn text_of_one_agent_that_another_begins_with_makes_it_its_caller() {
    let upstream = answering(vec![saying(FOUND), saying("Well said.")]).await;
    let proxy = Proxy::to(&upstream).await;
    record(&proxy, &researcher(TASK).ask()).await;
    let critic = format!("Judge this report:\n{FOUND}\nBe strict.");
    let (_, judged) = record(&proxy, &Talk::new("You are the critic.", &critic).ask()).await;
    assert_eq!(judged.text("/caller"), "researcher");
    assert_eq!(judged.number("/inferred/caller"), 70, "by a line of it");
}

#[tokio::test]
async fn agent_that_is_handed_a_conversation_is_called_by_who_hands_it_over() {
    let handed = calling("call_7", "transfer_to_researcher", &object!({}));
    let upstream = answering(vec![handed, saying(FOUND)]).await;
    let proxy = Proxy::to(&upstream).await;
    let (answer, first) = record(&proxy, &planner().ask()).await;
    let mut talk = planner().heard(&answer).result("Transferred.");
    talk.messages[0]["content"] = "You are the researcher.".into();
    let (_, second) = record(&proxy, &talk.ask()).await;
    assert_eq!(second.text("/caller"), "planner");
    assert_eq!(second.text("/run"), first.text("/run"));
}

#[tokio::test]
async fn jobs_and_clients_have_runs_of_their_own() {
    let upstream = answering(vec![saying(FOUND)]).await;
    let proxy = Proxy::to(&upstream).await;
    let mut runs = Vec::new();
    for key in ["sk-one", "sk-one", "sk-two"] {
        let talk = researcher(TASK).header("authorization", &format!("Bearer {key}"));
        runs.push(record(&proxy, &talk.ask()).await.1.text("/run").to_owned());
    }
    // What another client said leads to nobody.
    let critic = Talk::new("You are the critic.", FOUND);
    let critic = critic.header("authorization", "Bearer sk-three");
    let (_, judged) = record(&proxy, &critic.ask()).await;
    assert_eq!(judged.get("/caller"), &Value::Null);
    runs.push(judged.text("/run").to_owned());
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), 4);
}

#[tokio::test]
async fn what_is_said_of_a_call_is_not_inferred() {
    let upstream = answering(vec![saying(FOUND)]).await;
    let proxy = Proxy::to(&upstream).await;
    let talk = researcher(TASK)
        .header("x-aiops-agent", "scout")
        .header("x-aiops-run", "r1")
        .header("x-aiops-caller", "captain");
    let (answer, record) = record(&proxy, &talk.ask()).await;
    assert_eq!(record.agent(), "scout");
    assert_eq!(
        (record.text("/run"), record.text("/caller")),
        ("r1", "captain")
    );
    assert_eq!(record.text("/agent_source"), "own");
    assert_eq!(answer.header("x-aiops-inferred"), Some("conversation=60"));
}

#[tokio::test]
async fn nothing_is_inferred_where_that_is_switched_off() {
    let upstream = answering(vec![saying(FOUND)]).await;
    let off = "[attribution]\ninfer = false\n";
    let proxy = Proxy::with(&upstream).sections(off).start().await;
    let (answer, record) = record(&proxy, &researcher(TASK).ask()).await;
    assert_eq!(record.get("/run"), &Value::Null);
    assert_eq!(record.text("/agent_source"), "unknown");
    assert_eq!(answer.header("x-aiops-inferred"), None);
}

#[tokio::test]
async fn agents_can_be_named_by_their_prompt_or_by_the_name_they_got() {
    let upstream = answering(vec![saying("Yes."), saying("No.")]).await;
    let names = "[[agent]]\nname = \"pilot\"\nprompt = \"*steers the ship*\"\n\
                 [[agent]]\nname = \"oracle\"\ninferred = \"helpful-assistant-*\"\n";
    let proxy = Proxy::with(&upstream).sections(names).start().await;
    let steering = Talk::new("You are a bot that steers the ship.", "Which way?");
    assert_eq!(record(&proxy, &steering.ask()).await.1.agent(), "pilot");
    let helpful = Talk::new("You are a helpful assistant.", "Which way?");
    assert_eq!(record(&proxy, &helpful.ask()).await.1.agent(), "oracle");
    let mut named = Talk::new("Answer as briefly as you can.", "Which way?");
    named.messages[0]["name"] = "scout".into();
    assert_eq!(record(&proxy, &named.ask()).await.1.agent(), "scout");
}

#[tokio::test]
async fn history_that_was_cut_short_is_the_same_conversation() {
    let upstream = answering(vec![saying(FOUND), saying(TASK), saying("Good night.")]).await;
    let proxy = Proxy::to(&upstream).await;
    let (answer, first) = record(&proxy, &planner().ask()).await;
    let talk = planner()
        .heard(&answer)
        .user("And when shall we be back at home then?");
    let (answer, _) = record(&proxy, &talk.ask()).await;
    let mut talk = talk
        .heard(&answer)
        .user("Is that quite sure, or just a guess?");
    // All but the instructions and what was said last.
    talk.messages.drain(1..3);
    let (_, third) = record(&proxy, &talk.ask()).await;
    assert_eq!(third.text("/run"), first.text("/run"));
    assert_eq!(third.number("/inferred/conversation"), 80);
}

#[tokio::test]
async fn marks_of_a_cache_that_move_on_do_not_break_a_conversation() {
    let said = object!({"id": "msg_1", "type": "message", "role": "assistant",
        "content": [{"type": "text", "text": FOUND}],
        "usage": {"input_tokens": 9, "output_tokens": 9}});
    let upstream = Upstream::answers(json(said.to_string())).await;
    let proxy = Proxy::to(&upstream).await;
    let marked = |text: &str, is_last: bool| {
        let mut part = object!({"type": "text", "text": text});
        if is_last {
            part["cache_control"] = object!({"type": "ephemeral"});
        }
        object!({"role": "user", "content": [part]})
    };
    let assistant = object!({"role": "assistant", "content": [{"type": "text", "text": FOUND}]});
    let ask = |messages: Value| {
        let body = object!({"model": "claude-sonnet-4-5", "max_tokens": 99,
            "system": "You are the skipper.", "messages": messages});
        post("/v1/messages", body.to_string())
    };
    let (_, first) = record(&proxy, &ask(object!([marked(TASK, true)]))).await;
    let longer = object!([
        marked(TASK, false),
        assistant,
        marked("And then, skipper?", true)
    ]);
    let (_, second) = record(&proxy, &ask(longer)).await;
    assert_eq!(second.text("/run"), first.text("/run"));
    assert_eq!(second.number("/inferred/conversation"), 99);
}

#[tokio::test]
async fn response_that_is_gone_on_from_tells_the_conversation() {
    let response = |id: &str| {
        object!({"id": id, "object": "response", "status": "completed", "model": "gpt-5",
            "output": [{"type": "message", "role": "assistant",
                "content": [{"type": "output_text", "text": FOUND}]}],
            "usage": {"input_tokens": 9, "output_tokens": 9, "total_tokens": 18}})
    };
    let upstream = answering(vec![response("resp_1"), response("resp_2")]).await;
    let proxy = Proxy::to(&upstream).await;
    let ask = |input: &str, previous: Option<&str>| {
        let body = object!({"model": "gpt-5", "instructions": "You are the planner.",
            "input": input, "previous_response_id": previous});
        post("/v1/responses", body.to_string())
    };
    let (_, first) = record(&proxy, &ask(TASK, None)).await;
    let (_, second) = record(&proxy, &ask("And then?", Some("resp_1"))).await;
    assert_eq!(second.text("/run"), first.text("/run"));
    assert_eq!(second.number("/inferred/conversation"), 100);
    assert_eq!(second.agent(), "planner");
}
