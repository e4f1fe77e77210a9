//! The model server: one model version or several, ONNX Runtime underneath, the Open Inference Protocol (KServe V2) on top.
//!
//! A replica is a process of its own, so that a crash in native code kills only itself. It knows bundle directories
//! and one listening socket; it must not know regions, slots, routes or who started it. No other crate touches
//! ONNX Runtime.
//!
//! A request, of REST or gRPC: `server` admits it and reads its body, `request` parses and checks it against the
//! signature, `engine` runs it, `response` writes the answer.

mod engine;
mod inspect;
mod listen;
mod metrics;
mod model;
mod onnx;
mod request;
mod response;
mod runtime;
mod server;
mod signature;
mod stats;
mod tensor;

pub use inspect::{Inspection, inspect};
pub use listen::{Listen, ListenError};
pub use model::ModelError as InspectError;
pub use runtime::{LocateError, locate_onnxruntime};
pub use server::{Error, ModelOptions, Models, ReplicaOptions, run};

/// Tests of readers watch what these take.
#[cfg(test)]
#[global_allocator]
static COUNTING: tradewind_fuzz::Counting = tradewind_fuzz::Counting;
