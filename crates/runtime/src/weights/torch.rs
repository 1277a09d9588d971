//! What `torch.save` writes: a pickle that describes tensors, and storages that hold their values; both containers, the
//! zip file of PyTorch 1.6 and later and the row of pickles before it.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use super::pickle::{self, Node, Pickle, View};
use super::{Mapped, Tensor, fail};
use crate::Error;

/// What the old container starts with, pickled.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL: i128 = 1001;
const MAX_PICKLE: u64 = 64 << 20;
const MAX_ENTRIES: usize = 1 << 20;

/// Whether a file is of this format.
pub(super) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02")
}

/// The tensors of a file, by name.
pub(super) fn tensors(file: &Arc<Mapped>) -> Result<Vec<(String, Tensor)>, Error> {
    let bytes = &file.bytes[..];
    let read = if bytes.starts_with(b"PK") {
        zipped(bytes)
    } else {
        legacy(bytes)
    };
    read.and_then(|(pickle, storages)| state_dict(file, &pickle, &storages))
        .map_err(|message| {
            fail(
                &file.path,
                format!("is no PyTorch state dict, or a damaged one: {message}"),
            )
        })
}

/// Bytes of the file for each storage.
type Storages = HashMap<String, Range<usize>>;

fn zipped(bytes: &[u8]) -> Result<(Pickle, Storages), String> {
    let mut archive =
        zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    if archive.len() > MAX_ENTRIES {
        return Err(format!(
            "{} entries, expected at most {MAX_ENTRIES}",
            archive.len()
        ));
    }
    let mut description = None;
    let mut storages = Storages::new();
    for index in 0..archive.len() {
        let entry = archive
            .by_index_raw(index)
            .map_err(|error| error.to_string())?;
        let name = entry
            .name()
            .map_err(|error| error.to_string())?
            .into_owned();
        // Entries lie in one folder, named for the file that was saved.
        let Some((_, inner)) = name.split_once('/') else {
            continue;
        };
        let key = inner.strip_prefix("data/");
        if inner != "data.pkl" && key.is_none() {
            continue;
        }
        if entry.compression() != zip::CompressionMethod::Stored || entry.encrypted() {
            return Err(format!(
                "entry {name:?} is compressed, which PyTorch never does"
            ));
        }
        let start = entry
            .data_start()
            .ok_or_else(|| format!("entry {name:?} lies nowhere"))?;
        let end = start
            .checked_add(entry.size())
            .filter(|&end| end <= bytes.len() as u64);
        let end = end.ok_or_else(|| format!("entry {name:?} ends beyond the file"))?;
        let range = start as usize..end as usize;
        let twice = match key {
            Some(key) => storages.insert(key.to_owned(), range),
            None => description.replace(range),
        };
        if twice.is_some() {
            return Err(format!("two entries {name:?}"));
        }
    }
    let description = description.ok_or("no entry data.pkl")?;
    if description.len() as u64 > MAX_PICKLE {
        return Err(format!("a pickle of {} bytes", description.len()));
    }
    Ok((pickle::read(&bytes[description])?, storages))
}

fn legacy(bytes: &[u8]) -> Result<(Pickle, Storages), String> {
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
    // What the system was; every one PyTorch ran on is little-endian.
    next()?;
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
        if storages.insert(key.to_owned(), at + 8..end).is_some() {
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

fn state_dict(
    file: &Arc<Mapped>,
    pickle: &Pickle,
    storages: &Storages,
) -> Result<Vec<(String, Tensor)>, String> {
    let Node::Dict(items) = &pickle.nodes[pickle.root] else {
        return Err("holds no dict".to_owned());
    };
    let mut tensors = BTreeMap::new();
    for &(name, value) in items {
        let name = pickle.text(name).ok_or("a tensor whose name is no text")?;
        let Node::Tensor(view) = &pickle.nodes[value] else {
            return Err(format!("{name:?} is no tensor"));
        };
        let key = pickle
            .text(view.key)
            .ok_or("a storage key that is no text")?;
        let storage = storages
            .get(key)
            .ok_or_else(|| format!("storage {key:?} is missing"))?;
        let (bytes, strides) =
            place(view, storage).map_err(|message| format!("tensor {name:?} {message}"))?;
        let tensor = Tensor {
            shape: view.shape.clone(),
            kind: view.kind,
            file: file.clone(),
            bytes,
            strides,
        };
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(format!("tensor {name:?} is there twice"));
        }
    }
    Ok(tensors.into_iter().collect())
}

/// The bytes from a tensor's first value to its last, and its strides unless it is row-major.
fn place(view: &View, storage: &Range<usize>) -> Result<(Range<usize>, Vec<usize>), String> {
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
        // A stride of 0 would repeat values: a small file could ask for any amount of memory.
        let fits = end <= storage.end && values.checked_mul(size)? <= storage.len();
        let strides = if row_major || values == 0 {
            Vec::new()
        } else {
            strides.clone()
        };
        fits.then_some((start..end, strides))
    };
    extent().ok_or_else(|| {
        format!("of shape {shape:?} and strides {strides:?} reaches beyond its storage")
    })
}
