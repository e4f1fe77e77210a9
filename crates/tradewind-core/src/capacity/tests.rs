use proptest::prelude::*;

use super::*;

const A: &str = "a";
const B: &str = "b";
const C: &str = "c";

fn name(text: &str) -> RegionName {
    text.parse().unwrap()
}

fn model() -> ModelName {
    "digits".parse().unwrap()
}

fn limited(in_flight: f64, limit: u32) -> Capacity {
    Capacity { in_flight, in_flight_now: 0, limit: Some(limit), replicas: 1 }
}

fn undeclared(in_flight: f64, replicas: u32) -> Capacity {
    Capacity { in_flight, in_flight_now: 0, limit: None, replicas }
}

fn movers(in_flight: f64, nearest_first: &[&str]) -> Movers {
    Movers { in_flight, nearest_first: nearest_first.iter().map(|region| name(region)).collect() }
}

/// The verdict, and what each region takes.
fn check(users: &[Movers], capacities: &[(&str, Capacity)], fit: Fit, share: Option<f64>, expected: &[(&str, f64)]) {
    let capacities = capacities.iter().map(|(region, capacity)| (name(region), *capacity)).collect();
    let found = fail_over(model(), users, &capacities);
    let taken: Vec<(&str, f64)> =
        found.targets.iter().map(|target| (target.region.as_str(), target.in_flight)).collect();
    assert_eq!((found.fit, taken.as_slice()), (fit, expected), "{found:?}");
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(found.share.zip(share).is_none_or(|(a, b)| close(a, b)), "{found:?}");
    assert_eq!(found.share.is_some(), share.is_some(), "{found:?}");
}

#[test]
fn users_go_to_the_nearest_until_it_is_full_and_then_to_the_next() {
    let (near, far) = (limited(4.0, 20), limited(0.0, 10));
    let regions = [(B, near), (C, far)];
    check(&[movers(10.0, &[B, C])], &regions, Fit::Fits, Some(1.0), &[(B, 10.0)]);
    check(&[movers(16.0, &[B, C])], &regions, Fit::Fits, Some(1.0), &[(B, 14.0), (C, 2.0)]);
    check(&[movers(46.0, &[B, C])], &regions, Fit::DoesNotFit, Some(0.5), &[(B, 14.0), (C, 9.0)]);
    check(&[movers(10.0, &[C, B])], &regions, Fit::Fits, Some(1.0), &[(B, 1.0), (C, 9.0)]);
}

#[test]
fn users_of_several_regions_share_what_room_there_is() {
    let regions = [(B, limited(0.0, 10)), (C, limited(0.0, 10))];
    let users = [movers(6.0, &[B, C]), movers(6.0, &[B, C])];
    check(&users, &regions, Fit::Fits, Some(1.0), &[(B, 9.0), (C, 3.0)]);
    // Those who may go nowhere else find the room taken.
    let bound = [movers(6.0, &[B]), movers(6.0, &[B])];
    check(&bound, &regions, Fit::DoesNotFit, Some(0.75), &[(B, 9.0)]);
}

#[test]
fn a_region_that_is_full_already_takes_nobody() {
    check(&[movers(1.0, &[B])], &[(B, limited(9.5, 10))], Fit::DoesNotFit, Some(0.0), &[(B, 0.0)]);
}

#[test]
fn without_another_region_nothing_fits_even_when_nobody_asks() {
    check(&[movers(0.0, &[])], &[], Fit::DoesNotFit, Some(0.0), &[]);
    check(&[movers(0.0, &[A])], &[(B, limited(0.0, 1))], Fit::DoesNotFit, Some(0.0), &[]);
    check(&[movers(0.0, &[B])], &[(B, limited(9.5, 10))], Fit::Fits, Some(1.0), &[(B, 0.0)]);
}

#[test]
fn what_was_not_declared_is_not_known_beyond_one_request_for_each_replica() {
    check(&[movers(0.5, &[B])], &[(B, undeclared(0.4, 1))], Fit::Fits, Some(1.0), &[(B, 0.5)]);
    check(&[movers(0.5, &[B])], &[(B, undeclared(0.6, 1))], Fit::Unknown, None, &[(B, 0.5)]);
    check(&[movers(0.5, &[B])], &[(B, undeclared(0.6, 2))], Fit::Fits, Some(1.0), &[(B, 0.5)]);
    // What is busy already stays what it is when nobody comes.
    check(&[movers(0.0, &[B])], &[(B, undeclared(7.0, 1))], Fit::Fits, Some(1.0), &[(B, 0.0)]);
    // A nearer region without a limit gets all of them, whatever room a farther one has.
    check(&[movers(5.0, &[B, C])], &[(B, undeclared(0.0, 1)), (C, limited(0.0, 99))], Fit::Unknown, None, &[(B, 5.0)]);
}

#[test]
fn a_target_tells_how_full_it_is_and_will_be() {
    let capacities = BTreeMap::from([(name(B), limited(2.0, 20))]);
    let found = fail_over(model(), &[movers(6.0, &[B])], &capacities);
    assert_eq!((found.targets[0].utilisation, found.targets[0].utilisation_then), (Some(0.1), Some(0.4)));
}

#[test]
fn a_region_is_as_well_off_as_the_model_that_fits_worst() {
    assert_eq!(Failover::of(Vec::new()).fit, Fit::Fits);
    let of = |name: &str, fit, share| {
        let model = name.parse().unwrap();
        ModelFailover { model, fit, in_flight: 1.0, share, targets: Vec::new() }
    };
    let failover = Failover::of(vec![
        of("well", Fit::Fits, Some(1.0)),
        of("worst", Fit::DoesNotFit, Some(0.2)),
        of("bad", Fit::DoesNotFit, Some(0.8)),
        of("who-knows", Fit::Unknown, None),
    ]);
    assert_eq!(failover.fit, Fit::DoesNotFit);
    assert_eq!(failover.worst().unwrap().model.as_str(), "worst");
}

#[test]
fn a_peak_is_smoothed_and_a_lasting_change_is_followed() {
    let step = Duration::from_millis(200);
    let peak = smoothed(2.0, 100.0, step);
    assert!(peak < 7.0, "{peak}");
    let lasting = (0..75).fold(2.0, |before, _| smoothed(before, 100.0, step));
    assert!((94.0..100.0).contains(&lasting), "after 15 s: {lasting}");
}

fn capacities() -> impl Strategy<Value = BTreeMap<RegionName, Capacity>> {
    let capacity = (0.0..50.0_f64, proptest::option::of(1..50_u32), 1..4_u32)
        .prop_map(|(in_flight, limit, replicas)| Capacity { in_flight, in_flight_now: 0, limit, replicas });
    proptest::collection::btree_map("[b-h]".prop_map(|text| name(&text)), capacity, 0..6)
}

fn users() -> impl Strategy<Value = Vec<Movers>> {
    let order = Just(["b", "c", "d", "e", "f", "g", "h"].map(name).to_vec()).prop_shuffle();
    let movers = (0.0..40.0_f64, order, 0..7_usize).prop_map(|(in_flight, mut nearest_first, reach)| {
        nearest_first.truncate(reach);
        Movers { in_flight, nearest_first }
    });
    proptest::collection::vec(movers, 1..4)
}

proptest! {
    #[test]
    fn nobody_is_lost_or_counted_twice_and_no_limit_is_passed(users in users(), capacities in capacities()) {
        let found = fail_over(model(), &users, &capacities);
        let moved: f64 = found.targets.iter().map(|target| target.in_flight).sum();
        let total: f64 = users.iter().map(|users| users.in_flight).sum();
        prop_assert!(moved <= total + 1e-6);
        if let Some(share) = found.share.filter(|_| total > 0.1) {
            prop_assert!((share * total - moved).abs() < 0.1, "{share} of {total} is not {moved}");
        }
        for target in &found.targets {
            let capacity = capacities[&target.region];
            let room = capacity.limit.map_or(f64::INFINITY, |limit| f64::from(limit) * (1.0 - SPARE) - capacity.in_flight);
            prop_assert!(target.in_flight <= room.max(0.0) + 1e-6);
        }
        prop_assert!(found.fit != Fit::Fits || total - moved < 0.1);
    }

    // With regions bound to each other, who comes first may take the only room of who comes next.
    #[test]
    fn more_room_never_makes_it_fit_worse(users in users(), capacities in capacities(), more in 1..50_u32) {
        let declared = |more| move |(name, capacity): (&RegionName, &Capacity)| {
            (name.clone(), Capacity { limit: Some(capacity.limit.unwrap_or(5) + more), ..*capacity })
        };
        let (small, large) = (capacities.iter().map(declared(0)).collect(), capacities.iter().map(declared(more)).collect());
        let (before, after) = (fail_over(model(), &users[..1], &small), fail_over(model(), &users[..1], &large));
        prop_assert!(after.fit <= before.fit);
        prop_assert!(after.share >= before.share);
    }
}
