//! Requests that run together: their inputs one after the other, and each one's share of the outputs.

use std::{borrow::Cow, fmt::Debug};

use ort::value::{DynValue, PrimitiveTensorElementType};
use tradewind_core::{bundle::Signature, inference::Datatype};

use crate::tensor::{Input, with_element};

/// What requests have in common that may run together: the shapes of their rows, input after input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class(Box<[usize]>);

/// Some of the rows of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) first: usize,
    pub(crate) rows: usize,
    pub(crate) of: usize,
}

/// Whether the signature leaves the number of rows open, in all inputs and outputs, and all rows have a fixed size in memory.
pub(super) fn has_rows(signature: &Signature) -> bool {
    let mut specs = signature.inputs.iter().chain(&signature.outputs);
    !signature.inputs.is_empty()
        && specs.all(|spec| spec.shape.first() == Some(&-1) && spec.datatype != Datatype::Bytes)
}

/// How many rows these inputs have, and with which they may run together.
pub(super) fn classify(inputs: &[Input]) -> Option<(usize, Class)> {
    let rows = *inputs.first()?.shape().first()?;
    let mut class = Vec::new();
    for input in inputs {
        let shape = input.shape();
        let (own, row) = shape.split_first()?;
        if *own != rows {
            return None;
        }
        class.push(row.len());
        class.extend_from_slice(row);
    }
    (rows > 0).then(|| (rows, Class(class.into())))
}

/// The inputs of several requests of one class, one after the other.
pub(super) fn join(requests: &[&[Input]], signature: &Signature) -> Result<Vec<Input>, ort::Error> {
    let joined = signature.inputs.iter().enumerate().map(|(position, spec)| {
        let parts: Vec<&Input> = requests.iter().map(|inputs| &inputs[position]).collect();
        with_element!(spec.datatype, T => joined::<T>(&parts), Bytes => unreachable!("text has no rows"))
    });
    joined.collect()
}

fn joined<T: PrimitiveTensorElementType + Clone + Debug + 'static>(parts: &[&Input]) -> Result<Input, ort::Error> {
    let mut shape = parts.first().map(|part| part.shape().into_owned()).unwrap_or_default();
    shape[0] = parts.iter().map(|part| part.shape()[0]).sum();
    let mut values: Vec<T> = Vec::with_capacity(shape.iter().product());
    for part in parts {
        values.extend_from_slice(part.session_value()?.try_extract_tensor::<T>()?.1);
    }
    Input::from_values(values, shape)
}

/// The shares of requests with so many rows each, if the outputs have as many rows as all of them.
pub(super) fn shares(rows: &[usize], outputs: &[DynValue]) -> Option<Vec<Share>> {
    let of: usize = rows.iter().sum();
    let has_all = |value: &DynValue| {
        let found = value.dtype().tensor_shape().and_then(|shape| shape.first().copied());
        found.and_then(|found| usize::try_from(found).ok()) == Some(of)
    };
    let shares = rows.iter().scan(0, |first, &rows| {
        let share = Share { first: *first, rows, of };
        *first += rows;
        Some(share)
    });
    outputs.iter().all(has_all).then(|| shares.collect())
}

impl Share {
    pub(crate) fn of_shape(self, shape: &[i64]) -> Cow<'_, [i64]> {
        let mut shape = shape.to_vec();
        if let Some(rows) = shape.first_mut() {
            *rows = self.rows as i64;
        }
        Cow::Owned(shape)
    }

    pub(crate) fn of_elements<T>(self, elements: &[T]) -> &[T] {
        let begin = elements.len() / self.of * self.first;
        &elements[begin..begin + self.part_of(elements.len())]
    }

    /// How many of so many elements.
    pub(crate) fn part_of(self, elements: usize) -> usize {
        elements / self.of * self.rows
    }
}
