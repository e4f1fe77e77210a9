//! Reading: connections that only read, and the queries. Each read is one SQLite transaction, so it sees one revision.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Row, types::ValueRef};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::schema::{self, Failure, State};
use crate::{
    Batch, Error, Event, KeyValue, Range, RangeResponse, Result, Revision, Want,
    range::{MAX_PAGE_BYTES, successor},
};

/// How many reads happen at a time.
pub(super) const READERS: usize = 4;

/// The connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// One for each connection.
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>, tasks: TaskTracker) -> Self {
        let permits = Arc::new(Semaphore::new(connections.len()));
        Self { idle: Arc::new(Mutex::new(connections)), permits, tasks }
    }

    /// Reads one revision of the store.
    pub(super) async fn run<T, F>(&self, attempted: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        self.lend(attempted, |connection| work(&*connection.transaction()?)).await
    }

    /// Lends a connection that is in no transaction. A task of its own waits for it: a future that is kept but not
    /// polled, as one side of a `select!` may be, would hold its place in the queue, and with it everybody behind.
    pub(super) async fn lend<T, F>(&self, attempted: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, Failure> + Send + 'static,
    {
        let (permits, idle, tasks) = (Arc::clone(&self.permits), Arc::clone(&self.idle), self.tasks.clone());
        let read = self.tasks.spawn(async move {
            let permit = permits.acquire_owned().await.map_err(|_| Error::Closed)?;
            let mut lent = Lent::take(&idle, permit);
            match tasks.spawn_blocking(move || work(lent.connection())).await {
                Ok(result) => result.map_err(|failure| failure.while_attempting(attempted)),
                Err(join) => Err(Error::Backend { attempted, source: Box::new(join) }),
            }
        });
        match AbortOnDropHandle::new(read).await {
            Ok(result) => result,
            Err(join) => Err(Error::Backend { attempted, source: Box::new(join) }),
        }
    }

    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection that returns to the idle ones when dropped, before its permit does.
struct Lent {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
    permit: OwnedSemaphorePermit,
}

impl Lent {
    fn take(idle: &Arc<Mutex<Vec<Connection>>>, permit: OwnedSemaphorePermit) -> Self {
        let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { connection, idle: Arc::clone(idle), permit }
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("there is a connection for each permit until the permits are closed")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.permit.semaphore().is_closed() {
            idle.extend(self.connection.take());
        }
    }
}

/// Answers a range.
pub(super) fn range(tx: &Connection, range: &Range) -> Result<RangeResponse, Failure> {
    let state = State::load(tx)?;
    let at = range.at.unwrap_or(state.revision);
    if at > state.revision {
        return Err(Error::FutureRevision { asked: at, current: state.revision }.into());
    }
    if at < state.compacted {
        return Err(Error::Compacted { compact_revision: state.compacted }.into());
    }
    let (mut begin, end) = range.selector.bounds();
    if let Some(after) = &range.after {
        begin = begin.max(successor(after));
    }
    // What is visible now has an index of its own; the past is found among all changes of the keys.
    let (index, visible) = if at == state.revision {
        ("history_by_visibility", "superseded IS NULL AND ?3 >= revision")
    } else {
        ("history_by_key", "revision <= ?3 AND (superseded IS NULL OR superseded > ?3)")
    };
    let (table, keys) = (format!("history INDEXED BY {index}"), format!("{visible} AND key >= ?1 AND key < ?2"));
    if range.want == Want::Count {
        let sql = format!("SELECT count(*) FROM {table} WHERE {keys}");
        let count: i64 = tx.prepare_cached(&sql)?.query_row((&begin, &end, at), |row| row.get(0))?;
        return Ok(RangeResponse { revision: at, kvs: Vec::new(), more: false, count: count.unsigned_abs() });
    }
    let (value, contents) = if range.want == Want::Keys { ("NULL", "") } else { ("value", "JOIN contents USING (id)") };
    let sql = format!(
        "SELECT key, {value}, create_revision, revision, version, lease FROM {table} {contents}
         WHERE {keys} ORDER BY key"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let (kvs, more) =
        page(statement.query_map((&begin, &end, at), |row| schema::key_value(row, 0))?, range.page_keys())?;
    Ok(RangeResponse { revision: at, count: kvs.len() as u64, kvs, more })
}

/// Takes rows until a page is full.
fn page(
    rows: impl Iterator<Item = rusqlite::Result<KeyValue>>,
    limit: usize,
) -> rusqlite::Result<(Vec<KeyValue>, bool)> {
    let (mut kvs, mut bytes) = (Vec::new(), 0);
    for kv in rows {
        if kvs.len() == limit || bytes > MAX_PAGE_BYTES {
            return Ok((kvs, true));
        }
        let kv = kv?;
        bytes += kv.key.len() + kv.value.len();
        kvs.push(kv);
    }
    Ok((kvs, false))
}

/// A stretch of the history.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) batches: Vec<Batch>,
    /// The first revision that was not read.
    pub(super) next: Revision,
    /// Whether `next` exists already.
    pub(super) more: bool,
}

/// Reads what happened to the keys in `bounds` from a revision on; stops when a page is full, between revisions.
pub(super) fn stretch(tx: &Connection, bounds: &(Vec<u8>, Vec<u8>), from: Revision) -> Result<Stretch, Failure> {
    let state = State::load(tx)?;
    if from <= state.compacted {
        return Err(Error::Compacted { compact_revision: state.compacted }.into());
    }
    Ok(changes(tx, bounds, from, state.revision)?)
}

/// As [`stretch`], knowing that `from` is not compacted and where the history ends.
pub(super) fn changes(
    tx: &Connection,
    (begin, end): &(Vec<u8>, Vec<u8>),
    from: Revision,
    newest: Revision,
) -> rusqlite::Result<Stretch> {
    let mut statement = tx.prepare_cached(
        "SELECT h.key, hc.value, h.create_revision, h.revision, h.version, h.lease,
                p.key, pc.value, p.create_revision, p.revision, p.version, p.lease
         FROM history h INDEXED BY history_by_revision
         LEFT JOIN contents hc ON hc.id = h.id
         LEFT JOIN history p INDEXED BY history_by_visibility
                ON p.superseded = h.revision AND p.key = h.key AND p.revision < h.revision
         LEFT JOIN contents pc ON pc.id = p.id
         WHERE h.revision >= ?1 AND h.key >= ?2 AND h.key < ?3
         ORDER BY h.revision, h.id",
    )?;
    let mut rows = statement.query((from, begin, end))?;
    let (mut batches, mut bytes) = (Vec::<Batch>::new(), 0);
    while let Some(row) = rows.next()? {
        let revision: Revision = row.get(3)?;
        if batches.last().is_none_or(|batch| batch.revision < revision) {
            if bytes > MAX_PAGE_BYTES {
                return Ok(Stretch { batches, next: revision, more: true });
            }
            batches.push(Batch { revision, events: Vec::new() });
        }
        let event = event(row)?;
        bytes += event_bytes(&event);
        batches.last_mut().expect("one was just pushed").events.push(event);
    }
    Ok(Stretch { batches, next: from.max(newest.next()), more: false })
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let now = schema::key_value(row, 0)?;
    let existed = row.get_ref(6)? != ValueRef::Null;
    let prev = existed.then(|| schema::key_value(row, 6)).transpose()?;
    Ok(if now.version == 0 { Event::Delete { key: now.key, prev } } else { Event::Put { now, prev } })
}

/// What an event weighs in a page; the constant stands for what is not key or value.
pub(super) fn event_bytes(event: &Event) -> usize {
    const FIXED: usize = 128;
    let now = if let Event::Put { now, .. } = event { now.value.len() } else { 0 };
    FIXED + event.key().len() + now + event.prev().map_or(0, |prev| prev.value.len())
}
