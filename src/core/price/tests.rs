use proptest::prelude::*;

use super::*;

fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        output_tokens,
        ..Usage::default()
    }
}

#[track_caller]
fn check(seller: Option<&str>, model: &str, tier: Option<&str>, usage: Usage, nano: i64) {
    let cost = PriceTable::builtin().price(seller, model, tier, &usage);
    let expected = Cost {
        amount: NanoUsd::new(nano),
        source: CostSource::Table,
    };
    assert_eq!(cost, Some(expected), "{model}");
}

#[test]
fn builtin_table_reads_and_is_whole() {
    let table = PriceTable::parse(include_str!("../../../prices.toml")).unwrap();
    assert_eq!(table.date(), "2026-11-22");
    assert_eq!(table.providers.len(), Provider::ALL.len());
    assert_eq!(
        table.providers.values().map(BTreeMap::len).sum::<usize>(),
        426
    );
    assert_eq!(PriceTable::builtin().date(), table.date());
}

#[test]
fn every_model_of_the_table_has_a_price_for_something() {
    for (provider, rows) in &PriceTable::builtin().providers {
        for (model, row) in rows {
            let tokens = row.input.is_some() || row.output.is_some();
            let pieces = row.characters.is_some() || row.second.is_some() || row.image.is_some();
            assert!(tokens || pieces, "{provider:?} {model}");
        }
    }
}

#[test]
fn cached_and_reasoning_tokens_are_billed_within_their_totals() {
    // gpt-5: 1.25 in, 0.125 cached, 10 out. 600 * 1250 + 400 * 125 + 300 * 10000 nano.
    let usage = Usage {
        cache_read_input_tokens: 400,
        reasoning_output_tokens: 250,
        ..usage(1000, 300)
    };
    check(
        Some("openai"),
        "gpt-5",
        None,
        usage,
        750_000 + 50_000 + 3_000_000,
    );
}

#[test]
fn reasoning_has_its_own_price_where_there_is_one() {
    let table = table(r#""r" = { input = "1", output = "2", reasoning = "3" }"#);
    let usage = Usage {
        reasoning_output_tokens: 4,
        ..usage(0, 10)
    };
    let cost = table.price(None, "r", None, &usage).unwrap();
    assert_eq!(cost.amount, NanoUsd::new(6 * 2000 + 4 * 3000));
}

#[test]
fn long_input_reprices_the_whole_call() {
    // gpt-5.4: 2.5 in, 15 out; above 272k 5 in, 22.5 out.
    check(
        Some("openai"),
        "gpt-5.4",
        None,
        usage(272_000, 10),
        272_000 * 2500 + 10 * 15_000,
    );
    check(
        Some("openai"),
        "gpt-5.4",
        None,
        usage(272_001, 10),
        272_001 * 5000 + 10 * 22_500,
    );
}

#[test]
fn long_input_reprices_within_a_tier() {
    // claude-haiku-5-5 batch: 0.05 in, 0.25 out; above 100k 0.25 in, 1.25 out.
    let seller = Some("anthropic");
    check(
        seller,
        "claude-haiku-5-5",
        Some("batch"),
        usage(1000, 10),
        50_000 + 2500,
    );
    check(
        seller,
        "claude-haiku-5-5",
        Some("batch"),
        usage(200_000, 10),
        50_000_000 + 12_500,
    );
}

#[test]
fn cache_writes_are_billed_by_lifetime() {
    // claude-opus-4-5: 5 in, 25 out, 0.5 read, 6.25 write, 10 write for an hour.
    let usage = Usage {
        cache_read_input_tokens: 1000,
        cache_write_input_tokens: 300,
        cache_write_1h_input_tokens: 100,
        ..usage(2000, 10)
    };
    let nano = 700 * 5000 + 1000 * 500 + 200 * 6250 + 100 * 10_000 + 10 * 25_000;
    check(
        Some("anthropic"),
        "claude-opus-4-5-20251101",
        None,
        usage,
        nano,
    );
    // Half of everything in a batch.
    check(
        Some("anthropic"),
        "claude-opus-4-5-20251101",
        Some("batch"),
        usage,
        nano / 2,
    );
}

#[test]
fn audio_is_billed_apart_from_text() {
    // gpt-audio: 2.5 in, 10 out, audio 32 in, 64 out.
    let usage = Usage {
        audio_input_tokens: 60,
        audio_output_tokens: 40,
        ..usage(100, 50)
    };
    check(
        None,
        "gpt-audio",
        None,
        usage,
        40 * 2500 + 60 * 32_000 + 10 * 10_000 + 40 * 64_000,
    );
}

#[test]
fn images_are_billed_by_token_or_by_piece() {
    // gpt-image-1.5: 5 text in, 8 image in, 32 image out.
    let usage = Usage {
        image_input_tokens: 10,
        image_output_tokens: 100,
        ..usage(30, 100)
    };
    check(
        None,
        "gpt-image-1.5",
        None,
        usage,
        20 * 5000 + 10 * 8000 + 100 * 32_000,
    );
    let table = table(r#""i" = { image = "0.04" }"#);
    let usage = Usage {
        images: 3,
        ..Usage::default()
    };
    let cost = table.price(None, "i", None, &usage).unwrap();
    assert_eq!(cost.amount, NanoUsd::new(120_000_000));
}

#[test]
fn service_tiers_have_their_own_prices() {
    let each = usage(1_000_000, 0);
    let tiers = [
        (None, 1_250_000_000),
        (Some("default"), 1_250_000_000),
        (Some("auto"), 1_250_000_000),
        (Some("batch"), 625_000_000),
        (Some("flex"), 625_000_000),
        (Some("priority"), 2_500_000_000),
        (Some("fast"), 2_500_000_000),
    ];
    for (tier, nano) in tiers {
        check(Some("openai"), "gpt-5", tier, each, nano);
    }
    check(
        Some("openai"),
        "gpt-6.1-sol",
        Some("ultrafast"),
        usage(1000, 0),
        12_000_000,
    );
}

#[test]
fn seconds_characters_and_searches_are_billed() {
    let seconds = Usage {
        audio_input_ms: 61_500,
        ..Usage::default()
    };
    check(None, "whisper-1", None, seconds, 6_150_000);
    let characters = Usage {
        input_characters: 1000,
        ..Usage::default()
    };
    check(None, "tts-1", None, characters, 15_000_000);
    let searches = Usage {
        web_searches: 2,
        ..usage(0, 0)
    };
    check(None, "gpt-5", None, searches, 20_000_000);
}

#[test]
fn what_has_no_price_has_no_cost() {
    let table = PriceTable::builtin();
    assert_eq!(table.price(None, "no-such-model", None, &usage(1, 1)), None);
    assert_eq!(table.price(Some("openai"), "", None, &usage(1, 1)), None);
    // A model billed by the second, with tokens in its usage.
    assert_eq!(table.price(None, "whisper-1", None, &usage(1, 0)), None);
}

#[test]
fn prices_of_another_offer_are_not_taken() {
    let million = |model: &str| {
        let cost = PriceTable::builtin().price(None, model, None, &usage(1_000_000, 0));
        cost.map(|cost| cost.amount.get() / 1_000_000)
    };
    for (model, thousandths_of_a_dollar) in [
        ("claude-opus-4-8", Some(5000)),
        ("global.anthropic.claude-opus-4-8", Some(5000)),
        ("us.anthropic.claude-opus-4-8", Some(5500)),
        ("us-gov.anthropic.claude-opus-4-8", Some(6000)),
        ("us-gov.anthropic.claude-opus-4-7", None),
        ("moon.anthropic.claude-opus-4-8", None),
        ("claude-mythos-preview", Some(10_000)),
        ("anthropic.claude-mythos-preview", Some(27_500)),
        ("gpt-4.1", Some(2000)),
        ("ft:gpt-4.1-2025-04-14:acme::1", Some(3000)),
        ("ft:gpt-5:acme::1", None),
        ("openai/gpt-4.1:online", None),
        (
            "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc",
            None,
        ),
    ] {
        assert_eq!(million(model), thousandths_of_a_dollar, "{model}");
    }
}

#[test]
fn what_answered_is_billed_unless_the_offer_asked_for_says_more() {
    for (asked, answered, billed) in [
        ("my-deployment", Some("gpt-4o"), Some("gpt-4o")),
        ("my-deployment", None, None),
        (
            "bedrock/EU.anthropic.claude-opus-4-8",
            Some("claude-opus-4-8"),
            Some("bedrock/EU.anthropic.claude-opus-4-8"),
        ),
    ] {
        assert_eq!(billed_model(Some(asked), answered), billed);
    }
}

#[test]
fn what_an_aggregator_gives_away_is_free() {
    let model = "meta-llama/llama-3.3-70b-instruct:free";
    check(Some("openrouter.ai"), model, None, usage(1000, 10), 0);
    check(None, model, None, usage(1000, 10), 0);
    let table = PriceTable::builtin();
    let searched = Usage {
        web_searches: 1,
        ..usage(1000, 10)
    };
    assert_eq!(table.price(None, model, None, &searched), None);
    assert_eq!(table.price(None, "llama3:free", None, &usage(1, 1)), None);
    assert_eq!(table.price(Some("openai"), model, None, &usage(1, 1)), None);
}

#[test]
fn free_model_costs_zero() {
    check(None, "omni-moderation-latest", None, usage(100, 0), 0);
}

#[test]
fn fractions_of_a_nano_usd_are_rounded_once() {
    // gpt-5-nano batch, cached: 0.0025 per million is 2.5 nano-USD each.
    let cached = |tokens| Usage {
        cache_read_input_tokens: tokens,
        ..usage(tokens, 0)
    };
    for (tokens, nano) in [(1, 3), (2, 5), (3, 8), (1000, 2500)] {
        check(
            Some("openai"),
            "gpt-5-nano",
            Some("batch"),
            cached(tokens),
            nano,
        );
    }
}

#[test]
fn amounts_beyond_all_bounds_saturate() {
    check(None, "gpt-5", None, usage(u64::MAX, u64::MAX), i64::MAX);
}

#[test]
fn names_of_a_model_lead_to_one_price() {
    let same = |names: &[&str]| {
        let cost = |name: &&str| {
            PriceTable::builtin()
                .price(None, name, None, &usage(1000, 1000))
                .map(|c| c.amount)
        };
        let costs: Vec<_> = names.iter().map(cost).collect();
        assert!(
            costs[0].is_some() && costs.iter().all(|c| *c == costs[0]),
            "{names:?}: {costs:?}"
        );
    };
    same(&[
        "gpt-4o",
        "gpt-4o-2024-08-06",
        "openai/gpt-4o",
        "openai/gpt-4o:nitro",
        "openai/gpt-4o-2024-08-06:floor",
        "GPT-4o",
    ]);
    same(&["ft:gpt-4o:acme:x:1", "ft:gpt-4o-2024-08-06:acme::1"]);
    same(&["gpt-5.1", "gpt-5.1-2025-11-13", "openrouter/openai/gpt-5.1"]);
    same(&[
        "claude-opus-4-5",
        "anthropic/claude-opus-4.5",
        "claude-opus-4-5@20251101",
        "claude-opus-4-5@default",
        "publishers/anthropic/models/claude-opus-4-5@20251101",
        "anthropic.claude-opus-4-5-20251101-v1:0",
        "anthropic.claude-opus-4-5-20251101-v1:0:200k",
        "global.anthropic.claude-opus-4-5-20251101-v1:0",
        "bedrock/converse/global.anthropic.claude-opus-4-5",
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-opus-4-5-20251101-v1:0",
    ]);
    same(&[
        "us.anthropic.claude-opus-4-6-v1",
        "eu.anthropic.claude-opus-4-6-v1:0",
        "apac.anthropic.claude-opus-4-6",
        "JP.anthropic.claude-opus-4-6",
        "bedrock/au.anthropic.claude-opus-4-6-v1",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-6-v1",
    ]);
    same(&[
        "gemini-2.5-pro",
        "models/gemini-2.5-pro",
        "google/gemini-2.5-pro",
        "publishers/google/models/gemini-2.5-pro",
        "projects/p/locations/europe-west1/publishers/google/models/gemini-2.5-pro",
    ]);
    same(&[
        "mistral-large-2512",
        "mistral-large-latest",
        "mistralai/mistral-large-2512",
    ]);
}

#[test]
fn seller_decides_before_maker() {
    let table = PriceTable::builtin();
    let cost = |seller, model| {
        table
            .price(seller, model, None, &usage(1_000_000, 1_000_000))
            .map(|cost| cost.amount)
    };
    let model = "deepseek-v4-pro";
    let hosted = cost(Some("dashscope-intl.aliyuncs.com"), model);
    let made = cost(Some("deepseek"), model);
    assert!(hosted.is_some() && made.is_some());
    assert_ne!(hosted, made);
    assert_eq!(cost(Some("localhost:8000"), model), made);
    assert_eq!(cost(None, "deepseek/deepseek-v4-pro"), made);
    assert_eq!(cost(None, "dashscope/deepseek-v4-pro"), hosted);
    // A seller that does not list a model leaves it to the maker.
    assert_eq!(cost(Some("azure"), "o3"), cost(Some("openai"), "o3"));
}

#[test]
fn sellers_are_told_by_host() {
    let hosts = [
        ("api.openai.com", Some(Provider::OpenAi)),
        ("API.OpenAI.com:443", Some(Provider::OpenAi)),
        ("acme.openai.azure.com", Some(Provider::Azure)),
        ("generativelanguage.googleapis.com", Some(Provider::Google)),
        ("api.x.ai", Some(Provider::Xai)),
        ("api.z.ai", Some(Provider::Zai)),
        ("dashscope-intl.aliyuncs.com", Some(Provider::Dashscope)),
        ("openrouter.ai", None),
        ("notx.ai", None),
        ("api.openai.com.evil.test", None),
        ("localhost:11434", None),
        ("[::1]:8000", None),
        ("", None),
    ];
    for (host, provider) in hosts {
        assert_eq!(provider_of(host), provider, "{host}");
    }
}

#[test]
fn limits_of_a_model_are_known() {
    let table = PriceTable::builtin();
    assert_eq!(table.max_output(None, "gpt-4o-2024-08-06"), Some(16_384));
    assert_eq!(table.context(Some("openai"), "gpt-5"), Some(272_000));
    assert_eq!(table.max_output(None, "whisper-1"), None);
}

fn row(toml: &str) -> Result<PriceRow, toml::de::Error> {
    toml::from_str(toml)
}

fn table(models: &str) -> PriceTable {
    PriceTable::parse(&format!(
        "date = \"2026-01-01\"\n[models.openai]\n{models}\n"
    ))
    .unwrap()
}

#[test]
fn rows_of_the_user_go_before_the_table() {
    let cheap = row("input = 0.1\noutput = \"0.2\"").unwrap();
    let free = row("input = 0\noutput = 0").unwrap();
    let overrides = vec![("gpt-5*".to_owned(), cheap), ("local/*".to_owned(), free)];
    let table = PriceTable::builtin().clone().with_overrides(overrides);
    let cost = |model| {
        table
            .price(Some("openai"), model, None, &usage(10, 10))
            .unwrap()
    };
    let config = |nano| Cost {
        amount: NanoUsd::new(nano),
        source: CostSource::Config,
    };
    assert_eq!(cost("gpt-5-mini"), config(3000));
    assert_eq!(cost("local/llama"), config(0));
    assert_eq!(cost("gpt-4o").source, CostSource::Table);
    // The whole row is replaced: nothing of the table's tiers or limits is left.
    assert_eq!(table.max_output(None, "gpt-5"), None);
}

#[test]
fn first_matching_row_of_the_user_wins() {
    let priced = |price: &str| row(&format!("input = {price}")).unwrap();
    let rows = [("gpt-5-mini", "1"), ("gpt-5*", "2"), ("*", "3")];
    let rows = rows
        .map(|(glob, price)| (glob.to_owned(), priced(price)))
        .to_vec();
    let table = PriceTable::default().with_overrides(rows);
    let cost = |model| {
        table
            .price(None, model, None, &usage(1, 0))
            .unwrap()
            .amount
            .get()
    };
    let costs = ["gpt-5-mini", "gpt-5-nano", "x"].map(cost);
    assert_eq!(costs, [1000, 2000, 3000]);
    // Such a row prices what it names: output has no price here, so no cost.
    assert_eq!(table.price(None, "x", None, &usage(1, 1)), None);
}

#[test]
fn prices_are_read_exactly() {
    let million = |text| parse_usd_per_million(text).map(Price::pico_usd);
    assert_eq!(million("2.5"), Ok(2_500_000));
    assert_eq!(million("0.0025"), Ok(2500));
    assert_eq!(million("0"), Ok(0));
    assert_eq!(million("15.000000000"), Ok(15_000_000));
    assert_eq!(
        PerUnit::parse("0.00001111"),
        Ok(PerUnit::from_pico_usd(11_110_000))
    );
    assert_eq!(million("0.0000001"), Err(DecimalError::TooFine(6)));
    assert_eq!(million("99999999999999"), Err(DecimalError::TooLarge));
    for text in [
        "", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "1.2.3", " 1", "NaN",
    ] {
        assert_eq!(million(text), Err(DecimalError::Malformed), "{text:?}");
    }
}

#[test]
fn faulty_rows_are_refused_with_a_reason() {
    let faults = [
        (
            "input = -1",
            "price \"-1\" is not a decimal number such as 2.5",
        ),
        (
            "input = 0.0000001",
            "price \"0.0000001\" has more than 6 decimal places",
        ),
        ("input = true", "expected a price in USD, such as \"2.5\""),
        ("inptu = 1", "unknown field `inptu`"),
    ];
    for (toml, message) in faults {
        let error = row(toml).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn misplaced_rows_are_refused() {
    let fault = |row: &str| {
        let text = format!("date = \"x\"\n[models.openai]\nm = {{ {row} }}\n");
        match PriceTable::parse(&text) {
            Err(PriceError::Row { fault, .. }) => Some(fault),
            _ => None,
        }
    };
    assert_eq!(fault("batch = { flex = {} }"), Some(RowFault::NestedTier));
    assert_eq!(
        fault("long = { input = \"1\" }"),
        Some(RowFault::MalformedLong)
    );
    assert_eq!(
        fault("long = { above = 1, batch = {} }"),
        Some(RowFault::MalformedLong)
    );
    assert_eq!(fault("flex = { long = {} }"), Some(RowFault::MalformedLong));
    assert_eq!(fault("above = 1"), Some(RowFault::StrayAbove));
    assert_eq!(fault("batch = { long = { above = 1 } }"), None);
    let alias = "date = \"x\"\n[aliases]\na = \"b\"\n";
    assert_eq!(
        PriceTable::parse(alias).unwrap_err(),
        PriceError::Alias("a".to_owned())
    );
}

/// A usage within the short row, every part inside its total.
fn any_usage() -> impl Strategy<Value = Usage> {
    proptest::array::uniform12(0u64..5000).prop_map(|n| Usage {
        input_tokens: n[0] + n[1] + n[2] + n[3] + n[4] + n[5],
        cache_read_input_tokens: n[1],
        cache_write_input_tokens: n[2] + n[3],
        cache_write_1h_input_tokens: n[3],
        audio_input_tokens: n[4],
        image_input_tokens: n[5],
        output_tokens: n[6] + n[7] + n[8] + n[9],
        audio_output_tokens: n[7],
        reasoning_output_tokens: n[8],
        image_output_tokens: n[9],
        web_searches: n[10] % 4,
        images: 0,
        input_characters: 0,
        audio_input_ms: 0,
        cache_write_12h_input_tokens: 0,
    })
}

/// Field by field.
fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        input_tokens: a.input_tokens + b.input_tokens,
        output_tokens: a.output_tokens + b.output_tokens,
        cache_read_input_tokens: a.cache_read_input_tokens + b.cache_read_input_tokens,
        cache_write_input_tokens: a.cache_write_input_tokens + b.cache_write_input_tokens,
        cache_write_1h_input_tokens: a.cache_write_1h_input_tokens + b.cache_write_1h_input_tokens,
        cache_write_12h_input_tokens: a.cache_write_12h_input_tokens
            + b.cache_write_12h_input_tokens,
        reasoning_output_tokens: a.reasoning_output_tokens + b.reasoning_output_tokens,
        audio_input_tokens: a.audio_input_tokens + b.audio_input_tokens,
        audio_output_tokens: a.audio_output_tokens + b.audio_output_tokens,
        image_input_tokens: a.image_input_tokens + b.image_input_tokens,
        image_output_tokens: a.image_output_tokens + b.image_output_tokens,
        audio_input_ms: a.audio_input_ms + b.audio_input_ms,
        input_characters: a.input_characters + b.input_characters,
        images: a.images + b.images,
        web_searches: a.web_searches + b.web_searches,
    }
}

const TIERS: [Option<&str>; 3] = [None, Some("batch"), Some("priority")];

fn nano(model: &str, tier: Option<&str>, usage: &Usage) -> i64 {
    PriceTable::builtin()
        .price(None, model, tier, usage)
        .unwrap()
        .amount
        .get()
}

proptest! {
    #[test]
    fn more_usage_never_costs_less(a in any_usage(), b in any_usage(), tier in 0..3usize) {
        for model in ["gpt-5.4", "claude-haiku-5-5", "gpt-6.1-sol"] {
            let (less, more) = (nano(model, TIERS[tier], &a), nano(model, TIERS[tier], &sum(a, b)));
            prop_assert!(less <= more, "{model}: {less} > {more}");
        }
    }

    #[test]
    fn costs_add_up_within_a_row(a in any_usage(), b in any_usage(), tier in 0..3usize) {
        let model = "gpt-5.4";
        let apart = nano(model, TIERS[tier], &a) + nano(model, TIERS[tier], &b);
        // Each amount is rounded by at most half a nano-USD.
        prop_assert!((apart - nano(model, TIERS[tier], &sum(a, b))).abs() <= 1);
    }

    #[test]
    fn parts_beyond_their_total_are_not_billed(total in 0u64..1000, part in 0u64..2000) {
        let usage = Usage {
            cache_read_input_tokens: part,
            cache_write_input_tokens: part,
            audio_input_tokens: part,
            reasoning_output_tokens: part,
            ..usage(total, total)
        };
        // No token of claude-opus-4-5 costs more than 6.25 in, 25 out.
        let most = i64::try_from(total).unwrap() * (6250 + 25_000);
        prop_assert!(nano("claude-opus-4-5", None, &usage) <= most);
    }

    #[test]
    fn any_name_is_looked_up_without_panic(name in "\\PC{0,40}", seller in "\\PC{0,20}") {
        PriceTable::builtin().price(Some(&seller), &name, Some(&seller), &usage(1, 1));
    }
}

#[test]
fn the_lines_of_a_bill_add_up_to_its_usage_and_its_price() {
    let usage = Usage {
        cache_read_input_tokens: 400,
        cache_write_input_tokens: 100,
        reasoning_output_tokens: 250,
        web_searches: 2,
        ..usage(1000, 300)
    };
    let table = PriceTable::builtin();
    let lines = table.bill(Some("openai"), "gpt-5", None, &usage);
    let of = |what: &str| lines.iter().find(|line| line.what == what).unwrap();
    assert_eq!(of("cache read").quantity, 400);
    assert_eq!(of("new input").quantity, 500);
    assert_eq!(of("reasoning").quantity + of("output").quantity, 300);
    let pico = lines
        .iter()
        .map(|line| u128::from(line.quantity) * u128::from(line.pico_usd_each.unwrap()));
    let cost = table.price(Some("openai"), "gpt-5", None, &usage).unwrap();
    assert_eq!(
        pico.sum::<u128>() / 1000,
        u128::try_from(cost.amount.get()).unwrap()
    );
    let unknown = table.bill(None, "no-such-model", None, &usage);
    assert_eq!(unknown.len(), lines.len());
    assert!(unknown.iter().all(|line| line.pico_usd_each.is_none()));
}
