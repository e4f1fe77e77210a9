//! The control plane in this process, on a port and in a directory of its own.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod auth;
mod control;
mod deployments;
mod drills;
mod events;
mod fleet;
mod members;
mod metrics;
mod openapi;
mod registry;
mod restart;
mod rollout;
