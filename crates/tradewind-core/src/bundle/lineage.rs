//! Where a version comes from: what made it, of which data, and what was measured before it was published. All of this
//! is what the one who publishes says; nothing of it decides anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::KeyProblem;
use crate::{Digest, Timestamp, VersionNumber};

/// The largest lineage, in bytes of compact JSON.
pub const BYTES_LIMIT: usize = 64 << 10;
/// The most parameters, metrics, requirements, and sentences of gates.
pub const ENTRIES_LIMIT: usize = 1000;
/// The longest name, line or sentence, in bytes.
pub const TEXT_BYTES_LIMIT: usize = 1000;
/// How deep the value of a parameter nests. It is kept and shown inside other values, and readers of JSON end at 128.
pub const DEPTH_LIMIT: usize = 32;

/// Where a version comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// The pipeline that made it, or what else trains models.
    pub pipeline: String,
    /// Which run of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// Who ran it, such as `ada@build-7`.
    pub by: String,
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    #[schema(value_type = String)]
    pub finished_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataLineage>,
    /// Of the files of all steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Digest>,
    /// What the code ran with: lines of a requirements file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Value>,
    /// What was measured of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// What held, a sentence each: `accuracy 0.971000, at least 0.95`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gate: Vec<String>,
    /// The version that was live then, and beside which this one was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<VersionNumber>,
}

/// The data that a version was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DataLineage {
    pub files: u64,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Of the content of all files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Absent where it was taken as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<BatchLineage>,
}

/// What became of data that was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchLineage {
    /// In words: `by file`, `by 100000 rows`.
    pub cut: String,
    /// All of them.
    pub total: u64,
    /// Those of which nothing is in the version, as a step failed.
    #[serde(default)]
    pub failed: u64,
    /// Those that no step has seen, on which it was evaluated.
    #[serde(default)]
    pub held_out: u64,
}

impl Lineage {
    /// Checks that it can be kept and shown.
    ///
    /// # Errors
    /// The first problem, by its key.
    pub fn check(&self) -> Result<(), KeyProblem> {
        check_text("pipeline", &self.pipeline)?;
        check_text("by", &self.by)?;
        if let Some(batches) = self.data.as_ref().and_then(|data| data.batches.as_ref()) {
            check_text("data.batches.cut", &batches.cut)?;
            if batches.failed.saturating_add(batches.held_out) > batches.total {
                let message = format!("it is {}, and more than that failed or were held out", batches.total);
                return Err(KeyProblem::new("data.batches.total", message));
            }
        }
        check_texts("requirements", &self.requirements)?;
        check_texts("gate", &self.gate)?;
        check_texts("parameters", self.parameters.keys())?;
        check_texts("metrics", self.metrics.keys())?;
        if let Some((name, _)) = self.parameters.iter().find(|(_, value)| depth(value) > DEPTH_LIMIT) {
            let message = format!("its value nests deeper than {DEPTH_LIMIT} lists and tables");
            return Err(KeyProblem::new(&format!("parameters.{name}"), message));
        }
        if let Some((name, _)) = self.metrics.iter().find(|(_, number)| !number.is_finite()) {
            return Err(KeyProblem::new(&format!("metrics.{name}"), "it is not a finite number"));
        }
        self.check_size()
    }

    fn check_size(&self) -> Result<(), KeyProblem> {
        let document = serde_json::json!(self);
        let total = document.to_string().len();
        if total <= BYTES_LIMIT {
            return Ok(());
        }
        let parts = document.as_object().into_iter().flatten().map(|(key, part)| (part.to_string().len(), key));
        let (size, largest) = parts.max().expect("what is too large is not empty");
        let message = format!("it takes {size} of {total} bytes, and {BYTES_LIMIT} are kept of a lineage");
        Err(KeyProblem::new(largest, message))
    }
}

fn check_texts<'a>(key: &str, texts: impl IntoIterator<Item = &'a String>) -> Result<(), KeyProblem> {
    for (number, text) in (1..).zip(texts) {
        if number > ENTRIES_LIMIT {
            return Err(KeyProblem::new(key, format!("it has more than {ENTRIES_LIMIT} entries")));
        }
        check_text(key, text)?;
    }
    Ok(())
}

fn check_text(key: &str, text: &str) -> Result<(), KeyProblem> {
    if text.trim().is_empty() {
        return Err(KeyProblem::new(key, "a text is empty"));
    }
    if text.len() > TEXT_BYTES_LIMIT {
        return Err(KeyProblem::new(key, format!("a text is longer than {TEXT_BYTES_LIMIT} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(KeyProblem::new(key, format!("`{}` has a control character", text.escape_debug())));
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(entries) => 1 + entries.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn least() -> Value {
        json!({
            "pipeline": "trips", "by": "ada@build-7",
            "started_at": "2026-11-03T14:12:07Z", "finished_at": "2026-11-03T14:32:07Z",
        })
    }

    fn with(key: &str, value: Value) -> Result<(), String> {
        let mut lineage = least();
        lineage[key] = value;
        let lineage: Lineage = serde_json::from_value(lineage).map_err(|error| error.to_string())?;
        lineage.check().map_err(|problem| problem.to_string())
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!([inner]))
    }

    #[test]
    fn what_can_be_kept_is() {
        let least_of_all: Lineage = serde_json::from_value(least()).unwrap();
        assert_eq!(least_of_all.check(), Ok(()));
        assert_eq!(json!(least_of_all), least(), "nothing is made up");
        for (key, value) in [
            ("data", json!({"files": 3, "bytes": 9})),
            ("data", json!({"files": 3, "bytes": 9, "batches": {"cut": "by file", "total": 3, "held_out": 3}})),
            ("parameters", json!({"deep": nested(DEPTH_LIMIT), "text": "two\nlines"})),
            ("metrics", json!({"accuracy": 1, "loss": -1e300})),
            ("requirements", json!(vec!["scikit-learn==1.8.0"; ENTRIES_LIMIT])),
        ] {
            assert_eq!(with(key, value), Ok(()), "{key}");
        }
    }

    #[test]
    fn what_cannot_be_is_named_by_its_key() {
        let names = |count: usize| (0..count).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>();
        let batches = |batches: Value| json!({"files": 1, "bytes": 1, "batches": batches});
        for (key, value, expected) in [
            ("pipeline", json!(""), "`pipeline`: a text is empty"),
            ("by", json!("ada\u{1b}[31m"), "`by`: `ada\\u{1b}[31m` has a control character"),
            ("by", json!("a".repeat(TEXT_BYTES_LIMIT + 1)), "`by`: a text is longer than 1000 bytes"),
            ("gate", json!(["holds", " "]), "`gate`: a text is empty"),
            ("requirements", json!(vec!["a"; ENTRIES_LIMIT + 1]), "`requirements`: it has more than 1000 entries"),
            ("metrics", Value::Object(names(ENTRIES_LIMIT + 1)), "`metrics`: it has more than 1000 entries"),
            ("parameters", Value::Object(names(ENTRIES_LIMIT + 1)), "`parameters`: it has more than 1000 entries"),
            ("parameters", json!({"grid": nested(DEPTH_LIMIT + 1)}), "`parameters.grid`: its value nests deeper than"),
            ("parameters", json!({"text": "a".repeat(BYTES_LIMIT)}), "`parameters`: it takes 655"),
            ("data", batches(json!({"cut": "", "total": 1})), "`data.batches.cut`: a text is empty"),
            (
                "data",
                batches(json!({"cut": "by file", "total": 2, "failed": u64::MAX, "held_out": 1})),
                "`data.batches.total`: it is 2, and more than that",
            ),
            ("metric", json!({}), "unknown field `metric`"),
        ] {
            let problem = with(key, value).unwrap_err();
            assert!(problem.starts_with(expected), "{problem}, not {expected}");
        }
        let mut lineage: Lineage = serde_json::from_value(least()).unwrap();
        lineage.metrics.insert("loss".to_owned(), f64::NAN);
        assert_eq!(lineage.check().unwrap_err().to_string(), "`metrics.loss`: it is not a finite number");
    }
}
