//! What the parts of pipelines do, on real files.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod data;
