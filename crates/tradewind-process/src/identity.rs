//! Which process is meant: its pid, when it started, and in which boot of the machine.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};

/// The longest command line that is searched, in bytes; the kernel's own default limit is 2 MiB for all arguments.
const COMMAND_LINE_LIMIT: u64 = 2 << 20;

/// Names one process of one boot for ever: a pid is reused, a pid with its start time is not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub pid: u32,
    /// Clock ticks from boot to the start of the process (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
    /// The kernel's random id of this boot.
    pub boot_id: String,
}

impl Identity {
    /// The process that has this pid now, a zombie included; `None` when there is none.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self { pid, start_time: stat.start_time, boot_id: boot_id().to_owned() })
    }

    /// The calling process.
    ///
    /// # Panics
    /// When `/proc` is not mounted.
    pub fn of_this_process() -> Self {
        Self::of(std::process::id()).expect("/proc shows the process that reads it")
    }

    /// Whether this very process still runs. A zombie does not; neither does a later process with the same pid.
    pub fn is_alive(&self) -> bool {
        self.boot_id == boot_id()
            && Stat::read(self.pid).is_some_and(|stat| stat.start_time == self.start_time && !stat.is_dead())
    }
}

/// The processes of this user that have `argument` as one whole argument, the caller left out. Finds a process whose
/// pid was never written down. A process of another user is never named: anybody may put anything on a command line.
pub fn find_by_argument(argument: &str) -> Vec<Identity> {
    let user = rustix::process::geteuid().as_raw();
    pids().filter(|&pid| pid != std::process::id()).filter_map(|pid| has_argument(pid, user, argument)).collect()
}

fn has_argument(pid: u32, user: u32, argument: &str) -> Option<Identity> {
    if fs::metadata(format!("/proc/{pid}")).ok()?.uid() != user {
        return None;
    }
    // Taken before and after: what was read in between belongs to this process and no later one.
    let identity = Identity::of(pid)?;
    let mut line = Vec::new();
    fs::File::open(format!("/proc/{pid}/cmdline")).ok()?.take(COMMAND_LINE_LIMIT).read_to_end(&mut line).ok()?;
    let found = line.split(|&byte| byte == 0).any(|each| each == argument.as_bytes());
    (found && identity.is_alive()).then_some(identity)
}

/// Every pid in `/proc` now.
pub(crate) fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        // Unreadable in some sandboxes: then the start time alone has to tell.
        let read: io::Result<String> = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        read.map(|id| id.trim().to_owned()).unwrap_or_default()
    })
}

/// The few fields of `/proc/PID/stat` that matter here.
#[derive(Debug)]
pub(crate) struct Stat {
    state: char,
    pub(crate) parent: u32,
    pub(crate) start_time: u64,
}

impl Stat {
    pub(crate) fn read(pid: u32) -> Option<Self> {
        // Not `read_to_string`: the command's name may hold any bytes.
        let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// See proc_pid_stat(5). The command's name is in parentheses and may itself contain them and spaces.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line[line.rfind(')')? + 1..].split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let start_time = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, start_time })
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = "42 (a) Z 1 (b) S 7 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 98765 1 1";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.start_time), ('S', 7, 98765));
        assert!(Stat::parse("42 (cut").is_none());
        assert!(Stat::parse("42 (cut) S 1").is_none());
    }
}
