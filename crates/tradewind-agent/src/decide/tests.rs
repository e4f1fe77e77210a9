use proptest::prelude::*;

use super::*;

const LONG: Duration = Duration::from_secs(3600);

fn wanted(revision: u64, replicas: u32) -> Wanted {
    Wanted { revision: RevisionNumber(revision), attempt: 1, replicas, verify: None }
}

fn held(revision: u64) -> Held {
    Held {
        revision: RevisionNumber(revision),
        attempt: 1,
        bundle: Bundle::Installed,
        failed: false,
        releasing: false,
        reached_ready: false,
        early_exits: 0,
        verified: None,
        verifying: false,
        golden_due: false,
        verify_waits: Duration::ZERO,
    }
}

fn starting(id: &str, place: u32) -> Seen {
    Seen {
        id: id.to_owned(),
        place,
        revision: RevisionNumber(1),
        stale: false,
        age: Duration::from_secs(1),
        answering: false,
        silent: Duration::ZERO,
        admitted: false,
        check: CheckState::Unchecked,
        stage: Stage::Running,
        patience: Patience::default(),
        busy: false,
    }
}

fn serving(id: &str, place: u32) -> Seen {
    Seen { answering: true, admitted: true, ..starting(id, place) }
}

fn check(wanted: Option<&Wanted>, held: Option<&Held>, replicas: &[Seen], expected: &[&str]) {
    let actions = decide(wanted, held, replicas, &BTreeMap::new());
    let words: Vec<String> = actions.iter().map(word).collect();
    assert_eq!(words, expected, "wanted {wanted:?}\nheld {held:?}\nreplicas {replicas:?}");
}

fn word(action: &Action) -> String {
    match action {
        Action::Start { place } => format!("start {place}"),
        Action::Check { id } => format!("check {id}"),
        Action::Admit { id } => format!("admit {id}"),
        Action::Drain { id } => format!("drain {id}"),
        Action::Terminate { id } => format!("terminate {id}"),
        Action::Recall { id } => format!("recall {id}"),
        Action::Kill { id } => format!("kill {id}"),
        Action::Verify { attempt } => format!("verify {attempt}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[test]
fn a_deploy_goes_step_by_step_to_ready() {
    let wanted = wanted(1, 2);
    let mut held = held(1);
    check(Some(&wanted), None, &[], &["take"]);
    held.bundle = Bundle::Absent;
    check(Some(&wanted), Some(&held), &[], &["fetch"]);
    held.bundle = Bundle::Fetching;
    check(Some(&wanted), Some(&held), &[], &[]);
    held.bundle = Bundle::Installed;
    check(Some(&wanted), Some(&held), &[], &["start 0", "start 1"]);
    let answers = Seen { answering: true, ..starting("b", 1) };
    check(Some(&wanted), Some(&held), &[starting("a", 0), answers], &["admit b"]);
    check(Some(&wanted), Some(&held), &[starting("a", 0), serving("b", 1)], &[]);
    check(Some(&wanted), Some(&held), &[serving("a", 0), serving("b", 1)], &["becomeready"]);
    held.reached_ready = true;
    check(Some(&wanted), Some(&held), &[serving("a", 0), serving("b", 1)], &[]);
}

#[test]
fn a_place_that_must_wait_waits() {
    let waits = BTreeMap::from([(0, Duration::from_millis(100))]);
    assert_eq!(decide(Some(&wanted(1, 2)), Some(&held(1)), &[], &waits), [Action::Start { place: 1 }]);
}

#[test]
fn too_many_early_exits_fail_the_attempt_until_a_higher_one() {
    let mut wanted = wanted(1, 1);
    let mut held = Held { early_exits: EARLY_EXITS_LIMIT, ..held(1) };
    check(Some(&wanted), Some(&held), &[], &["fail"]);
    held.failed = true;
    check(Some(&wanted), Some(&held), &[starting("a", 0)], &["terminate a"]);
    check(Some(&wanted), Some(&held), &[], &[]);
    wanted.attempt = 2;
    check(Some(&wanted), Some(&held), &[], &["retry"]);
    let live = Held { failed: false, reached_ready: true, ..held };
    wanted.attempt = 1;
    check(Some(&wanted), Some(&live), &[], &["start 0"]);
}

#[test]
fn golden_cases_are_asked_again_of_what_was_verified_and_serves() {
    let wanted = wanted(1, 1);
    let verified = Held { reached_ready: true, verified: Some((1, true)), golden_due: true, ..held(1) };
    check(Some(&wanted), Some(&verified), &[serving("a", 0)], &["askagain"]);
    check(Some(&wanted), Some(&verified), &[], &["start 0"]);
    let altered = Held { bundle: Bundle::Fetching, ..verified.clone() };
    check(Some(&wanted), Some(&altered), &[serving("a", 0)], &[]);
    let failed = Held { verified: Some((1, false)), ..verified };
    check(Some(&wanted), Some(&failed), &[serving("a", 0)], &[]);
}

#[test]
fn a_slot_that_is_not_wanted_drains_before_it_ends() {
    let mut held = Held { reached_ready: true, ..held(1) };
    check(None, Some(&held), &[serving("a", 0)], &["release", "drain a"]);
    held.releasing = true;
    let draining = |since| Seen { stage: Stage::Draining(since), ..serving("a", 0) };
    check(None, Some(&held), &[draining(Duration::ZERO)], &[]);
    check(None, Some(&held), &[draining(DRAIN_TIME)], &["terminate a"]);
    check(None, Some(&held), &[Seen { stage: Stage::Ending, ..serving("a", 0) }], &[]);
    check(None, Some(&held), &[], &["forget"]);
    // Wanted again meanwhile: it ends first.
    check(Some(&wanted(1, 1)), Some(&held), &[draining(Duration::ZERO)], &[]);
    check(Some(&wanted(2, 1)), Some(&held), &[], &["forget"]);
}

#[test]
fn replicas_that_belong_to_nothing_are_retired() {
    check(None, None, &[serving("a", 0)], &["drain a"]);
    check(Some(&wanted(1, 1)), None, &[starting("a", 0)], &["terminate a"]);
    let other = Seen { revision: RevisionNumber(9), ..serving("b", 0) };
    check(Some(&wanted(1, 1)), Some(&held(1)), &[serving("a", 0), other], &["drain b", "becomeready"]);
    check(Some(&wanted(1, 1)), Some(&held(1)), &[serving("a", 0), serving("b", 1)], &["drain b", "becomeready"]);
}

#[test]
fn a_place_never_keeps_two() {
    let older = Seen { age: LONG, ..serving("b", 0) };
    let ready = Held { reached_ready: true, ..held(1) };
    check(Some(&wanted(1, 1)), Some(&ready), &[serving("a", 0), older], &["drain a"]);
    check(Some(&wanted(1, 1)), Some(&ready), &[serving("a", 0), starting("b", 0)], &["terminate b"]);
}

#[test]
fn a_replaced_bundle_is_taken_up_by_one_place_after_the_other() {
    let wanted = wanted(1, 2);
    let held = Held { reached_ready: true, ..held(1) };
    let old = |id, place| Seen { stale: true, ..serving(id, place) };
    check(Some(&wanted), Some(&held), &[old("a", 0), old("b", 1)], &["start 0"]);
    check(Some(&wanted), Some(&held), &[old("a", 0), old("b", 1), starting("c", 0)], &[]);
    check(Some(&wanted), Some(&held), &[old("a", 0), old("b", 1), serving("c", 0)], &["drain a"]);
    check(Some(&wanted), Some(&held), &[serving("c", 0), old("b", 1)], &["start 1"]);
    check(Some(&wanted), Some(&held), &[serving("c", 0), old("b", 1), serving("d", 1)], &["drain b"]);
    check(Some(&wanted), Some(&held), &[serving("c", 0), serving("d", 1)], &[]);
}

#[test]
fn only_what_was_announced_and_is_long_silent_is_killed() {
    let held = Held { reached_ready: true, ..held(1) };
    let silent = |seconds| Seen { silent: Duration::from_secs(seconds), answering: false, ..serving("a", 0) };
    check(Some(&wanted(1, 1)), Some(&held), &[silent(9)], &[]);
    check(Some(&wanted(1, 1)), Some(&held), &[silent(10)], &["kill a"]);
    let loading = Seen { silent: Duration::from_secs(60), age: Duration::from_secs(60), ..starting("a", 0) };
    check(Some(&wanted(1, 1)), Some(&held), std::slice::from_ref(&loading), &[]);
    check(Some(&wanted(1, 1)), Some(&held), &[Seen { age: START_LIMIT, ..loading }], &["kill a"]);
}

#[test]
fn verification_runs_once_for_each_attempt_that_wants_it() {
    let mut wanted = Wanted { verify: Some(1), ..wanted(1, 1) };
    let mut held = Held { reached_ready: true, ..held(1) };
    check(Some(&wanted), Some(&held), &[serving("a", 0)], &["verify 1"]);
    held.verifying = true;
    check(Some(&wanted), Some(&held), &[serving("a", 0)], &[]);
    held = Held { verifying: false, verified: Some((1, false)), ..held };
    check(Some(&wanted), Some(&held), &[serving("a", 0)], &[]);
    (wanted.verify, wanted.attempt, held.attempt) = (Some(2), 2, 2);
    check(Some(&wanted), Some(&held), &[serving("a", 0)], &["verify 2"]);
    // With a replica missing it waits, but not for ever.
    check(Some(&wanted), Some(&held), &[starting("a", 0)], &[]);
    held.verify_waits = VERIFY_WAIT;
    check(Some(&wanted), Some(&held), &[starting("a", 0)], &["verify 2"]);
}

#[test]
fn a_latecomer_to_a_verified_slot_is_checked_before_it_is_announced() {
    let held = Held { reached_ready: true, verified: Some((1, true)), ..held(1) };
    let answers = |check| Seen { answering: true, check, ..starting("a", 0) };
    check(Some(&wanted(1, 1)), Some(&held), &[answers(CheckState::Unchecked)], &["check a"]);
    check(Some(&wanted(1, 1)), Some(&held), &[answers(CheckState::Running)], &[]);
    check(Some(&wanted(1, 1)), Some(&held), &[answers(CheckState::Passed)], &["admit a"]);
}

#[test]
fn a_server_is_left_alone_while_somebody_is_connected_and_has_a_patience_of_its_own() {
    let patience = Patience { start: Duration::from_secs(30), silence: SERVER_HANG_LIMIT };
    let server = Seen { busy: true, patience, ..serving("a", 0) };
    check(None, Some(&held(1)), std::slice::from_ref(&server), &["release", "drain a"]);
    let leaving = Held { releasing: true, ..held(1) };
    let draining = Seen { stage: Stage::Draining(LONG), ..server.clone() };
    check(None, Some(&leaving), std::slice::from_ref(&draining), &[]);
    check(None, Some(&leaving), &[Seen { busy: false, ..draining }], &["terminate a"]);

    let ready = Held { reached_ready: true, ..held(1) };
    let silent = |seconds| Seen { silent: Duration::from_secs(seconds), ..server.clone() };
    check(Some(&wanted(1, 1)), Some(&ready), &[silent(60)], &[]);
    check(Some(&wanted(1, 1)), Some(&ready), &[silent(70)], &["kill a"]);
    let slow = Seen { age: Duration::from_secs(30), patience, ..starting("a", 0) };
    check(Some(&wanted(1, 1)), Some(&held(1)), &[slow], &["kill a"]);
}

#[test]
fn a_replica_on_its_way_out_is_called_back_when_its_place_is_wanted_again() {
    let ready = Held { reached_ready: true, ..held(1) };
    let leaving = |id, place| Seen { stage: Stage::Draining(Duration::ZERO), ..serving(id, place) };
    let two = [serving("a", 0), leaving("b", 1)];
    check(Some(&wanted(1, 1)), Some(&ready), &two, &[]);
    check(Some(&Wanted { replicas: 2, ..wanted(1, 1) }), Some(&ready), &two, &["recall b"]);
    check(Some(&Wanted { replicas: 0, ..wanted(1, 1) }), Some(&ready), &[serving("a", 0)], &["drain a"]);
    check(Some(&wanted(1, 1)), Some(&ready), &[leaving("a", 0)], &["recall a"]);
    for gone in [
        Seen { stale: true, ..leaving("a", 0) },
        Seen { answering: false, ..leaving("a", 0) },
        Seen { busy: true, ..leaving("a", 0) },
    ] {
        let actions = decide(Some(&wanted(1, 1)), Some(&ready), std::slice::from_ref(&gone), &BTreeMap::new());
        assert!(!actions.iter().any(|action| matches!(action, Action::Recall { .. })), "{gone:?}");
    }
}

fn any_seen() -> impl Strategy<Value = Seen> {
    let duration = prop_oneof![Just(Duration::ZERO), Just(Duration::from_secs(5)), Just(LONG)];
    let stage = prop_oneof![Just(Stage::Running), duration.clone().prop_map(Stage::Draining), Just(Stage::Ending)];
    let check = prop_oneof![Just(CheckState::Unchecked), Just(CheckState::Running), Just(CheckState::Passed)];
    (
        0_u32..4,
        1_u64..3,
        any::<bool>(),
        duration.clone(),
        any::<bool>(),
        duration,
        any::<bool>(),
        check,
        stage,
        any::<bool>(),
    )
        .prop_map(|(place, revision, stale, age, answering, silent, admitted, check, stage, busy)| Seen {
            id: String::new(),
            place,
            revision: RevisionNumber(revision),
            stale,
            age,
            answering,
            silent,
            admitted,
            check,
            stage,
            patience: Patience::default(),
            busy,
        })
}

fn any_held() -> impl Strategy<Value = Held> {
    let bundle = prop_oneof![Just(Bundle::Absent), Just(Bundle::Fetching), Just(Bundle::Installed)];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (1_u64..3, 1_u32..3, bundle, flags, 0_u32..5, proptest::option::of((1_u32..3, any::<bool>()))).prop_map(
        |(revision, attempt, bundle, (failed, releasing, reached_ready, verifying), early_exits, verified)| Held {
            revision: RevisionNumber(revision),
            attempt,
            bundle,
            failed,
            releasing,
            reached_ready,
            early_exits,
            verified,
            verifying,
            golden_due: false,
            verify_waits: LONG,
        },
    )
}

proptest! {
    /// Whatever is seen: no place gets a second replica beside a current one, nothing is started that is not wanted,
    /// nothing that gateways know ends without its drain time, and nobody is told two things at once.
    #[test]
    fn invariants(
        held in proptest::option::of(any_held()),
        seen in proptest::collection::vec(any_seen(), 0..6),
        wanted in proptest::option::of((1_u64..3, 1_u32..3, 0_u32..4)),
    ) {
        let wanted = wanted.map(|(revision, attempt, replicas)| Wanted { revision: RevisionNumber(revision), attempt, replicas, verify: Some(attempt) });
        let seen: Vec<Seen> = seen.into_iter().enumerate().map(|(n, seen)| Seen { id: n.to_string(), ..seen }).collect();
        let actions = decide(wanted.as_ref(), held.as_ref(), &seen, &BTreeMap::new());
        let find = |id: &String| seen.iter().find(|seen| seen.id == *id).unwrap();
        let mut told = std::collections::BTreeSet::new();
        for action in &actions {
            match action {
                Action::Start { place } => {
                    let (wanted, held) = (wanted.as_ref().unwrap(), held.as_ref().unwrap());
                    prop_assert!(*place < wanted.replicas && wanted.revision == held.revision && !held.failed);
                    prop_assert!(!seen.iter().any(|seen| seen.place == *place && seen.revision == held.revision && !seen.stale));
                }
                Action::Terminate { id } => {
                    let seen = find(id);
                    let drained = matches!(seen.stage, Stage::Draining(since) if since >= DRAIN_TIME);
                    prop_assert!(drained || seen.stage == Stage::Running && !seen.admitted);
                }
                Action::Forget => prop_assert!(seen.is_empty()),
                _ => {}
            }
            if let Action::Check { id } | Action::Admit { id } | Action::Drain { id } | Action::Recall { id } | Action::Terminate { id } | Action::Kill { id } = action {
                prop_assert!(told.insert(id.clone()), "{id} was told two things: {actions:?}");
            }
        }
    }
}
