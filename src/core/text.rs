//! Ends of texts, cut between characters.

/// The first `max_bytes` bytes of `text`, or a little less: whole characters only.
pub fn front(text: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes.min(text.len())).rev();
    let end = end.into_iter().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// The last `max_bytes` bytes of `text`, or a little less: whole characters only.
pub fn end(text: &str, max_bytes: usize) -> &str {
    let from = text.len().saturating_sub(max_bytes);
    let from = (from..=text.len()).find(|from| text.is_char_boundary(*from));
    from.and_then(|from| text.get(from..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut() {
        let text = "a\u{e9}\u{1f600}b";
        let fronts: Vec<&str> = (0..=9).map(|max| front(text, max)).collect();
        assert_eq!(fronts[..4], ["", "a", "a", "a\u{e9}"]);
        assert_eq!(
            (fronts[6], fronts[7], fronts[9]),
            ("a\u{e9}", "a\u{e9}\u{1f600}", text)
        );
        assert_eq!((end(text, 0), end(text, 1), end(text, 4)), ("", "b", "b"));
        assert_eq!((end(text, 5), end(text, 99)), ("\u{1f600}b", text));
    }
}
