//! The connection that writes, and what it keeps in memory about the database.

use std::{process, sync::Arc};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::broadcast;

use super::{
    SqliteOptions,
    apply::{self, Applied},
    leases::Leases,
    open::DirectoryLock,
    read,
    schema::{self, Failure, State},
    writer::{Recent, Work},
};
use crate::{Batch, Result, Revision, Selector, TxnResponse};

/// How many revisions a watch may fall behind before it reads the history.
const MAX_RECENT: usize = 256;
/// Revisions that weigh more are not kept in memory for the watches.
const MAX_RECENT_BYTES: usize = 64 * 1024;
/// The write-ahead log is copied into the database after about so many changed rows. It is never done on commit,
/// since SQLite would then report a failed copy as a failed commit.
const CHECKPOINT_ROWS: u64 = 1000;
/// Past this the log is made to begin anew: 128 MiB.
const MAX_LOG_PAGES: i64 = 32 * 1024;
/// Rows that are swept at once while there is nothing else to do.
const IDLE_SWEEP_ROWS: u64 = 512;

/// What deletes may take beyond the size limit, so that a full store can be emptied.
const RESERVED_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    state: State,
    max_bytes: u64,
    retained_revisions: u64,
    recent: broadcast::Sender<Recent>,
    /// Whether rows may be left that no revision sees.
    has_garbage: bool,
    rows_since_checkpoint: u64,
    /// Freed last.
    _lock: DirectoryLock,
}

/// What became of a group of work.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) responses: Vec<Result<TxnResponse>>,
    /// How many revisions it made.
    pub(super) revisions: u64,
}

impl Database {
    pub(super) fn new(connection: Connection, state: State, options: &SqliteOptions, lock: DirectoryLock) -> Self {
        Self {
            connection,
            state,
            max_bytes: options.max_bytes,
            retained_revisions: options.retained_revisions,
            recent: broadcast::Sender::new(MAX_RECENT),
            has_garbage: true,
            rows_since_checkpoint: 0,
            _lock: lock,
        }
    }

    pub(super) fn recent(&self) -> &broadcast::Sender<Recent> {
        &self.recent
    }

    pub(super) fn has_garbage(&self) -> bool {
        self.has_garbage
    }

    /// Applies the work in order and commits it as one SQLite transaction. On error nothing of it is kept.
    pub(super) fn commit(&mut self, work: &[&Work], leases: &Leases) -> rusqlite::Result<Committed> {
        let result = self.try_commit(work, leases);
        if let Err(error) = &result
            && !self.connection.is_autocommit()
        {
            abort("roll back", error);
        }
        result
    }

    fn try_commit(&mut self, work: &[&Work], leases: &Leases) -> rusqlite::Result<Committed> {
        let before = self.state;
        let puts = work.iter().any(|work| work.puts());
        schema::limit_size(
            &self.connection,
            if puts { self.max_bytes } else { self.max_bytes.saturating_add(RESERVED_BYTES) },
        )?;
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut group = Group { state: before, responses: Vec::new(), recent: Vec::new(), rows: 0 };
        for work in work {
            group.apply(&tx, work, leases, self.recent.receiver_count() > 0)?;
        }
        let Group { mut state, responses, recent, rows } = group;
        if state != before {
            let oldest = state.revision.get().saturating_sub(self.retained_revisions);
            state.compacted = state.compacted.max(Revision::new(oldest));
            // Twice what was added, so that it converges.
            let limit = 2 * rows + 1;
            self.has_garbage = apply::sweep(&tx, state.compacted, limit)? == limit;
            state.store(&tx)?;
            commit(tx)?;
            self.state = state;
        } else {
            tx.rollback()?;
        }
        let revisions = state.revision.get() - before.revision.get();
        for recent in recent {
            // Without watches there is nobody to tell.
            let _ = self.recent.send(recent);
        }
        self.checkpoint(rows);
        Ok(Committed { responses, revisions })
    }

    /// Takes some garbage away. If that fails, the next commit tries again.
    pub(super) fn sweep(&mut self) {
        match self.try_sweep() {
            Ok(swept) => {
                self.has_garbage = swept == IDLE_SWEEP_ROWS;
                self.checkpoint(swept);
            }
            Err(error) => {
                self.has_garbage = false;
                tracing::warn!(error = &error as &dyn std::error::Error, "the store was not swept");
            }
        }
    }

    fn try_sweep(&mut self) -> rusqlite::Result<u64> {
        schema::limit_size(&self.connection, self.max_bytes.saturating_add(RESERVED_BYTES))?;
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let swept = apply::sweep(&tx, self.state.compacted, IDLE_SWEEP_ROWS)?;
        commit(tx)?;
        Ok(swept)
    }

    fn checkpoint(&mut self, rows: u64) {
        self.rows_since_checkpoint += rows;
        if self.rows_since_checkpoint < CHECKPOINT_ROWS {
            return;
        }
        self.rows_since_checkpoint = 0;
        let checkpoint = |sql| self.connection.query_row(sql, [], |row| row.get::<_, i64>(1));
        // A log that is copied begins anew by itself when nobody reads it. Only when readers have kept it from doing
        // so for long are they waited for, and writers with them.
        let log_pages = checkpoint("PRAGMA wal_checkpoint(PASSIVE)").and_then(|pages| {
            if pages > MAX_LOG_PAGES { checkpoint("PRAGMA wal_checkpoint(RESTART)") } else { Ok(pages) }
        });
        match log_pages {
            Ok(_) => {}
            Err(error) if schema::is_disk_full(&error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no room to copy the log into the database");
            }
            Err(error) => abort("checkpoint", &error),
        }
    }
}

/// Work that is being applied within one SQLite transaction.
struct Group {
    state: State,
    responses: Vec<Result<TxnResponse>>,
    recent: Vec<Recent>,
    rows: u64,
}

impl Group {
    fn apply(&mut self, tx: &Transaction<'_>, work: &Work, leases: &Leases, watched: bool) -> rusqlite::Result<()> {
        let applied = match work {
            Work::Txn(txn) => apply::txn(tx, &mut self.state, leases, txn),
            Work::EndLease(lease) => apply::end_lease(tx, &mut self.state, *lease).map_err(Failure::from),
            Work::Compact(revision) => apply::compact(&mut self.state, *revision),
        };
        match applied {
            Ok(Applied { response, rows }) => {
                if rows > 0 {
                    let batch = if watched { self.batch(tx)? } else { None };
                    self.recent.push(Recent { revision: self.state.revision, batch });
                }
                self.rows += rows;
                self.responses.push(Ok(response));
                Ok(())
            }
            Err(Failure::Refused(error)) => {
                self.responses.push(Err(error));
                Ok(())
            }
            Err(Failure::Sqlite(error)) => Err(error),
        }
    }

    /// What the newest revision did, unless that is much.
    fn batch(&self, tx: &Transaction<'_>) -> rusqlite::Result<Option<Arc<Batch>>> {
        let everything = Selector::Prefix(String::new()).bounds();
        let mut stretch = read::changes(tx, &everything, self.state.revision, self.state.revision)?;
        let batch = stretch.batches.pop().expect("a revision has changes");
        let bytes: usize = batch.events.iter().map(read::event_bytes).sum();
        Ok((bytes <= MAX_RECENT_BYTES).then(|| Arc::new(batch)))
    }
}

fn commit(tx: Transaction<'_>) -> rusqlite::Result<()> {
    match tx.commit() {
        Err(error) if !schema::is_disk_full(&error) => abort("commit", &error),
        result => result,
    }
}

/// Nobody knows what is on the disk now, and only a new process that reads it again will.
fn abort(attempted: &'static str, error: &rusqlite::Error) -> ! {
    tracing::error!(
        error = error as &dyn std::error::Error,
        attempted,
        "the store failed to write to the disk: aborting"
    );
    process::abort()
}
