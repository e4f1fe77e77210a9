//! What is aimed at, and what was found.

use super::{
    USUAL_CLIENTS,
    contender::{Contender, Model, Route},
    findings::{Findings, Setting},
};
use crate::spread::Spread;

/// Times as fast as each server in Python, and as Triton's backend of Python, with the small model.
const PYTHON: f64 = 10.0;
const TRITON: f64 = 3.0;
/// Of the bare loop's images, with the large model.
const LOOP: f64 = 0.9;

/// A line of the list.
pub(super) fn lines(found: &Findings) -> Vec<String> {
    let mut lines = Vec::new();
    for contender in Contender::PYTHON.into_iter().chain([Contender::Triton]) {
        let wanted = if contender == Contender::Triton { TRITON } else { PYTHON };
        for &route in contender.routes().iter().filter(|route| **route != Route::Health) {
            let setting = Setting { model: Model::Small, contender, route, clients: USUAL_CLIENTS };
            if let Some(ratio) = found.times_as_fast(setting) {
                let what = format!("{} × {}, {}, small model", wanted, contender.name(), route.name());
                lines.push(line(&what, ratio.median >= wanted, &ratio.show(1.0, 1)));
            }
        }
    }
    lines.extend([Route::Binary, Route::Grpc].into_iter().filter_map(|route| of_loop(found, route)));
    let routes = [Route::Json, Route::Binary, Route::Grpc];
    lines.extend(routes.into_iter().filter_map(|route| framework(found, route)));
    lines
}

fn line(what: &str, met: bool, shown: &str) -> String {
    format!("- at least {what}: {}, {shown}", verdict(met))
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

fn ours(model: Model, route: Route) -> Setting {
    Setting { model, contender: Contender::Tradewind, route, clients: USUAL_CLIENTS }
}

fn of_loop(found: &Findings, route: Route) -> Option<String> {
    let (batch, bare) = found.best_loop(Model::Large)?;
    let samples = found.samples.get(&ours(Model::Large, route))?;
    let ratios: Vec<f64> = samples.iter().zip(bare).map(|(sample, bare)| sample.per_second / bare).collect();
    let ratio = Spread::of(ratios);
    let what = format!("{LOOP} × the bare loop with batches of {batch}, {}, large model", route.name());
    Some(line(&what, ratio.median >= LOOP, &ratio.show(1.0, 2)))
}

/// What a request costs beside its inference, against what Triton's HTTP and reading the request cost.
fn framework(found: &Findings, route: Route) -> Option<String> {
    let setting = ours(Model::Small, route);
    let health = Setting { contender: Contender::Triton, route: Route::Health, ..setting };
    let core = |setting| found.spread(setting, |sample| sample.core_micros).map(|spread| spread.median);
    let (_, bare) = found.best_loop(Model::Small)?;
    let inference = 1e6 / Spread::of(bare).median;
    let cost = core(setting)? - inference;
    let (health, parsing) = (core(health)?, Spread::of(found.parsing.get(&setting)?.clone()).median);
    let met = verdict(cost <= health + parsing);
    Some(format!(
        "- a request beside its inference, {}, at most what Triton's health route and reading it cost: {met}, {cost:.1} µs of the core against {health:.1} + {parsing:.1}",
        route.name()
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::serving::{bare::Figures, load::Sample};

    fn samples(per_second: f64, core_micros: f64) -> Vec<Sample> {
        vec![Sample { per_second, p50: Duration::ZERO, p99: Duration::ZERO, core_micros, good: 1, bad: 0 }]
    }

    fn bare(images_per_second: f64) -> Vec<Figures> {
        let zero = Duration::ZERO;
        vec![Figures { images_per_second, p50: zero, p99: zero, scores: Vec::new(), memory: 0 }]
    }

    #[test]
    fn targets_are_judged_by_what_was_found_alone() {
        let mut found = Findings::default();
        assert!(lines(&found).is_empty());
        let small = ours(Model::Small, Route::Json);
        found.samples.insert(small, samples(1000.0, 30.0));
        found.samples.insert(Setting { contender: Contender::Kserve, ..small }, samples(50.0, 1.0));
        found.samples.insert(Setting { contender: Contender::Triton, ..small }, samples(400.0, 1.0));
        found
            .samples
            .insert(Setting { contender: Contender::Triton, route: Route::Health, ..small }, samples(9.0, 10.0));
        found.samples.insert(ours(Model::Large, Route::Grpc), samples(95.0, 1.0));
        found.bare.insert((Model::Large, 8), bare(100.0));
        found.bare.insert((Model::Small, 64), bare(1e6));
        found.parsing.insert(small, vec![5.0]);
        assert_eq!(
            lines(&found),
            [
                "- at least 10 × KServe, JSON, small model: met, 20.0",
                "- at least 3 × Triton, Python backend, JSON, small model: missed, 2.5",
                "- at least 0.9 × the bare loop with batches of 8, gRPC, large model: met, 0.95",
                "- a request beside its inference, JSON, at most what Triton's health route and reading it cost: missed, 29.0 µs of the core against 10.0 + 5.0",
            ]
        );
    }
}
