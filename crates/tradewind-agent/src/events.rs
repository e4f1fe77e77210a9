//! What happened here and control has not yet stored.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tradewind_api::agent::{AgentEvent, EVENTS_LIMIT};
use tradewind_core::{
    ModelName, Timestamp,
    event::{EventKind, Severity},
};

/// Bounded: while control is away the oldest events give way to the newest.
#[derive(Debug, Default)]
pub(crate) struct Events {
    inner: Mutex<Inner>,
    /// Woken by every event.
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    sequence: u64,
    waiting: VecDeque<AgentEvent>,
}

impl Events {
    pub(crate) fn emit(&self, severity: Severity, kind: EventKind, model: Option<&ModelName>, message: String) {
        match severity {
            Severity::Info => tracing::info!(?kind, "{message}"),
            Severity::Warning => tracing::warn!(?kind, "{message}"),
            Severity::Error => tracing::error!(?kind, "{message}"),
        }
        let mut inner = self.lock();
        inner.sequence += 1;
        let event = AgentEvent {
            sequence: inner.sequence,
            at: Timestamp::now(),
            severity,
            kind,
            model: model.cloned(),
            message,
        };
        if inner.waiting.len() == EVENTS_LIMIT {
            inner.waiting.pop_front();
        }
        inner.waiting.push_back(event);
        drop(inner);
        self.changed.notify_one();
    }

    pub(crate) fn waiting(&self) -> Vec<AgentEvent> {
        self.lock().waiting.iter().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Control has stored those up to this number.
    pub(crate) fn acknowledge(&self, stored: u64) {
        self.lock().waiting.retain(|event| event.sequence > stored);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_wait_until_they_are_stored_and_the_oldest_give_way() {
        let events = Events::default();
        for n in 0..EVENTS_LIMIT + 10 {
            events.emit(Severity::Info, EventKind::AgentStarted, None, format!("{n}"));
        }
        let waiting = events.waiting();
        assert_eq!((waiting.len(), waiting[0].sequence), (EVENTS_LIMIT, 11));
        events.acknowledge(EVENTS_LIMIT as u64);
        assert_eq!(events.waiting().iter().map(|event| event.sequence).min(), Some(EVENTS_LIMIT as u64 + 1));
        assert_eq!(events.count(), 10);
    }
}
