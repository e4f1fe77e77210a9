//! Leadership: a key attached to a lease. The lease alone does not exclude, so every write of a reconciler also
//! compares the create revision of that key.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tradewind_store::{Compare, LeaseId, Op, Revision, Store, Txn};

use crate::keys;

/// A leader that does not renew for this long is replaced.
const TERM: Duration = Duration::from_secs(10);
const RENEWAL: Duration = Duration::from_secs(3);
/// A candidate looks again this often.
const CANDIDATE_INTERVAL: Duration = Duration::from_millis(500);

/// One term of one leader.
#[derive(Debug, Clone)]
pub struct Term {
    create_revision: Revision,
}

impl Term {
    /// Makes the transaction fail when the term is over.
    pub fn guard(&self, txn: Txn) -> Txn {
        txn.when(Compare::create_revision(keys::LEADER, self.create_revision))
    }
}

pub(super) struct Leadership {
    store: Arc<dyn Store>,
    lease: LeaseId,
    term: Term,
}

/// Waits until this process leads; `None` when told to stop.
pub(super) async fn acquire(store: &Arc<dyn Store>, shutdown: &CancellationToken) -> Option<Leadership> {
    loop {
        match campaign(store).await {
            Ok(Some(leadership)) => return Some(leadership),
            Ok(None) => {}
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "cannot stand for leader"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(CANDIDATE_INTERVAL) => {}
        }
    }
}

async fn campaign(store: &Arc<dyn Store>) -> tradewind_store::Result<Option<Leadership>> {
    let lease = store.lease_grant(TERM).await?.id;
    let txn = Txn::new().when(Compare::absent(keys::LEADER)).then(Op::put_leased(keys::LEADER, "", lease));
    let response = store.txn(txn).await?;
    if !response.succeeded {
        store.lease_revoke(lease).await?;
        return Ok(None);
    }
    Ok(Some(Leadership { store: store.clone(), lease, term: Term { create_revision: response.revision } }))
}

impl Leadership {
    pub(super) fn term(&self) -> Term {
        self.term.clone()
    }

    /// Renews until the term is over, and ends the lease, so that the next leader need not wait. When the lease is
    /// lost, so is the term.
    pub(super) async fn keep(self, over: &CancellationToken) {
        loop {
            tokio::select! {
                () = over.cancelled() => break,
                () = tokio::time::sleep(RENEWAL) => {}
            }
            if let Err(error) = self.store.lease_keep_alive(self.lease).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "leadership is lost");
                over.cancel();
            }
        }
        // Whatever happens to the lease now, it ends by itself.
        let _ = self.store.lease_revoke(self.lease).await;
    }
}
