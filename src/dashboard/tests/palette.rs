//! The colours of the style sheet can be told from what they stand on, in both themes.

use std::collections::BTreeMap;

const STYLE: &str = include_str!("../style.css");

type Colour = [u8; 3];

/// Each variable of the palette: light, dark.
fn palette() -> BTreeMap<&'static str, [Colour; 2]> {
    let mut palette = BTreeMap::new();
    for line in STYLE.lines() {
        let line = line.trim();
        let Some((name, rest)) = line
            .strip_prefix("--")
            .and_then(|line| line.split_once(": light-dark("))
        else {
            continue;
        };
        let (light, dark) = rest
            .trim_end_matches(");")
            .split_once(", ")
            .expect("two colours");
        palette.insert(name, [colour(light), colour(dark)]);
    }
    palette
}

fn colour(text: &str) -> Colour {
    let digits = text
        .strip_prefix('#')
        .unwrap_or_else(|| panic!("{text} is no colour"));
    let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    [part(0), part(2), part(4)]
}

/// Relative luminance as WCAG 2 defines it.
fn luminance(colour: Colour) -> f64 {
    let [red, green, blue] = colour.map(|part| {
        let part = f64::from(part) / 255.0;
        if part <= 0.04045 {
            part / 12.92
        } else {
            ((part + 0.055) / 1.055).powf(2.4)
        }
    });
    0.0722f64.mul_add(blue, 0.2126f64.mul_add(red, 0.7152 * green))
}

fn contrast(a: Colour, b: Colour) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn black_on_white_is_as_far_apart_as_can_be() {
    assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 0.001);
}

#[test]
fn texts_and_controls_stand_out_from_what_they_stand_on_in_both_themes() {
    let palette = palette();
    let all = [
        "bg",
        "surface",
        "fill-new",
        "fill-ok",
        "fill-warn",
        "fill-bad",
    ]
    .as_slice();
    let plain = ["bg", "surface"].as_slice();
    let pairs = [
        ("text", 4.5, all),
        ("muted", 4.5, all),
        ("accent", 4.5, all),
        ("second", 4.5, plain),
        ("ok", 4.5, &["bg", "surface", "fill-ok"]),
        ("warn", 4.5, &["bg", "surface", "fill-warn"]),
        ("bad", 4.5, &["bg", "surface", "fill-bad"]),
        ("on-accent", 4.5, &["accent"]),
        ("control", 3.0, plain),
    ];
    let mut low = Vec::new();
    for (front, least, backs) in pairs {
        for back in backs {
            for (theme, name) in ["light", "dark"].iter().enumerate() {
                let found = contrast(palette[front][theme], palette[back][theme]);
                if found < least {
                    low.push(format!("{front} on {back}, {name}: {found:.2} < {least}"));
                }
            }
        }
    }
    assert!(low.is_empty(), "{}", low.join("\n"));
}

#[test]
fn colours_are_named_once_and_used_by_name() {
    let names: Vec<&str> = palette().into_keys().collect();
    assert!(names.len() >= 16, "{names:?}");
    let literal = STYLE
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"));
    let literal: Vec<&str> = literal
        .filter(|line| line.contains('#') && !line.contains("@media print"))
        .collect();
    assert!(literal.is_empty(), "{literal:?}");
}
