//! The check of a bundle without golden cases: a made-up request whose answer must be finite and of the declared shape.

use serde_json::Value;

use super::{
    Mismatch,
    element::{Element, flatten},
    element_count, shape_fits,
};
use crate::{
    bundle::{Signature, TensorSpec},
    inference::{Datatype, InferRequest, InferResponse, Tensor},
};

/// The most elements of one input of a smoke request.
pub const SMOKE_ELEMENTS_LIMIT: usize = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("input `{input}` has more than {SMOKE_ELEMENTS_LIMIT} elements, too many for a smoke request")]
pub struct SmokeTooLarge {
    pub input: String,
}

/// A request that any model with this signature takes: dimensions of any size are 1, floats lie in [0, 1), integers are
/// 0 or 1 so that they are good as an index into the smallest table. The same seed gives the same request.
pub fn smoke_request(signature: &Signature, seed: u64) -> Result<InferRequest, SmokeTooLarge> {
    let mut random = SplitMix(seed);
    let inputs = signature.inputs.iter().map(|spec| smoke_tensor(spec, &mut random)).collect::<Result<_, _>>()?;
    Ok(InferRequest { id: None, inputs })
}

fn smoke_tensor(spec: &TensorSpec, random: &mut SplitMix) -> Result<Tensor, SmokeTooLarge> {
    let shape: Vec<i64> = spec.shape.iter().map(|&dimension| if dimension < 0 { 1 } else { dimension }).collect();
    let count = element_count(&shape)
        .filter(|&count| count <= SMOKE_ELEMENTS_LIMIT)
        .ok_or_else(|| SmokeTooLarge { input: spec.name.clone() })?;
    let data = (0..count).map(|_| smoke_element(spec.datatype, random.next())).collect();
    Ok(Tensor { name: spec.name.clone(), datatype: spec.datatype, shape, data })
}

fn smoke_element(datatype: Datatype, random: u64) -> Value {
    match datatype {
        Datatype::Bool => Value::from(random & 1 == 1),
        Datatype::Bytes => Value::from("smoke"),
        // Eighths are exact in every floating-point datatype.
        _ if datatype.is_float() => Value::from((random % 8) as f64 / 8.0),
        _ => Value::from(random & 1),
    }
}

/// Every declared output is there, with its datatype and shape, and no element that is not finite.
pub fn check_smoke(answer: &InferResponse, signature: &Signature) -> Result<(), Mismatch> {
    signature.outputs.iter().try_for_each(|spec| {
        let missing = || Mismatch::Missing { output: spec.name.clone() };
        let output = answer.outputs.iter().find(|output| output.name == spec.name).ok_or_else(missing)?;
        check_output(output, spec)
    })
}

fn check_output(output: &Tensor, spec: &TensorSpec) -> Result<(), Mismatch> {
    let name = || spec.name.clone();
    if output.datatype != spec.datatype {
        return Err(Mismatch::Datatype { output: name(), expected: spec.datatype, actual: output.datatype });
    }
    let count = element_count(&output.shape).filter(|_| shape_fits(&output.shape, &spec.shape));
    let Some(count) = count else {
        return Err(Mismatch::Shape { output: name(), expected: spec.shape.clone(), actual: output.shape.clone() });
    };
    let elements = flatten(&output.data);
    if elements.len() != count {
        return Err(Mismatch::Count { output: name(), expected: count, actual: elements.len() });
    }
    let is_good = |value: &&&Value| match Element::read(value, spec.datatype) {
        Some(Element::Float(float)) => float.is_finite(),
        other => other.is_some(),
    };
    match elements.iter().find(|value| !is_good(value)) {
        None => Ok(()),
        Some(bad) => Err(Mismatch::Value {
            output: name(),
            index: String::new(),
            expected: format!("finite {} elements", spec.datatype),
            actual: if bad.is_null() { "NaN".to_owned() } else { bad.to_string() },
        }),
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): this crate has no
/// source of randomness but a seed.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
