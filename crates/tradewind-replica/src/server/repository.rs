//! The one model of this replica as a server of many would tell of it: its configuration, its statistics, its place in
//! the repository, and what becomes of those who would load or unload it.

use http::StatusCode;
use serde_json::{Value, json};
use tradewind_api::grpc::message::{
    DataType, InstanceKind, ModelConfig, ModelIndex, ModelInput, ModelInstanceGroup, ModelOutput,
    ModelStatisticsResponse, ModelVersionPolicy, SpecificVersions,
};
use tradewind_core::bundle::{Signature, TensorSpec};

use super::{Server, failure::Failure, routes::PLATFORM};
use crate::{engine::Engine, metrics::Reason};

/// What Triton calls the backend of such a model.
const BACKEND: &str = "onnxruntime";
/// Shapes are whole: the first dimension is said like any other, also where requests run together.
const MAX_BATCH_SIZE: i32 = 0;

impl Server {
    fn loaded(&self) -> Result<&Engine, Failure> {
        self.engine.get().ok_or_else(Failure::loading)
    }

    pub(super) fn config(&self) -> Result<ModelConfig, Failure> {
        let engine = self.loaded()?;
        let Signature { inputs, outputs } = engine.signature();
        let data_type = |spec: &TensorSpec| DataType::from(spec.datatype).into();
        let input = |spec: &TensorSpec| ModelInput {
            name: spec.name.clone(),
            data_type: data_type(spec),
            dims: spec.shape.clone(),
        };
        let output = |spec: &TensorSpec| ModelOutput {
            name: spec.name.clone(),
            data_type: data_type(spec),
            dims: spec.shape.clone(),
        };
        let versions = i64::try_from(self.version.0).into_iter().collect();
        Ok(ModelConfig {
            name: self.model.as_str().to_owned(),
            platform: PLATFORM.to_owned(),
            version_policy: Some(ModelVersionPolicy { specific: Some(SpecificVersions { versions }) }),
            max_batch_size: MAX_BATCH_SIZE,
            input: inputs.iter().map(input).collect(),
            output: outputs.iter().map(output).collect(),
            instance_group: vec![ModelInstanceGroup {
                name: self.model.as_str().to_owned(),
                count: i32::try_from(engine.instances()).unwrap_or(i32::MAX),
                kind: InstanceKind::Cpu.into(),
            }],
            default_model_filename: self.model_file.clone(),
            backend: BACKEND.to_owned(),
        })
    }

    /// The same in the form of JSON.
    pub(super) fn config_json(&self) -> Result<Value, Failure> {
        let engine = self.loaded()?;
        let Signature { inputs, outputs } = engine.signature();
        let tensors = |specs: &[TensorSpec]| -> Vec<Value> {
            let tensor = |TensorSpec { name, datatype, shape }: &TensorSpec| json!({ "name": name, "data_type": DataType::word(*datatype), "dims": shape });
            specs.iter().map(tensor).collect()
        };
        Ok(json!({
            "name": self.model,
            "platform": PLATFORM,
            "backend": BACKEND,
            "version_policy": { "specific": { "versions": [self.version] } },
            "max_batch_size": MAX_BATCH_SIZE,
            "input": tensors(inputs),
            "output": tensors(outputs),
            "instance_group": [{ "name": self.model, "kind": "KIND_CPU", "count": engine.instances() }],
            "default_model_filename": self.model_file,
        }))
    }

    pub(super) fn statistics(&self) -> ModelStatisticsResponse {
        ModelStatisticsResponse { model_stats: vec![self.statistics.of(self.model.as_str(), &self.version_text)] }
    }

    /// None where only models are asked for that are ready, and it is not.
    pub(super) fn index(&self, ready_only: bool) -> Option<ModelIndex> {
        let (state, reason) = match (self.engine.get(), self.shutdown.is_cancelled()) {
            (_, true) => ("UNLOADING", "the replica is stopping"),
            (None, false) => ("LOADING", ""),
            (Some(_), false) => ("READY", ""),
        };
        (!ready_only || self.is_ready()).then(|| ModelIndex {
            name: self.model.as_str().to_owned(),
            version: self.version_text.clone(),
            state: state.to_owned(),
            reason: reason.to_owned(),
        })
    }

    /// What is loaded already stays as it is.
    pub(super) fn load(&self, model: &str, overrides: bool) -> Result<(), Failure> {
        self.check_name(model, None)?;
        if overrides {
            let message = "a version is immutable, nothing of it is overridden; deploy another version";
            return Err(Failure::new(StatusCode::BAD_REQUEST, Reason::Invalid, message));
        }
        self.loaded().map(|_| ())
    }

    pub(super) fn unload(&self, model: &str) -> Result<(), Failure> {
        self.check_name(model, None)?;
        let message =
            "the agent that started this replica decides what runs; undeploy the model, or deploy another version";
        Err(Failure::new(StatusCode::FORBIDDEN, Reason::Invalid, message))
    }
}
