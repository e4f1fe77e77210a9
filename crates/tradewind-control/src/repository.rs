//! Typed access to the store: every read decodes, every write encodes, nothing else touches keys' bytes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tradewind_core::stored::{self, StoredForm};
use tradewind_store::{Compare, KeyValue, Op, Range, Revision, Store, Txn};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the store refused or failed")]
    Store(#[from] tradewind_store::Error),
    #[error("the store holds something unreadable under `{key}`")]
    Unreadable { key: String, source: stored::Error },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A value, and the revision that last changed it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept<T> {
    pub key: String,
    pub value: T,
    pub mod_revision: Revision,
}

impl<T> Kept<T> {
    /// Holds while nobody else has written the value.
    pub fn unchanged(&self) -> Compare {
        Compare::mod_revision(&self.key, self.mod_revision)
    }
}

/// Everything of one kind, as it was at one revision.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    pub revision: Revision,
    pub items: Vec<Kept<T>>,
}

impl<T> Listed<T> {
    pub fn values(self) -> Vec<T> {
        self.items.into_iter().map(|kept| kept.value).collect()
    }
}

#[derive(Debug, Clone)]
pub struct Repository {
    store: Arc<dyn Store>,
    commits: Arc<AtomicU64>,
    /// For tests of recovery: the process kills itself when it has committed this often.
    kill_after_commits: Option<u64>,
}

impl Repository {
    pub fn new(store: Arc<dyn Store>, kill_after_commits: Option<u64>) -> Self {
        Self { store, commits: Arc::default(), kill_after_commits }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub async fn get<T: StoredForm>(&self, key: String) -> Result<Option<Kept<T>>> {
        let response = self.store.range(Range::key(key)).await?;
        response.kvs.into_iter().next().map(decode).transpose()
    }

    /// All pages, read at one pinned revision.
    pub async fn list<T: StoredForm>(&self, prefix: impl Into<String>) -> Result<Listed<T>> {
        self.list_from(prefix.into(), None).await
    }

    /// As [`list`](Self::list), as it was at a revision, so that several lists can show one moment.
    pub async fn list_at<T: StoredForm>(&self, prefix: impl Into<String>, revision: Revision) -> Result<Listed<T>> {
        self.list_from(prefix.into(), Some(revision)).await
    }

    async fn list_from<T: StoredForm>(&self, prefix: String, revision: Option<Revision>) -> Result<Listed<T>> {
        let mut items = Vec::new();
        let mut range = Range { at: revision, ..Range::prefix(prefix.clone()) };
        loop {
            let response = self.store.range(range).await?;
            let last = response.kvs.last().map(|kv| kv.key.clone());
            for kv in response.kvs {
                items.push(decode(kv)?);
            }
            match last {
                Some(last) if response.more => {
                    range = Range::prefix(prefix.clone()).at(response.revision).after(last);
                }
                _ => return Ok(Listed { revision: response.revision, items }),
            }
        }
    }

    /// Commits; `None` if a comparison did not hold, and nothing was changed.
    pub async fn commit(&self, txn: Txn) -> Result<Option<Revision>> {
        let response = self.store.txn(txn).await?;
        if !response.succeeded {
            return Ok(None);
        }
        if Some(self.commits.fetch_add(1, Ordering::Relaxed) + 1) == self.kill_after_commits {
            kill_this_process();
        }
        Ok(Some(response.revision))
    }
}

fn kill_this_process() -> ! {
    let kill = rustix::process::Signal::KILL;
    rustix::process::kill_process(rustix::process::getpid(), kill).expect("a process may signal itself");
    loop {
        std::thread::park();
    }
}

pub fn decode<T: StoredForm>(kv: KeyValue) -> Result<Kept<T>> {
    let value = stored::decode(&kv.value).map_err(|source| Error::Unreadable { key: kv.key.clone(), source })?;
    Ok(Kept { key: kv.key, value, mod_revision: kv.mod_revision })
}

/// Puts a value in its stored form.
pub fn put<T: StoredForm>(key: impl Into<String>, value: &T) -> Op {
    Op::put(key, stored::encode(value))
}
