use std::{
    io,
    path::{Path, PathBuf},
};

use tradewind_core::Digest;

use super::{FETCH_STALL_LIMIT, FetchError};
use crate::{
    bundle,
    disk::{is_full, shown},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the bundle is refused")]
    Bundle(#[from] bundle::Error),
    #[error("no room under {}: the bundle needs {} more, {} are free", path.display(), shown(*needed), shown(*free))]
    NoRoom { path: PathBuf, needed: u64, free: u64 },
    #[error("the disk under {} is full", path.display())]
    DiskFull { path: PathBuf },
    #[error("cannot fetch blob {digest} from byte {offset} on")]
    Fetch { digest: Digest, offset: u64, source: FetchError },
    #[error("nothing more of blob {digest} arrived for {} s after byte {offset}", FETCH_STALL_LIMIT.as_secs())]
    Stalled { digest: Digest, offset: u64 },
    #[error("the transfer of blob {digest} ended at byte {received} of {size}")]
    Short { digest: Digest, received: u64, size: u64 },
    #[error("what arrived for blob {digest} is something else, twice")]
    WrongContent { digest: Digest },
    #[error("cannot {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    /// Whether the same call may succeed later by itself. Where it may, what was fetched so far is kept.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Bundle(_))
    }

    /// What the person who looks after the region can do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Bundle(error) => return error.hint(),
            Self::NoRoom { .. } | Self::DiskFull { .. } => {
                "free some space there, or undeploy models that nobody needs; it is tried again by itself"
            }
            Self::WrongContent { .. } => "the stored copy may be damaged: push the model again",
            Self::Fetch { .. } | Self::Stalled { .. } | Self::Short { .. } | Self::Io { .. } => return None,
        };
        Some(hint.to_owned())
    }

    pub(super) fn from_write(attempt: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) { Self::DiskFull { path } } else { Self::Io { attempt, path, source } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_own_error() {
        let full = Error::from_write("write in", Path::new("/data"), io::ErrorKind::StorageFull.into());
        assert_eq!(full.to_string(), "the disk under /data is full");
        let other = Error::from_write("write in", Path::new("/data"), io::ErrorKind::PermissionDenied.into());
        assert_eq!(other.to_string(), "cannot write in /data");
    }
}
