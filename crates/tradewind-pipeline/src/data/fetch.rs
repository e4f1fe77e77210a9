//! Data by its address. It is the user's own machine that fetches, with the user's own reach, so any address is fine.
//!
//! A file is kept with what its server calls its version, and is fetched again only where the server says that it has
//! another; a transfer that broke off goes on where it was, in this run or a later one.

mod kept;

use std::{path::PathBuf, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{
    Response, StatusCode,
    header::{self, HeaderMap},
    redirect,
};
use tokio::io::AsyncWriteExt;
use tradewind_api::client::http_client;
use tradewind_core::backoff::Backoff;
use url::Url;

use self::kept::{Place, Version};
use super::{Error, Progress};

/// The largest file, in bytes.
const BYTES_LIMIT: u64 = 1 << 40;
const REDIRECTS_LIMIT: usize = 5;
/// A server that sends nothing for this long has gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Files that are fetched at the same time.
const AT_ONCE: usize = 4;
/// Attempts after the first that brought nothing.
const ATTEMPTS: u32 = 3;
const BETWEEN_ATTEMPTS: Backoff = Backoff { first: Duration::from_millis(250), limit: Duration::from_secs(5) };
/// How often `said` is told of one file, in bytes.
const TOLD_EVERY: u64 = 1 << 20;

/// A file that lies here now.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) address: Url,
    pub(super) path: PathBuf,
}

/// Whether a source is an address and not a path.
pub(super) fn is_address(source: &str) -> bool {
    let has = |scheme: &str| source.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    has("http://") || has("https://")
}

/// Without user, password and query, where people put secrets.
pub(super) fn shown(address: &Url) -> String {
    format!("{}{}", address.origin().ascii_serialization(), address.path())
}

/// Brings all of them here, in their order.
pub(super) async fn fetch_all(
    addresses: Vec<Url>,
    home: &std::path::Path,
    said: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Fetched>, Error> {
    let http = client();
    let fetches = addresses.into_iter().map(|address| {
        let fetch = Fetch { http: &http, place: Place::new(home, &address), address, said };
        async move { fetch.run().await }
    });
    stream::iter(fetches).buffered(AT_ONCE).try_collect().await
}

fn client() -> reqwest::Client {
    let only_http = redirect::Policy::custom(|attempt| {
        if attempt.previous().len() > REDIRECTS_LIMIT {
            attempt.error(format!("more than {REDIRECTS_LIMIT} redirects"))
        } else if !matches!(attempt.url().scheme(), "http" | "https") {
            attempt.error("a redirect to something that is not http or https")
        } else {
            attempt.follow()
        }
    });
    http_client().redirect(only_http).read_timeout(SILENCE_LIMIT).build().expect("the client's settings are constant")
}

/// Why an attempt brought no file.
enum Failure {
    /// It may go on, or be tried again.
    Passing(String),
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

struct Fetch<'a> {
    http: &'a reqwest::Client,
    place: Place,
    address: Url,
    said: &'a (dyn Fn(Progress) + Sync),
}

impl Fetch<'_> {
    async fn run(self) -> Result<Fetched, Error> {
        self.place.prepare()?;
        let mut failures = 0;
        loop {
            let before = self.place.partial_bytes();
            match self.attempt().await {
                Ok(()) => return Ok(Fetched { path: self.place.file(), address: self.address }),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(problem)) => {
                    failures = if self.place.partial_bytes() > before { 1 } else { failures + 1 };
                    if failures > ATTEMPTS {
                        return Err(self.failed(problem));
                    }
                    tracing::debug!(address = shown(&self.address), problem, "fetching again");
                    tokio::time::sleep(BETWEEN_ATTEMPTS.after(failures)).await;
                }
            }
        }
    }

    fn failed(&self, problem: impl Into<String>) -> Error {
        Error::Fetch { address: shown(&self.address), problem: problem.into() }
    }

    async fn attempt(&self) -> Result<(), Failure> {
        let partial = self.place.partial();
        let mut request = self.http.get(self.address.clone()).header(header::ACCEPT_ENCODING, "identity");
        if let Some((version, bytes)) = &partial {
            request = request.header(header::RANGE, format!("bytes={bytes}-"));
            request = request.header(header::IF_RANGE, version.precise().unwrap_or_default());
        } else if let Some(version) = self.place.kept() {
            request = match (&version.etag, &version.modified) {
                (Some(etag), _) => request.header(header::IF_NONE_MATCH, etag),
                (None, Some(modified)) => request.header(header::IF_MODIFIED_SINCE, modified),
                (None, None) => request,
            };
        }
        let response = request.send().await.map_err(|error| self.passing(&error))?;
        match response.status() {
            StatusCode::NOT_MODIFIED if partial.is_none() && self.place.kept().is_some() => Ok(()),
            StatusCode::PARTIAL_CONTENT => match partial {
                Some((_, bytes)) if begins_at(response.headers(), bytes) => self.take(response, bytes).await,
                _ => {
                    self.place.forget_partial()?;
                    Err(Failure::Passing("the server sent another part than the one asked for".to_owned()))
                }
            },
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.place.forget_partial()?;
                Err(Failure::Passing("the server has no such part of it".to_owned()))
            }
            StatusCode::OK => {
                self.place.begin(&Version::of(response.headers()))?;
                self.take(response, 0).await
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(self.failed("there is nothing").into()),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::Passing(format!("the server answered with status {status}")))
            }
            status => {
                let problem = format!(
                    "the server answered with status {status}: fetch the file yourself if it wants more than its address"
                );
                Err(self.failed(problem).into())
            }
        }
    }

    /// Writes what comes behind the bytes that are there, and keeps the whole.
    async fn take(&self, mut response: Response, mut bytes: u64) -> Result<(), Failure> {
        if let Some(encoding) = response.headers().get(header::CONTENT_ENCODING).filter(|value| *value != "identity") {
            return Err(self.failed(format!("it comes encoded as {encoding:?}, though not asked to")).into());
        }
        let of = response.content_length().map(|rest| bytes.saturating_add(rest));
        self.check_size(of.unwrap_or(bytes))?;
        let path = self.place.partial_file();
        let failed = Error::io("write", &path);
        let opened = tokio::fs::OpenOptions::new().append(true).create(true).open(&path).await;
        let mut file = opened.map_err(&failed)?;
        let mut told = 0;
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    file.flush().await.map_err(&failed)?;
                    return Err(self.passing(&error));
                }
            };
            bytes += chunk.len() as u64;
            self.check_size(bytes)?;
            file.write_all(&chunk).await.map_err(&failed)?;
            if bytes - told >= TOLD_EVERY {
                told = bytes;
                (self.said)(Progress::Fetching { name: shown(&self.address), bytes, of });
            }
        }
        file.flush().await.map_err(&failed)?;
        if of.is_some_and(|of| of != bytes) {
            return Err(Failure::Passing("the server closed the connection".to_owned()));
        }
        (self.said)(Progress::Fetching { name: shown(&self.address), bytes, of: Some(bytes) });
        Ok(self.place.keep()?)
    }

    fn check_size(&self, bytes: u64) -> Result<(), Error> {
        let problem = || format!("it is larger than {} TiB", BYTES_LIMIT >> 40);
        if bytes > BYTES_LIMIT { Err(self.failed(problem())) } else { Ok(()) }
    }

    /// What went wrong on the way; a redirect that is refused would be refused every time.
    fn passing(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let problem = cause.to_string();
        if error.is_redirect() || error.is_builder() {
            Failure::Final(self.failed(problem))
        } else {
            Failure::Passing(problem)
        }
    }
}

/// Whether an answer is the part of the file that begins there.
fn begins_at(headers: &HeaderMap, bytes: u64) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()) == Some(bytes)
}
