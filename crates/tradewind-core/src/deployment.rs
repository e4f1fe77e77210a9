//! Deployments and revisions: what people ask for.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Digest, Epoch, ModelName, RegionName, RevisionNumber, RolloutNumber, Slot, Timestamp, VersionNumber,
    duration::Span, monitor::Monitors, rollout::strategy::Strategy, scale::Scale,
};

/// The most regions of one deployment.
pub const REGIONS_LIMIT: usize = 5000;

/// Everything that a revision fixes: artifact, regions, scale, verification, monitors and how to roll out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentSpec {
    pub model: ModelName,
    pub version: VersionNumber,
    pub digest: Digest,
    /// In the order of the rollout, without duplicates.
    pub regions: Vec<RegionName>,
    #[serde(default)]
    pub scale: Scale,
    /// Regions that have replicas of their own kind or number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub region_scale: BTreeMap<RegionName, Scale>,
    #[serde(default)]
    pub strategy: Strategy,
    #[serde(default)]
    pub health: HealthPolicy,
    /// Regions that are probed in a way of their own.
    #[serde(default)]
    pub region_health: BTreeMap<RegionName, HealthPolicy>,
    #[serde(default, skip_serializing_if = "Monitors::is_default")]
    pub monitors: Monitors,
    /// Regions that are watched in a way of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub region_monitors: BTreeMap<RegionName, Monitors>,
    /// Requests of these regions' users are answered in these regions and nowhere else. Empty: anywhere.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub stay_in: BTreeSet<RegionName>,
}

/// How a region's replicas and gateways are probed, and when they count as unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthPolicy {
    pub interval: Span,
    pub timeout: Span,
    /// Failed probes in a row until unhealthy.
    pub unhealthy_after: u32,
    /// Good probes in a row until healthy again.
    pub healthy_after: u32,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self { interval: Span::from_secs(1), timeout: Span::from_millis(500), unhealthy_after: 2, healthy_after: 2 }
    }
}

/// The desired state of a model in the world: which revision should serve, and the rollout that leads there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    pub model: ModelName,
    /// The revision that users get; none before the first rollout routes.
    pub live: Option<RevisionNumber>,
    pub latest_revision: RevisionNumber,
    pub latest_rollout: RolloutNumber,
    /// The rollout that brought the live revision; it goes on bringing up its deferred regions while a later one fails.
    pub live_rollout: Option<RolloutNumber>,
    /// The last epoch that was given out, also to a switch that never committed.
    pub latest_epoch: Epoch,
    pub slots: SlotRevisions,
    /// Revisions that users were taken away from because of what they did: nothing brings them back unless told to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bad: BTreeMap<RevisionNumber, Bad>,
    /// Set by `undeploy`: regions are emptied, then the deployment goes.
    #[serde(default)]
    pub removing: bool,
}

/// So many bad revisions are remembered: the newest.
const BAD_LIMIT: usize = 100;

/// Who judged a revision bad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bad {
    #[schema(value_type = String)]
    pub at: Timestamp,
    pub by: String,
}

/// Which revision each slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct SlotRevisions {
    pub blue: Option<RevisionNumber>,
    pub green: Option<RevisionNumber>,
}

impl std::ops::Index<Slot> for SlotRevisions {
    type Output = Option<RevisionNumber>;
    fn index(&self, slot: Slot) -> &Self::Output {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }
}

impl std::ops::IndexMut<Slot> for SlotRevisions {
    fn index_mut(&mut self, slot: Slot) -> &mut Self::Output {
        match slot {
            Slot::Blue => &mut self.blue,
            Slot::Green => &mut self.green,
        }
    }
}

/// An immutable snapshot of a deployment. Written once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    pub number: RevisionNumber,
    pub spec: DeploymentSpec,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Who asked for it: `user@host` as the client said.
    pub created_by: String,
    /// It is that revision again, brought up anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<RevisionNumber>,
}

impl Revision {
    /// The revision that it is again, or itself.
    pub fn origin(&self) -> RevisionNumber {
        self.copy_of.unwrap_or(self.number)
    }
}

impl DeploymentSpec {
    /// The replicas of one region.
    pub fn scale_of(&self, region: &RegionName) -> &Scale {
        self.region_scale.get(region).unwrap_or(&self.scale)
    }

    /// That of regions without one of their own, and each of the others.
    pub fn scales(&self) -> impl Iterator<Item = &Scale> {
        std::iter::once(&self.scale).chain(self.region_scale.values())
    }

    /// How one region is probed.
    pub fn health_of(&self, region: &RegionName) -> HealthPolicy {
        self.region_health.get(region).copied().unwrap_or(self.health)
    }

    /// How one region is watched.
    pub fn monitors_of(&self, region: &RegionName) -> Monitors {
        self.region_monitors.get(region).copied().unwrap_or(self.monitors)
    }

    /// The same artifact, regions, scale, health and monitors: bringing one up where the other runs would change nothing.
    pub fn runs_the_same(&self, other: &Self) -> bool {
        let sorted = |spec: &Self| {
            let mut regions = spec.regions.clone();
            regions.sort();
            regions
        };
        self.digest == other.digest
            && self.version == other.version
            && self.scale == other.scale
            && self.region_scale == other.region_scale
            && self.health == other.health
            && self.region_health == other.region_health
            && self.monitors == other.monitors
            && self.region_monitors == other.region_monitors
            && self.stay_in == other.stay_in
            && sorted(self) == sorted(other)
    }

    /// The difference to an earlier spec, a line each: `version 1 -> 2`, `regions + asia-northeast1`.
    pub fn changes_since(&self, before: Option<&Self>) -> Vec<String> {
        let Some(before) = before else {
            let regions: Vec<&str> = self.regions.iter().map(RegionName::as_str).collect();
            return vec![format!("version {}", self.version), format!("regions + {}", regions.join(", "))];
        };
        let mut changes = Vec::new();
        let mut differs = |what: &str, old: String, new: String| {
            if old != new {
                changes.push(format!("{what} {old} -> {new}"));
            }
        };
        differs("version", before.version.to_string(), self.version.to_string());
        differs("replicas", before.scale.words(), self.scale.words());
        differs("threads", before.scale.threads().to_string(), self.scale.threads().to_string());
        differs("instances", before.scale.instances.to_string(), self.scale.instances.to_string());
        differs("cpu", or_words(before.scale.cpu, "unlimited"), or_words(self.scale.cpu, "unlimited"));
        differs("memory", or_words(before.scale.memory, "unlimited"), or_words(self.scale.memory, "unlimited"));
        let rows = |scale: &Scale| or_words(scale.max_batch_rows, "as the bundle says");
        differs("batch rows", rows(&before.scale), rows(&self.scale));
        let concurrency = |scale: &Scale| or_words(scale.concurrency, "found out");
        differs("concurrency", concurrency(&before.scale), concurrency(&self.scale));
        differs("health interval", before.health.interval.to_string(), self.health.interval.to_string());
        differs("health timeout", before.health.timeout.to_string(), self.health.timeout.to_string());
        differs("unhealthy after", before.health.unhealthy_after.to_string(), self.health.unhealthy_after.to_string());
        differs("healthy after", before.health.healthy_after.to_string(), self.health.healthy_after.to_string());
        differs("monitors", before.monitors.summary(), self.monitors.summary());
        differs(
            "golden interval",
            before.monitors.golden_interval.to_string(),
            self.monitors.golden_interval.to_string(),
        );
        differs("saturation", before.monitors.saturation.to_string(), self.monitors.saturation.to_string());
        let scaled = self.own_way(&self.region_scale, &before.region_scale, |region| {
            self.scale_of(region) != before.scale_of(region)
        });
        changes.extend(scaled.map(|regions| format!("scale of {regions}")));
        let probed = self.own_way(&self.region_health, &before.region_health, |region| {
            self.health_of(region) != before.health_of(region)
        });
        changes.extend(probed.map(|regions| format!("health of {regions}")));
        let watched = self.own_way(&self.region_monitors, &before.region_monitors, |region| {
            self.monitors_of(region) != before.monitors_of(region)
        });
        changes.extend(watched.map(|regions| format!("monitors of {regions}")));
        let bounds = |spec: &Self| {
            let names: Vec<&str> = spec.stay_in.iter().map(RegionName::as_str).collect();
            if names.is_empty() { "anywhere".to_owned() } else { names.join(", ") }
        };
        if self.stay_in != before.stay_in {
            changes.push(format!("stay in {} -> {}", bounds(before), bounds(self)));
        }
        let missing_from = |regions: &[RegionName], all: &[RegionName]| {
            let missing = regions.iter().filter(|region| !all.contains(region));
            missing.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let added = missing_from(&self.regions, &before.regions);
        let removed = missing_from(&before.regions, &self.regions);
        changes.extend((!added.is_empty()).then(|| format!("regions + {added}")));
        changes.extend((!removed.is_empty()).then(|| format!("regions - {removed}")));
        changes
    }
}

fn or_words(value: Option<impl ToString>, words: &str) -> String {
    value.map_or_else(|| words.to_owned(), |value| value.to_string())
}

impl DeploymentSpec {
    /// The regions of this spec that have, or had, something of their own that is now different.
    fn own_way<T>(
        &self,
        now: &BTreeMap<RegionName, T>,
        before: &BTreeMap<RegionName, T>,
        differs: impl Fn(&RegionName) -> bool,
    ) -> Option<String> {
        let own: BTreeSet<&RegionName> = now.keys().chain(before.keys()).collect();
        let own = own.into_iter().filter(|region| self.regions.contains(region) && differs(region));
        let names: Vec<&str> = own.map(AsRef::as_ref).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

impl Deployment {
    /// One that has never had a revision.
    pub fn new(model: ModelName) -> Self {
        Self {
            model,
            live: None,
            latest_revision: RevisionNumber(0),
            latest_rollout: RolloutNumber(0),
            live_rollout: None,
            latest_epoch: Epoch(0),
            slots: SlotRevisions::default(),
            removing: false,
            bad: BTreeMap::new(),
        }
    }

    /// The slot that users get.
    pub fn live_slot(&self) -> Option<Slot> {
        let live = self.live?;
        Slot::BOTH.into_iter().find(|slot| self.slots[*slot] == Some(live))
    }

    /// Where the next revision is brought up.
    pub fn candidate_slot(&self) -> Slot {
        self.live_slot().map_or(Slot::Blue, Slot::other)
    }

    pub fn mark_bad(&mut self, revision: RevisionNumber, bad: Bad) {
        self.bad.insert(revision, bad);
        while self.bad.len() > BAD_LIMIT {
            self.bad.pop_first();
        }
    }

    /// Where users go back to: the newest revision before `origin` that has served and is not bad. Whoever rolls back next goes
    /// further back, and never to where the one before them came from.
    pub fn rollback_target(&self, served: &BTreeSet<RevisionNumber>, origin: RevisionNumber) -> Option<RevisionNumber> {
        served.range(..origin).rev().find(|revision| !self.bad.contains_key(revision)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_rolls_back_goes_further_back_and_never_to_what_was_left() {
        let mut deployment = Deployment::new("digits".parse().unwrap());
        let served: BTreeSet<RevisionNumber> = [1, 2, 4, 5].map(RevisionNumber).into();
        let target = |deployment: &Deployment, live| deployment.rollback_target(&served, RevisionNumber(live));
        assert_eq!(target(&deployment, 5), Some(RevisionNumber(4)));
        let bad = || Bad { at: Timestamp::UNIX_EPOCH, by: "ada@engine".to_owned() };
        for left in [5, 4] {
            deployment.mark_bad(RevisionNumber(left), bad());
        }
        assert_eq!(target(&deployment, 6), Some(RevisionNumber(2)));
        assert_eq!(target(&deployment, 2), Some(RevisionNumber(1)));
        assert_eq!(target(&deployment, 1), None);
    }

    #[test]
    fn the_newest_bad_revisions_are_remembered() {
        let mut deployment = Deployment::new("digits".parse().unwrap());
        for number in 1..=150 {
            deployment.mark_bad(RevisionNumber(number), Bad { at: Timestamp::UNIX_EPOCH, by: String::new() });
        }
        assert_eq!((deployment.bad.len(), deployment.bad.first_key_value().unwrap().0.0), (100, 51));
    }
}
