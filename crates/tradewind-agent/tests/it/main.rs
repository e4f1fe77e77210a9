//! The agent at its boundaries: a fake control before it, fake replicas behind it, real processes and sockets.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails it by panicking")]

mod adoption;
mod budgets;
mod commands;
mod deploy;
mod drift;
mod fake_control;
#[expect(clippy::print_stdout, reason = "what a replica prints is its log")]
mod fake_replica;
mod golden;
mod refusal;
mod scaling;
mod server;
mod supervision;
mod world;
