use std::{sync::Arc, time::Duration};

use tradewind_core::{balance::Load, outlier, overload};

use crate::{clock::Millis, target::Target};

fn target(declared: u32) -> Arc<Target> {
    Arc::new(Target::limited("127.0.0.1:1".to_owned(), declared, None))
}

#[test]
fn failures_in_a_row_eject_and_a_trial_ends_it() {
    let target = target(0);
    let enough = (0..outlier::CONSECUTIVE_FAILURES).map(|_| target.failed(false)).filter(|enough| *enough).count();
    assert_eq!(enough, 1);
    let now = Millis(1_000_000);
    assert!(target.eject(now) && !target.eject(now), "once");
    assert!(target.ejected(now) && target.ejected(now.after(Duration::from_millis(500))));
    target.succeeded(Duration::from_millis(1), false);
    assert!(target.ejected(now) && !target.failed(false), "what was sent before changes nothing");
    let later = now.after(Duration::from_secs(2));
    assert!(!target.ejected(later), "somebody may try");
    let mut trial = target.begin();
    assert!(target.try_again(&mut trial, later) && trial.is_trial());
    assert!(target.ejected(later) && !target.try_again(&mut target.begin(), later), "one at a time");
    assert!(target.failed(trial.is_trial()), "a failed trial ejects again");
    target.succeeded(Duration::from_millis(1), trial.is_trial());
    drop(trial);
    assert!(!target.ejected(now), "a good answer ends it");
}

#[test]
fn a_limit_is_never_passed() {
    let target = target(2);
    let begun: Vec<_> = (0..5).filter_map(|_| target.begin_within_limit()).collect();
    assert_eq!((begun.len(), target.in_flight()), (2, 2));
    drop(begun);
    assert_eq!(target.in_flight(), 0);
}

#[test]
fn an_answer_that_has_begun_takes_no_room_that_nobody_declared() {
    let begin = |target: &Arc<Target>| {
        let mut begun = target.begin_within_limit()?;
        begun.answered();
        Some(begun)
    };
    let (free, strict) = (target(0), target(2));
    let streams: Vec<_> = (0..2 * overload::UNKNOWN).filter_map(|_| begin(&free)).collect();
    assert_eq!(streams.len(), 2 * overload::UNKNOWN as usize);
    let waiting: Vec<_> = (0..2 * overload::UNKNOWN).filter_map(|_| free.begin_within_limit()).collect();
    assert_eq!(waiting.len(), overload::UNKNOWN as usize);
    assert_eq!((0..5).filter_map(|_| begin(&strict)).collect::<Vec<_>>().len(), 2);
    drop((streams, waiting));
    assert_eq!((free.in_flight(), free.held()), (0, 0));
}

#[test]
fn what_it_shows_becomes_its_limit() {
    let target = target(0);
    assert_eq!(target.limit(), overload::UNKNOWN);
    for _ in 0..1000 {
        target.begin().answered();
    }
    target.measure(true);
    let shown = target.limit();
    assert!((250..260).contains(&shown), "{shown}");
    target.measure(true);
    let after_a_quiet_second = target.limit();
    assert!((220..shown).contains(&after_a_quiet_second), "{after_a_quiet_second}");
    target.measure(true);
    assert_eq!(target.limit(), after_a_quiet_second, "how fast it is now, nobody knows any more");
}

#[test]
fn a_newcomer_begins_at_the_median_and_warms_up() {
    let before = Millis::now();
    let target = target(0);
    target.join(&[1, 8, 9].map(|in_flight| Load { in_flight, latency_us: 100 * u64::from(in_flight) }));
    let load = |age| target.load(before.after(Duration::from_secs(age)));
    assert_eq!(load(0), Load { in_flight: 8, latency_us: 800 });
    assert_eq!([load(5).in_flight, load(10).in_flight, load(60).in_flight], [4, 0, 0]);
}
