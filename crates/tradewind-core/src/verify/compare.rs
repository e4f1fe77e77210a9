//! An answer against the expected outputs of a golden case.

use super::{
    GoldenCase, Tolerance,
    element::{Element, flatten},
    shape,
};
use crate::inference::{Datatype, InferResponse, Tensor};

/// Values are cut to this many characters in messages.
const SHOWN_LIMIT: usize = 60;

/// The first difference between an answer and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("output `{output}` is missing")]
    Missing { output: String },
    #[error("output `{output}`: expected datatype {expected}, got {actual}")]
    Datatype { output: String, expected: Datatype, actual: Datatype },
    #[error("output `{output}`: expected shape {}, got {}", shape(.expected), shape(.actual))]
    Shape { output: String, expected: Vec<i64>, actual: Vec<i64> },
    #[error("output `{output}`: expected {expected} elements, got {actual}")]
    Count { output: String, expected: usize, actual: usize },
    /// `index` is empty for an output of one element.
    #[error("output `{output}`{index}: expected {expected}, got {actual}")]
    Value { output: String, index: String, expected: String, actual: String },
}

/// Compares the outputs that the case lists, in its order; other outputs are not looked at.
pub fn compare(case: &GoldenCase, answer: &InferResponse) -> Result<(), Mismatch> {
    case.expect.outputs.iter().try_for_each(|expected| {
        let missing = || Mismatch::Missing { output: expected.name.clone() };
        let actual = answer.outputs.iter().find(|output| output.name == expected.name).ok_or_else(missing)?;
        compare_tensor(expected, actual, case.tolerance)
    })
}

/// How many elements of the outputs that the case lists are as expected, and how many it lists. Of an output that is missing or
/// of another shape none is.
pub fn agreement(case: &GoldenCase, answer: &InferResponse) -> (usize, usize) {
    let counts = case.expect.outputs.iter().map(|expected| {
        let wanted = flatten(&expected.data);
        let like = |actual: &&Tensor| {
            (&actual.name, actual.datatype, &actual.shape) == (&expected.name, expected.datatype, &expected.shape)
        };
        let got = answer.outputs.iter().find(like).map(|actual| flatten(&actual.data)).unwrap_or_default();
        let allowed = case.tolerance.of(expected.datatype);
        let is_right = |(wanted, got): &(&&serde_json::Value, &&serde_json::Value)| {
            let read = |value| Element::read(value, expected.datatype);
            read(wanted).zip(read(got)).is_some_and(|(wanted, got)| got.is_close(wanted, allowed))
        };
        (wanted.iter().zip(&got).filter(is_right).count(), wanted.len())
    });
    counts.fold((0, 0), |(right, all), (more, of)| (right + more, all + of))
}

fn compare_tensor(expected: &Tensor, actual: &Tensor, tolerance: Tolerance) -> Result<(), Mismatch> {
    let output = || expected.name.clone();
    if actual.datatype != expected.datatype {
        return Err(Mismatch::Datatype { output: output(), expected: expected.datatype, actual: actual.datatype });
    }
    if actual.shape != expected.shape {
        return Err(Mismatch::Shape {
            output: output(),
            expected: expected.shape.clone(),
            actual: actual.shape.clone(),
        });
    }
    let (wanted, got) = (flatten(&expected.data), flatten(&actual.data));
    if got.len() != wanted.len() {
        return Err(Mismatch::Count { output: output(), expected: wanted.len(), actual: got.len() });
    }
    let datatype = expected.datatype;
    let allowed = tolerance.of(datatype);
    let differs = wanted.iter().zip(&got).position(|(wanted, got)| {
        let (wanted, got) = (Element::read(wanted, datatype), Element::read(got, datatype));
        !wanted.zip(got).is_some_and(|(wanted, got)| got.is_close(wanted, allowed))
    });
    match differs {
        None => Ok(()),
        Some(position) => Err(Mismatch::Value {
            output: output(),
            index: if wanted.len() == 1 { String::new() } else { index(position, &expected.shape) },
            expected: shown(wanted[position]),
            actual: shown(got[position]),
        }),
    }
}

fn shown(value: &serde_json::Value) -> String {
    value.to_string().chars().take(SHOWN_LIMIT).collect()
}

/// The index of an element by its row-major position: `[0,3]`.
fn index(position: usize, dimensions: &[i64]) -> String {
    let mut rest = position;
    let mut indices: Vec<String> = dimensions
        .iter()
        .rev()
        .map(|&dimension| {
            let size = usize::try_from(dimension).unwrap_or(1).max(1);
            let index = rest % size;
            rest /= size;
            index.to_string()
        })
        .collect();
    indices.reverse();
    format!("[{}]", indices.join(","))
}
