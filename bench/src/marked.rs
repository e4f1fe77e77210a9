//! Processes that are found again wherever they go: each inherits a variable with the folder of whoever started it.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) const MARK: &str = "TRADEWIND_BENCH_SERVER";

/// Those that were started with [`MARK`] and this folder.
pub(crate) fn pids_of(directory: &Path) -> impl Iterator<Item = u32> {
    let mark = format!("{MARK}={}", directory.display());
    pids().filter(move |pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    })
}

pub(crate) fn kill(directory: &Path) {
    for pid in pids_of(directory) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It fails only when the process is gone.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// All of this machine.
pub(crate) fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
