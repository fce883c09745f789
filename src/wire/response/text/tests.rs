use super::*;

fn delta(text: &str) -> String {
    serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}}]}).to_string()
}

#[test]
fn deltas_past_the_raw_limit_are_read_as_they_come() {
    let mut output = OutputText::new(Dialect::Chat);
    let mut expected = String::new();
    for n in 0..40_000 {
        let word = format!("w{n} ");
        output.keep_event(delta(&word).as_bytes());
        expected.push_str(&word);
    }
    assert!(output.raw.len() <= RAW_LIMIT);
    assert!(output.later.is_some());
    assert_eq!(output.uncounted_bytes(), 0);
    assert_eq!(output.into_text(), expected);
}

#[test]
fn text_past_its_limit_is_counted_in_bytes() {
    let mut output = OutputText::new(Dialect::Chat);
    let part = "x".repeat(RAW_LIMIT);
    for _ in 0..10 {
        output.keep_event(delta(&part).as_bytes());
    }
    assert_eq!(output.uncounted_bytes(), 2 << 20);
    assert_eq!(output.into_text().len(), TEXT_LIMIT);
}

#[test]
fn short_of_memory_bytes_are_counted_from_there_on() {
    let mut output = OutputText::new(Dialect::Chat);
    output.keep_event(delta("kept").as_bytes());
    output.keep_less();
    let held = output.held_bytes();
    output.keep_event(delta("not kept").as_bytes());
    assert_eq!((output.uncounted_bytes(), output.held_bytes()), (8, held));
    assert_eq!(output.into_text(), "kept");
}

#[test]
fn line_feeds_within_an_event_do_not_split_it() {
    let mut output = OutputText::new(Dialect::Chat);
    output.keep_event(b"{\"choices\":\n[{\"delta\":{\"content\":\"a\\nb\"}}]}");
    output.keep_event(delta("c").as_bytes());
    assert_eq!(output.into_text(), "a\nbc");
}

#[test]
fn more_choices_than_lanes_still_count() {
    let mut output = OutputText::new(Dialect::Chat);
    for index in 0..1000 {
        let event = serde_json::json!({"choices": [{"index": index, "delta": {"content": "x"}}]});
        output.keep_event(event.to_string().as_bytes());
    }
    assert_eq!(output.into_text().len(), 1000);
}

#[test]
fn what_generates_no_text_keeps_nothing() {
    let mut output = OutputText::new(Dialect::Embeddings);
    output.keep_event(delta("x").as_bytes());
    output.keep_body(b"{\"data\":[]}".to_vec());
    assert!(output.is_empty());
}
