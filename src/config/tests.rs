use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

const FIXTURES: &str = "tests/fixtures/config";

fn env(name: &str) -> Option<String> {
    match name {
        "OPENAI_API_KEY" => Some("sk-test-0123456789\n".to_owned()),
        "ADMIN_TOKEN" | "OPEN_AIOPS_TOKEN" => Some(" sk-test-admin-0123456789\n".to_owned()),
        "SHORT_TOKEN" => Some("sk-live-0123456".to_owned()),
        "SPACED_TOKEN" => Some("sk-live 0123456789abcdef".to_owned()),
        "SLACK_WEBHOOK_URL" => Some("https://hooks.example/services/T/B/secret".to_owned()),
        "ALERTS_TOKEN" => Some("token-0123456789".to_owned()),
        "OPEN_AIOPS_SHARED_SECRET" => Some("a secret of the team".to_owned()),
        "EMPTY_KEY" => Some(" ".to_owned()),
        "BROKEN_KEY" => Some("sk-\ntest".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse("config.toml", text, &env)
}

#[track_caller]
fn valid(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"))
}

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(FIXTURES).join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension() == Some(OsStr::new("toml")));
    files.sort();
    assert!(!files.is_empty());
    files
}

/// The TOML blocks of a Markdown file.
fn toml_blocks(markdown: &str) -> Vec<&str> {
    let blocks = markdown.split("```toml\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

fn documents() -> Vec<PathBuf> {
    let docs = fs::read_dir("docs")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = docs
        .filter(|file| file.extension() == Some(OsStr::new("md")))
        .collect();
    files.extend(
        [PathBuf::from("README.md")]
            .into_iter()
            .filter(|file| file.exists()),
    );
    files
}

/// Every key that is read, by the list that an unknown key is answered with.
fn keys_read(text: &str, section: &str) -> Vec<String> {
    let problems = parse(text).unwrap_err();
    let problem = problems
        .iter()
        .find(|problem| problem.found == "an unknown key")
        .unwrap();
    let keys = problem
        .expected
        .strip_prefix("one of ")
        .unwrap()
        .split(", ");
    keys.map(|key| {
        if section.is_empty() {
            key.to_owned()
        } else {
            format!("{section}.{key}")
        }
    })
    .collect()
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(valid(""), Config::default());
    assert_eq!(valid("[proxy]\n[ledger]\n"), Config::default());
}

#[test]
fn the_config_file_of_the_repository_states_the_defaults() {
    let text = fs::read_to_string(DEFAULT_FILE).unwrap();
    assert_eq!(valid(&text), Config::default());
}

#[test]
fn the_config_file_of_the_repository_is_valid_with_its_comments_opened() {
    let text = fs::read_to_string(DEFAULT_FILE).unwrap();
    let is_toml = |line: &&str| line.contains(" = ") || line.starts_with('[');
    let opened: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(is_toml).unwrap_or(line))
        .collect();
    let config = valid(&opened.join("\n"));
    assert_eq!((config.upstreams.len(), config.prices.len()), (2, 1));
    assert_eq!(config.budgets.len(), 1);
    assert_eq!(config.ledger.redact.rules().len(), 1);
    assert!(config.shared.is_some() && config.otel.endpoint.is_some());
    assert_eq!(config.sinks.len(), 1);
}

#[test]
fn valid_files_are_read_and_written_back_to_the_same() {
    for file in fixtures("valid") {
        let config = valid(&fs::read_to_string(&file).unwrap());
        let written = config.to_string();
        assert_eq!(valid(&written), config, "{}:\n{written}", file.display());
        assert!(!written.contains("sk-test"), "{written}");
    }
}

#[test]
fn invalid_files_are_answered_with_all_their_problems() {
    for file in fixtures("invalid") {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let problems = Config::parse(name, &text, &env).unwrap_err().to_string() + "\n";
        let expected = file.with_extension("expected.txt");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs::write(&expected, &problems).unwrap();
        }
        assert_eq!(problems, fs::read_to_string(&expected).unwrap(), "{name}");
        assert!(!problems.contains("sk-live"), "{problems}");
    }
}

#[test]
fn a_full_file_is_read_value_by_value() {
    let config = valid(&fs::read_to_string(format!("{FIXTURES}/valid/full.toml")).unwrap());
    assert_eq!(config.proxy.listen, "0.0.0.0:9000".parse().unwrap());
    assert_eq!(config.proxy.max_body_bytes, 500_000_000);
    assert_eq!(config.proxy.max_read_bytes, 8 << 20);
    assert_eq!(config.proxy.max_memory_bytes, 256 << 20);
    assert_eq!(config.proxy.head_timeout, Duration::from_millis(2500));
    assert_eq!(config.proxy.max_connections, 16);
    assert_eq!(config.admin.allowed_hosts, ["aiops.internal", "dashboard"]);
    assert_eq!(
        config.ledger.keep_for,
        Some(Duration::from_secs(30 * 86_400))
    );
    assert_eq!(config.ledger.keep_bytes, None);
    assert_eq!(config.ledger.redact.rules()[1].pattern.as_str(), r"\d{16}");
    let [main, local] = config.upstreams.as_slice() else {
        panic!("two upstreams")
    };
    assert_eq!(main.base_url, "https://api.openai.com/v1");
    assert_eq!(
        main.api_key.as_ref().unwrap().expose(),
        "sk-test-0123456789"
    );
    assert!(main.ask_for_usage && !local.ask_for_usage);
    assert!(local.models[0].matches("llama-4-scout"));
    let fields = &config.prices[0].fields;
    assert_eq!(fields.len(), PRICE_FIELDS.len());
    assert_eq!(
        (fields["input"].as_str(), fields["output"].as_str()),
        ("0.10", "0.40")
    );
    assert_eq!(fields["cache_write"], "1000.5");
}

#[test]
fn every_price_that_is_read_makes_a_row_of_the_price_table() {
    let config = valid(&fs::read_to_string(format!("{FIXTURES}/valid/full.toml")).unwrap());
    for price in &config.prices {
        price.row().unwrap();
    }
    for decimal in ["0", "999999.999999", "0.000001"] {
        let price = valid(&format!("[[price]]\nmodel = \"a\"\ninput = {decimal}"))
            .prices
            .remove(0);
        price.row().unwrap();
    }
}

#[test]
fn only_the_first_upstream_gets_the_clients_key_unless_told_otherwise() {
    let upstream = |n| format!("[[upstream]]\nname = \"u{n}\"\nbase_url = \"http://[::1]:{n}\"\n");
    let config = valid(&(upstream(1) + &upstream(2) + &upstream(3) + "accept_client_key = true"));
    let accepted: Vec<bool> = config
        .upstreams
        .iter()
        .map(|u| u.accept_client_key)
        .collect();
    assert_eq!(accepted, [true, false, true]);
}

#[test]
fn key_for_another_host_is_taken_near_by_or_where_the_file_says_so() {
    for (base_url, more, expected) in [
        ("https://api.groq.com/openai/v1", "", false),
        (
            "https://api.groq.com/openai/v1",
            "accept_client_key = true",
            true,
        ),
        (
            "https://api.groq.com/openai/v1",
            "accept_client_key = false",
            false,
        ),
        (
            "https://api.groq.com/openai/v1",
            "api_key_env = \"PATH\"",
            true,
        ),
        ("http://127.0.0.1:11434/v1", "", true),
        ("http://127.0.0.1:1/v1", "accept_client_key = false", false),
        ("http://[::1]:1/v1", "", true),
        ("http://[fd00::1]/v1", "", true),
        ("http://192.168.1.9/v1", "", true),
        ("http://8.8.8.8/v1", "", false),
        ("http://localhost:1/v1", "", true),
        ("http://vllm:8000/v1", "", true),
        ("http://gpu.local/v1", "", true),
        ("http://gw.corp.example/v1", "", false),
    ] {
        let text = format!("[[upstream]]\nname = \"a\"\nbase_url = \"{base_url}\"\n{more}\n");
        let config = Config::parse("c", &text, &|_| Some("key".to_owned())).unwrap();
        assert_eq!(config.upstreams[0].takes_any_key(), expected, "{text}");
    }
}

#[test]
fn upstreams_ask_for_usage_as_accounting_says() {
    let config = valid("[accounting]\nask_for_usage = false");
    assert!(!config.upstreams[0].ask_for_usage);
}

#[test]
fn a_secret_is_neither_printed_nor_debugged() {
    let config = valid(
        "[[upstream]]\nname = \"a\"\nbase_url = \"http://x\"\napi_key_env = \"OPENAI_API_KEY\"",
    );
    assert!(!format!("{config:?}").contains("sk-test"));
    assert!(!config.to_string().contains("sk-test"));
    assert!(
        config
            .to_string()
            .contains("api_key_env = \"OPENAI_API_KEY\"")
    );
}

#[test]
fn the_token_of_the_admin_listener_is_masked_and_needed_where_others_can_reach_it() {
    let config = valid("[admin]\ntoken_env = \"ADMIN_TOKEN\"");
    let token = config.admin.token.as_ref().unwrap();
    assert_eq!(token.expose(), "sk-test-admin-0123456789");
    assert!(!format!("{config:?}{config}").contains("sk-test"));
    for (listen, is_needed) in [
        ("127.0.0.1:1", false),
        ("127.8.8.8:1", false),
        ("[::1]:1", false),
        ("0.0.0.0:1", true),
        ("[::]:1", true),
        ("192.168.1.2:1", true),
        ("[::ffff:127.0.0.1]:1", true),
    ] {
        let bare = format!("[admin]\nlisten = \"{listen}\"\n");
        let parsed = Config::parse("config.toml", &bare, &env);
        assert_eq!(parsed.is_err(), is_needed, "{listen}");
        let guarded = valid(&(bare + "token_env = \"ADMIN_TOKEN\""));
        assert_eq!(guarded.admin.is_open(), is_needed, "{listen}");
        let told = guarded.warnings();
        assert_eq!(
            told.iter().any(|it| it.starts_with("admin.listen")),
            is_needed
        );
    }
}

#[test]
fn open_listeners_and_keys_in_clear_are_warned_about() {
    let config = valid(&fs::read_to_string(format!("{FIXTURES}/valid/full.toml")).unwrap());
    assert_eq!(config.warnings().len(), 1, "{:?}", config.warnings());
    assert!(
        config
            .to_string()
            .starts_with("# warning: proxy.listen: 0.0.0.0:9000 is open")
    );
    let clear = valid(
        "[[upstream]]\nname = \"a\"\nbase_url = \"http://x\"\napi_key_env = \"OPENAI_API_KEY\"",
    );
    assert!(
        clear.warnings()[0].contains("unencrypted"),
        "{:?}",
        clear.warnings()
    );
    assert_eq!(Config::default().warnings(), Vec::<String>::new());
}

#[test]
fn a_named_file_must_exist_and_be_text() {
    let missing = Config::load(Some(Path::new("no/such.toml")))
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("no/such.toml: found no readable text"),
        "{missing}"
    );
    assert!(Config::load(Some(Path::new("src"))).is_err());
    assert_eq!(
        Config::load(Some(Path::new(DEFAULT_FILE))),
        Ok(Config::default())
    );
}

#[test]
fn toml_in_the_documents_is_valid() {
    for file in documents() {
        let text = fs::read_to_string(&file).unwrap();
        for block in toml_blocks(&text) {
            let parsed = Config::parse("config.toml", block, &|name| {
                Some(if name.ends_with("_URL") {
                    "https://example.org/x".to_owned()
                } else {
                    "k".repeat(32)
                })
            });
            assert!(
                parsed.is_ok(),
                "{}: {}\n{block}",
                file.display(),
                parsed.unwrap_err()
            );
        }
    }
}

#[test]
fn every_key_is_documented_and_in_the_full_fixture() {
    let upstream = "[[upstream]]\nname = \"a\"\nbase_url = \"http://x\"\n";
    let tls = format!(
        "[proxy.tls]\ncertificate = \"{FIXTURES}/certificate.pem\"\nkey = \"{FIXTURES}/key.pem\"\n"
    );
    let sections = [
        (String::new(), ""),
        ("[proxy]\n".to_owned(), "proxy"),
        (tls, "proxy.tls"),
        ("[admin]\n".to_owned(), "admin"),
        ("[ledger]\n".to_owned(), "ledger"),
        (
            "[[ledger.redact]]\npattern = \"x\"\nreplace = \"y\"\n".to_owned(),
            "ledger.redact",
        ),
        ("[accounting]\n".to_owned(), "accounting"),
        (
            "[accounting.fallback_price]\ninput = 1\noutput = 1\n".to_owned(),
            "accounting.fallback_price",
        ),
        (upstream.to_owned(), "upstream"),
        ("[[budget]]\nname = \"a\"\ncalls = 1\n".to_owned(), "budget"),
        ("[suggestions]\n".to_owned(), "suggestions"),
        ("[alerts]\n".to_owned(), "alerts"),
        (
            "[[alerts.webhook]]\nname = \"a\"\nurl_env = \"U\"\n".to_owned(),
            "alerts.webhook",
        ),
        (
            "[[alerts.metric]]\nname = \"a\"\nmetric = \"a\"\nbelow = 1\n".to_owned(),
            "alerts.metric",
        ),
        (
            "[[sink]]\nname = \"a\"\nurl = \"http://x\"\n".to_owned(),
            "sink",
        ),
        ("[metrics]\n".to_owned(), "metrics"),
        ("[otel]\n".to_owned(), "otel"),
        (
            "[shared]\nurl = \"redis://localhost\"\nsecret_env = \"ALERTS_TOKEN\"\n".to_owned(),
            "shared",
        ),
        ("[[price]]\nmodel = \"a\"\nin = 1\n".to_owned(), "price"),
    ];
    let documented = fs::read_to_string("docs/configuration.md").unwrap();
    let full = fs::read_to_string(format!("{FIXTURES}/valid/full.toml")).unwrap();
    let mut keys = 0;
    for (text, section) in sections {
        for key in keys_read(&format!("{text}zzzzzzzz = 1\n"), section) {
            let is_documented = documented.contains(&format!("`{key}`"))
                || section.is_empty() && documented.contains(&format!("[{key}]"));
            assert!(is_documented, "{key} is not in the documents");
            let leaf = key.rsplit('.').next().unwrap();
            let is_in_fixture = full.contains(&format!("\n{leaf} = "))
                || [
                    format!("[{key}]"),
                    format!("{{ {leaf} = "),
                    format!(", {leaf} = "),
                ]
                .iter()
                .any(|form| full.contains(form));
            assert!(is_in_fixture, "{key} is not in full.toml");
            keys += 1;
        }
    }
    assert!(keys > 50, "{keys}");
}

#[test]
fn documented_defaults_are_the_defaults() {
    let file = "docs/configuration.md";
    let mut documented = fs::read_to_string(file).unwrap();
    let defaults = Config::default().to_string();
    let first = toml_blocks(&documented)
        .first()
        .copied()
        .unwrap()
        .to_owned();
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        documented = documented.replacen(&first, &defaults, 1);
        fs::write(file, &documented).unwrap();
    }
    assert_eq!(toml_blocks(&documented).first(), Some(&defaults.as_str()));
}

#[test]
fn documented_restarts_are_those_needed() {
    let documented = fs::read_to_string("docs/configuration.md").unwrap();
    let rows = documented
        .lines()
        .filter(|line| line.contains("**restart** |"));
    let marked: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    let mut other = valid(&fs::read_to_string(format!("{FIXTURES}/valid/full.toml")).unwrap());
    let mut held = hold_back(&Config::default(), &mut other);
    held.sort_by_key(|key| marked.iter().position(|row| row == key));
    assert_eq!(marked, held);
}

proptest! {
    #[test]
    fn a_damaged_file_is_read_or_answered_with_places_in_it(
        at in any::<proptest::sample::Index>(),
        removed in 0..40_usize,
        put in "[ -~\n\u{e9}]{0,12}",
    ) {
        let full = fs::read_to_string(format!("{FIXTURES}/valid/full.toml")).unwrap();
        let start = at.index(full.len());
        let text = format!("{}{put}{}", &full[..start], full.get(start + removed..).unwrap_or(""));
        let lines = text.split('\n').count();
        if let Err(problems) = parse(&text) {
            prop_assert!(problems.iter().count() > 0);
            prop_assert!(problems.iter().all(|problem| problem.line.is_some_and(|n| n <= lines)));
        }
    }

    #[test]
    fn any_text_is_read_or_answered(text in "([a-z\\[\\]{}=.,\"'# \n0-9]|proxy|upstream|budget){0,60}") {
        if let Err(problems) = parse(&text) {
            prop_assert!(!problems.to_string().is_empty());
        }
    }
}
