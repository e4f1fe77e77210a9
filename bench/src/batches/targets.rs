//! What is aimed at, and what was found.

use super::{
    Effort,
    contender::Contender,
    findings::Findings,
    report::{MILLI, of_rays},
};

/// The most that a batch costs beside its steps, in milliseconds.
const OVERHEAD: f64 = 5.0;
/// The least part of the ideal speed-up.
const IDEAL: f64 = 0.9;
/// Those whose workers stay.
const PERSISTENT: [Contender; 2] = [Contender::Functions, Contender::Program];

/// A line of the list.
pub(super) fn lines(found: &Findings, effort: &Effort) -> Vec<String> {
    let crews = || PERSISTENT.iter().flat_map(|of| effort.ends().into_iter().map(move |workers| (*of, workers)));
    let mut lines = Vec::new();
    for crew in crews() {
        let Some(overhead) = found.overhead(crew) else { continue };
        let (met, shown) = (verdict(overhead.median <= OVERHEAD * MILLI), overhead.show(MILLI, 2));
        lines.push(format!("- a batch costs at most {OVERHEAD} ms beside its steps, {}: {met}, {shown}", words(crew)));
    }
    for crew in crews() {
        let Some(share) = of_rays(found, crew) else { continue };
        let met = verdict(share < 1.0);
        lines.push(format!("- and less than with Ray, {}: {met}, {share:.2} of that", words(crew)));
    }
    for contender in PERSISTENT {
        for &workers in effort.widths.iter().filter(|workers| **workers > 1) {
            let Some(speed_up) = found.speed_up((contender, workers)) else { continue };
            let met = verdict(speed_up.median >= IDEAL * workers as f64);
            let shown = speed_up.show(workers as f64, 2);
            lines.push(format!(
                "- at least {IDEAL} of the ideal speed-up, {}: {met}, {shown}",
                words((contender, workers))
            ));
        }
    }
    lines
}

fn words((contender, workers): (Contender, usize)) -> String {
    format!("{}, workers: {workers}", contender.name())
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches::findings::Sample;

    #[test]
    fn targets_are_judged_by_what_was_found_alone() {
        let mut found = Findings::default();
        let effort = Effort {
            contenders: Contender::ALL.to_vec(),
            sizes: vec![10, 110],
            widths: vec![1, 2],
            rounds: 1,
            busy: 10,
            memory: Vec::new(),
        };
        assert!(lines(&found, &effort).is_empty());
        for (contender, many) in [(Contender::Loop, 1.0), (Contender::Program, 1.25), (Contender::Ray, 2.0)] {
            for (batches, work) in [(10, 1.0), (110, many)] {
                found.samples.insert(((contender, 1), batches), vec![Sample { work, start: None, again: None }]);
            }
        }
        found.busy.insert((Contender::Functions, 1), vec![3.0]);
        found.busy.insert((Contender::Functions, 2), vec![2.0]);
        assert_eq!(
            lines(&found, &effort),
            [
                "- a batch costs at most 5 ms beside its steps, Tradewind, a program as a worker, workers: 1: met, 2.50",
                "- and less than with Ray, Tradewind, a program as a worker, workers: 1: met, 0.25 of that",
                "- at least 0.9 of the ideal speed-up, Tradewind, functions of Python, workers: 2: missed, 0.75",
            ]
        );
    }
}
