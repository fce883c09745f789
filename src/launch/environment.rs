//! What a launched program finds in its environment: where each client that it may use has to send
//! its calls.
//!
//! Two things must not happen. A call that its user directed somewhere must not go anywhere else:
//! whatever endpoint is set stays the endpoint, behind the proxy. And a key must not come to a
//! company that it is not for: a variable is set only where an upstream speaks the API of those who
//! read it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use http::Uri;

use super::clients::{self, FAMILIES, Family, Variable};
use super::identity::Identity;
use super::{LEDGER, RUN, URL};
use crate::config::{AccountingConfig, UpstreamConfig};
use crate::core::id::Label;
use crate::proxy::headers;
use crate::proxy::tags::take_tags;

const PROXIES: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Headers that say whose calls these are, and where they go; the launch says so now.
const OWN_HEADERS: [&str; 8] = [
    headers::UPSTREAM,
    "x-aiops-run",
    "x-aiops-run-id",
    "x-aiops-parent-run",
    "x-aiops-variant",
    "x-aiops-budget-usd",
    "x-aiops-budget-tokens",
    "x-aiops-budget-calls",
];

/// Variables and their values, as far as they are text.
pub type Variables = BTreeMap<String, String>;

/// An endpoint that a proxy passes calls on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub name: Label,
    pub base_url: Uri,
    /// A key that was made for another host may come here.
    pub takes_any_key: bool,
}

/// An endpoint that the user set, and no upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub variable: &'static str,
    pub value: String,
    /// What an upstream for it would be.
    pub endpoint: Endpoint,
}

/// Of this value of a variable nobody can tell where calls would go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{variable} in the environment: found `{value}`, expected an http or https URL without user, query \
     and fragment"
)]
pub struct NoUrl {
    variable: &'static str,
    value: String,
}

/// The proxy as a launched program sees it.
#[derive(Clone, Debug)]
pub struct Behind<'a> {
    /// `http://127.0.0.1:43210`
    pub origin: &'a str,
    pub upstreams: &'a [Endpoint],
    /// Addresses that are the proxy's own: what is set to one of them is set to no other endpoint.
    pub own: &'a [SocketAddr],
    /// Where its ledger is, from anywhere.
    pub ledger: &'a str,
}

/// What to change in the environment of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub set: Variables,
    /// What a person should know: one sentence each.
    pub notes: Vec<String>,
}

/// Endpoints that `variables` are set to and that `upstreams` lack, each once.
pub fn missing(
    variables: &Variables,
    upstreams: &[Endpoint],
    own: &[SocketAddr],
) -> Result<Vec<Missing>, NoUrl> {
    let mut known = upstreams.to_vec();
    let mut missing = Vec::new();
    for variable in FAMILIES.iter().flat_map(|family| family.variables) {
        let Some(value) = given(variables, variable) else {
            continue;
        };
        let url = url(variable, value)?;
        if is_own(&url, own) || place(&url, &known).is_some() {
            continue;
        }
        let endpoint = Endpoint {
            name: free_name(variable, &known),
            base_url: whole_origin(&url).ok_or_else(|| no_url(variable, value))?,
            takes_any_key: false,
        };
        known.push(endpoint.clone());
        missing.push(Missing {
            variable: variable.name,
            value: value.to_owned(),
            endpoint,
        });
    }
    Ok(missing)
}

impl Missing {
    pub fn upstream(&self, accounting: &AccountingConfig) -> UpstreamConfig {
        let Endpoint { name, base_url, .. } = self.endpoint.clone();
        UpstreamConfig::at(name, base_url, accounting)
    }
}

/// What to change in `variables` for a program that is to be this run.
pub fn changes(
    variables: &Variables,
    identity: &Identity,
    behind: &Behind<'_>,
) -> Result<Changes, NoUrl> {
    let mut changes = Changes::default();
    let front = format!("{}{}", behind.origin, identity.tags());
    for family in &FAMILIES {
        let set = family_changes(family, variables, (&front, behind))?;
        if let Some(name) = family.headers.filter(|_| !set.is_empty()) {
            let headers = with_headers(variables.get(name), identity);
            changes.set.insert(name.to_owned(), headers);
            let given = variables.get(name).map(String::as_str).unwrap_or_default();
            if given.lines().any(|line| is_header(line, headers::UPSTREAM)) {
                let dropped = format!(
                    "{} of {name} is left out: the base URL says where calls go",
                    headers::UPSTREAM
                );
                changes.notes.push(dropped);
            }
        }
        changes.notes.extend(usual_note(family, variables, behind));
        changes.set.extend(set);
    }
    changes.set.extend(no_proxy(variables, behind.origin));
    changes.set.insert(RUN.to_owned(), identity.run.to_string());
    changes
        .set
        .insert(LEDGER.to_owned(), behind.ledger.to_owned());
    changes.set.insert(URL.to_owned(), front);
    Ok(changes)
}

/// What to set in `variables` for a program that is answered from a record at `origin`, whatever
/// endpoint it uses. Nobody asks for keys there, and clients do not begin without: those that are not
/// set are made up.
pub fn replayed(variables: &Variables, origin: &str) -> Result<Variables, NoUrl> {
    let mut set = no_proxy(variables, origin);
    for variable in FAMILIES.iter().flat_map(|family| family.variables) {
        let path = match given(variables, variable) {
            Some(value) => url(variable, value)?
                .path()
                .trim_end_matches('/')
                .to_owned(),
            None => variable.end.to_owned(),
        };
        set.insert(variable.name.to_owned(), format!("{origin}{path}"));
    }
    let lacking = clients::KEYS
        .iter()
        .filter(|key| !variables.contains_key(**key));
    for key in lacking {
        set.insert((*key).to_owned(), "replayed".to_owned());
    }
    set.insert(URL.to_owned(), origin.to_owned());
    Ok(set)
}

/// What to set in `variables` for a program that is answered from a record first, and goes on live: as
/// for one that is launched, so that a key goes where it went.
pub fn forked(variables: &Variables, behind: &Behind<'_>) -> Result<Variables, NoUrl> {
    let mut set = no_proxy(variables, behind.origin);
    for family in &FAMILIES {
        set.extend(family_changes(family, variables, (behind.origin, behind))?);
    }
    set.insert(URL.to_owned(), behind.origin.to_owned());
    Ok(set)
}

/// The variables of one family: each stays where it is set to; those that are not set go where the
/// first does that is, else to the upstream of that API, if there is one.
fn family_changes(
    family: &Family,
    variables: &Variables,
    (front, behind): (&str, &Behind<'_>),
) -> Result<Variables, NoUrl> {
    let mut set = Variables::new();
    let mut first = None;
    for variable in family.variables {
        let Some(value) = given(variables, variable) else {
            continue;
        };
        let url = url(variable, value)?;
        let path = if is_own(&url, behind.own) {
            own_path(&url)
        } else {
            place(&url, behind.upstreams).ok_or_else(|| no_url(variable, value))?
        };
        first.get_or_insert((variable.end, path.clone()));
        set.insert(variable.name.to_owned(), format!("{front}{path}"));
    }
    let unset = family
        .variables
        .iter()
        .filter(|variable| given(variables, variable).is_none());
    for variable in unset {
        let path = match &first {
            Some((end, path)) => (*end == variable.end).then(|| path.clone()),
            None => default_path(family, behind.upstreams).map(|path| path + variable.end),
        };
        if let Some(path) = path {
            set.insert(variable.name.to_owned(), format!("{front}{path}"));
        }
    }
    Ok(set)
}

/// What to say of where clients of the usual API go, unless it is where they always do.
fn usual_note(family: &Family, variables: &Variables, behind: &Behind<'_>) -> Option<String> {
    let mut all = family.variables.iter();
    if !family.is_usual || all.any(|variable| given(variables, variable).is_some()) {
        return None;
    }
    Some(match default_upstream(family, behind.upstreams) {
        Some(upstream) if family.is_spoken_by(&upstream.base_url) => return None,
        Some(Endpoint { name, base_url, .. }) => {
            format!("OPENAI_BASE_URL leads to {name}, {base_url}")
        }
        None => match behind.upstreams.first() {
            Some(Endpoint { name, base_url, .. }) if !clients::is_no_openai(base_url) => format!(
                "OPENAI_BASE_URL is left alone: OpenAI's key is not for {name}, {base_url}, unless its \
                 [[upstream]] has accept_client_key = true, or api_key_env"
            ),
            _ => "no upstream speaks OpenAI's API: OPENAI_BASE_URL is left alone".to_owned(),
        },
    })
}

/// To the upstream of an API, without the path of that API. It is named: another order of the
/// upstreams must not lead the key elsewhere.
fn default_path(family: &Family, upstreams: &[Endpoint]) -> Option<String> {
    default_upstream(family, upstreams).map(|upstream| named(upstream.name.as_str()))
}

/// The API's own, else for the usual API the default upstream, if any key may come there.
fn default_upstream<'a>(family: &Family, upstreams: &'a [Endpoint]) -> Option<&'a Endpoint> {
    let native = upstreams
        .iter()
        .find(|of| family.is_spoken_by(&of.base_url));
    let usual = || {
        let first = upstreams.first().filter(|_| family.is_usual)?;
        let is_meant = first.takes_any_key && !clients::is_no_openai(&first.base_url);
        is_meant.then_some(first)
    };
    native.or_else(usual)
}

fn named(upstream: &str) -> String {
    let name = percent_encoding::utf8_percent_encode(upstream, super::identity::UNQUOTED);
    format!("/upstream/{name}")
}

/// What a variable is set to: an empty one is not set.
fn given<'v>(variables: &'v Variables, variable: &Variable) -> Option<&'v str> {
    let value = variables.get(variable.name)?.trim().trim_end_matches('/');
    (!value.is_empty()).then_some(value)
}

fn url(variable: &Variable, value: &str) -> Result<Uri, NoUrl> {
    let url: Option<Uri> = value.parse().ok();
    let usable = |url: &Uri| {
        let is_http = matches!(url.scheme_str(), Some("http" | "https"));
        let plain = url.authority().is_some_and(|it| !it.as_str().contains('@'));
        is_http && plain && url.query().is_none() && !value.contains('#')
    };
    url.filter(usable).ok_or_else(|| no_url(variable, value))
}

fn no_url(variable: &Variable, value: &str) -> NoUrl {
    // What stands before an @, or in a query or fragment, may be a secret.
    let plain = value.split(['?', '#']).next().unwrap_or_default();
    let more = if plain.len() < value.len() { "..." } else { "" };
    let value = match plain.rsplit_once('@') {
        Some((_, host)) => format!("...@{host}{more}"),
        None if value.contains('@') => "...".to_owned(),
        None => format!("{plain}{more}"),
    };
    NoUrl {
        variable: variable.name,
        value,
    }
}

/// Where an endpoint is behind the proxy: an upstream, and the path there that clients go on from.
/// A path stays as it is where `/v1` is `/v1` at the upstream too, which is so of all that are made
/// up here.
fn place(url: &Uri, upstreams: &[Endpoint]) -> Option<String> {
    let path = url.path().trim_end_matches('/');
    let base_path = |endpoint: &Endpoint| {
        let path = endpoint.base_url.path();
        path.trim_end_matches('/').to_owned()
    };
    let mut there = upstreams
        .iter()
        .filter(|endpoint| is_same_origin(url, &endpoint.base_url));
    let whole = |endpoint: &&Endpoint| base_path(endpoint) == "/v1";
    let exact = |endpoint: &&Endpoint| !path.is_empty() && base_path(endpoint) == path;
    if let Some(endpoint) = there.clone().find(exact) {
        return Some(format!("{}/v1", named(endpoint.name.as_str())));
    }
    let endpoint = there.find(whole)?;
    Some(format!("{}{path}", named(endpoint.name.as_str())))
}

/// `https://host:port/v1`: an upstream at which every path is what it is.
fn whole_origin(url: &Uri) -> Option<Uri> {
    let (scheme, authority) = (url.scheme_str()?, url.authority()?);
    format!("{scheme}://{authority}/v1").parse().ok()
}

fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    let port = |url: &Uri| {
        let by_scheme = if url.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        url.port_u16().unwrap_or(by_scheme)
    };
    let host = |url: &Uri| url.host().map(str::to_ascii_lowercase);
    one.scheme_str() == other.scheme_str() && host(one) == host(other) && port(one) == port(other)
}

/// Whether the proxy itself is at this URL.
fn is_own(url: &Uri, own: &[SocketAddr]) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let ip: Option<IpAddr> = host.parse().ok();
    let is_local = host.eq_ignore_ascii_case("localhost") || ip.is_some_and(|ip| ip.is_loopback());
    let by_scheme = if url.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let port = url.port_u16().unwrap_or(by_scheme);
    own.iter().any(|address| {
        let is_here = address.ip().is_loopback() || address.ip().is_unspecified();
        address.port() == port && (ip == Some(address.ip()) || is_local && is_here)
    })
}

/// What a URL of the proxy itself says besides the run: its upstream, its agent, the path of an API.
fn own_path(url: &Uri) -> String {
    const API: &str = "/v1";
    let whole = format!("{}{API}", url.path().trim_end_matches('/'));
    let tagged = take_tags(&whole);
    let agent = tagged.agent.as_deref().map(|agent| {
        let agent = percent_encoding::utf8_percent_encode(agent, super::identity::UNQUOTED);
        format!("/agent/{agent}")
    });
    let rest = tagged.rest.strip_suffix(API).unwrap_or_default();
    // Even one that nobody can have: without it calls would go to another.
    let upstream = tagged.upstream.as_deref().map(named).unwrap_or_default();
    format!("{upstream}{}{rest}", agent.unwrap_or_default())
}

/// `openai-base-url`, or one more where another endpoint has that name.
fn free_name(variable: &Variable, known: &[Endpoint]) -> Label {
    let taken: BTreeSet<&str> = known
        .iter()
        .map(|endpoint| endpoint.name.as_str())
        .collect();
    let name = variable.name.to_ascii_lowercase().replace('_', "-");
    let more = (2..).map(|n: u32| format!("{name}-{n}"));
    let mut names = std::iter::once(name.clone()).chain(more);
    let free = names.find(|name| !taken.contains(name.as_str()));
    free.and_then(|name| Label::parse(&name).ok())
        .unwrap_or_else(|| {
            known
                .first()
                .map_or_else(|| label(variable), |of| of.name.clone())
        })
}

#[expect(clippy::expect_used, reason = "names of variables are labels")]
fn label(variable: &Variable) -> Label {
    Label::parse(variable.name).expect("a label")
}

/// What is set, without what says whose calls these are, and then what the launch says of it.
fn with_headers(set: Option<&String>, identity: &Identity) -> String {
    let kept = set.map(String::as_str).unwrap_or_default().lines();
    let kept = kept.filter(|line| {
        let is_own = OWN_HEADERS.iter().any(|own| is_header(line, own));
        !line.trim().is_empty() && !is_own
    });
    let kept = kept.map(str::to_owned);
    let lines: Vec<String> = kept.chain(identity.headers()).collect();
    lines.join("\n")
}

/// Whether this line is such a header, as in `x-aiops-run: a`.
fn is_header(line: &str, name: &str) -> bool {
    let of_line = line.split(':').next().unwrap_or_default().trim();
    of_line.eq_ignore_ascii_case(name)
}

/// The way to this machine itself must not lead through the network's proxy.
fn no_proxy(variables: &Variables, origin: &str) -> Variables {
    let is_set = |name: &&str| variables.get(*name).is_some_and(|it| !it.trim().is_empty());
    if !PROXIES.iter().any(is_set) {
        return Variables::new();
    }
    let uri: Option<Uri> = origin.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let mut wanted = vec!["127.0.0.1", "localhost"];
    if !wanted.contains(&host) && !host.is_empty() {
        wanted.push(host.trim_matches(['[', ']']));
    }
    let either = NO_PROXY.iter().find(|name| is_set(name));
    let with = |name: &str| {
        let own = variables.get(name).filter(|it| !it.trim().is_empty());
        let set = own.or_else(|| variables.get(*either?));
        let mut hosts: Vec<&str> = set
            .map(|set| set.split(',').map(str::trim).collect())
            .unwrap_or_default();
        let all = hosts.contains(&"*");
        let new = wanted.iter().filter(|host| !hosts.contains(*host) && !all);
        let new: Vec<&str> = new.copied().collect();
        hosts.extend(new);
        hosts.join(",")
    };
    let names = NO_PROXY.iter();
    names.map(|name| ((*name).to_owned(), with(name))).collect()
}

#[cfg(test)]
mod tests;
