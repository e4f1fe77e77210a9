//! The model that a message of gRPC is for, read before the whole of it has come.

use http::StatusCode;
use tradewind_api::{
    compression::Coding,
    grpc::{frame, target},
};

use super::Refused;
use crate::{body::Arriving, reply::Reply};

/// The body as far as it has come, the model and perhaps the version.
pub(super) async fn read_target(
    mut arriving: Arriving,
    coding: Option<Coding>,
) -> Result<(Arriving, String, Option<String>), Refused> {
    let malformed =
        |message: &dyn std::fmt::Display| Refused(Reply::error(StatusCode::BAD_REQUEST, message.to_string()));
    let mut compressed = Compressed::default();
    loop {
        if let Some((header, message)) = arriving.held().split_first_chunk::<{ frame::HEADER_BYTES }>() {
            let header = frame::Header::read(*header).map_err(|error| malformed(&error))?;
            let length = header.length as usize;
            let message = &message[..message.len().min(length)];
            let found = if header.compressed {
                compressed.target(message, length, coding)?
            } else {
                target::target(message, length).map_err(|error| malformed(&error))?.map(owned)
            };
            if let Some((model, version)) = found {
                if model.is_empty() {
                    return Err(malformed(&"the message names no model, and a gateway tells of one at a time"));
                }
                return Ok((arriving, model, version));
            }
        }
        if !arriving.more().await? {
            return Err(malformed(&"the message ends before the model's name"));
        }
    }
}

fn owned(found: target::Target<'_>) -> (String, Option<String>) {
    let version = Some(found.version).filter(|version| !version.is_empty());
    (found.model.to_owned(), version.map(str::to_owned))
}

/// A compressed message of which only the beginning is looked at.
#[derive(Debug, Default)]
struct Compressed {
    /// So much must have come before it is looked at again: who sends byte by byte must not have it decompressed as
    /// often.
    enough: usize,
}

impl Compressed {
    fn target(
        &mut self,
        received: &[u8],
        length: usize,
        coding: Option<Coding>,
    ) -> Result<Option<(String, Option<String>)>, Refused> {
        let refused = |status, message: &str| Refused(Reply::error(status, message));
        let Some(coding) = coding else {
            let message = "compressed messages are taken as gzip or deflate, where grpc-encoding says so";
            return Err(refused(StatusCode::METHOD_NOT_ALLOWED, message));
        };
        let malformed = |message: String| refused(StatusCode::BAD_REQUEST, &message);
        if received.len() < self.enough.min(length) {
            return Ok(None);
        }
        self.enough = received.len() * 2;
        let beginning = coding.beginning(received, target::TARGET_BYTES_LIMIT);
        let beginning = beginning.map_err(|error| malformed(error.to_string()))?;
        let all = if beginning.whole { beginning.bytes.len() } else { usize::MAX };
        match target::target(&beginning.bytes, all).map_err(|error| malformed(error.to_string()))? {
            None if received.len() >= length.min(target::TARGET_BYTES_LIMIT) => {
                Err(malformed(target::TargetError::TooLate.to_string()))
            }
            found => Ok(found.map(owned)),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tradewind_api::grpc::message::ModelInferRequest;

    use super::*;

    #[test]
    fn whatever_comes_compressed_is_refused_or_names_what_it_would_name_whole() {
        let seeds = Coding::ALL.map(|coding| {
            let version = "3".to_owned();
            let raw_input_contents = vec![vec![7; 300].into()];
            let message = ModelInferRequest { model_version: version, raw_input_contents, ..Default::default() };
            coding.compress(&ModelInferRequest { model_name: "digits".to_owned(), ..message }.encode_to_vec())
        });
        let mut found = 0;
        tradewind_fuzz::fuzz(&seeds, |message| {
            for coding in Coding::ALL {
                let whole = Compressed::default().target(message, message.len(), Some(coding)).ok().flatten();
                let mut piecewise = Compressed::default();
                let mut first = None;
                for received in 0..=message.len() {
                    match piecewise.target(&message[..received], message.len(), Some(coding)) {
                        Ok(None) => {}
                        other => {
                            first = other.ok().flatten();
                            break;
                        }
                    }
                }
                // What is damaged further on may still have named its model before.
                if whole.is_some() {
                    assert_eq!(first, whole);
                    found += 1;
                }
            }
        });
        assert!(found > 2, "{found} named a model");
    }
}
