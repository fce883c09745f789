//! Calls that other instances served.

use super::super::sample::{admission, settlement};
use super::*;
use crate::core::call::Outcome;
use crate::core::id::Label;
use crate::ledger::Adopted;

fn adopt(listener: &Listener, call: Call, instance: &str) -> CallId {
    let sample = &listener.sample;
    let admission = admission(sample.clock.call_id(), sample.clock.now(), call);
    let id = admission.id;
    let ended = settlement(admission.clone(), call, Outcome::Completed);
    let adopted = Adopted::Call(Box::new((admission, ended)));
    let instance = Label::parse(instance).unwrap();
    let durable = sample.ledger.adopt(adopted, &instance).unwrap();
    durable.block();
    id
}

#[tokio::test]
async fn call_of_another_instance_is_listed_with_all_others_and_by_its_instance() {
    let listener = Listener::new();
    let own = listener.sample.record(PLANNER);
    let other = adopt(&listener, RESEARCHER, "east");
    adopt(&listener, RESEARCHER, "west");
    let all = listener.json("/api/v1/calls").await;
    assert_eq!(all["calls"].as_array().unwrap().len(), 3);
    let east = listener.json("/api/v1/calls?instance=east").await;
    let east = east["calls"].as_array().unwrap();
    assert_eq!(east.len(), 1);
    assert_eq!(east[0]["id"], other.to_string());
    assert_eq!(east[0]["instance"], "east");
    let call = listener.json(&format!("/api/v1/calls/{own}")).await;
    assert!(call["instance"].is_null());
}

#[tokio::test]
async fn bodies_of_another_instances_call_are_said_to_be_there() {
    let listener = Listener::new();
    let id = adopt(&listener, RESEARCHER, "east");
    let step = listener.json(&format!("/api/v1/calls/{id}/step")).await;
    let text = step.to_string();
    assert_eq!(
        text.matches("The instance east served this call").count(),
        2,
        "{text}"
    );
    assert_eq!(text.matches("\"elsewhere\"").count(), 2, "{text}");
}
