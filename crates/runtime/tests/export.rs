//! Every family's folder, exported and opened again.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::fs;
use std::path::{Path, PathBuf};

use cloze_runtime::cpu::Options;
use cloze_runtime::export::export;
use cloze_runtime::model::{Checkpoint, TextEncoder};
use cloze_runtime::weights::Precision;
use cloze_spec::inventory::{Parameter, encoder_parameters};
use tempfile::TempDir;

fn folders() -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let all = ["golden", "pipelines"].map(|part| fs::read_dir(tests.join(part)).unwrap());
    let all = all.into_iter().flatten().map(|entry| entry.unwrap().path());
    all.filter(|path| path.is_dir()).collect()
}

fn values(checkpoint: &Checkpoint, parameter: &Parameter) -> Vec<f32> {
    let mut values = vec![0.0; parameter.shape.iter().product()];
    checkpoint.read(parameter, &mut values).unwrap();
    values
}

#[test]
fn every_folder_is_the_same_model_after_export() {
    let home = TempDir::new().unwrap();
    let mut renamed = 0;
    for (place, folder) in folders().iter().enumerate() {
        let before = Checkpoint::open(folder).unwrap();
        let out = home.path().join(place.to_string());
        let written = export(&before, None, &out).unwrap();
        let after = Checkpoint::open(&out).unwrap();
        let name = folder.display();
        assert_eq!(before.encoder, after.encoder, "{name}");
        assert_eq!(before.folder.embedder, after.folder.embedder, "{name}");
        assert_eq!(before.folder.is_sparse, after.folder.is_sparse, "{name}");
        for parameter in encoder_parameters(&before.encoder) {
            let [a, b] = [&before, &after].map(|of| values(of, &parameter));
            assert!(a == b, "{name}: {}", parameter.name);
        }
        assert_eq!(
            before.folder.tokenizer.len(),
            after.folder.tokenizer.len(),
            "{name}"
        );
        assert!(written.files.iter().all(|file| out.join(file).is_file()));
        let weights = fs::read(&after.folder.weights[0]).unwrap();
        assert!(after.folder.weights[0].ends_with("model.safetensors"));
        assert!(!String::from_utf8_lossy(&weights).contains(".gamma\""));
        renamed += usize::from(before.folder.weights[0].ends_with("pytorch_model.bin"));
    }
    assert!(renamed > 1, "some folders have weights of PyTorch");
}

#[test]
fn narrower_values_take_half_and_are_said_in_the_settings() {
    let home = TempDir::new().unwrap();
    let folder = folders()
        .into_iter()
        .find(|path| path.ends_with("golden/sentence"));
    let before = Checkpoint::open(&folder.unwrap()).unwrap();
    let whole = export(&before, None, &home.path().join("whole")).unwrap();
    for (precision, name, error) in [
        (Precision::F16, "float16", 1e-3),
        (Precision::Bf16, "bfloat16", 1e-2),
        (Precision::F32, "float32", 0.0),
    ] {
        let out = home.path().join(name);
        let written = export(&before, Some(precision), &out).unwrap();
        let share = if precision == Precision::F32 { 1 } else { 2 };
        assert_eq!(written.bytes() * share, whole.bytes());
        let config = fs::read_to_string(out.join("config.json")).unwrap();
        assert!(config.contains(&format!("dtype\": \"{name}\"")), "{config}");
        let vector = |path: &Path| {
            let encoder = TextEncoder::open(path, Options::default()).unwrap();
            let text = encoder.encode("the cat sat", None).unwrap();
            encoder.embed(&[&text]).unwrap()
        };
        let [narrow, wide] = [&out, &home.path().join("whole")].map(|path| vector(path));
        for (narrow, wide) in narrow.iter().zip(&wide) {
            assert!((narrow - wide).abs() <= error, "{name}: {narrow} {wide}");
        }
    }
}

#[test]
fn nothing_is_written_over() {
    let home = TempDir::new().unwrap();
    let folder = &folders()[0];
    let checkpoint = Checkpoint::open(folder).unwrap();
    let error = export(&checkpoint, None, home.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("expected no such file or folder"), "{error}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}
