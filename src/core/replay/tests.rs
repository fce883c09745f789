use proptest::prelude::*;

use super::*;

const SEED: DigestSeed = DigestSeed(5);

/// What each of its messages says.
type Texts = Vec<String>;

fn asked(texts: &[String]) -> Asked {
    Asked {
        agent: None,
        operation: Operation::Chat,
        method: "POST".to_owned(),
        path: "completions".to_owned(),
        model: Label::parse("m").ok(),
        tools: None,
        form: SEED.digest(b"stream"),
        goes_on: None,
        is_cut: false,
        messages: texts.iter().map(|text| Mark::of(text, "", SEED)).collect(),
        body: SEED.digest(texts.join("\n").as_bytes()),
    }
}

fn one(texts: &[&str]) -> Asked {
    let texts: Texts = texts.iter().map(|text| (*text).to_owned()).collect();
    asked(&texts)
}

fn of_agent(agent: &str, call: Asked) -> Asked {
    let agent = Label::parse(agent).ok();
    Asked { agent, ..call }
}

fn goes_on(id: &str, call: Asked) -> Asked {
    let goes_on = Some(SEED.digest(id.as_bytes()));
    Asked { goes_on, ..call }
}

fn deck(calls: &[Asked]) -> Deck {
    Deck::new(calls.to_vec(), |_| None)
}

/// `T` stands for a time, `N` and a number for a name.
fn write(text: &str, run: u8) -> String {
    let words = text.split(' ').map(|word| match word.strip_prefix('N') {
        Some(number) => format!(
            "{run:08x}-0000-4000-8000-{:012}",
            number.parse::<u32>().unwrap()
        ),
        None if word == "T" => format!("20{run:02}-11-30T06:12:34Z"),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn written(texts: &[String], run: u8) -> Texts {
    texts.iter().map(|text| write(text, run)).collect()
}

/// Conversations that grow by two messages a call. Each message ends with a word of its own, but for
/// those that are copies of another conversation with other names.
fn conversations() -> impl Strategy<Value = Vec<Vec<Texts>>> {
    let word = prop_oneof![
        6 => "[a-z]{3,7}",
        1 => Just("T".to_owned()),
        2 => (0..3_u8).prop_map(|number| format!("N{number}")),
    ];
    let text = prop::collection::vec(word, 4..9).prop_map(|words| words.join(" "));
    let whole = prop::collection::vec(text, 1..8);
    let all = prop::collection::vec((whole, any::<bool>()), 1..4);
    all.prop_map(|all| {
        let mut conversations = Vec::new();
        for (texts, is_doubled) in all {
            let number = conversations.len();
            let own = texts.iter().enumerate();
            let own: Texts = own
                .map(|(at, text)| format!("{text} w{number}m{at}"))
                .collect();
            if is_doubled {
                let others = ["N0", "N1", "N2"].into_iter().zip(["N5", "N6", "N7"]);
                let other = others.fold(own.join("\n"), |text, (old, new)| text.replace(old, new));
                conversations.push(calls(&other.split('\n').map(str::to_owned).collect()));
            }
            conversations.push(calls(&own));
        }
        conversations
    })
}

fn calls(whole: &Texts) -> Vec<Texts> {
    let lengths = (1..=whole.len()).step_by(2);
    lengths.map(|len| whole[..len].to_vec()).collect()
}

/// In which order the calls of all conversations come: each keeps its own.
fn order(conversations: &[Vec<Texts>]) -> impl Strategy<Value = Vec<usize>> + use<> {
    let each = conversations.iter().enumerate();
    let turns: Vec<usize> = each.flat_map(|(at, calls)| vec![at; calls.len()]).collect();
    Just(turns).prop_shuffle()
}

/// Conversations, and two orders of their calls.
fn runs() -> impl Strategy<Value = (Vec<Vec<Texts>>, Vec<usize>, Vec<usize>)> {
    conversations().prop_flat_map(|all| {
        let orders = (order(&all), order(&all));
        (Just(all), orders).prop_map(|(all, (then, now))| (all, then, now))
    })
}

/// The calls in an order: of which conversation each is, and what it says.
fn in_order(all: &[Vec<Texts>], order: &[usize]) -> Vec<(usize, Texts)> {
    let mut next = vec![0; all.len()];
    let calls = order.iter().map(|of| {
        next[*of] += 1;
        (*of, all[*of][next[*of] - 1].clone())
    });
    calls.collect()
}

proptest! {
    #[test]
    fn a_record_played_to_itself_plays_every_call_and_changes_nothing((all, then, _) in runs()) {
        let calls = in_order(&all, &then);
        let calls: Vec<Asked> = calls.iter().map(|(_, texts)| asked(&written(texts, 1))).collect();
        let mut deck = deck(&calls);
        for call in &calls {
            let played = deck.take(call).unwrap();
            prop_assert_eq!(&calls[played], call);
        }
        prop_assert_eq!(deck.changed(), 0);
        let again = deck.take(&calls[0]).unwrap_err();
        prop_assert_eq!((again.call, again.difference), (None, Difference::Again));
    }

    #[test]
    fn conversations_in_any_order_each_get_their_own_answers((all, then, now) in runs()) {
        let recorded = in_order(&all, &then);
        let calls: Vec<Asked> = recorded.iter().map(|(_, texts)| asked(&written(texts, 1))).collect();
        let mut deck = deck(&calls);
        for (_, texts) in in_order(&all, &now) {
            let played = deck.take(&asked(&written(&texts, 1))).unwrap();
            prop_assert_eq!(&recorded[played].1, &texts);
        }
    }

    #[test]
    fn other_times_and_names_throughout_are_passed_over((all, then, now) in runs()) {
        let recorded = in_order(&all, &then);
        let calls: Vec<Asked> = recorded.iter().map(|(_, texts)| asked(&written(texts, 1))).collect();
        let mut deck = deck(&calls);
        let mut changed = 0;
        for (_, texts) in in_order(&all, &now) {
            let asked = asked(&written(&texts, 2));
            let played = deck.take(&asked).unwrap();
            prop_assert_eq!(steady(&written(&recorded[played].1, 2).join("\n")).text, steady(&written(&texts, 2).join("\n")).text);
            changed += usize::from(calls[played].body != asked.body);
        }
        prop_assert_eq!(deck.changed(), changed);
    }

    #[test]
    fn one_changed_word_is_found_at_its_call_and_message(
        (all, then, now) in runs(),
        (of, at, word) in any::<(prop::sample::Index, prop::sample::Index, prop::sample::Index)>(),
    ) {
        let recorded = in_order(&all, &then);
        let calls: Vec<Asked> = recorded.iter().map(|(_, texts)| asked(&written(texts, 1))).collect();
        let mut deck = deck(&calls);
        let of = of.index(all.len());
        let whole = all[of].last().unwrap();
        let at = at.index(whole.len());
        let mut words: Vec<&str> = whole[at].split(' ').collect();
        let word = word.index(words.len());
        words[word] = "CHANGED";
        let changed = words.join(" ");
        // Of two conversations that differ in names alone, the name may be what is changed.
        let plain = |texts: &Texts| written(texts, 0).iter().map(|text| steady(text).text).collect::<Texts>();
        for (is, texts) in in_order(&all, &now) {
            if is != of || texts.len() <= at {
                prop_assert!(deck.take(&asked(&written(&texts, 1))).is_ok());
                continue;
            }
            let mut other = texts.clone();
            other[at] = changed;
            let departure = deck.take(&asked(&written(&other, 1))).unwrap_err();
            prop_assert_eq!(departure.difference, Difference::Message(at));
            prop_assert_eq!(plain(&recorded[departure.call.unwrap()].1), plain(&texts));
            break;
        }
    }
}

#[track_caller]
fn departs(recorded: Asked, asked: &Asked) -> Difference {
    deck(&[recorded]).take(asked).unwrap_err().difference
}

#[test]
fn every_difference_has_its_name() {
    let recorded = one(&["a", "b"]);
    let other = Mark::of("t", "", SEED);
    let change = |change: fn(&mut Asked)| {
        let mut asked = recorded.clone();
        change(&mut asked);
        asked
    };
    for (asked, difference) in [
        (one(&["a", "c"]), Difference::Message(1)),
        (one(&["a", "b", "c"]), Difference::Longer(2)),
        (one(&["a"]), Difference::Shorter(1)),
        (change(|it| it.model = None), Difference::Model),
        (
            change(|it| it.form = SEED.digest(b"whole")),
            Difference::Form,
        ),
        (
            change(|it| it.operation = Operation::Embeddings),
            Difference::Endpoint,
        ),
        (
            change(|it| it.path = "count".to_owned()),
            Difference::Endpoint,
        ),
        (
            Asked {
                tools: Some(other),
                ..recorded.clone()
            },
            Difference::Tools,
        ),
        (goes_on("resp_1", recorded.clone()), Difference::GoesOn),
    ] {
        assert_eq!(departs(recorded.clone(), &asked), difference);
    }
}

#[test]
fn agents_that_say_the_same_get_their_own_calls() {
    let (first, second) = (of_agent("a", one(&["x"])), of_agent("b", one(&["x"])));
    let mut deck = deck(&[first.clone(), second.clone()]);
    assert_eq!(deck.take(&second), Ok(1));
    assert_eq!(deck.take(&first), Ok(0));
}

#[test]
fn conversations_that_say_the_same_are_told_apart_by_what_they_go_on_with() {
    let calls = ["resp_1", "resp_2"].map(|id| goes_on(id, one(&["continue"])));
    let mut both = deck(&calls);
    assert_eq!(both.take(&calls[1]), Ok(1));
    // Its own is gone, and the other is not its own.
    assert!(both.take(&calls[1]).is_err());
    // What the record does not know is another name for the same.
    let mut renamed = deck(&calls);
    assert_eq!(renamed.take(&goes_on("resp_9", one(&["continue"]))), Ok(0));
    assert_eq!(renamed.changed(), 1);
}

#[test]
fn conversation_is_found_by_what_it_says_behind_a_time() {
    let says = |time: &str, order: &str| {
        let system = format!("Today is {time}.");
        one(&[
            &system,
            "Where is my order?",
            &format!("order {order} is on its way"),
        ])
    };
    let mut deck = deck(&[says("2026-11-30", "A1"), says("2026-11-30", "B2")]);
    assert_eq!(deck.take(&says("2027-01-02", "B2")), Ok(1));
    assert_eq!(deck.take(&says("2027-01-02", "A1")), Ok(0));
}

#[test]
fn name_that_the_record_knows_is_not_another_one() {
    let [known, other, new] = ["aa", "bb", "cc"].map(|end| {
        let name = format!("01a22a2d-2eef-712a-a49d-f3fc61d7db{end}");
        (one(&[&format!("cancel {name}")]), name)
    });
    let mut deck = deck(&[known.0.clone(), other.0.clone()]);
    assert_eq!(deck.take(&other.0), Ok(1));
    let again = deck.take(&other.0).unwrap_err();
    assert_eq!(again.difference, Difference::Again);
    assert_eq!(deck.take(&new.0), Ok(0));
    let mixed = format!("move {} to {}", new.1, new.1);
    let recorded = format!("move {} to {}", known.1, other.1);
    assert_eq!(
        departs(one(&[&recorded]), &one(&[&mixed])),
        Difference::Message(0)
    );
    let swapped = format!("move {} to {}", other.1, known.1);
    assert_eq!(
        departs(one(&[&recorded]), &one(&[&swapped])),
        Difference::Message(0)
    );
}

#[test]
fn answer_from_the_record_may_keep_the_old_name_beside_the_new_one() {
    let says = |new: &str| {
        one(&[
            &format!("job {new}"),
            "started 01a22a2d-2eef-712a-a49d-f3fc61d7dbaa",
        ])
    };
    let mut deck = deck(&[says("01a22a2d-2eef-712a-a49d-f3fc61d7dbaa")]);
    assert_eq!(
        deck.take(&says("01a22a2d-2eef-712a-a49d-f3fc61d7dbcc")),
        Ok(0)
    );
}

#[test]
fn changed_prompt_of_one_of_two_agents_is_found_at_its_own_first_call() {
    let planner = "You plan releases. Answer with a list of steps.";
    let writer = "You write release notes. Answer in plain words.";
    let question = "What about version four?";
    let calls = [
        one(&[planner, question]),
        one(&[writer, question]),
        one(&[planner, question, "steps", "go on"]),
        one(&[writer, question, "notes", "go on"]),
    ];
    let changed = "You write release notes. Answer in rhymes.";
    // It asks first, or after the other one.
    for before in [0, 1] {
        let mut deck = deck(&calls);
        for call in &calls[..before] {
            deck.take(call).unwrap();
        }
        let departure = deck.take(&one(&[changed, question])).unwrap_err();
        assert_eq!(
            (departure.call, departure.difference),
            (Some(1), Difference::Message(0))
        );
        assert_eq!(departure.stand_in, Some(1));
        // And the other one is not disturbed.
        assert_eq!(deck.take(&calls[2]), Ok(2));
    }
}

#[test]
fn changed_document_of_many_is_found_at_its_own_call() {
    let calls = [
        "the harbour was closed",
        "a storm came up at night",
        "nobody saw the lamp",
    ];
    let calls = calls.map(|text| one(&[&format!("Summarise: {text}")]));
    let mut deck = deck(&calls);
    let departure = deck
        .take(&one(&["Summarise: nobody saw the boat"]))
        .unwrap_err();
    assert_eq!(departure.call, Some(2));
}

#[test]
fn request_behind_the_end_of_its_conversation_is_of_no_call() {
    let calls = [one(&["You plan.", "plan"]), one(&["You write.", "write"])];
    let mut deck = deck(&calls);
    deck.take(&calls[1]).unwrap();
    let departure = deck
        .take(&one(&["You write.", "write", "done", "more"]))
        .unwrap_err();
    assert_eq!((departure.call, departure.after), (None, Some(1)));
    assert_eq!(departure.difference, Difference::Beyond);
    assert_eq!(departure.stand_in, Some(0));
}

#[test]
fn request_to_another_endpoint_has_no_stand_in() {
    let embeddings = Asked {
        operation: Operation::Embeddings,
        ..one(&["a"])
    };
    let departure = deck(&[one(&["a"])]).take(&embeddings).unwrap_err();
    assert_eq!(
        (departure.call, departure.difference),
        (Some(0), Difference::Endpoint)
    );
    assert_eq!(departure.stand_in, None);
}

#[test]
fn call_that_cannot_be_played_is_named_with_its_reason() {
    let calls = [one(&["a"]), one(&["b"]), one(&["c"])];
    let mut deck = Deck::new(calls.to_vec(), |at| {
        (at == 1).then(|| "it is too long".to_owned())
    });
    assert_eq!(deck.take(&calls[0]), Ok(0));
    for _ in 0..2 {
        let departure = deck.take(&calls[1]).unwrap_err();
        assert_eq!(
            (departure.call, departure.difference),
            (Some(1), Difference::Unplayable)
        );
        assert_eq!(departure.unplayable.as_deref(), Some("it is too long"));
    }
    assert_eq!(deck.take(&calls[2]), Ok(2));
}

#[test]
fn call_whose_body_is_cut_is_found_by_its_front_if_no_other_is_more_like_it() {
    let cut = Asked {
        is_cut: true,
        model: None,
        ..one(&["a"])
    };
    let calls = [one(&["a"]), cut, one(&["a", "list the ports"])];
    let why_not = |at| (at == 1).then(|| "it is too long".to_owned());
    let mut deck = Deck::new(calls.to_vec(), why_not);
    let departure = deck.take(&one(&["a", "a long text"])).unwrap_err();
    let found = (departure.call, departure.difference);
    assert_eq!(found, (Some(1), Difference::Unplayable));
    let departure = deck.take(&one(&["a", "list the piers"])).unwrap_err();
    let found = (departure.call, departure.difference);
    assert_eq!(found, (Some(2), Difference::Message(1)));
    assert_eq!(deck.take(&calls[0]), Ok(0));
}

#[test]
fn of_two_that_say_the_same_the_one_that_can_be_played_goes_first() {
    let call = one(&["a"]);
    let mut deck = Deck::new(vec![call.clone(), call.clone()], |at| {
        (at == 0).then(String::new)
    });
    assert_eq!(deck.take(&call), Ok(1));
    assert_eq!(
        deck.take(&call).unwrap_err().difference,
        Difference::Unplayable
    );
}

#[test]
fn strict_deck_plays_the_same_bodies_alone() {
    let (then, now) = (
        one(&["at 2026-11-30T06:12:34Z"]),
        one(&["at 2027-01-02T10:00:00Z"]),
    );
    let mut strict = deck(std::slice::from_ref(&then)).strict(true);
    assert_eq!(
        strict.take(&now).unwrap_err().difference,
        Difference::Message(0)
    );
    let warmer = Asked {
        body: SEED.digest(b"warmer"),
        ..then.clone()
    };
    assert_eq!(
        strict.take(&warmer).unwrap_err().difference,
        Difference::Body
    );
    assert_eq!(strict.take(&then), Ok(0));
    assert_eq!(deck(&[then]).take(&warmer), Ok(0));
}
