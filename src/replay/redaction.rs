//! What redaction took out of the record must not make a difference, nor be told.

use std::borrow::Cow;

use bytes::Bytes;
use regex::bytes::Regex;

/// Patterns and what is put in the place of what matches, in their order.
#[derive(Clone, Debug, Default)]
pub struct Redaction(pub Vec<(Regex, String)>);

impl Redaction {
    pub fn of(&self, body: &Bytes) -> Bytes {
        let mut body = body.clone();
        for (pattern, replacement) in &self.0 {
            if let Cow::Owned(after) = pattern.replace_all(&body, replacement.as_bytes()) {
                body = after.into();
            }
        }
        body
    }
}
