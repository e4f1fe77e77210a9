//! What runs: `world.json` for other programs, and the roster from which a successor of this process adopts.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tradewind_agent::ReplicaRecord;
use tradewind_api::SCHEMA_VERSION;
use tradewind_core::{RegionName, Timestamp};
use tradewind_process::Identity;

use super::layout::{Layout, Role};

/// How often the agents' records of their replicas are read.
const REPLICAS_INTERVAL: Duration = Duration::from_millis(100);

/// One process of the world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) role: Role,
    pub(super) region: Option<RegionName>,
    pub(super) pid: u32,
    pub(super) started_at: Timestamp,
    /// host:port
    pub(super) address: String,
}

/// `world.json`
#[derive(Debug, Serialize)]
struct World<'a> {
    schema_version: u32,
    control_url: String,
    token_file: String,
    processes: Vec<&'a Entry>,
}

/// An entry with what tells its process from another one with the same pid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    #[serde(flatten)]
    entry: Entry,
    identity: Identity,
}

#[derive(Debug, Default)]
struct State {
    members: Vec<Known>,
    replicas: Vec<Known>,
    /// `world.json` appears when every role is ready, not before.
    published: bool,
    written: Option<String>,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Roster {
    layout: Layout,
    state: Arc<Mutex<State>>,
}

impl Roster {
    /// Begins with the members of a former `up` that still run.
    pub(super) fn open(layout: &Layout) -> Self {
        let kept: Vec<Known> = fs::read(layout.roster_file())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let members = kept.into_iter().filter(|known| known.identity.is_alive()).collect();
        Self { layout: layout.clone(), state: Arc::new(Mutex::new(State { members, ..State::default() })) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A living process of a former `up` in this place.
    pub(super) fn find(&self, role: Role, region: Option<&RegionName>) -> Option<(Identity, Timestamp)> {
        let state = self.state();
        let known =
            state.members.iter().find(|known| known.entry.role == role && known.entry.region.as_ref() == region)?;
        Some((known.identity.clone(), known.entry.started_at))
    }

    /// A process runs in its place now; whatever was there before is gone.
    pub(super) fn enter(&self, entry: Entry, identity: Identity) -> io::Result<()> {
        let mut state = self.state();
        state.members.retain(|known| known.entry.role != entry.role || known.entry.region != entry.region);
        state.members.push(Known { entry, identity });
        self.write(&mut state)
    }

    pub(super) fn leave(&self, identity: &Identity) -> io::Result<()> {
        let mut state = self.state();
        state.members.retain(|known| known.identity != *identity);
        self.write(&mut state)
    }

    pub(super) fn publish(&self) {
        let mut state = self.state();
        state.published = true;
        state.replicas = running_replicas(&self.layout);
        self.complain(self.write(&mut state));
    }

    /// Everything is stopped: nothing is left to tell.
    pub(super) fn close(&self) {
        let _ = fs::remove_file(self.layout.world_file());
        let _ = fs::remove_file(self.layout.roster_file());
    }

    /// Keeps the replicas of `world.json` as the agents' records have them.
    pub(super) async fn follow_replicas(self, layout: &Layout, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(REPLICAS_INTERVAL);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let replicas = running_replicas(layout);
            let mut state = self.state();
            if state.replicas != replicas {
                state.replicas = replicas;
                self.complain(self.write(&mut state));
            }
        }
    }

    fn complain(&self, result: io::Result<()>) {
        if let Err(error) = result {
            crate::terminal::complain(&format!("  cannot write world.json: {error}\n"));
        }
    }

    fn write(&self, state: &mut State) -> io::Result<()> {
        replace(&self.layout.roster_file(), &serde_json::to_string(&state.members)?)?;
        if !state.published {
            return Ok(());
        }
        let world = World {
            schema_version: SCHEMA_VERSION,
            control_url: self.layout.control_url(),
            token_file: self.layout.token_file().display().to_string(),
            processes: state.members.iter().chain(&state.replicas).map(|known| &known.entry).collect(),
        };
        let text = serde_json::to_string_pretty(&world)?;
        if state.written.as_ref() != Some(&text) {
            replace(&self.layout.world_file(), &text)?;
            state.written = Some(text);
        }
        Ok(())
    }
}

fn running_replicas(layout: &Layout) -> Vec<Known> {
    let mut replicas = Vec::new();
    for region in layout.regions() {
        for record in tradewind_agent::recorded_replicas(&layout.directory(Role::Agent, Some(region))) {
            replicas.extend(running(region, record));
        }
    }
    replicas.sort_by_key(|known: &Known| (known.entry.started_at, known.entry.pid));
    replicas
}

fn running(region: &RegionName, record: ReplicaRecord) -> Option<Known> {
    let identity = record.identity.filter(Identity::is_alive)?;
    let entry = Entry {
        role: Role::Replica,
        region: Some(region.clone()),
        pid: identity.pid,
        started_at: record.started_at,
        address: record.address,
    };
    Some(Known { entry, identity })
}

/// Readers see the old text or the new one, never a part.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    tradewind_api::auth::write_private(path, text.as_bytes())
}
