//! Opening a data directory: lock, tables, connections.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{
    SqliteOptions, apply,
    database::Database,
    read::READERS,
    schema::{self, PAGE_BYTES, SCHEMA_VERSION, State},
};
use crate::Incarnation;

const DATABASE_FILE: &str = "store.db";
const LOCK_FILE: &str = "lock";
/// How long to wait for another connection, such as an operator's `sqlite3`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The write-ahead log is cut down to this when it begins anew.
const LOG_BYTES: i64 = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another process has the store in {} open", directory.display())]
    AlreadyOpen { directory: PathBuf },
    #[error("{} already holds a store", directory.display())]
    AlreadyExists { directory: PathBuf },
    #[error("the store in {} has format {found}, this program reads {SCHEMA_VERSION}", path.display())]
    Format { path: PathBuf, found: i64 },
    #[error("failed to {attempted} {}", path.display())]
    Io { attempted: &'static str, path: PathBuf, source: io::Error },
    #[error("failed to {attempted} {}", path.display())]
    Database { attempted: &'static str, path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
}

#[derive(Debug)]
pub(super) struct Opened {
    pub(super) incarnation: Incarnation,
    pub(super) database: Database,
    pub(super) readers: Vec<Connection>,
}

pub(super) fn open(directory: &Path, options: &SqliteOptions) -> Result<Opened, OpenError> {
    let lock = lock(directory)?;
    let path = database_path(directory);
    let failed = |source: rusqlite::Error| OpenError::Database {
        attempted: "open the database",
        path: path.clone(),
        source: Box::new(source),
    };
    let mut connection = open_writer(&path).map_err(failed)?;
    let found = schema::version(&connection).map_err(failed)?;
    if found != 0 && found != SCHEMA_VERSION {
        return Err(OpenError::Format { path, found });
    }
    let state = prepare(&mut connection, found == 0).map_err(failed)?;
    let incarnation = schema::incarnation(&connection).map_err(failed)?;
    let readers = (0..READERS).map(|_| open_reader(&path)).collect::<Result<_, _>>().map_err(failed)?;
    sync_directory(directory)?;
    Ok(Opened { incarnation, database: Database::new(connection, state, options, lock), readers })
}

/// Keeps other processes out of a directory.
#[derive(Debug)]
pub(super) struct DirectoryLock(File);

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing the file would do, were it not for a child that was forked and has not executed its program yet.
        // If this fails, closing it is what is left.
        let _ = self.0.unlock();
    }
}

/// Makes the directory if need be, and locks it.
pub(super) fn lock(directory: &Path) -> Result<DirectoryLock, OpenError> {
    if !directory.exists() {
        // Nobody else on the machine needs to read what is kept.
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory).map_err(io_error("create", directory))?;
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_directory(parent)?;
        }
    }
    let path = directory.join(LOCK_FILE);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(DirectoryLock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::AlreadyOpen { directory: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
    }
}

pub(super) fn database_path(directory: &Path) -> PathBuf {
    directory.join(DATABASE_FILE)
}

pub(super) fn sync_directory(directory: &Path) -> Result<(), OpenError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(io_error("sync", directory))
}

pub(super) fn io_error(attempted: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io { attempted, path: path.to_owned(), source }
}

fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES.cast_signed())?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Makes the tables of a new store, and ends the leases of the process that had an old one.
fn prepare(connection: &mut Connection, new: bool) -> rusqlite::Result<State> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if new {
        schema::create(&tx)?;
    }
    let mut state = State::load(&tx)?;
    apply::end_all_leases(&tx, &mut state)?;
    state.store(&tx)?;
    tx.commit()?;
    Ok(state)
}
