//! What is kept of one model as long as it is routed, whatever snapshots come.

use std::sync::Arc;

use crate::{gate::Gate, traffic::Returning};

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) returning: Returning,
    pub(crate) gate: Arc<Gate>,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self { returning: Returning::new(), gate: Arc::default() }
    }
}
