//! Simulated rollouts: the stories that people are likely to ask for, and thousands that nobody would think of.

use std::{fmt::Write, time::Instant};

use tradewind_core::{
    RegionName,
    duration::Span,
    rollout::strategy::{MaxParallel, OnFailure, Percent, Strategy, Switch},
    simulate::{Outcome, Scenario, Story, faults, people, simulate},
};

/// Set by `cargo xtask test --long`.
const LONG_VARIABLE: &str = "TRADEWIND_TEST_LONG";
/// Seeds of a usual run, and for how long a long one tries more.
const SEEDS: u64 = 2000;
const LONG_TIME: std::time::Duration = std::time::Duration::from_secs(40);

fn names(text: &str) -> Vec<RegionName> {
    text.split_whitespace().map(|name| name.parse().unwrap()).collect()
}

fn scenario(strategy: Strategy, faults: &str, decisions: &str) -> Scenario {
    let regions = strategy.in_order(&names("us-east1 europe-west1 asia-northeast1"));
    Scenario {
        faults: if faults.is_empty() { Vec::new() } else { faults::parse(faults, &regions).unwrap() },
        decisions: if decisions.is_empty() { Vec::new() } else { people::parse(decisions).unwrap() },
        ..Scenario::new("digits".parse().unwrap(), regions, strategy)
    }
}

fn printed(story: &Story) -> String {
    let mut text = String::new();
    for moment in &story.timeline {
        let region = moment.region.as_ref().map_or("", RegionName::as_str);
        writeln!(text, "{:>10}  {region:<15}  {}", moment.at.to_string(), moment.text).unwrap();
    }
    let ending = &story.ending;
    writeln!(text, "{:?} after {}: {}", ending.outcome, ending.after, ending.sentence()).unwrap();
    for region in &ending.regions {
        let gets = region.gets.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
        writeln!(text, "{:<15}  {:?}, {gets}", region.region, region.phase).unwrap();
    }
    text
}

#[track_caller]
fn told(strategy: Strategy, faults: &str, decisions: &str) -> String {
    let story = simulate(&scenario(strategy, faults, decisions));
    assert_eq!(story.broken, None, "{}", printed(&story));
    printed(&story)
}

fn canary(shares: &[f64]) -> Strategy {
    let canary = shares.iter().map(|share| Percent::try_from(*share).unwrap()).collect();
    Strategy { switch: Switch::Canary, canary, max_parallel: MaxParallel::All, ..Strategy::default() }
}

fn waves() -> Strategy {
    let waves = vec![names("us-east1"), names("europe-west1 asia-northeast1")];
    Strategy { waves, switch: Switch::Wave, retries: 0, ..Strategy::default() }
}

#[test]
fn a_plain_deploy_moves_everybody_at_one_epoch() {
    insta::assert_snapshot!(told(Strategy::default(), "", ""));
}

#[test]
fn a_region_that_goes_down_midway_fails_the_rollout_where_all_are_wanted() {
    insta::assert_snapshot!(told(Strategy::default(), "region-down:europe-west1@30s", ""));
}

#[test]
fn a_region_that_goes_down_midway_is_left_out_where_that_is_allowed_and_catches_up() {
    let strategy = Strategy { min_regions: Some(2), ..Strategy::default() };
    insta::assert_snapshot!(told(strategy, "region-down:europe-west1@30s-5m,slow:us-east1x2", ""));
}

#[test]
fn a_canary_is_condemned_at_ten_percent() {
    insta::assert_snapshot!(told(canary(&[1.0, 10.0, 50.0]), "bad:europe-west1@70s", ""));
}

#[test]
fn what_is_condemned_after_everybody_has_it_is_rolled_back() {
    insta::assert_snapshot!(told(Strategy::default(), "bad:europe-west1", ""));
}

#[test]
fn users_of_the_first_wave_go_back_when_the_second_fails() {
    insta::assert_snapshot!(told(waves(), "wrong:asia-northeast1", ""));
}

#[test]
fn what_makes_room_in_place_comes_back_when_the_revision_is_condemned() {
    let strategy = Strategy { switch: Switch::InPlace, soak: Span::from_secs(20), ..Strategy::default() };
    insta::assert_snapshot!(told(strategy.clone(), "", ""));
    insta::assert_snapshot!(told(strategy, "bad:europe-west1", ""));
}

#[test]
fn a_pause_holds_what_is_new_until_it_is_resumed() {
    insta::assert_snapshot!(told(Strategy::default(), "", "pause@10s,resume@5m"));
}

#[test]
fn a_failure_that_asks_a_person_waits() {
    let strategy = Strategy { on_failure: OnFailure::Pause, ..waves() };
    insta::assert_snapshot!(told(strategy, "fails:europe-west1", ""));
}

#[test]
fn control_that_is_down_through_the_switch_goes_on_where_it_was() {
    insta::assert_snapshot!(told(Strategy::default(), "control-down@69150ms-3m", ""));
}

#[test]
fn a_deaf_gateway_is_waited_for_and_what_it_serves_is_kept() {
    insta::assert_snapshot!(told(Strategy::default(), "gateway-deaf:asia-northeast1@69150ms-30m", ""));
}

#[test]
fn what_served_before_is_kept_as_long_as_no_gateway_is_heard_to_have_moved_on() {
    let regions = ["us-east1", "europe-west1", "asia-northeast1"];
    let faults = regions.map(|region| format!("gateway-deaf:{region}@69150ms,cut:{region}@75s"));
    let told = told(Strategy::default(), &faults.join(","), "");
    assert!(!told.contains("is taken down"), "{told}");
}

#[test]
fn a_region_that_is_cut_off_learns_from_its_peers() {
    let strategy = Strategy { min_regions: Some(2), ..Strategy::default() };
    insta::assert_snapshot!(told(strategy, "cut:asia-northeast1@30s-5m", ""));
}

#[test]
fn an_abort_takes_everybody_back_from_wherever_they_are() {
    insta::assert_snapshot!(told(canary(&[10.0]), "", "abort@40s") + &told(Strategy::default(), "", "abort@90s"));
}

#[test]
fn a_soak_without_evidence_ends_after_a_day() {
    let story = simulate(&scenario(Strategy::default(), "unclear", ""));
    assert_eq!(story.ending.outcome, Outcome::Succeeded, "{}", printed(&story));
    assert!(story.ending.after > Span::from_secs(24 * 3600), "{}", story.ending.after);
}

#[test]
fn the_same_scenario_is_the_same_story() {
    for seed in 0..20 {
        let scenario = Scenario::of_seed(seed);
        assert_eq!(simulate(&scenario), simulate(&scenario), "seed {seed}");
    }
}

/// Plays a seed and says how to see it again if it breaks a promise.
fn play(seed: u64) -> Outcome {
    let scenario = Scenario::of_seed(seed);
    let story = simulate(&scenario);
    if let Some(broken) = &story.broken {
        panic!(
            "seed {seed}, after {}: {} - {}\n{}replay it: tradewind simulate --seed {seed}",
            broken.at,
            broken.promise,
            broken.detail,
            printed(&story)
        );
    }
    story.ending.outcome
}

#[test]
fn no_seed_breaks_a_promise() {
    let long = std::env::var_os(LONG_VARIABLE).is_some();
    let began = Instant::now();
    let seeds = (0..).take_while(|seed| *seed < SEEDS || long && began.elapsed() < LONG_TIME);
    let outcomes: Vec<Outcome> = seeds.map(play).collect();
    for outcome in [Outcome::Succeeded, Outcome::Failed, Outcome::RolledBack, Outcome::Waits] {
        assert!(outcomes.contains(&outcome), "no story ends {outcome:?}");
    }
    let unfinished = outcomes.iter().position(|outcome| *outcome == Outcome::Unfinished);
    assert_eq!(unfinished, None, "the story of this seed does not end");
}
