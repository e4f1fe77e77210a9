//! The data plane: users' entry to the nearest healthy region.
//!
//! Threads that share nothing but atomics serve requests (`worker`, `server`): a request reads one composed view of the
//! world (`world`), is routed by it (`routing`) and passed on (`proxy`) over connections of its thread (`link`, `http1`). One
//! more thread keeps that view true: the stream from control (`control`), the endpoints of the region's agents (`agents`),
//! probes (`probe`), and the director, which puts them together; tables of pinned users (`tables`) are there before what
//! names them. The gateway never asks anybody on behalf of a request: without control or agents it serves what it last
//! knew, also across its own restart (`disk`).

mod access;
mod agents;
mod body;
mod clock;
mod control;
mod demand;
mod director;
mod disk;
mod doomed;
mod drill;
mod epoch_cookie;
mod explain;
mod gate;
mod gateway;
mod headers;
mod histogram;
mod http1;
mod lane;
mod learning;
mod link;
mod load;
mod message;
mod metrics;
mod options;
mod peer;
mod probe;
mod proxy;
mod questions;
mod replica;
mod reply;
mod report;
mod routing;
mod server;
mod sync;
mod tables;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod traffic;
mod user_key;
mod worker;
mod world;

pub use access::{AccessLogOptions, Destination};
pub use gateway::{Error, run};
pub use options::{GatewayOptions, Listen};
pub use tls::{TlsError, TlsOptions};
pub use user_key::UserKey;

/// Tests of readers watch what these take.
#[cfg(test)]
#[global_allocator]
static COUNTING: tradewind_fuzz::Counting = tradewind_fuzz::Counting;
