//! The embedded store, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod conformance;
