//! Being the parent of last resort: orphans of the processes below are handed to this one and reaped, while a child
//! that somebody holds a handle on keeps its exit status for that handle.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{WaitId, WaitIdOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    identity::{Identity, Stat, pids},
    process::raw_pid,
};

/// Orphans are looked for on SIGCHLD, and this often in case one was missed.
const REAP_INTERVAL: Duration = Duration::from_secs(5);

/// How many handles each claimed process has.
static CLAIMED: Mutex<BTreeMap<Identity, usize>> = Mutex::new(BTreeMap::new());

/// The right to change who is claimed; while it is held, no orphan is reaped.
pub(crate) struct Claims(MutexGuard<'static, BTreeMap<Identity, usize>>);

impl Claims {
    pub(crate) fn lock() -> Self {
        Self(CLAIMED.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn claim(&mut self, identity: Identity) -> Claim {
        *self.0.entry(identity.clone()).or_default() += 1;
        Claim(identity)
    }
}

/// A handle's claim to the exit status of its process.
#[derive(Debug)]
pub(crate) struct Claim(Identity);

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = Claims::lock();
        if let Some(count) = claims.0.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                claims.0.remove(&self.0);
            }
        }
    }
}

/// From now on the orphans of every process below this one become its children, instead of init's.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// The living children of this process: those it started, and orphans that were handed to it.
pub fn children() -> Vec<Identity> {
    let alive = own_children().filter(|(_, stat)| !stat.is_dead());
    alive.filter_map(|(pid, _)| Identity::of(pid)).collect()
}

/// Reaps children that no [`Process`](crate::Process) claims, until `shutdown`. A process that runs this must start
/// its children with [`Spawn`](crate::Spawn) only: those of other means would be reaped under their owner's feet.
pub async fn reap_orphans(shutdown: CancellationToken) -> io::Result<()> {
    let mut child_changed = signal(SignalKind::child())?;
    loop {
        reap_once();
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = child_changed.recv() => {}
            () = tokio::time::sleep(REAP_INTERVAL) => {}
        }
    }
}

fn reap_once() {
    let claims = Claims::lock();
    for (pid, _) in own_children().filter(|(_, stat)| stat.is_dead()) {
        let claimed = Identity::of(pid).is_none_or(|identity| claims.0.contains_key(&identity));
        if claimed {
            continue;
        }
        let Some(raw) = raw_pid(pid) else { continue };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::Pid(raw), options) {
            Ok(_) => tracing::debug!(pid, "reaped an orphan"),
            Err(error) => tracing::warn!(pid, %error, "cannot reap an orphan"),
        }
    }
}

fn own_children() -> impl Iterator<Item = (u32, Stat)> {
    let this = std::process::id();
    pids().filter_map(move |pid| Some((pid, Stat::read(pid)?))).filter(move |(_, stat)| stat.parent == this)
}
