//! Routes: which slot of which regions users get. One epoch numbers each change, fleet-wide.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Epoch, ModelName, RegionName, RevisionNumber, Slot, VersionNumber,
    deployment::{HealthPolicy, Revision},
    pins::Pins,
    rollout::strategy::Percent,
    traffic::Bucket,
};

/// The route of a model. Gateways serve `committed`; they prepare for `prepared`, and never serve it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    pub model: ModelName,
    pub committed: Option<RouteState>,
    pub prepared: Option<RouteState>,
    /// Users who get what somebody has chosen for them.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    #[schema(value_type = Pins)]
    pub pins: Arc<Pins>,
}

impl Route {
    /// The same with other pins, from the next epochs on: they are numbered like every change of what users get.
    #[must_use]
    pub fn with_pins(&self, pins: Pins, latest: Epoch) -> (Self, Epoch) {
        let mut epoch = latest;
        let mut renumbered = |state: &RouteState| {
            epoch = epoch.next();
            state.at(epoch)
        };
        let committed = self.committed.as_ref().map(&mut renumbered);
        let prepared = self.prepared.as_ref().map(&mut renumbered);
        (Self { model: self.model.clone(), committed, prepared, pins: Arc::new(pins) }, epoch)
    }
}

/// What users get at one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteState {
    pub epoch: Epoch,
    pub live: Slot,
    pub revision: RevisionNumber,
    pub version: VersionNumber,
    /// The regions where that revision is verified; only these get traffic.
    pub regions: Vec<RegionName>,
    /// How gateways probe the regions of this route.
    pub health: HealthPolicy,
    /// Regions that are probed in a way of their own.
    #[serde(default)]
    pub region_health: BTreeMap<RegionName, HealthPolicy>,
    /// Requests of these regions' users are answered in these regions and nowhere else. Empty: anywhere.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub stay_in: BTreeSet<RegionName>,
    /// What some users get instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Box<Candidate>>,
}

/// A revision that some users get before, or instead of, all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    pub users: Users,
    /// What they get, at the same epoch.
    #[schema(no_recursion)]
    pub state: RouteState,
}

/// Which users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Users {
    /// Those whose own region is one of these.
    OfRegions(BTreeSet<RegionName>),
    /// Those whose key falls into that share; requests without a key do so one by one.
    Share {
        #[schema(value_type = f64)]
        share: Percent,
        salt: u64,
        /// These are in it whatever the share is.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        allow: BTreeSet<String>,
    },
}

impl Candidate {
    /// What nobody gets but those who are pinned to it.
    pub fn of_pinned(state: RouteState) -> Self {
        Self { users: Users::Share { share: Percent::NONE, salt: 0, allow: BTreeSet::new() }, state }
    }
}

impl Users {
    /// Whether a request is of one of them: by its user's own region and key, or by a number drawn for it.
    pub fn include(&self, from: &RegionName, user: Option<&[u8]>, draw: impl FnOnce() -> u64) -> bool {
        match self {
            Self::OfRegions(regions) => regions.contains(from),
            Self::Share { share, salt, allow } => {
                let is_allowed = |user: &[u8]| std::str::from_utf8(user).is_ok_and(|user| allow.contains(user));
                if !allow.is_empty() && user.is_some_and(is_allowed) {
                    return true;
                }
                let bucket = user.map_or_else(|| Bucket::of_request(draw()), |user| Bucket::of_key(*salt, user));
                bucket.within(share.share())
            }
        }
    }
}

impl RouteState {
    /// Users of everywhere get `revision`, in these regions.
    pub fn of(revision: &Revision, epoch: Epoch, live: Slot, regions: Vec<RegionName>) -> Self {
        let spec = &revision.spec;
        Self {
            epoch,
            live,
            revision: revision.number,
            version: spec.version,
            regions,
            health: spec.health,
            region_health: spec.region_health.clone(),
            stay_in: spec.stay_in.clone(),
            candidate: None,
        }
    }

    /// The same at another epoch.
    #[must_use]
    pub fn at(&self, epoch: Epoch) -> Self {
        let candidate = self
            .candidate
            .as_ref()
            .map(|candidate| Box::new(Candidate { users: candidate.users.clone(), state: candidate.state.at(epoch) }));
        Self { epoch, candidate, ..self.clone() }
    }

    /// What all users get again at `epoch`, when nobody is to get the candidate any more.
    #[must_use]
    pub fn without_candidate(&self, epoch: Epoch) -> Self {
        Self { epoch, candidate: None, ..self.clone() }
    }

    /// The same at `epoch`, but nobody is sent to those regions for what is live.
    #[must_use]
    pub fn without_regions(&self, gone: &[RegionName], epoch: Epoch) -> Self {
        let mut state = self.at(epoch);
        state.regions.retain(|region| !gone.contains(region));
        state
    }

    /// Every revision that users get.
    pub fn served(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.candidate.iter().map(|candidate| &candidate.state))
    }

    /// Whether a request of a user of `from` may be answered in `region`.
    pub fn may_go(&self, from: &RegionName, region: &RegionName) -> bool {
        !self.stay_in.contains(from) || self.stay_in.contains(region)
    }

    pub fn health_of(&self, region: &RegionName) -> HealthPolicy {
        self.region_health.get(region).copied().unwrap_or(self.health)
    }
}
