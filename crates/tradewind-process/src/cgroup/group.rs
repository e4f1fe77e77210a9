//! One group: a directory in each hierarchy that it needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{PidfdFlags, Signal},
};
use serde::{Deserialize, Serialize};

use super::{Controller, Limits, Unavailable, Usage, Version, usage};
use crate::process::raw_pid;

/// In which a quota of processor time is used up, in microseconds; what the kernel itself begins with.
const CPU_PERIOD: u64 = 100_000;
/// The least that the kernel takes.
const CPU_QUOTA_LEAST: u64 = 1000;
/// A group whose processes were killed is removed in so many attempts: they take a moment to go.
const REMOVALS: usize = 500;
const REMOVAL_INTERVAL: Duration = Duration::from_millis(10);

/// Names a group across lives of whoever made it. It stays until it is removed; processes that are born in it are in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Group {
    parts: BTreeMap<Controller, Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) version: Version,
    pub(super) directory: PathBuf,
}

impl Group {
    pub(super) fn add(&mut self, controller: Controller, part: Part) {
        self.parts.insert(controller, part);
    }

    pub(super) fn part(&self, controller: Controller) -> Option<&Part> {
        self.parts.get(&controller)
    }

    fn directories(&self) -> BTreeSet<&Path> {
        self.parts.values().map(|part| part.directory.as_path()).collect()
    }

    /// Sets what of `limits` its controllers can.
    pub(super) fn limit(&self, limits: &Limits) -> Result<(), Unavailable> {
        if let (Some(part), Some(milli)) = (self.part(Controller::Cpu), limits.cpu_milli) {
            part.limit_cpu(milli).map_err(|source| Unavailable::at(&part.directory, source))?;
        }
        if let (Some(part), Some(bytes)) = (self.part(Controller::Memory), limits.memory_bytes) {
            part.limit_memory(bytes).map_err(|source| Unavailable::at(&part.directory, source))?;
        }
        Ok(())
    }

    /// The files through which a process joins it.
    pub(crate) fn entrances(&self) -> io::Result<Vec<File>> {
        let open = |directory: &Path| OpenOptions::new().write(true).open(directory.join("cgroup.procs"));
        self.directories().into_iter().map(open).collect()
    }

    /// What its processes use; what cannot be read is not known.
    pub fn usage(&self) -> Usage {
        Usage::read(self)
    }

    /// How many of its processes the kernel killed for want of memory, if anything counts that.
    pub fn oom_kills(&self) -> Option<u64> {
        usage::oom_kills(self.part(Controller::Memory)?)
    }

    /// Its processes that have not ended.
    pub fn pids(&self) -> Vec<u32> {
        let Some(directory) = self.directories().into_iter().next() else { return Vec::new() };
        let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Ends what is left in it with SIGKILL, and removes it. One that is gone already is fine. Within a tokio runtime.
    pub async fn remove(&self) -> io::Result<()> {
        for _ in 0..REMOVALS {
            match self.remove_empty() {
                Err(error) if is_busy(&error) => self.kill(),
                result => return result,
            }
            tokio::time::sleep(REMOVAL_INTERVAL).await;
        }
        Err(Errno::BUSY.into())
    }

    /// Removes it, and the group that holds it if it was the last one there; an error when processes are in it.
    pub fn remove_empty(&self) -> io::Result<()> {
        for directory in self.directories() {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
            // Others may be in it.
            let _ = directory.parent().map(fs::remove_dir);
        }
        Ok(())
    }

    fn kill(&self) {
        for pid in self.pids() {
            let Some(raw) = raw_pid(pid) else { continue };
            // Looked for again once it is held: the pid may have gone to another process in between.
            let Ok(held) = rustix::process::pidfd_open(raw, PidfdFlags::empty()) else { continue };
            if self.pids().contains(&pid) {
                // It fails only when the process is gone.
                let _ = rustix::process::pidfd_send_signal(held, Signal::KILL);
            }
        }
    }
}

impl Part {
    fn limit_cpu(&self, milli: u32) -> io::Result<()> {
        let quota = (u64::from(milli) * CPU_PERIOD / 1000).max(CPU_QUOTA_LEAST);
        match self.version {
            Version::V2 => self.write("cpu.max", format!("{quota} {CPU_PERIOD}")),
            Version::V1 => {
                self.write("cpu.cfs_period_us", CPU_PERIOD.to_string())?;
                match self.write("cpu.cfs_quota_us", quota.to_string()) {
                    // A group above it has less than that: then it is the one that limits.
                    Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(()),
                    result => result,
                }
            }
        }
    }

    fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        match self.version {
            Version::V2 => {
                self.write("memory.max", bytes.to_string())?;
                self.write_if_there("memory.swap.max", "0".to_owned())?;
                // A server some of whose processes are gone does not serve.
                self.write_if_there("memory.oom.group", "1".to_owned())
            }
            Version::V1 => {
                self.write("memory.limit_in_bytes", bytes.to_string())?;
                self.write_if_there("memory.memsw.limit_in_bytes", bytes.to_string())
            }
        }
    }

    fn write(&self, file: &str, value: String) -> io::Result<()> {
        write(&self.directory.join(file), &value)
    }

    /// What kernels that count no swap, or older ones, do not have.
    fn write_if_there(&self, file: &str, value: String) -> io::Result<()> {
        match self.write(file, value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    pub(super) fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.directory.join(file)).ok()
    }
}

/// Writes to a file of the kernel's; `fs::write` would make one.
pub(super) fn write(file: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(value.as_bytes())
}

fn is_busy(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::BUSY)
}
