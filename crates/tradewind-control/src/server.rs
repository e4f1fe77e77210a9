//! The control plane from start to stop.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tradewind_api::{
    auth::{self, Authority, Scope, write_private},
    client::http_client,
    server::{self, Limits},
};
use tradewind_artifacts::{BlobStore, Installer, blobs, install};
use tradewind_core::{
    RegionName, Timestamp,
    event::{EventKind, Severity},
    region::Region,
};
use tradewind_store::{OpenError, SqliteOptions, SqliteStore, Store, Txn};

use crate::{
    api,
    app::{App, STREAMS_LIMIT},
    assignments::AssignmentChanges,
    drills::DrillWatcher,
    events::{self, EventLog},
    fleet::Fleet,
    health::HealthWatcher,
    hub::Hub,
    keys,
    members::Members,
    monitoring::{self, Couriers, Monitoring},
    publish::Publisher,
    reconcile::Reconcilers,
    repository::{self, Repository},
    tables,
};

/// The admin token's file in the data directory.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
/// The most connections at once: who holds a stream open asks on a second connection.
const CONNECTIONS_LIMIT: usize = 2 * STREAMS_LIMIT;
/// Requests that are being answered have so long to end when the control plane stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct ControlOptions {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// Made at the start if they are not there.
    pub regions: Vec<RegionName>,
    /// The tradewind binary, which inspects models as a child process.
    pub program: PathBuf,
    /// For tests of recovery: the process kills itself when it has committed this often.
    pub kill_after_commits: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("port {port} of {ip} is taken by another process", port = address.port(), ip = address.ip())]
    PortBusy { address: SocketAddr },
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot open the store in {}", path.display())]
    Store { path: PathBuf, source: OpenError },
    #[error("cannot read the store")]
    Repository(#[from] repository::Error),
    #[error(transparent)]
    Authority(#[from] auth::Error),
    #[error("cannot write {}", path.display())]
    Token { path: PathBuf, source: io::Error },
    #[error("cannot open the blob store")]
    Blobs(#[from] blobs::Error),
    #[error("cannot prepare the directory in which bundles are inspected")]
    Workbench(#[from] install::Error),
}

impl Error {
    /// What to do about it, for people.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::PortBusy { address } => Some(format!(
                "another control plane may run already; stop what listens on port {}, or choose another port",
                address.port()
            )),
            Self::Store { .. } => {
                Some("one control plane at a time opens a data directory; stop the other one".to_owned())
            }
            _ => None,
        }
    }
}

impl From<tradewind_store::Error> for Error {
    fn from(error: tradewind_store::Error) -> Self {
        Self::Repository(error.into())
    }
}

/// Runs a control plane until told to stop, or until it cannot go on.
pub async fn run(options: ControlOptions, shutdown: CancellationToken) -> Result<(), Error> {
    // First, so that a second control plane fails before it touches anything.
    let listener = listen(options.listen).await?;
    run_on(options, listener, shutdown).await
}

/// As [`run`], on a socket that is there already.
pub async fn run_on(options: ControlOptions, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let store = open_store(&options.data_dir.join("state"))?;
    let outcome = run_with(&options, listener, Arc::new(store.clone()), shutdown).await;
    store.close().await;
    outcome
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortBusy { address },
        _ => Error::Listen { address, source },
    })
}

fn open_store(directory: &Path) -> Result<SqliteStore, Error> {
    SqliteStore::open(directory, SqliteOptions::default())
        .map_err(|source| Error::Store { path: directory.to_owned(), source })
}

async fn run_with(
    options: &ControlOptions,
    listener: TcpListener,
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let repository = Repository::new(store, options.kill_after_commits);
    // Parts end before the store is closed, whatever ends first.
    let parts = TaskTracker::new();
    let stop = shutdown.child_token();
    let app = assemble(options, repository.clone(), &parts, stop.clone()).await?;
    announce_start(&repository).await?;
    parts.spawn(reconcile(app.clone(), stop.clone()));
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "the control plane serves");
    }
    let limits = Limits::new(CONNECTIONS_LIMIT, DRAIN_LIMIT);
    server::run(listener, server::routes(api::router(app)), limits, stop.clone()).await;
    stop.cancel();
    parts.close();
    parts.wait().await;
    Ok(())
}

/// Opens everything and starts what runs beside the API.
async fn assemble(
    options: &ControlOptions,
    repository: Repository,
    parts: &TaskTracker,
    stop: CancellationToken,
) -> Result<Arc<App>, Error> {
    let directory = &options.data_dir;
    let authority = Authority::open(directory)?;
    write_admin_token(directory, &authority)?;
    let blobs = BlobStore::open(directory.join("blobs")).await?;
    let tables = BlobStore::open(directory.join("tables")).await?;
    let workbench = Installer::open(directory.join("inspect")).await?;
    for region in &options.regions {
        create_region(&repository, region).await?;
    }
    let hub = Arc::new(Hub::new(Timestamp::now()));
    let members = Arc::new(Members::load(repository.clone(), hub.clone()).await?);
    let events = Arc::new(EventLog::new());
    events.load(&repository).await?;
    let incarnation = repository.store().incarnation().await?;
    let mesh_token = authority.issue(&Scope::Mesh);
    let (fleet, published) = Fleet::load(repository.clone(), incarnation.clone(), mesh_token.clone()).await?;

    let assignments = Arc::new(AssignmentChanges::default());
    parts.spawn(assignments.clone().run(repository.store().clone(), stop.clone()));
    parts.spawn(events.clone().run(repository.clone(), stop.clone()));
    parts.spawn(members.clone().run(stop.clone()));
    parts.spawn(fleet.run(stop.clone()));
    parts.spawn(tables::sweep(repository.clone(), tables.clone(), stop.clone()));
    parts.spawn(HealthWatcher::new(repository.clone(), hub.clone()).run(stop.clone()));
    let ledger = Arc::new(monitoring::open_ledger(directory));
    let watcher = Monitoring::new(repository.clone(), hub.clone(), ledger.clone(), directory.clone());
    parts.spawn(watcher.run(stop.clone()));
    let http = http_client().build().expect("the client's settings are constant");
    let couriers = Arc::new(Couriers::new(repository.clone(), http.clone()));
    parts.spawn(couriers.clone().run(stop.clone()));
    parts.spawn(DrillWatcher::new(repository.clone(), hub.clone()).run(stop.clone()));
    Ok(Arc::new(App {
        data_dir: directory.clone(),
        publisher: Publisher::new(repository.clone(), blobs.clone(), workbench, options.program.clone()),
        repository,
        hub,
        authority,
        mesh_token,
        incarnation,
        assignments,
        blobs,
        tables,
        events,
        members,
        ledger,
        couriers,
        published,
        http,
        requests: Default::default(),
        reconciling: AtomicBool::new(false),
        streams: Arc::new(Semaphore::new(STREAMS_LIMIT)),
        shutdown: stop,
    }))
}

fn write_admin_token(directory: &Path, authority: &Authority) -> Result<(), Error> {
    let path = directory.join(ADMIN_TOKEN_FILE);
    let token = format!("{}\n", authority.issue(&Scope::Admin));
    write_private(&path, token.as_bytes()).map_err(|source| Error::Token { path, source })
}

async fn create_region(repository: &Repository, name: &RegionName) -> Result<(), Error> {
    if repository.get::<Region>(keys::region(name)).await?.is_none() {
        api::regions::create(repository, &api::regions::describe(name.clone(), None), Timestamp::now()).await?;
    }
    Ok(())
}

async fn announce_start(repository: &Repository) -> Result<(), Error> {
    let now = Timestamp::now();
    let message = format!("a control plane started with pid {}", std::process::id());
    let event = events::of(EventKind::ControlStarted, Severity::Info, now, message);
    repository.commit(Txn::new().then(events::record(now, "control/started", &event))).await?;
    Ok(())
}

async fn reconcile(app: Arc<App>, stop: CancellationToken) {
    app.reconciling.store(true, Ordering::Relaxed);
    let reconcilers = Reconcilers::new(app.repository.clone(), app.hub.clone()).judging_by(app.ledger.clone());
    reconcilers.run(stop).await;
    app.reconciling.store(false, Ordering::Relaxed);
}
