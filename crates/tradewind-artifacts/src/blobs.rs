//! Control's content-addressed store: one file per digest, written once.
//!
//! `blobs/ab/abcd...` holds the content whose BLAKE3 digest is `abcd...`; `uploads/` holds what is not yet whole.
//! The seam to other stores is this type's methods.

use std::{
    collections::HashSet,
    fs, io,
    ops::{Bound, RangeBounds},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, pin_mut};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use tradewind_core::{Digest, bundle::BUNDLE_BYTES_LIMIT};

use crate::{
    disk::{blocking, create_directory, empty_directory, is_full, lacks_room, shown, sync_directory},
    install::{ByteStream, Fetch, FetchError},
    writer::HashingWriter,
};

/// How much of a blob is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the store has no blob {digest}")]
    NotFound { digest: Digest },
    #[error("the disk under {} is full: {} needed", path.display(), shown(*needed))]
    DiskFull { path: PathBuf, needed: u64 },
    #[error("a blob of {} is larger than the limit of {}", shown(*size), shown(BUNDLE_BYTES_LIMIT))]
    TooLarge { size: u64 },
    #[error("{received} bytes arrived for blob {digest}, which was announced with {announced}")]
    Size { digest: Digest, announced: u64, received: u64 },
    #[error("what arrived for blob {expected} has the digest {found}")]
    Digest { expected: Digest, found: Digest },
    #[error("the upload of blob {digest} broke off")]
    Upload { digest: Digest, source: FetchError },
    #[error("blob {digest} has {size} bytes, which the range is not within")]
    Range { digest: Digest, size: u64 },
    #[error("cannot {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    /// What the person who pushes or keeps the store can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::DiskFull { .. } => Some("free some space there and push again; nothing was changed"),
            Self::Size { .. } | Self::Digest { .. } => Some("the file changed or was damaged on its way: push again"),
            Self::Upload { .. } => Some("push again"),
            Self::TooLarge { .. } | Self::NotFound { .. } | Self::Range { .. } | Self::Io { .. } => None,
        }
    }
}

/// Blobs under a directory. Any number of tasks of one process may use it; one process at a time.
#[derive(Debug, Clone)]
pub struct BlobStore {
    root: PathBuf,
}

/// A blob, or a part of it, being read.
#[derive(Debug)]
pub struct Blob {
    /// Of the whole blob, in bytes.
    pub size: u64,
    /// Where this part begins.
    pub offset: u64,
    /// Of this part, in bytes.
    pub length: u64,
    reader: tokio::io::Take<tokio::fs::File>,
}

impl Blob {
    pub fn into_reader(self) -> impl tokio::io::AsyncRead + Send + Unpin + 'static {
        self.reader
    }

    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
        ReaderStream::with_capacity(self.reader, READ_BYTES)
    }
}

impl BlobStore {
    /// Opens or makes the store, and removes what uploads left behind when an earlier process ended.
    pub async fn open(root: impl AsRef<Path>) -> Result<Self, Error> {
        let root = root.as_ref().to_owned();
        blocking(move || {
            let store = Self { root };
            let prepare = || {
                create_directory(&store.blobs())?;
                create_directory(&store.uploads())?;
                empty_directory(&store.uploads())
            };
            prepare().map_err(|source| Error::Io { attempt: "prepare", path: store.root.clone(), source })?;
            Ok(store)
        })
        .await
    }

    pub async fn has(&self, digest: &Digest) -> Result<bool, Error> {
        match self.size(digest).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The size of a blob, in bytes.
    pub async fn size(&self, digest: &Digest) -> Result<u64, Error> {
        let path = self.path(digest);
        match tokio::fs::metadata(&path).await {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) => Err(self.failed("look at", digest, error)),
        }
    }

    /// Takes a blob in. When this returns `Ok`, it is durable: `true` if it is new, `false` if it was there, in which
    /// case the stream is not read. Whatever goes wrong, and when the future is dropped, nothing is left behind.
    pub async fn put_stream<E: Into<FetchError>>(
        &self,
        digest: &Digest,
        size: u64,
        content: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<bool, Error> {
        if size > BUNDLE_BYTES_LIMIT {
            return Err(Error::TooLarge { size });
        }
        match self.size(digest).await {
            // Another size under this name is damage, which the upload mends.
            Ok(there) if there == size => return self.touch(digest).await.map(|()| false),
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let failed = |attempt| {
            move |source: io::Error| {
                let path = self.uploads();
                if is_full(&source) {
                    Error::DiskFull { path, needed: size }
                } else {
                    Error::Io { attempt, path, source }
                }
            }
        };
        let uploads = self.uploads();
        let temporary = blocking(move || {
            if lacks_room(&uploads, size)?.is_some() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let temporary = tempfile::NamedTempFile::new_in(uploads)?;
            Ok((temporary.as_file().try_clone()?, temporary))
        });
        let (file, temporary) = temporary.await.map_err(failed("write in"))?;

        let mut writer = HashingWriter::new(file, blake3::Hasher::new(), 0, temporary);
        pin_mut!(content);
        while let Some(bytes) = content.next().await {
            let bytes = bytes.map_err(|error| Error::Upload { digest: *digest, source: error.into() })?;
            let received = writer.taken() + bytes.len() as u64;
            if received > size {
                return Err(Error::Size { digest: *digest, announced: size, received });
            }
            writer.write(&bytes).await.map_err(failed("write in"))?;
        }
        let received = writer.taken();
        if received != size {
            return Err(Error::Size { digest: *digest, announced: size, received });
        }
        let (found, temporary) = writer.finish().await.map_err(failed("write in"))?;
        if found != *digest {
            return Err(Error::Digest { expected: *digest, found });
        }
        let path = self.path(digest);
        blocking(move || persist(temporary, &path)).await.map_err(failed("keep a blob from"))?;
        Ok(true)
    }

    /// Reads a blob, or a part of it: `read(&digest, offset..)` goes on from an offset.
    pub async fn read(&self, digest: &Digest, range: impl RangeBounds<u64> + Send) -> Result<Blob, Error> {
        let failed = |error| self.failed("read", digest, error);
        let mut file = tokio::fs::File::open(self.path(digest)).await.map_err(failed)?;
        let size = file.metadata().await.map_err(failed)?.len();
        let outside = Error::Range { digest: *digest, size };
        let offset = match range.start_bound() {
            Bound::Included(&start) => Some(start),
            Bound::Excluded(&before) => before.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1).min(size),
            Bound::Excluded(&end) => end.min(size),
            Bound::Unbounded => size,
        };
        // `size..` is the empty rest, which a fetch that was cut at the very end asks for.
        let Some(offset) = offset.filter(|&offset| offset <= end) else { return Err(outside) };
        file.seek(io::SeekFrom::Start(offset)).await.map_err(failed)?;
        let length = end - offset;
        Ok(Blob { size, offset, length, reader: file.take(length) })
    }

    /// Removes a blob; one that is not there is removed already.
    pub async fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.path(digest);
        let removed = blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.and_then(|()| path.parent().map_or(Ok(()), sync_directory)),
        });
        removed.await.map_err(|error| self.failed("remove", digest, error))
    }

    /// Removes all blobs but those to keep and those that were put in the last `unused_for`: whoever has put one may not
    /// have said yet what it is for. How many were removed.
    pub async fn sweep(&self, keep: HashSet<Digest>, unused_for: Duration) -> Result<usize, Error> {
        let (blobs, path) = (self.blobs(), self.blobs());
        let swept = blocking(move || {
            let mut removed = 0;
            for directory in fs::read_dir(blobs)? {
                let directory = directory?.path();
                for blob in fs::read_dir(&directory)? {
                    let blob = blob?;
                    let digest = blob.file_name().to_str().and_then(|name| name.parse().ok());
                    let age = blob.metadata()?.modified()?.elapsed().unwrap_or_default();
                    if digest.is_some_and(|digest| !keep.contains(&digest)) && age >= unused_for {
                        fs::remove_file(blob.path())?;
                        removed += 1;
                    }
                }
                sync_directory(&directory)?;
            }
            Ok(removed)
        });
        swept.await.map_err(|source| Error::Io { attempt: "sweep", path, source })
    }

    /// The sum of all blobs' sizes; looks at each of them.
    pub async fn bytes_stored(&self) -> Result<u64, Error> {
        let blobs = self.blobs();
        let path = blobs.clone();
        let sum = blocking(move || {
            let mut sum = 0;
            for directory in fs::read_dir(blobs)? {
                for blob in fs::read_dir(directory?.path())? {
                    match blob?.metadata() {
                        Ok(metadata) => sum += metadata.len(),
                        // Removed since it was listed.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok(sum)
        });
        sum.await.map_err(|source| Error::Io { attempt: "list", path, source })
    }

    /// It was put again now.
    async fn touch(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.path(digest);
        let touched = blocking(move || fs::File::open(path)?.set_modified(SystemTime::now()));
        touched.await.map_err(|error| self.failed("touch", digest, error))
    }

    fn failed(&self, attempt: &'static str, digest: &Digest, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound { digest: *digest },
            _ => Error::Io { attempt, path: self.path(digest), source },
        }
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        self.blobs().join(&hex[..2]).join(hex)
    }
}

/// Moves a whole upload to its place; its content is durable already.
fn persist(temporary: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    create_directory(directory)?;
    temporary.persist(path)?;
    sync_directory(directory)
}

/// So that control can install a bundle for itself, to inspect it.
impl Fetch for BlobStore {
    async fn fetch(&self, digest: &Digest, offset: u64) -> Result<ByteStream, FetchError> {
        let blob = self.read(digest, offset..).await?;
        Ok(blob.into_stream().map(|bytes| bytes.map_err(FetchError::from)).boxed())
    }
}
