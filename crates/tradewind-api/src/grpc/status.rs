//! How a call ended: `grpc-status` and `grpc-message`, in the trailers or, where there is nothing else to say, in the
//! headers.

use std::fmt::Write;

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::CONTENT_TYPE;

pub const STATUS_HEADER: &str = "grpc-status";
pub const MESSAGE_HEADER: &str = "grpc-message";
/// How the messages are compressed that say so, `identity` if none is.
pub const ENCODING_HEADER: &str = "grpc-encoding";
pub const ACCEPT_ENCODING_HEADER: &str = "grpc-accept-encoding";
/// A longer message is cut off, so that clients with a limit on headers still learn the status.
const MESSAGE_BYTES_LIMIT: usize = 4 << 10;

/// gRPC's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// What REST says with a status, in gRPC's words.
    pub fn from_http(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::InvalidArgument,
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::PermissionDenied,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::Unimplemented,
            StatusCode::PAYLOAD_TOO_LARGE => Self::ResourceExhausted,
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Self::DeadlineExceeded,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Self::Unavailable
            }
            status if status.is_success() => Self::Ok,
            status if status.is_client_error() => Self::InvalidArgument,
            _ => Self::Internal,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    /// Empty when all went well.
    pub message: String,
}

impl Status {
    pub const OK: Self = Self { code: Code::Ok, message: String::new() };

    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What follows the last message of an answer.
    pub fn trailers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(STATUS_HEADER, HeaderValue::from(self.code as u16));
        if !self.message.is_empty() {
            headers.insert(MESSAGE_HEADER, percent_encoded(&self.message));
        }
        headers
    }

    /// The headers of an answer (with HTTP's 200) that is over with them.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = self.trailers();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers
    }
}

fn percent_encoded(message: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes().take(MESSAGE_BYTES_LIMIT) {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    HeaderValue::try_from(encoded).expect("only printable ASCII was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        let headers = Status::new(Code::NotFound, "no `é`,\n100 %").headers();
        assert_eq!(headers[STATUS_HEADER], "5");
        assert_eq!(headers[MESSAGE_HEADER], "no `%C3%A9`,%0A100 %25");
        assert_eq!(headers[header::CONTENT_TYPE], "application/grpc");
        let trailers = Status::OK.trailers();
        assert_eq!((trailers.len(), &trailers[STATUS_HEADER]), (1, &HeaderValue::from_static("0")));
        let long = Status::new(Code::Internal, "x".repeat(100_000)).trailers();
        assert_eq!(long[MESSAGE_HEADER].len(), MESSAGE_BYTES_LIMIT);
    }

    #[test]
    fn http_statuses_have_their_codes() {
        for (status, expected) in [
            (200, Code::Ok),
            (400, Code::InvalidArgument),
            (404, Code::NotFound),
            (409, Code::InvalidArgument),
            (413, Code::ResourceExhausted),
            (415, Code::Unimplemented),
            (500, Code::Internal),
            (502, Code::Unavailable),
            (503, Code::Unavailable),
            (504, Code::DeadlineExceeded),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Code::from_http(status), expected, "{status}");
        }
    }
}
