//! Tensors between the protocol's bytes and ONNX Runtime: the Rust type of each datatype, and inputs as a session takes
//! them. Raw tensors are little-endian, as the memory of every machine that ONNX Runtime is built for here.

use std::{borrow::Cow, fmt};

use bytemuck::AnyBitPattern;
use bytes::Bytes;
use ort::{
    session::SessionInputValue,
    value::{DynValue, PrimitiveTensorElementType, Tensor, TensorRef},
};

const _: () = assert!(cfg!(target_endian = "little"), "raw tensors are taken as they lie in memory");

/// Evaluates an expression with the Rust type that holds the elements of a datatype, or another one for BYTES, whose
/// elements have no size of their own.
macro_rules! with_element {
    ($datatype:expr, $element:ident => $fixed:expr, Bytes => $bytes:expr) => {{
        macro_rules! with {
            ($type:ty) => {{
                type $element = $type;
                $fixed
            }};
        }
        match $datatype {
            Datatype::Bool => with!(bool),
            Datatype::Uint8 => with!(u8),
            Datatype::Uint16 => with!(u16),
            Datatype::Uint32 => with!(u32),
            Datatype::Uint64 => with!(u64),
            Datatype::Int8 => with!(i8),
            Datatype::Int16 => with!(i16),
            Datatype::Int32 => with!(i32),
            Datatype::Int64 => with!(i64),
            Datatype::Fp16 => with!(half::f16),
            Datatype::Bf16 => with!(half::bf16),
            Datatype::Fp32 => with!(f32),
            Datatype::Fp64 => with!(f64),
            Datatype::Bytes => $bytes,
        }
    }};
}
pub(crate) use with_element;

/// One input, ready for the model.
pub(crate) enum Input {
    Owned(DynValue),
    /// Part of a request's body, which ONNX Runtime reads where it lies.
    Shared(Shared),
}

pub(crate) struct Shared {
    bytes: Bytes,
    shape: Vec<usize>,
    view: View,
}

type View = for<'a> fn(&'a Bytes, &'a [usize]) -> Result<SessionInputValue<'a>, ort::Error>;

impl Input {
    /// `bytes` hold exactly the elements of `shape`. They are copied only where they do not lie as `T` has to.
    pub(crate) fn from_bytes<T>(bytes: Bytes, shape: Vec<usize>) -> Result<Self, ort::Error>
    where
        T: PrimitiveTensorElementType + bytemuck::Pod + fmt::Debug,
    {
        if bytemuck::try_cast_slice::<u8, T>(&bytes).is_ok() {
            return Ok(Self::Shared(Shared { bytes, shape, view: view::<T> }));
        }
        Self::from_values::<T>(bytemuck::pod_collect_to_vec(&bytes), shape)
    }

    /// As many values as `shape` has.
    pub(crate) fn from_values<T>(values: Vec<T>, shape: Vec<usize>) -> Result<Self, ort::Error>
    where
        T: PrimitiveTensorElementType + Clone + fmt::Debug + 'static,
    {
        Ok(Self::Owned(Tensor::from_array((shape, values))?.into_dyn()))
    }

    /// Strings without NUL, as many as `shape` has: ONNX Runtime's end at the first one.
    pub(crate) fn from_strings(strings: &[String], shape: Vec<usize>) -> Result<Self, ort::Error> {
        Ok(Self::Owned(Tensor::from_string_array((shape, strings))?.into_dyn()))
    }

    pub(crate) fn shape(&self) -> Cow<'_, [usize]> {
        match self {
            Self::Shared(shared) => Cow::Borrowed(&shared.shape),
            Self::Owned(value) => {
                let sizes = value.dtype().tensor_shape().into_iter().flat_map(|shape| shape.iter());
                // What was made of sizes has no other dimensions.
                Cow::Owned(sizes.filter_map(|&size| usize::try_from(size).ok()).collect())
            }
        }
    }

    pub(crate) fn session_value(&self) -> Result<SessionInputValue<'_>, ort::Error> {
        match self {
            Self::Owned(value) => Ok(SessionInputValue::from(value)),
            Self::Shared(shared) => (shared.view)(&shared.bytes, &shared.shape),
        }
    }
}

fn view<'a, T>(bytes: &'a Bytes, shape: &'a [usize]) -> Result<SessionInputValue<'a>, ort::Error>
where
    T: PrimitiveTensorElementType + AnyBitPattern + fmt::Debug + Clone + 'static,
{
    let values: &[T] = bytemuck::try_cast_slice(bytes).map_err(|error| ort::Error::new(error.to_string()))?;
    Ok(TensorRef::from_array_view((shape, values))?.into())
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned(value) => f.debug_tuple("Owned").field(value.dtype()).finish(),
            Self::Shared(shared) => f.debug_tuple("Shared").field(&shared.shape).finish(),
        }
    }
}
