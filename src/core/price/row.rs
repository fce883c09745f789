//! One row of prices: what a model costs, as the built-in table and the user's config write it.
//!
//! Prices are decimal text read exactly into whole pico-USD (1e-12 USD) per unit, so no floating
//! point is involved and no price is rounded.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::RowFault;

/// A price in pico-USD per unit. `DECIMALS` is how many decimal places its written form has at
/// most: 6 when it is written as USD per million units, 12 when as USD per unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price<const DECIMALS: u32>(u64);

/// A price written as USD per million tokens (or characters): `"2.5"` is 2,500,000 pico-USD each.
pub type PerMillion = Price<6>;
/// A price written as USD per piece (or second).
pub type PerUnit = Price<12>;

/// Why a text is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("is not a decimal number such as 2.5")]
    Malformed,
    #[error("has more than {0} decimal places")]
    TooFine(u32),
    #[error("is too large")]
    TooLarge,
}

impl<const DECIMALS: u32> Price<DECIMALS> {
    pub const fn from_pico_usd(pico: u64) -> Self {
        Self(pico)
    }

    pub const fn pico_usd(self) -> u64 {
        self.0
    }

    /// Reads digits with at most one point and no sign or exponent.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let dangling = whole.is_empty() || (text.contains('.') && fraction.is_empty());
        if dangling || !digits(whole) || !digits(fraction) {
            return Err(DecimalError::Malformed);
        }
        let fraction = fraction.trim_end_matches('0');
        let missing = usize::try_from(DECIMALS)
            .ok()
            .and_then(|most| most.checked_sub(fraction.len()))
            .ok_or(DecimalError::TooFine(DECIMALS))?;
        let scaled = format!("{whole}{fraction}{}", "0".repeat(missing));
        scaled.parse().map(Self).map_err(|_| DecimalError::TooLarge)
    }
}

/// Reads a price given as USD per million tokens, exactly.
pub fn parse_usd_per_million(text: &str) -> Result<PerMillion, DecimalError> {
    PerMillion::parse(text)
}

/// Takes `"2.5"`, `2.5` and `2`. A TOML float is taken by its shortest decimal form, which is the
/// one that was written.
impl<'de, const DECIMALS: u32> Deserialize<'de> for Price<DECIMALS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Decimal<const DECIMALS: u32>;

        impl<const DECIMALS: u32> Visitor<'_> for Decimal<DECIMALS> {
            type Value = Price<DECIMALS>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a price in USD, such as \"2.5\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Price::parse(text).map_err(|error| E::custom(format!("price \"{text}\" {error}")))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Decimal)
    }
}

/// What a model costs. Every field may be left out.
///
/// Tokens without a price of their own are billed as what they are part of: cache reads and
/// writes, audio and images in as `input`; reasoning, audio and images out as `output`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PriceRow {
    /// USD per million input tokens.
    pub input: Option<PerMillion>,
    /// USD per million output tokens.
    pub output: Option<PerMillion>,
    /// USD per million input tokens read from the provider's cache.
    pub cache_read: Option<PerMillion>,
    /// USD per million input tokens written to the cache for the shortest lifetime.
    pub cache_write: Option<PerMillion>,
    /// The same, kept for one hour.
    pub cache_write_1h: Option<PerMillion>,
    /// The same, kept for twelve hours.
    pub cache_write_12h: Option<PerMillion>,
    /// USD per million reasoning tokens, where they differ from other output.
    pub reasoning: Option<PerMillion>,
    /// USD per million audio tokens in.
    pub audio_input: Option<PerMillion>,
    /// USD per million audio tokens out.
    pub audio_output: Option<PerMillion>,
    /// USD per million image tokens in.
    pub image_input: Option<PerMillion>,
    /// USD per million image tokens out.
    pub image_output: Option<PerMillion>,
    /// USD per million characters of text to speak.
    pub characters: Option<PerMillion>,
    /// USD per second of audio to transcribe.
    pub second: Option<PerUnit>,
    /// USD per image made.
    pub image: Option<PerUnit>,
    /// USD per web search run by the provider.
    pub web_search: Option<PerUnit>,
    /// The most input tokens a call can have.
    pub context: Option<u64>,
    /// The most output tokens a call can have.
    pub max_output: Option<u64>,
    /// Prices of a service tier; what a tier leaves out costs the same as without it.
    pub batch: Option<Box<PriceRow>>,
    pub flex: Option<Box<PriceRow>>,
    /// Also what clients ask for as `fast`.
    pub priority: Option<Box<PriceRow>>,
    pub ultrafast: Option<Box<PriceRow>>,
    /// Prices of the whole call once its input is longer than `long.above` tokens.
    pub long: Option<Box<PriceRow>>,
    /// Only within `long`: its threshold in input tokens.
    pub above: Option<u64>,
}

impl PriceRow {
    /// Whether the rows within this one are where they belong: what a reader of rows asks before
    /// it uses them.
    pub fn check(&self) -> Result<(), RowFault> {
        if self.above.is_some() {
            return Err(RowFault::StrayAbove);
        }
        let tiers = [&self.batch, &self.flex, &self.priority, &self.ultrafast];
        for tier in tiers.into_iter().flatten() {
            if tier.has_tiers() {
                return Err(RowFault::NestedTier);
            }
            tier.check()?;
        }
        let malformed =
            |long: &Self| long.above.is_none() || long.has_tiers() || long.long.is_some();
        if self.long.as_deref().is_some_and(malformed) {
            return Err(RowFault::MalformedLong);
        }
        Ok(())
    }

    fn has_tiers(&self) -> bool {
        [&self.batch, &self.flex, &self.priority, &self.ultrafast]
            .iter()
            .any(|t| t.is_some())
    }

    /// The figures for a call of `input_tokens` in `service_tier`, the ones that go first first.
    pub(super) fn layers(&self, service_tier: Option<&str>, input_tokens: u64) -> Vec<&Self> {
        let tier = match service_tier {
            Some("batch") => self.batch.as_deref(),
            Some("flex") => self.flex.as_deref(),
            Some("priority" | "fast") => self.priority.as_deref(),
            Some("ultrafast") => self.ultrafast.as_deref(),
            _ => None,
        };
        let long =
            |row: &'_ Self| -> bool { row.above.is_some_and(|threshold| input_tokens > threshold) };
        [
            tier.and_then(|tier| tier.long.as_deref()),
            self.long.as_deref(),
        ]
        .into_iter()
        .flatten()
        .filter(|row| long(row))
        .chain(tier)
        .chain([self])
        .collect()
    }
}
