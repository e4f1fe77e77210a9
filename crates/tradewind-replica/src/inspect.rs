//! Reads a model's signature before it may become a version. Control runs this in a child process: a file that
//! crashes ONNX Runtime crashes only that child.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tradewind_core::bundle::Signature;

use crate::model::{ModelError, Sessions, Source};

/// What a model says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    pub signature: Signature,
    /// The files that hold its external data, relative to the bundle, sorted.
    pub external_data: Vec<String>,
    /// The version of the default ONNX operator set; 0 when the model imports none.
    pub opset: i64,
    /// Name and version of the tool that wrote the model; may be empty.
    pub producer: String,
}

/// Checks and loads `model_file` of the bundle in `dir`. `listed` are the bundle's files besides it; external data
/// must be among them.
pub fn inspect(dir: &Path, model_file: &str, listed: &[String]) -> Result<Inspection, ModelError> {
    let source = Source::read(dir, model_file)?;
    if let Some(location) = source.external.iter().find(|location| !listed.contains(location)) {
        return Err(ModelError::Unlisted { location: location.clone() });
    }
    let (external_data, opset, producer) = (source.external.clone(), source.opset, source.producer.clone());
    let signature = source.load(Sessions::ONE, &[])?.signature;
    Ok(Inspection { signature, external_data, opset, producer })
}
