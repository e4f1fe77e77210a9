//! Turning blobs into a version: everything that can be known of a bundle before it runs is checked here, once.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{io::AsyncReadExt, sync::Semaphore};
use tradewind_api::{Code, Problem, models::PublishRequest};
use tradewind_artifacts::{BlobStore, Installer, blobs, bundle, bundle_digest, install};
use tradewind_core::{
    Digest, ModelName, Timestamp, VersionNumber,
    bundle::{BundleIndex, KeyProblem, Lineage, MANIFEST_FILE, Manifest, ModelHead, ModelVersion, Runtime, Signature},
    event::{EventKind, EventRecord, Severity},
    verify::{self, Case},
};
use tradewind_store::{Compare, Op, Txn};

use crate::{
    events,
    inspect::inspect,
    keys,
    repository::{self, Kept, Repository, put},
};

/// How often numbering a version is tried again when another one was published in between.
const CONFLICT_RETRIES: usize = 10;
/// Bundles inspected at once: loading a model takes as much memory as serving it.
const INSPECTIONS_LIMIT: usize = 1;

/// A version, and whether it is new.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub created: bool,
    pub version: ModelVersion,
}

#[derive(Debug)]
pub(crate) struct Publisher {
    repository: Repository,
    blobs: BlobStore,
    /// Where bundles are put together to be inspected.
    workbench: Installer,
    program: PathBuf,
    inspections: Semaphore,
}

impl Publisher {
    pub(crate) fn new(repository: Repository, blobs: BlobStore, workbench: Installer, program: PathBuf) -> Self {
        Self { repository, blobs, workbench, program, inspections: Semaphore::new(INSPECTIONS_LIMIT) }
    }

    /// Makes a version of blobs that are all there; content that a version has already gives that version, with the
    /// lineage that it has.
    pub(crate) async fn publish(&self, name: &ModelName, request: PublishRequest) -> Result<Outcome, Problem> {
        let PublishRequest { index, lineage } = request;
        lineage.as_ref().map_or(Ok(()), check_lineage)?;
        bundle::check_index(&index).map_err(refused)?;
        self.check_blobs(&index).await?;
        let digest = bundle_digest(&index);
        if let Some(version) = self.existing(name, &digest).await? {
            return Ok(Outcome { created: false, version });
        }
        let manifest = self.manifest(&index).await?;
        let cases = bundle::check_contents(&index, &manifest).map_err(refused)?;
        let signature = match manifest.server() {
            Some(_) => self.check_server(&index, &manifest, &cases).await?,
            None => self.inspect(&index, &manifest, &cases).await?,
        };
        let draft = ModelVersion {
            name: name.clone(),
            version: VersionNumber::default(),
            digest,
            index,
            manifest,
            signature,
            cases,
            pushed_at: Timestamp::now(),
            lineage,
        };
        self.write(draft).await
    }

    async fn check_blobs(&self, index: &BundleIndex) -> Result<(), Problem> {
        for (path, file) in &index.files {
            match self.blobs.size(&file.digest).await {
                Ok(size) if size == file.size => {}
                Ok(size) => {
                    let detail = format!("`{path}` has {size} bytes, and the index says {}", file.size);
                    return Err(Problem::new(Code::Invalid, detail));
                }
                Err(blobs::Error::NotFound { .. }) => {
                    let detail = format!("the content of `{path}` has not been uploaded");
                    return Err(Problem::new(Code::Invalid, detail).hint("push the model again"));
                }
                Err(error) => return Err(crate::api::blobs::problem(&error)),
            }
        }
        Ok(())
    }

    async fn existing(&self, name: &ModelName, digest: &Digest) -> Result<Option<ModelVersion>, Problem> {
        let Some(number) = self.number_of(name, digest).await? else { return Ok(None) };
        let kept = self.repository.get::<ModelVersion>(keys::version(name, number)).await?;
        Ok(kept.map(|kept| kept.value))
    }

    async fn number_of(&self, name: &ModelName, digest: &Digest) -> repository::Result<Option<VersionNumber>> {
        let kv = self.repository.store().get(&keys::version_by_digest(name, digest)).await?;
        Ok(kv.and_then(|kv| std::str::from_utf8(&kv.value).ok()?.parse().ok()))
    }

    async fn manifest(&self, index: &BundleIndex) -> Result<Manifest, Problem> {
        let Some(file) = index.files.get(MANIFEST_FILE) else { return Ok(bundle::default_manifest()) };
        let mut text = String::new();
        let blob = self.blobs.read(&file.digest, ..).await.map_err(|error| crate::api::blobs::problem(&error))?;
        // `check_index` has bounded its size.
        if let Err(error) = blob.into_reader().read_to_string(&mut text).await {
            let problem = Problem::new(Code::InvalidBundle, format!("{MANIFEST_FILE} cannot be read as UTF-8 text"));
            return Err(problem.cause(error.to_string()));
        }
        bundle::parse_manifest(&text).map_err(refused)
    }

    /// A server is not started here: nobody runs code of a bundle in the control plane. What it takes is what its
    /// manifest states.
    async fn check_server(
        &self,
        index: &BundleIndex,
        manifest: &Manifest,
        cases: &[String],
    ) -> Result<Signature, Problem> {
        for path in cases {
            let Some(file) = index.files.get(path) else { continue };
            let failed = |error: &blobs::Error| crate::api::blobs::problem(error);
            let blob = self.blobs.read(&file.digest, ..).await.map_err(|error| failed(&error))?;
            let mut content = Vec::new();
            // `check_contents` has bounded its size.
            let read = blob.into_reader().read_to_end(&mut content).await;
            if let Err(error) = read {
                return Err(case_refused(path, error.to_string()));
            }
            check_case(path, &content, manifest.runtime, manifest.signature.as_ref())?;
        }
        Ok(manifest.signature.clone().unwrap_or_default())
    }

    /// Puts the bundle together and loads its model, which says what it takes and gives; the rest must agree.
    async fn inspect(&self, index: &BundleIndex, manifest: &Manifest, cases: &[String]) -> Result<Signature, Problem> {
        let _permit = self.inspections.acquire().await.map_err(|_| closing())?;
        let directory =
            self.workbench.install(index, &self.blobs, &|_| {}).await.map_err(|error| assembling(&error))?;
        let is_listed =
            |path: &&str| *path != manifest.model && *path != MANIFEST_FILE && !cases.iter().any(|case| case == path);
        let listed: Vec<&str> = index.files.keys().map(String::as_str).filter(is_listed).collect();
        let inspected = async {
            let inspection = inspect(&self.program, &directory, &manifest.model, &listed).await?;
            check_declared(manifest, &inspection.signature)?;
            check_cases(&directory, cases, &inspection.signature).await?;
            Ok(inspection.signature)
        };
        let outcome = inspected.await;
        if let Err(error) = self.workbench.remove_unused(&[]).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "an inspected bundle stays on the disk");
        }
        outcome
    }

    /// Gives the version its number and writes it, in one transaction.
    async fn write(&self, mut version: ModelVersion) -> Result<Outcome, Problem> {
        for _ in 0..CONFLICT_RETRIES {
            let name = version.name.clone();
            if let Some(version) = self.existing(&name, &version.digest).await? {
                return Ok(Outcome { created: false, version });
            }
            let head = self.repository.get::<ModelHead>(keys::model(&name)).await?;
            version.version = head.as_ref().map_or(VersionNumber(1), |head| head.value.latest.next());
            match self.repository.commit(creation(&version, head.as_ref())).await {
                Ok(Some(_)) => return Ok(Outcome { created: true, version }),
                Ok(None) => {}
                Err(repository::Error::Store(tradewind_store::Error::TxnTooLarge { .. })) => {
                    return Err(Problem::new(Code::TooLarge, "the bundle has too many files with too long names")
                        .hint("pack small files together"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let problem =
            Problem::new(Code::Unavailable, format!("versions of {} are being published all the time", version.name));
        Err(problem.hint("try again"))
    }
}

fn creation(version: &ModelVersion, head: Option<&Kept<ModelHead>>) -> Txn {
    let name = &version.name;
    let unchanged = head.map_or_else(|| Compare::absent(keys::model(name)), Kept::unchanged);
    let by_digest = keys::version_by_digest(name, &version.digest);
    let event = EventRecord {
        model: Some(name.clone()),
        ..events::of(EventKind::ModelPushed, Severity::Info, version.pushed_at, pushed_message(version))
    };
    Txn::new()
        .when(unchanged)
        .then(put(keys::model(name), &ModelHead { name: name.clone(), latest: version.version }))
        .then(put(keys::version(name, version.version), version))
        .then(Op::put(by_digest, version.version.to_string()))
        .then(events::record(version.pushed_at, &format!("{name}/pushed/{}", version.version), &event))
}

fn pushed_message(version: &ModelVersion) -> String {
    format!(
        "{} {} was pushed: {}, {} bytes",
        version.name,
        version.version,
        version.digest.short(),
        version.index.bytes()
    )
}

fn check_lineage(lineage: &Lineage) -> Result<(), Problem> {
    let refused = |problem: KeyProblem| {
        Problem::new(Code::Invalid, "the lineage cannot be kept with a version").cause(problem.to_string())
    };
    lineage.check().map_err(refused)
}

fn check_declared(manifest: &Manifest, actual: &Signature) -> Result<(), Problem> {
    let Some(declared) = &manifest.signature else { return Ok(()) };
    verify::signature_matches(declared, actual).map_err(|difference| {
        Problem::new(Code::InvalidBundle, format!("{MANIFEST_FILE} states another signature than the model has"))
            .cause(difference)
            .hint(format!("correct `signature` in {MANIFEST_FILE}, or leave it out: it is read from the model"))
    })
}

/// Reads and checks the golden cases off the reactor: they may be many megabytes.
async fn check_cases(directory: &Path, cases: &[String], signature: &Signature) -> Result<(), Problem> {
    let (directory, cases, signature) = (directory.to_owned(), cases.to_vec(), Arc::new(signature.clone()));
    let check = move || {
        cases.iter().try_for_each(|path| match std::fs::read(directory.join(path)) {
            Ok(content) => check_case(path, &content, Runtime::Onnx, Some(&signature)),
            Err(error) => Err(case_refused(path, error.to_string())),
        })
    };
    tokio::task::spawn_blocking(check).await.unwrap_or_else(|_| Err(closing()))
}

fn check_case(path: &str, content: &[u8], runtime: Runtime, signature: Option<&Signature>) -> Result<(), Problem> {
    let case = Case::parse(content).map_err(|error| case_refused(path, error.to_string()))?;
    case.check(runtime, signature).map_err(|problem| case_refused(path, problem))
}

fn case_refused(path: &str, cause: String) -> Problem {
    Problem::new(Code::InvalidBundle, format!("golden case {path} cannot hold"))
        .cause(cause)
        .hint("correct the case, or move it out of the bundle: nothing could be verified with it")
}

fn refused(error: bundle::Error) -> Problem {
    let code = match &error {
        bundle::Error::TooLarge
        | bundle::Error::TooManyFiles
        | bundle::Error::ManifestTooLarge
        | bundle::Error::ModelTooLarge { .. } => Code::TooLarge,
        _ => Code::InvalidBundle,
    };
    let problem = Problem::from_error(code, &error);
    match error.hint() {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

fn assembling(error: &install::Error) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "a bundle cannot be put together");
    match error {
        install::Error::DiskFull { .. } | install::Error::NoRoom { .. } => crate::api::disk_full(),
        _ => Problem::new(Code::Internal, "the bundle could not be put together").hint("see the control plane's log"),
    }
}

fn closing() -> Problem {
    Problem::new(Code::Unavailable, "the control plane is stopping").hint("try again in a moment")
}
