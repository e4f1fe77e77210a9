//! What is written down of replicas and slots, so that a successor of this agent takes over instead of starting twice.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::task::JoinSet;
use tradewind_api::auth::write_private;
use tradewind_core::{
    Digest, ModelName, RevisionNumber, Slot, Timestamp, VersionNumber,
    assignment::{SlotAssignment, Verification},
    bundle::{Runtime, command::REPLICA_ID_VARIABLE},
    duration::Span,
    probe::Probe,
};
use tradewind_process::{Family, Identity, Process, find_by_argument};

use crate::{
    Error,
    budget::{Budget, MemoryKill},
    home,
};

/// One replica. The record is on disk before the process is, and goes only when the process has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// Unique in the world; the replica's `--id`.
    pub id: String,
    pub model: ModelName,
    pub slot: Slot,
    pub revision: RevisionNumber,
    pub version: VersionNumber,
    /// Which of the slot's replicas it is, from 0.
    pub place: u32,
    /// Times that a replica in this place ended and was started again.
    pub restarts: u32,
    /// Of the bundle.
    pub digest: Digest,
    /// The installed copy of the bundle that it loaded.
    pub directory: PathBuf,
    /// host:port
    pub address: String,
    /// Absent between the intent and the start.
    pub identity: Option<Identity>,
    pub started_at: Timestamp,
    /// It has been announced to gateways.
    pub admitted: bool,
    /// Absent for Tradewind's own replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerRecord>,
    /// What it may take of its machine; absent where the deployment does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// How the one before it in its place ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<String>,
}

/// What has to be known of a server of the author's own while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    pub probe: Probe,
    pub startup: Span,
    pub drain: Span,
}

impl ReplicaRecord {
    /// The process of this record, if it runs: by its identity, or, when the agent ended before it wrote that down, by
    /// the unique id on its command line or in its environment.
    pub fn process(&self) -> Option<Identity> {
        match (&self.identity, self.family()) {
            (Some(identity), _) => identity.is_alive().then(|| identity.clone()),
            (None, None) => find_by_argument(&self.id).into_iter().next(),
            (None, Some(family)) => family.members().into_iter().next(),
        }
    }

    /// All processes of a server, which may start others; Tradewind's own replica is one process.
    pub(crate) fn family(&self) -> Option<Family> {
        self.server.as_ref().map(|_| Family::new(REPLICA_ID_VARIABLE, &self.id))
    }

    pub(crate) fn runtime(&self) -> Runtime {
        if self.server.is_some() { Runtime::Command } else { Runtime::Onnx }
    }

    pub(crate) fn probe(&self) -> Probe {
        self.server.as_ref().map(|server| server.probe.clone()).unwrap_or_default()
    }

    /// Ends `process` and what it has started: SIGTERM, then SIGKILL once `grace` has passed.
    pub(crate) async fn terminate(&self, process: &Process, grace: Duration) -> io::Result<()> {
        match self.family() {
            Some(family) => family.terminate(Some(process), grace).await,
            None => process.terminate(grace).await.map(drop),
        }
    }

    pub(crate) fn memory_kill(&self) -> Option<MemoryKill> {
        self.budget.as_ref()?.memory_kill()
    }

    /// Takes away what is left of it when its process is gone: its group, and the record.
    pub(crate) async fn clear(&self, root: &Path) {
        if let Some(budget) = &self.budget {
            budget.end().await;
        }
        self.remove(root);
    }

    pub(crate) fn path(&self, root: &Path) -> PathBuf {
        home::replicas(root).join(format!("{}.json", self.id))
    }

    pub(crate) fn write(&self, root: &Path) -> io::Result<()> {
        write_private(&self.path(root), &to_json(self))
    }

    /// A record that cannot be removed is found again, as that of a dead process.
    pub(crate) fn remove(&self, root: &Path) {
        remove(&self.path(root));
    }
}

/// How far a slot has come, so that a restart of the agent neither repeats a verification nor calls a slot new.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlotRecord {
    pub(crate) model: ModelName,
    pub(crate) slot: Slot,
    pub(crate) assignment: SlotAssignment,
    pub(crate) reached_ready: bool,
    pub(crate) verification: Option<Verification>,
    /// How many replicas it should have; agents of earlier versions wrote down none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) desired: Option<u32>,
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have string keys and finite numbers")
}

pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a record");
    }
}

/// Every value of a directory of JSON files; one that does not parse is reported and left out.
pub(crate) fn read_all<T: DeserializeOwned>(directory: &Path) -> Vec<T> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    let read = |path: PathBuf| match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::error!(path = %path.display(), %error, "a record does not parse");
            None
        }
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a record cannot be read");
            None
        }
    };
    paths.filter_map(read).collect()
}

/// The ids of all replicas that are on record in a data directory, whether they run or not.
pub(crate) fn recorded_ids(data_dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(home::replicas(data_dir)).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
}

/// The replicas of an agent's data directory whose processes run, whether or not the agent does.
pub fn recorded_replicas(data_dir: &Path) -> Vec<ReplicaRecord> {
    let mut records: Vec<ReplicaRecord> = read_all(&home::replicas(data_dir));
    records.retain_mut(|record| {
        record.identity = record.process();
        record.identity.is_some()
    });
    records.sort_by(|one, other| (&one.model, one.slot, one.place).cmp(&(&other.model, other.slot, other.place)));
    records
}

/// Ends every replica recorded in this data directory: SIGTERM, then SIGKILL once `grace` has passed. Returns how many
/// there were. For whoever stops a whole world; call it when the agent no longer runs, or it starts them again.
pub async fn stop_replicas(data_dir: &Path, grace: Duration) -> Result<usize, Error> {
    let mut ending = JoinSet::new();
    // Those that have ended while no agent ran have left groups.
    let records: Vec<ReplicaRecord> = read_all(&home::replicas(data_dir));
    for budget in records.iter().filter(|record| record.process().is_none()).filter_map(|record| record.budget.as_ref())
    {
        budget.end().await;
    }
    for record in recorded_replicas(data_dir) {
        let Some(identity) = record.identity.clone() else { continue };
        let failed = |source| Error::Stop { id: record.id.clone(), source };
        let Some(process) = Process::adopt(&identity).map_err(failed)? else { continue };
        let root = data_dir.to_owned();
        ending.spawn(async move {
            let ended = record.terminate(&process, grace).await;
            ended.map_err(|source| Error::Stop { id: record.id.clone(), source })?;
            record.clear(&root).await;
            Ok(())
        });
    }
    let count = ending.len();
    while let Some(ended) = ending.join_next().await {
        ended.unwrap_or_else(|panic| Err(Error::Task { task: "stop", source: panic }))?;
    }
    Ok(count)
}
