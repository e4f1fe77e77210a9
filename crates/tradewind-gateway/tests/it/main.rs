//! Gateways between fake controls, agents and replicas, over real sockets.

mod config;
mod failover;
mod framing;
mod http2;
#[expect(clippy::unwrap_used, reason = "what cannot be asked fails the test")]
mod load;
#[expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]
mod process;
#[expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]
mod replica;
mod requests;
#[expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]
mod world;
