//! Tests of the crate from the outside.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod stored;
