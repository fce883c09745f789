//! The fields of a JSON object, unparsed: enough to look at a few of them and pass over the rest.
//!
//! A lookup never fails: what is absent, null or of another type is `None`. Of equal keys the
//! last one counts, as most servers have it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// None when this is not one whole JSON object.
    pub(super) fn parse(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    pub(super) fn parse_str(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// The text of a value; none for null.
    pub(super) fn raw(&self, key: &str) -> Option<&'a str> {
        self.last(key).filter(|text| *text != "null")
    }

    /// The text of a value, null too.
    pub(super) fn last(&self, key: &str) -> Option<&'a str> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.get())
    }

    /// Every key with the text of its value, in order, repeats too.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_ref(), value.get()))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    pub(super) fn is_true(&self, key: &str) -> bool {
        self.raw(key) == Some("true")
    }

    pub(super) fn object(&self, key: &str) -> Option<Fields<'a>> {
        self.raw(key)
            .filter(|text| text.starts_with('{'))
            .and_then(Fields::parse_str)
    }

    /// The elements of an array, unparsed.
    pub(super) fn array(&self, key: &str) -> Vec<&'a RawValue> {
        let array = self.raw(key).filter(|text| text.starts_with('['));
        array
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// The objects in an array.
    pub(super) fn objects(&self, key: &str) -> impl Iterator<Item = Fields<'a>> + use<'a> {
        let items = self.array(key).into_iter();
        items.filter_map(|item| Fields::parse_str(item.get()))
    }

    /// A string; not copied when it has no escapes.
    pub(super) fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        let quoted = self.raw(key)?;
        let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
        if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
            return Some(Cow::Borrowed(inner));
        }
        let string = serde_json::from_str(quoted);
        string
            .or_else(|_| serde_json::from_str(&without_surrogates(quoted)))
            .ok()
            .map(Cow::Owned)
    }

    /// A string that is not empty.
    pub(super) fn string(&self, key: &str) -> Option<String> {
        self.text(key)
            .filter(|text| !text.is_empty())
            .map(Cow::into_owned)
    }

    /// A count; servers write some as `12.0`.
    pub(super) fn count(&self, key: &str) -> Option<u64> {
        let text = self.raw(key)?;
        text.parse().ok().or_else(|| {
            text.strip_suffix('0')?
                .strip_suffix('.')
                .and_then(|whole| whole.parse().ok())
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some((Key(key), value)) = map.next_entry()? {
            fields.push((key, value));
        }
        Ok(Fields(fields))
    }
}

/// A key, borrowed unless it has escapes (which `Cow` alone never is under serde).
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

/// Some servers cut a pair of surrogates in two, which is no valid text: each half becomes the
/// replacement character.
fn without_surrogates(quoted: &str) -> String {
    let mut fixed = String::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some((before, escape)) = rest.split_once('\\') {
        fixed.push_str(before);
        let is_surrogate = matches!(
            escape.as_bytes(),
            [
                b'u',
                b'd' | b'D',
                b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F',
                _,
                _,
                ..,
            ]
        );
        let (kept, tail) = if is_surrogate {
            ("ufffd", 5)
        } else {
            (escape.get(..1).unwrap_or(""), 1)
        };
        fixed.push('\\');
        fixed.push_str(kept);
        rest = escape.get(tail..).unwrap_or_default();
    }
    fixed.push_str(rest);
    fixed
}

/// Whether somewhere in `json` there is a wanted key with a wanted value, found without parsing.
/// The one is given all text up to the end of the key, the other all text from the start of the
/// value. A key that is quoted within a string ends with a backslash.
pub(super) fn any_key(
    json: &[u8],
    is_key: impl Fn(&[u8]) -> bool,
    is_value: impl Fn(&[u8]) -> bool,
) -> bool {
    memchr::memchr_iter(b':', json).any(|colon| {
        let (key, value) = json.split_at(colon);
        let key = key.trim_ascii_end().strip_suffix(b"\"");
        key.is_some_and(&is_key) && is_value(value.get(1..).unwrap_or_default().trim_ascii_start())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_type_and_never_fail() {
        let json = r#"{"n":3,"f":4.0,"big":-1,"s":"a\nb","e":"","z":null,"o":{"n":5},"a":[{"n":6},7],
            "n\u0032":8,"d":1,"d":2}"#;
        let fields = Fields::parse(json.as_bytes()).unwrap();
        assert_eq!(fields.count("n"), Some(3));
        assert_eq!(fields.count("f"), Some(4));
        assert_eq!(fields.count("big"), None);
        assert_eq!(fields.count("s"), None);
        assert_eq!(fields.count("n2"), Some(8));
        assert_eq!(fields.count("d"), Some(2));
        assert_eq!(fields.string("s").as_deref(), Some("a\nb"));
        assert_eq!(fields.string("e"), None);
        assert_eq!(fields.string("n"), None);
        assert!(!fields.has("z") && !fields.has("absent"));
        assert_eq!(fields.object("o").unwrap().count("n"), Some(5));
        assert!(fields.object("n").is_none());
        let counts: Vec<_> = fields.objects("a").map(|item| item.count("n")).collect();
        assert_eq!(counts, [Some(6)]);
    }

    #[test]
    fn text_is_unescaped_and_half_surrogates_replaced() {
        let json = r#"{"plain":"a:b","escaped":"\\\"\n\u00e9","pair":"\ud83d\ude00",
            "half":"\\\ud83dx\u0041","other":7}"#;
        let fields = Fields::parse(json.as_bytes()).unwrap();
        assert!(matches!(fields.text("plain"), Some(Cow::Borrowed("a:b"))));
        assert_eq!(fields.text("escaped").unwrap(), "\\\"\n\u{e9}");
        assert_eq!(fields.text("pair").unwrap(), "\u{1f600}");
        assert_eq!(fields.text("half").unwrap(), "\\\u{fffd}xA");
        assert_eq!(fields.text("other"), None);
    }

    #[test]
    fn keys_are_found_but_not_within_strings() {
        let found = |json: &str| {
            let is_key = |key: &[u8]| key.ends_with(b"\"usage");
            any_key(json.as_bytes(), is_key, |value| value.starts_with(b"{"))
        };
        assert!(found(r#"{"a":1,"usage" : {"b":2}}"#));
        assert!(!found(r#"{"usage":null}"#));
        assert!(!found(r#"{"a":"\"usage\":{"}"#));
        assert!(!found(r#"{"a":"usage:{"}"#));
    }

    #[test]
    fn what_is_no_object_has_no_fields() {
        for json in ["", "[]", "null", "{", "{}x", "\"{}\""] {
            assert!(Fields::parse(json.as_bytes()).is_none(), "{json}");
        }
    }
}
