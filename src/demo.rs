//! `open-aiops demo`: a scripted model and a small team of agents, through the real proxy.
//!
//! Nothing here is special to the proxy: the agents are ordinary clients of an OpenAI-compatible
//! API, the model is an ordinary upstream on loopback. They say who they are in their
//! instructions alone, so that what the dashboard shows of them was inferred.

mod agent;
mod config;
mod model;
mod reply;
mod scenes;
mod texts;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::agent::Team;
pub use self::config::text as config_text;
use self::model::Model;
pub use self::scenes::Scene;
use crate::app::{App, StartError};
use crate::clock::Clock;

/// What to show, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// In this order; each once a round.
    pub scenes: Vec<Scene>,
    /// The model answers at once.
    pub fast: bool,
    /// Rounds without end, until it is interrupted.
    pub repeat: bool,
    /// Ends after the scenes instead of letting the dashboard be looked at.
    pub once: bool,
    /// Keeps the ledger there; otherwise it goes with the process.
    pub dir: Option<PathBuf>,
    /// Runs have the same names each time. None: names that were never used.
    pub seed: Option<u16>,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("no place for the ledger of the demo: {0}")]
    Dir(io::Error),
    #[error("the scripted model cannot listen: {0}")]
    Model(io::Error),
    #[error("the configuration of the demo: {0}")]
    Config(crate::config::Problems),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("cannot watch for signals: {0}")]
    Signal(io::Error),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    #[error("{0}")]
    Call(#[from] agent::CallError),
    #[error("{} scenes did not go as they should", .0)]
    Unexpected(usize),
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Until the first word of an answer.
    think: Duration,
    /// Between two words.
    word: Duration,
    /// Between two scenes.
    rest: Duration,
}

impl Pace {
    const LIVELY: Self = Self {
        think: Duration::from_millis(350),
        word: Duration::from_millis(25),
        rest: Duration::from_secs(2),
    };
    const FAST: Self = Self {
        think: Duration::ZERO,
        word: Duration::ZERO,
        rest: Duration::ZERO,
    };
}

/// Plays the scenes, then stays until it is interrupted. `out` is told what happens.
pub async fn play(options: &Options, out: &mut dyn Write) -> Result<(), DemoError> {
    let mut ends = Ends::watch().map_err(DemoError::Signal)?;
    let pace = if options.fast {
        Pace::FAST
    } else {
        Pace::LIVELY
    };
    let model = Model::start(pace).await.map_err(DemoError::Model)?;
    let scratch = match &options.dir {
        Some(_) => None,
        None => Some(scratch().map_err(DemoError::Dir)?),
    };
    let dir = options.dir.as_deref();
    let dir = dir.or_else(|| scratch.as_ref().map(TempDir::path));
    let dir = dir.unwrap_or(Path::new("."));
    let config = config::read(model.address(), dir)?;
    let app = Box::pin(App::start(config, Clock::System)).await?;
    let stage = Stage {
        proxy: app.proxy_address(),
        admin: app.admin_address(),
        pace,
        first_round: first_round(options),
    };
    stage.announce(dir, options.dir.is_some(), out)?;
    let played = tokio::select! {
        played = stage.play(options, out) => Some(played),
        () = ends.next() => None,
    };
    if matches!(played, Some(Ok(()))) && !options.once {
        writeln!(
            out,
            "\nThe dashboard stays: look around, then end with ctrl-c."
        )?;
        out.flush()?;
        ends.next().await;
    }
    app.stop().await;
    played.unwrap_or(Ok(()))
}

/// The signals that end the demo: also that of a terminal that is closed, so that the ledger goes.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Ends {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

fn scratch() -> io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("open-aiops-demo-")
        .tempdir()
}

/// What runs of the first round are numbered by: what a kept ledger holds goes on growing.
fn first_round(options: &Options) -> u64 {
    options.seed.map_or_else(
        || {
            let now = Clock::System.now().micros() / 1_000_000;
            u64::try_from(now % 1_000_000).unwrap_or(1)
        },
        u64::from,
    )
}

/// Where the scenes are played.
struct Stage {
    proxy: SocketAddr,
    admin: SocketAddr,
    pace: Pace,
    first_round: u64,
}

impl Stage {
    fn announce(&self, dir: &Path, is_kept: bool, out: &mut dyn Write) -> io::Result<()> {
        let fate = if is_kept {
            "kept"
        } else {
            "goes with this process"
        };
        writeln!(
            out,
            "A scripted model and a small team of agents, through the real proxy.\n\
             No key is needed, and nothing leaves this machine.\n\n  \
             dashboard  http://{}/\n  proxy      http://{}/v1\n  ledger     {} ({fate})\n",
            self.admin,
            self.proxy,
            dir.display()
        )?;
        out.flush()
    }

    async fn play(&self, options: &Options, out: &mut dyn Write) -> Result<(), DemoError> {
        let team = Team::new(self.proxy)?;
        let mut round = self.first_round;
        loop {
            let mut unexpected = 0;
            for (number, scene) in options.scenes.iter().enumerate() {
                tokio::time::sleep(self.pace.rest).await;
                let run = format!("{}-{round}", scene.name());
                let place = format!("{}/{}", number + 1, options.scenes.len());
                writeln!(out, "{place}  {}\n     {}", scene.title(), scene.watch())?;
                writeln!(out, "     http://{}/runs/{run}", self.admin)?;
                out.flush()?;
                let ended = scene.play(&team.run(&run)).await?;
                let mark = if ended.as_expected {
                    "ok"
                } else {
                    "NOT AS EXPECTED"
                };
                let told = ended.told.replace(" | ", "\n       ");
                writeln!(out, "     {mark}: {told}\n")?;
                out.flush()?;
                unexpected += usize::from(!ended.as_expected);
            }
            if unexpected > 0 {
                return Err(DemoError::Unexpected(unexpected));
            }
            if !options.repeat {
                return Ok(());
            }
            round += 1;
        }
    }
}
