//! Files as `torch.save` writes them, made by hand.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A tensor of a state dict, as it stands in the pickle.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    /// The class of its storage, `FloatStorage` and such.
    pub class: &'static str,
    /// The key of its storage.
    pub key: String,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}

impl Tensor {
    /// A row-major one with a storage of its own.
    pub fn new(name: &str, class: &'static str, key: &str, shape: &[i64]) -> Self {
        let after = |place: usize| shape[place + 1..].iter().product();
        Self {
            name: name.to_owned(),
            class,
            key: key.to_owned(),
            offset: 0,
            shape: shape.to_vec(),
            strides: (0..shape.len()).map(after).collect(),
        }
    }
}

pub fn text(text: &str) -> Vec<u8> {
    let len = (text.len() as u32).to_le_bytes();
    [b"X", &len[..], text.as_bytes()].concat()
}

pub fn int(value: i64) -> Vec<u8> {
    match u8::try_from(value) {
        Ok(small) => vec![b'K', small],
        Err(_) => [&b"\x8a\x08"[..], &value.to_le_bytes()].concat(),
    }
}

fn tuple(values: &[i64]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|&value| int(value)).collect();
    [b"(", &values[..], b"t"].concat()
}

/// The pickle of a state dict.
pub fn state_dict(tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(".to_vec();
    for tensor in tensors {
        out.extend(text(&tensor.name));
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        out.extend(text("storage"));
        out.extend(format!("ctorch\n{}\n", tensor.class).bytes());
        out.extend(text(&tensor.key));
        out.extend(text("cpu"));
        out.extend(int(tensor.shape.iter().product()));
        out.extend(b"tQ");
        out.extend(int(tensor.offset));
        out.extend(tuple(&tensor.shape));
        out.extend(tuple(&tensor.strides));
        out.extend(b"\x89h\x00)RtR");
    }
    out.extend(b"u}");
    out.extend(text("_metadata"));
    out.extend(b"h\x00)Rsb.");
    out
}

/// The container of PyTorch 1.6 and later.
pub fn zip(pickle: &[u8], storages: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    let mut add = |name: &str, bytes: &[u8]| {
        writer.start_file(format!("model/{name}"), options).unwrap();
        writer.write_all(bytes).unwrap();
    };
    add("data.pkl", pickle);
    add("byteorder", b"little");
    for (key, bytes) in storages {
        add(&format!("data/{key}"), bytes);
    }
    add("version", b"3\n");
    writer.finish().unwrap().into_inner()
}

/// The container before; each storage with its number of values.
pub fn legacy(pickle: &[u8], storages: &[(&str, u64, &[u8])]) -> Vec<u8> {
    let mut out =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}(".to_vec();
    out.extend(text("little_endian"));
    out.extend(b"\x88u.");
    out.extend(pickle);
    out.extend(b"\x80\x02](");
    for (key, ..) in storages {
        out.extend(text(key));
    }
    out.extend(b"e.");
    for (_, values, bytes) in storages {
        out.extend(values.to_le_bytes());
        out.extend(*bytes);
    }
    out
}
