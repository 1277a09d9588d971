//! The CPU engine against what the authors' code gives, layer by layer: every folder of `golden/`, which
//! `tools/golden/encoders.py` makes.

use std::fs;
use std::path::{Path, PathBuf};

use cloze_kernels::Isa;
use cloze_runtime::cpu::{CpuEngine, Options};
use cloze_runtime::golden::{Difference, Golden};
use cloze_runtime::weights::Weights;
use cloze_spec::hugging_face::Folder;

/// Largest difference of any value, per root mean square of its stage. The references are of float64, so what is measured
/// is the engine's own rounding, 5e-6 at most; the authors' code in float32 is off by as much. Two kinds of GELU differ
/// by 4e-4.
const LARGEST: f32 = 2e-5;
/// The same of all values together, which rounding moves by about 1e-6.
const RMS: f32 = 4e-6;

/// The folders that `tools/golden/encoders.py` made.
fn folders() -> Vec<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = fs::read_dir(&home).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn engine(folder: &Path, isa: Isa) -> Result<CpuEngine, String> {
    let shown = |e: &dyn std::fmt::Display| e.to_string();
    let settings = Folder::read(folder).map_err(|e| shown(&e))?;
    let weights = Weights::open(&settings.weights).map_err(|e| shown(&e))?;
    let resolved = settings.resolve(&weights.shapes());
    let resolved = resolved.map_err(|e| shown(&e))?;
    let options = Options {
        threads: Some(1),
        isa: Some(isa),
        ..Options::default()
    };
    let engine = CpuEngine::new(resolved.encoder, options, &mut |parameter, out| {
        let source = resolved
            .parameters
            .iter()
            .find(|s| s.parameter == *parameter);
        let mut rest = out;
        for piece in &source.unwrap().pieces {
            let row: usize = weights.shapes()[&piece.tensor].iter().skip(1).product();
            let (here, after) = rest.split_at_mut(piece.rows.len() * row);
            weights.read(&piece.tensor, piece.rows.clone(), here)?;
            rest = after;
        }
        assert!(rest.is_empty(), "{}: pieces fill it", parameter.name);
        Ok(())
    });
    engine.map_err(|e| shown(&e))
}

fn compare(folder: &Path, isa: Isa) -> Result<Vec<Difference>, String> {
    let golden = Golden::read(&folder.join("golden.safetensors")).map_err(|e| e.to_string())?;
    let differences = golden.compare(&engine(folder, isa)?);
    let differences = differences.map_err(|e| e.to_string())?;
    if differences.is_empty() && golden.embeddings.is_empty() {
        return Err("the reference has nothing to compare".to_owned());
    }
    Ok(differences)
}

/// What is wrong with a folder, one fault a line.
fn faults(folder: &Path, isa: Isa) -> Vec<String> {
    let name = folder.file_name().unwrap().to_string_lossy();
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
    let on = |isa: Isa| {
        println!("{isa:?}");
        let faults = folders.iter().flat_map(move |folder| faults(folder, isa));
        faults.map(move |fault| format!("{isa:?}: {fault}"))
    };
    let faults: Vec<String> = Isa::available().into_iter().flat_map(on).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_not_right_shows() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let golden = Golden::read(&home.join("bert-qa/golden.safetensors")).unwrap();
    // Two models of the same shape.
    let other = engine(&home.join("bert"), Isa::detect()).unwrap();
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
        ("\"golden 1\"", "\"golden 2\"", "golden 2"),
        ("\"offsets\"", "\"offsetz\"", "offsets do not ascend"),
        ("\"I32\"", "\"F32\"", "expected I32"),
    ] {
        let at = whole.windows(from.len()).position(|w| w == from.as_bytes());
        let at = at.unwrap();
        let mut damaged = whole.clone();
        damaged[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(&path, damaged).unwrap();
        let found = message(&path);
        assert!(found.contains(expected), "{found}");
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    message(&path);
}
