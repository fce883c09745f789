//! What must not make a difference to a verdict.

use proptest::prelude::*;

use super::super::chant::{Chant, SHORTEST};
use super::super::periods::Periods;
use super::super::reading::{Reading, Voice};
use super::super::turn::From;
use super::generator::{Rng, Saying, Script};
use super::{loops, stopped_at, work};

/// All scripts of a seed, loops and work.
fn scripts(seed: u64) -> Vec<(&'static str, Script)> {
    let rng = &mut Rng::new(seed);
    let loops = loops(rng)
        .into_iter()
        .map(|(name, _, script)| (name, script));
    loops.chain(work(rng)).collect()
}

/// The script with its texts changed; `is_agent` says who wrote a text.
fn rewritten(mut script: Script, mut change: impl FnMut(&str, bool) -> String) -> Script {
    for step in &mut script.steps {
        for (from, text) in &mut step.brought {
            *text = change(text, *from == From::Agent);
        }
        if let Some(Saying::Text(text)) = &mut step.said {
            *text = change(text, true);
        }
    }
    script
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn names_of_agents_make_no_difference(seed: u64, name in "[a-z]{1,8}") {
        for (what, script) in scripts(seed) {
            let mut renamed = script.clone();
            for step in &mut renamed.steps {
                step.agent = format!("{name}-{}", step.agent);
                step.caller = step.caller.take().map(|caller| format!("{name}-{caller}"));
            }
            prop_assert_eq!(stopped_at(&renamed), stopped_at(&script), "{}", what);
        }
    }

    #[test]
    fn times_and_ids_make_no_difference(seed: u64) {
        let mut noise = Rng::new(!seed);
        for (what, script) in scripts(seed) {
            let noisy = rewritten(script.clone(), |text, _| {
                format!("{} {} {text}", noise.time(), noise.uuid())
            });
            let plain = rewritten(script, |text, _| format!("  {text}"));
            prop_assert_eq!(stopped_at(&noisy), stopped_at(&plain), "{}", what);
        }
    }

    #[test]
    fn numbers_that_an_agent_writes_make_no_difference(seed: u64) {
        let mut noise = Rng::new(!seed);
        for (what, script) in scripts(seed) {
            let counted = |text: &str, number: u64| format!("attempt {number}: {text}");
            let numbered = rewritten(script.clone(), |text, is_agent| {
                counted(text, if is_agent { noise.below(900) } else { 1 })
            });
            let same = rewritten(script, |text, _| counted(text, 1));
            prop_assert_eq!(stopped_at(&numbered), stopped_at(&same), "{}", what);
        }
    }

    #[test]
    fn what_came_before_makes_no_difference(seed: u64, other: u64) {
        for (what, _, script) in loops(&mut Rng::new(seed)) {
            let before = script.loop_begins;
            let mut after_other = Script::after_work(&mut Rng::new(other));
            let other_before = after_other.steps.len();
            after_other.steps.extend_from_slice(&script.steps[before..]);
            let calls = |script: &Script, before: usize| stopped_at(script).map(|at| at - before);
            let expected = calls(&script, before);
            prop_assert_eq!(calls(&after_other, other_before), expected, "{}", what);
        }
    }

    #[test]
    fn middle_of_a_long_text_is_not_read(front in "[a-z ]{9000}", end in "[a-z ]{9000}", seed: u64) {
        let mut rng = Rng::new(seed);
        let (one, other) = (rng.sentence(400), rng.sentence(400));
        let len = one.len().max(other.len());
        let text = |middle: &str| format!("{front}{middle:<len$}{end}");
        for voice in [Voice::Agent, Voice::World] {
            prop_assert_eq!(Reading::of(voice, &text(&one)), Reading::of(voice, &text(&other)));
        }
    }

    #[test]
    fn pieces_of_a_stream_make_no_difference(seed: u64, cuts in prop::collection::vec(1..200_usize, 1..200)) {
        let mut rng = Rng::new(seed);
        let piece = rng.sentence(9);
        for text in [piece.repeat(60), rng.sentence(400), format!("```\n{}\n```", piece.repeat(60))] {
            let mut chant = Chant::default();
            let mut rest = text.as_str();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                chant.push(piece);
                rest = tail;
            }
            prop_assert_eq!(chant.push(""), Chant::default().push(&text), "{}", text);
        }
    }

    #[test]
    fn periods_are_those_that_a_look_back_finds(tokens in prop::collection::vec(0..3_u64, 0..60)) {
        let mut periods = Periods::default();
        for (at, token) in tokens.iter().enumerate() {
            periods.push(*token);
            for period in 1..=8_usize {
                let seen = &tokens[..=at];
                let run = (period..seen.len()).rev().take_while(|at| seen[*at] == seen[at - period]).count();
                let covered = (run + period).min(seen.len());
                prop_assert_eq!(periods.covered(u32::try_from(period).unwrap()) as usize, covered);
            }
        }
    }
}

#[test]
fn what_changes_by_itself_is_not_read() {
    let hash = |text: &str| Reading::of(Voice::World, text).hash;
    for (one, other) in [
        ("at 2026-03-04T20:08:21Z", "at 2026-03-05T01:00:59.123Z"),
        (
            "id 9ff2ec05-6dff-d100-a4e1-5c6b88f797ac",
            "id 0bbeb46e-cc7e-ccd6-49d0-c754473ee02e",
        ),
        ("trace f86055d602110f07", "trace 97ed6f51138aad49"),
        ("at 0x7ffe12ab34cd", "at 0x7ffd00001234"),
        ("took 5.89s", "took 12.25s"),
        ("took 0.3 ms", "took 1.7 ms"),
        ("epoch 1700000000", "epoch 1800000001"),
        ("request_id=42 done", "request_id=43 done"),
        ("\u{1b}[31mred\u{1b}[0m", "\u{1b}[32mred\u{1b}[0m"),
    ] {
        assert_eq!(hash(one), hash(other), "{one}");
    }
    for (one, other) in [
        ("12 %", "15 %"),
        ("progress 5", "progress 6"),
        ("a < b", "a <= b"),
        ("dead beef", "dead cafe"),
        ("line 1200", "line 1400"),
    ] {
        assert_ne!(hash(one), hash(other), "{one}");
    }
}

#[test]
fn tables_code_and_lists_are_no_chant() {
    let row = "| ready | yes | none |\n".repeat(200);
    let code = format!("Here:\n```rust\n{}```\n", "    push(0);\n".repeat(200));
    let lines: Vec<String> = (1..200)
        .map(|n| format!("{n}. Item number {n} of the list"))
        .collect();
    let list = lines.join(
        "
",
    );
    let json = format!("[{}0]", "{\"a\":0},".repeat(300));
    let numbers: Vec<String> = (1..2000).map(|n| n.to_string()).collect();
    let numbers = numbers.join(", ");
    for text in [row, code, list, json, numbers] {
        assert!(!Chant::default().push(&text), "{}", &text[..80]);
    }
    let chant = "I will now go on with the next step. ".repeat(30);
    assert!(Chant::default().push(&chant));
}

#[test]
fn no_shorter_text_is_a_chant_and_a_little_longer_one_is() {
    let chants = |len: usize| Chant::default().push(&"x".repeat(len));
    assert!(!chants(SHORTEST - 1));
    assert!(chants(SHORTEST + 64));
}
