//! The gRPC form of the Open Inference Protocol: where its methods are, its messages, and what of gRPC's wire format
//! a server or proxy needs. It moves no bytes itself; `proto/open_inference.proto` says the same to
//! other languages.

pub mod frame;
pub mod message;
pub mod status;
pub mod target;
pub mod timeout;

pub use status::{Code, Status};

use http::{HeaderMap, header};

/// What the path of every method begins with.
pub const SERVICE_PREFIX: &str = "/inference.GRPCInferenceService/";
/// `content-type` of requests and answers; requests may append `+proto` or parameters.
pub const CONTENT_TYPE: &str = "application/grpc";

/// The methods that Tradewind has. Any other is [`Code::Unimplemented`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    ServerLive,
    ServerReady,
    ServerMetadata,
    ModelReady,
    ModelMetadata,
    ModelInfer,
    ModelStreamInfer,
    ModelConfig,
    ModelStatistics,
    RepositoryIndex,
    RepositoryModelLoad,
    RepositoryModelUnload,
}

impl Method {
    pub const ALL: [Self; 12] = [
        Self::ServerLive,
        Self::ServerReady,
        Self::ServerMetadata,
        Self::ModelReady,
        Self::ModelMetadata,
        Self::ModelInfer,
        Self::ModelStreamInfer,
        Self::ModelConfig,
        Self::ModelStatistics,
        Self::RepositoryIndex,
        Self::RepositoryModelLoad,
        Self::RepositoryModelUnload,
    ];

    pub fn path(self) -> &'static str {
        match self {
            Self::ServerLive => "/inference.GRPCInferenceService/ServerLive",
            Self::ServerReady => "/inference.GRPCInferenceService/ServerReady",
            Self::ServerMetadata => "/inference.GRPCInferenceService/ServerMetadata",
            Self::ModelReady => "/inference.GRPCInferenceService/ModelReady",
            Self::ModelMetadata => "/inference.GRPCInferenceService/ModelMetadata",
            Self::ModelInfer => "/inference.GRPCInferenceService/ModelInfer",
            Self::ModelStreamInfer => "/inference.GRPCInferenceService/ModelStreamInfer",
            Self::ModelConfig => "/inference.GRPCInferenceService/ModelConfig",
            Self::ModelStatistics => "/inference.GRPCInferenceService/ModelStatistics",
            Self::RepositoryIndex => "/inference.GRPCInferenceService/RepositoryIndex",
            Self::RepositoryModelLoad => "/inference.GRPCInferenceService/RepositoryModelLoad",
            Self::RepositoryModelUnload => "/inference.GRPCInferenceService/RepositoryModelUnload",
        }
    }

    pub fn from_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.path() == path)
    }

    /// Whether its request, or the first of them, begins with the name of a model: see [`target::target`].
    pub fn names_a_model(self) -> bool {
        matches!(
            self,
            Self::ModelReady
                | Self::ModelMetadata
                | Self::ModelInfer
                | Self::ModelStreamInfer
                | Self::ModelConfig
                | Self::ModelStatistics
        )
    }

    /// Whether requests and answers go back and forth until the client has said all.
    pub fn is_a_conversation(self) -> bool {
        self == Self::ModelStreamInfer
    }
}

/// Whether a request speaks gRPC; gRPC-Web is another protocol.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| is_grpc_type(value.as_bytes()))
}

/// Whether a body of that content type is gRPC's.
pub fn is_grpc_type(content_type: &[u8]) -> bool {
    let rest = content_type.strip_prefix(CONTENT_TYPE.as_bytes());
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_their_paths() {
        for method in Method::ALL {
            assert_eq!(method.path(), format!("{SERVICE_PREFIX}{method:?}"));
            assert_eq!(Method::from_path(method.path()), Some(method));
        }
        assert_eq!(Method::from_path("/inference.GRPCInferenceService/SystemSharedMemoryStatus"), None);
        assert_eq!(Method::from_path("/inference.GRPCInferenceService/"), None);
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().expect("a value"))]);
            assert_eq!(is_grpc(&headers), expected, "{content_type}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
