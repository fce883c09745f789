//! CPU time and memory of a process and its descendants, from /proc.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// A process whose tree is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessTree {
    root: u32,
    ticks_per_second: f64,
}

impl ProcessTree {
    pub(crate) fn new(root: u32) -> Self {
        Self {
            root,
            ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
        }
    }

    /// Seconds on a CPU so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.pids()
            .into_iter()
            .map(|pid| self.cpu_seconds_of(pid))
            .sum()
    }

    /// Resident memory.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.pids().into_iter().filter_map(rss_kib_of).sum()
    }

    fn pids(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for pid in numbers_in(Path::new("/proc")) {
            if let Some(parent) = stat_field(pid, 1) {
                children.entry(parent as u32).or_default().push(pid);
            }
        }
        let (mut found, mut next) = (vec![self.root], vec![self.root]);
        while let Some(pid) = next.pop() {
            let born = children.remove(&pid).unwrap_or_default();
            found.extend(&born);
            next.extend(born);
        }
        found
    }

    /// The scheduler's nanoseconds are exact but forget threads that ended; the ticks remember.
    fn cpu_seconds_of(&self, pid: u32) -> f64 {
        let tasks = format!("/proc/{pid}/task");
        let exact: f64 = numbers_in(Path::new(&tasks))
            .filter_map(|task| fs::read_to_string(format!("{tasks}/{task}/schedstat")).ok())
            .filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok())
            .sum::<f64>()
            / 1e9;
        let ticks = stat_field(pid, 11).unwrap_or(0) + stat_field(pid, 12).unwrap_or(0);
        let coarse = ticks as f64 / self.ticks_per_second;
        if exact > 0.0 && coarse - exact < 0.05 {
            exact
        } else {
            coarse
        }
    }
}

fn numbers_in(directory: &Path) -> impl Iterator<Item = u32> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// A number of /proc/PID/stat; fields are counted from the one after the command's name.
fn stat_field(pid: u32, index: usize) -> Option<u64> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    line.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(index)?
        .parse()
        .ok()
}

fn rss_kib_of(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find(|line| line.starts_with("Rss:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_memory_and_burns_cpu() {
        let this = ProcessTree::new(std::process::id());
        let before = this.cpu_seconds();
        let burnt: u64 = (0..20_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        assert!(this.cpu_seconds() > before, "{burnt}");
        assert!(this.rss_kib() > 100);
    }
}
