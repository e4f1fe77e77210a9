//! What is on the disk.
//!
//! `history` has one row for each change. A row is visible at a revision r if `revision <= r` and `superseded` is
//! null or above r. A delete is a row of version 0, superseded by its own revision, hence never visible. So what
//! compaction may take away is simply what is superseded at or before the compact revision, and a row that is
//! visible now is one that is not superseded.
//!
//! Values are rows of their own, by the id of the change: superseding a change must not write its value again, all
//! the less since a full store could then not delete.

use rusqlite::{
    Connection, Row, ToSql, Transaction,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use crate::{Error, Incarnation, KeyValue, LeaseId, Revision};

/// Kept in SQLite's `user_version`.
pub(super) const SCHEMA_VERSION: i64 = 1;
/// Kept in SQLite's `application_id`: "twnd".
const APPLICATION_ID: i64 = 0x7477_6e64;

pub(super) const PAGE_BYTES: u64 = 4096;

const TABLES: &str = "
    CREATE TABLE state (
        id          INTEGER PRIMARY KEY CHECK (id = 1),
        incarnation TEXT    NOT NULL,
        revision    INTEGER NOT NULL,
        compacted   INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE history (
        id              INTEGER PRIMARY KEY, -- in the order of changes, also within a revision
        key             BLOB    NOT NULL,
        revision        INTEGER NOT NULL,
        superseded      INTEGER,
        create_revision INTEGER NOT NULL,
        version         INTEGER NOT NULL,
        lease           INTEGER
    ) STRICT;

    CREATE TABLE contents (
        id    INTEGER PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT;

    CREATE UNIQUE INDEX history_by_key ON history (key, revision);
    CREATE INDEX history_by_revision ON history (revision);
    CREATE INDEX history_by_visibility ON history (superseded, key);
    CREATE INDEX history_by_lease ON history (lease) WHERE superseded IS NULL AND lease IS NOT NULL;
";

/// Why work on the database ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// The contract forbids it; the database is fine.
    Refused(Error),
    Sqlite(rusqlite::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Failure {
    pub(super) fn while_attempting(self, attempted: &'static str) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Sqlite(error) if is_disk_full(&error) => Error::DiskFull,
            Self::Sqlite(error) => Error::Backend { attempted, source: Box::new(error) },
        }
    }
}

pub(super) fn is_disk_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// The one row of `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) revision: Revision,
    /// The oldest revision that can be read.
    pub(super) compacted: Revision,
}

impl State {
    pub(super) fn load(tx: &Connection) -> rusqlite::Result<Self> {
        tx.prepare_cached("SELECT revision, compacted FROM state")?
            .query_row([], |row| Ok(Self { revision: row.get(0)?, compacted: row.get(1)? }))
    }

    pub(super) fn store(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.prepare_cached("UPDATE state SET revision = ?1, compacted = ?2")?
            .execute((self.revision, self.compacted))
            .map(drop)
    }
}

pub(super) fn create(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute_batch(TABLES)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    let (incarnation, first) = (Incarnation::random(), Revision::new(1));
    tx.execute("INSERT INTO state VALUES (1, ?1, ?2, ?3)", (incarnation.as_str(), first, Revision::NONE)).map(drop)
}

pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

pub(super) fn incarnation(connection: &Connection) -> rusqlite::Result<Incarnation> {
    connection.query_row("SELECT incarnation FROM state", [], |row| row.get(0).map(Incarnation::from_stored))
}

pub(super) fn set_incarnation(connection: &Connection, incarnation: &Incarnation) -> rusqlite::Result<()> {
    connection.execute("UPDATE state SET incarnation = ?1", [incarnation.as_str()]).map(drop)
}

/// How large the database may become; never below what it is.
pub(super) fn limit_size(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let pages = i64::try_from(bytes / PAGE_BYTES).unwrap_or(i64::MAX);
    connection.prepare_cached(&format!("PRAGMA max_page_count = {pages}"))?.query_row([], |_| Ok(()))
}

pub(super) fn bytes_in_use(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok((pages * pragma("page_size")?).unsigned_abs())
}

/// Reads six columns from `first` on: key, value, create revision, revision, version, lease. The value may be null.
pub(super) fn key_value(row: &Row<'_>, first: usize) -> rusqlite::Result<KeyValue> {
    Ok(KeyValue {
        key: row.get::<_, Key>(first)?.0,
        value: row.get::<_, Option<Vec<u8>>>(first + 1)?.unwrap_or_default().into(),
        create_revision: row.get(first + 2)?,
        mod_revision: row.get(first + 3)?,
        version: row.get::<_, i64>(first + 4)?.unsigned_abs(),
        lease: row.get(first + 5)?,
    })
}

/// Keys are kept as blobs, since the end of a prefix is not always UTF-8, and text never compares with blobs.
pub(super) struct Key(pub(super) String);

impl FromSql for Key {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let key = str::from_utf8(value.as_blob()?).map_err(FromSqlError::other)?;
        Ok(Self(key.to_owned()))
    }
}

macro_rules! integer {
    ($name:ident) => {
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                // Nothing stored is above i64::MAX, so what a caller asks beyond it compares as it should.
                Ok(i64::try_from(self.get()).unwrap_or(i64::MAX).into())
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let integer = value.as_i64()?;
                u64::try_from(integer).map(Self::new).map_err(|_| FromSqlError::OutOfRange(integer))
            }
        }
    };
}

integer!(Revision);
integer!(LeaseId);
