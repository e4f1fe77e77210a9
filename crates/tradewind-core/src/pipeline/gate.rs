//! Whether a result is good enough to become a version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{file::Gate, metric::Metric};

/// What became of one bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub metric: String,
    pub holds: bool,
    /// For people: `accuracy 0.971, at least 0.95`.
    pub detail: String,
}

/// What users get now, as far as it was measured.
#[derive(Debug, Clone, Copy)]
pub enum Live<'a> {
    /// Nobody asked.
    Unknown,
    /// There is nothing that users get.
    Nothing,
    Measured(&'a BTreeMap<String, Metric>),
}

/// Judges each gate by what was measured of the result and, where there is one, of what users get now. What was not
/// measured does not hold.
pub fn judge(gates: &[Gate], result: &BTreeMap<String, Metric>, live: Live<'_>) -> Vec<Verdict> {
    gates.iter().map(|gate| judge_one(gate, result, live)).collect()
}

fn judge_one(gate: &Gate, result: &BTreeMap<String, Metric>, live: Live<'_>) -> Verdict {
    let Gate { metric, at_least, at_most, above_live, below_live } = gate;
    let verdict = |holds, detail| Verdict { metric: metric.clone(), holds, detail };
    let number = |metrics: &BTreeMap<String, Metric>| metrics.get(metric).and_then(Metric::number);
    let Some(value) = number(result) else {
        return verdict(false, format!("{metric} was not measured"));
    };
    let mut bounds = Vec::new();
    let mut holds = true;
    if let Some(least) = at_least {
        holds &= value >= *least;
        bounds.push(format!("at least {least}"));
    }
    if let Some(most) = at_most {
        holds &= value <= *most;
        bounds.push(format!("at most {most}"));
    }
    if gate.compares() {
        match live {
            Live::Unknown => bounds.push("not compared with what is live".to_owned()),
            Live::Nothing => bounds.push("nothing is live to compare with".to_owned()),
            Live::Measured(metrics) => match number(metrics) {
                None => {
                    holds = false;
                    bounds.push("it was not measured of what is live".to_owned());
                }
                Some(now) => {
                    bounds.push(format!("live {now:.6}"));
                    if let Some(margin) = above_live {
                        holds &= value >= now + margin;
                        bounds.push(format!("at least {:.6}", now + margin));
                    }
                    if let Some(margin) = below_live {
                        holds &= value <= now - margin;
                        bounds.push(format!("at most {:.6}", now - margin));
                    }
                }
            },
        }
    }
    verdict(holds, format!("{metric} {value:.6}, {}", bounds.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(value: f64) -> BTreeMap<String, Metric> {
        BTreeMap::from([("accuracy".to_owned(), Metric::Number(value))])
    }

    #[test]
    fn bounds_hold_or_not_and_say_why() {
        let gate = |at_least, at_most, above_live| {
            let metric = "accuracy".to_owned();
            Gate { metric, at_least, at_most, above_live, below_live: None }
        };
        for (gate, live, holds, detail) in [
            (gate(Some(0.9), None, None), None, true, "accuracy 0.950000, at least 0.9"),
            (gate(Some(0.96), Some(1.0), None), None, false, "accuracy 0.950000, at least 0.96, at most 1"),
            (gate(None, Some(0.9), None), None, false, "accuracy 0.950000, at most 0.9"),
            (gate(None, None, Some(0.0)), Some(0.94), true, "accuracy 0.950000, live 0.940000, at least 0.940000"),
            (gate(None, None, Some(0.02)), Some(0.94), false, "accuracy 0.950000, live 0.940000, at least 0.960000"),
            (gate(None, None, Some(0.0)), None, true, "accuracy 0.950000, nothing is live to compare with"),
        ] {
            let live = live.map(measured);
            let verdicts = judge(&[gate], &measured(0.95), live.as_ref().map_or(Live::Nothing, Live::Measured));
            assert_eq!((verdicts[0].holds, verdicts[0].detail.as_str()), (holds, detail));
        }
        let other = Gate { metric: "recall".to_owned(), ..gate(Some(0.0), None, None) };
        let missing = &judge(&[other], &measured(1.0), Live::Nothing)[0];
        assert_eq!((missing.holds, missing.detail.as_str()), (false, "recall was not measured"));
        let unmeasured = judge(&[gate(None, None, Some(0.0))], &measured(1.0), Live::Measured(&BTreeMap::new()));
        assert!(!unmeasured[0].holds);
        let unknown = &judge(&[gate(None, None, Some(0.0))], &measured(1.0), Live::Unknown)[0];
        assert_eq!(
            (unknown.holds, unknown.detail.as_str()),
            (true, "accuracy 1.000000, not compared with what is live")
        );
    }

    #[test]
    fn losses_are_to_be_below_what_is_live() {
        let gate = |margin| Gate {
            metric: "accuracy".to_owned(),
            at_least: None,
            at_most: None,
            above_live: None,
            below_live: Some(margin),
        };
        for (margin, holds) in [(0.0, true), (0.04, true), (0.06, false), (-1.0, true)] {
            let live = measured(1.0);
            assert_eq!(judge(&[gate(margin)], &measured(0.95), Live::Measured(&live))[0].holds, holds, "{margin}");
        }
    }
}
