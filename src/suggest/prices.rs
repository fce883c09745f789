//! What a token of a call cost.

use crate::config::Config;
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::price::{PriceTable, billed_model};
use crate::core::suggest::facts::{Rates, Tariff};
use crate::core::usage::Usage;
use crate::ledger::CallRow;

pub(super) struct Prices {
    table: PriceTable,
    /// Upstreams and the hosts they are at.
    sellers: Vec<(Label, String)>,
}

impl Prices {
    pub(super) fn new(config: &Config) -> Self {
        let table = config.price_table();
        let host = |host: &str| host.to_owned();
        let sellers = config.upstreams.iter();
        let sellers =
            sellers.filter_map(|it| Some((it.name.clone(), it.base_url.host().map(host)?)));
        Self {
            table: table.unwrap_or_else(|_| PriceTable::builtin().clone()),
            sellers: sellers.collect(),
        }
    }

    pub(super) fn rates(&self, row: &CallRow) -> Rates {
        let seller = self.seller(&row.upstream);
        let answered = row.response_model.as_ref().or(row.model.as_ref());
        let asked = row.request_model.as_ref().map(Label::as_str);
        let model = billed_model(asked, answered.map(Label::as_str)).unwrap_or_default();
        let tier = row.service_tier.as_ref().map(Label::as_str);
        // One of each kind, in a call as long as this one was.
        let usage = Usage {
            input_tokens: row.usage.input_tokens.max(3),
            output_tokens: 1,
            cache_read_input_tokens: 1,
            cache_write_input_tokens: 1,
            ..Usage::default()
        };
        let bill = self.table.bill(Some(seller), model, tier, &usage);
        let of = |what: &str| bill.iter().find(|line| line.what == what)?.pico_usd_each;
        Rates {
            input: of("new input"),
            cache_read: of("cache read"),
            cache_write: of("cache write"),
            output: of("output"),
        }
    }

    /// The host of an upstream, else its name.
    fn seller<'a>(&'a self, upstream: &'a Label) -> &'a str {
        let seller = self.sellers.iter().find(|(name, _)| name == upstream);
        seller.map_or(upstream.as_str(), |(_, host)| host.as_str())
    }
}

impl Tariff for Prices {
    fn quote(&self, upstream: &Label, model: &Label, usage: &Usage) -> Option<NanoUsd> {
        let seller = Some(self.seller(upstream));
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        let context = self.table.context(seller, model.as_str());
        let most = self.table.max_output(seller, model.as_str());
        let fits = context.is_none_or(|most| tokens <= most)
            && most.is_none_or(|most| usage.output_tokens <= most);
        let cost = self.table.price(seller, model.as_str(), None, usage)?;
        Some(cost.amount).filter(|_| fits)
    }
}
