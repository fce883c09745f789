//! What opens the door of the running server to a command: the admin token, out of the environment.
//!
//! Where the server listens is read from the directory of the ledger, so the token goes there only if
//! the configuration has the listener at that address as well.

use std::env;
use std::net::SocketAddr;

use http::HeaderValue;

use super::{Common, command};
use crate::config::{AdminConfig, Secret};

/// Looked at where the configuration names no variable.
pub(super) const DEFAULT_VARIABLE: &str = "OPEN_AIOPS_TOKEN";

pub(super) struct Key {
    /// `Bearer <token>`, marked as a secret.
    pub(super) header: Option<HeaderValue>,
    /// What to do when the server does not open.
    pub(super) advice: String,
}

impl Key {
    pub(super) fn find(common: &Common, server: SocketAddr) -> Self {
        match command::load(common) {
            Ok((config, _)) => {
                let is_own_dir = common.dir.is_none();
                Self::new(&config.admin, by_default(), server, is_own_dir)
            }
            Err(failure) => {
                let why = failure.words();
                Self::none(format!("what it is cannot be found out:\n{why}"))
            }
        }
    }

    fn new(
        admin: &AdminConfig,
        by_default: Option<Secret>,
        server: SocketAddr,
        is_own_dir: bool,
    ) -> Self {
        let Some(token) = admin.token.clone().or(by_default) else {
            return Self::none(format!(
                "set {DEFAULT_VARIABLE} to it, or name its variable as token_env under [admin] of the \
                 config file"
            ));
        };
        let variable = token.variable().unwrap_or(DEFAULT_VARIABLE);
        // A launched proxy listens on loopback wherever there is room, and says so in the directory that the
        // configuration names.
        let is_launched = is_own_dir && server.ip().is_loopback();
        if !is_same(admin.listen, server) && !is_launched {
            return Self::none(format!(
                "the one in {variable} is sent to {} only, the admin.listen of the configuration; \
                 name that of the server by --config",
                admin.listen
            ));
        }
        let Ok(mut header) = HeaderValue::try_from(format!("Bearer {}", token.expose())) else {
            return Self::none(format!("no header can carry the one in {variable}"));
        };
        header.set_sensitive(true);
        Self {
            header: Some(header),
            advice: format!("it is not the one in {variable}"),
        }
    }

    fn none(advice: String) -> Self {
        Self {
            header: None,
            advice,
        }
    }
}

/// Of port 0 the system made one that nobody knew before.
fn is_same(configured: SocketAddr, server: SocketAddr) -> bool {
    configured.ip() == server.ip() && [0, server.port()].contains(&configured.port())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line is one of the two places that read the environment"
)]
fn by_default() -> Option<Secret> {
    let token = env::var(DEFAULT_VARIABLE).ok()?;
    let token = token.trim();
    let secret = || Secret::from_variable(DEFAULT_VARIABLE.to_owned(), token.to_owned());
    (!token.is_empty()).then(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const TOKEN: &str = "0123456789abcdef-secret";

    fn admin(listen: &str, variable: Option<&str>) -> AdminConfig {
        let mut admin = Config::default().admin;
        admin.listen = listen.parse().unwrap();
        admin.token = variable.map(secret);
        admin
    }

    fn secret(variable: &str) -> Secret {
        Secret::from_variable(variable.to_owned(), TOKEN.to_owned())
    }

    #[track_caller]
    fn check(listen: &str, named: Option<&str>, default: bool, server: &str) -> Key {
        let default = default.then(|| secret(DEFAULT_VARIABLE));
        let server = server.parse().unwrap();
        let key = Key::new(&admin(listen, named), default, server, false);
        assert!(!key.advice.contains("secret"), "{}", key.advice);
        let header = key.header.as_ref();
        assert!(header.is_none_or(HeaderValue::is_sensitive));
        key
    }

    #[test]
    fn the_token_goes_to_the_configured_listener_and_nowhere_else() {
        for (listen, server, is_sent) in [
            ("127.0.0.1:8788", "127.0.0.1:8788", true),
            ("127.0.0.1:0", "127.0.0.1:4711", true),
            ("0.0.0.0:8788", "0.0.0.0:8788", true),
            ("127.0.0.1:8788", "127.0.0.1:8789", false),
            ("127.0.0.1:8788", "10.0.0.1:8788", false),
            ("127.0.0.1:0", "10.0.0.1:4711", false),
            ("0.0.0.0:8788", "10.0.0.1:8788", false),
        ] {
            let key = check(listen, Some("MINE"), true, server);
            assert_eq!(key.header.is_some(), is_sent, "{listen} {server}");
            assert!(key.advice.contains("MINE"), "{}", key.advice);
            assert_eq!(key.advice.contains(listen), !is_sent, "{}", key.advice);
        }
    }

    #[test]
    fn the_token_goes_to_a_launched_proxy_of_the_own_directory() {
        let admin = admin("127.0.0.1:8788", Some("MINE"));
        let sent = |server: &str| {
            let key = Key::new(&admin, None, server.parse().unwrap(), true);
            key.header.is_some()
        };
        assert!(sent("127.0.0.1:40123"));
        assert!(!sent("10.0.0.1:40123"));
    }

    #[test]
    fn the_default_variable_counts_where_the_configuration_names_none() {
        let at = "127.0.0.1:8788";
        let key = check(at, None, true, at);
        assert_eq!(key.header.unwrap(), format!("Bearer {TOKEN}").as_str());
        assert!(key.advice.contains("OPEN_AIOPS_TOKEN"), "{}", key.advice);
        let key = check(at, None, false, at);
        assert!(key.header.is_none());
        assert!(
            key.advice.starts_with("set OPEN_AIOPS_TOKEN"),
            "{}",
            key.advice
        );
    }
}
