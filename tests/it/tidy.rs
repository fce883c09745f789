//! The rules of the house, read off the sources: who may know whom, and how files look.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 600;

/// A room, the rooms it may import, and outside names it must not.
struct Rule {
    room: &'static str,
    /// None: every one.
    rooms: Option<&'static [&'static str]>,
    never: &'static [&'static str],
}

const TIME: [&str; 2] = ["SystemTime::now", "UNIX_EPOCH"];
const WIRES: [&str; 7] = [
    "proxy", "app", "admin", "cli", "listener", "upstream", "launch",
];

const RULES: &[Rule] = &[
    Rule {
        room: "core",
        rooms: Some(&["core"]),
        never: &[
            "tokio",
            "hyper",
            "redb",
            "tracing",
            "axum",
            "std::time",
            "std::env",
            "std::fs",
            "std::net",
            "std::io",
        ],
    },
    Rule {
        room: "wire",
        rooms: Some(&["core", "wire"]),
        never: &[
            "tokio",
            "hyper",
            "redb",
            "std::fs",
            "std::net",
            "std::env",
            "std::time",
        ],
    },
    Rule {
        room: "tokens",
        rooms: Some(&["core", "wire", "tokens"]),
        never: &["tokio", "hyper", "redb", "std::fs", "std::net", "std::env"],
    },
    Rule {
        room: "clock",
        rooms: Some(&["core", "clock"]),
        never: &["tokio", "hyper", "redb"],
    },
    Rule {
        room: "config",
        rooms: Some(&["core", "config"]),
        never: &[
            "tokio",
            "hyper",
            "redb",
            "clap",
            "std::time::SystemTime::now",
        ],
    },
    Rule {
        room: "metrics",
        rooms: Some(&["core", "metrics"]),
        never: &["tokio", "hyper", "redb", "std::fs"],
    },
    Rule {
        room: "upstream",
        rooms: Some(&["core", "config", "upstream"]),
        never: &["redb", "clap", "axum", "std::fs", "std::env"],
    },
    Rule {
        room: "ledger",
        rooms: Some(&["core", "config", "clock", "ledger"]),
        never: &["hyper", "axum", "clap", "toml::"],
    },
    Rule {
        room: "shared",
        rooms: Some(&["core", "clock", "config", "shared"]),
        never: &["hyper", "redb", "axum", "clap", "toml::", "std::env"],
    },
    Rule {
        room: "exchange",
        rooms: Some(&[
            "core", "clock", "config", "ledger", "shared", "budgets", "exchange",
        ]),
        never: &[
            "hyper", "redb", "axum", "clap", "toml::", "std::fs", "redis::",
        ],
    },
    Rule {
        room: "budgets",
        rooms: Some(&["core", "clock", "config", "ledger", "shared", "budgets"]),
        never: &["hyper", "redb", "axum", "clap", "toml::", "std::fs"],
    },
    Rule {
        room: "loops",
        rooms: Some(&[
            "core", "wire", "clock", "config", "ledger", "shared", "loops",
        ]),
        never: &["hyper", "redb", "axum", "clap", "toml::", "std::fs"],
    },
    Rule {
        room: "alerts",
        rooms: Some(&[
            "core", "clock", "config", "ledger", "metrics", "upstream", "alerts",
        ]),
        never: &[
            "hyper", "redb", "axum", "clap", "toml::", "std::fs", "std::env",
        ],
    },
    Rule {
        room: "sinks",
        rooms: Some(&[
            "core", "clock", "config", "ledger", "metrics", "upstream", "export", "sinks",
        ]),
        never: &[
            "hyper", "redb", "axum", "clap", "toml::", "std::fs", "std::env",
        ],
    },
    Rule {
        room: "backtest",
        rooms: Some(&["core", "wire", "clock", "config", "loops", "backtest"]),
        never: &[
            "tokio", "hyper", "redb", "axum", "clap", "toml::", "std::fs",
        ],
    },
    Rule {
        room: "suggest",
        rooms: Some(&["core", "wire", "config", "ledger", "suggest"]),
        never: &[
            "tokio", "hyper", "redb", "axum", "clap", "toml::", "std::fs", "std::env",
        ],
    },
    Rule {
        room: "replay",
        rooms: Some(&["core", "wire", "proxy", "replay"]),
        never: &["hyper", "redb", "clap", "toml::", "std::fs", "std::env"],
    },
    Rule {
        room: "proxy",
        rooms: Some(&[
            "core", "wire", "tokens", "clock", "config", "metrics", "upstream", "ledger", "alerts",
            "budgets", "loops", "proxy",
        ]),
        never: &["redb", "clap", "axum", "toml::", "std::fs", "std::env"],
    },
    Rule {
        room: "listener",
        rooms: Some(&["core", "config", "metrics", "proxy", "listener"]),
        never: &["redb", "clap", "axum", "toml::", "std::env"],
    },
    Rule {
        room: "admin",
        rooms: Some(&[
            "core", "wire", "clock", "config", "metrics", "ledger", "alerts", "budgets", "loops",
            "shared", "export", "suggest", "sinks", "admin",
        ]),
        never: &["redb", "toml::", "std::env"],
    },
    Rule {
        room: "dashboard",
        rooms: Some(&[
            "core",
            "wire",
            "config",
            "ledger",
            "budgets",
            "loops",
            "alerts",
            "suggest",
            "sinks",
            "admin",
            "dashboard",
        ]),
        never: &[
            "hyper",
            "redb",
            "clap",
            "toml::",
            "std::env",
            "std::fs",
            "PreEscaped",
        ],
    },
    Rule {
        room: "export",
        rooms: Some(&["core", "wire", "ledger", "export"]),
        never: &[
            "tokio", "hyper", "redb", "axum", "clap", "toml::", "std::env", "std::fs",
        ],
    },
    Rule {
        room: "otel",
        rooms: Some(&[
            "core", "wire", "clock", "config", "ledger", "metrics", "upstream", "otel",
        ]),
        never: &["redb", "axum", "clap", "toml::", "std::env"],
    },
    Rule {
        room: "demo",
        rooms: Some(&["clock", "config", "app", "demo"]),
        never: &["hyper", "redb", "clap", "std::env", "std::fs"],
    },
    Rule {
        room: "launch",
        rooms: Some(&[
            "core", "clock", "config", "ledger", "proxy", "app", "launch",
        ]),
        never: &["redb", "hyper", "axum", "clap", "toml::", "std::env"],
    },
    Rule {
        room: "cli",
        rooms: None,
        never: &["redb", "hyper"],
    },
    Rule {
        room: "app",
        rooms: None,
        never: &["redb", "clap"],
    },
    Rule {
        room: "lib",
        rooms: None,
        never: &[],
    },
    Rule {
        room: "main",
        rooms: Some(&["cli"]),
        never: &["tokio", "hyper"],
    },
];

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The part that ships: without its tests and comments.
    fn code(&self) -> String {
        let shipped = self
            .text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        let lines = shipped.lines().map(|line| match line.find("//") {
            Some(at) if !line[..at].ends_with(':') => &line[..at],
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn room(&self) -> String {
        let within = self.path.strip_prefix(root().join("src")).unwrap();
        let first = within.components().next().unwrap().as_os_str();
        first.to_str().unwrap().trim_end_matches(".rs").to_owned()
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.components().any(|c| c.as_os_str() == "tests")
    }

    fn name(&self) -> String {
        self.path
            .strip_prefix(root())
            .unwrap()
            .display()
            .to_string()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source {
                    text: fs::read_to_string(&path).unwrap(),
                    path,
                });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!found.is_empty(), "no sources in {dir}");
    found
}

fn shipped() -> impl Iterator<Item = Source> {
    sources("src")
        .into_iter()
        .filter(|source| !source.is_test())
}

/// The rooms that a text names: `crate::room` and the heads of `crate::{room, ..}`.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect()
    };
    let mut rooms = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        if code[..at].ends_with('$') || code[..at].ends_with(|c: char| c.is_alphanumeric()) {
            continue;
        }
        let rest = &code[at + path.len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let list = list.split('}').next().unwrap_or_default();
            rooms.extend(list.split(',').map(|item| word(item.trim())));
        } else {
            rooms.insert(word(rest));
        }
    }
    rooms.remove("");
    rooms
}

/// Whether a text uses a name as a whole word.
fn names(code: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let after = &code[at + name.len()..];
        !code[..at].ends_with(is_word) && (name.ends_with(':') || !after.starts_with(is_word))
    })
}

#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_room_has_a_rule() {
    let known: BTreeSet<_> = RULES.iter().map(|rule| rule.room.to_owned()).collect();
    let there: BTreeSet<_> = sources("src").iter().map(Source::room).collect();
    assert_eq!(there, known);
}

#[test]
fn no_layer_is_crossed() {
    let mut complaints = Vec::new();
    for source in shipped() {
        let (code, room) = (source.code(), source.room());
        let rule = RULES.iter().find(|rule| rule.room == room).expect("a rule");
        for named in rooms_named(&code) {
            if rule
                .rooms
                .is_some_and(|rooms| !rooms.contains(&named.as_str()))
            {
                complaints.push(format!("{} imports {named}", source.name()));
            }
        }
        for never in rule.never {
            if names(&code, never) {
                complaints.push(format!("{} uses {never}", source.name()));
            }
        }
    }
    none(&complaints);
}

#[test]
fn a_parent_is_not_left_by_super() {
    let complaints: Vec<_> = shipped()
        .filter(|source| {
            let depth = source.name().matches('/').count();
            let ups = source.code();
            (1..6).any(|n| n >= depth && ups.contains(&"super::".repeat(n)))
        })
        .map(|source| format!("{} reaches out of its room by super", source.name()))
        .collect();
    none(&complaints);
}

#[test]
fn only_the_clock_reads_the_time() {
    let complaints: Vec<_> = shipped()
        .filter(|source| source.room() != "clock")
        .filter(|source| TIME.iter().any(|time| names(&source.code(), time)))
        .map(|source| format!("{} reads the time", source.name()))
        .collect();
    none(&complaints);
}

#[test]
fn what_is_pure_measures_no_time_either() {
    let complaints: Vec<_> = shipped()
        .filter(|source| ["core", "wire", "tokens", "config"].contains(&source.room().as_str()))
        .filter(|source| names(&source.code(), "Instant"))
        .map(|source| format!("{} measures time", source.name()))
        .collect();
    none(&complaints);
}

#[test]
fn money_is_never_floating() {
    let complaints: Vec<_> = shipped()
        .filter(|source| {
            ["money.rs", "bill.rs", "totals.rs"]
                .iter()
                .any(|f| source.path.ends_with(f))
        })
        .filter(|source| {
            ["f32", "f64"]
                .iter()
                .any(|float| names(&source.code(), float))
        })
        .map(|source| source.name())
        .collect();
    none(&complaints);
}

#[test]
fn nothing_below_knows_who_wires_it() {
    let complaints: Vec<_> = shipped()
        .filter(|source| {
            [
                "core", "wire", "tokens", "clock", "config", "metrics", "ledger",
            ]
            .contains(&source.room().as_str())
        })
        .filter(|source| {
            rooms_named(&source.code())
                .iter()
                .any(|r| WIRES.contains(&r.as_str()))
        })
        .map(|source| source.name())
        .collect();
    none(&complaints);
}

#[test]
fn files_are_short_ascii_open_with_what_they_are_and_leave_nothing_to_do() {
    let mut complaints = Vec::new();
    let later = ["TO", "FIX", "XX"].map(|word| match word {
        "TO" => format!("{word}DO"),
        "FIX" => format!("{word}ME"),
        _ => format!("{word}X"),
    });
    for source in sources("src")
        .into_iter()
        .chain(sources("tests"))
        .chain(sources("benches"))
    {
        let name = source.name();
        let code = source.code();
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > MAX_LINES && !source.is_test() {
            complaints.push(format!("{name} has {lines} lines"));
        }
        if !source.text.is_ascii() {
            complaints.push(format!("{name} is not ASCII"));
        }
        if !source.text.starts_with("//! ") && !name.ends_with("/tests.rs") {
            complaints.push(format!("{name} does not open with //!"));
        }
        if later.iter().any(|word| names(&source.text, word)) {
            complaints.push(format!("{name} leaves something to do"));
        }
        if name.ends_with("/mod.rs") {
            complaints.push(format!("{name}: a room is foo.rs beside foo/"));
        }
    }
    none(&complaints);
}

#[test]
fn files_that_the_architecture_names_are_there() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let sources = sources("src");
    let quoted = text.split('`').skip(1).step_by(2);
    let is_source = |it: &&str| {
        let extension = Path::new(it).extension();
        extension.is_some_and(|it| it == "rs" || it == "lua")
    };
    let files = quoted.filter(is_source);
    let is_missing = |file: &&str| {
        !root().join(file).exists()
            && !root().join("src").join(file).exists()
            && !sources.iter().any(|source| source.path.ends_with(file))
    };
    let missing: Vec<String> = files.filter(is_missing).map(str::to_owned).collect();
    none(&missing);
}

#[test]
fn the_checks_see_what_they_look_for() {
    let code = "use crate::{core, wire::sse};\nuse crate::config::Config;\nlet a = crate::app::x;";
    let rooms: Vec<_> = rooms_named(code).into_iter().collect();
    assert_eq!(rooms, ["app", "config", "core", "wire"]);
    assert!(names("use tokio::net;", "tokio") && !names("use tokio_rustls::x;", "tokio"));
    assert!(names("let x = Instant::now();", "Instant::now"));
}
