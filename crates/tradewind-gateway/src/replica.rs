//! A replica of the own region, as its agent told of it and as probes find it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tradewind_api::agent::Endpoint;
use tradewind_core::route::RouteState;

use crate::{gate::Gate, target::Target};

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) endpoint: Endpoint,
    /// As the agent says; changes while the replica stays the same.
    ready: AtomicBool,
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
        Self { ready: AtomicBool::new(endpoint.ready), endpoint, target }
    }

    /// Takes up what the agent says now; `false` when that is another replica.
    pub(crate) fn adopt(&self, endpoint: &Endpoint) -> bool {
        let same = Endpoint { ready: self.endpoint.ready, ..endpoint.clone() } == self.endpoint;
        if same && self.ready.swap(endpoint.ready, Ordering::AcqRel) != endpoint.ready {
            self.target.want_probe();
        }
        same
    }

    /// Whether its agent says that it is ready.
    pub(crate) fn told_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(crate) fn ready(&self) -> bool {
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
