//! Where the processes of Tradewind meet: the HTTP API as types, its client, its errors, its tokens and its streams.
//!
//! Roles never depend on each other; they depend on this crate. It knows what is said, not what is done about it.

pub mod agent;
pub mod auth;
pub mod client;
pub mod compression;
pub mod deploy;
pub mod drain;
pub mod drill;
#[cfg(test)]
mod fuzz;
pub mod gateway;
pub mod grpc;
pub mod http;
pub mod metrics;
pub mod models;
pub mod monitoring;
pub mod ndjson;
pub mod problem;
pub mod replica;
pub mod server;
pub mod status;
pub mod suggest;

pub use client::Client;
pub use problem::{Code, Problem};

/// The version of every JSON document that a read command prints with `-o json`.
pub const SCHEMA_VERSION: u32 = 1;

/// Tests of readers watch what these take.
#[cfg(test)]
#[global_allocator]
static COUNTING: tradewind_fuzz::Counting = tradewind_fuzz::Counting;
