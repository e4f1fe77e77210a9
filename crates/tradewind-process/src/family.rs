//! A process with all that descend from it, told by a variable that they inherit.
//!
//! A process group would be left by a child that makes a session of its own; a child keeps its environment unless it
//! clears it on purpose.

use std::{fs, io, io::Read, time::Duration};

use rustix::process::Signal;

use crate::{
    identity::{Identity, pids},
    process::Process,
};

/// The largest environment that is searched, in bytes; the kernel's own limit is that of a command line.
const ENVIRONMENT_LIMIT: u64 = 2 << 20;
/// A family that still has members after it was killed so many times forks faster than it can be ended.
const KILLS_LIMIT: usize = 100;

/// The processes of this user that were started with one variable of this value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    mark: Vec<u8>,
}

impl Family {
    pub fn new(variable: &str, value: &str) -> Self {
        Self { mark: format!("{variable}={value}").into_bytes() }
    }

    /// Those that run now, the oldest first.
    pub fn members(&self) -> Vec<Identity> {
        let mut members: Vec<Identity> = pids().filter_map(|pid| self.member(pid)).collect();
        members.sort_by_key(|member| (member.start_time, member.pid));
        members
    }

    fn member(&self, pid: u32) -> Option<Identity> {
        // Taken before and after: what was read in between belongs to this process and no later one.
        let identity = Identity::of(pid)?;
        let mut variables = Vec::new();
        // Only the own user's can be read.
        let file = fs::File::open(format!("/proc/{pid}/environ")).ok()?;
        file.take(ENVIRONMENT_LIMIT).read_to_end(&mut variables).ok()?;
        let found = variables.split(|&byte| byte == 0).any(|each| each == self.mark);
        (found && identity.is_alive()).then_some(identity)
    }

    /// SIGTERM to all, SIGKILL to who is left once `grace` has passed, and waits for the end. `head` is left to whoever
    /// holds it to be reaped, so that its exit status stays known. Within a tokio runtime.
    pub async fn terminate(&self, head: Option<&Process>, grace: Duration) -> io::Result<()> {
        let members = self.adopt(head)?;
        for member in &members {
            member.signal(Signal::TERM)?;
            // A stopped process would sleep through its grace.
            member.signal(Signal::CONT)?;
        }
        let ended = async {
            for member in &members {
                member.exited().await;
            }
        };
        // Whether they all went does not matter: who is left is killed.
        let _ = tokio::time::timeout(grace, ended).await;
        self.kill(head).await
    }

    /// SIGKILL until none is left.
    pub async fn kill(&self, head: Option<&Process>) -> io::Result<()> {
        for _ in 0..KILLS_LIMIT {
            let members = self.adopt(head)?;
            if members.is_empty() {
                return Ok(());
            }
            members.iter().try_for_each(Process::kill)?;
            for member in &members {
                member.exited().await;
            }
        }
        Err(io::Error::other("its processes multiply faster than they can be ended"))
    }

    fn adopt(&self, head: Option<&Process>) -> io::Result<Vec<Process>> {
        let mut members = Vec::new();
        for identity in self.members() {
            match head.filter(|head| *head.identity() == identity) {
                Some(head) => members.push(head.clone()),
                None => members.extend(Process::adopt(&identity)?),
            }
        }
        Ok(members)
    }
}
