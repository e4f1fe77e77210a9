//! Every order of events of a switch: deploys, users who are moved in stages, aborts, rollbacks, gateways that are cut off
//! and return, leaders that change. The code that does it is meant to follow this model: the planner of rollouts offers and
//! commits, `control/hub.rs` knows leases, `admission/ending.rs` takes users back, `reconcile/sweep.rs` empties slots,
//! gateways accept, learn and answer.

mod protocol;

use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model};

use self::protocol::{Left, Protocol, Rules};

const NOTHING: Left = Left { deploys: 0, rollbacks: 0, aborts: 0, leaders: 0, cuts: 0, mends: 0 };

/// Everything meets everything else once.
const ONCE: Protocol = Protocol {
    rules: Rules::ALL,
    stages: 1,
    left: Left { deploys: 1, rollbacks: 1, aborts: 1, leaders: 1, cuts: 1, mends: 1 },
};

/// A second rollout follows, and all users are moved at once.
const AT_ONCE: Protocol =
    Protocol { stages: 0, left: Left { deploys: 2, rollbacks: 1, leaders: 1, cuts: 1, mends: 1, ..NOTHING }, ..ONCE };

/// A second rollout follows, or takes over while only some users are moved. Who is cut off does not return.
const IN_STAGES: Protocol =
    Protocol { stages: 1, left: Left { deploys: 2, rollbacks: 1, aborts: 1, cuts: 1, ..NOTHING }, ..ONCE };

/// A share grows before all users are moved.
const IN_MORE_STAGES: Protocol =
    Protocol { stages: 2, left: Left { deploys: 1, rollbacks: 1, aborts: 1, cuts: 1, ..NOTHING }, ..ONCE };

/// No gateway may have a lease.
const CUT_OFF: Protocol =
    Protocol { stages: 0, left: Left { deploys: 1, rollbacks: 1, aborts: 1, cuts: 2, mends: 2, ..NOTHING }, ..ONCE };

fn checker(protocol: Protocol) -> CheckerBuilder<Protocol> {
    protocol.checker().threads(2).symmetry_fn(protocol::State::sorted)
}

#[test]
fn every_promise_is_kept_in_every_order_of_events() {
    for protocol in [ONCE, AT_ONCE, IN_STAGES, IN_MORE_STAGES, CUT_OFF] {
        let checker = checker(protocol).spawn_dfs().join();
        println!("{} states", checker.unique_state_count());
        checker.assert_properties();
    }
}

/// The promises that are broken without a rule.
#[track_caller]
fn breaks(protocol: &Protocol, rules: Rules, promise: &'static str) {
    let protocol = Protocol { rules, ..protocol.clone() };
    let found = HasDiscoveries::AnyOf([promise].into());
    let checker = checker(protocol).finish_when(found).spawn_dfs().join();
    assert!(checker.discovery(promise).is_some(), "{rules:?} is enough for `{promise}`");
}

#[test]
fn without_any_one_rule_a_promise_is_broken() {
    let all = Rules::ALL;
    let prepared = "whoever is there has prepared before";
    breaks(&AT_ONCE, Rules { waits_for_leases: false, ..all }, prepared);
    breaks(&IN_STAGES, Rules { waits_for_leases: false, ..all }, prepared);
    breaks(&AT_ONCE, Rules { new_leader_waits: false, ..all }, prepared);
    let there = "whoever asks gets what is there and verified";
    breaks(&AT_ONCE, Rules { verifies_first: false, ..all }, there);
    breaks(&AT_ONCE, Rules { keeps_until_heard: false, ..all }, there);
    breaks(&IN_STAGES, Rules { keeps_until_heard: false, ..all }, there);
    breaks(&CUT_OFF, Rules { keeps_without_leases: false, ..all }, there);
    breaks(&AT_ONCE, Rules { drains: false, ..all }, "who is cut off serves on as it did");
    let forward = "nobody goes back";
    breaks(&AT_ONCE, Rules { refuses_older: false, ..all }, forward);
    breaks(&AT_ONCE, Rules { heeds_users: false, ..all }, forward);
    breaks(&AT_ONCE, Rules { asks_again: false, ..all }, forward);
    let ends = "it ends with one revision everywhere";
    breaks(&IN_STAGES, Rules { learns: false, ..all }, ends);
    breaks(&IN_STAGES, Rules { takes_back: false, ..all }, ends);
    let alike = "at one epoch a user gets one revision from every gateway";
    breaks(&IN_STAGES, Rules { numbers_aborts: false, ..all }, alike);
    breaks(&IN_STAGES, Rules { spreads_alike: false, ..all }, alike);
    breaks(&IN_MORE_STAGES, Rules { keeps_salt: false, ..all }, "who is moved stays moved, unless all are taken back");
}
