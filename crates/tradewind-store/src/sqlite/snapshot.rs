//! Snapshots: a copy of the whole store in one file, and a new store from it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{
    open::{self, OpenError, io_error},
    read::Readers,
    schema::{self, SCHEMA_VERSION},
};
use crate::{Error, Incarnation, Result};

const RESTORING_FILE: &str = "store.db.restoring";

pub(super) async fn write(readers: &Readers, file: PathBuf) -> Result<()> {
    const ATTEMPTED: &str = "write a snapshot";
    let target = file.clone();
    readers
        .lend(ATTEMPTED, move |connection| {
            let target = target.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(target.clone()))?;
            connection.execute("VACUUM INTO ?1", [target])?;
            Ok(())
        })
        .await?;
    let sync = || -> std::io::Result<()> {
        File::open(&file)?.sync_all()?;
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    };
    sync().map_err(|source| Error::Backend { attempted: ATTEMPTED, source: Box::new(source) })
}

pub(super) fn restore(snapshot: &Path, directory: &Path) -> Result<(), OpenError> {
    let _lock = open::lock(directory)?;
    let (target, temporary) = (open::database_path(directory), directory.join(RESTORING_FILE));
    if target.exists() {
        return Err(OpenError::AlreadyExists { directory: directory.to_owned() });
    }
    fs::copy(snapshot, &temporary).map_err(io_error("copy", snapshot))?;
    begin_life(&temporary)?;
    File::open(&temporary).and_then(|file| file.sync_all()).map_err(io_error("sync", &temporary))?;
    fs::rename(&temporary, &target).map_err(io_error("rename", &temporary))?;
    open::sync_directory(directory)
}

/// Gives the copy an incarnation of its own.
fn begin_life(path: &Path) -> Result<(), OpenError> {
    let failed = |source: rusqlite::Error| OpenError::Database {
        attempted: "read the snapshot",
        path: path.to_owned(),
        source: Box::new(source),
    };
    let connection = Connection::open(path).map_err(failed)?;
    let found = schema::version(&connection).map_err(failed)?;
    if found != SCHEMA_VERSION {
        return Err(OpenError::Format { path: path.to_owned(), found });
    }
    schema::set_incarnation(&connection, &Incarnation::random()).map_err(failed)
}
