//! Names that are looked up for each request, ready to be.

use http::HeaderName;
use tradewind_api::{
    gateway::{
        CLIENT_REGION_HEADER, EPOCH_HEADER, MODEL_HEADER, PEER_HEADER, PIN_HEADER, REGION_HEADER, REQUEST_ID_HEADER,
        REVISION_HEADER, SLOT_HEADER, SPILL_HEADER, TIMEOUT_HEADER, UNAVAILABLE_HEADER, USER_HEADER,
    },
    grpc::{
        status::{ENCODING_HEADER, STATUS_HEADER},
        timeout,
    },
    http::TRACE_HEADER,
};

pub(crate) static CLIENT_REGION: HeaderName = HeaderName::from_static(CLIENT_REGION_HEADER);
pub(crate) static EPOCH: HeaderName = HeaderName::from_static(EPOCH_HEADER);
pub(crate) static GRPC_ENCODING: HeaderName = HeaderName::from_static(ENCODING_HEADER);
pub(crate) static GRPC_STATUS: HeaderName = HeaderName::from_static(STATUS_HEADER);
pub(crate) static GRPC_TIMEOUT: HeaderName = HeaderName::from_static(timeout::TIMEOUT_HEADER);
pub(crate) static MODEL: HeaderName = HeaderName::from_static(MODEL_HEADER);
pub(crate) static PEER: HeaderName = HeaderName::from_static(PEER_HEADER);
pub(crate) static PIN: HeaderName = HeaderName::from_static(PIN_HEADER);
pub(crate) static REGION: HeaderName = HeaderName::from_static(REGION_HEADER);
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID_HEADER);
pub(crate) static REVISION: HeaderName = HeaderName::from_static(REVISION_HEADER);
pub(crate) static SLOT: HeaderName = HeaderName::from_static(SLOT_HEADER);
pub(crate) static SPILL: HeaderName = HeaderName::from_static(SPILL_HEADER);
pub(crate) static TIMEOUT: HeaderName = HeaderName::from_static(TIMEOUT_HEADER);
pub(crate) static TRACE_PARENT: HeaderName = HeaderName::from_static(TRACE_HEADER);
pub(crate) static TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
pub(crate) static UNAVAILABLE: HeaderName = HeaderName::from_static(UNAVAILABLE_HEADER);
pub(crate) static USER: HeaderName = HeaderName::from_static(USER_HEADER);
