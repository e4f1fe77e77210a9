//! Puts neighbouring files together.
//!
//! A batch may end after any file whose name's hash says so, once it is half full: when a file is added or taken away,
//! the batches behind it stay as they are but for the next few.

use tradewind_core::{Digest, pipeline::file::Format};

use crate::data::{Batch, read::Source};

/// The most of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Group {
    pub(super) fn batches(self, sources: &[&Source]) -> Vec<Batch> {
        let mask = self.mask(sources);
        let mut batches = Vec::new();
        let (mut begin, mut bytes) = (0, 0_u64);
        for (at, source) in sources.iter().enumerate() {
            let files = (at - begin) as u64;
            let size = source.stamp.size;
            if files > 0 && (files == self.files || bytes.saturating_add(size) > self.bytes) {
                batches.extend(batch(&sources[begin..at]));
                (begin, bytes) = (at, 0);
            }
            bytes = bytes.saturating_add(size);
            let files = (at + 1 - begin) as u64;
            let is_half_full = files >= self.files.div_ceil(2) || bytes >= self.bytes / 2;
            if is_half_full && hash(&source.name) & mask == 0 {
                batches.extend(batch(&sources[begin..=at]));
                (begin, bytes) = (at + 1, 0);
            }
        }
        batches.extend(batch(&sources[begin..]));
        batches
    }

    /// One file in so many ends a batch: a quarter of the files of one, as a power of two, which hardly ever changes.
    fn mask(self, sources: &[&Source]) -> u64 {
        let total: u64 = sources.iter().map(|source| source.stamp.size).sum();
        let average = total / (sources.len() as u64).max(1);
        let files = self.files.min(self.bytes / average.max(1));
        (files / 4).max(1).next_power_of_two() - 1
    }
}

fn hash(name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("there are 32 of them"))
}

/// Called by its first file and its last.
pub(super) fn batch(sources: &[&Source]) -> Option<Batch> {
    let (first, last) = (sources.first()?, sources.last()?);
    let digest = if sources.len() == 1 {
        first.facts.digest
    } else {
        let mut hasher = blake3::Hasher::new();
        for source in sources {
            hasher.update(&(source.name.len() as u64).to_le_bytes());
            hasher.update(source.name.as_bytes());
            hasher.update(source.facts.digest.as_bytes());
        }
        Digest::from_bytes(*hasher.finalize().as_bytes())
    };
    let directory = |name: &str| name.rfind('/').map_or(0, |slash| slash + 1);
    let common = directory(&first.name);
    let is_same = common == directory(&last.name) && first.name[..common] == last.name[..common];
    let name = match sources.len() {
        1 => first.name.clone(),
        _ => format!("{}..{}", first.name, if is_same { &last.name[common..] } else { &last.name }),
    };
    Some(Batch {
        name,
        format: Format::Files,
        files: sources.iter().map(|source| source.path.clone()).collect(),
        rows: None,
        bytes: sources.iter().map(|source| source.stamp.size).sum(),
        digest,
    })
}
