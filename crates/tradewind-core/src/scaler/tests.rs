use proptest::{collection, prelude::*};

use super::*;
use crate::scale::{Bounds, Scale};

const WINDOW: u64 = 60;

fn bounds(min: u32, max: u32, target: u32) -> Scale {
    let bounds = Bounds { min, max, target, scale_down_after: Span::from_secs(WINDOW), schedule: Vec::new() };
    Scale { replicas: bounds.first(), bounds: Some(bounds), ..Scale::default() }
}

/// One slot over time: each second something is observed, then decided.
struct Slot {
    scale: Scale,
    scaler: Scaler,
    by_hand: Option<ByHand>,
    second: u64,
    replicas: u32,
    least: u32,
}

impl Slot {
    fn new(scale: Scale, replicas: u32) -> Self {
        Self { scale, scaler: Scaler::default(), by_hand: None, second: 1_000_000, replicas, least: 0 }
    }

    fn second(&mut self, demand: Option<Demand>) -> Decision {
        self.second += 1;
        let at = Duration::from_secs(self.second);
        self.scaler.observe(at, demand);
        let decision = self.scaler.decide(Situation {
            scale: &self.scale,
            by_hand: self.by_hand.as_ref(),
            at,
            now: Timestamp::from_second(i64::try_from(self.second).unwrap()).unwrap(),
            current: Some(self.replicas),
            least: self.least,
        });
        self.replicas = decision.replicas;
        decision
    }

    fn seconds(&mut self, seconds: u64, in_flight: f64) -> u32 {
        (0..seconds).for_each(|_| drop(self.second(of(in_flight))));
        self.replicas
    }
}

fn of(in_flight: f64) -> Option<Demand> {
    Some(Demand { in_flight, asked: in_flight > 0.0 })
}

#[test]
fn up_at_once_and_down_when_nothing_was_needed_for_the_whole_window() {
    let mut slot = Slot::new(bounds(1, 10, 2), 1);
    assert_eq!(slot.seconds(30, 1.0), 1);
    assert_eq!(slot.second(of(9.0)), Decision { replicas: 5, reason: "9.0 in flight, 2 for each replica".to_owned() });
    slot.seconds(10, 9.0);
    // The window begins when the last of the load is out of the short one.
    assert_eq!(slot.seconds(WINDOW - 1, 1.0), 5);
    assert_eq!(slot.seconds(10, 1.0), 1);
}

#[test]
fn the_first_request_starts_a_replica_and_silence_ends_the_last() {
    let mut slot = Slot::new(bounds(0, 4, 2), 1);
    assert_eq!(slot.seconds(WINDOW, 0.0), 1);
    assert_eq!(slot.seconds(2, 0.0), 0);
    let shortly = Some(Demand { in_flight: 0.0, asked: true });
    assert_eq!(slot.second(shortly).replicas, 1, "it was over before anybody looked");
    assert_eq!(slot.seconds(WINDOW + 10, 0.0), 0);
    assert_eq!(slot.second(of(7.0)).replicas, 4);
}

#[test]
fn a_number_that_is_not_known_ends_no_replica() {
    let mut slot = Slot::new(bounds(1, 10, 2), 6);
    slot.seconds(WINDOW - 2, 0.0);
    for _ in 0..10 * WINDOW {
        assert_eq!(slot.second(None).replicas, 6);
    }
    assert_eq!(slot.seconds(WINDOW - 1, 0.0), 6, "a window that was not seen proves nothing");
    assert_eq!(slot.seconds(2, 0.0), 1);
    let reason = Slot::new(bounds(1, 10, 2), 6).second(of(0.0)).reason;
    assert_eq!(reason, "0 would do now; what is in flight is known for 0 s, and 1m must be");
}

#[test]
fn a_person_and_a_schedule_have_their_say() {
    let mut slot = Slot::new(bounds(1, 4, 2), 1);
    slot.by_hand = Some(ByHand { replicas: 20, by: "ada@engine".to_owned(), at: Timestamp::UNIX_EPOCH });
    assert_eq!(slot.second(of(0.0)), Decision { replicas: 20, reason: "set by hand by ada@engine".to_owned() });
    slot.by_hand = None;
    assert_eq!(slot.second(of(0.0)).replicas, 4, "within its bounds again");

    let mut scale = bounds(1, 10, 2);
    let schedule = r#"[{"from": "00:00", "to": "24:00", "min": 3}]"#;
    scale.bounds.as_mut().unwrap().schedule = serde_json::from_str(schedule).unwrap();
    let mut slot = Slot::new(scale, 1);
    let decision = slot.second(of(2.0));
    assert_eq!(decision.replicas, 3);
    assert!(decision.reason.ends_with("; scheduled: 3 from 00:00 to 24:00 UTC"), "{}", decision.reason);

    let mut slot = Slot::new(bounds(0, 4, 2), 0);
    slot.least = 1;
    assert_eq!(slot.seconds(2 * WINDOW, 0.0), 1);
    let mut fixed = Slot::new(Scale { replicas: 3, ..Scale::default() }, 1);
    assert_eq!(fixed.second(of(50.0)).replicas, 3);
}

proptest! {
    /// Whatever is observed, whatever was before.
    #[test]
    fn it_stays_within_its_bounds_and_goes_down_only_after_a_window(
        min in 0_u32..4, more in 0_u32..8, target in 1_u32..5, current in 0_u32..20,
        loads in collection::vec(proptest::option::weighted(0.97, 0.0..60.0), 1..400),
    ) {
        let (min, max) = (min, (min + more).max(1));
        let mut slot = Slot::new(bounds(min, max, target), current.clamp(min, max));
        // What was needed in each second; nothing is known of a second that was not seen.
        let mut needed: Vec<Option<u32>> = Vec::new();
        for load in loads {
            let before = slot.replicas;
            let after = slot.second(load.map(|in_flight| Demand { in_flight, asked: in_flight > 0.0 })).replicas;
            prop_assert!((min..=max).contains(&after), "{after} of {min} to {max}");
            needed.push(load.map(|_| after));
            if after < before {
                let window = needed.len().saturating_sub(WINDOW as usize)..needed.len();
                prop_assert!(window.len() as u64 == WINDOW, "after {} s", window.len());
                prop_assert!(needed[window].iter().all(Option::is_some));
            }
        }
    }

    /// A load that swings by less than the tolerance.
    #[test]
    fn a_steady_load_ends_at_one_number_that_is_right(
        load in 0.05_f64..80.0, target in 1_u32..5, current in 0_u32..50, noise in collection::vec(-0.04..0.04, 600),
    ) {
        let mut slot = Slot::new(bounds(0, 100, target), current);
        let mut changes = 0;
        for (second, swing) in noise.iter().enumerate() {
            let before = slot.replicas;
            slot.second(of(load * (1.0 + swing)));
            changes += u32::from(second as u64 > 2 * WINDOW && slot.replicas != before);
        }
        let carries = f64::from(slot.replicas * target);
        prop_assert!(load <= carries * (1.0 + TOLERANCE) + 1e-9, "{} replicas for {load}", slot.replicas);
        prop_assert!(f64::from(slot.replicas - 1) * f64::from(target) <= load * 1.05, "{} for {load}", slot.replicas);
        // Where the load is at the end of the tolerance, noise may take it up by two, and a window later it is one too many.
        prop_assert!(changes <= 2, "{changes} changes");
    }

    /// Loud noise: it goes up and down at most once in a window.
    #[test]
    fn however_loud_the_noise_it_goes_down_at_most_once_in_a_window(
        loads in collection::vec(0.0_f64..40.0, 600), target in 1_u32..4,
    ) {
        let mut slot = Slot::new(bounds(0, 50, target), 1);
        let (mut last_up, mut second) = (0_u64, 0_u64);
        for load in loads {
            let before = slot.replicas;
            second += 1;
            slot.second(of(load));
            if slot.replicas > before {
                last_up = second;
            }
            if slot.replicas < before {
                prop_assert!(second - last_up >= WINDOW, "up in second {last_up}, down in {second}");
            }
        }
    }
}
