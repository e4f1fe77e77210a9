//! What the kernel has counted of a group.

use std::time::Duration;

use super::{Controller, Group, Version, group::Part};

/// What is asked for at once, so that so much less than the limit is the limit.
const HUGE_PAGE: u64 = 2 << 20;

/// What the processes of a group use, those that have ended included. `None`: nothing here counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Now, with what the kernel keeps in memory of files for them.
    pub memory_bytes: Option<u64>,
    /// The most there was at one time.
    pub memory_peak_bytes: Option<u64>,
    /// Of all processors.
    pub cpu: Option<Duration>,
    /// Time in which they had used up their quota and stood still.
    pub throttled: Option<Duration>,
    /// Processes that the kernel killed for want of memory: the group's own, or that of a group above it or the machine.
    pub oom_kills: Option<u64>,
    /// Whether they have had all that the group may have: who is killed then has gone over it.
    pub reached_memory_limit: Option<bool>,
}

impl Usage {
    pub(super) fn read(group: &Group) -> Self {
        let mut usage = Self::default();
        if let Some(part) = group.part(Controller::Memory) {
            let number = |file| part.read(file)?.trim().parse::<u64>().ok();
            let (now, peak) = match part.version {
                Version::V1 => ("memory.usage_in_bytes", "memory.max_usage_in_bytes"),
                Version::V2 => ("memory.current", "memory.peak"),
            };
            usage.memory_bytes = number(now);
            usage.memory_peak_bytes = number(peak);
            usage.oom_kills = oom_kills(part);
            usage.reached_memory_limit = match part.version {
                // Not `memory.failcnt`, which some kernels do not count.
                Version::V1 => {
                    let limit = number("memory.limit_in_bytes");
                    limit.zip(usage.memory_peak_bytes).map(|(limit, peak)| peak.saturating_add(HUGE_PAGE) >= limit)
                }
                Version::V2 => part.read("memory.events").and_then(|text| value(&text, "max")).map(|times| times > 0),
            };
        }
        if let Some(part) = group.part(Controller::Cpu) {
            let stat = part.read("cpu.stat").unwrap_or_default();
            usage.throttled = match part.version {
                Version::V1 => value(&stat, "throttled_time").map(Duration::from_nanos),
                Version::V2 => value(&stat, "throttled_usec").map(Duration::from_micros),
            };
        }
        if let Some(part) = group.part(Controller::CpuAccounting) {
            usage.cpu = match part.version {
                Version::V1 => {
                    part.read("cpuacct.usage").and_then(|text| text.trim().parse().ok()).map(Duration::from_nanos)
                }
                Version::V2 => {
                    part.read("cpu.stat").and_then(|text| value(&text, "usage_usec")).map(Duration::from_micros)
                }
            };
        }
        usage
    }
}

pub(super) fn oom_kills(memory: &Part) -> Option<u64> {
    let file = match memory.version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    value(&memory.read(file)?, "oom_kill")
}

/// Of lines like `oom_kill 3`.
fn value(text: &str, name: &str) -> Option<u64> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(key, _)| *key == name).find_map(|(_, value)| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let events = "low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 7\n";
        assert_eq!(value(events, "oom_kill"), Some(1));
        assert_eq!(value(events, "oom"), Some(2));
        assert_eq!(value("oom_kill_disable 0\nunder_oom 0\n", "oom_kill"), None);
        assert_eq!(value("oom_kill\noom_kill many\n", "oom_kill"), None);
    }
}
