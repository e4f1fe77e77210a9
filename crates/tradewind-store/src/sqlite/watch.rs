//! Watching: reads the history until it has caught up, then takes what the writer publishes, and goes back to the
//! history whenever it has missed something.

use std::{collections::VecDeque, sync::Arc};

use futures_util::stream;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{read, read::Readers, writer::Recent};
use crate::{Batch, Error, Result, Revision, Selector, Watch, WatchStream};

/// `recent` must have been subscribed to before, so that nothing falls between it and the history.
pub(super) fn open(readers: Arc<Readers>, recent: broadcast::Receiver<Recent>, watch: Watch) -> Result<WatchStream> {
    let selector = Selector::Prefix(watch.prefix);
    selector.check()?;
    let watcher = Watcher { readers, recent, selector, next: watch.from, pending: VecDeque::new(), caught_up: false };
    Ok(Box::pin(stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        match watcher.batch().await {
            Ok(batch) => Some((Ok(batch), Some(watcher))),
            Err(error) => Some((Err(error), None)),
        }
    })))
}

#[derive(Debug)]
struct Watcher {
    readers: Arc<Readers>,
    recent: broadcast::Receiver<Recent>,
    selector: Selector,
    /// The first revision that was neither handed out nor is in `pending`.
    next: Revision,
    pending: VecDeque<Batch>,
    caught_up: bool,
}

impl Watcher {
    async fn batch(&mut self) -> Result<Batch> {
        loop {
            if let Some(batch) = self.pending.pop_front() {
                return Ok(batch);
            }
            if self.caught_up {
                self.take_recent().await?;
            } else {
                self.read_history().await?;
            }
        }
    }

    async fn read_history(&mut self) -> Result<()> {
        let (bounds, next) = (self.selector.bounds(), self.next);
        let stretch = self.readers.run("read the history", move |tx| read::stretch(tx, &bounds, next)).await?;
        self.pending.extend(stretch.batches);
        self.next = stretch.next;
        self.caught_up = !stretch.more;
        Ok(())
    }

    async fn take_recent(&mut self) -> Result<()> {
        let recent = match self.recent.recv().await {
            Ok(recent) => recent,
            Err(RecvError::Lagged(_)) => {
                self.caught_up = false;
                return Ok(());
            }
            Err(RecvError::Closed) => return Err(Error::Closed),
        };
        if recent.revision < self.next {
            return Ok(());
        }
        let Some(batch) = recent.batch else {
            self.caught_up = false;
            return Ok(());
        };
        self.next = recent.revision.next();
        let events: Vec<_> = batch.events.iter().filter(|event| self.selector.contains(event.key())).cloned().collect();
        if !events.is_empty() {
            self.pending.push_back(Batch { revision: batch.revision, events });
        }
        Ok(())
    }
}
