//! From usage to an amount: each token is billed once, at its most specific price.

use super::row::{PerMillion, PerUnit, PriceRow};
use crate::core::money::NanoUsd;
use crate::core::usage::Usage;

/// The prices of one call, found through the layers of a row.
pub(super) struct Rates<'a>(pub(super) Vec<&'a PriceRow>);

/// A quantity and what one of it costs. `None` is an unknown price.
type Line = (u64, Option<u64>);

/// One line of what a call is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Billed {
    /// `cache read`, `input`, ...
    pub what: &'static str,
    pub quantity: u64,
    /// Pico-USD for one; none where no price is known.
    pub pico_usd_each: Option<u64>,
}

const INPUT: [&str; 7] = [
    "cache read",
    "cache write, 1 h",
    "cache write, 12 h",
    "cache write",
    "audio in",
    "images in",
    "new input",
];
const OUTPUT: [&str; 4] = ["audio out", "images out", "reasoning", "output"];
const PIECES: [&str; 3] = ["characters", "images", "web searches"];

impl Rates<'_> {
    pub(super) fn find<T>(&self, figure: impl Fn(&PriceRow) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(|row| figure(row))
    }

    pub(super) fn tokens(&self, figure: impl Fn(&PriceRow) -> Option<PerMillion>) -> Option<u64> {
        self.find(figure).map(PerMillion::pico_usd)
    }

    /// The amount for `usage`; none when it holds something that has no price.
    pub(super) fn amount(&self, usage: &Usage) -> Option<NanoUsd> {
        let lines = [
            self.input_lines(usage).as_slice(),
            &self.output_lines(usage),
        ]
        .concat();
        let mut pico = 0u128;
        for (quantity, price) in lines.into_iter().chain(self.pieces(usage)) {
            if quantity > 0 {
                pico = pico.saturating_add(u128::from(quantity).saturating_mul(price?.into()));
            }
        }
        pico = pico.saturating_add(self.seconds(usage)?);
        let nano = pico.saturating_add(500) / 1000;
        Some(NanoUsd::new(i64::try_from(nano).unwrap_or(i64::MAX)))
    }

    /// What `usage` is made of, each token in one line only; parts of nothing are left out.
    pub(super) fn billed(&self, usage: &Usage) -> Vec<Billed> {
        let input = INPUT.into_iter().zip(self.input_lines(usage));
        let output = OUTPUT.into_iter().zip(self.output_lines(usage));
        let pieces = PIECES.into_iter().zip(self.pieces(usage));
        let lines = input.chain(output).chain(pieces);
        let lines = lines.map(|(what, (quantity, pico_usd_each))| Billed {
            what,
            quantity,
            pico_usd_each,
        });
        lines.filter(|line| line.quantity > 0).collect()
    }

    fn input_lines(&self, usage: &Usage) -> [Line; 7] {
        let input = self.tokens(|row| row.input);
        let write = self.tokens(|row| row.cache_write).or(input);
        let mut left = usage.input_tokens;
        let short_writes = usage
            .cache_write_input_tokens
            .saturating_sub(usage.cache_write_1h_input_tokens)
            .saturating_sub(usage.cache_write_12h_input_tokens);
        let read = self.tokens(|row| row.cache_read).or(input);
        let hour = self.tokens(|row| row.cache_write_1h).or(write);
        let half_day = self.tokens(|row| row.cache_write_12h).or(write);
        let audio = self.tokens(|row| row.audio_input).or(input);
        let image = self.tokens(|row| row.image_input).or(input);
        [
            (take(&mut left, usage.cache_read_input_tokens), read),
            (take(&mut left, usage.cache_write_1h_input_tokens), hour),
            (
                take(&mut left, usage.cache_write_12h_input_tokens),
                half_day,
            ),
            (take(&mut left, short_writes), write),
            (take(&mut left, usage.audio_input_tokens), audio),
            (take(&mut left, usage.image_input_tokens), image),
            (left, input),
        ]
    }

    fn output_lines(&self, usage: &Usage) -> [Line; 4] {
        let output = self.tokens(|row| row.output);
        let mut left = usage.output_tokens;
        let audio = self.tokens(|row| row.audio_output).or(output);
        let image = self.tokens(|row| row.image_output).or(output);
        let reasoning = self.tokens(|row| row.reasoning).or(output);
        [
            (take(&mut left, usage.audio_output_tokens), audio),
            (take(&mut left, usage.image_output_tokens), image),
            (take(&mut left, usage.reasoning_output_tokens), reasoning),
            (left, output),
        ]
    }

    /// What is billed by piece. Text and images that came as tokens were billed as such.
    fn pieces(&self, usage: &Usage) -> [Line; 3] {
        let unless = |tokens: u64, pieces: u64| if tokens == 0 { pieces } else { 0 };
        let characters = unless(usage.input_tokens, usage.input_characters);
        let images = unless(usage.output_tokens, usage.images);
        [
            (characters, self.tokens(|row| row.characters)),
            (images, self.find(|row| row.image).map(PerUnit::pico_usd)),
            (
                usage.web_searches,
                self.find(|row| row.web_search).map(PerUnit::pico_usd),
            ),
        ]
    }

    /// The pico-USD for audio that did not come as tokens.
    fn seconds(&self, usage: &Usage) -> Option<u128> {
        if usage.audio_input_ms == 0 || usage.input_tokens > 0 {
            return Some(0);
        }
        let second = self.find(|row| row.second)?.pico_usd();
        Some((u128::from(usage.audio_input_ms) * u128::from(second)).div_ceil(1000))
    }
}

/// Takes up to `wanted` from `left`: subsets that together exceed their total are cut.
fn take(left: &mut u64, wanted: u64) -> u64 {
    let taken = wanted.min(*left);
    *left -= taken;
    taken
}
