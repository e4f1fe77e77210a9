//! A model's inputs and outputs, in the words of the Open Inference Protocol.

use ort::{
    session::Session,
    value::{Outlet, TensorElementType, ValueType},
};
use tradewind_core::{
    bundle::{Signature, TensorSpec},
    inference::Datatype,
};

use crate::model::ModelError;

/// What ONNX Runtime says of the model; a dimension of any size is `-1`.
pub(crate) fn of(session: &Session) -> Result<Signature, ModelError> {
    let specs = |role: &'static str, outlets: &[Outlet]| {
        outlets.iter().map(|outlet| spec(role, outlet)).collect::<Result<Vec<_>, _>>()
    };
    Ok(Signature { inputs: specs("input", session.inputs())?, outputs: specs("output", session.outputs())? })
}

fn spec(role: &'static str, outlet: &Outlet) -> Result<TensorSpec, ModelError> {
    let name = outlet.name().to_owned();
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => {
            let element = || ModelError::ElementType { role, name: name.clone(), element: ty.to_string() };
            let datatype = datatype(*ty).ok_or_else(element)?;
            let shape = shape.iter().map(|&dim| dim.max(-1)).collect();
            Ok(TensorSpec { name, datatype, shape })
        }
        ValueType::Sequence(_) => Err(ModelError::NotATensor { role, name, kind: "sequence" }),
        ValueType::Map { .. } => Err(ModelError::NotATensor { role, name, kind: "map" }),
        ValueType::Optional(_) => Err(ModelError::NotATensor { role, name, kind: "optional value" }),
    }
}

/// The protocol's name of an element type; `None` for those that it cannot carry.
pub(crate) fn datatype(element: TensorElementType) -> Option<Datatype> {
    Some(match element {
        TensorElementType::Bool => Datatype::Bool,
        TensorElementType::Uint8 => Datatype::Uint8,
        TensorElementType::Uint16 => Datatype::Uint16,
        TensorElementType::Uint32 => Datatype::Uint32,
        TensorElementType::Uint64 => Datatype::Uint64,
        TensorElementType::Int8 => Datatype::Int8,
        TensorElementType::Int16 => Datatype::Int16,
        TensorElementType::Int32 => Datatype::Int32,
        TensorElementType::Int64 => Datatype::Int64,
        TensorElementType::Float16 => Datatype::Fp16,
        TensorElementType::Float32 => Datatype::Fp32,
        TensorElementType::Float64 => Datatype::Fp64,
        TensorElementType::Bfloat16 => Datatype::Bf16,
        TensorElementType::String => Datatype::Bytes,
        _ => return None,
    })
}
