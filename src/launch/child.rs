//! The launched program: in the foreground, with the terminal, the streams and the signals that its
//! launcher got.
//!
//! It stays in the process group of its launcher, as the child of a shell script does. So what the
//! terminal sends (ctrl-c, ctrl-\, ctrl-z, a new size) reaches both, stops and resumes both, and
//! must not be handed on a second time: many programs take a second ctrl-c for an order to die. What
//! is sent to the launcher alone is handed on, but for INT, QUIT, WINCH and CONT while it is in the
//! foreground of a terminal: these cannot be told from the terminal's own there, TERM and HUP can. Signals that the launcher was started to ignore stay
//! ignored, for the program too.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::environment::Variables;

/// What a shell answers for a command that cannot be run, and that is not there.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
const SIGNALLED: i32 = 128;
const QUEUE: usize = 16;
const ENDS: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// Why there is no child.
#[derive(Debug, thiserror::Error)]
#[error("{program}: {cause}")]
pub struct NotStarted {
    pub program: String,
    pub cause: io::Error,
    pub code: u8,
}

/// Signals that came for this process. Nothing ends it from here on but its own end.
#[derive(Debug)]
pub struct Signals {
    receiver: mpsc::Receiver<Signal>,
    was_told: bool,
}

impl Signals {
    /// Watches for those that are not ignored.
    pub fn watch() -> io::Result<Self> {
        let ignored = ignored();
        let (sender, receiver) = mpsc::channel(QUEUE);
        for one in [
            Signal::HUP,
            Signal::INT,
            Signal::QUIT,
            Signal::TERM,
            Signal::USR1,
            Signal::USR2,
            Signal::CONT,
            Signal::WINCH,
        ] {
            let number = one.as_raw();
            if ignored >> (number - 1) & 1 == 1 {
                continue;
            }
            let mut stream = signal(SignalKind::from_raw(number))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    // Many at once of one kind are one, as ever with signals.
                    let _ = sender.try_send(one);
                }
            });
        }
        Ok(Self {
            receiver,
            was_told: false,
        })
    }

    /// Resolves when somebody wants this process to end, with the exit code of who does.
    pub async fn ended(&mut self) -> u8 {
        while let Some(signal) = self.receiver.recv().await {
            if ENDS.contains(&signal) {
                return u8::try_from(SIGNALLED + signal.as_raw()).unwrap_or(u8::MAX);
            }
        }
        std::future::pending().await
    }

    /// What came so far was for the program, but for an order to end, which is for both.
    pub fn forget(&mut self) {
        while let Ok(signal) = self.receiver.try_recv() {
            self.note(signal);
        }
    }

    /// Whether this process was told to end, other than by the keys of a terminal.
    pub fn was_told(&self) -> bool {
        self.was_told
    }

    fn note(&mut self, signal: Signal) {
        self.was_told |= ENDS.contains(&signal) && !(is_of_terminal(signal) && has_terminal());
    }
}

/// Signals that this process was started to ignore, as bits. Where that cannot be read: none.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Starts the program: `command` is never empty. It gets the environment of this process without
/// `kept`, and `set`.
pub fn start(
    command: &[OsString],
    set: &Variables,
    kept: &[String],
) -> Result<Child, Box<NotStarted>> {
    let (program, arguments) = command.split_first().ok_or_else(|| {
        let cause = io::ErrorKind::InvalidInput.into();
        Box::new(NotStarted::of("", cause))
    })?;
    let mut started = Command::new(program);
    started.args(arguments).envs(set);
    for name in kept {
        started.env_remove(name);
    }
    let child = started.spawn();
    child.map_err(|cause| Box::new(NotStarted::of(&program.to_string_lossy(), cause)))
}

impl NotStarted {
    fn of(program: &str, cause: io::Error) -> Self {
        let code = match cause.kind() {
            io::ErrorKind::NotFound => NOT_FOUND,
            _ => CANNOT_RUN,
        };
        Self {
            program: program.to_owned(),
            cause,
            code,
        }
    }
}

/// Waits for the end of the program and hands on what it has to know meanwhile.
pub async fn wait(child: &mut Child, signals: &mut Signals) -> io::Result<ExitStatus> {
    loop {
        // Before it is waited for, so that its number is not another process's by now.
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        tokio::select! {
            biased;
            ended = child.wait() => return ended,
            Some(signal) = signals.receiver.recv() => {
                signals.note(signal);
                if let Some(pid) = pid.and_then(Pid::from_raw)
                    && !(is_of_terminal(signal) && has_terminal())
                {
                    // It may have ended just now.
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }
}

/// What a terminal sends to all in its foreground, or a shell to all of a job.
fn is_of_terminal(signal: Signal) -> bool {
    [Signal::INT, Signal::QUIT, Signal::WINCH, Signal::CONT].contains(&signal)
}

/// Whether this process is in the foreground of a terminal.
fn has_terminal() -> bool {
    let terminal = fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|front| front == getpgrp()))
}

/// As a shell has it: the program's own code, or 128 and the signal that ended it.
pub fn code(status: ExitStatus) -> u8 {
    let signalled = || status.signal().map(|signal| SIGNALLED + signal);
    let code = status.code().or_else(signalled).unwrap_or(SIGNALLED);
    u8::try_from(code).unwrap_or(u8::MAX)
}
