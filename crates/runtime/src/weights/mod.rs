//! Weights files: names, shapes and values, read where they lie.

mod pickle;
pub(crate) mod safetensors;
mod torch;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloze_kernels::op::encode::embed;
use cloze_kernels::op::packed::Storage;
use cloze_spec::hugging_face::{POINTER, is_pointer};
use memmap2::Mmap;

pub use self::safetensors::write;
use crate::Error;

/// A type of floats in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    F32,
    /// 16 bits, of which 10 are digits.
    F16,
    /// 16 bits, of which 7 are digits.
    Bf16,
}

/// The tensors of one or more weights files, mapped into memory.
#[derive(Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

/// One tensor: values where the file has them.
#[derive(Debug)]
struct Tensor {
    shape: Vec<usize>,
    kind: Kind,
    file: Arc<Mapped>,
    /// Bytes within the file.
    bytes: Range<usize>,
    /// Values from one entry of each dimension to the next; empty where the tensor is row-major.
    strides: Vec<usize>,
}

/// A file in memory, and its name for messages.
#[derive(Debug)]
struct Mapped {
    path: PathBuf,
    bytes: Bytes,
}

/// A file's bytes, or those that were compressed in it.
#[derive(Debug)]
enum Bytes {
    Mapped {
        map: Mmap,
        #[cfg(unix)]
        file: File,
    },
    Unpacked(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped { map, .. } => map,
            Self::Unpacked(bytes) => bytes,
        }
    }
}

impl Mapped {
    /// The bytes from `at` on into `to`. They are read, not copied from the map: pages of a map that were looked at count as
    /// memory of the process, and what is read once and packed would be there twice.
    fn copy(&self, at: usize, to: &mut [u8]) -> Result<(), Error> {
        #[cfg(unix)]
        if let Bytes::Mapped { file, .. } = &self.bytes {
            use std::os::unix::fs::FileExt;
            let io = |source| Error::Io {
                path: self.path.clone(),
                source,
            };
            return file.read_exact_at(to, at as u64).map_err(io);
        }
        to.copy_from_slice(&self.bytes[at..at + to.len()]);
        Ok(())
    }
}

/// Rows of a tensor that stay where their file has them.
#[derive(Clone, Debug)]
pub struct Table {
    file: Arc<Mapped>,
    bytes: Range<usize>,
    storage: Storage,
}

impl Table {
    /// The numbers.
    ///
    /// # Panics
    /// Never: they were looked at when the table was made.
    pub fn numbers(&self) -> embed::Table<'_> {
        let bytes = &self.file.bytes[self.bytes.clone()];
        embed::Table::from_bytes(bytes, self.storage).expect("checked by Weights::table")
    }
}

/// The type of a tensor's values, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    U8,
    Bool,
}

impl Kind {
    /// Bytes of a value.
    fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 | Self::Bool => 1,
        }
    }
}

impl Weights {
    /// Opens every file; a tensor must be in one of them only.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, or is of a kind that is not read.
    pub fn open(files: &[PathBuf]) -> Result<Self, Error> {
        let mut weights = Self::default();
        for path in files {
            let file = Arc::new(map(path)?);
            let tensors = if torch::is(&file.bytes) {
                torch::tensors(&file)?
            } else {
                safetensors::tensors(&file)?
            };
            for (name, tensor) in tensors {
                // Values of none, but rows of any size: a shape may have a zero before what overflows.
                let row = tensor.shape.iter().skip(1);
                if row.copied().try_fold(1, usize::checked_mul).is_none() {
                    let shape = &tensor.shape;
                    return Err(fail(
                        path,
                        format!(
                            "tensor {name:?} has shape {shape:?}, more values than any memory has"
                        ),
                    ));
                }
                if let Some(other) = weights.tensors.insert(name.clone(), tensor) {
                    return Err(fail(
                        path,
                        format!("tensor {name:?} is in {} too", other.file.path.display()),
                    ));
                }
            }
        }
        Ok(weights)
    }

    /// The shape of every tensor.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let shape = |(name, tensor): (&String, &Tensor)| (name.clone(), tensor.shape.clone());
        self.tensors.iter().map(shape).collect()
    }

    /// Bytes of all values.
    pub fn bytes(&self) -> usize {
        self.tensors.values().map(|tensor| tensor.bytes.len()).sum()
    }

    /// Bytes of all values, by their type's name.
    pub fn kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for tensor in self.tensors.values() {
            let name = format!("{:?}", tensor.kind).to_lowercase();
            *kinds.entry(name).or_default() += tensor.bytes.len();
        }
        kinds
    }

    /// The type of a tensor's values, or for those of 64 bits the next one; none of what are no floats.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn precision(&self, name: &str) -> Option<Precision> {
        match self.tensors[name].kind {
            Kind::F32 | Kind::F64 => Some(Precision::F32),
            Kind::F16 => Some(Precision::F16),
            Kind::Bf16 => Some(Precision::Bf16),
            Kind::I64 | Kind::I32 | Kind::U8 | Kind::Bool => None,
        }
    }

    /// Values of `rows` of the first dimension of a tensor, into `out`.
    ///
    /// # Errors
    /// If the values are not numbers of a kind that weights have.
    ///
    /// # Panics
    /// If there is no such tensor or row, or `out` has another length.
    pub fn read(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let tensor = self.tensors.get(name);
        let tensor = tensor.unwrap_or_else(|| panic!("{name} is one of the shapes"));
        let row: usize = tensor.shape.iter().skip(1).product();
        let values = rows.start * row..rows.end * row;
        assert_eq!(values.len(), out.len(), "{name}: values for the rows");
        let size = tensor.kind.size();
        let mut buffer = [0; BUFFER_BYTES];
        for (piece, out) in out.chunks_mut(BUFFER_BYTES / size).enumerate() {
            let first = values.start + piece * (BUFFER_BYTES / size);
            let bytes = &mut buffer[..out.len() * size];
            if tensor.strides.is_empty() {
                let at = tensor.bytes.start + first * size;
                tensor.file.copy(at, bytes)?;
            } else {
                tensor.gather(first, bytes);
            }
            match tensor.kind {
                Kind::F32 => convert(bytes, out, f32::from_le_bytes),
                Kind::F64 => convert(bytes, out, |b| f64::from_le_bytes(b) as f32),
                Kind::F16 => convert(bytes, out, |b| half::f16::from_le_bytes(b).to_f32()),
                Kind::Bf16 => convert(bytes, out, |b| half::bf16::from_le_bytes(b).to_f32()),
                Kind::I64 | Kind::I32 | Kind::U8 | Kind::Bool => {
                    return Err(fail(
                        &tensor.file.path,
                        format!("tensor {name:?} holds {:?}, expected floats", tensor.kind),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Rows of a tensor where they lie, if the file has them as floats that can be read there: row-major, and begun where
    /// floats may begin.
    ///
    /// # Panics
    /// If there is no such tensor or row.
    pub fn table(&self, name: &str, rows: Range<usize>) -> Option<Table> {
        let tensor = self.tensors.get(name);
        let tensor = tensor.unwrap_or_else(|| panic!("{name} is one of the shapes"));
        let storage = match tensor.kind {
            Kind::F32 => Storage::F32,
            Kind::F16 => Storage::F16,
            Kind::Bf16 => Storage::Bf16,
            Kind::F64 | Kind::I64 | Kind::I32 | Kind::U8 | Kind::Bool => return None,
        };
        let row = tensor.shape.iter().skip(1).product::<usize>() * tensor.kind.size();
        let start = tensor.bytes.start;
        let bytes = start + rows.start * row..start + rows.end * row;
        let readable = embed::Table::from_bytes(&tensor.file.bytes[bytes.clone()], storage);
        (tensor.strides.is_empty() && readable.is_some()).then(|| Table {
            file: tensor.file.clone(),
            bytes,
            storage,
        })
    }
}

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 16 << 10;

impl Tensor {
    /// The bytes of values from `first` on, counted row-major, of a tensor with strides.
    fn gather(&self, first: usize, out: &mut [u8]) {
        let size = self.kind.size();
        let bytes = &self.file.bytes[self.bytes.clone()];
        for (value, out) in (first..).zip(out.chunks_exact_mut(size)) {
            let (mut rest, mut at) = (value, 0);
            for (&len, &stride) in self.shape.iter().zip(&self.strides).rev() {
                at += rest % len * stride;
                rest /= len;
            }
            out.copy_from_slice(&bytes[at * size..(at + 1) * size]);
        }
    }
}

fn convert<const SIZE: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; SIZE]) -> f32) {
    let (values, _) = bytes.as_chunks::<SIZE>();
    for (out, bytes) in out.iter_mut().zip(values) {
        *out = value(*bytes);
    }
}

fn map(path: &Path) -> Result<Mapped, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    #[expect(
        unsafe_code,
        reason = "mapping is how weights are read without copying"
    )]
    // SAFETY: the map is only read, for as long as an engine uses a table in it. Should another program cut the file short
    // meanwhile, the system ends this process, as it does for every program that maps files; what is read is checked, so changed
    // bytes give other numbers and nothing worse.
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok(Mapped {
        path: path.to_owned(),
        bytes: Bytes::Mapped {
            map,
            #[cfg(unix)]
            file,
        },
    })
}

/// What a file is that no reader takes, and what to do, where its first bytes tell.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    const STARTS: [(&[u8], &str); 4] = [
        (
            b"<",
            "is a web page; fetch the file itself, perhaps after a login",
        ),
        (
            b"\x89HDF",
            "holds weights of TensorFlow; load the folder with from_tf=True in the Python package transformers, and save it \
             with save_pretrained",
        ),
        (
            b"GGUF",
            "is of llama.cpp; fetch the model that it was made of",
        ),
        (
            b"\x80",
            "is a pickle, but not as torch.save writes it unless told otherwise; load it in Python and save its tensors as safetensors",
        ),
    ];
    if bytes.is_empty() {
        return Some("is empty; fetch it again");
    }
    if is_pointer(bytes) {
        return Some(POINTER);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some("is of PyTorch before 0.2; load it with torch.load and save it again");
    }
    let known = |(start, _): &&(&[u8], _)| bytes.starts_with(start);
    STARTS.iter().find(known).map(|(_, advice)| *advice)
}

fn fail(path: &Path, message: String) -> Error {
    Error::Weights {
        path: path.to_owned(),
        message,
    }
}
