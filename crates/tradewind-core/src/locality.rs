//! Which region is near: great-circle distance as a seed, measured round trips once there are any, and the one rule
//! by which a gateway routes users and control shows where they go.

use std::{collections::HashMap, time::Duration};

use crate::{RegionName, catalogue, region::Location};

/// Mean radius of the Earth (IUGG), in kilometres.
const EARTH_RADIUS_KM: f64 = 6371.0088;
/// Light in fibre travels at about two thirds of its speed in vacuum.
const FIBRE_KM_PER_SECOND: f64 = 299_792.458 * 2.0 / 3.0;
/// Cables do not follow great circles; 1.4 fits the published round trips between cloud regions within about a fifth.
const PATH_STRETCH: f64 = 1.4;
/// The round trip inside one region.
pub const LOCAL_ROUND_TRIP: Duration = Duration::from_micros(200);
/// A region takes the place of another in an order only when it is nearer by more than this share, and by more than
/// [`NOISE`].
pub const ORDER_HYSTERESIS: f64 = 0.10;
/// Round trips that differ by less tell of busy machines, not of distance.
pub const NOISE: Duration = Duration::from_millis(1);

/// The great-circle distance (haversine formula), in kilometres.
pub fn distance_km(a: Location, b: Location) -> f64 {
    let (lat_a, lat_b) = (a.latitude.to_radians(), b.latitude.to_radians());
    let half_lat = (lat_b - lat_a) / 2.0;
    let half_lon = (b.longitude - a.longitude).to_radians() / 2.0;
    let h = half_lat.sin().powi(2) + lat_a.cos() * lat_b.cos() * half_lon.sin().powi(2);
    // Rounding may push `h` a little past 1 for antipodes.
    2.0 * EARTH_RADIUS_KM * h.min(1.0).sqrt().asin()
}

/// The round trip to expect between two places: [`LOCAL_ROUND_TRIP`] + 2 x distance x 1.4 / (2/3 c).
pub fn estimated_round_trip(a: Location, b: Location) -> Duration {
    let seconds = 2.0 * distance_km(a, b) * PATH_STRETCH / FIBRE_KM_PER_SECOND;
    LOCAL_ROUND_TRIP + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 2)
}

/// A region as one that looks for the nearest sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionView<'a> {
    pub name: &'a RegionName,
    pub location: Option<Location>,
    /// The smallest of the last round trips from where the order is asked for.
    pub measured_round_trip: Option<Duration>,
}

/// The regions from the nearest to the farthest, as seen from `from`: itself first (if it is among them), then by
/// measured round trip, or the estimated one where nothing was measured; unknown places last; ties by name.
pub fn order(from: &RegionName, regions: &[RegionView<'_>]) -> Vec<RegionName> {
    reorder(&[], from, regions)
}

/// Like [`order`], but keeps the places of `previous` where the difference is within [`ORDER_HYSTERESIS`] or [`NOISE`],
/// so that jitter does not move users back and forth. Every place is taken by a region that is at most 10 % or 1 ms
/// farther than the nearest of those after it.
pub fn reorder(previous: &[RegionName], from: &RegionName, regions: &[RegionView<'_>]) -> Vec<RegionName> {
    let rank: HashMap<&RegionName, usize> = previous.iter().enumerate().map(|(rank, name)| (name, rank)).collect();
    let here = regions.iter().find(|view| view.name == from).and_then(|view| view.location);
    let here = here.or_else(|| catalogue::location(from.as_str()));
    let mut remaining: Vec<(f64, usize, &RegionName)> = regions
        .iter()
        .map(|view| (cost(from, here, view), rank.get(view.name).copied().unwrap_or(usize::MAX), view.name))
        .collect();
    remaining.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.2.cmp(b.2)));

    // Without a past nothing is kept in its place.
    if previous.is_empty() {
        return remaining.into_iter().map(|(.., name)| name.clone()).collect();
    }
    let mut ordered = Vec::with_capacity(remaining.len());
    while let Some(&(nearest, _, first)) = remaining.first() {
        // The own region stays first, and unknown distances do not compare.
        let bound = if first == from { nearest } else { within_hysteresis(nearest) };
        let among = remaining.iter().take_while(|candidate| candidate.0 <= bound).enumerate();
        let next = among.min_by_key(|(position, candidate)| (candidate.1, *position)).map_or(0, |(next, _)| next);
        ordered.push(remaining.remove(next).2.clone());
    }
    ordered
}

/// The most seconds that count as no farther than `nearest`.
fn within_hysteresis(nearest: f64) -> f64 {
    (nearest * (1.0 + ORDER_HYSTERESIS)).max(nearest + NOISE.as_secs_f64())
}

/// Seconds of round trip; below zero for the own region, infinite for an unknown place.
fn cost(from: &RegionName, here: Option<Location>, view: &RegionView<'_>) -> f64 {
    if view.name == from {
        return -1.0;
    }
    let estimated = || here.zip(view.location).map(|(here, there)| estimated_round_trip(here, there));
    view.measured_round_trip.or_else(estimated).map_or(f64::INFINITY, |round_trip| round_trip.as_secs_f64())
}

/// What decides whether a region may be given users of one model's live slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The region is among those that the committed route names.
    pub routed: bool,
    pub drained: bool,
    /// A gateway there answers, or the region is one's own.
    pub reachable: bool,
    /// Ready replicas of the live slot.
    pub ready: u32,
}

/// Why a region may not be given users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ineligible {
    #[error("not routed")]
    NotRouted,
    #[error("drained")]
    Drained,
    #[error("unreachable")]
    Unreachable,
    #[error("no ready replica")]
    NoReplica,
}

impl Condition {
    pub fn check(self) -> Result<(), Ineligible> {
        match self {
            Self { routed: false, .. } => Err(Ineligible::NotRouted),
            Self { drained: true, .. } => Err(Ineligible::Drained),
            Self { reachable: false, .. } => Err(Ineligible::Unreachable),
            Self { ready: 0, .. } => Err(Ineligible::NoReplica),
            Self { .. } => Ok(()),
        }
    }

    pub fn eligible(self) -> bool {
        self.check().is_ok()
    }
}

/// Where users go who see the regions in this order: to the first that is eligible. Gateways route by this, and
/// control's status tells it, so the two agree.
pub fn users_go_to(
    nearest_first: &[RegionName],
    mut condition: impl FnMut(&RegionName) -> Condition,
) -> Option<&RegionName> {
    nearest_first.iter().find(|region| condition(region).eligible())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> RegionName {
        text.parse().unwrap()
    }

    fn place(name: &str) -> Location {
        catalogue::location(name).unwrap()
    }

    fn ordered(from: &str, regions: &[(&str, Option<u64>)]) -> Vec<String> {
        reordered(&[], from, regions)
    }

    fn reordered(previous: &[&str], from: &str, regions: &[(&str, Option<u64>)]) -> Vec<String> {
        let previous: Vec<RegionName> = previous.iter().map(|text| name(text)).collect();
        let names: Vec<RegionName> = regions.iter().map(|(region, _)| name(region)).collect();
        let views: Vec<RegionView<'_>> = names
            .iter()
            .zip(regions)
            .map(|(name, (_, millis))| RegionView {
                name,
                location: catalogue::location(name.as_str()),
                measured_round_trip: millis.map(Duration::from_millis),
            })
            .collect();
        reorder(&previous, &name(from), &views).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn distances_and_round_trips_are_those_of_the_world() {
        for (a, b, km, millis) in [
            ("us-east1", "europe-west1", 6900.0, 90..110),
            ("us-east1", "asia-northeast1", 11_400.0, 145..175),
            ("europe-west1", "europe-west4", 390.0, 4..8),
            ("eu-west-1", "ap-southeast-2", 17_200.0, 230..260),
        ] {
            let distance = distance_km(place(a), place(b));
            assert!((distance - km).abs() < km * 0.05, "{a} to {b}: {distance} km");
            let round_trip = estimated_round_trip(place(a), place(b)).as_millis();
            assert!(millis.contains(&round_trip), "{a} to {b}: {round_trip} ms");
        }
        assert_eq!(estimated_round_trip(place("us-east1"), place("us-east1")), LOCAL_ROUND_TRIP);
    }

    #[test]
    fn own_region_first_then_near_then_far_then_unknown() {
        let regions =
            [("asia-northeast1", None), ("moon", None), ("europe-west1", None), ("us-east1", None), ("base", None)];
        assert_eq!(ordered("us-east1", &regions), ["us-east1", "europe-west1", "asia-northeast1", "base", "moon"]);
        assert_eq!(ordered("asia-northeast1", &regions)[..2], ["asia-northeast1", "europe-west1"]);
        assert_eq!(ordered("moon", &regions), ["moon", "asia-northeast1", "base", "europe-west1", "us-east1"]);
        // A place that is no region here is looked up in the catalogue.
        assert_eq!(ordered("europe-west4", &regions)[0], "europe-west1");
    }

    #[test]
    fn what_is_measured_overrules_what_is_estimated() {
        let regions =
            [("us-east1", None), ("europe-west1", Some(300)), ("asia-northeast1", Some(80)), ("moon", Some(90))];
        assert_eq!(ordered("us-east1", &regions), ["us-east1", "asia-northeast1", "moon", "europe-west1"]);
    }

    #[test]
    fn small_differences_keep_the_order_and_large_ones_change_it() {
        let at = |b| [("us-east1", None), ("europe-west1", Some(100)), ("asia-northeast1", Some(b))];
        let previous = ["us-east1", "europe-west1", "asia-northeast1"];
        assert_eq!(reordered(&previous, "us-east1", &at(95)), previous);
        assert_eq!(reordered(&previous, "us-east1", &at(80)), ["us-east1", "asia-northeast1", "europe-west1"]);
        let near = [("us-east1", None), ("europe-west1", Some(2)), ("asia-northeast1", Some(1))];
        assert_eq!(reordered(&previous, "us-east1", &near), previous, "a millisecond is noise");
        assert_eq!(ordered("us-east1", &at(95))[1], "asia-northeast1", "without a past the nearest is first");
    }

    #[test]
    fn users_go_to_the_nearest_that_may_take_them() {
        let nearest_first = [name("a"), name("b"), name("c"), name("d"), name("e")];
        let good = Condition { routed: true, drained: false, reachable: true, ready: 1 };
        let conditions = [
            Condition { ready: 0, ..good },
            Condition { drained: true, ..good },
            Condition { reachable: false, ..good },
            Condition { routed: false, ..good },
            good,
        ];
        let of = |region: &RegionName| conditions[nearest_first.iter().position(|name| name == region).unwrap()];
        assert_eq!(users_go_to(&nearest_first, of), Some(&name("e")));
        assert_eq!(users_go_to(&nearest_first[..4], of), None);
        assert_eq!(of(&name("c")).check(), Err(Ineligible::Unreachable));
    }

    proptest! {
        #[test]
        fn distance_is_a_distance(a in (-90.0..=90.0, -180.0..=180.0), b in (-90.0..=90.0, -180.0..=180.0)) {
            let a = Location { latitude: a.0, longitude: a.1 };
            let b = Location { latitude: b.0, longitude: b.1 };
            let there = distance_km(a, b);
            prop_assert!((0.0..=20_016.0).contains(&there));
            prop_assert!((there - distance_km(b, a)).abs() < 1e-6);
            prop_assert!(distance_km(a, a) < 1e-6);
        }

        #[test]
        fn an_order_holds_every_region_once_and_nobody_waits_behind_one_much_farther(
            costs in proptest::collection::vec(1_u64..1000, 1..12), shuffle in any::<u64>(),
        ) {
            let names: Vec<RegionName> = (0..costs.len()).map(|n| name(&format!("r{n:02}"))).collect();
            let views: Vec<RegionView<'_>> = names.iter().zip(&costs).map(|(name, millis)| RegionView {
                name, location: None, measured_round_trip: Some(Duration::from_millis(*millis)),
            }).collect();
            let mut previous = names.clone();
            previous.sort_by_key(|name| crate::traffic::Bucket::of_key(shuffle, name.as_str().as_bytes()));
            let result = reorder(&previous, &names[0], &views);
            prop_assert_eq!(&result[0], &names[0]);
            let cost = |name: &RegionName| costs[names.iter().position(|other| other == name).unwrap()] as f64;
            for (place, region) in result.iter().enumerate().skip(1) {
                for behind in &result[place + 1..] {
                    prop_assert!(cost(region) <= (cost(behind) * (1.0 + ORDER_HYSTERESIS)).max(cost(behind) + 1.0) + 1e-9);
                }
            }
            let mut sorted = result.clone();
            sorted.sort();
            prop_assert_eq!(sorted, names.clone());
            prop_assert_eq!(reorder(&result, &names[0], &views), result, "an order is stable");
        }
    }
}
