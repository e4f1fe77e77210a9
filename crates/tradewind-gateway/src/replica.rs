//! A replica of the own region, as its agent told of it and as probes find it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tradewind_api::agent::Endpoint;
use tradewind_core::route::RouteState;

use crate::{gate::Gate, target::Target};

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) endpoint: Endpoint,
    /// As the agent says; changes while the replica stays the same.
    ready: AtomicBool,
    /// As the agent says.
    suspect: AtomicBool,
    /// How many its slot should have, as the agent says.
    desired: AtomicU32,
    pub(crate) target: Arc<Target>,
}

impl AsRef<Target> for Replica {
    fn as_ref(&self) -> &Target {
        &self.target
    }
}

impl Replica {
    pub(crate) fn new(endpoint: Endpoint, gate: Option<Arc<Gate>>) -> Self {
        let declared = endpoint.concurrency.unwrap_or(0);
        let target = Arc::new(Target::limited(endpoint.address.clone(), declared, gate));
        let (ready, suspect) = (AtomicBool::new(endpoint.ready), AtomicBool::new(endpoint.suspect));
        Self { ready, suspect, desired: AtomicU32::new(endpoint.desired), endpoint, target }
    }

    /// Takes up what the agent says now; `false` when that is another replica.
    pub(crate) fn adopt(&self, endpoint: &Endpoint) -> bool {
        let Endpoint { ready, suspect, desired, .. } = self.endpoint;
        let same = Endpoint { ready, suspect, desired, ..endpoint.clone() } == self.endpoint;
        if same {
            self.suspect.store(endpoint.suspect, Ordering::Release);
            self.desired.store(endpoint.desired, Ordering::Release);
        }
        if same && self.ready.swap(endpoint.ready, Ordering::AcqRel) != endpoint.ready {
            self.target.want_probe();
        }
        same
    }

    /// Whether its agent says that it is ready.
    pub(crate) fn told_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(crate) fn desired(&self) -> u32 {
        self.desired.load(Ordering::Acquire)
    }

    /// It may be asked. One that answered golden cases wrongly may not, as long as there is anybody else.
    pub(crate) fn ready(&self) -> bool {
        self.is_up() && !self.suspect.load(Ordering::Acquire)
    }

    /// It answers, rightly or wrongly.
    pub(crate) fn is_up(&self) -> bool {
        self.told_ready() && self.target.healthy()
    }

    /// Whether both serve the same.
    pub(crate) fn same_group(&self, other: &Self) -> bool {
        let key = |replica: &Self| {
            let Endpoint { model, slot, revision, .. } = &replica.endpoint;
            (model.clone(), *slot, *revision)
        };
        key(self) == key(other)
    }

    /// Whether it holds what the route wants served.
    pub(crate) fn holds(&self, model: &str, state: &RouteState) -> bool {
        let endpoint = &self.endpoint;
        endpoint.model.as_str() == model && endpoint.slot == state.live && endpoint.revision == state.revision
    }
}
