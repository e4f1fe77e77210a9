//! A handle on a process, child or not.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions},
};
use serde::{Deserialize, Serialize};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    identity::Identity,
    orphans::{Claim, Claims},
    spawn::{self, Spawn},
};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// It ended, and only its parent was told how: it was adopted, or somebody else reaped it.
    Unknown,
}

impl Exit {
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(9) => write!(f, "killed by signal 9 (SIGKILL)"),
            Self::Signal(11) => write!(f, "killed by signal 11 (SIGSEGV)"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Unknown => write!(f, "ended, exit code unknown"),
        }
    }
}

/// A process that this one started or adopted. Clones share it. Dropping it leaves the process running; a child
/// that ends after that is reaped by [`reap_orphans`](crate::reap_orphans), or stays a zombie until its parent ends.
#[derive(Debug, Clone)]
pub struct Process {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    identity: Identity,
    /// Refers to this very process, whatever becomes of its pid.
    pidfd: AsyncFd<OwnedFd>,
    exit: Mutex<Option<Exit>>,
    _claim: Claim,
}

impl Process {
    /// Must be called within a tokio runtime with IO, as must [`adopt`](Self::adopt).
    pub(crate) fn spawn(spawn: &Spawn) -> Result<Self, spawn::Error> {
        // Held over the fork, so that whoever reaps orphans never sees a child that nobody claims yet.
        let mut claims = Claims::lock();
        let mut child = spawn.start()?;
        let handle = Identity::of(child.id())
            .ok_or_else(|| io::Error::other("/proc does not show it"))
            .and_then(|identity| Self::open(identity, &mut claims));
        handle.map_err(|source| {
            // Nobody would know of it: end it. Both calls fail only when it is gone already.
            let _ = child.kill();
            let _ = child.wait();
            spawn::Error::Watch { pid: child.id(), source }
        })
    }

    /// Takes over a process that somebody else started, or that an earlier life of this one did. `None` when it no
    /// longer runs; an error when it does and cannot be watched, in which case it must not be started twice.
    pub fn adopt(identity: &Identity) -> io::Result<Option<Self>> {
        if !identity.is_alive() {
            return Ok(None);
        }
        let process = match Self::open(identity.clone(), &mut Claims::lock()) {
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return Ok(None),
            result => result?,
        };
        // Checked again: between the first look and the pidfd the pid may have gone to another process.
        Ok(identity.is_alive().then_some(process))
    }

    fn open(identity: Identity, claims: &mut Claims) -> io::Result<Self> {
        let pid = raw_pid(identity.pid).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        #[expect(unsafe_code, reason = "tokio offers no safe way for descriptors of any type")]
        // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, which `AsyncFd` sees to itself.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE)? };
        let claim = claims.claim(identity.clone());
        Ok(Self { inner: Arc::new(Inner { identity, pidfd, exit: Mutex::new(None), _claim: claim }) })
    }

    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    pub fn pid(&self) -> u32 {
        self.inner.identity.pid
    }

    /// Waits for the end and says how it came; reaps a child. Any number of callers may wait, again and again, and
    /// all get the same answer; dropping the future loses nothing.
    pub async fn exited(&self) -> Exit {
        loop {
            if let Some(exit) = self.try_exited() {
                return exit;
            }
            match self.inner.pidfd.readable().await {
                Ok(mut ready) => {
                    if let Some(exit) = self.try_exited() {
                        return exit;
                    }
                    ready.clear_ready();
                }
                // Only a runtime that shuts down says so, and it is about to drop this future.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// How it ended, if it has.
    pub fn try_exited(&self) -> Option<Exit> {
        let mut exit = self.inner.exit.lock().unwrap_or_else(PoisonError::into_inner);
        if exit.is_none() {
            *exit = self.inner.reap();
        }
        *exit
    }

    /// Sends a signal. To a process that has ended it does nothing.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(self.inner.pidfd.get_ref(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// SIGKILL. Returns at once; [`exited`](Self::exited) says when it is gone.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// SIGTERM, SIGKILL once `grace` has passed, and waits for the end. Dropping the future leaves the process with
    /// what it was sent so far. There is no limit after SIGKILL: the kernel lets nothing survive it, but a process
    /// that is stuck in a device ends only when the device answers.
    pub async fn terminate(&self, grace: Duration) -> io::Result<Exit> {
        self.signal(Signal::TERM)?;
        // A stopped process would sleep through its grace.
        self.signal(Signal::CONT)?;
        if let Ok(exit) = tokio::time::timeout(grace, self.exited()).await {
            return Ok(exit);
        }
        self.kill()?;
        Ok(self.exited().await)
    }
}

impl Inner {
    fn reap(&self) -> Option<Exit> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), options) {
            Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Unknown,
            }),
            Ok(None) => None,
            // Not a child, or reaped by another handle: the pidfd still tells whether it has ended.
            Err(_) => self.has_ended().then_some(Exit::Unknown),
        }
    }

    fn has_ended(&self) -> bool {
        let mut polled = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(1..))
    }
}

pub(crate) fn raw_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}
