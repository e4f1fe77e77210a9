//! The files of bundles, by content.

use std::time::Duration;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Json, Response},
};
use futures_util::{StreamExt, TryStreamExt};
use tradewind_api::{Code, Problem, models::MissingBlobs};
use tradewind_artifacts::{
    BlobStore,
    blobs::{Blob, Error},
};
use tradewind_core::{
    Digest,
    bundle::{BUNDLE_BYTES_LIMIT, BUNDLE_FILES_LIMIT},
};

use super::{
    Result, Shared, disk_full,
    extract::{self, DeclaredLength, Path, RequestedRange},
};

/// The rest of a body that nobody needs is read for this long, so that its sender comes to read the answer.
const REST_LIMIT: Duration = Duration::from_secs(20);

/// Those of the digests that are not here.
#[utoipa::path(post, path = "/v1/blobs/missing", tag = "models", request_body = MissingBlobs,
    responses((status = 200, body = MissingBlobs), (status = 400, body = Problem)))]
pub(super) async fn missing(
    State(app): Shared,
    extract::Json(asked): extract::Json<MissingBlobs>,
) -> Result<Json<MissingBlobs>> {
    if asked.digests.len() > BUNDLE_FILES_LIMIT {
        let detail = format!("at most {BUNDLE_FILES_LIMIT} digests at a time, as a bundle has no more files");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let mut digests = Vec::new();
    for digest in asked.digests {
        if !app.blobs.has(&digest).await.map_err(|error| problem(&error))? {
            digests.push(digest);
        }
    }
    Ok(Json(MissingBlobs { digests }))
}

/// Takes a blob in. It is kept only if it has the digest that it is put under.
#[utoipa::path(put, path = "/v1/blobs/{digest}", tag = "models",
    params(("digest" = Digest, Path), ("content-length" = u64, Header, description = "The blob's size")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201), (status = 200, description = "There already"),
        (status = 400, body = Problem), (status = 413, body = Problem), (status = 507, body = Problem),
    ))]
pub(super) async fn put_blob(
    State(app): Shared,
    Path(digest): Path<Digest>,
    DeclaredLength(size): DeclaredLength,
    body: Body,
) -> Result<StatusCode> {
    if size > BUNDLE_BYTES_LIMIT {
        return Err(problem(&Error::TooLarge { size }));
    }
    take(&app.blobs, &digest, size, body).await
}

/// Takes what a client sends into a store.
pub(super) async fn take(store: &BlobStore, digest: &Digest, size: u64, body: Body) -> Result<StatusCode> {
    let mut content = body.into_data_stream();
    let created = store.put_stream(digest, size, content.by_ref()).await;
    // An answer before the end of the body would look like a broken connection to the one who sends it.
    let rest = async { while let Ok(Some(_)) = content.try_next().await {} };
    let _ = tokio::time::timeout(REST_LIMIT, rest).await;
    match created {
        Ok(true) => Ok(StatusCode::CREATED),
        Ok(false) => Ok(StatusCode::OK),
        Err(error) => Err(problem(&error)),
    }
}

/// A blob, or the rest of it from an offset on.
#[utoipa::path(get, path = "/v1/blobs/{digest}", tag = "models",
    params(("digest" = Digest, Path), ("range" = Option<String>, Header, description = "`bytes=A-` or `bytes=A-B`")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, body = Problem), (status = 416, body = Problem),
    ))]
pub(super) async fn get_blob(
    State(app): Shared,
    Path(digest): Path<Digest>,
    RequestedRange(range): RequestedRange,
) -> Result<Response> {
    let read = match &range {
        None => app.blobs.read(&digest, ..).await,
        Some(extract::ByteRange { first, last: None }) => app.blobs.read(&digest, *first..).await,
        Some(extract::ByteRange { first, last: Some(last) }) => app.blobs.read(&digest, *first..=*last).await,
    };
    let blob = match read {
        Ok(blob) => blob,
        Err(error @ Error::Range { .. }) => {
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, problem(&error)).into_response());
        }
        Err(error) => return Err(problem(&error)),
    };
    let (offset, length, size) = (blob.offset, blob.length, blob.size);
    let mut response = sent(blob);
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if range.is_some() {
        let part = match length {
            // The rest of a blob of which everything was there.
            0 => format!("bytes */{size}"),
            _ => format!("bytes {offset}-{}/{size}", offset + length - 1),
        };
        headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(part).expect("digits are a header value"));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// A blob, or a part of it, as the body of an answer.
pub(super) fn sent(blob: Blob) -> Response {
    let length = blob.length;
    let mut response = Body::from_stream(blob.into_stream()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// What a client is told of an error of the blob store. Paths of this machine go to the log alone.
pub(crate) fn problem(error: &Error) -> Problem {
    let code = match error {
        Error::NotFound { .. } => Code::NotFound,
        Error::TooLarge { .. } => Code::TooLarge,
        Error::Size { .. } | Error::Digest { .. } | Error::Upload { .. } | Error::Range { .. } => Code::Invalid,
        Error::DiskFull { .. } => {
            tracing::error!(error = error as &dyn std::error::Error, "the disk is full");
            return disk_full();
        }
        Error::Io { .. } => {
            tracing::error!(error = error as &dyn std::error::Error, "the blob store failed");
            return Problem::new(Code::Internal, "the control plane's blob store failed")
                .hint("see the control plane's log");
        }
    };
    Problem::from_error(code, error)
}
