//! The models of this replica as Triton would tell of them: their configuration, their statistics, their places in the
//! repository, and how they are loaded and unloaded.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use tradewind_api::grpc::message::{
    DataType, InstanceKind, ModelConfig, ModelIndex, ModelInput, ModelInstanceGroup, ModelOutput,
    ModelStatisticsResponse, ModelVersionPolicy, SpecificVersions,
};
use tradewind_core::{
    bundle::{Signature, TensorSpec},
    causes::chain,
};

use super::{
    ModelOptions, Server,
    failure::Failure,
    routes::PLATFORM,
    served::{Served, State, Target},
};
use crate::metrics::Reason;

/// What Triton calls the backend of such a model.
const BACKEND: &str = "onnxruntime";
/// Shapes are whole: the first dimension is said like any other, also where requests run together.
const MAX_BATCH_SIZE: i32 = 0;

impl Target {
    pub(super) fn config(&self) -> ModelConfig {
        let engine = self.engine();
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
        let ModelOptions { model, version, model_file, .. } = &self.served.options;
        let versions = i64::try_from(version.0).into_iter().collect();
        ModelConfig {
            name: model.as_str().to_owned(),
            platform: PLATFORM.to_owned(),
            version_policy: Some(ModelVersionPolicy { specific: Some(SpecificVersions { versions }) }),
            max_batch_size: MAX_BATCH_SIZE,
            input: inputs.iter().map(input).collect(),
            output: outputs.iter().map(output).collect(),
            instance_group: vec![ModelInstanceGroup {
                name: model.as_str().to_owned(),
                count: i32::try_from(engine.instances()).unwrap_or(i32::MAX),
                kind: InstanceKind::Cpu.into(),
            }],
            default_model_filename: model_file.clone(),
            backend: BACKEND.to_owned(),
        }
    }

    /// The same in the form of JSON.
    pub(super) fn config_json(&self) -> Value {
        let engine = self.engine();
        let ModelOptions { model, version, model_file, .. } = &self.served.options;
        let Signature { inputs, outputs } = engine.signature();
        let tensors = |specs: &[TensorSpec]| -> Vec<Value> {
            let tensor = |TensorSpec { name, datatype, shape }: &TensorSpec| json!({ "name": name, "data_type": DataType::word(*datatype), "dims": shape });
            specs.iter().map(tensor).collect()
        };
        json!({
            "name": model,
            "platform": PLATFORM,
            "backend": BACKEND,
            "version_policy": { "specific": { "versions": [version] } },
            "max_batch_size": MAX_BATCH_SIZE,
            "input": tensors(inputs),
            "output": tensors(outputs),
            "instance_group": [{ "name": model, "kind": "KIND_CPU", "count": engine.instances() }],
            "default_model_filename": model_file,
        })
    }
}

impl Server {
    /// Of one model, or of all.
    pub(super) fn statistics(&self, of: Option<&Arc<Served>>) -> ModelStatisticsResponse {
        let asked = of.map_or(&self.models[..], std::slice::from_ref);
        let model_stats = asked.iter().map(|served| served.statistics.of(served.name(), &served.version)).collect();
        ModelStatisticsResponse { model_stats }
    }

    pub(super) fn index(&self, ready_only: bool) -> Vec<ModelIndex> {
        let entry = |served: &Arc<Served>| {
            let (state, reason) = match &**served.state() {
                State::Ready(_) if self.shutdown.is_cancelled() => ("UNLOADING", "the replica is stopping".to_owned()),
                State::Ready(_) => ("READY", String::new()),
                State::Loading => ("LOADING", String::new()),
                State::Unloading => ("UNLOADING", String::new()),
                State::Unloaded(why) => ("UNAVAILABLE", why.clone().unwrap_or_else(|| "unloaded".to_owned())),
            };
            ModelIndex {
                name: served.name().to_owned(),
                version: served.version.clone(),
                state: state.to_owned(),
                reason,
            }
        };
        let entries = self.models.iter().map(entry);
        entries.filter(|entry| !ready_only || entry.state == "READY").collect()
    }

    /// Loads a model as it is in its bundle now. One that was decided by who started the replica stays as it is.
    pub(super) async fn load(self: &Arc<Self>, model: &str, overrides: bool) -> Result<(), Failure> {
        let served = Arc::clone(self.find(model, None)?);
        if overrides {
            let message = "a version is immutable, nothing of it is overridden; deploy another version";
            return Err(Failure::new(StatusCode::BAD_REQUEST, Reason::Invalid, message));
        }
        if !self.open {
            return served.ready().map(|_| ());
        }
        let server = Arc::clone(self);
        // To its end, also when the client leaves.
        let loaded = tokio::spawn(async move { served.load(&server.threads).await }).await;
        let loaded = loaded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        loaded.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, Reason::Unloaded, chain(&error)))
    }

    pub(super) async fn unload(&self, model: &str) -> Result<(), Failure> {
        let served = Arc::clone(self.find(model, None)?);
        if !self.open {
            let message =
                "the agent that started this replica decides what runs; undeploy the model, or deploy another version";
            return Err(Failure::new(StatusCode::FORBIDDEN, Reason::Invalid, message));
        }
        let unloaded = tokio::spawn(async move { served.unload().await }).await;
        unloaded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        Ok(())
    }
}
