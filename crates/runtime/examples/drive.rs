//! One side of `bench/inference`: runs an encoder when told to and says how long each run took.
//!
//! The protocol is in `bench/inference/README.md`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use cloze_runtime::cpu::{Options, Storage};
use cloze_runtime::model::open;
use cloze_runtime::{Batch, Engine, Rows};

/// Batches of sequences of token ids, by name.
type Cases = BTreeMap<String, Vec<Vec<Vec<u32>>>>;

fn storage(name: &str) -> Storage {
    match name {
        "f32" => Storage::F32,
        "f16" => Storage::F16,
        "bf16" => Storage::Bf16,
        "int8" => Storage::Int8,
        other => panic!("--storage: expected f32, f16, bf16 or int8, found {other}"),
    }
}

fn packed(sequences: &[Vec<u32>]) -> Batch {
    let mut batch = Batch::new();
    for sequence in sequences {
        batch.push(sequence, &[]);
    }
    batch
}

/// Peak of resident memory, where the system tells.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn main() -> Result<(), Box<dyn Error>> {
    let base_mib = peak_mib();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        let value = at.and_then(|at| arguments.get(at + 1));
        value
            .unwrap_or_else(|| panic!("{name} is missing"))
            .as_str()
    };
    let options = Options {
        threads: Some(argument("--threads").parse()?),
        storage: storage(argument("--storage")),
        ..Options::default()
    };
    let cases: Cases = serde_json::from_slice(&fs::read(argument("--cases"))?)?;
    let batches =
        |batches: &Vec<Vec<Vec<u32>>>| batches.iter().map(|batch| packed(batch)).collect();
    let cases: BTreeMap<&str, Vec<Batch>> = cases
        .iter()
        .map(|(name, case)| (name.as_str(), batches(case)))
        .collect();
    let (_, engine) = open(Path::new(argument("--model")), options)?;
    let width = engine.encoder().width;
    let mut vectors = Vec::new();
    let mut out = std::io::stdout();
    writeln!(
        out,
        "ready base_mib={base_mib} name=cloze-{}",
        env!("CARGO_PKG_VERSION")
    )?;
    out.flush()?;

    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["run", case, times] => {
                let mut ms = Vec::new();
                for _ in 0..times.parse()? {
                    let start = Instant::now();
                    for batch in &cases[case] {
                        engine.run(batch, Rows::All, &mut vectors)?;
                    }
                    ms.push(format!("{:.4}", start.elapsed().as_secs_f64() * 1e3));
                }
                writeln!(out, "ms={}", ms.join(","))?;
            }
            ["write", case, path] => {
                let mut file = BufWriter::new(File::create(path)?);
                for batch in &cases[case] {
                    engine.run(batch, Rows::All, &mut vectors)?;
                    for value in &vectors {
                        file.write_all(&value.to_le_bytes())?;
                    }
                }
                file.flush()?;
                writeln!(out, "width={width}")?;
            }
            _ => panic!("expected \"run CASE TIMES\" or \"write CASE FILE\", found {line:?}"),
        }
        out.flush()?;
    }
    Ok(())
}
