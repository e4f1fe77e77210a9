//! The data plane: users' entry to the nearest healthy region.
//!
//! A request reads one composed view of the world (`world`), is routed by it (`routing`) and passed on (`proxy`) over
//! kept connections (`upstream`). Everything that changes the view runs beside that: the stream from control
//! (`control`), the endpoints of the region's agents (`agents`), probes (`probe`), and the director, which puts them
//! together. The gateway never asks anybody on behalf of a request: without control or agents it serves what it last
//! knew, also across its own restart (`disk`).

mod acceptance;
mod agents;
mod body;
mod control;
mod director;
mod disk;
mod gateway;
mod headers;
mod histogram;
mod metrics;
mod options;
mod peer;
mod probe;
mod proxy;
mod replica;
mod report;
mod routing;
mod server;
mod target;
mod traffic;
mod upstream;
mod world;

pub use gateway::{Error, run};
pub use options::{GatewayOptions, Listen};
