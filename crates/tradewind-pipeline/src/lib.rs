//! Pipelines: data is found and cut into batches, steps run on each of them in parallel, their results become one.
//!
//! `tradewind_core::pipeline` decides; this crate reads and writes files and runs processes. Roles and registry are
//! unknown here: what becomes of the result is the caller's.
