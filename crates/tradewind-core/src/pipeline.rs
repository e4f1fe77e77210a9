//! Pipelines: batches of data that are preprocessed, trained on and evaluated in parallel, aggregated into a model.

pub mod file;
pub mod metric;
pub mod sketch;
