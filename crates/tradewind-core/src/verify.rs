//! Verification of a model before it gets traffic: what golden cases say, how answers are compared with them, and the
//! smoke request of a bundle that has none. Only data is looked at; sending and timing are the agent's.

mod case;
mod compare;
mod element;
mod http;
mod smoke;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    bundle::{Signature, TensorSpec},
    inference::{Datatype, InferRequest, Tensor},
};

pub use case::Case;
pub use compare::{Mismatch, agreement, compare};
pub use http::{HttpCase, HttpExpectation, HttpRequest};
pub use smoke::{SMOKE_ELEMENTS_LIMIT, SmokeTooLarge, check_smoke, smoke_request};

/// A golden case of a model with tensors: an inference request with the outputs that it must give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GoldenCase {
    pub request: InferRequest,
    pub expect: Expectation,
    #[serde(default)]
    pub tolerance: Tolerance,
}

/// The outputs that are compared; the model may give more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    pub outputs: Vec<Tensor>,
}

/// How far a floating-point element may be from the expected one: `atol + rtol * |expected|`. What is absent depends on
/// the datatype. Integers, booleans and bytes are always compared exactly.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtol: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub atol: Option<f64>,
}

impl Tolerance {
    /// Relative and absolute tolerance for this datatype.
    fn of(self, datatype: Datatype) -> (f64, f64) {
        let (rtol, atol) = match datatype {
            Datatype::Fp32 => (1e-4, 1e-5),
            Datatype::Fp64 => (1e-6, 1e-8),
            Datatype::Fp16 | Datatype::Bf16 => (1e-2, 1e-3),
            _ => return (0.0, 0.0),
        };
        (self.rtol.unwrap_or(rtol), self.atol.unwrap_or(atol))
    }

    fn check(self) -> Result<(), String> {
        for (name, value) in [("rtol", self.rtol), ("atol", self.atol)] {
            if value.is_some_and(|value| !value.is_finite() || value < 0.0) {
                return Err(format!("{name} must be zero or a positive number"));
            }
        }
        Ok(())
    }
}

/// Whether a case can hold for a model with this signature; the error says what does not fit. Asked when a bundle is
/// pushed, so that a typing mistake does not first show in a rollout.
pub fn check_against(case: &GoldenCase, signature: &Signature) -> Result<(), String> {
    case.tolerance.check()?;
    if case.expect.outputs.is_empty() {
        return Err("no output is expected: a case without expectation proves nothing".to_owned());
    }
    check_tensors("input", &case.request.inputs, &signature.inputs)?;
    check_tensors("output", &case.expect.outputs, &signature.outputs)?;
    for spec in &signature.inputs {
        if !case.request.inputs.iter().any(|input| input.name == spec.name) {
            return Err(format!("input `{}` is missing", spec.name));
        }
    }
    Ok(())
}

fn check_tensors(kind: &str, tensors: &[Tensor], specs: &[TensorSpec]) -> Result<(), String> {
    for (position, tensor) in tensors.iter().enumerate() {
        let name = &tensor.name;
        if tensors[..position].iter().any(|earlier| earlier.name == *name) {
            return Err(format!("{kind} `{name}` is given twice"));
        }
        let Some(spec) = specs.iter().find(|spec| spec.name == *name) else {
            let known: Vec<String> = specs.iter().map(|spec| format!("`{}`", spec.name)).collect();
            return Err(format!("the model has no {kind} `{name}`, it has {}", known.join(", ")));
        };
        check_tensor(tensor, spec).map_err(|problem| format!("{kind} `{name}`: {problem}"))?;
    }
    Ok(())
}

fn check_tensor(tensor: &Tensor, spec: &TensorSpec) -> Result<(), String> {
    if tensor.datatype != spec.datatype {
        return Err(format!("the model has datatype {}, the case {}", spec.datatype, tensor.datatype));
    }
    if !shape_fits(&tensor.shape, &spec.shape) {
        return Err(format!("the model has shape {}, the case {}", shape(&spec.shape), shape(&tensor.shape)));
    }
    let elements = element::flatten(&tensor.data);
    if Some(elements.len()) != element_count(&tensor.shape) {
        return Err(format!("shape {} does not hold {} elements", shape(&tensor.shape), elements.len()));
    }
    match elements.iter().position(|value| element::Element::read(value, tensor.datatype).is_none()) {
        Some(position) => Err(format!("{} is not of datatype {}", elements[position], tensor.datatype)),
        None => Ok(()),
    }
}

/// Whether a tensor of shape `actual` fits where `declared` stands; `-1` there takes any size.
fn shape_fits(actual: &[i64], declared: &[i64]) -> bool {
    actual.len() == declared.len()
        && actual.iter().zip(declared).all(|(&actual, &declared)| actual >= 0 && (declared < 0 || actual == declared))
}

/// `None` for a negative dimension, and when the count does not fit.
fn element_count(shape: &[i64]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |count, &dimension| count.checked_mul(usize::try_from(dimension).ok()?))
}

/// `[1,64]`
fn shape(dimensions: &[i64]) -> String {
    let dimensions: Vec<String> =
        dimensions.iter().map(|&d| if d < 0 { "N".to_owned() } else { d.to_string() }).collect();
    format!("[{}]", dimensions.join(","))
}

/// Whether what a replica says of itself is what was declared; tensors may come in another order. The error names the
/// first difference.
pub fn signature_matches(declared: &Signature, actual: &Signature) -> Result<(), String> {
    specs_match("input", &declared.inputs, &actual.inputs)?;
    specs_match("output", &declared.outputs, &actual.outputs)
}

fn specs_match(kind: &str, declared: &[TensorSpec], actual: &[TensorSpec]) -> Result<(), String> {
    for spec in declared {
        match actual.iter().find(|other| other.name == spec.name) {
            None => return Err(format!("{kind} `{}` is missing", spec.name)),
            Some(other) if other != spec => {
                return Err(format!("{kind} `{}`: expected {spec}, got {other}", spec.name));
            }
            Some(_) => {}
        }
    }
    match actual.iter().find(|spec| !declared.iter().any(|other| other.name == spec.name)) {
        Some(spec) => Err(format!("{kind} `{}` was not declared", spec.name)),
        None if actual.len() != declared.len() => {
            Err(format!("expected {} {kind}s, got {}", declared.len(), actual.len()))
        }
        None => Ok(()),
    }
}

/// `20/20 golden cases`
pub fn summary(passed: usize, total: usize) -> String {
    format!("{passed}/{total} golden case{}", if total == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
