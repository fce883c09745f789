//! Tells the program which commit it was built from.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = if Path::new(".git").exists() {
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
    } else {
        None
    };
    let commit = commit.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=OPEN_AIOPS_COMMIT={commit}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
