//! The CPU engine against what the authors' code gives, layer by layer: every folder of `golden/`, which
//! `tools/golden/encoders.py` makes.

use std::fs;
use std::path::{Path, PathBuf};

use cloze_kernels::Isa;
use cloze_runtime::cpu::{CpuEngine, Options};
use cloze_runtime::golden::{Difference, Golden, Text};
use cloze_runtime::model::{TextEncoder, open};
use cloze_runtime::predict::Predictor;
use cloze_spec::encoder::Activation;
use cloze_spec::hugging_face::ScoreActivation;

/// Largest difference of any value, per root mean square of its stage. The references are of float64, so what is measured
/// is the engine's own rounding, 4e-6 at most; the authors' code in float32 is off by as much. Two kinds of GELU differ
/// by 4e-4.
const LARGEST: f32 = 2e-5;
/// The same of all values together, which rounding moves by 1e-6 at most.
const RMS: f32 = 4e-6;

/// The folders that `tools/golden/encoders.py` made.
fn folders() -> Vec<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = fs::read_dir(&home).expect("the folder is there");
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    folders.sort();
    folders
}

fn engine(folder: &Path, isa: Option<Isa>) -> Result<CpuEngine, String> {
    let options = Options {
        threads: Some(1),
        isa,
        ..Options::default()
    };
    let opened = open(folder, options).map_err(|e| e.to_string())?;
    Ok(opened.1)
}

fn compare(folder: &Path, isa: Option<Isa>) -> Result<Vec<Difference>, String> {
    let golden = Golden::read(&folder.join("golden.safetensors")).map_err(|e| e.to_string())?;
    golden
        .compare(&engine(folder, isa)?)
        .map_err(|e| e.to_string())
}

/// What is wrong with a folder, one fault a line.
fn faults(folder: &Path, isa: Option<Isa>) -> Vec<String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let differences = match compare(folder, isa) {
        Ok(differences) => differences,
        Err(e) => return vec![format!("{name}: {e}")],
    };
    let largest = differences.iter().map(|d| d.largest).fold(0.0, f32::max);
    let rms = differences.iter().map(|d| d.rms).fold(0.0, f32::max);
    println!("{name:24} largest {largest:.1e}, rms {rms:.1e}");
    let far = |d: &&Difference| d.largest > LARGEST || d.rms > RMS;
    let fault = |d: &Difference| {
        let (stage, largest, rms) = (&d.stage, d.largest, d.rms);
        format!("{name}: {stage} is off by {largest:.1e}, rms {rms:.1e}")
    };
    differences.iter().filter(far).map(fault).collect()
}

#[test]
fn every_family_gives_what_its_authors_code_gives() {
    let folders = folders();
    assert!(folders.len() >= 50, "{} folders", folders.len());
    let faults: Vec<String> = folders.iter().flat_map(|f| faults(f, None)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_family_gives_the_same_without_vector_instructions() {
    let scalar = |folder: &PathBuf| faults(folder, Some(Isa::Scalar));
    let faults: Vec<String> = folders().iter().flat_map(scalar).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Largest difference of an embedding's value: of unit vectors, or of values about 1.
const EMBEDDING: f32 = 1e-5;

#[test]
fn sentence_folders_give_the_embeddings_of_sentence_transformers() {
    let mut compared = 0;
    for folder in folders() {
        let golden = Golden::read(&folder.join("golden.safetensors")).unwrap();
        if golden.embeddings.is_empty() {
            continue;
        }
        let model = TextEncoder::open(&folder, Options::default()).unwrap();
        let texts = golden.texts.iter().map(|text| match text {
            Text::One(text) => text.as_str(),
            Text::Pair(..) => panic!("sentence folders take one text"),
        });
        let mut encodings = Vec::new();
        for (index, text) in texts.enumerate() {
            let prompt = golden.prompts.get(index).cloned().flatten();
            encodings.push(model.encode(text, prompt.as_deref()).unwrap());
            let place = golden.batch.range(index);
            assert_eq!(
                encodings[index].ids, golden.batch.tokens[place],
                "{folder:?}: {text:?}"
            );
        }
        let encodings: Vec<_> = encodings.iter().collect();
        let found = model.embed(&encodings).unwrap();
        assert_eq!(found.len(), golden.embeddings.len(), "{folder:?}");
        for (found, wanted) in found.iter().zip(&golden.embeddings) {
            let scale = wanted.abs().max(1.0);
            assert!(
                (found - wanted).abs() <= EMBEDDING * scale,
                "{folder:?}: {found}, not {wanted}"
            );
        }
        let alone = model.embed(&encodings[2..3]).unwrap();
        let dimensions = model.dimensions();
        assert_eq!(
            alone,
            found[2 * dimensions..3 * dimensions],
            "{folder:?}: neighbours change it"
        );
        compared += 1;
    }
    assert!(compared >= 4, "{compared} folders with embeddings");
}

#[test]
fn cross_encoders_give_the_scores_of_sentence_transformers() {
    let mut compared = 0;
    for folder in folders() {
        let golden = Golden::read(&folder.join("golden.safetensors")).unwrap();
        if golden.scores.is_empty() {
            continue;
        }
        let open = || match Predictor::open(&folder, Options::default()).unwrap() {
            Predictor::Classifier(model) => model,
            _ => panic!("{folder:?} labels pairs"),
        };
        let found = golden.compare_scores(&open()).unwrap();
        assert!(found.largest <= LARGEST, "{folder:?}: {found:?}");
        let mut other = open();
        other.activation = match other.activation {
            ScoreActivation::Each(Activation::Identity) => ScoreActivation::Softmax,
            _ => ScoreActivation::Each(Activation::Identity),
        };
        let found = golden.compare_scores(&other).unwrap();
        assert!(found.largest > 0.01, "{folder:?}: another function shows");
        let others = Golden {
            texts: golden.texts.iter().rev().cloned().collect(),
            ..golden
        };
        let error = others.compare_scores(&open()).unwrap_err();
        assert!(error.to_string().contains("the tokenizer gives"), "{error}");
        compared += 1;
    }
    assert!(compared >= 4, "{compared} folders with scores");
}

#[test]
fn what_is_not_right_shows() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let golden = Golden::read(&home.join("bert-qa/golden.safetensors")).unwrap();
    // Two models of the same shape.
    let other = engine(&home.join("bert"), None).unwrap();
    let differences = golden.compare(&other);
    assert!(differences.is_err(), "a pooler gives no spans");
    let without_head = Golden {
        logits: Vec::new(),
        ..golden
    };
    let differences = without_head.compare(&other).unwrap();
    assert_eq!(differences.len(), 4, "embedding, two layers, output");
    assert!(differences.iter().all(|d| d.largest > 0.1));
}

#[test]
fn files_that_are_no_references_are_refused() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bert");
    let message = |path: &Path| Golden::read(path).unwrap_err().to_string();
    let weights = message(&home.join("model.safetensors"));
    assert!(weights.contains("expected \"golden 1\""), "{weights}");
    message(&home.join("config.json"));
    message(&home.join("absent"));

    let whole = fs::read(home.join("golden.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("golden.safetensors");
    for (from, to, expected) in [
        ("\"golden 1\"", "\"golden 2\"", "found"),
        ("\"offsets\"", "\"offsetz\"", "offsets do not ascend"),
        ("\"I32\"", "\"F32\"", "expected I32"),
    ] {
        let mut places = whole.windows(from.len());
        let at = places.position(|bytes| bytes == from.as_bytes()).unwrap();
        let mut damaged = whole.clone();
        damaged[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(&path, damaged).unwrap();
        let found = message(&path);
        let expected = if expected == "found" {
            "golden 2"
        } else {
            expected
        };
        assert!(found.contains(expected), "{found}");
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    message(&path);
}
