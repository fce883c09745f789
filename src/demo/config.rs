//! The configuration of the demo, as a user would write it.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::DemoError;
use crate::config::Config;

/// Those of the default configuration, where they are free: what people remember.
const PORTS: [u16; 2] = [8787, 8788];

/// What the demo runs with. `model` is where the scripted model listens.
pub fn text(model: &str, dir: &str, [proxy, admin]: [u16; 2]) -> String {
    let mut text = format!(
        "\
[proxy]
listen = \"127.0.0.1:{proxy}\"

[admin]
listen = \"127.0.0.1:{admin}\"

[ledger]
dir = {}

[[upstream]]
name = \"scripted-model\"
base_url = \"http://{model}/v1\"
",
        quoted(dir)
    );
    text.push_str(
        "
# Loops are told of, slowed, and stopped; this preset waits a little longer than the default.
[loops]
preset = \"cautious\"

[[budget]]
name = \"each run\"
per = [\"run\"]
usd = 0.25

# The third scene has less, so that it ends while somebody looks.
[[budget]]
name = \"summaries\"
per = [\"run\"]
match = { run = \"overrun-*\" }
usd = 0.04
slow_at = 0.6
max_delay = \"2s\"
",
    );
    text
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

pub(super) fn read(model: SocketAddr, dir: &Path) -> Result<Config, DemoError> {
    let dir = dir.to_string_lossy();
    let text = text(&model.to_string(), &dir, PORTS.map(free));
    Config::parse("the configuration of the demo", &text, &|_| None).map_err(DemoError::Config)
}

/// The port where it can be listened on, else one that the system picks.
fn free(port: u16) -> u16 {
    TcpListener::bind(("127.0.0.1", port)).map_or(0, |_| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_a_good_one_wherever_the_ledger_lies() {
        for dir in ["data", "/tmp/with \"quotes\" and \\", "/tmp/\u{e9}"] {
            let read = read("127.0.0.1:9".parse().unwrap(), Path::new(dir)).unwrap();
            assert_eq!(read.ledger.dir, Path::new(dir));
            assert_eq!(read.budgets.len(), 2);
        }
    }
}
