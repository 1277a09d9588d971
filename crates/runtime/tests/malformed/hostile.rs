//! Files made to break their reader, and what it says of them.

use std::io::Write;
use std::time::{Duration, Instant};

use cloze_runtime::weights::Weights;
use zip::CompressionMethod::{Deflated, Stored};

use crate::parser::STORAGES;
use crate::torch::{self, Tensor};
use crate::{ALLOCATOR, ONE};

/// What is said of a file that must be refused, soon and with little memory.
fn refused(name: &str, bytes: &[u8]) -> String {
    let _one = ONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let (before, start) = (ALLOCATOR.total_allocated(), Instant::now());
    let error = Weights::open(&[path]).unwrap_err().to_string();
    let asked = ALLOCATOR.total_allocated() - before;
    assert!(
        asked <= (256 << 20) + 64 * bytes.len(),
        "{asked} bytes: {error}"
    );
    assert!(start.elapsed() < Duration::from_secs(5), "{error}");
    assert!(error.len() < 1000, "{error}");
    error.split_once(&format!("{name}: ")).unwrap().1.to_owned()
}

fn safetensors(header: &str, values: usize) -> Vec<u8> {
    let len = (header.len() as u64).to_le_bytes();
    [&len[..], header.as_bytes(), &vec![0; values]].concat()
}

fn pickled(tensors: &[Tensor]) -> Vec<u8> {
    torch::zip(&torch::state_dict(tensors), &STORAGES, Stored)
}

/// A file whose pickle is these bytes.
fn raw(pickle: &[u8]) -> Vec<u8> {
    torch::zip(&[b"\x80\x02", pickle].concat(), &STORAGES, Stored)
}

fn check(cases: &[(&str, Vec<u8>, &str)]) {
    for (name, bytes, expected) in cases {
        let found = refused(name, bytes);
        assert!(
            found.contains(expected),
            "expected {expected:?}, found {found}"
        );
    }
}

#[test]
fn hostile_safetensors_are_refused() {
    let name = "model.safetensors";
    let one = |info: &str, values| {
        let header = format!(r#"{{"a":{{{info}}}}}"#);
        (name, safetensors(&header, values))
    };
    let cases = [
        ((name, vec![]), "is empty"),
        ((name, vec![1, 2, 3]), "ends within its header"),
        ((name, vec![0xff; 64]), "header too large"),
        (
            (name, [&[200, 0, 0, 0, 0, 0, 0, 0][..], b"{}"].concat()),
            "ends within its header",
        ),
        (
            one(r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#, 4),
            "not as long",
        ),
        (
            one(r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#, 12),
            "not as long",
        ),
        (
            one(r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#, 8),
            "`a`",
        ),
        (
            one(r#""dtype":"F32","shape":[2],"data_offsets":[4,12]"#, 12),
            "`a`",
        ),
        (
            one(
                r#""dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]"#,
                8,
            ),
            "overflow",
        ),
        (
            one(
                r#""dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]"#,
                0,
            ),
            "more values than any memory has",
        ),
        (
            one(r#""dtype":"F32","shape":[-1],"data_offsets":[0,8]"#, 8),
            "invalid",
        ),
        (
            one(r#""dtype":"F32","shape":[1e99],"data_offsets":[0,8]"#, 8),
            "invalid",
        ),
        (
            one(r#""dtype":"F99","shape":[2],"data_offsets":[0,8]"#, 8),
            "F99",
        ),
        (
            one(r#""dtype":"F8_E5M2","shape":[2],"data_offsets":[0,2]"#, 2),
            "expected one of F64, F32, F16, BF16",
        ),
        ((name, safetensors(&"[".repeat(100_000), 0)), "invalid"),
        (
            (
                name,
                safetensors(
                    r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                    6,
                ),
            ),
            "`b`",
        ),
        (
            (
                name,
                safetensors(
                    r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#,
                    8,
                ),
            ),
            "`a`",
        ),
    ];
    check(&cases.map(|((name, bytes), expected)| (name, bytes, expected)));
}

#[test]
fn files_of_other_kinds_are_told_apart() {
    let tar = [&[b'a'; 257][..], b"ustar\0", &[0; 249]].concat();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90868373\n";
    check(&[
        ("pytorch_model.bin", pointer.to_vec(), "git lfs pull"),
        (
            "model.safetensors",
            b"<!DOCTYPE html><html>".to_vec(),
            "web page",
        ),
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n".to_vec(), "from_tf=True"),
        ("model.gguf", b"GGUF\x03\0\0\0".to_vec(), "llama.cpp"),
        (
            "pytorch_model.bin",
            b"\x80\x04\x95\x00\x00".to_vec(),
            "not as torch.save writes it",
        ),
        (
            "pytorch_model.bin",
            b"\x80\x02}q\x00.".to_vec(),
            "not as torch.save writes it",
        ),
        ("pytorch_model.bin", tar, "before 0.2"),
    ]);
}

#[test]
fn hostile_tensors_of_a_pickle_are_refused() {
    let name = "pytorch_model.bin";
    let float = Tensor::new("w", "FloatStorage", "0", &[4, 4]);
    let with = |change: &dyn Fn(&mut Tensor)| {
        let mut tensor = float.clone();
        change(&mut tensor);
        (name, pickled(&[tensor]))
    };
    let cases = [
        (with(&|w| w.offset = 1), "beyond its storage"),
        (with(&|w| w.offset = i64::MAX), "beyond its storage"),
        (with(&|w| w.offset = -1), "a size of -1"),
        (with(&|w| w.shape = vec![5, 4]), "beyond its storage"),
        (with(&|w| w.shape = vec![i64::MAX, 4]), "beyond its storage"),
        (with(&|w| w.shape = vec![i64::MAX, 0]), "beyond its storage"),
        (with(&|w| w.shape = vec![-4, 4]), "a size of -4"),
        (with(&|w| w.strides = vec![-4, 1]), "a size of -4"),
        (
            with(&|w| w.strides = vec![4, i64::MAX]),
            "beyond its storage",
        ),
        (with(&|w| w.strides = vec![4]), "strides [4]"),
        (
            with(&|w| (w.shape, w.strides) = (vec![17], vec![0])),
            "beyond its storage",
        ),
        (
            with(&|w| (w.shape, w.strides) = (vec![1; 9], vec![1; 9])),
            "9 dimensions",
        ),
        (
            with(&|w| w.key = "7".to_owned()),
            "storage \"7\" of tensor \"w\" is missing",
        ),
        (
            with(&|w| w.class = "ComplexFloatStorage"),
            "torch.ComplexFloatStorage",
        ),
        (
            (name, pickled(&[float.clone(), float.clone()])),
            "there twice",
        ),
    ];
    check(&cases.map(|((name, bytes), expected)| (name, bytes, expected)));
    let named = |number: i32| Tensor {
        name: number.to_string(),
        ..float.clone()
    };
    let shared: Vec<_> = (0..100).map(named).collect();
    check(&[(name, pickled(&shared), "16 times")]);
}

#[test]
fn hostile_pickles_are_refused() {
    let name = "pytorch_model.bin";
    let calls = |module: &str| format!("c{module}\n(Vls\ntR.").into_bytes();
    let deep = [&b"("[..], &b"(".repeat(2 << 20), b"."].concat();
    let values = [&b"N".repeat(2 << 20)[..], b"."].concat();
    // Each line doubles what the one before holds, were it copied.
    let bomb = [&b"]q\x00"[..], &b"](h\x00h\x00eq\x00".repeat(1000), b"."].concat();
    let doubled = [&b"]q\x00"[..], &b"(h\x00h\x00tq\x00".repeat(100_000), b"."].concat();
    let own = b"]q\x00h\x00a}q\x01h\x01h\x00s.";
    check(&[
        (
            name,
            raw(&calls("os\nsystem")),
            "os.system, which is not run",
        ),
        (
            name,
            raw(&calls("builtins\neval")),
            "builtins.eval, which is not run",
        ),
        (
            name,
            raw(b"cposix\nsystem\n(X\x02\x00\x00\x00lstR."),
            "which is not run",
        ),
        (name, raw(b"."), "empty pickle stack"),
        (name, raw(b"N"), "ends early"),
        (name, raw(b"t."), "without the mark"),
        (name, raw(b"h\x05."), "memo entry 5 is not set"),
        (name, raw(b"j\xff\xff\xff\xff."), "is not set"),
        (name, raw(b"Nr\xff\xff\xff\xff."), "memo entry 4294967295"),
        (name, raw(b"X\xff\xff\xff\xffa."), "ends early"),
        (name, raw(b"X\x01\x00\x00\x00\xff."), "utf-8"),
        (name, raw(b"\x8a\xff\x00."), "ends early"),
        (name, raw(b"i"), "instruction 0x69"),
        (name, raw(b"c"), "without end"),
        (
            name,
            raw(&[&b"c"[..], &[b'a'; 10_000]].concat()),
            "without end",
        ),
        (name, raw(&deep), "marks"),
        (name, raw(&values), "values"),
        (name, raw(&bomb), "expected tensors by name"),
        (name, raw(&doubled), "expected tensors by name"),
        (name, raw(own), "no text"),
        (
            name,
            raw(b"}X\x05\x00\x00\x00model}s."),
            "\"model\" is none; save the model's state_dict() alone",
        ),
        (name, raw(b"K\x01."), "expected tensors by name"),
        (
            name,
            torch::zip(b"\x80\x04.", &STORAGES, Stored),
            "protocol 4, expected 2",
        ),
    ]);
}

/// Overwrites what follows the last `magic` by `at` bytes.
fn patched(mut file: Vec<u8>, magic: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let place = file.windows(4).rposition(|window| window == magic).unwrap() + at;
    file[place..place + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn hostile_zips_are_refused() {
    let name = "pytorch_model.bin";
    let pickle = torch::state_dict(&[Tensor::new("w", "FloatStorage", "0", &[4, 4])]);
    let zeros = vec![0; 64 << 20];
    let bomb = torch::zip(&pickle, &[("0", &zeros)], Deflated);
    assert!(bomb.len() < 100_000);
    let stored = |values: &[(&str, &[u8])]| torch::zip(&pickle, values, Stored);
    let packed = torch::zip(&pickle, &[("0", &[0; 64])], Deflated);
    let whole = stored(&STORAGES);
    let (central, end) = (b"PK\x01\x02", b"PK\x05\x06");
    // The last entry is no storage: put one there.
    let last = |method| {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for (name, bytes) in [("m/data.pkl", &pickle[..]), ("m/data/0", &[7; 64])] {
            writer.start_file(name, options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    };
    let size = 1_000_u32.to_le_bytes();
    check(&[
        (
            name,
            whole[..whole.len() / 2].to_vec(),
            "fetch the file again",
        ),
        (name, b"PK\x03\x04".to_vec(), "fetch the file again"),
        (name, bomb, "unpack to more than 32 times"),
        (
            name,
            patched(last(Stored), central, 24, &size),
            "has 64 bytes, expected 1000",
        ),
        (
            name,
            patched(last(Stored), central, 20, &[size, size].concat()),
            "ends beyond the file",
        ),
        (name, patched(last(Deflated), central, 24, &size), "unpack"),
        (
            name,
            patched(last(Deflated), central, 16, &[0; 4]),
            "cannot be unpacked",
        ),
        (
            name,
            patched(last(Stored), central, 10, &[12, 0]),
            "is compressed by",
        ),
        (
            name,
            patched(last(Stored), central, 8, &[1, 0]),
            "is encrypted",
        ),
        (name, patched(last(Stored), central, 42, &size), ""),
        (name, patched(last(Stored), end, 10, &[0xff; 2]), ""),
        (
            name,
            stored(&[]),
            "storage \"0\" of tensor \"w\" is missing",
        ),
        (name, patched(packed, b"PK\x03\x04", 0, b"PKPK"), ""),
    ]);
    let renamed = |from: &[u8], to: &[u8]| {
        let mut file = stored(&STORAGES);
        for at in 0..file.len() - from.len() {
            if &file[at..at + from.len()] == from {
                file[at..at + from.len()].copy_from_slice(to);
            }
        }
        file
    };
    check(&[
        (
            name,
            renamed(b"model/data/1", b"model/data/0"),
            "two entries",
        ),
        (
            name,
            renamed(b"model/data/1", b"other/data/0"),
            "two entries",
        ),
        (
            name,
            renamed(b"model/data.pkl", b"model/data.pik"),
            "expected an entry data.pkl",
        ),
        (name, renamed(b"little", b"big\0\0\0"), "big-endian"),
    ]);
}

#[test]
fn hostile_old_containers_are_refused() {
    let name = "pytorch_model.bin";
    let pickle = torch::state_dict(&[Tensor::new("w", "FloatStorage", "0", &[4, 4])]);
    let values = STORAGES[0].1;
    let whole = torch::legacy(&pickle, &[("0", 16, values)]);
    let mut big = whole.clone();
    let flag = big
        .windows(14)
        .position(|window| window == b"little_endian\x88");
    big[flag.unwrap() + 13] = 0x89;
    check(&[
        (name, big, "big-endian"),
        (
            name,
            whole[..whole.len() - 1].to_vec(),
            "ends beyond the file",
        ),
        (
            name,
            whole[..whole.len() - 70].to_vec(),
            "storages are missing",
        ),
        (name, whole[..20].to_vec(), "ends early"),
        (
            name,
            torch::legacy(&pickle, &[("0", u64::MAX, values)]),
            "ends beyond the file",
        ),
        (
            name,
            torch::legacy(&pickle, &[("0", 1, values)]),
            "beyond its storage",
        ),
        (
            name,
            torch::legacy(&pickle, &[("1", 16, values)]),
            "belongs to no tensor",
        ),
        (
            name,
            torch::legacy(&pickle, &[("0", 16, values), ("0", 16, values)]),
            "listed twice",
        ),
        (name, torch::legacy(&pickle, &[]), "is missing"),
    ]);
}
