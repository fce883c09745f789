//! Tells the program which commit it was built from.

use std::path::Path;
use std::process::Command;

/// Says it where neither git nor a package does, as in a container build.
const VARIABLE: &str = "OPEN_AIOPS_COMMIT";
/// What `cargo package` puts beside the sources.
const PACKAGED: &str = ".cargo_vcs_info.json";
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let commit = told().or_else(of_git).or_else(of_package);
    let commit = commit.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=OPEN_AIOPS_COMMIT={commit}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever builds has no other way to say it"
)]
fn told() -> Option<String> {
    std::env::var(VARIABLE)
        .ok()
        .filter(|commit| !commit.is_empty())
}

fn of_git() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    // The second one changes with every commit, the first one with every checkout.
    for file in ["HEAD", "logs/HEAD"] {
        match git(&["rev-parse", "--git-path", file]) {
            Some(path) if Path::new(&path).exists() => {
                println!("cargo::rerun-if-changed={path}");
            }
            _ => {}
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn of_package() -> Option<String> {
    let text = std::fs::read_to_string(PACKAGED).ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    let hash = rest.split('"').nth(1)?;
    hash.get(..DIGITS).map(str::to_owned)
}
