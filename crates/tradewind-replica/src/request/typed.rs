//! Tensor contents in gRPC's typed fields, each for several datatypes.

use ort::value::PrimitiveTensorElementType;
use tradewind_api::grpc::message::InferTensorContents;
use tradewind_core::inference::Datatype;

use super::raw::{self, RawError};
use crate::tensor::Input;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TypedError {
    #[error("its contents have {found} elements of {datatype}, its shape {shape:?} has {expected}")]
    Count { found: usize, expected: usize, shape: Vec<usize>, datatype: Datatype },
    #[error("its contents hold elements for other datatypes than {0}")]
    OtherField(Datatype),
    #[error("{0} has no typed contents, send it in raw_input_contents")]
    RawOnly(Datatype),
    #[error("element {index}: {value} is not a {datatype}, it is out of range")]
    Range { index: usize, value: i64, datatype: Datatype },
    #[error(transparent)]
    String(#[from] RawError),
}

pub(crate) fn tensor(
    contents: InferTensorContents,
    shape: Vec<usize>,
    datatype: Datatype,
) -> Result<Input, TypedError> {
    check_fields(&contents, &shape, datatype)?;
    match datatype {
        Datatype::Bool => owned(contents.bool_contents, shape),
        Datatype::Uint8 => narrowed::<u8, _>(contents.uint_contents, shape, datatype),
        Datatype::Uint16 => narrowed::<u16, _>(contents.uint_contents, shape, datatype),
        Datatype::Uint32 => owned(contents.uint_contents, shape),
        Datatype::Uint64 => owned(contents.uint64_contents, shape),
        Datatype::Int8 => narrowed::<i8, _>(contents.int_contents, shape, datatype),
        Datatype::Int16 => narrowed::<i16, _>(contents.int_contents, shape, datatype),
        Datatype::Int32 => owned(contents.int_contents, shape),
        Datatype::Int64 => owned(contents.int64_contents, shape),
        Datatype::Fp32 => owned(contents.fp32_contents, shape),
        Datatype::Fp64 => owned(contents.fp64_contents, shape),
        Datatype::Fp16 | Datatype::Bf16 => Err(TypedError::RawOnly(datatype)),
        Datatype::Bytes => {
            let elements = contents.bytes_contents.iter().enumerate();
            let strings = elements.map(|(index, bytes)| raw::string(bytes, index).map(str::to_owned));
            let strings = strings.collect::<Result<Vec<_>, _>>()?;
            Input::from_strings(&strings, shape).map_err(refused)
        }
    }
}

/// All elements lie in the one field of `datatype`, as many as the shape has.
fn check_fields(contents: &InferTensorContents, shape: &[usize], datatype: Datatype) -> Result<(), TypedError> {
    let fields = [
        contents.bool_contents.len(),
        contents.int_contents.len(),
        contents.int64_contents.len(),
        contents.uint_contents.len(),
        contents.uint64_contents.len(),
        contents.fp32_contents.len(),
        contents.fp64_contents.len(),
        contents.bytes_contents.len(),
    ];
    let own = match datatype {
        Datatype::Bool => 0,
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => 1,
        Datatype::Int64 => 2,
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => 3,
        Datatype::Uint64 => 4,
        Datatype::Fp32 => 5,
        Datatype::Fp64 => 6,
        Datatype::Bytes => 7,
        Datatype::Fp16 | Datatype::Bf16 => return Err(TypedError::RawOnly(datatype)),
    };
    if fields.iter().enumerate().any(|(field, &count)| field != own && count > 0) {
        return Err(TypedError::OtherField(datatype));
    }
    let (found, expected) = (fields[own], shape.iter().product());
    if found != expected {
        return Err(TypedError::Count { found, expected, shape: shape.to_vec(), datatype });
    }
    Ok(())
}

fn owned<T>(values: Vec<T>, shape: Vec<usize>) -> Result<Input, TypedError>
where
    T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    Input::from_values(values, shape).map_err(refused)
}

fn narrowed<T, Wide>(values: Vec<Wide>, shape: Vec<usize>, datatype: Datatype) -> Result<Input, TypedError>
where
    T: PrimitiveTensorElementType + TryFrom<Wide> + Clone + std::fmt::Debug + 'static,
    Wide: Into<i64> + Copy,
{
    let narrow = |(index, value): (usize, Wide)| {
        T::try_from(value).map_err(|_| TypedError::Range { index, value: value.into(), datatype })
    };
    owned(values.into_iter().enumerate().map(narrow).collect::<Result<Vec<_>, _>>()?, shape)
}

fn refused(error: ort::Error) -> TypedError {
    TypedError::String(RawError::Tensor(error.message().to_owned()))
}
