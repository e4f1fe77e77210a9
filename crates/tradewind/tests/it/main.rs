//! The binary as people and programs use it, against a control plane that answers from a script.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

#[macro_use]
mod context;
mod control;
mod fixtures;

mod connection;
mod deploy;
mod faults;
mod help;
mod hosts;
mod look;
mod models;
mod pipeline;
mod recovery;
mod simulate;
mod usage;
mod world;
