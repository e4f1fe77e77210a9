//! Fetching the files of a bundle into partial files that survive crashes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt;
use tradewind_core::{Digest, bundle::BundleIndex};

use super::{Error, Fetch, FetchError, Held, OnProgress, Progress, check::hash};
use crate::{
    disk::{blocking, create_directory, lacks_room},
    writer::HashingWriter,
};

/// A transfer that brings nothing for this long is given up; the next call goes on from there.
pub const FETCH_STALL_LIMIT: Duration = Duration::from_secs(30);
/// How often a blob is fetched whole before its source is held to be wrong.
const CONTENT_ATTEMPTS: usize = 2;

pub(super) fn partial_directory(root: &Path, bundle: &Digest) -> PathBuf {
    root.join("partial").join(bundle.to_hex())
}

/// How one attempt at a blob ended, where it did not fail.
enum Outcome {
    Whole,
    /// It is not what its digest says.
    Wrong,
}

/// All blobs of one bundle on their way.
pub(super) struct Download {
    root: PathBuf,
    /// The installed files, altered or not: what is right of them need not be fetched.
    installed: PathBuf,
    partial: PathBuf,
    /// Size of each blob, and one path that it has in the bundle.
    blobs: BTreeMap<Digest, (u64, String)>,
    total: u64,
    /// What two paths share is fetched once, and needs room twice.
    needed: u64,
    held: Held,
}

impl Download {
    pub(super) fn new(root: &Path, index: &BundleIndex, bundle: Digest, held: Held) -> Self {
        let blobs: BTreeMap<_, _> =
            index.files.iter().map(|(path, file)| (file.digest, (file.size, path.clone()))).collect();
        Self {
            root: root.to_owned(),
            installed: root.join("bundles").join(bundle.to_hex()),
            partial: partial_directory(root, &bundle),
            total: blobs.values().map(|(size, _)| size).sum(),
            blobs,
            needed: index.bytes(),
            held,
        }
    }

    /// Brings every blob into its partial file, whole and checked.
    pub(super) async fn run(&self, fetch: &impl Fetch, on_progress: OnProgress<'_>) -> Result<(), Error> {
        self.prepare().await?;
        let mut done = 0;
        for (digest, (size, _)) in &self.blobs {
            let report = |here: u64| on_progress(Progress { done: done + here, total: self.total });
            self.bring(digest, *size, fetch, &report).await?;
            done += size;
        }
        on_progress(Progress { done, total: self.total });
        Ok(())
    }

    /// Makes room sure, and takes over what is installed already.
    async fn prepare(&self) -> Result<(), Error> {
        let (root, partial, installed) = (self.root.clone(), self.partial.clone(), self.installed.clone());
        let (blobs, needed, held) = (self.blobs.clone(), self.needed, self.held.clone());
        let prepared = blocking(move || {
            let _held = held;
            create_directory(&partial)?;
            let there: u64 =
                fs::read_dir(&partial)?.map(|entry| Ok(entry?.metadata()?.len())).sum::<io::Result<_>>()?;
            let needed = needed.saturating_sub(there);
            if let Some(free) = lacks_room(&root, needed)? {
                return Ok(Some((needed, free)));
            }
            for (digest, (size, path)) in &blobs {
                take_over(&installed.join(path), &partial.join(digest.to_hex()), digest, *size)?;
            }
            Ok(None)
        });
        match prepared.await.map_err(|source| Error::from_write("prepare an installation in", &self.root, source))? {
            Some((needed, free)) => Err(Error::NoRoom { path: self.root.clone(), needed, free }),
            None => Ok(()),
        }
    }

    async fn bring(
        &self,
        digest: &Digest,
        size: u64,
        fetch: &impl Fetch,
        report: &(impl Fn(u64) + Sync),
    ) -> Result<(), Error> {
        for _ in 0..CONTENT_ATTEMPTS {
            match self.attempt(digest, size, fetch, report).await? {
                Outcome::Whole => return Ok(()),
                // Whether the old part was damaged or the new one is wrong cannot be told: from zero, then.
                Outcome::Wrong => {
                    tracing::warn!(%digest, "what was fetched is not what its digest says");
                    let (path, held) = (self.partial.join(digest.to_hex()), self.held.clone());
                    let removed = blocking(move || {
                        let _held = held;
                        fs::remove_file(path)
                    });
                    removed.await.map_err(|source| Error::from_write("write in", &self.partial, source))?;
                }
            }
        }
        Err(Error::WrongContent { digest: *digest })
    }

    /// Goes on where the partial file ends.
    async fn attempt(
        &self,
        digest: &Digest,
        size: u64,
        fetch: &impl Fetch,
        report: &(impl Fn(u64) + Sync),
    ) -> Result<Outcome, Error> {
        let failed = |source| Error::from_write("write in", &self.partial, source);
        let mut writer = self.resume(digest).await.map_err(failed)?;
        if writer.taken() < size {
            let result = self.transfer(digest, size, fetch, &mut writer, report).await;
            // What came before it broke off is kept for the next call.
            writer.flush().await.map_err(failed)?;
            result?;
        }
        let whole = writer.taken() == size;
        let (found, _) = writer.finish().await.map_err(failed)?;
        Ok(if whole && found == *digest { Outcome::Whole } else { Outcome::Wrong })
    }

    async fn resume(&self, digest: &Digest) -> io::Result<HashingWriter<Held>> {
        let (path, held) = (self.partial.join(digest.to_hex()), self.held.clone());
        blocking(move || {
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
            let (_, hasher) = hash(&mut file)?;
            let there = hasher.count();
            Ok(HashingWriter::new(file, hasher, there, held))
        })
        .await
    }

    /// Takes what comes, up to one chunk beyond the size, which shows that it is wrong.
    async fn transfer(
        &self,
        digest: &Digest,
        size: u64,
        fetch: &impl Fetch,
        writer: &mut HashingWriter<Held>,
        report: &(impl Fn(u64) + Sync),
    ) -> Result<(), Error> {
        let broken = |offset, source: FetchError| Error::Fetch { digest: *digest, offset, source };
        let stalled = |offset| move |_| Error::Stalled { digest: *digest, offset };
        let offset = writer.taken();
        report(offset);
        let opened = tokio::time::timeout(FETCH_STALL_LIMIT, fetch.fetch(digest, offset)).await;
        let mut stream = opened.map_err(stalled(offset))?.map_err(|source| broken(offset, source))?;
        while writer.taken() <= size {
            let offset = writer.taken();
            let Some(bytes) = tokio::time::timeout(FETCH_STALL_LIMIT, stream.next()).await.map_err(stalled(offset))?
            else {
                break;
            };
            let bytes = bytes.map_err(|source| broken(offset, source))?;
            writer.write(&bytes).await.map_err(|source| Error::from_write("write in", &self.partial, source))?;
            report(writer.taken().min(size));
        }
        let received = writer.taken();
        if received < size { Err(Error::Short { digest: *digest, received, size }) } else { Ok(()) }
    }
}

/// Copies an installed file that is as it should be, unless more of it was fetched already. The copy is checked like
/// anything that was fetched.
fn take_over(installed: &Path, partial: &Path, digest: &Digest, size: u64) -> io::Result<()> {
    let right = |path: &Path| {
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
            && File::open(path).and_then(|mut file| hash(&mut file)).is_ok_and(|(found, _)| found == *digest)
    };
    if !partial.exists() && right(installed) {
        // Not `fs::copy`: the installed file is read-only, its copy must not be.
        io::copy(&mut File::open(installed)?, &mut File::create(partial)?)?;
    }
    Ok(())
}
