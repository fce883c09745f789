//! Prices: from usage to nano-USD.
//!
//! The built-in table is a file of this repository, dated; rows of the user's config go before
//! it. A model without a price has no cost, which is not a cost of zero. All arithmetic is in
//! whole pico-USD, rounded half up to nano-USD once, at the end.

mod bill;
mod name;
mod provider;
mod quote;
mod row;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use wildmatch::WildMatch;

pub use self::bill::Billed;
use self::bill::Rates;
pub use self::provider::{Provider, provider_of};
pub use self::quote::Quantities;
pub use self::row::{DecimalError, PerMillion, PerUnit, Price, PriceRow, parse_usd_per_million};
use super::call::CostSource;
use super::money::NanoUsd;
use super::usage::Usage;

static BUILTIN: LazyLock<PriceTable> =
    LazyLock::new(|| PriceTable::parse(include_str!("../../prices.toml")).unwrap_or_default());

/// What is given away costs nothing by the token.
static FREE: LazyLock<PriceRow> = LazyLock::new(|| PriceRow {
    input: Some(PerMillion::from_pico_usd(0)),
    output: Some(PerMillion::from_pico_usd(0)),
    ..PriceRow::default()
});

/// What a call cost, and by whose word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub amount: NanoUsd,
    pub source: CostSource,
}

/// Prices by seller and model.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {
    date: String,
    /// Model ids are in lower case.
    providers: BTreeMap<Provider, BTreeMap<String, PriceRow>>,
    aliases: BTreeMap<String, String>,
    /// The user's rows, the first match wins.
    overrides: Vec<(WildMatch, PriceRow)>,
}

/// Why a text is no price table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    #[error("price of {model}: {fault}")]
    Row { model: String, fault: RowFault },
    #[error("alias {0} names a model that is not in the table")]
    Alias(String),
}

/// What is wrong with a row that reads well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    #[error("a service tier holds another service tier")]
    NestedTier,
    #[error("`long` must have `above` and no rows of its own")]
    MalformedLong,
    #[error("`above` belongs into `long`")]
    StrayAbove,
}

/// The layout of the table's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    date: String,
    #[serde(default)]
    models: BTreeMap<Provider, BTreeMap<String, PriceRow>>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
}

/// The model that a call is billed as: the one that answered, unless the one that was asked for is
/// an offer of Bedrock, since answers there leave out the geography.
pub fn billed_model<'m>(asked: Option<&'m str>, answered: Option<&'m str>) -> Option<&'m str> {
    asked
        .filter(|model| name::is_on_bedrock(model))
        .or(answered)
}

impl PriceTable {
    /// The table this program was built with.
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let file: TableFile = toml::from_str(text)?;
        let lower = |rows: BTreeMap<String, PriceRow>| -> BTreeMap<String, PriceRow> {
            rows.into_iter()
                .map(|(model, row)| (model.to_ascii_lowercase(), row))
                .collect()
        };
        let providers: BTreeMap<_, _> = file
            .models
            .into_iter()
            .map(|(provider, rows)| (provider, lower(rows)))
            .collect();
        for (model, row) in providers.values().flatten() {
            row.check().map_err(|fault| PriceError::Row {
                model: model.clone(),
                fault,
            })?;
        }
        for (alias, model) in &file.aliases {
            if !providers.values().any(|rows| rows.contains_key(model)) {
                return Err(PriceError::Alias(alias.clone()));
            }
        }
        Ok(Self {
            date: file.date,
            providers,
            aliases: file.aliases,
            overrides: Vec::new(),
        })
    }

    /// This table with rows of the user's before it: globs over model ids as calls name them. The
    /// first match wins and replaces the table's row as a whole.
    #[must_use]
    pub fn with_overrides(mut self, rows: Vec<(String, PriceRow)>) -> Self {
        let rows = rows
            .into_iter()
            .map(|(glob, row)| (WildMatch::new(&glob), row));
        self.overrides.extend(rows);
        self
    }

    /// The day of the prices, `2026-11-22`.
    pub fn date(&self) -> &str {
        &self.date
    }

    /// What `usage` of `model` costs; none when the model, or a part of the usage, has no price.
    ///
    /// `seller` is a provider's name or the host of an upstream. `service_tier` is the tier that
    /// served the call: unknown ones, `auto` and `default` are billed at the base prices.
    pub fn price(
        &self,
        seller: Option<&str>,
        model: &str,
        service_tier: Option<&str>,
        usage: &Usage,
    ) -> Option<Cost> {
        let (row, source) = self.find(seller, model)?;
        let amount = Rates(row.layers(service_tier, usage.input_tokens)).amount(usage)?;
        Some(Cost { amount, source })
    }

    /// What `usage` of `model` is made of and what one of each costs by this table; see
    /// [`price`](Self::price). A model without a price has lines too.
    pub fn bill(
        &self,
        seller: Option<&str>,
        model: &str,
        service_tier: Option<&str>,
        usage: &Usage,
    ) -> Vec<Billed> {
        let row = self.find(seller, model).map(|(row, _)| row);
        let layers = row.map(|row| row.layers(service_tier, usage.input_tokens));
        Rates(layers.unwrap_or_default()).billed(usage)
    }

    /// The most output tokens a call of `model` can have.
    pub fn max_output(&self, seller: Option<&str>, model: &str) -> Option<u64> {
        self.find(seller, model)?.0.max_output
    }

    /// The most input tokens a call of `model` can have.
    pub fn context(&self, seller: Option<&str>, model: &str) -> Option<u64> {
        self.find(seller, model)?.0.context
    }

    fn find(&self, seller: Option<&str>, model: &str) -> Option<(&PriceRow, CostSource)> {
        if let Some((_, row)) = self.overrides.iter().find(|(glob, _)| glob.matches(model)) {
            return Some((row, CostSource::Config));
        }
        let seller = seller.and_then(|name| Provider::parse(name).or_else(|| provider_of(name)));
        if seller.is_none() && name::is_free(model) {
            return Some((&FREE, CostSource::Table));
        }
        let candidates = name::candidates(model);
        let by_seller = candidates
            .iter()
            .find_map(|one| self.row(seller?, &one.name));
        let by_maker = || {
            candidates.iter().find_map(|candidate| {
                let named = candidate
                    .maker
                    .and_then(|maker| self.row(maker, &candidate.name));
                named.or_else(|| {
                    Provider::ALL
                        .iter()
                        .find_map(|p| self.row(*p, &candidate.name))
                })
            })
        };
        by_seller
            .or_else(by_maker)
            .map(|row| (row, CostSource::Table))
    }

    fn row(&self, provider: Provider, name: &str) -> Option<&PriceRow> {
        let rows = self.providers.get(&provider)?;
        rows.get(name).or_else(|| rows.get(self.aliases.get(name)?))
    }
}

#[cfg(test)]
mod tests;
