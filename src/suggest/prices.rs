//! What a token of a call cost.

use crate::config::Config;
use crate::core::id::Label;
use crate::core::price::{PriceTable, billed_model};
use crate::core::suggest::facts::Rates;
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
        let seller = self.sellers.iter().find(|(name, _)| *name == row.upstream);
        let seller = seller.map_or(row.upstream.as_str(), |(_, host)| host.as_str());
        let answered = row.response_model.as_ref().or(row.model.as_ref());
        let asked = row.request_model.as_ref().map(Label::as_str);
        let model = billed_model(asked, answered.map(Label::as_str)).unwrap_or_default();
        let tier = row.service_tier.as_ref().map(Label::as_str);
        // One of each kind, in a call as long as this one was.
        let usage = Usage {
            input_tokens: row.usage.input_tokens.max(2),
            output_tokens: 1,
            cache_read_input_tokens: 1,
            ..Usage::default()
        };
        let bill = self.table.bill(Some(seller), model, tier, &usage);
        let of = |what: &str| bill.iter().find(|line| line.what == what)?.pico_usd_each;
        Rates {
            input: of("new input"),
            cache_read: of("cache read"),
            output: of("output"),
        }
    }
}
