//! Atomics and waiting as `gate` and `target` use them. `tests/it/order.rs` has loom's in their place.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

pub(crate) use tokio::{sync::Notify, time::timeout};
