//! What every writer here does the same way: durable renames, room, and blocking threads.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use tradewind_core::monitor::disk::DiskRoom;

/// Left free on the disk, for logs and state of those who share it, in bytes.
const RESERVE_BYTES: u64 = 32 << 20;

/// Runs what blocks on a thread that may. It runs to its end even if the caller is dropped, so it owns whatever must
/// stay locked or in place until then.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only at the runtime's end, where nobody continues.
        Err(_) => std::future::pending().await,
    }
}

/// Makes renames, creations and removals in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Replaces a file as a whole, durably.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_directory(directory)
}

/// Creates a directory and its parents, durably as far as it creates them; empties nothing.
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    sync_directory(directory)?;
    directory.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_directory)
}

/// Removes what is in a directory, not the directory.
pub(crate) fn empty_directory(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}

/// Whether an error of a write says that there is no room, on the disk or in what its owner is allowed of it.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The room on the file system that a directory is on.
pub fn room(directory: &Path) -> io::Result<DiskRoom> {
    let disk = rustix::fs::statvfs(directory)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok(DiskRoom { free_bytes: bytes(disk.f_bavail), total_bytes: bytes(disk.f_blocks) })
}

/// `Some(free bytes)` when the disk under `directory` has no room for `needed` more.
pub(crate) fn lacks_room(directory: &Path, needed: u64) -> io::Result<Option<u64>> {
    let free = room(directory)?.free_bytes;
    Ok((!fits(needed, free)).then_some(free))
}

fn fits(needed: u64, free: u64) -> bool {
    needed == 0 || needed.saturating_add(RESERVE_BYTES) <= free
}

/// `1536` as `1.5 KB`.
pub(crate) fn shown(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KB", "MB", "GB", "TB"].into_iter().peekable();
    while let Some(unit) = units.next() {
        if value < 1024.0 || units.peek().is_none() {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_keeps_a_reserve() {
        assert!(fits(0, 0));
        assert!(fits(100, RESERVE_BYTES + 100));
        assert!(!fits(101, RESERVE_BYTES + 100));
        assert!(!fits(u64::MAX, u64::MAX - 1));
    }

    #[test]
    fn bytes_are_shown_with_a_unit() {
        assert_eq!([0, 1023, 1536, 64 << 30].map(shown), ["0 B", "1023 B", "1.5 KB", "64.0 GB"]);
    }
}
