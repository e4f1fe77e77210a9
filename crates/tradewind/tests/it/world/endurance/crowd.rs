//! Users who go on until they are told to stop, and note what they see.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(super) struct Crowd<T> {
    notes: Notes<T>,
    stop: CancellationToken,
    users: JoinSet<()>,
}

/// What all of them have seen.
pub(super) struct Notes<T>(Arc<Mutex<Vec<T>>>);

impl<T> Notes<T> {
    pub(super) fn add(&self, seen: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }
}

impl<T: Send + 'static> Crowd<T> {
    pub(super) fn new() -> Self {
        Self { notes: Notes(Arc::default()), stop: CancellationToken::new(), users: JoinSet::new() }
    }

    /// One more, who notes what he sees until the token is cancelled.
    pub(super) fn join<F>(&mut self, user: impl FnOnce(Notes<T>, CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.users.spawn(user(Notes(Arc::clone(&self.notes.0)), self.stop.clone()));
    }

    /// Lets everybody finish what he is at. A user who fails by himself is an error.
    pub(super) async fn stop(mut self) -> Result<Vec<T>> {
        self.stop.cancel();
        while let Some(ended) = self.users.join_next().await {
            ended?;
        }
        Ok(std::mem::take(&mut *self.notes.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
