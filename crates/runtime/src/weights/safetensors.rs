//! The safetensors format, through its own crate.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use cloze_spec::folder::write_atomically;
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::{Kind, Mapped, Tensor, fail, foreign};
use crate::Error;

/// Where values begin, and what the header says of them.
pub(crate) fn header(bytes: &[u8]) -> Result<(usize, Metadata), String> {
    use SafeTensorError::{HeaderTooSmall, InvalidHeaderLength, MetadataIncompleteBuffer};
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| match error {
        HeaderTooSmall | InvalidHeaderLength => "the file ends within its header".to_owned(),
        MetadataIncompleteBuffer => "the file is not as long as its header says".to_owned(),
        error => error.to_string(),
    })?;
    // Eight bytes tell the header's length, and values follow it.
    Ok((header + 8, metadata))
}

/// Writes tensors to `path`, whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, TensorView<'a>)>,
) -> Result<(), cloze_spec::Error> {
    // Readers in Python ask for this note.
    let note = [("format".to_owned(), "pt".to_owned())].into();
    let file = safetensors::serialize(tensors, Some(note))
        .expect("names and shapes that safetensors can say");
    write_atomically(path, |out| out.write_all(&file))
}

/// The tensors of a file, by name.
pub(super) fn tensors(file: &Arc<Mapped>) -> Result<Vec<(String, Tensor)>, Error> {
    let (start, metadata) = header(&file.bytes).map_err(|message| {
        let damaged =
            || format!("is no safetensors file, or a damaged one: {message}; fetch it again");
        fail(
            &file.path,
            foreign(&file.bytes).map_or_else(damaged, str::to_owned),
        )
    })?;
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
