//! Tests of the crate from the outside.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod fuzz;
mod simulate;
mod stored;
mod switch;

/// Tests of readers watch what these take.
#[global_allocator]
static COUNTING: tradewind_fuzz::Counting = tradewind_fuzz::Counting;
