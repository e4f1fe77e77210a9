//! Following a prefix for as long as the store is open: list, then watch, and list again when the watch cannot go on.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream, stream::BoxStream};
use tokio::time::{sleep, timeout};

use crate::{Batch, Error, Incarnation, Listing, Result, Revision, Store, Watch, WatchStream};

/// A watch that says nothing for so long is replaced by one that resumes where it was: watches can die silently.
const QUIET: Duration = Duration::from_secs(30);
/// Delays before the next attempt after a failure: the first, doubled up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// What a follower is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// All keys under the prefix, replacing whatever was known. The first update is one, and there is another when
    /// the watch was compacted or the store restored. It may be the same as what was known.
    Reset(Listing),
    /// What the next revision changed.
    Changes(Batch),
}

/// Follows a prefix. Failures are retried and logged; the stream ends only when the store is closed.
pub fn list_then_watch(store: Arc<dyn Store>, prefix: impl Into<String>) -> BoxStream<'static, Update> {
    let follower = Follower { store, prefix: prefix.into(), position: None, watch: None, delay: FIRST_RETRY };
    Box::pin(stream::unfold(follower, |mut follower| async {
        let update = follower.update().await?;
        Some((update, follower))
    }))
}

struct Follower {
    store: Arc<dyn Store>,
    prefix: String,
    /// The incarnation and the revision up to which everything was handed out.
    position: Option<(Incarnation, Revision)>,
    watch: Option<WatchStream>,
    delay: Duration,
}

impl Follower {
    /// The next update; none when the store is closed.
    async fn update(&mut self) -> Option<Update> {
        loop {
            let error = match self.try_update().await {
                Ok(update) => {
                    self.delay = FIRST_RETRY;
                    return Some(update);
                }
                Err(error) => error,
            };
            self.watch = None;
            match error {
                Error::Closed => return None,
                Error::Compacted { .. } => self.position = None,
                error => {
                    tracing::warn!(prefix = self.prefix, error = &error as &dyn std::error::Error, "a watch failed");
                    sleep(self.delay).await;
                    self.delay = (self.delay * 2).min(LAST_RETRY);
                }
            }
        }
    }

    async fn try_update(&mut self) -> Result<Update> {
        loop {
            let Some((incarnation, seen)) = &mut self.position else { return self.list().await };
            let watch = match &mut self.watch {
                Some(watch) => watch,
                None => {
                    if self.store.incarnation().await? != *incarnation {
                        return self.list().await;
                    }
                    self.watch.insert(self.store.watch(Watch::new(self.prefix.as_str(), seen.next())).await?)
                }
            };
            match timeout(QUIET, watch.next()).await {
                Ok(Some(batch)) => {
                    let batch = batch?;
                    *seen = batch.revision;
                    return Ok(Update::Changes(batch));
                }
                Ok(None) => return Err(Error::Backend { attempted: "watch", source: "the watch ended".into() }),
                Err(_elapsed) => self.watch = None,
            }
        }
    }

    async fn list(&mut self) -> Result<Update> {
        // Asked first: if the store is restored in between, the next look at the incarnation tells.
        let incarnation = self.store.incarnation().await?;
        let listing = self.store.list(&self.prefix).await?;
        self.position = Some((incarnation, listing.revision));
        Ok(Update::Reset(listing))
    }
}
