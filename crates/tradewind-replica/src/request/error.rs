//! Why a request is refused: always its own doing.

use tradewind_api::gateway::TIMEOUT_HEADER;
use tradewind_core::inference::Datatype;

use super::{data::DataError, raw::RawError, typed::TypedError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("the request has no body")]
    Empty,
    #[error("{TIMEOUT_HEADER} is written like 500ms or 2s")]
    Timeout,
    #[error("the request is not UTF-8: {0}")]
    Encoding(#[from] std::str::Utf8Error),
    #[error("the request is not a valid inference request: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the request is not a valid message: {0}")]
    Message(String),
    #[error("the request has {count} {what}, more than any model takes")]
    TooMany { what: &'static str, count: usize },
    #[error("the model has no input `{0}`")]
    UnknownInput(String),
    #[error("input `{0}` is given twice")]
    DuplicateInput(String),
    #[error("input `{0}` is missing")]
    MissingInput(String),
    #[error("the model has no output `{0}`")]
    UnknownOutput(String),
    #[error("output `{0}` is asked for twice")]
    DuplicateOutput(String),
    #[error("the parameter `{0}` of outputs is not had here, ask for tensors")]
    Extension(&'static str),
    #[error("input `{0}` has no `data`")]
    NoData(String),
    #[error("input `{0}` has both `data` and `binary_data_size`")]
    TwoForms(String),
    #[error("input `{0}` has a `binary_data_size`, but the header Inference-Header-Content-Length is missing")]
    HeaderMissing(String),
    #[error("Inference-Header-Content-Length must be a number of bytes, and be given once")]
    HeaderMalformed,
    #[error("Inference-Header-Content-Length is {announced}, but the request has {length} bytes")]
    HeaderBeyondBody { announced: usize, length: usize },
    #[error("input `{input}` has {announced} bytes by its `binary_data_size`, but only {left} are left of the request")]
    TailShort { input: String, announced: u64, left: usize },
    #[error("the request has {0} bytes more than its JSON and its binary tensors")]
    TailLong(usize),
    #[error("a request of one raw tensor is for models of one input, this one has {0}")]
    LoneInput(usize),
    #[error("input `{input}` takes [{expected}]: its shape does not follow from {length} raw bytes, send it in JSON")]
    LoneShape { input: String, expected: String, length: usize },
    #[error("the request has {tensors} inputs, but raw contents for {raw}")]
    RawCount { tensors: usize, raw: usize },
    #[error("input `{0}` has contents of its own besides the raw ones")]
    RawAndTyped(String),
    #[error("input `{input}` has datatype {given}, the model takes {expected}")]
    Datatype { input: String, given: String, expected: Datatype },
    #[error("input `{input}` has shape {given:?}, the model takes [{expected}]")]
    Shape { input: String, given: Vec<i64>, expected: String },
    #[error("input `{input}` has a shape of too many elements: {given:?}")]
    TooManyElements { input: String, given: Vec<i64> },
    #[error("input `{input}`: {source}")]
    Data { input: String, source: DataError },
    #[error("input `{input}`: {source}")]
    Raw { input: String, source: RawError },
    #[error("input `{input}`: {source}")]
    Typed { input: String, source: TypedError },
    #[error("input `{input}`: {message}")]
    Tensor { input: String, message: String },
}
