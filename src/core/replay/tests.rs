use proptest::prelude::*;

use super::*;
use crate::core::digest::DigestSeed;

const SEED: DigestSeed = DigestSeed(5);

/// A text and something in it that changes by itself.
fn mark(text: &str, volatile: u32) -> Mark {
    Mark {
        exact: SEED.digest(format!("{text}#{volatile}").as_bytes()),
        steady: SEED.digest(text.as_bytes()),
    }
}

fn asked(agent: u8, texts: &[(String, u32)]) -> Asked {
    Asked {
        agent: Label::parse(&format!("agent-{agent}")).ok(),
        operation: Operation::Chat,
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        model: Label::parse("m").ok(),
        tools: None,
        messages: texts
            .iter()
            .map(|(text, volatile)| mark(text, *volatile))
            .collect(),
    }
}

/// Conversations that grow by two messages a call; calls of all of them one after the other.
fn tape() -> impl Strategy<Value = Vec<Vec<(String, u32)>>> {
    let text = || ("[a-c]{1,2}", 0..3_u32);
    let conversation = prop::collection::vec(text(), 1..8);
    prop::collection::vec(conversation, 1..5).prop_map(|conversations| {
        let mut calls = Vec::new();
        for whole in conversations {
            let lengths = (1..=whole.len()).step_by(2);
            calls.extend(lengths.map(|len| whole[..len].to_vec()));
        }
        calls
    })
}

fn deck(calls: &[Vec<(String, u32)>]) -> (Deck, Vec<Asked>) {
    let calls: Vec<Asked> = calls.iter().map(|texts| asked(0, texts)).collect();
    (Deck::new(calls.clone(), |_| true), calls)
}

proptest! {
    #[test]
    fn a_tape_played_to_itself_plays_every_call_in_order(texts in tape()) {
        let (mut deck, calls) = deck(&texts);
        for (at, call) in calls.iter().enumerate() {
            let played = deck.take(call).unwrap();
            prop_assert_eq!(&calls[played], call);
            prop_assert!(played <= at);
        }
        let beyond = Departure { call: None, difference: Difference::Beyond };
        prop_assert_eq!(deck.take(&calls[0]), Err(beyond));
    }

    #[test]
    fn calls_in_any_order_are_each_played_with_what_they_say(
        (texts, order) in tape().prop_flat_map(|texts| {
            let order = Just((0..texts.len()).collect::<Vec<_>>()).prop_shuffle();
            (Just(texts), order)
        })
    ) {
        let (mut deck, calls) = deck(&texts);
        for at in order {
            let played = deck.take(&calls[at]).unwrap();
            prop_assert_eq!(&calls[played], &calls[at]);
        }
    }

    #[test]
    fn what_changes_by_itself_is_passed_over(texts in tape(), other in 3..9_u32) {
        let (mut deck, calls) = deck(&texts);
        for texts in &texts {
            let changed: Vec<(String, u32)> =
                texts.iter().map(|(text, _)| (text.clone(), other)).collect();
            let played = deck.take(&asked(0, &changed)).unwrap();
            let steady = |call: &Asked| call.messages.iter().map(|mark| mark.steady).collect::<Vec<_>>();
            prop_assert_eq!(steady(&calls[played]), steady(&asked(0, texts)));
        }
    }

    #[test]
    fn one_changed_text_is_found_at_its_call_and_message(
        whole in prop::collection::vec(("[a-c]{1,2}", 0..3_u32), 1..12),
        at in any::<prop::sample::Index>(),
    ) {
        let lengths: Vec<usize> = (1..=whole.len()).step_by(2).collect();
        let texts: Vec<_> = lengths.iter().map(|len| whole[..*len].to_vec()).collect();
        let at = at.index(*lengths.last().unwrap());
        let (mut deck, _) = deck(&texts);
        let mut changed = whole.clone();
        changed[at].0 = "other".to_owned();
        let first = lengths.iter().position(|len| *len > at).unwrap();
        for (call, len) in lengths.iter().enumerate() {
            let taken = deck.take(&asked(0, &changed[..*len]));
            if call < first {
                prop_assert_eq!(taken, Ok(call));
            } else {
                let difference = Difference::Message(at);
                prop_assert_eq!(taken, Err(Departure { call: Some(first), difference }));
            }
        }
    }
}

fn one(texts: &[&str]) -> Asked {
    let texts: Vec<(String, u32)> = texts.iter().map(|text| ((*text).to_owned(), 0)).collect();
    asked(0, &texts)
}

#[track_caller]
fn departs(recorded: Asked, asked: &Asked) -> Difference {
    Deck::new(vec![recorded], |_| true)
        .take(asked)
        .unwrap_err()
        .difference
}

#[test]
fn every_difference_has_its_name() {
    let recorded = one(&["a", "b"]);
    let longer = one(&["a", "b", "c"]);
    assert_eq!(departs(recorded.clone(), &longer), Difference::Longer(2));
    assert_eq!(
        departs(recorded.clone(), &one(&["a"])),
        Difference::Shorter(1)
    );
    let model = Asked {
        model: None,
        ..recorded.clone()
    };
    assert_eq!(departs(recorded.clone(), &model), Difference::Model);
    let tools = Asked {
        tools: Some(SEED.digest(b"t")),
        ..recorded.clone()
    };
    assert_eq!(departs(recorded.clone(), &tools), Difference::Tools);
    let endpoint = Asked {
        operation: Operation::Embeddings,
        ..recorded.clone()
    };
    assert_eq!(departs(recorded, &endpoint), Difference::Endpoint);
}

#[test]
fn agents_that_say_the_same_get_their_own_calls() {
    let texts = [("a".to_owned(), 0)];
    let (first, second) = (asked(1, &texts), asked(2, &texts));
    let mut deck = Deck::new(vec![first.clone(), second.clone()], |_| true);
    assert_eq!(deck.take(&second), Ok(1));
    assert_eq!(deck.take(&first), Ok(0));
}

#[test]
fn a_call_that_cannot_be_answered_is_never_played() {
    let call = one(&["a"]);
    let mut deck = Deck::new(vec![call.clone(), call.clone()], |at| at == 1);
    assert_eq!(deck.take(&call), Ok(1));
    assert!(deck.take(&call).is_err());
}
