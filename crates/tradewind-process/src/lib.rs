//! Processes that may outlive the one that started them: spawned into a session of their own, named by an
//! [`Identity`] that no reused pid can fake, adopted by a successor, waited for through a pidfd, kept within limits by
//! a [`Group`].
//!
//! This crate knows nothing of what it runs: no roles, no replicas, no models. Linux only.

mod cgroup;
mod family;
mod identity;
mod listeners;
mod orphans;
mod process;
mod spawn;

pub use cgroup::{Cgroups, Controller, Group, Limits, Unavailable, Usage, Version};
pub use family::Family;
pub use identity::{Identity, find_by_argument};
pub use listeners::{LISTENERS_LIMIT, inherited_listeners};
pub use orphans::{become_subreaper, children, reap_orphans};
pub use process::{Exit, Process};
pub use rustix::process::Signal;
pub use spawn::{Error, Spawn};
