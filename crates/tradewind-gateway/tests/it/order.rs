//! What threads share without a lock, in every order that they may get at it, with every old value that a weakly ordered
//! machine may show them. loom runs the gateway's own source, which is compiled here once more with loom's atomics.
//!
//! A request that waits for ever is a deadlock, which loom reports.

use std::{sync::Arc, time::Duration};

use loom::{future::block_on, model::Builder, thread};
use tradewind_core::{outlier, overload};

#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/gate.rs"]
mod gate;
mod sync;
#[path = "../../src/target.rs"]
#[expect(dead_code, reason = "of the source some is not looked at here")]
mod target;

use clock::Millis;
use gate::Gate;
use sync::{AtomicU32, Ordering};
use target::{InFlight, Target};

/// For ever.
const PATIENT: Duration = Duration::MAX;
const IMPATIENT: Duration = Duration::ZERO;

/// Runs a model in every order with so many preemptions at most. Nearly all faults of order show with two.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let long = std::env::var_os("TRADEWIND_TEST_LONG").is_some();
    let mut builder = Builder::new();
    builder.preemption_bound = Some(if long { preemptions + 2 } else { preemptions });
    builder.max_branches = 20_000;
    builder.max_duration = long.then_some(Duration::from_secs(120));
    builder.check(model);
}

fn limited(limit: u32) -> (Arc<Target>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    (Arc::new(Target::limited("127.0.0.1:1".to_owned(), limit, Some(Arc::clone(&gate)))), gate)
}

fn wait(target: &Arc<Target>, gate: &Arc<Gate>, time: Duration) -> Option<InFlight> {
    block_on(gate.pass(9, time, || target.begin_within_limit()))
}

fn idle(target: &Target, gate: &Gate) {
    assert_eq!((target.in_flight(), target.held(), gate.waiting()), (0, 0, 0));
}

#[test]
fn who_waits_is_told_of_room() {
    check(3, || {
        let (target, gate) = limited(1);
        let held = target.begin();
        let freeing = thread::spawn(move || drop(held));
        assert!(wait(&target, &gate, PATIENT).is_some());
        freeing.join().unwrap();
        idle(&target, &gate);
    });
}

#[test]
fn all_who_wait_are_told_of_room_one_after_the_other() {
    check(2, || {
        let (target, gate) = limited(1);
        let held = target.begin();
        let other = {
            let (target, gate) = (Arc::clone(&target), Arc::clone(&gate));
            thread::spawn(move || assert!(wait(&target, &gate, PATIENT).is_some()))
        };
        let freeing = thread::spawn(move || drop(held));
        drop(wait(&target, &gate, PATIENT).unwrap());
        other.join().unwrap();
        freeing.join().unwrap();
        idle(&target, &gate);
    });
}

/// Room for two at once, of which a notification each may be kept only once.
#[test]
fn two_who_wait_get_two_places_that_become_free_at_once() {
    check(2, || {
        let (target, gate) = limited(2);
        let held = [target.begin(), target.begin()];
        let other = {
            let (target, gate) = (Arc::clone(&target), Arc::clone(&gate));
            // Goes on for as long as both are there.
            thread::spawn(move || wait(&target, &gate, PATIENT))
        };
        let freeing = thread::spawn(move || drop(held));
        let mine = wait(&target, &gate, PATIENT);
        let others = other.join().unwrap();
        freeing.join().unwrap();
        assert!(mine.is_some() && others.is_some() && target.in_flight() == 2);
        drop((mine, others));
        idle(&target, &gate);
    });
}

#[test]
fn who_gives_up_takes_no_turn_from_others() {
    check(2, || {
        let (target, gate) = limited(1);
        let held = target.begin();
        let impatient = {
            let (target, gate) = (Arc::clone(&target), Arc::clone(&gate));
            thread::spawn(move || drop(wait(&target, &gate, IMPATIENT)))
        };
        let freeing = thread::spawn(move || drop(held));
        assert!(wait(&target, &gate, PATIENT).is_some());
        impatient.join().unwrap();
        freeing.join().unwrap();
        idle(&target, &gate);
    });
}

#[test]
fn an_answer_that_begins_makes_room_where_no_limit_is_declared() {
    check(2, || {
        let (target, gate) = limited(0);
        let mut held: Vec<_> = (0..overload::UNKNOWN).map(|_| target.begin()).collect();
        let answering = thread::spawn(move || {
            held[0].answered();
            held
        });
        assert!(wait(&target, &gate, PATIENT).is_some());
        drop(answering.join().unwrap());
        idle(&target, &gate);
    });
}

#[test]
fn a_limit_holds_and_leaves_no_room_unused() {
    check(3, || {
        let (target, gate) = limited(1);
        let inside = Arc::new(AtomicU32::new(0));
        let ask = |target: Arc<Target>, inside: Arc<AtomicU32>| {
            move || {
                let Some(begun) = target.begin_within_limit() else { return false };
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(begun);
                true
            }
        };
        let others = [(); 2].map(|()| thread::spawn(ask(Arc::clone(&target), Arc::clone(&inside))));
        let mine = ask(Arc::clone(&target), inside)();
        let others = others.map(|other| other.join().unwrap());
        assert!(mine || others.contains(&true), "all refused, though there was room for one");
        idle(&target, &gate);
    });
}

/// Left out until a second or so from now; who asks at the moment that is returned may try.
fn left_out(target: &Target) -> Millis {
    let now = Millis::now();
    assert!(target.eject(now));
    now.after(Duration::from_secs(2))
}

/// A request as routing begins it; whether it may go.
fn asked(target: &Arc<Target>, now: Millis) -> Option<InFlight> {
    if target.ejected(now) {
        return None;
    }
    let mut begun = target.begin_within_limit()?;
    target.try_again(&mut begun, now).then_some(begun)
}

#[test]
fn one_request_at_a_time_tries_and_none_after_it_failed() {
    check(2, || {
        let (target, gate) = limited(9);
        let now = left_out(&target);
        let (trying, failed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let ask = |target: Arc<Target>, trying: Arc<AtomicU32>, failed: Arc<AtomicU32>| {
            move || {
                let Some(begun) = asked(&target, now) else { return };
                assert!(begun.is_trial());
                assert_eq!(trying.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                assert_eq!(failed.load(Ordering::SeqCst), 0, "asked although the trial before it failed");
                assert!(target.failed(begun.is_trial()) && target.eject(now));
                failed.fetch_add(1, Ordering::SeqCst);
                trying.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let others =
            [(); 2].map(|()| thread::spawn(ask(Arc::clone(&target), Arc::clone(&trying), Arc::clone(&failed))));
        ask(Arc::clone(&target), trying, Arc::clone(&failed))();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(failed.load(Ordering::SeqCst), 1);
        assert!(target.ejected(now), "left out again");
        idle(&target, &gate);
    });
}

#[test]
fn a_trial_that_succeeds_ends_it_for_all() {
    check(2, || {
        let (target, gate) = limited(9);
        let now = left_out(&target);
        let ask = |target: Arc<Target>| {
            move || {
                let begun = asked(&target, now);
                if let Some(begun) = &begun {
                    target.succeeded(Duration::from_millis(1), begun.is_trial());
                }
                begun.is_some()
            }
        };
        let other = thread::spawn(ask(Arc::clone(&target)));
        let mine = ask(Arc::clone(&target))();
        assert!(other.join().unwrap() || mine, "nobody tried");
        assert!(!target.ejected(now) && asked(&target, now).is_some_and(|begun| !begun.is_trial()));
        idle(&target, &gate);
    });
}

#[test]
fn failures_that_several_threads_find_at_once_count_once() {
    check(3, || {
        let (target, _gate) = limited(9);
        (2..outlier::CONSECUTIVE_FAILURES).for_each(|_| assert!(!target.failed(false)));
        let now = Millis::now();
        let fail = |target: Arc<Target>| move || target.failed(false) && target.eject(now);
        let others = [(); 2].map(|()| thread::spawn(fail(Arc::clone(&target))));
        let mine = u8::from(fail(Arc::clone(&target))());
        let ejected: u8 = others.into_iter().map(|other| u8::from(other.join().unwrap())).sum();
        assert_eq!(mine + ejected, 1);
        assert!(target.ejected(now) && !target.ejected(now.after(outlier::ejection(1, 0.0))), "longer than the first");
    });
}

#[derive(Debug)]
struct Member(Arc<Target>);

impl AsRef<Target> for Member {
    fn as_ref(&self) -> &Target {
        &self.0
    }
}

#[test]
fn of_two_that_fail_at_once_one_stays() {
    check(3, || {
        let group = [(); 2].map(|()| Arc::new(Member(limited(9).0)));
        let [one, other] = [0, 1].map(|index| {
            let group = group.clone();
            move || target::eject(&group, &group[index].0)
        });
        let other = thread::spawn(other);
        let ejected = [one(), other.join().unwrap()];
        let now = Millis::now();
        let out = group.each_ref().map(|member| member.0.ejected(now));
        assert!(out != [true; 2], "both are left out");
        assert_eq!(ejected, out, "what is counted is what is so");
    });
}

#[test]
fn who_is_found_down_is_probed() {
    check(3, || {
        let (target, _gate) = limited(9);
        let others = [(); 2].map(|()| {
            let target = Arc::clone(&target);
            thread::spawn(move || target.condemn())
        });
        block_on(target.probe_wanted());
        assert!(!target.healthy(), "seen by the probe that it asked for");
        target.set_healthy(true);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}
