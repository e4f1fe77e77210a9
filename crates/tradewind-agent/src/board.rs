//! Where the slot tasks put what they see, and the reporter, the endpoint streams and the metrics take it from.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};
use tradewind_api::agent::{CaseCounts, Endpoint, Endpoints, ModelStatus, RegionAssignments, RestingSlot, SlotScaling};
use tradewind_core::{
    Digest, Generation, ModelName, RegionName, Slot,
    assignment::{ReplicaStatus, SlotStatus},
    bundle::Runtime,
    deployment::HealthPolicy,
    probe::Probe,
    scaler::ByHand,
};

use crate::budget::Budget;

/// A slot of a model.
pub(crate) type SlotKey = (ModelName, Slot);

/// One slot as it is now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SlotView {
    pub(crate) status: SlotStatus,
    pub(crate) digest: Digest,
    pub(crate) health: HealthPolicy,
    pub(crate) concurrency: Option<u32>,
    /// So many replicas users may count on; those that are only now being added are not among them.
    pub(crate) settled: u32,
    pub(crate) replicas: Vec<ReplicaView>,
    /// What golden cases have shown of it.
    pub(crate) cases: CaseCounts,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReplicaView {
    pub(crate) status: ReplicaStatus,
    pub(crate) place: u32,
    /// Gateways are told of it.
    pub(crate) announced: bool,
    /// It answered golden cases wrongly.
    pub(crate) suspect: bool,
    pub(crate) runtime: Runtime,
    pub(crate) probe: Probe,
    pub(crate) budget: Option<Budget>,
}

#[derive(Debug)]
pub(crate) struct Board {
    inner: Mutex<Inner>,
    endpoints: watch::Sender<Arc<Endpoints>>,
    /// Woken by every change.
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    generations: BTreeMap<ModelName, Generation>,
    /// Numbers of replicas that a person has set.
    by_hand: BTreeMap<ModelName, ByHand>,
    /// Why slots have the number of replicas that they have.
    scaling: BTreeMap<SlotKey, SlotScaling>,
    slots: BTreeMap<SlotKey, SlotView>,
}

impl Board {
    pub(crate) fn new(region: RegionName, instance: String) -> Self {
        let endpoints = Endpoints { region, instance, endpoints: Vec::new(), resting: Vec::new() };
        Self { inner: Mutex::default(), endpoints: watch::Sender::new(Arc::new(endpoints)), changed: Notify::new() }
    }

    /// The generations that have been taken up.
    pub(crate) fn observe(&self, desired: &RegionAssignments) {
        let generations = desired.assignments.iter().map(|each| (each.model.clone(), each.generation));
        let mut inner = self.lock();
        let generations: BTreeMap<_, _> = generations.collect();
        // A model that is gone stays in the report while something of it still drains.
        let Inner { generations: known, by_hand, slots, .. } = &mut *inner;
        let set = desired.assignments.iter().filter_map(|each| Some((each.model.clone(), each.by_hand.clone()?)));
        *by_hand = set.collect();
        known.retain(|model, _| slots.keys().any(|(name, _)| name == model));
        known.extend(generations);
        drop(inner);
        self.changed.notify_one();
    }

    /// What a slot is now; `None` when nothing of it is left.
    pub(crate) fn publish(&self, key: &SlotKey, view: Option<SlotView>) {
        let mut inner = self.lock();
        if inner.slots.get(key) == view.as_ref() {
            return;
        }
        match view {
            Some(view) => inner.slots.insert(key.clone(), view),
            None => {
                inner.scaling.remove(key);
                inner.slots.remove(key)
            }
        };
        let (endpoints, resting) = (inner.endpoints(), inner.resting());
        // Under the lock, so that two slots cannot overtake each other.
        self.endpoints.send_if_modified(|current| {
            if current.endpoints == endpoints && current.resting == resting {
                return false;
            }
            *current = Arc::new(Endpoints { endpoints, resting, ..Endpoints::clone(current) });
            true
        });
        drop(inner);
        self.changed.notify_one();
    }

    pub(crate) fn endpoints(&self) -> watch::Receiver<Arc<Endpoints>> {
        self.endpoints.subscribe()
    }

    pub(crate) fn slots(&self) -> BTreeMap<SlotKey, SlotView> {
        self.lock().slots.clone()
    }

    /// The number of replicas that a person has set.
    pub(crate) fn by_hand(&self, model: &ModelName) -> Option<ByHand> {
        self.lock().by_hand.get(model).cloned()
    }

    /// Why a slot has as many replicas; changes each second and wakes nobody.
    pub(crate) fn tell_scaling(&self, key: &SlotKey, scaling: SlotScaling) {
        self.lock().scaling.insert(key.clone(), scaling);
    }

    /// The same of all slots, for the report.
    pub(crate) fn scaling(&self) -> Vec<SlotScaling> {
        self.lock().scaling.values().cloned().collect()
    }

    /// What golden cases have shown, for the report.
    pub(crate) fn cases(&self) -> Vec<CaseCounts> {
        self.lock().slots.values().map(|view| view.cases.clone()).collect()
    }

    /// Models and replicas for the report.
    pub(crate) fn statuses(&self) -> (Vec<ModelStatus>, Vec<ReplicaStatus>) {
        let inner = self.lock();
        let models: BTreeSet<&ModelName> =
            inner.generations.keys().chain(inner.slots.keys().map(|(model, _)| model)).collect();
        let status = |model: &ModelName| ModelStatus {
            model: model.clone(),
            observed_generation: inner.generations.get(model).copied().unwrap_or_default(),
            slots: Slot::BOTH
                .into_iter()
                .filter_map(|slot| Some((slot, inner.slots.get(&(model.clone(), slot))?.status.clone())))
                .collect(),
        };
        let replicas = inner.slots.values().flat_map(|view| view.replicas.iter().map(|replica| replica.status.clone()));
        (models.into_iter().map(status).collect(), replicas.collect())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn endpoints(&self) -> Vec<Endpoint> {
        let of = |view: &SlotView| {
            let announced = view.replicas.iter().filter(|replica| replica.announced);
            announced.map(|replica| endpoint(replica, view)).collect::<Vec<_>>()
        };
        self.slots.values().flat_map(of).collect()
    }

    fn resting(&self) -> Vec<RestingSlot> {
        let resting = self.slots.iter().filter(|(_, view)| view.status.resting);
        let of = |((model, slot), view): (&SlotKey, &SlotView)| RestingSlot {
            model: model.clone(),
            slot: *slot,
            revision: view.status.revision,
        };
        resting.map(of).collect()
    }
}

fn endpoint(replica: &ReplicaView, view: &SlotView) -> Endpoint {
    let status = &replica.status;
    Endpoint {
        id: status.id.clone(),
        model: status.model.clone(),
        slot: status.slot,
        revision: status.revision,
        version: status.version,
        address: status.address.clone(),
        ready: status.ready,
        suspect: replica.suspect,
        health: view.health,
        desired: view.settled,
        concurrency: view.concurrency,
        runtime: replica.runtime,
        probe: replica.probe.clone(),
    }
}
