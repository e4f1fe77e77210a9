//! Applies one piece of work to the database, within the writer's transaction.

use rusqlite::{OptionalExtension, Transaction};

use super::{
    leases::Leases,
    schema::{self, Failure, State},
};
use crate::{Compare, Error, LeaseId, Op, Revision, Selector, Target, Txn, TxnResponse};

/// Applies the transaction; `state` moves on if it changed something. A refusal changes neither.
pub(super) fn txn(tx: &Transaction<'_>, state: &mut State, leases: &Leases, txn: &Txn) -> Result<Applied, Failure> {
    for compare in &txn.compares {
        if !holds(tx, compare)? {
            return Ok(Applied::nothing(state, false));
        }
    }
    for op in &txn.ops {
        if let Op::Put { lease: Some(lease), .. } = op
            && !leases.is_alive(*lease)
        {
            return Err(Error::LeaseNotFound(*lease).into());
        }
    }
    let revision = state.revision.next();
    let (mut put, mut deleted) = (0, 0);
    for op in &txn.ops {
        match op {
            Op::Put { key, value, lease } => {
                self::put(tx, revision, key, value, *lease)?;
                put += 1;
            }
            Op::Delete(selector) => deleted += delete(tx, revision, selector)?,
        }
    }
    Ok(finish(state, put, deleted))
}

/// Deletes the keys of one lease.
pub(super) fn end_lease(tx: &Transaction<'_>, state: &mut State, lease: LeaseId) -> rusqlite::Result<Applied> {
    let revision = state.revision.next();
    tx.prepare_cached(
        "INSERT INTO history (key, revision, superseded, create_revision, version)
         SELECT key, ?1, ?1, 0, 0 FROM history WHERE superseded IS NULL AND lease = ?2 ORDER BY key",
    )?
    .execute((revision, lease))?;
    let deleted = tx
        .prepare_cached("UPDATE history SET superseded = ?1 WHERE superseded IS NULL AND lease = ?2")?
        .execute((revision, lease))?;
    Ok(finish(state, 0, deleted as u64))
}

/// Deletes the keys of every lease, in one revision.
pub(super) fn end_all_leases(tx: &Transaction<'_>, state: &mut State) -> rusqlite::Result<Applied> {
    let revision = state.revision.next();
    tx.execute(
        "INSERT INTO history (key, revision, superseded, create_revision, version)
         SELECT key, ?1, ?1, 0, 0 FROM history WHERE superseded IS NULL AND lease IS NOT NULL ORDER BY key",
        [revision],
    )?;
    let deleted =
        tx.execute("UPDATE history SET superseded = ?1 WHERE superseded IS NULL AND lease IS NOT NULL", [revision])?;
    Ok(finish(state, 0, deleted as u64))
}

/// Moves the compact revision; [`sweep`] takes the rows away later.
pub(super) fn compact(state: &mut State, revision: Revision) -> Result<Applied, Failure> {
    if revision > state.revision {
        return Err(Error::FutureRevision { asked: revision, current: state.revision }.into());
    }
    if revision <= state.compacted {
        return Err(Error::Compacted { compact_revision: state.compacted }.into());
    }
    state.compacted = revision;
    Ok(Applied::nothing(state, true))
}

/// Takes away at most `limit` rows that no revision sees any more, and says how many there were.
pub(super) fn sweep(tx: &Transaction<'_>, compacted: Revision, limit: u64) -> rusqlite::Result<u64> {
    let mut swept = 0;
    let mut garbage = tx.prepare_cached(
        "SELECT id FROM history INDEXED BY history_by_visibility WHERE superseded <= ?1 ORDER BY superseded LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let ids: Vec<i64> = garbage.query_map((compacted, limit), |row| row.get(0))?.collect::<Result<_, _>>()?;
    for id in ids {
        tx.prepare_cached("DELETE FROM contents WHERE id = ?1")?.execute([id])?;
        swept += tx.prepare_cached("DELETE FROM history WHERE id = ?1")?.execute([id])?;
    }
    Ok(swept as u64)
}

/// What a piece of work did.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) response: TxnResponse,
    /// Rows that it added to the history.
    pub(super) rows: u64,
}

impl Applied {
    fn nothing(state: &State, succeeded: bool) -> Self {
        Self { response: TxnResponse { succeeded, revision: state.revision, deleted: 0 }, rows: 0 }
    }
}

fn finish(state: &mut State, put: u64, deleted: u64) -> Applied {
    let rows = put + deleted;
    if rows > 0 {
        state.revision = state.revision.next();
    }
    Applied { response: TxnResponse { succeeded: true, revision: state.revision, deleted }, rows }
}

fn holds(tx: &Transaction<'_>, compare: &Compare) -> rusqlite::Result<bool> {
    let found = tx
        .prepare_cached(
            "SELECT h.key, c.value, h.create_revision, h.revision, h.version, h.lease
             FROM history h INDEXED BY history_by_visibility JOIN contents c USING (id)
             WHERE h.superseded IS NULL AND h.key = ?1",
        )?
        .query_row([compare.key.as_bytes()], |row| schema::key_value(row, 0))
        .optional()?;
    let (create_revision, mod_revision, version) = found
        .as_ref()
        .map_or((Revision::NONE, Revision::NONE, 0), |kv| (kv.create_revision, kv.mod_revision, kv.version));
    Ok(match &compare.target {
        Target::CreateRevision(wanted) => compare.relation.holds(&create_revision, wanted),
        Target::ModRevision(wanted) => compare.relation.holds(&mod_revision, wanted),
        Target::Version(wanted) => compare.relation.holds(&version, wanted),
        Target::Value(wanted) => found.is_some_and(|kv| compare.relation.holds(&kv.value, wanted)),
    })
}

fn put(
    tx: &Transaction<'_>,
    revision: Revision,
    key: &str,
    value: &[u8],
    lease: Option<LeaseId>,
) -> rusqlite::Result<()> {
    let former: Option<(Revision, i64)> = tx
        .prepare_cached(
            "UPDATE history INDEXED BY history_by_visibility SET superseded = ?1
             WHERE superseded IS NULL AND key = ?2 RETURNING create_revision, version",
        )?
        .query_row((revision, key.as_bytes()), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (create_revision, version) = former.unwrap_or((revision, 0));
    tx.prepare_cached(
        "INSERT INTO history (key, revision, create_revision, version, lease) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((key.as_bytes(), revision, create_revision, version + 1, lease))?;
    tx.prepare_cached("INSERT INTO contents VALUES (?1, ?2)")?.execute((tx.last_insert_rowid(), value)).map(drop)
}

fn delete(tx: &Transaction<'_>, revision: Revision, selector: &Selector) -> rusqlite::Result<u64> {
    let (begin, end) = selector.bounds();
    tx.prepare_cached(
        "INSERT INTO history (key, revision, superseded, create_revision, version)
         SELECT key, ?1, ?1, 0, 0 FROM history INDEXED BY history_by_visibility
         WHERE superseded IS NULL AND key >= ?2 AND key < ?3 ORDER BY key",
    )?
    .execute((revision, &begin, &end))?;
    let deleted = tx
        .prepare_cached(
            "UPDATE history INDEXED BY history_by_visibility SET superseded = ?1
             WHERE superseded IS NULL AND key >= ?2 AND key < ?3",
        )?
        .execute((revision, &begin, &end))?;
    Ok(deleted as u64)
}
