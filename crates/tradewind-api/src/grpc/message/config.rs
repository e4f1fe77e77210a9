//! How a model is served, in Triton's words and as far as it is so here.

use prost::Message;
use tradewind_core::inference::Datatype;

#[derive(Clone, PartialEq, Message)]
pub struct ModelConfigRequest {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ModelConfigResponse {
    #[prost(message, optional, tag = "1")]
    pub config: Option<ModelConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ModelConfig {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub platform: String,
    #[prost(message, optional, tag = "3")]
    pub version_policy: Option<ModelVersionPolicy>,
    /// 0: the shapes below are whole, and the server puts no requests together.
    #[prost(int32, tag = "4")]
    pub max_batch_size: i32,
    #[prost(message, repeated, tag = "5")]
    pub input: Vec<ModelInput>,
    #[prost(message, repeated, tag = "6")]
    pub output: Vec<ModelOutput>,
    #[prost(message, repeated, tag = "7")]
    pub instance_group: Vec<ModelInstanceGroup>,
    #[prost(string, tag = "8")]
    pub default_model_filename: String,
    #[prost(string, tag = "17")]
    pub backend: String,
}

/// Which versions are served: here always those that are named.
#[derive(Clone, PartialEq, Message)]
pub struct ModelVersionPolicy {
    #[prost(message, optional, tag = "3")]
    pub specific: Option<SpecificVersions>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SpecificVersions {
    #[prost(int64, repeated, tag = "1")]
    pub versions: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ModelInput {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(enumeration = "DataType", tag = "2")]
    pub data_type: i32,
    #[prost(int64, repeated, tag = "4")]
    pub dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ModelOutput {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(enumeration = "DataType", tag = "2")]
    pub data_type: i32,
    #[prost(int64, repeated, tag = "3")]
    pub dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ModelInstanceGroup {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int32, tag = "2")]
    pub count: i32,
    #[prost(enumeration = "InstanceKind", tag = "4")]
    pub kind: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum InstanceKind {
    Auto = 0,
    Gpu = 1,
    Cpu = 2,
    Model = 3,
}

/// Datatypes as a configuration spells them: `TYPE_FP32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DataType {
    Invalid = 0,
    Bool = 1,
    Uint8 = 2,
    Uint16 = 3,
    Uint32 = 4,
    Uint64 = 5,
    Int8 = 6,
    Int16 = 7,
    Int32 = 8,
    Int64 = 9,
    Fp16 = 10,
    Fp32 = 11,
    Fp64 = 12,
    String = 13,
    Bf16 = 14,
}

impl DataType {
    /// In the form of JSON.
    pub fn word(datatype: Datatype) -> String {
        match datatype {
            Datatype::Bytes => "TYPE_STRING".to_owned(),
            datatype => format!("TYPE_{datatype}"),
        }
    }
}

impl From<Datatype> for DataType {
    fn from(datatype: Datatype) -> Self {
        match datatype {
            Datatype::Bool => Self::Bool,
            Datatype::Uint8 => Self::Uint8,
            Datatype::Uint16 => Self::Uint16,
            Datatype::Uint32 => Self::Uint32,
            Datatype::Uint64 => Self::Uint64,
            Datatype::Int8 => Self::Int8,
            Datatype::Int16 => Self::Int16,
            Datatype::Int32 => Self::Int32,
            Datatype::Int64 => Self::Int64,
            Datatype::Fp16 => Self::Fp16,
            Datatype::Fp32 => Self::Fp32,
            Datatype::Fp64 => Self::Fp64,
            Datatype::Bytes => Self::String,
            Datatype::Bf16 => Self::Bf16,
        }
    }
}
