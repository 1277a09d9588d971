//! What `torch.save` writes: a pickle that describes tensors, and storages that hold their values; both containers, the
//! zip file of PyTorch 1.6 and later and the row of pickles before it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::Arc;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Node, Pickle, View};
use super::{Bytes, Mapped, Tensor, fail};
use crate::Error;

/// What the old container starts with, pickled.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL: i128 = 1001;
const MAX_PICKLE: u64 = 64 << 20;
const MAX_ENTRIES: usize = 1 << 20;
/// Bytes that compressed entries may become, per byte of the file: weights hardly shrink at all.
const MAX_RATIO: usize = 32;
/// Bytes of all tensors, per byte of the storages: tied weights are two or three tensors of one storage.
const MAX_SHARED: usize = 16;

/// Whether a file is of this format. More than the first two bytes of a pickle, which are those of some safetensors files.
pub(super) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02\x8a\x0a")
}

/// The tensors of a file, by name.
pub(super) fn tensors(file: &Arc<Mapped>) -> Result<Vec<(String, Tensor)>, Error> {
    let read = if file.bytes.starts_with(b"PK") {
        zipped(file)
    } else {
        legacy(file)
    };
    read.and_then(|(pickle, storages)| state_dict(&pickle, &storages))
        .map_err(|message| {
            fail(
                &file.path,
                format!("is no PyTorch state dict, or a damaged one: {message}"),
            )
        })
}

/// Bytes of a file, or of what was compressed in it.
struct Part {
    file: Arc<Mapped>,
    bytes: Range<usize>,
}

impl Part {
    fn bytes(&self) -> &[u8] {
        &self.file.bytes[self.bytes.clone()]
    }
}

type Storages = HashMap<String, Part>;

fn text(error: impl Display) -> String {
    error.to_string()
}

fn zipped(file: &Arc<Mapped>) -> Result<(Pickle, Storages), String> {
    let mut archive = ZipArchive::new(Cursor::new(&file.bytes[..]))
        .map_err(|error| format!("{error}; where a download broke off, fetch the file again"))?;
    if archive.len() > MAX_ENTRIES {
        return Err(format!(
            "{} entries, expected at most {MAX_ENTRIES}",
            archive.len()
        ));
    }
    if archive.has_duplicate_names() {
        return Err("two entries of one name".to_owned());
    }
    let mut left = file.bytes.len().saturating_mul(MAX_RATIO);
    let mut description = None;
    let mut storages = Storages::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(text)?;
        let name = entry.name().map_err(text)?.into_owned();
        drop(entry);
        // Entries lie in one folder, named for the file that was saved.
        let Some((_, inner)) = name.split_once('/') else {
            continue;
        };
        let key = inner.strip_prefix("data/");
        if !["data.pkl", "byteorder"].contains(&inner) && key.is_none() {
            continue;
        }
        let part = part(file, &mut archive, index, &mut left)
            .map_err(|message| format!("entry {name:?} {message}"))?;
        let twice = match key {
            Some(key) => storages.insert(key.to_owned(), part).is_some(),
            None if inner == "byteorder" => {
                if part.bytes().starts_with(b"big") {
                    return Err(BIG_ENDIAN.to_owned());
                }
                false
            }
            None => description.replace(part).is_some(),
        };
        if twice {
            return Err(format!("two entries {inner:?}"));
        }
    }
    let description = description.ok_or("expected an entry data.pkl, found none")?;
    let description = description.bytes();
    if description.len() as u64 > MAX_PICKLE {
        return Err(format!(
            "a pickle of {} bytes, expected at most {MAX_PICKLE}",
            description.len()
        ));
    }
    Ok((pickle::read(description)?, storages))
}

const BIG_ENDIAN: &str = "values are big-endian; save it again as safetensors, which never are";

/// What an entry holds: where it lies, or `left` bytes at most if it must be unpacked. PyTorch packs nothing, but reads
/// what others have packed again.
fn part(
    file: &Arc<Mapped>,
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    left: &mut usize,
) -> Result<Part, String> {
    let entry = archive.by_index_raw(index).map_err(text)?;
    if entry.encrypted() {
        return Err("is encrypted; pack the file again without a password".to_owned());
    }
    let (size, compression) = (entry.size(), entry.compression());
    match compression {
        CompressionMethod::Stored => {
            if entry.compressed_size() != size {
                return Err(format!(
                    "has {} bytes, expected {size}",
                    entry.compressed_size()
                ));
            }
            let start = entry.data_start().ok_or("lies nowhere")?;
            let end = start
                .checked_add(size)
                .filter(|&end| end <= file.bytes.len() as u64);
            let end = end.ok_or("ends beyond the file")?;
            Ok(Part {
                file: file.clone(),
                bytes: start as usize..end as usize,
            })
        }
        CompressionMethod::Deflated => {
            drop(entry);
            *left = usize::try_from(size)
                .ok()
                .and_then(|size| left.checked_sub(size))
                .ok_or_else(|| {
                    format!("and those before it unpack to more than {MAX_RATIO} times the file's bytes; save the weights as safetensors")
                })?;
            let entry = archive.by_index(index).map_err(text)?;
            let mut bytes = Vec::new();
            let read = entry.take(size + 1).read_to_end(&mut bytes);
            read.map_err(|error| format!("cannot be unpacked: {error}"))?;
            if bytes.len() as u64 != size {
                return Err(format!("unpacks to other than the {size} bytes it states"));
            }
            let range = 0..bytes.len();
            Ok(Part {
                file: Arc::new(Mapped {
                    path: file.path.clone(),
                    bytes: Bytes::Unpacked(bytes),
                }),
                bytes: range,
            })
        }
        other => Err(format!(
            "is compressed by {other}, expected stored or deflated; load the file with torch.load and save it again"
        )),
    }
}

fn legacy(file: &Arc<Mapped>) -> Result<(Pickle, Storages), String> {
    let bytes = &file.bytes[..];
    let mut at = 0;
    let mut next = || {
        let end = bytes.len().min(at + MAX_PICKLE as usize);
        let pickle = pickle::read(&bytes[at..end])?;
        at += pickle.len;
        Ok::<_, String>(pickle)
    };
    for expected in [MAGIC, PROTOCOL] {
        let pickle = next()?;
        let found = &pickle.nodes[pickle.root];
        if *found != Node::Int(expected) {
            return Err(format!("starts with {found:?}, expected {expected}"));
        }
    }
    let system = next()?;
    if let Node::Dict(items) = &system.nodes[system.root] {
        let is_big = |&(key, value): &(usize, usize)| {
            system.text(key) == Some("little_endian") && system.nodes[value] == Node::Bool(false)
        };
        if items.iter().any(is_big) {
            return Err(BIG_ENDIAN.to_owned());
        }
    }
    let (description, keys) = (next()?, next()?);
    let Node::Sequence(order) = &keys.nodes[keys.root] else {
        return Err("no list of storages".to_owned());
    };
    let sizes = kinds(&description);
    let mut storages = Storages::new();
    for &key in order {
        let key = keys.text(key).ok_or("a storage key that is no text")?;
        let size = sizes
            .get(key)
            .ok_or_else(|| format!("storage {key:?} belongs to no tensor"))?;
        let values = bytes.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
        let values = usize::try_from(u64::from_le_bytes(*values.ok_or("storages are missing")?));
        let end = values
            .ok()
            .and_then(|values| values.checked_mul(*size)?.checked_add(at + 8));
        let end = end.filter(|&end| end <= bytes.len());
        let end = end.ok_or_else(|| format!("storage {key:?} ends beyond the file"))?;
        let part = Part {
            file: file.clone(),
            bytes: at + 8..end,
        };
        if storages.insert(key.to_owned(), part).is_some() {
            return Err(format!("storage {key:?} is listed twice"));
        }
        at = end;
    }
    Ok((description, storages))
}

/// Bytes of a value of each storage.
fn kinds(pickle: &Pickle) -> HashMap<&str, usize> {
    let storage = |node: &Node| match node {
        Node::Storage { kind, key } => Some((pickle.text(*key)?, kind.size())),
        _ => None,
    };
    pickle.nodes.iter().filter_map(storage).collect()
}

fn state_dict(pickle: &Pickle, storages: &Storages) -> Result<Vec<(String, Tensor)>, String> {
    const ADVICE: &str = "save the model's state_dict() alone";
    let Node::Dict(items) = &pickle.nodes[pickle.root] else {
        return Err(format!("expected tensors by name, found none; {ADVICE}"));
    };
    let stored = storages.values().map(|part| part.bytes.len());
    let stored = stored.fold(0, usize::saturating_add);
    let mut left = stored.saturating_mul(MAX_SHARED);
    let mut tensors = BTreeMap::new();
    for &(name, value) in items {
        let name = pickle
            .text(name)
            .ok_or_else(|| format!("a tensor whose name is no text; {ADVICE}"))?;
        let Node::Tensor(view) = &pickle.nodes[value] else {
            return Err(format!(
                "expected tensors by name, but {name:?} is none; {ADVICE}"
            ));
        };
        let key = pickle
            .text(view.key)
            .ok_or("a storage key that is no text")?;
        let storage = storages
            .get(key)
            .ok_or_else(|| format!("storage {key:?} of tensor {name:?} is missing"))?;
        let (bytes, strides, size) =
            place(view, &storage.bytes).map_err(|message| format!("tensor {name:?} {message}"))?;
        // A small file could ask for any amount of memory.
        left = left.checked_sub(size).ok_or_else(|| {
            format!("its tensors have {MAX_SHARED} times the values that it holds; save the weights as safetensors")
        })?;
        let tensor = Tensor {
            shape: view.shape.clone(),
            kind: view.kind,
            file: storage.file.clone(),
            bytes,
            strides,
        };
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(format!("tensor {name:?} is there twice"));
        }
    }
    Ok(tensors.into_iter().collect())
}

/// The bytes from a tensor's first value to its last, its strides unless it is row-major, and the bytes of all its values.
fn place(view: &View, storage: &Range<usize>) -> Result<(Range<usize>, Vec<usize>, usize), String> {
    let View { shape, strides, .. } = view;
    if strides.len() != shape.len() {
        return Err(format!("has shape {shape:?} and strides {strides:?}"));
    }
    let extent = || {
        let size = view.kind.size();
        let (mut values, mut last, mut row_major) = (1_usize, 0_usize, true);
        for (&size, &stride) in shape.iter().zip(strides).rev() {
            // The stride of a dimension of one entry is never used.
            row_major &= size == 1 || stride == values;
            values = values.checked_mul(size)?;
            last = last.checked_add(size.saturating_sub(1).checked_mul(stride)?)?;
        }
        let start = storage.start.checked_add(view.offset.checked_mul(size)?)?;
        let len = if values == 0 { 0 } else { last.checked_add(1)? };
        let end = start.checked_add(len.checked_mul(size)?)?;
        // A stride of 0 repeats values.
        let all = values.checked_mul(size)?;
        let fits = end <= storage.end && all <= storage.len();
        let strides = if row_major || values == 0 {
            Vec::new()
        } else {
            strides.clone()
        };
        fits.then_some((start..end, strides, all))
    };
    extent().ok_or_else(|| {
        format!("of shape {shape:?} and strides {strides:?} reaches beyond its storage")
    })
}
