//! Weights in `safetensors` files.

use std::collections::BTreeMap;
use std::path::Path;

use cloze_nn::weights::Values;
use cloze_runtime::weights;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::Error;

/// Tensors by name: shape and values.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Writes `tensors` to `path`, whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, tensors: &Tensors) -> Result<(), Error> {
    let bytes: Vec<(&str, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (
                name.as_str(),
                shape.as_slice(),
                values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            )
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes)
            .expect("as many bytes as the shape says");
        (*name, view)
    });
    Ok(weights::write(path, views)?)
}

/// Reads all tensors of `path`, which must be f32.
///
/// # Errors
/// If the file cannot be read, is no safetensors file, or holds another type.
pub fn read(path: &Path) -> Result<Tensors, Error> {
    let bytes = std::fs::read(path).map_err(|source| cloze_spec::Error::Io {
        path: path.to_owned(),
        source,
    })?;
    let fail = |message: String| Error::Weights {
        path: path.to_owned(),
        message,
    };
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| fail(format!("is no safetensors file: {error}")))?;
    file.iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(fail(format!(
                    "tensor {name:?} has type {:?}, expected F32",
                    view.dtype()
                )));
            }
            let values = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            Ok((name.to_owned(), (view.shape().to_vec(), values.collect())))
        })
        .collect()
}

/// The values alone.
pub fn values(tensors: Tensors) -> Values {
    tensors
        .into_iter()
        .map(|(name, (_, values))| (name, values))
        .collect()
}
