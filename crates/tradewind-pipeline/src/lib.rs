//! Pipelines: data is found and cut into batches, steps run on each of them in parallel, their results become one.
//!
//! `tradewind_core::pipeline` decides; this crate reads and writes files and runs processes. Roles and registry are
//! unknown here: what becomes of the result is the caller's.

mod attempt;
pub mod auto;
mod code;
pub mod data;
pub mod executor;
mod home;
pub mod journal;
mod key;
pub mod python;
mod run;
mod setup;
mod store;

pub use home::{Home, HomeError};
pub use run::{BatchCounts, Known, Planned, Run, RunError, Scene};
pub use setup::{AGGREGATE, EVALUATE, Pythons, Setup};
pub use store::{Collected, Entry, Store, StoreError};
