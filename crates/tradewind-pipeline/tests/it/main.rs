//! What the parts of pipelines do, on real files.

mod data;
