//! Tables of users who are pinned together: fetched before a configuration that names them is taken up, and kept on disk
//! beside it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;
use tradewind_api::{Client, client};
use tradewind_core::{
    Digest, Timestamp,
    pins::table::{InvalidTable, Table},
    route::Route,
};

/// A table that takes longer is asked for anew: what comes after it waits meanwhile.
const FETCH_LIMIT: Duration = Duration::from_secs(120);

pub(crate) type Tables = HashMap<Digest, Arc<Table>>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot fetch the table {} of pinned users", digest.short())]
    Fetch { digest: Digest, source: Box<client::Error> },
    #[error("the table {} of pinned users did not come within {} s", digest.short(), FETCH_LIMIT.as_secs())]
    Slow { digest: Digest },
    #[error(transparent)]
    Unsound(#[from] Unsound),
}

/// Why some bytes are not the table that was named.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsound {
    #[error("the table {} of pinned users is damaged: its digest is {}", digest.short(), found.short())]
    Digest { digest: Digest, found: Digest },
    #[error("the table {} of pinned users is of no use", digest.short())]
    Invalid { digest: Digest, source: InvalidTable },
}

/// The tables that these routes name and that have not expired.
pub(crate) fn named(routes: &[Route], now: Timestamp) -> BTreeSet<Digest> {
    let tables = routes.iter().flat_map(|route| &route.pins.tables);
    tables.filter(|table| table.until > now).map(|table| table.digest).collect()
}

/// Fetches from control, or from another gateway, what is named and not held.
pub(crate) async fn fetch(client: &Client, named: BTreeSet<Digest>, held: &Tables) -> Result<Tables, Error> {
    let mut fetched = Tables::new();
    for digest in named.into_iter().filter(|digest| !held.contains_key(digest)) {
        let bytes = match timeout(FETCH_LIMIT, client.pin_table(&digest)).await {
            Ok(bytes) => bytes.map_err(|source| Error::Fetch { digest, source: source.into() })?,
            Err(_) => return Err(Error::Slow { digest }),
        };
        let checked = tokio::task::spawn_blocking(move || check(&digest, bytes)).await;
        let table = checked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        fetched.insert(digest, Arc::new(table));
    }
    Ok(fetched)
}

/// A table, if these bytes are the one that was named.
pub(crate) fn check(digest: &Digest, bytes: Vec<u8>) -> Result<Table, Unsound> {
    let found = Digest::from_bytes(*blake3::hash(&bytes).as_bytes());
    if found != *digest {
        return Err(Unsound::Digest { digest: *digest, found });
    }
    Table::read(bytes).map_err(|source| Unsound::Invalid { digest: *digest, source })
}
