//! Ends of texts, cut between characters, and characters that must not be taken at their word.

use std::borrow::Cow;
use std::fmt::Write as _;

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

/// A field of CSV as RFC 4180 has it; what a spreadsheet would take for a formula is made a text.
pub fn csv_field(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guard = if is_formula { "'" } else { "" };
    csv_quoted(&format!("{guard}{text}"))
}

/// The same of what is no text.
pub fn csv_quoted(value: &str) -> String {
    if value.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}

/// Whether a character shows nothing and steers whoever shows it: controls but for line feed and tab,
/// those that turn the direction of writing, those without a width, line ends that are no line feed.
pub fn is_steering(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        _ => c.is_control(),
    }
}

/// The text with what is not to be seen in it made visible, as `<1b>`; a joiner between two signs, as in
/// many emoji, stays.
pub fn visible(text: &str) -> Cow<'_, str> {
    const JOINER: char = '\u{200d}';
    if !text.contains(is_steering) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut before = ' ';
    for c in text.chars() {
        let joins = c == JOINER && !before.is_ascii() && !is_steering(before);
        if is_steering(c) && !joins {
            // Writing to a string cannot fail.
            let _ = write!(shown, "<{:x}>", u32::from(c));
        } else {
            shown.push(c);
        }
        before = c;
    }
    shown.into()
}

/// `1,234,567`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 call`, `1,234 calls`
pub fn many(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_turns_a_line_is_made_visible() {
        for (text, expected) in [
            ("a\tb\nc", "a\tb\nc"),
            ("\u{1b}[2J", "<1b>[2J"),
            ("a\rb\u{9b}", "a<d>b<9b>"),
            ("x\u{202e}y\u{2066}\u{2028}", "x<202e>y<2066><2028>"),
            ("\u{feff}\u{e0041}", "<feff><e0041>"),
            ("\u{1f469}\u{200d}\u{1f52c}", "\u{1f469}\u{200d}\u{1f52c}"),
            ("a\u{200d}b", "a<200d>b"),
        ] {
            assert_eq!(visible(text), expected);
        }
    }

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
