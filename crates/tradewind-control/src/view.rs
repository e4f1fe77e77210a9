//! What people see: documents made of resources and of what was last reported. Pure: nothing here reads the store, the
//! hub or a clock.

pub(crate) mod alerts;
pub(crate) mod capacity;
pub(crate) mod drill;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod history;
pub(crate) mod monitors;
pub(crate) mod regions;
pub(crate) mod rollout;
pub(crate) mod sight;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod traffic;
