//! A control plane under test.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tradewind_api::{
    Client, Problem,
    auth::{Authority, Scope},
    client,
    models::Published,
};
use tradewind_control::{ControlOptions, Error};
use tradewind_core::{
    Digest, ModelName, RegionName,
    bundle::{BundleFile, BundleIndex},
};

/// Ten times what anything here takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Control {
    pub(crate) url: String,
    pub(crate) admin: Client,
    directory: TempDir,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

pub(crate) fn region(name: &str) -> RegionName {
    name.parse().unwrap()
}

pub(crate) fn model(name: &str) -> ModelName {
    name.parse().unwrap()
}

pub(crate) fn options(directory: &Path, listen: SocketAddr) -> ControlOptions {
    ControlOptions {
        data_dir: directory.to_owned(),
        listen,
        regions: ["us-east1", "europe-west1"].map(region).to_vec(),
        program: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fakes/inspect.sh")),
        kill_after_commits: None,
    }
}

impl Control {
    pub(crate) async fn start() -> Self {
        Self::start_in(TempDir::new().unwrap()).await
    }

    async fn start_in(directory: TempDir) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let options = options(directory.path(), address);
        let task = tokio::spawn(tradewind_control::run_on(options, listener, shutdown.clone()));
        let url = format!("http://{address}");
        // The socket listens already, so this is answered once the control plane serves.
        assert!(reqwest_get(&format!("{url}/healthz")).await.status().is_success());
        let token = std::fs::read_to_string(directory.path().join(tradewind_control::ADMIN_TOKEN_FILE)).unwrap();
        let admin = Client::new(&url, Some(token.trim().to_owned()));
        Self { url, admin, directory, shutdown, task }
    }

    /// Stops, and starts again on the same data, at another port.
    pub(crate) async fn restart(self) -> Self {
        let directory = self.stop().await;
        Self::start_in(directory).await
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.unwrap().unwrap().unwrap();
        self.directory
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn token(&self, scope: &str) -> String {
        let scope: Scope = scope.parse().unwrap();
        Authority::open(self.directory.path()).unwrap().issue(&scope)
    }

    pub(crate) fn client(&self, scope: &str) -> Client {
        Client::new(&self.url, Some(self.token(scope)))
    }

    /// Uploads files and makes them a version.
    pub(crate) async fn push(&self, name: &str, files: &[(&str, &str)]) -> Result<Published, client::Error> {
        let mut index = BundleIndex::default();
        for (path, content) in files {
            let (digest, size) = (digest(content), content.len() as u64);
            self.admin.put_blob(&digest, size, (*content).to_owned().into()).await?;
            index.files.insert((*path).to_owned(), BundleFile { size, digest, executable: false });
        }
        self.admin.publish(&model(name), index, None).await
    }
}

pub(crate) fn digest(content: &str) -> Digest {
    Digest::from_bytes(*blake3::hash(content.as_bytes()).as_bytes())
}

pub(crate) async fn reqwest_get(url: &str) -> reqwest::Response {
    client::http_client().build().unwrap().get(url).send().await.unwrap()
}

/// The problem that a call ends with.
#[track_caller]
pub(crate) fn problem<T: std::fmt::Debug>(result: Result<T, client::Error>) -> Problem {
    match result {
        Err(client::Error::Problem(problem)) => problem,
        other => panic!("expected a problem, got {other:?}"),
    }
}

pub(crate) fn map<K: Ord, V, const N: usize>(entries: [(K, V); N]) -> BTreeMap<K, V> {
    BTreeMap::from(entries)
}
