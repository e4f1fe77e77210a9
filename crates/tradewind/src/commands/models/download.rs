//! Models by URL. It is the user's own machine that fetches, with the user's own reach, so any address is fine here;
//! control never fetches what a request names.

use std::{path::PathBuf, time::Duration};

use reqwest::redirect;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tradewind_api::{Code, client::http_client};
use tradewind_core::bundle::BUNDLE_BYTES_LIMIT;
use url::Url;

use super::push::transfer_bar;
use crate::{
    failure::Failure,
    terminal::{Format, units},
};

const REDIRECTS_LIMIT: usize = 5;
/// A server that sends nothing for this long has gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// Fetches the one file of a bare model into a directory that goes when it is dropped.
pub(super) async fn download(url: &Url, format: Format) -> Result<(TempDir, PathBuf), Failure> {
    let name = file_name(url)?;
    let directory = TempDir::with_prefix("tradewind-").map_err(|error| disk(&error))?;
    let path = directory.path().join(name);
    let mut file = tokio::fs::File::create_new(&path).await.map_err(|error| disk(&error))?;
    let mut response = get(url).await?;
    let bar = transfer_bar(format, "fetching", response.content_length().unwrap_or(0));
    let mut bytes = 0_u64;
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(url, &error))? {
        bytes += chunk.len() as u64;
        if bytes > BUNDLE_BYTES_LIMIT {
            return Err(too_large(url));
        }
        file.write_all(&chunk).await.map_err(|error| disk(&error))?;
        bar.set_position(bytes);
    }
    file.flush().await.map_err(|error| disk(&error))?;
    bar.finish_and_clear();
    Ok((directory, path))
}

/// The last segment of the path, which must be a plain `.onnx` file.
fn file_name(url: &Url) -> Result<String, Failure> {
    let name = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && !name.starts_with('.');
    if plain && name.ends_with(".onnx") && name.len() > ".onnx".len() {
        return Ok(name.to_owned());
    }
    Err(Failure::usage("only an .onnx file can be fetched from a URL")
        .hint("fetch the bundle's directory yourself, and give its path"))
}

async fn get(url: &Url) -> Result<reqwest::Response, Failure> {
    let only_http = redirect::Policy::custom(|attempt| {
        if attempt.previous().len() > REDIRECTS_LIMIT {
            attempt.error(format!("more than {REDIRECTS_LIMIT} redirects"))
        } else if !matches!(attempt.url().scheme(), "http" | "https") {
            attempt.error("a redirect to something that is not http or https")
        } else {
            attempt.follow()
        }
    });
    let http = http_client()
        .redirect(only_http)
        .read_timeout(SILENCE_LIMIT)
        .build()
        .expect("the client's settings are constant");
    let response = http.get(url.clone()).send().await.map_err(|error| unreachable(url, &error))?;
    let status = response.status();
    if status == reqwest::StatusCode::NOT_FOUND {
        return Err(
            Failure::new(Code::NotFound, format!("there is nothing at {}", shown(url))).hint("check the address")
        );
    }
    if !status.is_success() {
        return Err(Failure::failed(format!("{} answered with status {status}", shown(url)))
            .hint("fetch the file yourself if that server wants more than its address, and give its path"));
    }
    if response.content_length().is_some_and(|length| length > BUNDLE_BYTES_LIMIT) {
        return Err(too_large(url));
    }
    Ok(response)
}

/// Without user, password and query, where people put secrets.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn unreachable(url: &Url, error: &reqwest::Error) -> Failure {
    Failure::new(Code::Unreachable, format!("cannot fetch {}", shown(url)))
        .cause(crate::failure::root_cause(error))
        .hint("check the address, and that this machine reaches it")
}

fn too_large(url: &Url) -> Failure {
    Failure::new(Code::TooLarge, format!("{} is larger than {}", shown(url), units::bytes(BUNDLE_BYTES_LIMIT)))
        .hint("no bundle may be that large: split the model, or leave out what it does not need")
}

fn disk(error: &std::io::Error) -> Failure {
    let code = if tradewind_artifacts::is_full(error) { Code::DiskFull } else { Code::Internal };
    Failure::new(code, "cannot keep the download")
        .cause(error.to_string())
        .hint("make room in the temporary directory, or set TMPDIR to another one")
}
