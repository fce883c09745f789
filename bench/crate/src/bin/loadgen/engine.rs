//! The loop: starts what is due, reads what comes in, measures within a window.

use std::net::SocketAddr;

use open_aiops_bench::monotonic_ns;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use crate::connection::Connection;
use crate::outcome::{Durations, Held, Report, Slice};
use crate::process::ProcessTree;
use crate::schedule::Schedule;
use crate::traffic::Traffic;
use crate::{Mode, Options};

const READ_BUFFER: usize = 256 * 1024;
const EVENTS_AT_ONCE: usize = 1024;
const LONGEST_WAIT_NS: u64 = 100_000_000;
const TENTHS: u64 = 10;

/// Where the measured window stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    Before,
    Open,
    Closed,
}

pub(crate) struct Engine {
    options: Options,
    target: SocketAddr,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    schedule: Schedule,
    traffic: Traffic,
    tree: Option<ProcessTree>,
    window: Window,
    cpu_at_open: f64,
    cpu_at_tenth: f64,
    opened_ns: u64,
    all_first_ns: Option<u64>,
    tally: Tally,
    report: Report,
}

/// What is counted call by call.
struct Tally {
    latency: Durations,
    first_chunk: Durations,
    chunk_delay: Durations,
    chunks: u64,
    first_chunks: usize,
    answered_in_window: u64,
    request_bytes: u64,
    requests: u64,
    ended: u64,
}

impl Engine {
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let tree = options.pid.map(ProcessTree::new);
        let cpu = tree.map_or(0.0, |tree| tree.cpu_seconds());
        let rss_before_kib = tree.map_or(0, |tree| tree.rss_kib());
        let traffic = Traffic::new(options);
        Ok(Self {
            options: options.clone(),
            target: options.target,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: (0..options.connections).map(Connection::new).collect(),
            idle: (0..options.connections).rev().collect(),
            schedule: Schedule::new(options, monotonic_ns()),
            traffic,
            tree,
            window: Window::Before,
            cpu_at_open: cpu,
            cpu_at_tenth: cpu,
            opened_ns: 0,
            all_first_ns: None,
            tally: Tally::new()?,
            report: Report {
                rss_before_kib,
                ..Report::default()
            },
        })
    }

    pub(crate) fn run(mut self) -> anyhow::Result<Report> {
        let mut buffer = vec![0; READ_BUFFER];
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        loop {
            let now = monotonic_ns();
            self.turn_window(now);
            if self.is_over(now) {
                break;
            }
            self.start_due(now)?;
            let wait = Timespec {
                tv_sec: 0,
                tv_nsec: self.wait_ns(now).cast_signed(),
            };
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait))?;
            for event in &events {
                let token = event.data.u64() as usize;
                self.serve(token, event.flags, &mut buffer);
            }
        }
        self.close_window(monotonic_ns());
        Ok(self.finish())
    }

    fn turn_window(&mut self, now: u64) {
        if self.window == Window::Before && now >= self.schedule.open_ns {
            self.window = Window::Open;
            self.opened_ns = now;
            self.cpu_at_open = self.cpu_seconds();
        }
        if now >= self.schedule.close_ns {
            self.close_window(now);
        }
    }

    fn close_window(&mut self, now: u64) {
        if self.window != Window::Open {
            return;
        }
        self.window = Window::Closed;
        let cpu = self.cpu_seconds() - self.cpu_at_open;
        let seconds = (now - self.opened_ns) as f64 / 1e9;
        let per = |count: u64| (count > 0).then(|| cpu * 1e6 / count as f64);
        let report = &mut self.report;
        report.seconds = seconds;
        report.calls_per_second = self.tally.answered_in_window as f64 / seconds;
        report.cpu_utilisation = cpu / seconds;
        report.cpu_us_per_call = per(self.tally.answered_in_window);
        report.cpu_us_per_chunk = per(self.tally.chunks);
    }

    fn is_over(&mut self, now: u64) -> bool {
        let unanswered = self.idle.len() + self.retired() < self.connections.len();
        match (self.options.mode, self.options.calls) {
            (Mode::Once, _) if self.held_long_enough(now) => true,
            (Mode::Closed, None) => self.window == Window::Closed,
            _ if self.schedule.next_due(now).is_none() => {
                !unanswered || now >= self.schedule.deadline_ns
            }
            _ => false,
        }
    }

    /// Connections that are not used again.
    fn retired(&self) -> usize {
        if self.options.mode == Mode::Once {
            self.tally.ended as usize
        } else {
            0
        }
    }

    fn held_long_enough(&mut self, now: u64) -> bool {
        let Some(hold_ms) = self.options.hold_ms else {
            return false;
        };
        let reached = self.tally.first_chunks >= self.connections.len();
        if self.all_first_ns.is_none() && (reached || now >= self.schedule.deadline_ns) {
            self.all_first_ns = Some(now);
        }
        let over = self
            .all_first_ns
            .is_some_and(|since| now >= since + hold_ms * 1_000_000);
        if over {
            let rss_kib = self.rss_kib();
            self.report.held = Some(Held {
                streams: self.tally.first_chunks,
                rss_kib,
            });
        }
        over
    }

    fn start_due(&mut self, now: u64) -> anyhow::Result<()> {
        while let Some(index) = self.idle.pop() {
            let Some(due_ns) = self.schedule.take(now) else {
                self.idle.push(index);
                break;
            };
            let connection = &mut self.connections[index];
            self.traffic.write_next(&mut connection.request);
            connection.due_ns = due_ns;
            // Late calls of the warm-up are not the window's.
            connection.counted = self.window == Window::Open && due_ns >= self.schedule.open_ns;
            self.tally.requests += 1;
            self.tally.request_bytes += connection.request.len() as u64;
            self.report.asked += u64::from(connection.counted);
            connection.start(self.target, &self.epoll)?;
        }
        Ok(())
    }

    fn wait_ns(&self, now: u64) -> u64 {
        let due = self
            .schedule
            .next_due(now)
            .filter(|_| !self.idle.is_empty());
        let turns = [self.schedule.open_ns, self.schedule.close_ns];
        let soonest = turns.into_iter().filter(|at| *at > now).chain(due).min();
        soonest.map_or(LONGEST_WAIT_NS, |at| {
            at.saturating_sub(now).min(LONGEST_WAIT_NS)
        })
    }

    fn serve(&mut self, index: usize, flags: epoll::EventFlags, buffer: &mut [u8]) {
        let connection = &mut self.connections[index];
        let (due_ns, counted, now) = (connection.due_ns, connection.counted, monotonic_ns());
        let (tally, open) = (&mut self.tally, self.window == Window::Open);
        let mut answered = Ok(false);
        if flags.contains(epoll::EventFlags::OUT) {
            answered = connection.write(&self.epoll).map(|()| false);
        }
        if answered.is_ok() && flags != epoll::EventFlags::OUT {
            answered = connection.read(buffer, |event| {
                tally.chunks += u64::from(open);
                tally.first_chunks += usize::from(event.first);
                if counted && event.first {
                    tally.first_chunk.add(now.saturating_sub(due_ns));
                }
                if let Some(made_ns) = event.made_ns.filter(|_| counted) {
                    tally.chunk_delay.add(now.saturating_sub(made_ns));
                }
            });
        }
        match answered {
            Ok(false) => {}
            Ok(true) => self.settle(index, now),
            Err(error) => {
                let busy = connection.busy;
                connection.close();
                if busy {
                    self.fail("connection", &error.to_string());
                    self.release(index);
                }
            }
        }
    }

    fn settle(&mut self, index: usize, now: u64) {
        let connection = &self.connections[index];
        let (response, counted) = (&connection.response, connection.counted);
        if response.status != 200 || !response.complete() {
            let kind = match response.status {
                200 => "incomplete answer".to_owned(),
                status => format!("status {status}"),
            };
            let text = String::from_utf8_lossy(&response.text).into_owned();
            self.fail(&kind, &text);
        } else if counted {
            self.report.ok += 1;
            self.tally
                .latency
                .add(now.saturating_sub(connection.due_ns));
        }
        self.tally.answered_in_window += u64::from(self.window == Window::Open);
        self.release(index);
        self.slice_tenth();
    }

    fn release(&mut self, index: usize) {
        self.tally.ended += 1;
        if self.options.mode != Mode::Once {
            self.idle.push(index);
        }
    }

    fn fail(&mut self, kind: &str, text: &str) {
        *self.report.errors.entry(kind.to_owned()).or_default() += 1;
        let text: String = text.chars().take(300).collect();
        self.report
            .first_error
            .get_or_insert(format!("{kind}: {text}"));
    }

    fn slice_tenth(&mut self) {
        let Some(tenth) = self.options.calls.map(|calls| calls / TENTHS) else {
            return;
        };
        if tenth == 0 || !self.tally.ended.is_multiple_of(tenth) {
            return;
        }
        let cpu = self.cpu_seconds();
        let cpu_us_per_call = (cpu - self.cpu_at_tenth) * 1e6 / tenth as f64;
        self.report.tenths.push(Slice {
            cpu_us_per_call,
            rss_kib: self.rss_kib(),
        });
        self.cpu_at_tenth = cpu;
    }

    fn finish(mut self) -> Report {
        let unanswered = self
            .connections
            .iter()
            .filter(|c| c.busy && c.counted)
            .count() as u64;
        if unanswered > 0 && self.report.held.is_none() && self.options.mode != Mode::Closed {
            self.report
                .errors
                .insert("unanswered".to_owned(), unanswered);
        }
        self.report.rss_after_kib = self.rss_kib();
        self.report.asked = match self.options.mode {
            // Those too that found no free connection.
            Mode::Open => (self.options.rate * self.options.seconds).round() as u64,
            // The end of the window cuts calls short that nothing is wrong with.
            Mode::Closed => self.report.ok + self.report.errors.values().sum::<u64>(),
            Mode::Once => self.report.asked,
        };
        let (tally, report) = (self.tally, &mut self.report);
        report.all_calls = tally.ended;
        report.mean_request_bytes = tally.request_bytes / tally.requests.max(1);
        report.latency_us = tally.latency.quantiles();
        report.first_chunk_us = tally.first_chunk.quantiles();
        report.chunk_delay_us = tally.chunk_delay.quantiles();
        self.report
    }

    fn cpu_seconds(&self) -> f64 {
        self.tree.map_or(0.0, |tree| tree.cpu_seconds())
    }

    fn rss_kib(&self) -> u64 {
        self.tree.map_or(0, |tree| tree.rss_kib())
    }
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            latency: Durations::new()?,
            first_chunk: Durations::new()?,
            chunk_delay: Durations::new()?,
            chunks: 0,
            first_chunks: 0,
            answered_in_window: 0,
            request_bytes: 0,
            requests: 0,
            ended: 0,
        })
    }
}
