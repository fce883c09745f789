//! What the process takes of the machine, under the names that every Prometheus client gives it.

use super::Registration;
use super::mirror::Figure;

#[derive(Debug)]
pub(super) struct ProcessMetrics {
    started: Figure,
    cpu: Figure,
    resident: Figure,
    virtual_memory: Figure,
    open_files: Figure,
    most_files: Figure,
    threads: Figure,
}

/// What the system says of the process; what it does not say is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    pub started_at_seconds: Option<f64>,
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<f64>,
    pub virtual_bytes: Option<f64>,
    pub open_files: Option<f64>,
    /// None where there is no limit.
    pub most_files: Option<f64>,
    pub threads: Option<f64>,
}

impl ProcessMetrics {
    pub(super) fn register(to: &mut Registration) -> Self {
        let cpu = (
            "process_cpu_seconds",
            "CPU time used, by the system and for it",
        );
        let cpu = Figure::counter(to, cpu);
        let mut gauge = |name, help| Figure::gauge(to, (name, help));
        Self {
            cpu,
            started: gauge(
                "process_start_time_seconds",
                "When the process started, as seconds since 1970",
            ),
            resident: gauge("process_resident_memory_bytes", "Memory that is in use"),
            virtual_memory: gauge(
                "process_virtual_memory_bytes",
                "Addresses that are mapped, in use or not",
            ),
            open_files: gauge("process_open_fds", "Open files and sockets"),
            most_files: gauge("process_max_fds", "Files and sockets that may be open"),
            threads: gauge("process_threads", "Threads of the process"),
        }
    }

    pub(super) fn set(&self, figures: &ProcessFigures) {
        for (figure, value) in [
            (&self.started, figures.started_at_seconds),
            (&self.cpu, figures.cpu_seconds),
            (&self.resident, figures.resident_bytes),
            (&self.virtual_memory, figures.virtual_bytes),
            (&self.open_files, figures.open_files),
            (&self.most_files, figures.most_files),
            (&self.threads, figures.threads),
        ] {
            figure.set(value);
        }
    }
}
