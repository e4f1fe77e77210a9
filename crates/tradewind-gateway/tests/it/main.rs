//! Gateways between fake controls, agents and replicas, over real sockets.

mod config;
mod failover;
#[expect(clippy::unwrap_used, reason = "what cannot be asked fails the test")]
mod load;
mod requests;
#[expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]
mod world;
