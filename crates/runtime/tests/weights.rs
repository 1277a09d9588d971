//! Weights in every form that others publish them in, and what is said of those that are not right.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "malformed/torch.rs"]
mod torch;

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use cloze_runtime::cpu::Options;
use cloze_runtime::golden::Golden;
use cloze_runtime::model::{TextEncoder, open};
use cloze_runtime::weights::Weights;
use cloze_runtime::{Engine, Rows};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;
use zip::CompressionMethod::{Deflated, Stored};

fn references(name: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    home.join("tests/golden").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            fs::copy(&entry, &target).unwrap();
        }
    }
}

fn folder(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&references(name), folder.path());
    folder
}

/// The vectors of a folder's reference texts.
fn vectors(folder: &Path) -> Vec<f32> {
    let golden = Golden::read(&folder.join("golden.safetensors")).unwrap();
    let (_, engine) = open(folder, Options::default()).unwrap();
    let mut vectors = Vec::new();
    engine.run(&golden.batch, Rows::All, &mut vectors).unwrap();
    vectors
}

fn fault(folder: &Path) -> String {
    let opened = open(folder, Options::default());
    let error = opened.map(|_| ()).unwrap_err().to_string();
    error.replace(&folder.display().to_string(), "FOLDER")
}

/// The tensors of a safetensors file of `F32`: name, shape, bytes.
fn tensors(file: &Path) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(file).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
        .collect()
}

fn write(file: &Path, tensors: &[(String, Vec<usize>, Vec<u8>)]) {
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name, view.unwrap())
    });
    fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// As `torch.save` writes them, in the container of old releases or of new ones.
fn saved(tensors: &[(String, Vec<usize>, Vec<u8>)], old: bool) -> Vec<u8> {
    let keys: Vec<String> = (0..tensors.len()).map(|key| key.to_string()).collect();
    let described: Vec<_> = tensors
        .iter()
        .zip(&keys)
        .map(|((name, shape, _), key)| {
            let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
            torch::Tensor::new(name, "FloatStorage", key, &shape)
        })
        .collect();
    let pickle = torch::state_dict(&described);
    let storages = keys.iter().zip(tensors);
    if old {
        let storages: Vec<_> = storages
            .map(|(key, (_, _, bytes))| (key.as_str(), bytes.len() as u64 / 4, &bytes[..]))
            .collect();
        return torch::legacy(&pickle, &storages);
    }
    let storages: Vec<_> = storages
        .map(|(key, (_, _, bytes))| (key.as_str(), &bytes[..]))
        .collect();
    torch::zip(&pickle, &storages, Stored)
}

#[test]
fn sharded_torch_files_of_both_containers_give_what_the_whole_one_gives() {
    let folder = folder("bert");
    let expected = vectors(folder.path());
    let all = tensors(&folder.path().join("model.safetensors"));
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let (first, second) = all.split_at(all.len() / 2);
    let names = [
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
    ];
    let mut places = serde_json::Map::new();
    for (name, part, old) in [(names[0], first, false), (names[1], second, true)] {
        fs::write(folder.path().join(name), saved(part, old)).unwrap();
        places.extend(
            part.iter()
                .map(|(tensor, ..)| (tensor.clone(), name.into())),
        );
    }
    let index = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": places });
    fs::write(
        folder.path().join("pytorch_model.bin.index.json"),
        index.to_string(),
    )
    .unwrap();
    assert_eq!(vectors(folder.path()), expected);

    // What is in two shards is in one too many.
    fs::write(folder.path().join(names[0]), saved(&all, false)).unwrap();
    let found = fault(folder.path());
    assert!(
        found.contains("is in") && found.contains(names[0]),
        "{found}"
    );

    fs::remove_file(folder.path().join(names[1])).unwrap();
    assert_eq!(
        fault(folder.path()),
        "FOLDER/pytorch_model.bin.index.json: weight_map: expected 2 files in this folder, found it without 1 of them \
         (pytorch_model-00002-of-00002.bin); fetch them too"
    );
}

#[test]
fn torch_files_that_were_packed_again_give_what_they_gave() {
    let folder = folder("bert-antique");
    let expected = vectors(folder.path());
    let file = folder.path().join("pytorch_model.bin");
    let mut archive = zip::ZipArchive::new(Cursor::new(fs::read(&file).unwrap())).unwrap();
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let options = zip::write::SimpleFileOptions::default().compression_method(Deflated);
        writer.start_file(entry.name().unwrap(), options).unwrap();
        std::io::copy(&mut entry.by_ref(), &mut writer).unwrap();
    }
    fs::write(&file, writer.finish().unwrap().into_inner()).unwrap();
    assert_eq!(vectors(folder.path()), expected);
}

#[test]
fn floats_of_every_type_are_read_from_both_formats() {
    let values = [1.5_f32, -0.25, 0.0, -2.0];
    let bytes = |value: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|&v| value(v)).collect();
    let kinds: [(Dtype, &'static str, Vec<u8>); 4] = [
        (
            Dtype::F64,
            "DoubleStorage",
            bytes(&|v| f64::from(v).to_le_bytes().to_vec()),
        ),
        (
            Dtype::F32,
            "FloatStorage",
            bytes(&|v| v.to_le_bytes().to_vec()),
        ),
        (
            Dtype::F16,
            "HalfStorage",
            bytes(&|v| half::f16::from_f32(v).to_le_bytes().to_vec()),
        ),
        (
            Dtype::BF16,
            "BFloat16Storage",
            bytes(&|v| half::bf16::from_f32(v).to_le_bytes().to_vec()),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str, file: Vec<u8>| {
        let path = folder.path().join(name);
        fs::write(&path, file).unwrap();
        let weights = Weights::open(&[path]).unwrap();
        let mut out = vec![f32::NAN; 4];
        weights
            .read("w", 0..2, &mut out)
            .map(|()| out)
            .map_err(|e| e.to_string())
    };
    for (dtype, class, bytes) in kinds {
        let view = TensorView::new(dtype, vec![2, 2], &bytes).unwrap();
        let safe = safetensors::serialize([("w", view)], None).unwrap();
        assert_eq!(
            read("model.safetensors", safe).unwrap(),
            values,
            "{dtype:?}"
        );
        let pickle = torch::state_dict(&[torch::Tensor::new("w", class, "0", &[2, 2])]);
        let zipped = torch::zip(&pickle, &[("0", &bytes)], Stored);
        assert_eq!(
            read("pytorch_model.bin", zipped).unwrap(),
            values,
            "{class}"
        );
        let old = torch::legacy(&pickle, &[("0", 4, &bytes)]);
        assert_eq!(read("pytorch_model.bin", old).unwrap(), values, "{class}");
    }
    let ids = TensorView::new(Dtype::I64, vec![2, 2], &[0; 32]).unwrap();
    let safe = safetensors::serialize([("w", ids)], None).unwrap();
    let found = read("model.safetensors", safe).unwrap_err();
    assert!(
        found.contains("tensor \"w\" holds I64, expected floats"),
        "{found}"
    );
}

/// A header of 640 bytes is written as a pickle's first two are.
#[test]
fn a_header_that_begins_like_a_pickle_is_still_a_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let header = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let header = format!("{header:640}");
    let bytes = [
        &640_u64.to_le_bytes()[..],
        header.as_bytes(),
        &1.5_f32.to_le_bytes(),
    ]
    .concat();
    assert!(bytes.starts_with(b"\x80\x02"));
    fs::write(&path, bytes).unwrap();
    let mut out = [0.0];
    let weights = Weights::open(&[path]).unwrap();
    weights.read("w", 0..1, &mut out).unwrap();
    assert_eq!(out.map(f32::to_bits), [1.5_f32.to_bits()]);
}

#[test]
fn all_tensors_that_are_not_right_are_one_error() {
    let folder = folder("bert");
    let file = folder.path().join("model.safetensors");
    let mut all = tensors(&file);
    all.sort();
    all.retain(|(name, ..)| name != "encoder.layer.1.output.dense.bias");
    for (name, shape, bytes) in &mut all {
        if name == "encoder.layer.0.intermediate.dense.weight" {
            shape[0] -= 1;
            bytes.truncate(shape[0] * shape[1] * 4);
        }
    }
    all.push((
        "encoder.layer.2.output.dense.bias".to_owned(),
        vec![24],
        vec![0; 96],
    ));
    write(&file, &all);
    assert_eq!(
        fault(folder.path()),
        "FOLDER: 3 faults\n  \
         tensor \"encoder.layer.0.intermediate.dense.weight\": expected [36, 24], found [35, 24]\n  \
         tensor \"encoder.layer.1.output.dense.bias\": expected [24], found nothing\n  \
         tensor \"encoder.layer.2.output.dense.bias\": not expected, found [24]"
    );
    // The same of a torch file.
    fs::remove_file(file).unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), saved(&all, false)).unwrap();
    assert!(fault(folder.path()).contains("3 faults"));
}

#[test]
fn all_tensors_of_a_dense_step_that_are_not_right_are_one_error() {
    let folder = folder("sentence");
    let file = folder.path().join("2_Dense/model.safetensors");
    let other = ("linear.w".to_owned(), vec![1], vec![0; 4]);
    let bias = ("linear.bias".to_owned(), vec![2], vec![0; 8]);
    write(&file, &[other, bias]);
    let opened = TextEncoder::open(folder.path(), Options::default());
    let error = opened.map(|_| ()).unwrap_err().to_string();
    let (_, found) = error.split_once("model.safetensors: ").unwrap();
    assert_eq!(
        found,
        "3 faults\n  tensor \"linear.weight\": expected [16, 72], found nothing\n  \
         tensor \"linear.bias\": expected [16], found [2]\n  tensor \"linear.w\": not expected, found [1]"
    );
}
