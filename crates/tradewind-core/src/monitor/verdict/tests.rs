use std::time::Duration;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    duration::Span,
    histogram::Histogram,
    monitor::{LatencyObjective, evidence::Tally},
};

fn monitors() -> Monitors {
    let latency = Some(LatencyObjective { within: Span::from_millis(100), share: 0.99 });
    Monitors { latency, ..Monitors::default() }
}

fn counted(requests: u64, failed: u64, slow: u64) -> Evidence {
    Evidence { tally: Tally { requests, failed, slow, ..Tally::default() }, durations: Histogram::default() }
}

fn asked(cases: u64, wrong: u64, unanswered: u64) -> Evidence {
    Evidence { tally: Tally { cases, wrong, unanswered, ..Tally::default() }, durations: Histogram::default() }
}

fn check(evidence: &Evidence, past: Option<&Evidence>, expected: &str) {
    let told = match judge(&monitors(), evidence, past) {
        Verdict::Healthy => "healthy".to_owned(),
        Verdict::Failed { reason } => format!("failed: {reason}"),
        Verdict::Inconclusive { reason } => format!("inconclusive: {reason}"),
    };
    assert_eq!(told, expected, "{evidence:?}");
}

#[test]
fn evidence_clears_condemns_or_neither() {
    check(&counted(1000, 0, 0), None, "healthy");
    check(&counted(100_000, 30, 200), None, "healthy");
    check(&counted(1000, 50, 0), None, "failed: 50 of 1000 requests failed");
    check(&counted(1000, 0, 300), None, "failed: 300 of 1000 requests were slower than their objective");
    check(&counted(0, 0, 0), None, "inconclusive: only 0 answers to judge by");
    check(&counted(19, 0, 0), None, "inconclusive: only 19 answers to judge by");
    check(&counted(200, 1, 0), None, "inconclusive: 1 of 200 requests failed: too few to tell");
}

#[test]
fn without_traffic_golden_cases_speak() {
    check(&asked(20, 0, 0), None, "healthy");
    check(&asked(10, 0, 0), None, "inconclusive: only 10 answers to judge by");
    check(&asked(20, 1, 0), None, "failed: 1 of 20 golden cases answered wrongly");
    check(&asked(40, 0, 20), None, "inconclusive: 20 of 40 golden cases not answered");
    let mut wrong = counted(100_000, 0, 0);
    wrong.tally += asked(20, 3, 0).tally;
    check(&wrong, Some(&counted(100_000, 5000, 0)), "failed: 3 of 20 golden cases answered wrongly");
}

#[test]
fn what_was_as_bad_before_condemns_nobody() {
    check(&counted(1000, 50, 0), Some(&counted(1000, 0, 0)), "failed: 50 of 1000 requests failed");
    check(&counted(1000, 50, 0), Some(&counted(1000, 48, 0)), "inconclusive: 50 of 1000 requests failed, as before");
    check(&counted(1000, 50, 0), Some(&counted(0, 0, 0)), "failed: 50 of 1000 requests failed");
    check(
        &counted(1000, 50, 400),
        Some(&counted(1000, 48, 0)),
        "failed: 400 of 1000 requests were slower than their objective",
    );
}

/// `count` answers around a time, as measured latencies spread: most near it, some far above.
fn answers(seed: u64, count: u64, millis: f64, failing: f64) -> Evidence {
    let mut draws = StdRng::seed_from_u64(seed);
    let mut evidence = Evidence::default();
    for _ in 0..count {
        let spread: f64 = (0..4).map(|_| draws.random_range(0.5..1.5)).product();
        evidence.durations.record(Duration::from_secs_f64(millis * spread / 1e3));
        evidence.tally.failed += u64::from(draws.random_bool(failing));
        evidence.tally.requests += 1;
    }
    evidence
}

#[test]
fn a_slot_that_is_slower_or_fails_more_is_told_from_one_that_does_not() {
    let baseline = answers(1, 2000, 10.0, 0.001);
    assert_eq!(compare(&answers(2, 2000, 10.0, 0.001), &baseline), Comparison::NoWorse);
    assert_eq!(compare(&answers(2, 2000, 5.0, 0.0), &baseline), Comparison::NoWorse);
    assert!(
        matches!(compare(&answers(2, 500, 20.0, 0.001), &baseline), Comparison::Worse { reason } if reason.contains("p95"))
    );
    assert!(
        matches!(compare(&answers(2, 500, 10.0, 0.05), &baseline), Comparison::Worse { reason } if reason.contains("failed"))
    );
    assert_eq!(compare(&answers(2, 10, 500.0, 1.0), &baseline), Comparison::Unknown);
}

#[test]
fn equal_slots_are_rarely_told_apart() {
    let told = |seed| compare(&answers(seed, 300, 10.0, 0.01), &answers(seed + 10_000, 300, 10.0, 0.01));
    let wrong = (0..2000).filter(|seed| told(*seed) != Comparison::NoWorse).count();
    assert!(wrong <= 3, "{wrong} of 2000");
}

proptest! {
    #[test]
    fn more_failures_never_clear(requests in 20_u64..5000, failed in 0_u64..5000, more in 1_u64..100) {
        let failed = failed.min(requests);
        let worse = (failed + more).min(requests);
        let rank = |verdict: &Verdict| match verdict {
            Verdict::Healthy => 0,
            Verdict::Inconclusive { .. } => 1,
            Verdict::Failed { .. } => 2,
        };
        let [before, after] = [failed, worse].map(|failed| judge(&monitors(), &counted(requests, failed, 0), None));
        prop_assert!(rank(&before) <= rank(&after), "{:?} {:?}", before, after);
    }

    #[test]
    fn nobody_is_worse_than_themselves(seed in 0_u64..1000, count in 0_u64..500) {
        let evidence = answers(seed, count, 10.0, 0.1);
        let is_worse = matches!(compare(&evidence, &evidence), Comparison::Worse { .. });
        prop_assert!(!is_worse);
        let has_failed = matches!(judge(&monitors(), &evidence, Some(&evidence)), Verdict::Failed { .. });
        prop_assert!(!has_failed);
    }
}
