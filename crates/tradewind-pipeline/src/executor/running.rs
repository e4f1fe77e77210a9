//! A process of a step: what it prints is read, and it ends with all that it has started.

use std::{fs, io, os::fd::OwnedFd, time::Duration};

use tokio::net::unix::pipe::Receiver;
use tradewind_core::resources::Memory;
use tradewind_process::{Exit, Family, Group, Process, Spawn};

use super::{Limits, log::Log};

/// So much of a pipe is read at once.
pub(super) const CHUNK: usize = 64 << 10;
/// However much a program printed, no more of it is waited for once it has ended.
const REST_LIMIT: usize = 4 << 20;
/// Where there are no control groups, memory is looked at so often.
const MEMORY_INTERVAL: Duration = Duration::from_millis(250);

/// A process whose output is read. It ends when this is dropped, and what it has started when the executor is closed.
#[derive(Debug)]
pub(super) struct Running {
    process: Process,
    family: Family,
    group: Option<Group>,
    prints: Receiver,
}

impl Running {
    /// `spawn` gets the writing end for its errors, and for its output too where there is nobody else to read that.
    pub(super) fn start(spawn: Spawn, family: Family, group: Option<Group>, output_too: bool) -> io::Result<Self> {
        let (prints, end) = io::pipe()?;
        let spawn = if output_too { spawn.output(end.try_clone()?) } else { spawn };
        let spawn = spawn.errors(end);
        let process = spawn.spawn().map_err(io::Error::other)?;
        let prints = Receiver::from_owned_fd(OwnedFd::from(prints))?;
        Ok(Self { process, family, group, prints })
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// For what it takes from now on.
    pub(super) fn watch(&self) -> Watch {
        let killed = self.group.as_ref().and_then(Group::oom_kills);
        Watch { family: self.family.clone(), group: self.group.clone(), killed }
    }

    /// Reads what it prints until it ends.
    pub(super) async fn finish(&mut self, log: &mut Log) -> io::Result<Exit> {
        let process = self.process.clone();
        let ended = process.exited();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                biased;
                exit = &mut ended => {
                    self.drain(log)?;
                    return Ok(exit);
                }
                read = self.read(log) => if !read? {
                    // Nobody can print any more.
                    return Ok(ended.await);
                },
            }
        }
    }

    /// What is there to be read, into the log; false when nobody writes any more.
    pub(super) async fn read(&self, log: &mut Log) -> io::Result<bool> {
        self.prints.readable().await?;
        let mut chunk = vec![0; CHUNK];
        match self.prints.try_read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(count) => log.add(&chunk[..count]).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Takes what has been printed by now.
    pub(super) fn drain(&self, log: &mut Log) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        let mut taken = 0;
        while taken < REST_LIMIT {
            match self.prints.try_read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    log.add(&chunk[..count])?;
                    taken += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends it with all that it started.
    pub(super) async fn kill(self) {
        if let Err(error) = self.family.kill(Some(&self.process)).await {
            tracing::warn!(pid = self.process.pid(), %error, "a step's processes cannot be ended");
        }
        self.process.exited().await;
        if let Some(group) = &self.group
            && let Err(error) = group.remove().await
        {
            tracing::warn!(%error, "a step's control group cannot be removed");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.process.try_exited().is_none() {
            // It fails only when the process is gone.
            let _ = self.process.kill();
        }
    }
}

/// What a process takes, with all that it has started.
#[derive(Debug)]
pub(super) struct Watch {
    family: Family,
    group: Option<Group>,
    /// How many of the group the kernel had killed for want of memory.
    killed: Option<u64>,
}

impl Watch {
    /// Ends when it takes more memory than it may, where no control group sees to that.
    pub(super) async fn for_memory(&self, limits: &Limits) -> String {
        let Some(limit) = limits.memory.filter(|_| self.killed.is_none()) else {
            return std::future::pending().await;
        };
        let mut interval = tokio::time::interval(MEMORY_INTERVAL);
        loop {
            interval.tick().await;
            let resident = self.family.members().iter().filter_map(|member| resident(member.pid)).sum::<u64>();
            if resident > limit {
                return too_much(limit);
            }
        }
    }

    /// Whether the kernel ended some of it for want of memory, in words.
    pub(super) fn too_much(&self, limits: &Limits) -> Option<String> {
        let now = self.group.as_ref().and_then(Group::oom_kills)?;
        limits.memory.filter(|_| now > self.killed.unwrap_or_default()).map(too_much)
    }
}

fn too_much(limit: u64) -> String {
    format!("it took more than {} of memory", Memory::from_bytes(limit))
}

/// In bytes.
fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
