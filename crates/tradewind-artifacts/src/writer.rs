//! A stream of bytes on its way into a file, hashed as it is written.

use std::{fs::File, io, os::unix::fs::FileExt};

use tradewind_core::Digest;

use crate::disk::blocking;

/// Bytes collected before they are written, so that small chunks do not cost a thread hop each.
const BATCH_BYTES: usize = 1 << 20;

/// Writes and hashes in batches, on blocking threads. `K` is kept until the last write that was begun has ended, even
/// when the writer is dropped before: a lock on the file, or the right to remove it.
#[derive(Debug)]
pub(crate) struct HashingWriter<K> {
    state: Option<State<K>>,
    /// One piece, so that a million tiny chunks do not become as many writes.
    batch: Vec<u8>,
    written: u64,
}

#[derive(Debug)]
struct State<K> {
    file: File,
    hasher: blake3::Hasher,
    keep: K,
}

impl<K: Send + 'static> HashingWriter<K> {
    /// Goes on at `written`, the bytes that `hasher` has seen and `file` holds.
    pub(crate) fn new(file: File, hasher: blake3::Hasher, written: u64, keep: K) -> Self {
        Self { state: Some(State { file, hasher, keep }), batch: Vec::new(), written }
    }

    /// Bytes taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.written + self.batch.len() as u64
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.batch.extend_from_slice(bytes);
        if self.batch.len() >= BATCH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Writes what is collected; after an error or a dropped call the writer is of no more use.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut state = self.state.take().ok_or_else(broken)?;
        let batch = std::mem::take(&mut self.batch);
        let at = self.written;
        let (state, mut batch) = blocking(move || {
            state.file.write_all_at(&batch, at)?;
            state.hasher.update(&batch);
            io::Result::Ok((state, batch))
        })
        .await?;
        self.state = Some(state);
        self.written += batch.len() as u64;
        batch.clear();
        self.batch = batch;
        Ok(())
    }

    /// Writes what is left and makes it durable.
    pub(crate) async fn finish(mut self) -> io::Result<(Digest, K)> {
        self.flush().await?;
        let state = self.state.take().ok_or_else(broken)?;
        blocking(move || {
            state.file.sync_all()?;
            Ok((Digest::from_bytes(*state.hasher.finalize().as_bytes()), state.keep))
        })
        .await
    }
}

fn broken() -> io::Error {
    io::Error::other("an earlier write failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_told_as_such() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = HashingWriter::new(file, blake3::Hasher::new(), 0, ());
        writer.write(b"x").await.unwrap();
        let error = writer.finish().await.unwrap_err();
        assert!(crate::disk::is_full(&error), "{error:?}");
    }

    #[tokio::test]
    async fn small_and_large_chunks_give_the_digest_of_the_whole() {
        let content = vec![7; 3 * BATCH_BYTES + 5];
        let file = tempfile::tempfile().unwrap();
        let mut writer = HashingWriter::new(file.try_clone().unwrap(), blake3::Hasher::new(), 0, ());
        let (small, large) = content.split_at(10_000);
        for chunk in small.chunks(7).chain([large]) {
            writer.write(chunk).await.unwrap();
        }
        assert_eq!(writer.taken(), content.len() as u64);
        let (digest, ()) = writer.finish().await.unwrap();
        assert_eq!(digest.as_bytes(), blake3::hash(&content).as_bytes());
        assert_eq!(file.metadata().unwrap().len(), content.len() as u64);
    }
}
