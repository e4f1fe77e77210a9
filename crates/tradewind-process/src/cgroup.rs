//! Budgets of processor time and memory, which the kernel keeps: control groups, version 1 and version 2.
//!
//! Where groups can be made is found out by making one, with limits and a process in it, and taking it away again: what
//! the machine shows of itself promises too much (read-only mounts, controllers that nobody passed on, rights).

mod group;
mod hierarchy;
mod parent;
mod usage;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use self::{group::Group, hierarchy::Version, usage::Usage};
use self::{hierarchy::Hierarchy, parent::Parent};

/// What limits or counts the processes of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    Cpu,
    Memory,
    /// Counts processor time; version 2 does without it.
    CpuAccounting,
}

impl Controller {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::CpuAccounting => "cpuacct",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the processes of a group may use together. Absent: as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Thousandths of a processor's time.
    pub cpu_milli: Option<u32>,
    /// Beyond it the kernel kills. Swap is not given instead.
    pub memory_bytes: Option<u64>,
}

/// Why a controller cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("no cgroup hierarchy with the {controller} controller is mounted")]
    NotMounted { controller: Controller },
    #[error("the group of this process, {}, is in no cgroup hierarchy that is mounted here", path.display())]
    OutOfReach { path: PathBuf },
    #[error("{} is mounted read-only", directory.display())]
    ReadOnly { directory: PathBuf },
    #[error("no permission to make groups in {}", directory.display())]
    NotPermitted { directory: PathBuf },
    #[error("the {controller} controller is not passed on to {}", directory.display())]
    NoController { controller: Controller, directory: PathBuf },
    #[error("groups cannot be made in {}", directory.display())]
    Failed { directory: PathBuf, source: io::Error },
}

impl Unavailable {
    /// What somebody can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotMounted { .. } => "mount it, as in `mount -t cgroup2 none /sys/fs/cgroup`",
            Self::OutOfReach { .. } => "start the container with a cgroup namespace of its own",
            Self::ReadOnly { .. } => {
                "start the container with `--security-opt writable-cgroups=true` (Docker 28), or privileged"
            }
            Self::NotPermitted { .. } => "run as root, or in a systemd unit with `Delegate=cpu memory`",
            Self::NoController { .. } => {
                "let the unit or the container have it: `Delegate=cpu memory` in systemd; some kernels want \
                 `cgroup_enable=memory`"
            }
            Self::Failed { .. } => "see the kernel's log",
        }
    }

    fn at(directory: &Path, source: io::Error) -> Self {
        let directory = directory.to_owned();
        match Errno::from_io_error(&source) {
            Some(Errno::ROFS) => Self::ReadOnly { directory },
            Some(Errno::ACCESS | Errno::PERM) => Self::NotPermitted { directory },
            _ => Self::Failed { directory, source },
        }
    }
}

/// Where this process can make groups, one under the other's name in all hierarchies that it needs.
#[derive(Debug)]
pub struct Cgroups {
    cpu: Result<Parent, Unavailable>,
    memory: Result<Parent, Unavailable>,
    cpu_accounting: Result<Parent, Unavailable>,
}

impl Cgroups {
    /// Finds out what can be limited. `name` is that of the group that holds all that are made: two that are used at the
    /// same time have two names. Blocks, and forks.
    pub fn open(name: &str) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (groups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
        let find = |controller| {
            let hierarchy = hierarchy::locate(controller, &groups, &mounts)?;
            let parent = Parent::new(controller, &hierarchy, name)?;
            parent.try_out()?;
            Ok(parent)
        };
        Self {
            cpu: find(Controller::Cpu),
            memory: find(Controller::Memory),
            cpu_accounting: find(Controller::CpuAccounting),
        }
    }

    /// Why that cannot be limited, if it cannot.
    pub fn unavailable(&self, controller: Controller) -> Option<&Unavailable> {
        self.of(controller).as_ref().err()
    }

    fn of(&self, controller: Controller) -> &Result<Parent, Unavailable> {
        match controller {
            Controller::Cpu => &self.cpu,
            Controller::Memory => &self.memory,
            Controller::CpuAccounting => &self.cpu_accounting,
        }
    }

    fn parents(&self) -> impl Iterator<Item = &Parent> {
        [&self.cpu, &self.memory, &self.cpu_accounting].into_iter().flatten()
    }

    /// A new group of that name, limited as far as that can be done here. `None` when nothing can.
    pub fn create(&self, name: &str, limits: &Limits) -> Result<Option<Group>, Unavailable> {
        if self.cpu.is_err() && self.memory.is_err() {
            return Ok(None);
        }
        let mut group = Group::default();
        let made = self.parents().try_for_each(|parent| {
            group.add(parent.controller(), parent.make(name)?);
            Ok(())
        });
        match made.and_then(|()| group.limit(limits)) {
            Ok(()) => Ok(Some(group)),
            Err(error) => {
                // What is left of it is found by its name.
                let _ = group.remove_empty();
                Err(error)
            }
        }
    }

    /// The names and groups that are there, whoever made them.
    pub fn groups(&self) -> Vec<(String, Group)> {
        let mut groups = BTreeMap::<String, Group>::new();
        for parent in self.parents() {
            for (name, part) in parent.children() {
                groups.entry(name).or_default().add(parent.controller(), part);
            }
        }
        groups.into_iter().collect()
    }
}
