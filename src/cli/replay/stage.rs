//! A replay that listens, and the proxy that it goes live through where that is wanted.

use std::net::SocketAddr;

use super::super::args::Launch;
use super::super::launch::{self, identity, say};
use super::super::source::impossible;
use super::super::table::printable;
use super::super::{Common, Failure, command};
use super::How;
use crate::config::{Config, Watcher};
use crate::core::id::Label;
use crate::launch::environment::{self, Endpoint, NoUrl, Variables};
use crate::launch::proxy::Proxy;
use crate::replay::server::{Options, Report, Server};
use crate::replay::tape::Tape;
use crate::replay::{Live, Speed};
use crate::upstream;

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub how: &'a How,
    /// Where none is said.
    pub speed: Speed,
    pub listen: SocketAddr,
    /// Of the run that live calls are of.
    pub name: Option<&'a Label>,
    pub launch: &'a Launch,
    /// What is set where the program is launched; nothing where it is not.
    pub variables: &'a Variables,
    /// The first departure is told when it happens, not only at the end.
    pub tells: bool,
    /// Calls are played any number of times.
    pub repeats: bool,
}

pub(super) struct Stage {
    server: Server,
    behind: Option<Behind>,
    opening: String,
}

/// What live calls go through.
struct Behind {
    proxy: Proxy,
    upstreams: Vec<Endpoint>,
    /// Addresses that are the proxy's own.
    own: Vec<SocketAddr>,
}

impl Stage {
    pub(super) async fn new(
        common: &Common,
        tape: Tape,
        wanted: &Wanted<'_>,
    ) -> Result<Self, Failure> {
        let how = wanted.how;
        let calls = tape.calls.len();
        let fork_at = how.fork_at.as_deref();
        let fork_at = fork_at.map(|at| place(&tape, at)).transpose()?;
        has_something_to_play(&tape, fork_at)?;
        warn_of(wanted.listen, how.goes_live())?;
        let (config, watcher) = command::load(common)?;
        let redaction = config.ledger.redact.clone();
        let (behind, live) = if how.goes_live() {
            let (behind, live) = live(common, (config, watcher), &tape.run, wanted).await?;
            (Some(behind), Some(live))
        } else {
            (None, None)
        };
        let mut opening = opening(&tape, calls);
        if let Some(live) = &live {
            opening.push_str("; live calls are of run ");
            opening.push_str(live.run.as_str());
        }
        let options = Options {
            speed: how.speed.unwrap_or(wanted.speed),
            on_divergence: how.on_divergence.unwrap_or_default(),
            is_strict: how.strict,
            fork_at,
            repeats: wanted.repeats,
            redaction,
            live,
        };
        let tells = wanted.tells;
        let told = move |departure: &str| {
            if tells {
                say(&shown(departure));
            }
        };
        let server = Server::start((tape, options), wanted.listen, told).await;
        let server = server.map_err(|error| {
            Failure::Impossible(format!("cannot listen on {}: {error}", wanted.listen))
        })?;
        opening = format!("{opening}, http://{}", server.address());
        Ok(Self {
            server,
            behind,
            opening,
        })
    }

    pub(super) fn opening(&self) -> String {
        self.opening.clone()
    }

    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// What to set for a program, beside what is set already.
    pub(super) fn variables(&self, given: &Variables) -> Result<Variables, NoUrl> {
        let origin = self.origin();
        let Some(behind) = &self.behind else {
            return environment::replayed(given, &origin);
        };
        let behind = environment::Behind {
            origin: &origin,
            upstreams: &behind.upstreams,
            own: &behind.own,
            ledger: "",
        };
        environment::forked(given, &behind)
    }

    /// Ends it; what went live is recorded by then.
    pub(super) async fn end(self) -> Report {
        let report = self.server.report();
        drop(self.server);
        if let Some(Behind {
            proxy: Proxy::Own(own),
            ..
        }) = self.behind
        {
            own.stop().await;
        }
        report
    }
}

/// What is played, and what cannot be.
fn opening(tape: &Tape, calls: usize) -> String {
    let playable = tape.playable();
    let mut opening = format!("replay of {}, {playable} of {calls} calls", tape.run);
    if let Some(reason) = tape.calls.iter().find_map(|call| call.reply.as_ref().err()) {
        let unplayable = calls - playable;
        let some = format!("; {unplayable} cannot be played, such as one since {reason}");
        opening.push_str(&some);
    }
    opening
}

/// A replay that can only refuse, or go live from its beginning unasked, is none.
fn has_something_to_play(tape: &Tape, fork_at: Option<usize>) -> Result<(), Failure> {
    let before = fork_at.map_or(tape.calls.as_slice(), |at| {
        tape.calls.get(..at).unwrap_or_default()
    });
    if fork_at == Some(0) || before.iter().any(|call| call.reply.is_ok()) {
        return Ok(());
    }
    let reason = before.iter().find_map(|call| call.reply.as_ref().err());
    let reason = reason.map_or("nothing is recorded", String::as_str);
    let run = &tape.run;
    Err(Failure::Impossible(match fork_at {
        None => format!("no call of run {run} can be played: {reason}"),
        Some(_) => format!(
            "no call of run {run} before the fork can be played: {reason}; --fork-at 1 goes live from the beginning"
        ),
    }))
}

/// Whoever reaches it reads what was recorded; and would make calls with the keys of upstreams.
fn warn_of(listen: SocketAddr, goes_live: bool) -> Result<(), Failure> {
    if listen.ip().is_loopback() {
        return Ok(());
    }
    if goes_live {
        return Err(Failure::Impossible(format!(
            "--listen {listen} is open to other machines, and who goes live through it uses the keys of the \
             upstreams: expected an address of this machine alone, such as 127.0.0.1:8790"
        )));
    }
    say(&format!(
        "{listen} is open to other machines: who reaches it can read what was recorded"
    ));
    Ok(())
}

/// A terminal is not to be moved by what agents say.
pub(super) fn shown(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join("\n")
}

/// The call that is meant, from 0.
fn place(tape: &Tape, at: &str) -> Result<usize, Failure> {
    let calls = tape.calls.len();
    let number = at.parse::<usize>().ok();
    let number = number.filter(|number| (1..=calls).contains(number));
    let by_id = || tape.calls.iter().position(|call| call.id.to_string() == at);
    number.map(|number| number - 1).or_else(by_id).ok_or_else(|| {
        Failure::Impossible(format!(
            "--fork-at {}: run {} has no such call; expected a number from 1 to {calls}, or the id of a call of it",
            printable(at),
            tape.run
        ))
    })
}

async fn live(
    common: &Common,
    (config, watcher): (Config, Watcher),
    run: &Label,
    wanted: &Wanted<'_>,
) -> Result<(Behind, Live), Failure> {
    let (variables, listen) = (wanted.variables, config.proxy.listen);
    let proxy = launch::own_or_running(config, watcher, variables).await?;
    let own = launch::own_addresses(Some(proxy.doors().proxy), listen);
    let upstreams = launch::known(&proxy, &launch::source(common, &proxy)?).await?;
    let lacking = environment::missing(variables, &upstreams, &own).map_err(impossible)?;
    launch::refuse_lacking(&lacking, &proxy)?;
    let named = Launch {
        name: wanted.name.or(Some(run)).cloned(),
        variant: wanted.launch.variant.clone(),
        budget_usd: wanted.launch.budget_usd.clone(),
        budget_tokens: wanted.launch.budget_tokens,
        budget_calls: wanted.launch.budget_calls,
        ..Launch::default()
    };
    let identity = identity(&named, None)?;
    let doors = proxy.doors();
    let scheme = if doors.is_tls { "https" } else { "http" };
    let trust = upstream::trust(false, None).map_err(impossible)?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(trust)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build();
    let live = Live {
        origin: format!("{scheme}://{}", doors.proxy),
        tags: identity.tags(),
        run: identity.run,
        model: wanted.how.model.clone(),
        client: client.map_err(impossible)?,
    };
    let behind = Behind {
        proxy,
        upstreams,
        own,
    };
    Ok((behind, live))
}
