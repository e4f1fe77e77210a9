//! Tables of users who are pinned together: kept apart from the files of bundles, from when somebody puts one there until
//! no route names it.

use std::{collections::HashSet, time::Duration};

use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;
use tradewind_api::{Code, Problem};
use tradewind_artifacts::{BlobStore, blobs};
use tradewind_core::{
    Digest,
    pins::table::{TABLE_BYTES_LIMIT, Table},
    route::Route,
};

use crate::{api, keys, repository::Repository};

const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Whoever puts a table there has so long to pin its users.
const UNNAMED_FOR: Duration = Duration::from_secs(600);

/// How many users a table has, after a look at all of it.
pub(crate) async fn count(tables: &BlobStore, digest: &Digest) -> Result<u64, Problem> {
    let blob = match tables.read(digest, ..).await {
        Ok(blob) => blob,
        Err(blobs::Error::NotFound { .. }) => {
            let problem = Problem::new(Code::NotFound, format!("there is no table {}", digest.short()));
            return Err(
                problem.hint("pin its users with `tradewind route pin MODEL --file USERS`, which puts it there")
            );
        }
        Err(error) => return Err(api::blobs::problem(&error)),
    };
    if blob.size > TABLE_BYTES_LIMIT {
        return Err(too_large(blob.size));
    }
    let mut bytes = Vec::new();
    let read = blob.into_reader().read_to_end(&mut bytes).await;
    read.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, %digest, "a table of users cannot be read");
        Problem::new(Code::Internal, "the control plane's blob store failed").hint("see the control plane's log")
    })?;
    let checked = tokio::task::spawn_blocking(move || Table::read(bytes)).await;
    let table = match checked {
        Ok(table) => table,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    match table {
        Ok(table) => Ok(table.users() as u64),
        Err(invalid) => {
            Err(Problem::new(Code::Invalid, format!("{} is no table of users", digest.short()))
                .cause(invalid.to_string()))
        }
    }
}

pub(crate) fn too_large(size: u64) -> Problem {
    Problem::new(Code::TooLarge, format!("a table of users has at most {TABLE_BYTES_LIMIT} bytes, not {size}"))
}

/// Removes tables that nobody names any more, until told to stop.
pub(crate) async fn sweep(repository: Repository, tables: BlobStore, shutdown: CancellationToken) {
    loop {
        if shutdown.run_until_cancelled(tokio::time::sleep(SWEEP_INTERVAL)).await.is_none() {
            return;
        }
        match sweep_once(&repository, &tables, UNNAMED_FOR).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed tables of users that no route names"),
            Err(problem) => tracing::warn!(%problem, "tables of users are not swept"),
        }
    }
}

/// Expired tables that a route still names are kept: a gateway whose clock is behind asks for them.
async fn sweep_once(repository: &Repository, tables: &BlobStore, unnamed_for: Duration) -> Result<usize, Problem> {
    let routes = repository.list::<Route>(keys::ROUTES).await?.values();
    let named: HashSet<Digest> = routes.iter().flat_map(|route| &route.pins.tables).map(|table| table.digest).collect();
    tables.sweep(named, unnamed_for).await.map_err(|error| api::blobs::problem(&error))
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use bytes::Bytes;
    use futures_util::stream;
    use tradewind_core::{
        Timestamp,
        pins::{PinTable, Pins, table::KeyHash},
    };
    use tradewind_store::{Op, SqliteOptions, SqliteStore, Txn};

    use super::*;
    use crate::repository::put;

    async fn upload(tables: &BlobStore, content: &[u8]) -> Digest {
        let digest = Digest::from_bytes(*blake3::hash(content).as_bytes());
        let chunk = stream::iter([io::Result::Ok(Bytes::copy_from_slice(content))]);
        tables.put_stream(&digest, content.len() as u64, chunk).await.unwrap();
        digest
    }

    #[tokio::test]
    async fn a_table_stays_as_long_as_a_route_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("state"), SqliteOptions::default()).unwrap();
        let repository = Repository::new(Arc::new(store), None);
        let tables = BlobStore::open(directory.path().join("tables")).await.unwrap();
        let table = Table::of(["ada", "bob"].map(|user| KeyHash::of(user.as_bytes())).to_vec()).unwrap();
        let digest = upload(&tables, table.bytes()).await;
        assert_eq!(count(&tables, &digest).await.unwrap(), 2);

        let to = "live".parse().unwrap();
        let named = PinTable { digest, users: 2, to, until: Timestamp::MIN };
        let pins = Arc::new(Pins { tables: vec![named], ..Pins::default() });
        let route = Route { model: "digits".parse().unwrap(), committed: None, prepared: None, pins };
        let key = keys::route(&route.model);
        repository.commit(Txn::new().then(put(key.clone(), &route))).await.unwrap();
        assert_eq!(sweep_once(&repository, &tables, Duration::ZERO).await.unwrap(), 0);
        repository.commit(Txn::new().then(Op::delete(&key))).await.unwrap();
        assert_eq!(sweep_once(&repository, &tables, UNNAMED_FOR).await.unwrap(), 0, "it may be pinned again");
        assert_eq!(sweep_once(&repository, &tables, Duration::ZERO).await.unwrap(), 1);
        assert_eq!(count(&tables, &digest).await.unwrap_err().code, Code::NotFound);
    }

    #[tokio::test]
    async fn what_is_no_table_is_not_counted() {
        let directory = tempfile::tempdir().unwrap();
        let tables = BlobStore::open(directory.path()).await.unwrap();
        let digest = upload(&tables, b"ada\nbob\n").await;
        let problem = count(&tables, &digest).await.unwrap_err();
        assert_eq!((problem.code, problem.causes), (Code::Invalid, vec!["it is no table of users".to_owned()]));
    }
}
