//! A program that is answered from the record: in a test suite, a cassette.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use super::super::args::Launch;
use super::super::launch::{say, start_log, variables};
use super::super::source::impossible;
use super::super::table::printable;
use super::super::{Common, Failure, command};
use super::stage::{Stage, Wanted, shown};
use super::{DEPARTED, tape, words};
use crate::launch::child::{self, Signals};
use crate::launch::environment::Variables;
use crate::launch::kept_from_child;
use crate::launch::proxy::Log;
use crate::replay::Speed;
use crate::replay::server::Report;

/// Launches the program and ends as it does.
pub(in crate::cli) fn launch(common: &Common, launch: &Launch) -> Result<u8, Failure> {
    let Some(run) = &launch.replay.of else {
        return Err(Failure::Impossible("--replay names no run".to_owned()));
    };
    let tape = tape::load(common, run)?;
    let variables = variables();
    let wanted = Wanted {
        how: &launch.replay.how,
        speed: Speed::Max,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        name: launch.name.as_ref(),
        launch,
        variables: &variables,
        tells: false,
        repeats: launch.replay.repeat,
    };
    super::runtime()?.block_on(async {
        let (config, _) = command::load(common)?;
        start_log(&Log::of(&config.ledger.dir));
        let kept = kept_from_child(&config);
        let mut signals = Signals::watch().map_err(impossible)?;
        let stage = Stage::new(common, tape, &wanted).await?;
        let status = played(&stage, launch, &variables, (&mut signals, &kept)).await;
        let report = stage.end().await;
        let status = status?;
        if common.json {
            let json = serde_json::to_string_pretty(&report).map_err(impossible)?;
            // There is nowhere left to complain to when this fails.
            let _ = writeln!(io::stderr(), "{json}");
        } else if !launch.quiet {
            say(&shown(&words(&report)));
        }
        let is_changed = !launch.keep_exit_code && departs(&report, status, launch.replay.how.all);
        Ok(if is_changed {
            DEPARTED
        } else {
            child::code(status)
        })
    })
}

/// Whether that says more than how the program ended: not where a signal ended it, and what it left
/// out only where it took itself for successful.
fn departs(report: &Report, status: ExitStatus, all: bool) -> bool {
    let is_short = all && !report.unplayed.is_empty();
    (report.refused > 0 && status.signal().is_none()) || (is_short && status.success())
}

async fn played(
    stage: &Stage,
    launch: &Launch,
    variables: &Variables,
    (signals, kept): (&mut Signals, &[String]),
) -> Result<ExitStatus, Failure> {
    let changes = stage.variables(variables).map_err(impossible)?;
    if !launch.quiet {
        say(&stage.opening());
    }
    let started = child::start(&launch.program, &changes, kept);
    let mut child =
        started.map_err(|error| Failure::NotLaunched(printable(&error.to_string()), error.code))?;
    child::wait(&mut child, signals).await.map_err(impossible)
}
