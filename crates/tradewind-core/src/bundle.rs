//! What a model version is: its files, its manifest, its signature, its golden cases.

pub mod command;
pub mod lineage;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use command::{CommandOptions, KeyProblem};
pub use lineage::Lineage;

use crate::{Digest, ModelName, Timestamp, VersionNumber, batch::BatchOptions, duration::Span, inference::Datatype};

/// The manifest's file name inside a bundle directory.
pub const MANIFEST_FILE: &str = "tradewind.toml";
/// The largest bundle, in bytes.
pub const BUNDLE_BYTES_LIMIT: u64 = 64 << 30;
/// The largest ONNX file, in bytes: protobuf's limit. Larger models keep their weights in external data.
pub const MODEL_BYTES_LIMIT: u64 = i32::MAX as u64;
/// The most files that a bundle may have.
pub const BUNDLE_FILES_LIMIT: usize = 10_000;
/// The largest manifest, in bytes.
pub const MANIFEST_BYTES_LIMIT: u64 = 1 << 20;
/// The largest golden case, in bytes.
pub const CASE_BYTES_LIMIT: u64 = 16 << 20;

/// `tradewind.toml`. Every key is optional: a bare `.onnx` file is a bundle too.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ModelName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub runtime: Runtime,
    /// The ONNX file, relative to the bundle. Default: `model.onnx`.
    #[serde(default = "default_model_file")]
    pub model: String,
    /// Further files of the model (external data), relative to the bundle. A bundle of the runtime `command` has all
    /// files that lie in its directory, unless it lists some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Golden cases, relative to the bundle; `*` matches within a file name. Default: `cases/*.json`.
    #[serde(default = "default_cases")]
    pub cases: Vec<String>,
    /// Stated by the author; must equal what the model itself says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    #[serde(default)]
    pub verify: VerifyOptions,
    /// How requests run together, and only where ONNX Runtime executes the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batching: Option<BatchOptions>,
    /// How to start the server, and only for `runtime = "command"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandOptions>,
}

impl Manifest {
    /// The server to start; `None` where ONNX Runtime executes the model.
    pub fn server(&self) -> Option<&CommandOptions> {
        self.command.as_ref().filter(|_| self.runtime == Runtime::Command)
    }

    /// Checks what the keys say together.
    pub fn check(&self) -> Result<(), KeyProblem> {
        if let Some(batching) = self.batching {
            if self.runtime == Runtime::Command {
                return Err(KeyProblem::new("batching", "a server of your own does this itself"));
            }
            batching.check().map_err(|message| KeyProblem::new("batching.max_rows", message))?;
        }
        match (self.runtime, &self.command) {
            (Runtime::Onnx, None) => Ok(()),
            (Runtime::Onnx, Some(_)) => {
                Err(KeyProblem::new("command", "it is of no use without `runtime = \"command\"`"))
            }
            (Runtime::Command, None) => {
                Err(KeyProblem::new("runtime", "the runtime `command` needs `[command]` with `run`"))
            }
            (Runtime::Command, Some(_)) if self.model != default_model_file() => Err(KeyProblem::new(
                "model",
                "a bundle of the runtime `command` has no model file; all its files belong to it",
            )),
            (Runtime::Command, Some(command)) => command.check(),
        }
    }
}

fn default_model_file() -> String {
    "model.onnx".to_owned()
}

fn default_cases() -> Vec<String> {
    vec!["cases/*.json".to_owned()]
}

/// What executes a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// ONNX Runtime, in Tradewind's own replica.
    #[default]
    Onnx,
    /// A server of the author's own, see [`CommandOptions`].
    Command,
}

impl Runtime {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Command => "command",
        }
    }
}

/// Bounds of verification beyond the golden cases' own tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyOptions {
    /// The slowest golden case may take this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_budget: Option<Span>,
}

/// The inputs and outputs of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
}

/// Name, datatype and shape of one tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    pub name: String,
    pub datatype: Datatype,
    /// `-1` is a dimension of any size.
    pub shape: Vec<i64>,
}

impl std::fmt::Display for TensorSpec {
    /// `image FP32 [N,64]`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shape: Vec<String> =
            self.shape.iter().map(|&d| if d < 0 { "N".to_owned() } else { d.to_string() }).collect();
        write!(f, "{} {} [{}]", self.name, self.datatype, shape.join(","))
    }
}

/// One file of a bundle, by path relative to the bundle (`/` between components, no `.` or `..`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BundleFile {
    pub size: u64,
    pub digest: Digest,
    /// Installed so that it can be started; only in bundles of the runtime `command`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// The content of a bundle: everything that its digest covers. The bundle's digest is the BLAKE3 digest of this
/// value's compact JSON, whose map keys are sorted, so equal content has an equal digest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct BundleIndex {
    pub files: BTreeMap<String, BundleFile>,
}

impl BundleIndex {
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).fold(0, u64::saturating_add)
    }
}

/// An immutable version of a model, as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelVersion {
    pub name: ModelName,
    pub version: VersionNumber,
    pub digest: Digest,
    pub index: BundleIndex,
    pub manifest: Manifest,
    /// Read from the model itself; of a command what its manifest states, or nothing.
    pub signature: Signature,
    /// Paths of the golden cases in the bundle, sorted.
    pub cases: Vec<String>,
    #[schema(value_type = String)]
    pub pushed_at: Timestamp,
    /// Where it comes from, if whoever published it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
}

/// What numbers the versions of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelHead {
    pub name: ModelName,
    /// The newest version's number, also when that version was removed: numbers are never given twice.
    pub latest: VersionNumber,
}
