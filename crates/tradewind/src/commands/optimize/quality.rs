//! How good a model's answers are: its golden cases, and its accuracy on cases that somebody gives.

use std::path::Path;

use serde::Serialize;
use tradewind_core::{
    ModelName,
    verify::{self, Case, GoldenCase},
};

use crate::{
    failure::Failure,
    measure::{Local, Served},
};

/// The most cases to evaluate with.
const CASES_LIMIT: usize = 1_000_000;
/// The largest file of them.
const FILE_LIMIT: u64 = 4 << 30;
/// How much worse answers may be, unless told otherwise.
const USUAL_LOSS: f64 = 0.01;

/// What both versions are asked.
#[derive(Debug, Default)]
pub(super) struct Trials {
    golden: Vec<(String, GoldenCase)>,
    evaluation: Vec<GoldenCase>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Quality {
    pub(super) golden_cases: usize,
    pub(super) golden_cases_held: usize,
    /// The first that did not hold, and how.
    pub(super) golden_case_failed: Option<String>,
    /// The part of the expected elements of the evaluation that were answered; absent without `--evaluate`.
    pub(super) accuracy: Option<f64>,
}

impl Trials {
    pub(super) fn read(evaluation: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = evaluation else { return Ok(Self::default()) };
        let unread =
            |error: std::io::Error| Failure::usage(format!("cannot read {}", path.display())).cause(error.to_string());
        if std::fs::metadata(path).map_err(unread)?.len() > FILE_LIMIT {
            return Err(Failure::usage(format!("{} has more than 4 GiB", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(unread)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        if lines.clone().nth(CASES_LIMIT).is_some() {
            return Err(Failure::usage(format!("{} has more than {CASES_LIMIT} cases", path.display())));
        }
        let cases = lines.map(|(number, line)| {
            serde_json::from_str(line).map_err(|error| {
                Failure::usage(format!("line {} of {} is no golden case", number + 1, path.display()))
                    .cause(error.to_string())
                    .hint(r#"a line is like {"request": {"inputs": [...]}, "expect": {"outputs": [...]}}"#)
            })
        });
        let evaluation = cases.collect::<Result<Vec<GoldenCase>, Failure>>()?;
        if evaluation.is_empty() {
            return Err(Failure::usage(format!("{} has no cases", path.display())));
        }
        Ok(Self { evaluation, golden: Vec::new() })
    }

    pub(super) fn with_golden_cases(mut self, local: &Local) -> Result<Self, Failure> {
        for (number, case) in self.evaluation.iter().enumerate() {
            verify::check_against(case, &local.version.signature).map_err(|reason| {
                Failure::usage(format!("case {} of the evaluation is not one of {}", number + 1, local.name()))
                    .cause(reason)
            })?;
        }
        for (path, case) in local.cases()? {
            if let Case::Inference(case) = case {
                self.golden.push((path, case));
            }
        }
        Ok(self)
    }

    /// Requests for calibration where nobody gave others.
    pub(super) fn golden(&self) -> impl Iterator<Item = &GoldenCase> {
        self.golden.iter().map(|(_, case)| case)
    }

    pub(super) async fn ask(&self, served: &Served, model: &ModelName) -> Result<Quality, Failure> {
        let answers = served.answers(model, self.golden().map(|case| &case.request)).await?;
        let results = self.golden.iter().zip(answers).map(|((path, case), answer)| match answer {
            Some(answer) => verify::compare(case, &answer).map_err(|mismatch| format!("{path}: {mismatch}")),
            None => Err(format!("{path}: the model refuses it")),
        });
        let failed: Vec<String> = results.filter_map(Result::err).collect();
        let answers = served.answers(model, self.evaluation.iter().map(|case| &case.request)).await?;
        let counts = self.evaluation.iter().zip(answers).map(|(case, answer)| match answer {
            Some(answer) => verify::agreement(case, &answer),
            None => (0, 1),
        });
        let (right, all) = counts.fold((0, 0), |(right, all), (more, of)| (right + more, all + of));
        Ok(Quality {
            golden_cases: self.golden.len(),
            golden_cases_held: self.golden.len() - failed.len(),
            golden_case_failed: failed.into_iter().next(),
            accuracy: (all > 0).then(|| right as f64 / all as f64),
        })
    }
}

/// Why the leaner one is not kept.
pub(super) fn refuse(before: &Quality, after: &Quality, limit: Option<f64>) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(failed) = &after.golden_case_failed {
        let (held, all) = (after.golden_cases_held, after.golden_cases);
        reasons.push(format!("golden cases {held}/{all}: {failed}"));
    }
    let limit = limit.unwrap_or(USUAL_LOSS);
    if let (Some(before), Some(after)) = (before.accuracy, after.accuracy)
        && before - after > limit
    {
        let loss = before - after;
        reasons.push(format!("the accuracy falls from {before:.4} to {after:.4}: by {loss:.4}, and may by {limit}"));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quality(failed: Option<&str>, accuracy: Option<f64>) -> Quality {
        let held = if failed.is_some() { 1 } else { 2 };
        Quality { golden_cases: 2, golden_cases_held: held, golden_case_failed: failed.map(str::to_owned), accuracy }
    }

    #[test]
    fn what_is_worse_is_refused_with_the_reason() {
        let good = quality(None, Some(0.97));
        let check = |after: &Quality, limit, expected: &[&str]| assert_eq!(refuse(&good, after, limit), expected);
        check(&quality(None, Some(0.965)), None, &[]);
        check(&quality(None, Some(0.99)), Some(0.0), &[]);
        check(
            &quality(None, Some(0.95)),
            Some(0.01),
            &["the accuracy falls from 0.9700 to 0.9500: by 0.0200, and may by 0.01"],
        );
        check(
            &quality(Some("cases/1.json: expected 7, got 1"), None),
            None,
            &["golden cases 1/2: cases/1.json: expected 7, got 1"],
        );
    }

    #[test]
    fn an_evaluation_is_read_line_by_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cases.jsonl");
        let case = r#"{"request": {"inputs": []}, "expect": {"outputs": []}}"#;
        std::fs::write(&path, format!("{case}\n\n{case}\n")).unwrap();
        assert_eq!(Trials::read(Some(&path)).unwrap().evaluation.len(), 2);
        std::fs::write(&path, format!("{case}\n[]\n")).unwrap();
        let error = Trials::read(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("line 2 of ") && error.contains("is no golden case"), "{error}");
        std::fs::write(&path, "0\n".repeat(CASES_LIMIT + 1)).unwrap();
        let error = Trials::read(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("has more than 1000000 cases"), "{error}");
        std::fs::write(&path, "\n").unwrap();
        assert!(Trials::read(Some(&path)).unwrap_err().to_string().contains("has no cases"));
        assert!(Trials::read(Some(&directory.path().join("none"))).is_err());
        assert!(Trials::read(None).unwrap().evaluation.is_empty());
    }
}
