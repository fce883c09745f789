//! `open-aiops top`: runs and agents as they go, in the terminal.
//!
//! `shot` asks the running server, `screen` holds what is looked at and what keys do to it, `draw`
//! makes a frame of both. Only `shot` and the loop here do I/O.

mod draw;
mod screen;
mod shot;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::terminal;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use self::screen::{Screen, View, Wish};
use self::shot::{Deed, Shot};
use super::source::{self, Source};
use super::table::Output;
use super::{Common, Failure, operate};

pub(super) const NOTE: &str = "\
Keys:
  j k or arrows   choose a row            enter   look into a run; esc back
  1 2 3 4 or tab  runs, agents, budgets, loops    /  only rows with a text
  p r s           pause, resume, stop the chosen run; stop asks first
  space           hold still              ?       these keys
  q               quit

Rates are of the last minute that was watched.";

/// A frame without a terminal is so wide and high.
const WITHOUT_TERMINAL: (u16, u16) = (120, 40);

/// How long a key may wait until it is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// What waits to be taken in: one answer at a time is asked for, and orders are typed.
const QUEUE: usize = 64;

/// An answer that did not come for so long never will: more than a question may take.
const LOST: Duration = Duration::from_secs(70);

#[derive(Args, Debug)]
pub struct TopArgs {
    /// Print one frame and end; needs no terminal
    #[arg(long)]
    pub once: bool,
    /// Seconds between two looks, 0.2 to 60
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub interval: Duration,
    /// What to begin with
    #[arg(long, value_enum, default_value_t)]
    pub view: Begin,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Begin {
    #[default]
    Runs,
    Agents,
    Budgets,
    Loops,
}

impl From<Begin> for View {
    fn from(begin: Begin) -> Self {
        match begin {
            Begin::Runs => Self::Runs,
            Begin::Agents => Self::Agents,
            Begin::Budgets => Self::Budgets,
            Begin::Loops => Self::Loops,
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0.2..=60.0).contains(seconds));
    let wrong = || format!("found `{text}`, expected seconds from 0.2 to 60");
    seconds.map(Duration::from_secs_f64).ok_or_else(wrong)
}

pub(super) fn run(common: &Common, args: &TopArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    if common.json {
        let told = "top draws: for JSON ask runs, agents, budgets or loops with --json";
        return Err(Failure::Impossible(told.to_owned()));
    }
    let server = Arc::new(operate::server(common)?);
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.map_err(source::impossible)?;
    let mut screen = Screen::new(args.view.into());
    if args.once {
        let shot = runtime.block_on(shot::take(&server, &screen.view))?;
        screen.see(shot);
        let (width, height) = size(out);
        return Ok(out
            .writer
            .write_all(frame(&screen, width, height).as_bytes())?);
    }
    if !out.terminal {
        let told = "top needs a terminal; --once prints one frame anywhere";
        return Err(Failure::Impossible(told.to_owned()));
    }
    // The terminal is given back whatever happens, also where it was taken half.
    let watched = match ratatui::try_init() {
        Ok(mut terminal) => watch(&mut terminal, &mut screen, &runtime, &server, args.interval),
        Err(error) => Err(error.into()),
    };
    ratatui::try_restore()?;
    // What is still being asked is not waited for.
    runtime.shutdown_background();
    watched
}

/// Answers to what was asked, as they come.
enum News {
    Seen(Box<Result<Shot, String>>),
    Done(Result<String, String>),
    /// The process is told to end.
    End,
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    screen: &mut Screen,
    runtime: &Runtime,
    server: &Arc<Source>,
    interval: Duration,
) -> Result<(), Failure> {
    let (send, news) = sync_channel(QUEUE);
    listen(runtime, &send);
    let mut due = Instant::now();
    let mut asked: Option<Instant> = None;
    loop {
        match hear(screen, &news) {
            Heard::End => return Ok(()),
            Heard::Answer => asked = None,
            Heard::Nothing => {}
        }
        // What got lost is asked again.
        let is_asking = asked.is_some_and(|at| at.elapsed() < LOST);
        if due <= Instant::now() && !is_asking && !screen.is_held {
            ask(runtime, server, screen.view.clone(), send.clone());
            asked = Some(Instant::now());
            due = Instant::now() + interval;
        }
        terminal.draw(|frame| draw::draw(frame, screen))?;
        if !event::poll(LOOK)? {
            continue;
        }
        let Event::Key(key) = event::read()? else {
            continue;
        };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match screen.key(key.code, key.modifiers) {
            Wish::Nothing => {}
            Wish::Look => due = Instant::now(),
            Wish::Quit => return Ok(()),
            Wish::Do(deed) => order(runtime, server, deed, send.clone()),
        }
    }
}

enum Heard {
    Nothing,
    Answer,
    End,
}

/// Takes in what came.
fn hear(screen: &mut Screen, news: &Receiver<News>) -> Heard {
    let mut heard = Heard::Nothing;
    while let Ok(news) = news.try_recv() {
        match news {
            News::End => return Heard::End,
            News::Seen(seen) => {
                heard = Heard::Answer;
                match *seen {
                    Ok(shot) => screen.see(shot),
                    Err(wrong) => screen.miss(wrong),
                }
            }
            News::Done(Ok(told)) => screen.note(told, false),
            News::Done(Err(wrong)) => screen.note(wrong, true),
        }
    }
    heard
}

/// Ends by signal as by key, so that the terminal is given back.
fn listen(runtime: &Runtime, send: &SyncSender<News>) {
    for kind in [SignalKind::terminate(), SignalKind::hangup()] {
        let send = send.clone();
        runtime.spawn(async move {
            if let Ok(mut signals) = signal(kind) {
                signals.recv().await;
                let _ = send.send(News::End);
            }
        });
    }
}

fn ask(runtime: &Runtime, server: &Arc<Source>, view: View, send: SyncSender<News>) {
    let server = Arc::clone(server);
    runtime.spawn(async move {
        let shot = shot::take(&server, &view).await;
        // Nobody listens when the program ends meanwhile.
        let _ = send.send(News::Seen(Box::new(
            shot.map_err(|failure| failure.words()),
        )));
    });
}

fn order(runtime: &Runtime, server: &Arc<Source>, deed: Deed, send: SyncSender<News>) {
    let server = Arc::clone(server);
    runtime.spawn(async move {
        let done = shot::act(&server, &deed).await;
        let _ = send.send(News::Done(done.map_err(|failure| failure.words())));
    });
}

fn size(out: &Output<'_>) -> (u16, u16) {
    let known = out.terminal.then(|| terminal::size().ok()).flatten();
    known.unwrap_or(WITHOUT_TERMINAL)
}

/// One frame as text.
fn frame(screen: &Screen, width: u16, height: u16) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| draw::draw(frame, screen));
    lines(terminal.backend().buffer())
}

/// The cells of a frame, without the blank ends of lines and of the whole.
fn lines(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let rows = buffer.content.chunks(width);
    let rows = rows.map(|row| {
        let row: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        row.trim_end().to_owned() + "\n"
    });
    let text: String = rows.collect();
    text.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests;
