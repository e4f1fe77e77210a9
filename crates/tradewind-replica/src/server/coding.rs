//! How requests come and answers go: as they are, or compressed.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tradewind_api::{
    compression::{ACCEPTED, Coding, at_most},
    grpc::{
        frame::{HEADER_BYTES, Header},
        status::{ACCEPT_ENCODING_HEADER, ENCODING_HEADER},
    },
};

use super::{body::BODY_BYTES_LIMIT, failure::Failure};
use crate::{metrics::Reason, request::RequestError};

/// Less than this is sent as it is: it fits into a packet either way.
const COMPRESSED_FROM: usize = 1400;
/// In the words of gRPC.
pub(super) const ACCEPTED_BY_GRPC: HeaderValue = HeaderValue::from_static("identity, gzip, deflate");
/// One byte that is compressed takes as long to parse as so many of JSON: it may be a thousand others.
const JSON_BYTES_PER_COMPRESSED_BYTE: usize = 32;

/// Of one request and its answer; `None` is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Codings {
    pub(super) request: Option<Coding>,
    pub(super) answer: Option<Coding>,
}

impl Codings {
    /// What `content-encoding` and `accept-encoding` say.
    pub(super) fn of_rest(headers: &HeaderMap) -> Result<Self, Failure> {
        let request = one(headers, &header::CONTENT_ENCODING).map_err(|()| {
            let message =
                format!("the request's Content-Encoding is not supported; send it as it is, or as {ACCEPTED}");
            Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Reason::Invalid, message)
        })?;
        let accepted = headers.get_all(header::ACCEPT_ENCODING).iter();
        let answer = accepted.filter_map(|value| Coding::accepted(value.as_bytes())).next();
        Ok(Self { request, answer })
    }

    /// What `grpc-encoding` and `grpc-accept-encoding` say. Every client of gRPC takes compressed answers; one that
    /// compresses wants them.
    pub(super) fn of_grpc(headers: &HeaderMap) -> Result<Self, Failure> {
        let request = one(headers, &HeaderName::from_static(ENCODING_HEADER)).map_err(|()| {
            let message =
                format!("the messages' grpc-encoding is not supported; send them as they are, or as {ACCEPTED}");
            Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Reason::Invalid, message)
        })?;
        let accepts = |coding: Coding| {
            let mut accepted = headers.get_all(ACCEPT_ENCODING_HEADER).iter().peekable();
            accepted.peek().is_none()
                || accepted.any(|value| {
                    value.as_bytes().split(|byte| *byte == b',').any(|name| Coding::from_name(name) == Some(coding))
                })
        };
        Ok(Self { request, answer: request.filter(|coding| accepts(*coding)) })
    }

    /// How long it takes to parse a request, where `plain` is for one that came as it is.
    pub(super) fn parse_cost(self, body: &Bytes, plain: usize) -> usize {
        match self.request {
            None => plain,
            Some(_) => body.len().saturating_mul(JSON_BYTES_PER_COMPRESSED_BYTE),
        }
    }

    /// A body of REST as it was before it was compressed, as long as `admit` has room for so many bytes.
    pub(super) fn decompress<E: Into<Failure>>(
        self,
        body: Bytes,
        admit: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Bytes, Failure> {
        match self.request {
            None => Ok(body),
            Some(coding) => decompress(coding, &body, admit),
        }
    }

    /// An answer of REST, and how it is compressed now.
    pub(super) fn compress(self, body: Vec<u8>) -> (Vec<u8>, Option<Coding>) {
        match self.answer {
            Some(coding) if body.len() >= COMPRESSED_FROM => (coding.compress(&body), Some(coding)),
            _ => (body, None),
        }
    }

    /// The message of one frame, and there is no more than one. One that is compressed comes as long as `admit` has room
    /// for so many bytes.
    pub(super) fn message<E: Into<Failure>>(
        self,
        mut frame: Bytes,
        admit: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Bytes, Failure> {
        let invalid = |message: &str| RequestError::Message(message.to_owned());
        let header = frame.first_chunk().ok_or_else(|| invalid("it is cut off within its frame"))?;
        let header = Header::read(*header).map_err(|error| invalid(&error.to_string()))?;
        let message = frame.split_off(HEADER_BYTES);
        match message.len().cmp(&(header.length as usize)) {
            std::cmp::Ordering::Less => return Err(invalid("it is shorter than its frame says").into()),
            std::cmp::Ordering::Greater => return Err(invalid("more than one came, and the call takes one").into()),
            std::cmp::Ordering::Equal => {}
        }
        match (header.compressed, self.request) {
            (false, _) => Ok(message),
            (true, Some(coding)) => decompress(coding, &message, admit),
            (true, None) => Err(invalid("it is compressed, without saying how").into()),
        }
    }

    /// A frame that is compressed where that is wanted and worth it.
    pub(super) fn frame(self, frame: Vec<u8>) -> Vec<u8> {
        let (Some(coding), Some((_, message))) = (self.answer, frame.split_first_chunk::<HEADER_BYTES>()) else {
            return frame;
        };
        if message.len() < COMPRESSED_FROM {
            return frame;
        }
        let message = coding.compress(message);
        // Nothing grows so much that its length could not be said any more.
        let Ok(length) = u32::try_from(message.len()) else { return frame };
        [&Header::compressed(length).write()[..], &message].concat()
    }
}

/// The one coding that a header names; `Err` for one that is not had here, or several.
fn one(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Coding>, ()> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(());
    }
    match value.as_bytes().trim_ascii() {
        b"" => Ok(None),
        name if name.eq_ignore_ascii_case(b"identity") => Ok(None),
        name => Coding::from_name(name).map(Some).ok_or(()),
    }
}

fn decompress<E: Into<Failure>>(
    coding: Coding,
    compressed: &[u8],
    mut admit: impl FnMut(usize) -> Result<(), E>,
) -> Result<Bytes, Failure> {
    let mut plain = BytesMut::with_capacity(compressed.len());
    coding.decompress(compressed, &mut plain, |bytes| {
        at_most(BODY_BYTES_LIMIT)(bytes)?;
        admit(bytes).map_err(Into::into)
    })?;
    Ok(plain.freeze())
}
