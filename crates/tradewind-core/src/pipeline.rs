//! Pipelines: batches of data that are preprocessed, trained on and evaluated in parallel, aggregated into a model.

pub mod contract;
pub mod file;
pub mod gate;
pub mod holdout;
pub mod journal;
pub mod metric;
pub mod schedule;
pub mod schema;
pub mod size;
pub mod sketch;
