//! Why a bundle is refused, and what its author can do about it.

use std::{io, path::PathBuf};

use tradewind_core::bundle::{
    BUNDLE_BYTES_LIMIT, BUNDLE_FILES_LIMIT, CASE_BYTES_LIMIT, KeyProblem, MANIFEST_BYTES_LIMIT, MANIFEST_FILE,
    MODEL_BYTES_LIMIT,
};

use super::{Format, PathProblem};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no {}", path.display())]
    NotFound { path: PathBuf },
    #[error("{} is neither a bundle directory nor an .onnx file", path.display())]
    NotABundle { path: PathBuf },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{MANIFEST_FILE} line {line}: `{key}`: {message}")]
    ManifestKey { line: usize, key: String, message: String },
    #[error("{MANIFEST_FILE} line {line}: {message}")]
    Manifest { line: usize, message: String },
    #[error("{MANIFEST_FILE}: {0}")]
    Key(#[from] KeyProblem),
    #[error("{MANIFEST_FILE} is larger than {} MiB", MANIFEST_BYTES_LIMIT >> 20)]
    ManifestTooLarge,
    #[error("the bundle may not contain `{path}`: {problem}")]
    Path { path: String, problem: PathProblem },
    #[error("the bundle may not contain `{path}`: its name is not UTF-8")]
    NotUtf8 { path: String },
    #[error("{MANIFEST_FILE} lists `{path}`, which is not there")]
    Missing { path: String },
    #[error("`{path}` is in the bundle, but {MANIFEST_FILE} does not list it")]
    Unlisted { path: String },
    #[error("`{path}` is executable, which is only for bundles of the runtime `command`")]
    Executable { path: String },
    #[error("`{path}` is a symbolic link")]
    Symlink { path: String },
    #[error("`{path}` has other hard links, so it may be a file from outside the bundle")]
    HardLink { path: String },
    #[error("`{path}` is not a regular file")]
    NotRegular { path: String },
    #[error("`{first}` and `{second}` cannot both be files on every file system")]
    Clash { first: String, second: String },
    #[error("the bundle has more than {BUNDLE_FILES_LIMIT} files")]
    TooManyFiles,
    #[error("the bundle is larger than {} GiB", BUNDLE_BYTES_LIMIT >> 30)]
    TooLarge,
    #[error("`{path}` has {bytes} bytes; an ONNX file has at most {MODEL_BYTES_LIMIT}")]
    ModelTooLarge { path: String, bytes: u64 },
    #[error("`{path}` is not an ONNX model: it is {found}")]
    Format { path: String, found: Format },
    #[error("the golden case `{path}` is larger than {} MiB", CASE_BYTES_LIMIT >> 20)]
    CaseTooLarge { path: String },
    #[error("the golden case `{path}` is not a JSON object: {message}")]
    Case { path: String, message: String },
    #[error("`{path}` changed while it was read")]
    Changed { path: String },
}

impl Error {
    /// What the author can do.
    pub fn hint(&self) -> Option<String> {
        let manifest = MANIFEST_FILE;
        let hint = match self {
            Self::NotFound { .. } => {
                "check the path; a model of the registry is named without `/` and without `.onnx`".to_owned()
            }
            Self::NotABundle { .. } => {
                format!("give an .onnx file, or a directory with model.onnx and, if needed, {manifest}")
            }
            Self::Read { .. } => return None,
            Self::ManifestKey { .. } | Self::Manifest { .. } => {
                "the keys are name, description, runtime, model, files, cases, signature, verify and command".to_owned()
            }
            Self::Key(_) => "docs/bundles.md describes `[command]`: run, ready, env, directory, startup".to_owned(),
            Self::ManifestTooLarge => format!("keep data in files of their own, listed under `files` in {manifest}"),
            Self::Path { .. } => "paths are relative to the bundle, with `/` between plain names".to_owned(),
            Self::NotUtf8 { .. } => "rename the file".to_owned(),
            Self::Missing { path } if path == super::BARE_MODEL_FILE => {
                format!("put the model there, or say where it is: `model = \"NAME.onnx\"` in {manifest}")
            }
            Self::Missing { .. } => format!("add the file, or take it out of {manifest}"),
            Self::Unlisted { path } => {
                format!(
                    "if the model needs it, list it: `files = [\"{path}\"]` in {manifest}; otherwise move it out of the bundle"
                )
            }
            Self::Symlink { .. } | Self::HardLink { .. } => {
                "put a copy of the file in its place: a bundle contains files, not links".to_owned()
            }
            Self::Executable { .. } => "push the bundle again with this version of tradewind".to_owned(),
            Self::NotRegular { .. } => "move it out of the bundle".to_owned(),
            Self::Clash { .. } => "rename one of them".to_owned(),
            Self::TooManyFiles | Self::TooLarge => "split the model, or leave out what it does not need".to_owned(),
            Self::ModelTooLarge { .. } => {
                format!(
                    "keep the weights in external data: a file beside the model, listed under `files` in {manifest}"
                )
            }
            Self::Format { found, .. } => return Some(format_hint(*found).to_owned()),
            Self::CaseTooLarge { .. } => "use a smaller batch: a golden case needs one row".to_owned(),
            Self::Case { .. } => "a golden case is a request with the answer that is expected, as JSON".to_owned(),
            Self::Changed { .. } => "try again when nothing writes to it".to_owned(),
        };
        Some(hint)
    }
}

fn format_hint(found: Format) -> &'static str {
    match found {
        Format::Empty | Format::Text => "export the model again, or download it again",
        Format::GitLfsPointer => "fetch the file itself: git lfs pull",
        Format::Gzip => "unpack it first",
        Format::Pickle | Format::Zip => {
            "export it to ONNX where it was trained: torch.onnx.export for PyTorch, skl2onnx for scikit-learn; pickles are never loaded, since they can run code"
        }
        Format::Hdf5 | Format::TensorFlowLite => "convert it to ONNX with tf2onnx",
        Format::Safetensors | Format::Gguf => "these are weights without their graph: export the model to ONNX",
    }
}
