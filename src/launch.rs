//! Launching a program so that its calls come through the proxy: `open-aiops run -- ...`.
//!
//! What the program is told is decided in [`environment`], from a table of the variables that
//! clients read. The proxy it is pointed at is one that runs already, or one in this process
//! ([`proxy`]), which other launches on the same ledger may use as well. [`child`] starts the
//! program and hands signals on. Nothing here prints.

pub mod child;
mod clients;
pub mod environment;
mod guests;
pub mod identity;
pub mod proxy;

use std::collections::BTreeSet;

use crate::config::{Config, Secret};

/// The run that a launched program belongs to: its name.
pub const RUN: &str = "OPEN_AIOPS_RUN";
/// The ledger of its proxy, by which a launch within finds that proxy.
pub const LEDGER: &str = "OPEN_AIOPS_LEDGER";
/// The base URL of the run, without the path of any API.
pub const URL: &str = "OPEN_AIOPS_URL";
/// What lets one command the admin listener.
const TOKEN: &str = "OPEN_AIOPS_TOKEN";

/// Variables that a launched program must not see: what they hold gives power over the proxy, or
/// is a secret of the proxy alone.
pub fn kept_from_child(config: &Config) -> Vec<String> {
    let hooks = config.alerts.webhooks.iter();
    let of_hooks = hooks.flat_map(|hook| {
        let headers = hook.headers.iter().map(|(_, secret)| secret);
        headers.chain([&hook.url]).chain(&hook.bearer)
    });
    let of_upstreams = of_upstreams(config).filter(|name| !clients::is_key(name));
    let secrets = of_hooks.chain(&config.admin.token);
    let named = secrets.filter_map(Secret::variable).chain(of_upstreams);
    named.chain([TOKEN]).map(ToOwned::to_owned).collect()
}

/// Variables with keys of upstreams that a launched program sees, since its clients do not begin
/// without: with these it could pass by the proxy.
pub fn keys_left(config: &Config) -> BTreeSet<String> {
    let left = of_upstreams(config).filter(|name| clients::is_key(name));
    left.map(ToOwned::to_owned).collect()
}

fn of_upstreams(config: &Config) -> impl Iterator<Item = &str> {
    let keys = config.upstreams.iter().filter_map(|of| of.api_key.as_ref());
    keys.filter_map(Secret::variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_sees_no_variable_that_gives_power_over_the_proxy() {
        let text = "[admin]\ntoken_env = \"ADMIN\"\n[[alerts.webhook]]\nname = \"a\"\nurl_env = \"HOOK\"\n\
                    bearer_env = \"BEARER\"\n\
                    [[upstream]]\nname = \"a\"\nbase_url = \"https://a.example/v1\"\napi_key_env = \"TEAM_KEY\"\n\
                    [[upstream]]\nname = \"b\"\nbase_url = \"https://b.example/v1\"\napi_key_env = \"OPENAI_API_KEY\"\n";
        let config = Config::parse("config.toml", text, &|name| {
            let hook = "https://hooks.example/x";
            Some(if name == "HOOK" {
                hook.to_owned()
            } else {
                "k".repeat(32)
            })
        });
        let config = config.unwrap();
        let mut kept = kept_from_child(&config);
        kept.sort();
        let expected = ["ADMIN", "BEARER", "HOOK", "OPEN_AIOPS_TOKEN", "TEAM_KEY"];
        assert_eq!(kept, expected);
        let left: Vec<String> = keys_left(&config).into_iter().collect();
        assert_eq!(left, ["OPENAI_API_KEY"]);
    }
}
