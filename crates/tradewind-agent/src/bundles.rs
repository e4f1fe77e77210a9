//! The bundles on this machine: installed from control, checked for drift, put right, removed when nobody needs them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::RwLock;
use tradewind_api::{Client, auth::write_private, client};
use tradewind_artifacts::{
    Check, Drift, FetchError, Installer, Progress, bundle_digest, install::Error as InstallError,
};
use tradewind_core::{
    Digest, ModelName, VersionNumber,
    assignment::Failure,
    backoff::Backoff,
    bundle::ModelVersion,
    causes::{causes, chain},
};

use crate::{
    home::Home,
    record::{remove, to_json},
};

/// A bundle that is installed, with what control said of its version.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    pub(crate) version: Arc<ModelVersion>,
    pub(crate) directory: PathBuf,
    /// Counts how often this agent put the bundle right. A replica that loaded an earlier copy has to be replaced.
    pub(crate) copy: u64,
}

/// Told how far an installation is: bytes done, bytes in all.
pub(crate) type OnProgress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

#[derive(Debug)]
pub(crate) struct Bundles {
    home: Arc<Home>,
    client: Client,
    installer: Installer,
    copies: Mutex<BTreeMap<Digest, u64>>,
    /// Read by installations, written by the collection of garbage: what one installs the other must not remove before
    /// it shows on the board.
    collecting: RwLock<()>,
    /// One repair at a time, so that two slots with one bundle do not both count it.
    repairing: tokio::sync::Mutex<()>,
}

impl Bundles {
    pub(crate) async fn open(home: Arc<Home>, client: Client) -> Result<Self, crate::Error> {
        let path = home.artifacts();
        let opened = Installer::open(&path).await;
        let installer = opened.map_err(|source| crate::Error::Bundles { path, source: source.into() })?;
        Ok(Self {
            home,
            client,
            installer,
            copies: Mutex::default(),
            collecting: RwLock::default(),
            repairing: tokio::sync::Mutex::default(),
        })
    }

    /// Installs until it succeeds or fails for good: while control is away, it waits for it. Needs no control when the
    /// bundle is there.
    pub(crate) async fn install(
        &self,
        model: &ModelName,
        version: VersionNumber,
        digest: Digest,
        on_progress: OnProgress<'_>,
    ) -> Result<Installed, Failure> {
        let _installing = self.collecting.read().await;
        let mut failures = 0;
        loop {
            match self.try_install(model, version, digest, on_progress).await {
                Ok(installed) => return Ok(installed),
                Err(Problem { failure, passing: false }) => return Err(failure),
                Err(Problem { failure, passing: true }) => {
                    failures += 1;
                    tracing::warn!(%model, %version, failures, causes = ?failure.causes, "{}", failure.message);
                    tokio::time::sleep(Backoff::RECONNECT.spread(failures, rand::random())).await;
                }
            }
        }
    }

    async fn try_install(
        &self,
        model: &ModelName,
        version: VersionNumber,
        digest: Digest,
        on_progress: OnProgress<'_>,
    ) -> Result<Installed, Problem> {
        let version = self.version(model, version, digest).await?;
        let report = |progress: Progress| on_progress(progress.done, progress.total);
        let directory =
            self.installer.install(&version.index, &self.client, &report).await.map_err(Problem::install)?;
        Ok(Installed { version, directory, copy: self.copy(&digest) })
    }

    /// What control said of the version, from disk if it was asked before.
    async fn version(
        &self,
        model: &ModelName,
        version: VersionNumber,
        digest: Digest,
    ) -> Result<Arc<ModelVersion>, Problem> {
        let path = self.home.version(model, version, &digest);
        let is_right = |known: &ModelVersion| {
            known.digest == digest && known.version == version && bundle_digest(&known.index) == digest
        };
        let known =
            tokio::fs::read(&path).await.ok().and_then(|bytes| serde_json::from_slice::<ModelVersion>(&bytes).ok());
        if let Some(known) = known.filter(is_right) {
            return Ok(Arc::new(known));
        }
        let told = self.client.version(model, version).await.map_err(Problem::control)?;
        if !is_right(&told) {
            return Err(Problem::lasting(format!(
                "version {version} of {model} is {}, but {} was assigned",
                told.digest.short(),
                digest.short()
            )));
        }
        let content = to_json(&told);
        let written = tokio::task::spawn_blocking(move || write_private(&path, &content)).await;
        written.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(|error| Problem {
            failure: failure("cannot write down what control said of the version", &error, true),
            passing: true,
        })?;
        Ok(Arc::new(told))
    }

    /// What is altered; nothing, if all is well. A difference at the quick look is confirmed by reading everything.
    pub(crate) async fn drift(&self, installed: &Installed) -> Result<Vec<Drift>, InstallError> {
        let version = &installed.version;
        // What a server leaves beside its files, such as compiled modules, is its own.
        let counts = |drift: &Drift| version.manifest.server().is_none() || !matches!(drift, Drift::Extra { .. });
        let mut drifts = self.installer.check(&version.index, Check::Quick).await?;
        if drifts.iter().any(counts) {
            drifts = self.installer.check(&version.index, Check::Full).await?;
        }
        drifts.retain(counts);
        Ok(drifts)
    }

    /// Puts an altered bundle right; tries until it succeeds.
    pub(crate) async fn repair(&self, installed: &Installed) -> Installed {
        let _installing = self.collecting.read().await;
        let mut failures = 0;
        loop {
            match self.try_repair(installed).await {
                Ok(repaired) => return repaired,
                Err(error) => {
                    failures += 1;
                    let digest = installed.version.digest;
                    tracing::warn!(?digest, failures, error = %chain(&error), "cannot put a bundle right");
                    tokio::time::sleep(Backoff::RECONNECT.spread(failures, rand::random())).await;
                }
            }
        }
    }

    async fn try_repair(&self, installed: &Installed) -> Result<Installed, InstallError> {
        let _repairing = self.repairing.lock().await;
        let index = &installed.version.index;
        let digest = installed.version.digest;
        if !self.installer.check(index, Check::Full).await?.is_empty() {
            let directory = self.installer.repair(index, &self.client, &|_| {}).await?;
            *self.lock_copies().entry(digest).or_default() += 1;
            return Ok(Installed { directory, copy: self.copy(&digest), ..installed.clone() });
        }
        Ok(Installed { copy: self.copy(&digest), ..installed.clone() })
    }

    pub(crate) fn copy(&self, digest: &Digest) -> u64 {
        self.lock_copies().get(digest).copied().unwrap_or_default()
    }

    fn lock_copies(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, u64>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what is not needed. `needed` is asked while no installation runs.
    pub(crate) async fn collect(&self, needed: impl FnOnce() -> BTreeSet<Digest>) {
        let _collecting = self.collecting.write().await;
        let needed: Vec<Digest> = needed().into_iter().collect();
        match self.installer.remove_unused(&needed).await {
            Ok(removed) => removed.iter().for_each(|digest| {
                tracing::info!(?digest, "removed a bundle that nobody needs");
                self.home.versions_of(digest).iter().for_each(|path| remove(path));
            }),
            Err(error) => tracing::warn!(error = %chain(&error), "cannot remove bundles that nobody needs"),
        }
    }
}

/// Why an installation did not succeed.
struct Problem {
    failure: Failure,
    /// It may pass by itself: the network, a restart of control.
    passing: bool,
}

impl Problem {
    fn lasting(message: String) -> Self {
        let failure = Failure { message, causes: Vec::new(), hint: None, retryable: false };
        Self { failure, passing: false }
    }

    fn control(error: client::Error) -> Self {
        let passing = error.retryable();
        Self { failure: failure("control did not say what the version is", &error, passing), passing }
    }

    fn install(error: InstallError) -> Self {
        let refused = |source: &FetchError| source.downcast_ref::<client::Error>().is_some_and(|e| !e.retryable());
        let (retryable, passing) = match &error {
            InstallError::Fetch { source, .. } if refused(source) => (false, false),
            InstallError::Fetch { .. } | InstallError::Stalled { .. } | InstallError::Short { .. } => (true, true),
            // A person may make room, or the source may be put right; waiting alone does not help.
            other => (other.is_retryable(), false),
        };
        Self { failure: failure("the bundle could not be installed", &error, retryable), passing }
    }
}

fn failure(message: &str, error: &(dyn std::error::Error + 'static), retryable: bool) -> Failure {
    Failure {
        message: message.to_owned(),
        causes: causes(error).map(ToString::to_string).collect(),
        hint: None,
        retryable,
    }
}
