//! What a call may cost before it is made: the dearest of the prices it could come to.

use super::PriceTable;
use super::bill::Rates;
use super::row::{PerMillion, PerUnit, PriceRow};
use crate::core::budget::decide::Tariff;
use crate::core::money::NanoUsd;

/// What is known of a call to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantities<'a> {
    pub input_tokens: u64,
    /// Text to be spoken.
    pub characters: u64,
    pub images: u64,
    /// Sound to be written down.
    pub seconds: u64,
    pub web_searches: u64,
    /// The tier that is asked for.
    pub service_tier: Option<&'a str>,
}

impl PriceTable {
    /// The most a call of `model` can cost, its output apart; none when it has no price.
    ///
    /// Input may turn out to be written to a cache, output to be reasoning or audio, and a project's
    /// settings may make a call a priority one that did not ask for it: the dearest counts.
    pub fn quote(
        &self,
        seller: Option<&str>,
        model: &str,
        quantities: &Quantities<'_>,
    ) -> Option<Tariff> {
        let (row, _) = self.find(seller, model)?;
        let tiers: &[Option<&str>] = match quantities.service_tier {
            None | Some("auto") => &[None, Some("priority")],
            Some(_) => &[quantities.service_tier],
        };
        let quotes = tiers.iter().filter_map(|tier| {
            let layers = row.layers(*tier, quantities.input_tokens);
            Rates(layers).quote(quantities)
        });
        quotes.reduce(|one, other| Tariff {
            before_output: one.before_output.max(other.before_output),
            pico_usd_per_output_token: one
                .pico_usd_per_output_token
                .max(other.pico_usd_per_output_token),
        })
    }
}

impl Rates<'_> {
    fn quote(&self, quantities: &Quantities<'_>) -> Option<Tariff> {
        let dearest = |figures: &[fn(&PriceRow) -> Option<PerMillion>]| {
            let prices = figures.iter().filter_map(|figure| self.tokens(figure));
            prices.max()
        };
        let input = dearest(&[
            |row| row.input,
            |row| row.cache_write,
            |row| row.cache_write_1h,
            |row| row.cache_write_12h,
            |row| row.audio_input,
            |row| row.image_input,
        ]);
        let output = dearest(&[
            |row| row.output,
            |row| row.reasoning,
            |row| row.audio_output,
            |row| row.image_output,
        ]);
        let characters = self.tokens(|row| row.characters);
        let image = self.find(|row| row.image).map(PerUnit::pico_usd);
        let second = self.find(|row| row.second).map(PerUnit::pico_usd);
        let search = self.find(|row| row.web_search).map(PerUnit::pico_usd);
        let any = input.or(output).or(characters).or(image).or(second);
        any?;
        let lines = [
            (quantities.input_tokens, input),
            (quantities.characters, characters),
            (quantities.images, image),
            (quantities.seconds, second),
            (quantities.web_searches, search),
        ];
        let pico = lines.into_iter().fold(0u128, |sum, (quantity, price)| {
            let line = u128::from(quantity).saturating_mul(u128::from(price.unwrap_or(0)));
            sum.saturating_add(line)
        });
        let nano = i64::try_from(pico.div_ceil(1000)).unwrap_or(i64::MAX);
        Some(Tariff {
            before_output: NanoUsd::new(nano),
            pico_usd_per_output_token: i64::try_from(output.unwrap_or(0)).unwrap_or(i64::MAX),
        })
    }
}
