//! The configuration of gateways as it travels: a snapshot first, then what changes.
//!
//! Every edition is named by the digest of its content. A delta names the edition that it begins from and the one that
//! it leads to, so one that was lost, repeated or reordered fits nowhere. Whoever finds that takes up the stream anew,
//! which begins with a snapshot: there is no other repair.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tradewind_core::{Digest, ModelName, RegionName, deployment::HealthPolicy, route::Route};
use utoipa::ToSchema;

use super::{GatewaySnapshot, RegionMembers};

/// A stream that has not even said what is current for so long is taken up anew: three of
/// [`CHECK_INTERVAL`](crate::ndjson::CHECK_INTERVAL).
pub const UNCHECKED_LIMIT: Duration = Duration::from_secs(3 * 60);

/// A snapshot and the digest that its sender gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Edition {
    pub digest: Digest,
    #[schema(value_type = GatewaySnapshot)]
    pub snapshot: Arc<GatewaySnapshot>,
}

impl Edition {
    pub fn new(snapshot: GatewaySnapshot) -> Self {
        let json = serde_json::to_vec(&snapshot).expect("wire types have string keys and finite numbers");
        Self { digest: Digest::from_bytes(*blake3::hash(&json).as_bytes()), snapshot: Arc::new(snapshot) }
    }

    pub fn version(&self) -> ConfigVersion {
        ConfigVersion { revision: self.snapshot.revision, digest: self.digest }
    }
}

/// Which edition a gateway serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigVersion {
    pub revision: u64,
    pub digest: Digest,
}

/// A line of the stream. The first one is a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfigMessage {
    Snapshot(Edition),
    Delta(SnapshotDelta),
    /// There is nothing new since this edition.
    Current {
        digest: Digest,
    },
}

impl ConfigMessage {
    /// The routes that are told.
    pub fn routes(&self) -> &[Route] {
        match self {
            Self::Snapshot(edition) => &edition.snapshot.routes,
            Self::Delta(delta) => &delta.routes,
            Self::Current { .. } => &[],
        }
    }

    /// The edition that a reader who holds `held` has after this message.
    ///
    /// A snapshot is taken by the digest it comes with, even if this program computes another one: a sender of a later
    /// release may say what this one does not know. Then no delta fits, and every change comes as a snapshot.
    pub fn onto(self, held: Option<&Edition>) -> Result<Edition, Mismatch> {
        match (self, held) {
            (Self::Snapshot(edition), _) => Ok(edition),
            (_, None) => Err(Mismatch::NoSnapshot),
            (Self::Delta(delta), Some(held)) => apply(held, delta),
            (Self::Current { digest }, Some(held)) if digest == held.digest => Ok(held.clone()),
            (Self::Current { .. }, Some(_)) => Err(Mismatch::Behind),
        }
    }
}

/// Why a message does not fit to what its reader holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("the stream does not begin with a snapshot")]
    NoSnapshot,
    #[error("a change is to another state than the one that is held")]
    Base,
    #[error("a change leads to another state than the one that was sent")]
    Result,
    #[error("another state is current than the one that is held")]
    Behind,
}

/// What is different in the next edition: what is named is replaced, added or removed, the rest stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotDelta {
    pub base: Digest,
    /// Of the result.
    pub digest: Digest,
    pub revision: u64,
    pub deployed: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthPolicy>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionMembers>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions_removed: Vec<RegionName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes_removed: Vec<ModelName>,
}

impl SnapshotDelta {
    /// Whether the editions differ in nothing but the store's revision.
    pub fn is_empty(&self) -> bool {
        self.mesh_token.is_none()
            && self.health.is_none()
            && self.regions.is_empty()
            && self.regions_removed.is_empty()
            && self.routes.is_empty()
            && self.routes_removed.is_empty()
    }
}

/// What leads from `base` to `next`; `None` between incarnations of the store, which have nothing in common.
pub fn diff(base: &Edition, next: &Edition) -> Option<SnapshotDelta> {
    let (before, after) = (&*base.snapshot, &*next.snapshot);
    if before.incarnation != after.incarnation {
        return None;
    }
    let (regions, regions_removed) = changed(&before.regions, &after.regions, |region| &region.name);
    let (routes, routes_removed) = changed(&before.routes, &after.routes, |route| &route.model);
    Some(SnapshotDelta {
        base: base.digest,
        digest: next.digest,
        revision: after.revision,
        deployed: after.deployed,
        mesh_token: (before.mesh_token != after.mesh_token).then(|| after.mesh_token.clone()),
        health: (before.health != after.health).then_some(after.health),
        regions,
        regions_removed,
        routes,
        routes_removed,
    })
}

/// The edition that `delta` leads to, if it begins at `base` and leads where its sender says.
pub fn apply(base: &Edition, delta: SnapshotDelta) -> Result<Edition, Mismatch> {
    if delta.base != base.digest {
        return Err(Mismatch::Base);
    }
    let before = &*base.snapshot;
    let next = Edition::new(GatewaySnapshot {
        incarnation: before.incarnation.clone(),
        revision: delta.revision,
        deployed: delta.deployed,
        mesh_token: delta.mesh_token.unwrap_or_else(|| before.mesh_token.clone()),
        health: delta.health.unwrap_or(before.health),
        regions: merged(&before.regions, delta.regions, &delta.regions_removed, |region| &region.name),
        routes: merged(&before.routes, delta.routes, &delta.routes_removed, |route| &route.model),
    });
    if next.digest == delta.digest { Ok(next) } else { Err(Mismatch::Result) }
}

/// What is new or other in `after`, and the names of what is only in `before`.
fn changed<T: Clone + PartialEq, K: Ord + Clone>(before: &[T], after: &[T], name: fn(&T) -> &K) -> (Vec<T>, Vec<K>) {
    let mut left: BTreeMap<&K, &T> = before.iter().map(|item| (name(item), item)).collect();
    let changed = after.iter().filter(|item| left.remove(name(item)) != Some(*item)).cloned().collect();
    (changed, left.into_keys().cloned().collect())
}

/// In the order of names, as all lists of a snapshot are.
fn merged<T: Clone, K: Ord + Clone>(before: &[T], changed: Vec<T>, removed: &[K], name: fn(&T) -> &K) -> Vec<T> {
    let mut items: BTreeMap<K, T> = before.iter().map(|item| (name(item).clone(), item.clone())).collect();
    removed.iter().for_each(|name| drop(items.remove(name)));
    items.extend(changed.into_iter().map(|item| (name(&item).clone(), item)));
    items.into_values().collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};
    use tradewind_core::region::Location;

    use super::{
        super::fixtures::{route, snapshot},
        *,
    };

    const MODELS: [&str; 5] = ["bert", "cats", "digits", "llama", "whisper"];
    const REGIONS: [&str; 4] = ["asia-northeast1", "europe-west1", "us-east1", "us-west1"];

    fn snapshots() -> impl Strategy<Value = GatewaySnapshot> {
        let routes = collection::btree_map(prop::sample::select(&MODELS[..]), 1..4_u64, 0..MODELS.len());
        let regions = collection::btree_map(prop::sample::select(&REGIONS[..]), any::<bool>(), 1..REGIONS.len());
        (routes, regions, prop::sample::select(&["mesh", "other"][..])).prop_map(|(routes, regions, mesh_token)| {
            let routes = routes.into_iter().map(|(model, epoch)| route(model, epoch, &REGIONS)).collect();
            let regions = regions.into_iter().map(|(name, drained)| RegionMembers {
                name: name.parse().unwrap(),
                location: None,
                drained,
                gateways: Vec::new(),
                agents: vec![format!("{name}:1")],
                drill: None,
            });
            let mesh_token = mesh_token.to_owned();
            GatewaySnapshot { regions: regions.collect(), routes, mesh_token, ..snapshot("first", 1) }
        })
    }

    /// Editions that follow each other, as a store makes them.
    fn histories() -> impl Strategy<Value = Vec<Edition>> {
        collection::vec(snapshots(), 2..8).prop_map(|snapshots| {
            let numbered = (1..).zip(snapshots).map(|(revision, known)| GatewaySnapshot { revision, ..known });
            numbered.map(Edition::new).collect()
        })
    }

    proptest! {
        #[test]
        fn a_delta_leads_from_any_edition_to_any_other(history in histories()) {
            for (base, next) in history.iter().zip(&history[1..]) {
                let delta = diff(base, next).unwrap();
                let sent = serde_json::to_string(&ConfigMessage::Delta(delta)).unwrap();
                let message: ConfigMessage = serde_json::from_str(&sent).unwrap();
                prop_assert_eq!(message.onto(Some(base)), Ok(next.clone()));
            }
        }

        #[test]
        fn what_was_lost_repeated_or_reordered_is_noticed(history in histories(), order in collection::vec(0..7_usize, 1..10)) {
            let deltas: Vec<_> = history.windows(2).map(|pair| diff(&pair[0], &pair[1]).unwrap()).collect();
            let mut held = 0;
            for sent in order.into_iter().filter(|sent| *sent < deltas.len()) {
                match apply(&history[held], deltas[sent].clone()) {
                    Ok(next) => {
                        prop_assert_eq!(sent, held, "only the next one fits");
                        held += 1;
                        prop_assert_eq!(&next, &history[held]);
                    }
                    Err(mismatch) => {
                        prop_assert_eq!(mismatch, Mismatch::Base);
                        prop_assert_ne!(sent, held);
                    }
                }
            }
        }

        #[test]
        fn what_was_altered_on_the_way_is_noticed(history in histories(), drained: bool) {
            let mut delta = diff(&history[0], &history[1]).unwrap();
            delta.regions = vec![RegionMembers { drained, ..snapshot("first", 1).regions.remove(0) }];
            delta.regions[0].name = "altered".parse().unwrap();
            prop_assert_eq!(apply(&history[0], delta), Err(Mismatch::Result));
        }
    }

    #[test]
    fn a_stream_begins_with_a_snapshot_and_says_what_is_current() {
        let (one, other) = (Edition::new(snapshot("first", 1)), Edition::new(snapshot("first", 2)));
        let delta = diff(&one, &other).unwrap();
        assert!(delta.is_empty(), "they differ in the revision alone");
        assert_eq!(ConfigMessage::Delta(delta).onto(None), Err(Mismatch::NoSnapshot));
        let current = ConfigMessage::Current { digest: one.digest };
        assert_eq!(current.clone().onto(Some(&one)), Ok(one.clone()));
        assert_eq!(current.onto(Some(&other)), Err(Mismatch::Behind));
        let restored = Edition::new(snapshot("restored", 2));
        assert_eq!(diff(&one, &restored), None);
        assert_eq!(ConfigMessage::Snapshot(restored.clone()).onto(Some(&one)), Ok(restored));
    }

    #[test]
    fn a_snapshot_of_a_later_release_is_taken_and_its_deltas_are_not() {
        let mut later = Edition::new(snapshot("first", 1));
        later.digest = Digest::from_bytes([7; 32]);
        let held = ConfigMessage::Snapshot(later.clone()).onto(None).unwrap();
        assert_eq!(ConfigMessage::Current { digest: later.digest }.onto(Some(&held)), Ok(later.clone()));
        let mut next = Edition::new(snapshot("first", 2));
        next.digest = Digest::from_bytes([8; 32]);
        assert_eq!(apply(&held, diff(&later, &next).unwrap()), Err(Mismatch::Result));
    }

    #[test]
    fn a_place_of_many_digits_is_the_same_at_the_other_end() {
        for number in 1..5000 {
            let degrees = f64::from(number) * 0.012_345_678_912_3;
            let mut next = snapshot("first", 2);
            next.regions[0].location = Some(Location { latitude: degrees, longitude: -degrees / 3.0 });
            let (base, next) = (Edition::new(snapshot("first", 1)), Edition::new(next));
            let sent = serde_json::to_string(&ConfigMessage::Delta(diff(&base, &next).unwrap())).unwrap();
            let message: ConfigMessage = serde_json::from_str(&sent).unwrap();
            assert_eq!(message.onto(Some(&base)), Ok(next), "{degrees}");
        }
    }
}
