//! A replica as its clients see it: `run` in this process, on an ephemeral port, over HTTP.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod batching;
mod binary;
mod bombs;
mod compression;
mod conversation;
mod grpc;
mod hostile;
mod infer;
mod inspect;
mod lifecycle;
mod memory;
mod protocol;
mod replica;
mod repository;
mod several;
