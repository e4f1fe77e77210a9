//! What a switch costs where each user has a route of its own: a table `user -> slot` in SQLite, under the settings of
//! control's store, and each change of it told to a follower.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::{follower::Follower, stored_bytes, user};

/// Rows that are filled in, and followers told, at a time when it is set up.
const FILL: usize = 10_000;

/// Users with a route each, in a database, and one process that follows.
#[derive(Debug)]
pub(super) struct Peer {
    users: usize,
    slot: u8,
    database: Connection,
    follower: Follower,
    directory: TempDir,
}

/// A switch, or as much of it as there was time for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    pub(super) users: usize,
    pub(super) took: Duration,
}

impl Moved {
    pub(super) fn per_second(&self) -> f64 {
        self.users as f64 / self.took.as_secs_f64()
    }
}

impl Peer {
    pub(super) fn start(users: usize) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut database = Connection::open(directory.path().join("users.db")).context("opening a database")?;
        database.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        database.pragma_update(None, "synchronous", "FULL")?;
        database.execute_batch("CREATE TABLE users (user TEXT PRIMARY KEY, slot INTEGER NOT NULL) WITHOUT ROWID")?;
        let mut follower = Follower::start()?;
        let filling = database.transaction()?;
        {
            let mut insert = filling.prepare("INSERT INTO users VALUES (?1, 0)")?;
            for from in (0..users).step_by(FILL) {
                let keys: Vec<String> = (from..users.min(from + FILL)).map(user).collect();
                keys.iter().try_for_each(|key| insert.execute([key]).map(drop))?;
                follower.tell(&keys, 0)?;
            }
        }
        filling.commit()?;
        follower.settle()?;
        Ok(Self { users, slot: 0, database, follower, directory })
    }

    /// Gives all users the other slot, so many in one transaction, and waits until the follower has it; gives up after
    /// `limit`.
    pub(super) fn switch(&mut self, batch: usize, limit: Duration) -> Result<Moved> {
        self.slot = 1 - self.slot;
        let began = Instant::now();
        let mut moved = 0;
        while moved < self.users && began.elapsed() < limit {
            let keys: Vec<String> = (moved..self.users.min(moved + batch)).map(user).collect();
            let changing = self.database.transaction()?;
            {
                let mut update = changing.prepare_cached("UPDATE users SET slot = ?1 WHERE user = ?2")?;
                keys.iter().try_for_each(|key| update.execute(params![self.slot, key]).map(drop))?;
            }
            changing.commit()?;
            self.follower.tell(&keys, self.slot)?;
            moved += keys.len();
        }
        self.follower.settle()?;
        Ok(Moved { users: moved, took: began.elapsed() })
    }

    /// Bytes on the disk, and of the follower's memory.
    pub(super) fn space(&mut self) -> Result<(u64, u64)> {
        Ok((stored_bytes(self.directory.path(), "")?, self.follower.settle()?))
    }
}
