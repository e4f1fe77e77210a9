//! What a replica tells its agent besides the Open Inference Protocol.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tradewind_core::{
    ModelName, VersionNumber,
    bundle::{BundleFile, Signature},
};

/// An inference is answered within this time, or whoever asked for it gives it up. Who carries inferences and is told
/// to end has as long for those that it has taken; who told it waits longer than that.
pub const INFERENCE_LIMIT: Duration = Duration::from_secs(60);

/// `GET` on a replica: [`LoadedModel`], once the model is loaded (503 before).
pub fn loaded_path(model: &ModelName) -> String {
    format!("/v2/models/{model}/tradewind")
}

/// What a replica has really loaded, for the agent to compare with the version's index and signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModel {
    /// The replica's own id.
    pub replica: String,
    pub model: ModelName,
    pub version: VersionNumber,
    /// By path relative to the bundle: the model file and its external data, nothing else. Digests are of the bytes
    /// that went into the session.
    pub files: BTreeMap<String, BundleFile>,
    /// As ONNX Runtime read it.
    pub signature: Signature,
}
