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

/// Judges each gate by what was measured of the result and, where there is one, of what users get now. What was not
/// measured does not hold.
pub fn judge(
    gates: &[Gate],
    result: &BTreeMap<String, Metric>,
    live: Option<&BTreeMap<String, Metric>>,
) -> Vec<Verdict> {
    gates.iter().map(|gate| judge_one(gate, result, live)).collect()
}

fn judge_one(gate: &Gate, result: &BTreeMap<String, Metric>, live: Option<&BTreeMap<String, Metric>>) -> Verdict {
    let Gate { metric, at_least, at_most, above_live } = gate;
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
    if let Some(margin) = above_live {
        match live.map(number) {
            None => bounds.push("nothing is live to compare with".to_owned()),
            Some(None) => {
                holds = false;
                bounds.push("it was not measured of what is live".to_owned());
            }
            Some(Some(now)) => {
                holds &= value >= now + margin;
                bounds.push(format!("live {now:.6}, at least {:.6}", now + margin));
            }
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
        let gate =
            |at_least, at_most, above_live| Gate { metric: "accuracy".to_owned(), at_least, at_most, above_live };
        for (gate, live, holds, detail) in [
            (gate(Some(0.9), None, None), None, true, "accuracy 0.950000, at least 0.9"),
            (gate(Some(0.96), Some(1.0), None), None, false, "accuracy 0.950000, at least 0.96, at most 1"),
            (gate(None, Some(0.9), None), None, false, "accuracy 0.950000, at most 0.9"),
            (gate(None, None, Some(0.0)), Some(0.94), true, "accuracy 0.950000, live 0.940000, at least 0.940000"),
            (gate(None, None, Some(0.02)), Some(0.94), false, "accuracy 0.950000, live 0.940000, at least 0.960000"),
            (gate(None, None, Some(0.0)), None, true, "accuracy 0.950000, nothing is live to compare with"),
        ] {
            let verdicts = judge(&[gate], &measured(0.95), live.map(measured).as_ref());
            assert_eq!((verdicts[0].holds, verdicts[0].detail.as_str()), (holds, detail));
        }
        let other = Gate { metric: "recall".to_owned(), at_least: Some(0.0), at_most: None, above_live: None };
        let missing = &judge(&[other], &measured(1.0), None)[0];
        assert_eq!((missing.holds, missing.detail.as_str()), (false, "recall was not measured"));
        let unmeasured = judge(&[gate(None, None, Some(0.0))], &measured(1.0), Some(&BTreeMap::new()));
        assert!(!unmeasured[0].holds);
    }
}
