//! Gateways between fake controls, agents and replicas, over real sockets.

#[expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]
mod access;
#[expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]
mod balance;
mod capacity;
mod config;
mod deadlines;
mod ejection;
mod failover;
mod framing;
mod grpc;
mod http2;
mod leaving;
#[expect(clippy::unwrap_used, reason = "what cannot be asked fails the test")]
mod load;
mod metrics;
#[expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]
mod process;
#[expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]
mod replica;
mod requests;
mod retries;
mod streams;
#[expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]
mod world;
