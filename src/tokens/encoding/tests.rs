use std::sync::LazyLock;

use proptest::prelude::*;
use serde::Deserialize;
use tiktoken_rs::CoreBPE;

use super::*;

#[derive(Deserialize)]
struct Golden {
    text: String,
    o200k: u32,
    cl100k: u32,
}

/// Counts of Python's tiktoken; `scripts/tokens/golden_counts.py` writes them.
const CORPUS: &str = include_str!("../../../tests/fixtures/tokens/corpus.jsonl");

#[test]
fn counts_are_those_of_tiktoken() {
    let corpus: Vec<Golden> = CORPUS
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(corpus.len() >= 300);
    for golden in corpus {
        let counts = (
            count(Encoding::O200k, &golden.text),
            count(Encoding::Cl100k, &golden.text),
        );
        assert_eq!(counts, (golden.o200k, golden.cl100k), "{:?}", golden.text);
    }
}

static REFERENCES: LazyLock<[(Encoding, CoreBPE); 2]> = LazyLock::new(|| {
    [
        (Encoding::O200k, tiktoken_rs::o200k_base().unwrap()),
        (Encoding::Cl100k, tiktoken_rs::cl100k_base().unwrap()),
    ]
});

/// Any scalar values, and texts dense in what the splitting rules are about.
fn texts() -> impl Strategy<Value = String> {
    let dense = proptest::sample::select(vec![
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\u{a0}",
        "'s",
        "'LL",
        "a",
        "B",
        "Zz",
        "1",
        "42",
        ".",
        "//",
        "\u{301}",
        "\u{4e2d}",
        "\u{1f600}",
        "<|endoftext|>",
        "_",
        "\u{5d0}",
        "\u{17f}",
        "\u{2028}",
    ]);
    prop_oneof![
        any::<String>(),
        ".{0,200}",
        proptest::collection::vec(dense, 0..60).prop_map(|parts| parts.concat()),
    ]
}

proptest! {
    #[test]
    fn counts_are_those_of_another_implementation(text in texts()) {
        for (encoding, reference) in &*REFERENCES {
            let expected = reference.encode_ordinary(&text).len();
            prop_assert_eq!(count(*encoding, &text) as usize, expected);
        }
    }
}

#[test]
fn runs_of_a_mebibyte_are_counted_exactly() {
    // Python's tiktoken gives the same, but for o200k and blanks, where its regex gives up.
    let runs = [
        (" ", 8192, 8192),
        ("\t", 65_536, 65_536),
        ("-", 16_384, 16_384),
        ("\n", 65_536, 32_768),
        ("q", 524_288, 524_288),
    ];
    for (unit, o200k, cl100k) in runs {
        let long = unit.repeat(1 << 20);
        let counts = (
            count(Encoding::O200k, &long),
            count(Encoding::Cl100k, &long),
        );
        assert_eq!(counts, (o200k, cl100k), "{unit:?}");
    }
}

#[test]
fn text_beyond_the_cap_is_estimated() {
    let text = "a b ".repeat(MAX_COUNTED_BYTES / 4 + 1);
    let tokens = count(Encoding::O200k, &text);
    assert_eq!(u64::from(tokens), tokens_of_bytes(text.len()));
}

#[test]
fn special_token_text_is_ordinary_text() {
    assert!(count(Encoding::O200k, "<|endoftext|>") > 1);
    assert!(count(Encoding::Cl100k, "<|im_start|>") > 1);
}

#[track_caller]
fn check(model: &str, encoding: Encoding, exact: bool, factor_permille: u32) {
    let found = encoding_for(model);
    let facts = (found.encoding, found.exact, found.factor_permille);
    assert_eq!(facts, (encoding, exact, factor_permille), "{model}");
}

#[test]
fn openai_models_have_their_published_encoding() {
    for model in [
        "gpt-5.1",
        "gpt-4o-mini",
        "gpt-4.1",
        "chatgpt-4o-latest",
        "o3-pro",
        "o4-mini",
    ] {
        check(model, Encoding::O200k, true, 1000);
    }
    for model in [
        "gpt-4",
        "gpt-4-turbo",
        "gpt-3.5-turbo",
        "gpt-35-turbo",
        "text-embedding-3-small",
    ] {
        check(model, Encoding::Cl100k, true, 1000);
    }
    check("ft:gpt-4o:acme::x1", Encoding::O200k, true, 1000);
    check("openai/gpt-oss-120b", Encoding::O200k, true, 1000);
}

#[test]
fn models_without_a_published_encoding_are_estimates() {
    check("gpt-6-astra", Encoding::O200k, false, 1000);
    check("gpt-realtime", Encoding::O200k, false, 1000);
    check("claude-sonnet-4-5-20250929", Encoding::O200k, false, 1200);
    check("claude-sonnet-4-20250514", Encoding::O200k, false, 1200);
    check("anthropic/claude-opus-4.7", Encoding::O200k, false, 1500);
    check("claude-fable-5", Encoding::O200k, false, 1500);
    check("deepseek-ai/DeepSeek-V4-Pro", Encoding::O200k, false, 1090);
    check("my-own-model", Encoding::O200k, false, 1200);
    check("", Encoding::O200k, false, 1200);
}
