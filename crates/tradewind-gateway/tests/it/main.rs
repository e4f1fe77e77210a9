//! Gateways between fake controls, agents and replicas, over real sockets.
#![expect(clippy::unwrap_used, reason = "what cannot be set up, asked or read fails the test")]

mod access;
mod balance;
mod candidate;
mod capacity;
mod config;
mod conversation;
mod deadlines;
mod drill;
mod ejection;
mod epochs;
mod failover;
mod framing;
mod grpc;
mod http1;
mod http2;
mod leaving;
mod load;
mod metrics;
mod order;
mod process;
mod replica;
mod requests;
mod rest;
mod retries;
mod streams;
mod tables;
mod tls;
mod world;
