//! A program that is answered from the record: in a test suite, a cassette.

use std::io::{self, Write as _};
use std::net::SocketAddr;

use super::super::args::Launch;
use super::super::launch::{say, start_log, variables};
use super::super::source::impossible;
use super::super::table::printable;
use super::super::{Common, Failure, command};
use super::stage::{Stage, Wanted, shown};
use super::{DEPARTED, tape, words};
use crate::launch::child::{self, Signals};
use crate::launch::proxy::Log;
use crate::launch::{environment, kept_from_child};
use crate::replay::Speed;
use crate::replay::server::Report;

/// From here on it is 128 and the signal that ended the program.
const SIGNALLED: u8 = 128;

/// Launches the program and ends as it does.
pub(in crate::cli) fn launch(common: &Common, launch: &Launch) -> Result<u8, Failure> {
    let Some(run) = &launch.replay.of else {
        return Err(Failure::Impossible("--replay names no run".to_owned()));
    };
    let tape = tape::load(common, run)?;
    let wanted = Wanted {
        how: &launch.replay.how,
        speed: Speed::Max,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        name: launch.name.as_ref(),
        launch,
        tells: false,
        repeats: launch.replay.repeat,
    };
    super::runtime()?.block_on(async {
        let (config, _) = command::load(common)?;
        start_log(&Log::of(&config.ledger.dir));
        let kept = kept_from_child(&config);
        let mut signals = Signals::watch().map_err(impossible)?;
        let stage = Stage::new(common, tape, &wanted).await?;
        let code = played(&stage, launch, (&mut signals, &kept)).await;
        let report = stage.end().await;
        let code = code?;
        if common.json {
            let json = serde_json::to_string_pretty(&report).map_err(impossible)?;
            // There is nowhere left to complain to when this fails.
            let _ = writeln!(io::stderr(), "{json}");
        } else if !launch.quiet {
            say(&shown(&words(&report)));
        }
        let is_changed = !launch.keep_exit_code && departs(&report, code, launch.replay.how.all);
        Ok(if is_changed { DEPARTED } else { code })
    })
}

/// Whether that says more than how the program ended: not where a signal ended it, and what it left
/// out only where it took itself for successful.
fn departs(report: &Report, code: u8, all: bool) -> bool {
    let is_short = all && !report.unplayed.is_empty();
    (report.refused > 0 && code < SIGNALLED) || (is_short && code == 0)
}

async fn played(
    stage: &Stage,
    launch: &Launch,
    (signals, kept): (&mut Signals, &[String]),
) -> Result<u8, Failure> {
    let goes_live = stage.goes_live();
    let changes = environment::replayed(&variables(), &stage.origin(), !goes_live);
    let changes = changes.map_err(impossible)?;
    if !launch.quiet {
        say(&stage.opening());
    }
    let started = child::start(&launch.program, &changes, kept);
    let mut child =
        started.map_err(|error| Failure::NotLaunched(printable(&error.to_string()), error.code))?;
    let status = child::wait(&mut child, signals).await.map_err(impossible)?;
    Ok(child::code(status))
}
