//! What is kept of the head of a message, and how much of a call was to be kept at all.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use utoipa::ToSchema;

use super::text::front;

/// How much of a call is kept, and who wanted it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema)]
#[cbor(array)]
pub struct Kept {
    #[n(0)]
    pub level: Level,
    /// The client asked for less than the config would keep.
    #[n(1)]
    pub by_client: bool,
}

#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Encode,
    Decode,
    Serialize,
    Deserialize,
    ToSchema,
    IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[cbor(index_only)]
pub enum Level {
    /// Neither bodies nor headers.
    #[n(0)]
    None,
    /// All but the bodies.
    #[n(1)]
    Meta,
    #[n(2)]
    Full,
}

/// Headers that are kept of one head.
const MAX_HEADERS: usize = 64;
/// Bytes of names and values together.
const MAX_BYTES: usize = 8 << 10;
/// Bytes of one value.
const MAX_VALUE: usize = 512;

/// The headers of one head in one text, built once. A line is a name and what is known of the
/// value: `:` and the value, `<` and its length and its front, or `(` and no more than its length
/// and a fingerprint. None of the three can stand in a name, and no value has a line feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HeaderLines {
    #[n(0)]
    text: String,
    #[cbor(n(1), default)]
    count: u32,
    /// More were there than are kept.
    #[cbor(n(2), default)]
    left_out: u32,
}

/// One header as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Header {
    pub name: String,
    /// Null where it may be a secret: then it was never stored.
    pub value: Option<String>,
    /// Bytes of the value.
    pub len: u64,
    /// Of a value that is not stored: the same for the same value, and says nothing else of it.
    pub fingerprint: Option<String>,
}

impl HeaderLines {
    /// Bytes it takes.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn left_out(&self) -> u32 {
        self.left_out
    }

    /// A header whose value may be seen.
    pub fn show(&mut self, name: &str, value: &str) {
        let front = front(value, MAX_VALUE);
        if !self.room(name.len() + front.len()) {
            return;
        }
        self.text.push_str(name);
        if front.len() < value.len() {
            let len = value.len().to_string();
            self.text.push('<');
            self.text.push_str(&len);
        }
        self.text.push(':');
        // No header has one in its value; a line of ours must not end early all the same.
        if front.contains('\n') {
            self.text.push_str(&front.replace('\n', " "));
        } else {
            self.text.push_str(front);
        }
        self.text.push('\n');
    }

    /// A header whose value may be a secret.
    pub fn hide(&mut self, name: &str, len: usize, fingerprint: u16) {
        if self.room(name.len() + 16) {
            let line = format!("{name}({len},{fingerprint:04x}\n");
            self.text.push_str(&line);
        }
    }

    fn room(&mut self, more: usize) -> bool {
        /// A usual head.
        const USUAL: usize = 768;
        if self.text.capacity() == 0 {
            self.text.reserve(USUAL);
        }
        let has_room =
            (self.count as usize) < MAX_HEADERS && self.text.len() + more + 2 <= MAX_BYTES;
        if has_room {
            self.count += 1;
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
        has_room
    }

    /// Puts other texts in the place of values that may be seen, where `change` has one. It is told
    /// whether the value was cut off.
    pub fn replace(&mut self, change: impl Fn(&str, bool) -> Option<String>) {
        let mut text = String::with_capacity(self.text.len());
        for line in self.text.lines() {
            let colon = line.find([':', '<', '(']);
            let known = colon.and_then(|at| line.as_bytes().get(at).copied());
            let is_cut = known == Some(b'<');
            let value = line
                .find(':')
                .filter(|_| known != Some(b'('))
                .map(|at| at + 1);
            match value.and_then(|at| Some((line.get(..at)?, change(line.get(at..)?, is_cut)?))) {
                Some((name, value)) => {
                    text.push_str(name);
                    text.push_str(&front(&value, MAX_VALUE).replace('\n', " "));
                }
                None => text.push_str(line),
            }
            text.push('\n');
        }
        self.text = text;
    }

    /// The headers in the order they came in.
    pub fn iter(&self) -> impl Iterator<Item = Header> + '_ {
        self.text.lines().filter_map(header)
    }
}

fn header(line: &str) -> Option<Header> {
    let at = line.find([':', '<', '('])?;
    let (name, rest) = line.split_at(at);
    let mut header = Header {
        name: name.to_owned(),
        value: None,
        len: 0,
        fingerprint: None,
    };
    if let Some(value) = rest.strip_prefix(':') {
        header.len = value.len() as u64;
        header.value = Some(value.to_owned());
    } else if let Some((len, value)) = rest.strip_prefix('<').and_then(|it| it.split_once(':')) {
        header.len = len.parse().ok()?;
        header.value = Some(value.to_owned());
    } else {
        let (len, print) = rest.strip_prefix('(')?.split_once(',')?;
        header.len = len.parse().ok()?;
        header.fingerprint = Some(print.to_owned());
    }
    Some(header)
}

/// Whether a header of this name carries what must never be seen, whatever anybody allows.
pub fn is_secret_name(name: &str) -> bool {
    const SECRETS: [&str; 15] = [
        "auth",
        "token",
        "secret",
        "passw",
        "passphrase",
        "pwd",
        "key",
        "cookie",
        "credential",
        "signature",
        "jwt",
        "bearer",
        "assertion",
        "x-bf-vk",
        "websocket-protocol",
    ];
    let is_secret =
        |name: &str| SECRETS.iter().any(|secret| name.contains(secret)) || name.ends_with("-sig");
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        is_secret(&name.to_ascii_lowercase())
    } else {
        is_secret(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_replaced_and_nothing_else() {
        let mut lines = HeaderLines::default();
        lines.show("x-word", "a: word");
        lines.hide("x-odd", 4, 0xab);
        lines.show("long", &"word".repeat(200));
        lines.replace(|value, _| Some(value.replace("word", "w\nd")));
        let found: Vec<_> = lines.iter().collect();
        assert_eq!(found[0].name, "x-word");
        assert_eq!(found[0].value.as_deref(), Some("a: w d"));
        assert_eq!((&found[1].value, found[1].len), (&None, 4));
        assert_eq!((found[2].name.as_str(), found[2].len), ("long", 800));
        assert!(!found[2].value.as_deref().unwrap().contains("word"));
    }

    #[test]
    fn headers_read_back_as_they_were_kept() {
        let mut lines = HeaderLines::default();
        lines.show("accept", "a:b<c(d");
        lines.hide("x-odd", 9, 0xab);
        lines.show("empty", "");
        lines.show("long", &"\u{e9}".repeat(300));
        let found: Vec<_> = lines.iter().collect();
        let value = |at: usize| found[at].value.as_deref();
        assert_eq!(value(0), Some("a:b<c(d"));
        assert_eq!((value(1), found[1].len), (None, 9));
        assert_eq!(found[1].fingerprint.as_deref(), Some("00ab"));
        assert_eq!(value(2), Some(""));
        assert_eq!(value(3), Some("\u{e9}".repeat(256).as_str()));
        assert_eq!(found[3].len, 600);
        let stored = minicbor::to_vec(&lines).unwrap();
        assert_eq!(minicbor::decode::<HeaderLines>(&stored).unwrap(), lines);
    }

    #[test]
    fn a_head_without_end_is_kept_up_to_a_bound() {
        let mut lines = HeaderLines::default();
        for number in 0..100 {
            lines.show(&format!("x-{number}"), &"v".repeat(400));
        }
        assert!(lines.len() <= MAX_BYTES);
        let kept = lines.iter().count();
        assert!((10..MAX_HEADERS).contains(&kept));
        assert_eq!(u32::try_from(kept).unwrap() + lines.left_out(), 100);
        let mut lines = HeaderLines::default();
        (0..100).for_each(|_| lines.hide("x", 1, 1));
        assert_eq!((lines.iter().count(), lines.left_out()), (64, 36));
    }
}
