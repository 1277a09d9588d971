//! The safetensors format, through its own crate.

use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};

use super::{Kind, Mapped, Tensor, fail};
use crate::Error;

/// The tensors of a file, by name.
pub(super) fn tensors(file: &Arc<Mapped>) -> Result<Vec<(String, Tensor)>, Error> {
    let (header, metadata) = SafeTensors::read_metadata(&file.bytes).map_err(|error| {
        fail(
            &file.path,
            format!("is no safetensors file, or a damaged one: {error}; fetch it again"),
        )
    })?;
    // Eight bytes tell the header's length, and values follow it.
    let start = header + 8;
    metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let kind = match info.dtype {
                Dtype::F64 => Kind::F64,
                Dtype::F32 => Kind::F32,
                Dtype::F16 => Kind::F16,
                Dtype::BF16 => Kind::Bf16,
                Dtype::I64 | Dtype::U64 => Kind::I64,
                Dtype::I32 | Dtype::U32 => Kind::I32,
                Dtype::U8 | Dtype::I8 => Kind::U8,
                Dtype::BOOL => Kind::Bool,
                other => {
                    return Err(fail(
                        &file.path,
                        format!("tensor {name:?} has type {other:?}, expected one of F64, F32, F16, BF16"),
                    ));
                }
            };
            let (from, to) = info.data_offsets;
            Ok((
                name,
                Tensor {
                    shape: info.shape.clone(),
                    kind,
                    file: file.clone(),
                    bytes: start + from..start + to,
                    strides: Vec::new(),
                },
            ))
        })
        .collect()
}
