//! Which run a launched program is: its name, and how it is said in a base URL and in headers.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::core::budget::{Limits, Measure};
use crate::core::id::{CallId, Label};
use crate::core::text::front;

/// Of what is given as a name, so that what makes it unique fits too.
const MAX_NAME_BYTES: usize = 128;
const SUFFIX_CHARS: usize = 6;
/// No vowels, so no words, and nothing that is mistaken for another.
const DIGITS: &[u8; 25] = b"23456789bcdfghjkmnpqrtvwx";
/// What stands in a path as it is.
pub const UNQUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
const SCRIPTS: [&str; 8] = ["py", "js", "mjs", "cjs", "ts", "sh", "rb", "ipynb"];

/// Everything a launch says of its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub run: Label,
    pub parent: Option<Label>,
    pub variant: Option<Label>,
    pub limits: Limits,
}

impl Identity {
    /// `name` or what the command is called, made unique by `id`.
    pub fn name(name: Option<&Label>, command: &[OsString], id: CallId) -> Option<Label> {
        let called = name.map_or_else(|| of_command(command), ToString::to_string);
        let stem = front(&called, MAX_NAME_BYTES);
        Label::parse(&format!("{}-{}", stem.trim(), suffix(id))).ok()
    }

    /// The front of a path: `/run/crew-4k7xpq/variant/b/budget-usd/2.00`.
    pub fn tags(&self) -> String {
        let mut tags = String::new();
        // Whoever resolves dots in a path would take the name before away with these.
        let said = self.said().into_iter();
        for (tag, value) in said.filter(|(_, value)| value != "." && value != "..") {
            // Writing into a text does not fail.
            let _ = write!(tags, "/{tag}/{}", utf8_percent_encode(&value, UNQUOTED));
        }
        tags
    }

    /// `x-aiops-run: crew-4k7xpq`, one a line. What no header can carry everywhere is left to
    /// the base URL.
    pub fn headers(&self) -> Vec<String> {
        let said = self.said().into_iter();
        said.filter(|(_, value)| value.is_ascii())
            .map(|(tag, value)| format!("x-aiops-{tag}: {value}"))
            .collect()
    }

    fn said(&self) -> Vec<(&'static str, String)> {
        let limit = |measure| {
            let limit = self.limits.of(measure)?;
            Some(match measure {
                Measure::Usd => measure.text(limit).trim_start_matches('$').to_owned(),
                _ => limit.to_string(),
            })
        };
        let label = |label: &Option<Label>| label.as_ref().map(ToString::to_string);
        let said = [
            ("run", Some(self.run.to_string())),
            ("parent-run", label(&self.parent)),
            ("variant", label(&self.variant)),
            ("budget-usd", limit(Measure::Usd)),
            ("budget-tokens", limit(Measure::Tokens)),
            ("budget-calls", limit(Measure::Calls)),
        ];
        let said = said.into_iter();
        said.filter_map(|(tag, value)| Some((tag, value?)))
            .collect()
    }
}

/// The script of `python crew.py`, else the program.
fn of_command(command: &[OsString]) -> String {
    let mut words = command.iter().map(|word| Path::new(word.as_os_str()));
    let program = words.next();
    let script = words.find(|word| {
        let extension = word.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| SCRIPTS.contains(&extension))
    });
    let named = script.or(program).and_then(Path::file_stem);
    let named = named.map(|name| name.to_string_lossy().into_owned());
    let named: String = named
        .unwrap_or_default()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    if named.is_empty() {
        "run".to_owned()
    } else {
        named
    }
}

fn suffix(id: CallId) -> String {
    let bits = id
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut left = bits;
    let mut text = String::new();
    for _ in 0..SUFFIX_CHARS {
        let base = DIGITS.len() as u64;
        let at = usize::try_from(left % base).unwrap_or(0);
        text.push(DIGITS.get(at).copied().unwrap_or(b'2').into());
        left /= base;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::tags::take_tags;

    fn label(text: &str) -> Label {
        Label::parse(text).unwrap()
    }

    fn named(name: Option<&str>, command: &[&str]) -> String {
        let command: Vec<OsString> = command.iter().map(Into::into).collect();
        let name = name.map(label);
        let id = CallId::from_bytes([7; 16]);
        let run = Identity::name(name.as_ref(), &command, id).unwrap();
        let (stem, suffix) = run.as_str().rsplit_once('-').unwrap();
        assert_eq!(suffix.len(), SUFFIX_CHARS, "{run}");
        stem.to_owned()
    }

    #[test]
    fn run_is_named_by_its_name_its_script_or_its_program() {
        assert_eq!(named(Some("nightly"), &["python", "crew.py"]), "nightly");
        assert_eq!(
            named(None, &["python3", "-u", "src/crew.py", "--x"]),
            "crew"
        );
        assert_eq!(named(None, &["/usr/bin/env", "A=b", "c"]), "env");
        assert_eq!(named(None, &["./my agent"]), "my-agent");
        assert_eq!(named(None, &["/"]), "run");
        let long = "x".repeat(256);
        assert_eq!(named(Some(&long), &["a"]).len(), MAX_NAME_BYTES);
    }

    #[test]
    fn two_launches_of_one_name_are_two_runs() {
        let of = |byte| Identity::name(Some(&label("a")), &[], CallId::from_bytes([byte; 16]));
        assert_ne!(of(1), of(2));
        assert_eq!(of(1), of(1));
    }

    #[test]
    fn proxy_reads_from_the_base_url_what_was_said() {
        let mut limits = Limits::default();
        limits.set(Measure::Usd, Some(2_500_000_000));
        limits.set(Measure::Tokens, Some(1000));
        let identity = Identity {
            run: label("crew 1/a?#%\u{e9}"),
            parent: Some(label("a..b")),
            variant: Some(label("..")),
            limits,
        };
        let path = format!("{}/v1/chat/completions", identity.tags());
        let tagged = take_tags(&path);
        assert_eq!(tagged.run.as_deref(), Some("crew 1/a?#%\u{e9}"));
        assert_eq!(tagged.parent_run.as_deref(), Some("a..b"));
        assert_eq!(tagged.variant.as_deref(), None, "dots are resolved");
        assert_eq!(tagged.budget_usd.as_deref(), Some("2.50"));
        assert_eq!(tagged.budget_tokens.as_deref(), Some("1000"));
        assert_eq!(tagged.budget_calls, None);
        assert_eq!(tagged.rest, "/v1/chat/completions");
        let headers = identity.headers();
        assert_eq!(
            headers,
            [
                "x-aiops-parent-run: a..b",
                "x-aiops-variant: ..",
                "x-aiops-budget-usd: 2.50",
                "x-aiops-budget-tokens: 1000"
            ],
            "a name that is not ASCII is left to the base URL"
        );
    }
}
