//! Gateways between fake controls, agents and replicas, over real sockets.

mod config;
mod failover;
mod requests;
#[expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]
mod world;
