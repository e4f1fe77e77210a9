//! The registry's requests and answers.
//!
//! Push: ask which blobs are missing, `PUT /v1/blobs/{digest}` each of them, then `POST /v1/models/{name}/versions`.

use serde::{Deserialize, Serialize};
use tradewind_core::{
    Digest, ModelName, Timestamp, VersionNumber,
    bundle::{BundleIndex, Lineage, ModelVersion},
};
use utoipa::ToSchema;

/// `POST /v1/blobs/missing`: which of these does the store lack?
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MissingBlobs {
    pub digests: Vec<Digest>,
}

/// `POST /v1/models/{name}/versions`: all blobs are there, make them a version.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PublishRequest {
    pub index: BundleIndex,
    /// Where it comes from. Content that is a version already keeps the lineage that it has, or has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
}

/// The answer: the version, new or the one that had this content before.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Published {
    pub schema_version: u32,
    pub created: bool,
    #[serde(flatten)]
    pub version: ModelVersion,
}

/// `GET /v1/models`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    pub schema_version: u32,
    pub models: Vec<ModelSummary>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelSummary {
    pub name: ModelName,
    pub latest: VersionNumber,
    pub versions: u64,
    /// Of the latest version.
    pub digest: Digest,
    /// Of the latest version.
    pub bytes: u64,
    #[schema(value_type = String)]
    pub pushed_at: Timestamp,
}

/// `GET /v1/models/{name}`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelDetail {
    pub schema_version: u32,
    pub name: ModelName,
    /// Newest first.
    pub versions: Vec<ModelVersion>,
}
