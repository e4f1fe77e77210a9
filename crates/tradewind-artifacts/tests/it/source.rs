//! Where blobs come from in tests: memory, with the faults that a test asks for.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tradewind_artifacts::{ByteStream, Fetch, FetchError};
use tradewind_core::{
    Digest,
    bundle::{BundleFile, BundleIndex},
};

const CHUNK: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct Source {
    blobs: BTreeMap<Digest, Vec<u8>>,
    /// The stream breaks after this many bytes of each fetch.
    pub(crate) breaks_after: Option<usize>,
    /// The first so many fetches give something else.
    pub(crate) lies: AtomicUsize,
    /// Which offsets were asked for.
    pub(crate) offsets: Mutex<Vec<u64>>,
}

impl Source {
    pub(crate) fn new(files: &[(&str, &[u8])]) -> (Self, BundleIndex) {
        let mut source = Self::default();
        let mut index = BundleIndex::default();
        for (path, content) in files {
            let digest = digest_of(content);
            source.blobs.insert(digest, content.to_vec());
            index
                .files
                .insert((*path).to_owned(), BundleFile { size: content.len() as u64, digest, executable: false });
        }
        (source, index)
    }

    pub(crate) fn breaking_after(mut self, bytes: usize) -> Self {
        self.breaks_after = Some(bytes);
        self
    }

    pub(crate) fn offsets(&self) -> Vec<u64> {
        std::mem::take(&mut self.offsets.lock().unwrap())
    }
}

impl Fetch for Source {
    async fn fetch(&self, digest: &Digest, offset: u64) -> Result<ByteStream, FetchError> {
        self.offsets.lock().unwrap().push(offset);
        let mut content = self.blobs.get(digest).ok_or("no such blob")?[offset as usize..].to_vec();
        let lies = self.lies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if lies {
            content.iter_mut().for_each(|byte| *byte = !*byte);
        }
        let breaks = self.breaks_after.filter(|&after| after < content.len());
        content.truncate(breaks.unwrap_or(content.len()));
        let mut chunks: Vec<_> = content.chunks(CHUNK).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        if breaks.is_some() {
            chunks.push(Err("the link was cut".into()));
        }
        Ok(stream::iter(chunks).boxed())
    }
}

pub(crate) fn digest_of(content: &[u8]) -> Digest {
    Digest::from_bytes(*blake3::hash(content).as_bytes())
}
