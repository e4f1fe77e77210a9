//! Tests of what is compiled for loom as well (`tests/it/order.rs`), where they must not be.

mod gate;
mod target;
