//! Watching: every revision that touched a prefix, once, whole and in order.

use futures_util::stream::BoxStream;

use crate::{KeyValue, Result, Revision};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The empty prefix is every key.
    pub prefix: String,
    /// The first revision to report: the one after a list, or after the last batch seen. It may lie in the future.
    /// At or below the compact revision the watch ends with [`Error::Compacted`](crate::Error::Compacted).
    pub from: Revision,
}

impl Watch {
    pub fn new(prefix: impl Into<String>, from: Revision) -> Self {
        Self { prefix: prefix.into(), from }
    }
}

/// What one revision did under the prefix; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub revision: Revision,
    /// In the order of the transaction's operations; each key at most once.
    pub events: Vec<Event>,
}

/// A change of one key. `prev` is the key as it was just before, if it existed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Put { now: KeyValue, prev: Option<KeyValue> },
    Delete { key: String, prev: Option<KeyValue> },
}

impl Event {
    pub fn key(&self) -> &str {
        match self {
            Self::Put { now, .. } => &now.key,
            Self::Delete { key, .. } => key,
        }
    }

    pub fn is_put(&self) -> bool {
        matches!(self, Self::Put { .. })
    }

    /// The key as it is now, if it was put.
    pub fn now(&self) -> Option<&KeyValue> {
        if let Self::Put { now, .. } = self { Some(now) } else { None }
    }

    /// The key as it was before.
    pub fn prev(&self) -> Option<&KeyValue> {
        match self {
            Self::Put { prev, .. } | Self::Delete { prev, .. } => prev.as_ref(),
        }
    }
}

/// Batches in the order of their revisions. An error is the last item. The stream holds no backlog: it reads at the
/// pace at which it is polled, so a slow reader costs no memory, and may find itself compacted.
pub type WatchStream = BoxStream<'static, Result<Batch>>;
