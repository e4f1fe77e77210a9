//! Every order of events of a switch: deploys, aborts, rollbacks, gateways that are cut off and return, leaders that
//! change. The code that does it follows this model: the planner of rollouts commits, `control/hub.rs` knows leases,
//! gateways accept, learn and answer.

mod protocol;

use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model};

use self::protocol::{Left, Protocol, Rules};

/// Enough for everything to meet everything else once.
const LEFT: Left = Left { deploys: 2, rollbacks: 1, aborts: 1, leaders: 1, cuts: 1 };

fn checker(rules: Rules) -> CheckerBuilder<Protocol> {
    Protocol { rules, left: LEFT }.checker().threads(2).symmetry_fn(protocol::State::sorted)
}

#[test]
fn every_promise_is_kept_in_every_order_of_events() {
    let checker = checker(Rules::ALL).spawn_dfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

/// The promises that are broken without a rule.
#[track_caller]
fn breaks(rules: Rules, promise: &'static str) {
    let checker = checker(rules).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    assert!(checker.discovery(promise).is_some(), "{rules:?} is enough for `{promise}`");
}

#[test]
fn without_any_one_rule_a_promise_is_broken() {
    let all = Rules::ALL;
    let prepared = "whoever is there has prepared before";
    breaks(Rules { waits_for_leases: false, ..all }, prepared);
    breaks(Rules { new_leader_waits: false, ..all }, prepared);
    let answered = "there is somebody to answer";
    breaks(Rules { keeps_until_heard: false, ..all }, answered);
    breaks(Rules { drains: false, ..all }, "who is cut off serves on as it did");
    let forward = "nobody goes back";
    breaks(Rules { refuses_older: false, ..all }, forward);
    breaks(Rules { heeds_users: false, ..all }, forward);
}
