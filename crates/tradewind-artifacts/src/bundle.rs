//! Bundles as their authors keep them: a directory with a manifest, or a bare `.onnx` file.

mod contents;
mod error;
mod format;
mod manifest;
mod path;
mod read;

use std::path::{Path, PathBuf};

use tradewind_core::{
    Digest, ModelName,
    bundle::{BundleIndex, Manifest},
};

pub use contents::{check_contents, check_index};
pub use error::Error;
pub use format::{Format, check_model_start};
pub use manifest::{default_manifest, parse_manifest};
pub use path::{COMPONENT_BYTES_LIMIT, DEPTH_LIMIT, PATH_BYTES_LIMIT, PathProblem, check_path};

/// Where the model of a bare `.onnx` file goes in its bundle.
pub const BARE_MODEL_FILE: &str = "model.onnx";

/// Reading bundles.
#[derive(Debug)]
pub struct Bundle;

impl Bundle {
    /// Reads and checks a bundle directory or a bare `.onnx` file. Every file is read once, to hash it, on a blocking
    /// thread and in pieces; nothing is changed.
    pub async fn read(path: impl AsRef<Path>) -> Result<LocalBundle, Error> {
        let path = path.as_ref().to_owned();
        crate::disk::blocking(move || read::read(&path)).await
    }
}

/// A bundle on this machine, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalBundle {
    /// The directory, or the bare `.onnx` file.
    pub source: PathBuf,
    /// The manifest's name, or else the directory's or file's, if that can be a model's name.
    pub suggested_name: Option<ModelName>,
    pub manifest: Manifest,
    pub index: BundleIndex,
    pub digest: Digest,
    /// Paths of the golden cases in the bundle, sorted.
    pub cases: Vec<String>,
}

impl LocalBundle {
    /// Where a file of the index lies on this machine.
    pub fn path_of(&self, file: &str) -> Option<PathBuf> {
        self.index
            .files
            .contains_key(file)
            .then(|| if self.source.is_dir() { self.source.join(file) } else { self.source.clone() })
    }
}

/// The digest of everything a bundle contains: BLAKE3 of the index's compact JSON.
pub fn bundle_digest(index: &BundleIndex) -> Digest {
    let json = serde_json::to_vec(index).expect("maps with string keys, numbers and digests have a JSON form");
    Digest::from_bytes(*blake3::hash(&json).as_bytes())
}
