//! Publishing a model: read and check it here, send the blobs that the registry lacks, make them a version.

use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;
use tokio_util::io::ReaderStream;
use tradewind_api::{Code, models::Published};
use tradewind_artifacts::{Bundle, LocalBundle, bundle};
use tradewind_core::{
    Digest, ModelName,
    bundle::{CommandOptions, Lineage, ModelVersion, Signature, TensorSpec},
};

use super::download;
use crate::{
    failure::Failure,
    session::Session,
    terminal::{self, Format, units},
};

/// Small files wait for the registry's disk, not for the network, so several go at once.
const UPLOADS_AT_ONCE: usize = 4;

/// Where a model comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Path(PathBuf),
    Url(url::Url),
}

impl Source {
    pub(crate) fn parse(text: &str) -> Self {
        match url::Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Self::Url(url),
            _ => Self::Path(PathBuf::from(text)),
        }
    }
}

/// Publishes what `source` names; equal content is the version that is there already, with the lineage that it has.
pub(crate) async fn push(
    session: &Session,
    source: &str,
    name: Option<ModelName>,
    lineage: Option<Lineage>,
    format: Format,
) -> Result<Published, Failure> {
    let (bundle, _kept) = read(Source::parse(source), format).await?;
    let name = name.or_else(|| bundle.suggested_name.clone()).ok_or_else(|| {
        Failure::usage(format!("`{source}` gives the model no name"))
            .hint("add --name NAME, or `name` to its tradewind.toml")
    })?;
    upload(session, &bundle, format).await?;
    let bar = terminal::spinner(format, "publishing");
    let published = session.client.publish(&name, bundle.index.clone(), lineage).await;
    bar.finish_and_clear();
    Ok(published?)
}

/// The bundle, and the directory that a download lies in while it is needed.
async fn read(source: Source, format: Format) -> Result<(LocalBundle, Option<TempDir>), Failure> {
    let (path, kept) = match source {
        Source::Path(path) => (path, None),
        Source::Url(url) => {
            let (directory, path) = download::download(&url, format).await?;
            (path, Some(directory))
        }
    };
    let bar = terminal::spinner(format, "reading");
    let bundle = Bundle::read(&path).await;
    bar.finish_and_clear();
    bundle.map(|bundle| (bundle, kept)).map_err(|error| refused(&error))
}

fn refused(error: &bundle::Error) -> Failure {
    let code = match error {
        bundle::Error::NotFound { .. } => Code::NotFound,
        bundle::Error::Read { .. } => Code::Internal,
        bundle::Error::TooLarge | bundle::Error::TooManyFiles | bundle::Error::ModelTooLarge { .. } => Code::TooLarge,
        _ => Code::InvalidBundle,
    };
    let failure = Failure::from_error(code, error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

async fn upload(session: &Session, bundle: &LocalBundle, format: Format) -> Result<(), Failure> {
    let digests = bundle.index.files.values().map(|file| file.digest).collect();
    let missing = session.client.missing_blobs(digests).await?;
    // Two files may have one content; it is sent once.
    let file_of = |digest: &Digest| bundle.index.files.iter().find(|(_, file)| file.digest == *digest);
    let files: Vec<_> = missing.iter().filter_map(file_of).collect();
    let bar = transfer_bar(format, "pushing", files.iter().map(|(_, file)| file.size).sum());
    let uploads = futures_util::stream::iter(files.into_iter().map(|(path, file)| {
        let source = bundle.path_of(path).expect("the path comes from this bundle's index");
        let bar = &bar;
        async move { send(session, &source, &file.digest, file.size, bar).await }
    }));
    let sent = uploads.buffer_unordered(UPLOADS_AT_ONCE).try_collect::<()>().await;
    bar.finish_and_clear();
    sent
}

async fn send(session: &Session, source: &Path, digest: &Digest, size: u64, bar: &ProgressBar) -> Result<(), Failure> {
    let file = tokio::fs::File::open(source)
        .await
        .map_err(|error| Failure::failed(format!("cannot read {}", source.display())).cause(error.to_string()))?;
    let sent = bar.clone();
    let stream = ReaderStream::with_capacity(file, 256 << 10).inspect_ok(move |chunk| sent.inc(chunk.len() as u64));
    Ok(session.client.put_blob(digest, size, reqwest::Body::wrap_stream(stream)).await?)
}

/// `digits 1  blake3:9f2c41d07a  18 KB  onnx  in: image FP32 [N,64]  out: label INT64 [N]`, and of a server
/// `chat 1  blake3:9f2c41d07a  18 KB  command  python3 server.py --port {port}`
pub(crate) fn describe(version: &ModelVersion) -> String {
    let tensors = |tensors: &[TensorSpec]| tensors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let signature = || {
        let Signature { inputs, outputs } = &version.signature;
        format!("in: {}  out: {}", tensors(inputs), tensors(outputs))
    };
    let what = match version.manifest.server() {
        Some(command) => command_line(command),
        None => signature(),
    };
    format!(
        "  {} {}  {}  {}  {}  {what}\n",
        version.name,
        version.version,
        version.digest.short(),
        units::bytes(version.index.bytes()),
        version.manifest.runtime.as_str(),
    )
}

/// The words of a command as a shell would take them.
pub(super) fn command_line(command: &CommandOptions) -> String {
    let quoted = |word: &String| {
        let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,{}".contains(c);
        let is_plain = !word.is_empty() && word.chars().all(plain);
        if is_plain { word.clone() } else { format!("'{}'", word.escape_debug().to_string().replace('\'', r"'\''")) }
    };
    command.run.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Hidden unless stderr is a terminal, and gone when it is done.
pub(super) fn transfer_bar(format: Format, what: &'static str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "  {msg} {bar:32} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta}",
    )
    .expect("the template is constant");
    ProgressBar::with_draw_target(Some(total), terminal::progress_target(format)).with_style(style).with_message(what)
}
