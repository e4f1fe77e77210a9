//! What all requests under way may hold together: so many of them, of so many bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::InferError;

/// Requests that are being read, wait or run; one more is told to come back later.
pub(crate) const REQUESTS_LIMIT: usize = 512;
/// Their bytes, decompressed where they came compressed: eight of the largest.
pub(crate) const BYTES_LIMIT: usize = 512 << 20;

#[derive(Debug, Clone)]
pub(super) struct Places {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// Of bytes.
    limit: usize,
}

/// The place of one request; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _request: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(requests: usize, bytes: usize) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { requests: semaphore(requests), bytes: semaphore(bytes), limit: bytes }
    }

    /// A place that holds no bytes yet.
    pub(super) fn take(&self) -> Result<Place, InferError> {
        let request = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| InferError::Overloaded)?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(0).map_err(|_| InferError::Stopping)?;
        Ok(Place { _request: request, bytes })
    }

    /// Waits for a place that holds so many bytes.
    pub(super) async fn wait_for(&self, bytes: usize) -> Result<Place, InferError> {
        let (requests, held) = (Arc::clone(&self.requests), Arc::clone(&self.bytes));
        let bytes = u32::try_from(bytes).map_err(|_| InferError::Full)?;
        let request = requests.acquire_owned().await.map_err(|_| InferError::Stopping)?;
        let bytes = held.acquire_many_owned(bytes).await.map_err(|_| InferError::Stopping)?;
        Ok(Place { _request: request, bytes })
    }

    /// The bytes that requests hold.
    pub(super) fn bytes(&self) -> usize {
        self.limit - self.bytes.available_permits()
    }
}

impl Place {
    /// Holds so many bytes from now on, unless others hold too many.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), InferError> {
        let more = bytes.saturating_sub(self.bytes.num_permits());
        let more = u32::try_from(more).map_err(|_| InferError::Full)?;
        let budget = Arc::clone(self.bytes.semaphore());
        self.bytes.merge(budget.try_acquire_many_owned(more).map_err(|_| InferError::Full)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_hold_no_more_bytes_together_than_there_are() {
        let places = Places::new(3, 100);
        let mut first = places.take().unwrap();
        first.hold(60).unwrap();
        first.hold(40).unwrap();
        assert_eq!(places.bytes(), 60, "it holds what it held");
        let mut second = places.take().unwrap();
        assert!(matches!(second.hold(41), Err(InferError::Full)));
        second.hold(40).unwrap();
        assert!(matches!(first.hold(61), Err(InferError::Full)));
        drop(second);
        first.hold(61).unwrap();
        let third = tokio::spawn({
            let places = places.clone();
            async move { places.wait_for(50).await }
        });
        drop(first);
        let third = third.await.unwrap().unwrap();
        assert_eq!(places.bytes(), 50);
        let others = [places.take().unwrap(), places.take().unwrap()];
        assert!(matches!(places.take(), Err(InferError::Overloaded)));
        drop((third, others));
        assert_eq!(places.bytes(), 0);
        let _all: [Place; 3] = std::array::from_fn(|_| places.take().unwrap());
    }
}
