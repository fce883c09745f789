use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_764_500_000_000_000);

fn wrong(asked: Json) -> String {
    read(asked, NOW).unwrap_err().detail
}

#[test]
fn one_measurement_is_an_object_and_many_are_an_array() {
    let one = json!({"name": "Score", "value": 0.5, "run": "nightly"});
    let read_one = read(one.clone(), NOW).unwrap();
    assert_eq!(read_one[0].name, "score");
    assert_eq!(read_one[0].value, Value::Number(0.5));
    assert_eq!(read_one[0].who.as_str(), "api");
    assert_eq!(read_one[0].at, NOW);
    let two = json!([one, {"name": "ok", "value": true, "agent": "a", "who": "judge",
        "note": "why", "key": "k", "at": "2025-11-01T12:30:00Z"}]);
    let two = read(two, NOW).unwrap();
    assert_eq!(two.len(), 2);
    assert_eq!(two[1].note.as_deref(), Some("why"));
    assert_eq!(two[1].key.as_ref().map(Label::as_str), Some("k"));
    assert!(two[1].at < NOW);
}

#[test]
fn all_that_is_wrong_is_said_at_once_with_its_place() {
    let said = wrong(json!([
        {"name": "a b", "value": null, "run": "x"},
        {"name": "ok", "value": 1, "run": "x", "agent": "y"},
        {"name": "ok", "value": 1, "call": "nightly", "colour": "red"},
        {"name": "ok", "value": 1, "run": "", "who": 7},
        {"name": "ok", "value": 1, "run": "x", "at": "2999-01-01T00:00:00Z"},
        "score",
    ]));
    for part in [
        "[0].name: expected letters, digits",
        "[0].value: expected a finite number, true or false, or a category of 1 to 64 bytes",
        "[1].call, run, agent: expected exactly one of them",
        "[2].colour: expected one of name, value",
        "[2].call: found `nightly`, expected the id of a call",
        "[3].run: is empty",
        "[3].who: expected a text",
        "[4].at: expected a time that is not after now",
        "[5].: expected an object",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn a_request_has_some_measurements_and_not_too_many() {
    assert!(wrong(json!([])).contains("found 0 measurements, expected 1 to 1000"));
    let one = json!({"name": "score", "value": 1, "run": "x"});
    assert!(read(Json::Array(vec![one.clone(); 1000]), NOW).is_ok());
    assert!(wrong(Json::Array(vec![one; 1001])).contains("found 1001"));
}

#[test]
fn problems_past_the_first_are_counted() {
    let said = wrong(Json::Array(vec![json!({}); 50]));
    assert!(said.ends_with("; and 130 more"), "{said}");
}
