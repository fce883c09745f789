//! A program that is answered from the record: in a test suite, a cassette.

use std::net::SocketAddr;

use super::super::args::Launch;
use super::super::launch::{say, start_log, variables};
use super::super::source::impossible;
use super::super::table::printable;
use super::super::{Common, Failure, command};
use super::stage::{Stage, Wanted};
use super::{DEPARTED, tape, words};
use crate::launch::child::{self, Signals};
use crate::launch::proxy::Log;
use crate::launch::{environment, kept_from_child};
use crate::replay::Speed;

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
            say(&serde_json::to_string(&report).map_err(impossible)?);
        } else if !launch.quiet {
            let lines: Vec<String> = words(&report).lines().map(printable).collect();
            say(&lines.join("\n"));
        }
        let is_stopped = report.refused > 0 && !launch.keep_exit_code;
        Ok(if is_stopped { DEPARTED } else { code })
    })
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
