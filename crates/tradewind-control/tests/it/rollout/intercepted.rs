//! A store that lets a test act at a moment that is otherwise gone too soon.

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture};
use tradewind_store::{
    Batch, Incarnation, Lease, LeaseId, Range, RangeResponse, Result, Revision, SqliteStore, Stats, Store, Txn,
    TxnResponse, Watch, WatchStream,
};

/// What a test does meanwhile: by default, nothing.
pub(super) trait Meanwhile: Debug + Send + Sync + 'static {
    fn before_txn(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Before whoever reads gets the answer.
    fn after_range<'a>(&'a self, _range: &'a Range, _response: &'a RangeResponse) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    /// Whoever watches has done what there was to do, and asks for more.
    fn after_batch(&self, _batch: &Batch) {}
}

#[derive(Debug)]
pub(super) struct Intercepted<M> {
    pub(super) store: SqliteStore,
    pub(super) meanwhile: Arc<M>,
}

impl<M: Meanwhile> Store for Intercepted<M> {
    fn range(&self, range: Range) -> BoxFuture<'_, Result<RangeResponse>> {
        Box::pin(async move {
            let response = self.store.range(range.clone()).await?;
            self.meanwhile.after_range(&range, &response).await;
            Ok(response)
        })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        Box::pin(async move {
            self.meanwhile.before_txn().await;
            self.store.txn(txn).await
        })
    }

    fn watch(&self, watch: Watch) -> BoxFuture<'_, Result<WatchStream>> {
        Box::pin(async move {
            let (batches, meanwhile) = (self.store.watch(watch).await?, self.meanwhile.clone());
            let told = futures_util::stream::unfold((batches, None::<Batch>), move |(mut batches, last)| {
                let meanwhile = meanwhile.clone();
                async move {
                    if let Some(last) = last {
                        meanwhile.after_batch(&last);
                    }
                    let batch = batches.next().await?;
                    let last = batch.as_ref().ok().cloned();
                    Some((batch, (batches, last)))
                }
            });
            Ok(told.boxed())
        })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        self.store.compact(revision)
    }

    fn lease_grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease>> {
        self.store.lease_grant(ttl)
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Lease>> {
        self.store.lease_keep_alive(lease)
    }

    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<()>> {
        self.store.lease_revoke(lease)
    }

    fn incarnation(&self) -> BoxFuture<'_, Result<Incarnation>> {
        self.store.incarnation()
    }

    fn health(&self) -> BoxFuture<'_, Result<()>> {
        self.store.health()
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats>> {
        self.store.stats()
    }
}
