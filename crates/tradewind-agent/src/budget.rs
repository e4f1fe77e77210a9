//! What a replica may take of its machine: a group of processes that the kernel keeps to it, and where it does not, why.

use std::{collections::BTreeSet, fmt, path::Path, sync::OnceLock};

use serde::{Deserialize, Serialize};
use tradewind_core::{
    causes::chain,
    resources::{Cpu, Memory},
    scale::Scale,
};
use tradewind_process::{Cgroups, Controller, Group, Limits, Unavailable};

use crate::record::recorded_ids;

/// Gives replicas their groups. What the machine can do is looked at when the first budget is asked for: to find out
/// may mean to move processes.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// Of the group of this agent, and of those with its data directory after it.
    name: String,
    cgroups: OnceLock<Cgroups>,
}

/// What a replica may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Absent where nothing can be limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// What of it nobody keeps the replica to, and why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unenforced: Option<String>,
}

/// Why the kernel killed a replica, or some of its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoryKill {
    OverBudget(Memory),
    /// The machine, or a group that the agent is in, had no more.
    NoneLeft,
}

impl fmt::Display for MemoryKill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverBudget(memory) => write!(f, "over its memory of {memory}: killed"),
            Self::NoneLeft => write!(f, "killed: the machine, or the group that its agent is in, has no memory left"),
        }
    }
}

impl Budgets {
    /// For the agent with this data directory.
    pub(crate) fn new(root: &Path) -> Self {
        let digest = blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex();
        Self { name: format!("tradewind-{}", &digest[..12]), cgroups: OnceLock::new() }
    }

    /// The budget of a new replica, its group made. `None` where nothing is said. Blocks.
    pub(crate) fn grant(&self, root: &Path, id: &str, scale: &Scale) -> Option<Budget> {
        let (cpu, memory) = (scale.cpu, scale.memory);
        if cpu.is_none() && memory.is_none() {
            return None;
        }
        let cgroups = self.cgroups.get_or_init(|| self.open(root));
        let limits = Limits { cpu_milli: cpu.map(Cpu::milli), memory_bytes: memory.map(Memory::bytes) };
        let (group, failed) = match cgroups.create(id, &limits) {
            Ok(group) => (group, None),
            Err(error) => (None, Some(why(&error))),
        };
        let reason = |controller| failed.clone().or_else(|| cgroups.unavailable(controller).map(why));
        let unenforced =
            unenforced(cpu.and_then(|_| reason(Controller::Cpu)), memory.and_then(|_| reason(Controller::Memory)));
        Some(Budget { cpu, memory, group, unenforced })
    }

    /// Also takes away what an agent that was killed left of replicas that are gone.
    fn open(&self, root: &Path) -> Cgroups {
        let cgroups = Cgroups::open(&self.name);
        let reason = |controller| cgroups.unavailable(controller).map(why);
        if let Some(message) = unenforced(reason(Controller::Cpu), reason(Controller::Memory)) {
            tracing::warn!("{message}");
        }
        let recorded: BTreeSet<String> = recorded_ids(root).collect();
        for (id, group) in cgroups.groups() {
            if recorded.contains(&id) {
                continue;
            }
            if let Err(error) = group.remove_empty() {
                tracing::warn!(id, %error, pids = ?group.pids(), "a group of no known replica is left");
            }
        }
        cgroups
    }
}

impl Budget {
    /// Whether, and why, the kernel killed some of its processes for want of memory.
    pub(crate) fn memory_kill(&self) -> Option<MemoryKill> {
        let group = self.group.as_ref()?;
        if group.oom_kills()? == 0 {
            return None;
        }
        let over = self.memory.filter(|_| group.usage().reached_memory_limit != Some(false));
        Some(over.map_or(MemoryKill::NoneLeft, MemoryKill::OverBudget))
    }

    /// Removes its group, with what may be left in it.
    pub(crate) async fn end(&self) {
        let Some(group) = &self.group else { return };
        if let Err(error) = group.remove().await {
            tracing::error!(%error, pids = ?group.pids(), "cannot remove the group of a replica that is gone");
        }
    }
}

fn why(error: &Unavailable) -> String {
    format!("{}; {}", chain(error), error.hint())
}

/// `cpu and memory limits are not enforced: /sys/fs/cgroup is mounted read-only; start the container ...`
fn unenforced(cpu: Option<String>, memory: Option<String>) -> Option<String> {
    let one = |what: &str, why: String| format!("the {what} limit is not enforced: {why}");
    match (cpu, memory) {
        (Some(cpu), Some(memory)) if cpu == memory => Some(format!("cpu and memory limits are not enforced: {cpu}")),
        (Some(cpu), Some(memory)) => Some(format!("{}. {}", one("cpu", cpu), one("memory", memory))),
        (Some(cpu), None) => Some(one("cpu", cpu)),
        (None, Some(memory)) => Some(one("memory", memory)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_enforced_is_said_once_for_what_has_one_reason() {
        let why = |text: &str| Some(text.to_owned());
        for (cpu, memory, expected) in [
            (None, None, None),
            (why("a"), None, Some("the cpu limit is not enforced: a")),
            (None, why("b"), Some("the memory limit is not enforced: b")),
            (why("a"), why("a"), Some("cpu and memory limits are not enforced: a")),
            (why("a"), why("b"), Some("the cpu limit is not enforced: a. the memory limit is not enforced: b")),
        ] {
            assert_eq!(unenforced(cpu, memory).as_deref(), expected);
        }
    }

    #[test]
    fn agents_with_other_data_directories_have_groups_under_other_names() {
        let name = |root: &str| Budgets::new(Path::new(root)).name;
        assert_eq!(name("/data/us-east1"), name("/data/us-east1"));
        assert_ne!(name("/data/us-east1"), name("/data/eu-west1"));
    }
}
