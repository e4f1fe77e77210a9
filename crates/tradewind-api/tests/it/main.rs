//! The parts of the API that need sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;
