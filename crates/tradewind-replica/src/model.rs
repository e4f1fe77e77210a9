//! From files to a session: read, check, digest, load. Nothing reaches ONNX Runtime unchecked.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use ort::session::{Session, builder::PrepackedWeights};
use prost::Message;
use tradewind_core::{
    Digest,
    bundle::{BundleFile, MODEL_BYTES_LIMIT, Signature},
    inference::InferRequest,
    verify::Case,
};

use crate::{
    onnx::ModelProto,
    runtime::{self, LocateError},
    signature,
};

/// ONNX Runtime takes this location as an address in its own memory; no file may pose as it.
const MEMORY_MARKER: &str = "_ORT_MEM_ADDR_";

/// Why a model is refused. Also what [`crate::inspect`] answers.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("could not read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{file} is empty")]
    Empty { file: String },
    #[error(
        "{file} has {bytes} bytes; an ONNX file has at most {MODEL_BYTES_LIMIT}, keep its weights in external data"
    )]
    TooLarge { file: String, bytes: u64 },
    #[error("{file} is a {kind}, which can run any code when it is loaded; export the model to ONNX")]
    Foreign { file: String, kind: &'static str },
    #[error("{file} is not an ONNX model: {reason}")]
    NotOnnx { file: String, reason: String },
    #[error("the file name `{0}` must be relative to the bundle, without `..`")]
    Path(String),
    #[error("tensor `{tensor}` keeps its data in another file but does not say in which")]
    Unlocated { tensor: String },
    #[error("external data `{location}` must be a relative path inside the bundle, without `..`")]
    ExternalPath { location: String },
    #[error("external data `{location}` is not a regular file inside the bundle")]
    ExternalFile { location: String },
    #[error("external data `{location}` is not among the bundle's files; list it under `files` in tradewind.toml")]
    Unlisted { location: String },
    #[error("external data `{location}` changed while it was being loaded")]
    Changed { location: String },
    #[error("{role} `{name}` is a {kind}, and the Open Inference Protocol carries tensors only{}", remedy(kind))]
    NotATensor { role: &'static str, name: String, kind: &'static str },
    #[error("{role} `{name}` has elements of type {element}, which the Open Inference Protocol does not have")]
    ElementType { role: &'static str, name: String, element: String },
    #[error("ONNX Runtime refused the model: {0}")]
    Refused(String),
    #[error("the model does not take the golden case {case}: {reason}")]
    Case { case: String, reason: String },
    #[error("could not start a thread for it")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Runtime(#[from] LocateError),
}

impl ModelError {
    /// What the author can do, where the error does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Empty { .. } | Self::NotOnnx { .. } | Self::Refused(_) => {
                Some("the file may be damaged or cut off: export it again, and try it with onnx.checker in Python")
            }
            Self::TooLarge { .. } | Self::Unlisted { .. } => Some("list such files under `files` in tradewind.toml"),
            Self::Path(_) | Self::Unlocated { .. } | Self::ExternalPath { .. } | Self::ExternalFile { .. } => {
                Some("save the model again with its external data in one file beside it, listed in tradewind.toml")
            }
            Self::Foreign { .. } => {
                Some("export it where it was trained: torch.onnx.export for PyTorch, skl2onnx for scikit-learn")
            }
            Self::NotATensor { .. } | Self::ElementType { .. } => {
                Some("export the model so that every input and output is a tensor of numbers, truth values or text")
            }
            Self::Case { .. } => {
                Some("run the case against the model where it was trained: the inputs must be ones that it takes")
            }
            Self::Changed { .. } => Some("try again when nothing writes to it"),
            Self::Read { .. } | Self::Thread(_) | Self::Runtime(_) => None,
        }
    }
}

fn remedy(kind: &str) -> &'static str {
    match kind {
        "sequence" | "map" => {
            "; a classifier of scikit-learn is exported with plain probabilities by \
             `to_onnx(model, X, options={\"zipmap\": False})`"
        }
        _ => "",
    }
}

/// A model's bytes and what they say about themselves, checked but not loaded.
#[derive(Debug)]
pub(crate) struct Source {
    directory: PathBuf,
    file: String,
    bytes: Vec<u8>,
    pub(crate) external: Vec<String>,
    pub(crate) opset: i64,
    pub(crate) producer: String,
}

/// How many sessions a model is loaded into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sessions {
    pub(crate) count: usize,
    /// Of ONNX Runtime, for one inference.
    pub(crate) threads: usize,
}

impl Sessions {
    /// One that uses a single thread.
    pub(crate) const ONE: Self = Self { count: 1, threads: 1 };
}

/// Sessions, and the files whose bytes went into them.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) session: Session,
    /// Equal ones, to run beside it.
    pub(crate) others: Vec<Session>,
    pub(crate) signature: Signature,
    pub(crate) files: BTreeMap<String, BundleFile>,
    pub(crate) cases: Vec<Warming>,
}

/// A request of a golden case, on which the model is warmed up.
#[derive(Debug)]
pub(crate) struct Warming {
    /// Of the case's file.
    pub(crate) path: String,
    pub(crate) request: InferRequest,
}

impl Warming {
    fn read(directory: &Path, case: &str) -> Result<Self, ModelError> {
        if !is_inside(case) {
            return Err(ModelError::Path(case.to_owned()));
        }
        let refused = |reason: String| ModelError::Case { case: case.to_owned(), reason };
        match Case::parse(&read_limited(directory, case)?).map_err(|error| refused(error.to_string()))? {
            Case::Inference(golden) => Ok(Self { path: case.to_owned(), request: golden.request }),
            Case::Http(_) => Err(refused("it is for servers of the author's own".to_owned())),
        }
    }
}

impl Source {
    /// Reads `file` of the bundle in `directory`. Every external file that it names must be a regular file in there.
    pub(crate) fn read(directory: &Path, file: &str) -> Result<Self, ModelError> {
        if !is_inside(file) {
            return Err(ModelError::Path(file.to_owned()));
        }
        let bytes = read_limited(directory, file)?;
        refuse_foreign(file, &bytes)?;
        let not_onnx = |reason: String| ModelError::NotOnnx { file: file.to_owned(), reason };
        let proto = ModelProto::decode(bytes.as_slice()).map_err(|error| not_onnx(error.to_string()))?;
        if !proto.has_graph() {
            return Err(not_onnx("it has no graph".to_owned()));
        }
        if let Some(value) = proto.not_a_tensor() {
            return Err(ModelError::NotATensor { role: value.role, name: value.name, kind: value.kind });
        }
        let external =
            proto.external_locations().map_err(|missing| ModelError::Unlocated { tensor: missing.tensor })?;
        for location in &external {
            check_external(directory, location)?;
        }
        let (opset, producer) = (proto.opset(), proto.producer());
        Ok(Self { directory: directory.to_owned(), file: file.to_owned(), bytes, external, opset, producer })
    }

    /// Creates sessions, each with so many threads, from the very bytes that are digested. External data is read by ONNX Runtime itself, so it
    /// is digested just before, and its identity (inode, size, time of change) compared just after: a change in between
    /// is seen unless somebody forges the time as well.
    pub(crate) fn load(self, sessions: Sessions, cases: &[String]) -> Result<Loaded, ModelError> {
        let environment = runtime::environment()?;
        let digest = Digest::from_bytes(*blake3::hash(&self.bytes).as_bytes());
        let mut files = BTreeMap::from([(
            self.file.clone(),
            BundleFile { size: self.bytes.len() as u64, digest, executable: false },
        )]);
        let mut identities = Vec::new();
        for location in &self.external {
            let (file, identity) = digest_file(&self.directory.join(location))?;
            files.insert(location.clone(), file);
            identities.push((location, identity));
        }
        let directory =
            self.directory.to_str().ok_or_else(|| ModelError::Path(self.directory.display().to_string()))?;
        let weights = PrepackedWeights::new();
        let open = || {
            let session = runtime::open_session(environment, &self.bytes, directory, sessions.threads, &weights);
            session.map_err(|error| ModelError::Refused(error.message().to_owned()))
        };
        let session = open()?;
        let others = (1..sessions.count).map(|_| open()).collect::<Result<_, _>>()?;
        for (location, before) in identities {
            if Identity::of(&metadata(&self.directory.join(location))?) != before {
                return Err(ModelError::Changed { location: location.clone() });
            }
        }
        let signature = signature::of(&session)?;
        let cases = cases.iter().map(|case| Warming::read(&self.directory, case)).collect::<Result<_, _>>()?;
        Ok(Loaded { session, others, signature, files, cases })
    }
}

/// A relative path of plain components.
fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\0', '\\'])
        && Path::new(path).components().all(|component| matches!(component, Component::Normal(_)))
}

fn check_external(directory: &Path, location: &str) -> Result<(), ModelError> {
    if !is_inside(location) || location.contains(MEMORY_MARKER) {
        return Err(ModelError::ExternalPath { location: location.to_owned() });
    }
    let refused = || ModelError::ExternalFile { location: location.to_owned() };
    let mut path = directory.to_owned();
    let mut kind = None;
    for component in Path::new(location).components() {
        path.push(component);
        // A link anywhere on the way could lead out of the bundle.
        let metadata = fs::symlink_metadata(&path).map_err(|_| refused())?;
        if metadata.is_symlink() {
            return Err(refused());
        }
        kind = Some(metadata.file_type());
    }
    if kind.is_some_and(|kind| kind.is_file()) { Ok(()) } else { Err(refused()) }
}

fn read_limited(directory: &Path, file: &str) -> Result<Vec<u8>, ModelError> {
    let path = directory.join(file);
    let failed = |source| ModelError::Read { path: path.clone(), source };
    let mut reader = File::open(&path).map_err(failed)?;
    let metadata = reader.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    if metadata.len() > MODEL_BYTES_LIMIT {
        return Err(ModelError::TooLarge { file: file.to_owned(), bytes: metadata.len() });
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    reader.by_ref().take(MODEL_BYTES_LIMIT).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.is_empty() {
        return Err(ModelError::Empty { file: file.to_owned() });
    }
    Ok(bytes)
}

fn refuse_foreign(file: &str, bytes: &[u8]) -> Result<(), ModelError> {
    let kind = match bytes {
        [0x80, 2..=5, ..] => "Python pickle",
        [b'P', b'K', 3 | 5 | 7, ..] => "zip archive, such as PyTorch's .pt",
        [_, _, _, _, b'O', b'R', b'T', b'M', ..] => {
            let reason = "it is in ONNX Runtime's own ORT format, whose content cannot be checked".to_owned();
            return Err(ModelError::NotOnnx { file: file.to_owned(), reason });
        }
        _ => return Ok(()),
    };
    Err(ModelError::Foreign { file: file.to_owned(), kind })
}

fn metadata(path: &Path) -> Result<Metadata, ModelError> {
    fs::symlink_metadata(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })
}

fn digest_file(path: &Path) -> Result<(BundleFile, Identity), ModelError> {
    let identity = Identity::of(&metadata(path)?);
    let failed = |source| ModelError::Read { path: path.to_owned(), source };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).map_err(failed)?).map_err(failed)?;
    let digest = Digest::from_bytes(*hasher.finalize().as_bytes());
    Ok((BundleFile { size: hasher.count(), digest, executable: false }, identity))
}

/// Which file this is, and which content of it.
#[derive(Debug, PartialEq, Eq)]
struct Identity([i64; 5]);

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self([
            metadata.dev() as i64,
            metadata.ino() as i64,
            metadata.size() as i64,
            metadata.mtime(),
            metadata.mtime_nsec(),
        ])
    }
}
