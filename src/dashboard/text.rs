//! Texts of models and clients: verbatim, and with everything made visible that would deceive.

use std::fmt::Write as _;

use maud::{Markup, html};

/// A text as it is, but for characters that are not seen or that turn the direction of others:
/// those show their code.
pub(super) fn shown(text: &str) -> Markup {
    let mut pieces: Vec<(bool, String)> = Vec::new();
    for c in text.chars() {
        let hidden = is_hidden(c);
        match pieces.last_mut() {
            Some((false, piece)) if !hidden => piece.push(c),
            _ if hidden => pieces.push((true, format!("U+{:04X}", u32::from(c)))),
            _ => pieces.push((false, c.to_string())),
        }
    }
    html! {
        @for (hidden, piece) in &pieces {
            @if *hidden { span.hidden-char { (piece) } } @else { (piece) }
        }
    }
}

/// A name on one line: like [`shown`], apart from its surroundings in direction.
pub(super) fn name(text: &str) -> Markup {
    html! { bdi { (shown(text)) } }
}

/// The same as plain text, for places that hold no markup: `[U+202E]` for what is not seen.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            _ = write!(plain, "[U+{:04X}]", u32::from(c));
        } else {
            plain.push(c);
        }
    }
    plain
}

/// [`plain`], cut to so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    let plain = plain(text);
    if plain.chars().count() <= most {
        return plain;
    }
    let kept: String = plain.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}

/// Whether a character is shown by its code.
pub(super) fn is_hidden(c: char) -> bool {
    let steers = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    steers || (c.is_control() && !matches!(c, '\n' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_made_visible_and_markup_is_text() {
        let shown = shown("<b>\u{202e}x\u{1b}\n").into_string();
        assert_eq!(
            shown,
            "&lt;b&gt;<span class=\"hidden-char\">U+202E</span>x\
             <span class=\"hidden-char\">U+001B</span>\n"
        );
    }
}
