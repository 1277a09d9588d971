//! A vocabulary stays in its file. Alone in its program: the allocator's count is of every thread.

use std::alloc::System;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cap::Cap;
use cloze_runtime::cpu::Options;
use cloze_runtime::model::open;
use cloze_runtime::{Batch, Engine, Rows};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize_to_file};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const TABLE: &str = "embeddings.word_embeddings.weight";
const ROWS: usize = 50_000;
/// Beside the packed weights: biases and norms, positions, names and shapes, the pool of threads.
const BESIDE_BYTES: usize = 512 << 10;

/// The small BERT of the golden tests in `to`, its vocabulary made `ROWS` long; returns the bytes of that.
fn enlarged(to: &Path, dtype: Dtype) -> usize {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bert");
    let config = fs::read_to_string(from.join("config.json")).expect("a copy of the golden model");
    let mut config: serde_json::Value =
        serde_json::from_str(&config).expect("a copy of the golden model");
    config["vocab_size"] = ROWS.into();
    fs::write(to.join("config.json"), config.to_string()).expect("a copy of the golden model");

    let file = fs::read(from.join("model.safetensors")).expect("a copy of the golden model");
    let known = SafeTensors::deserialize(&file).expect("a copy of the golden model");
    let mut tensors: BTreeMap<String, TensorView> = known.tensors().into_iter().collect();
    let name = tensors.keys().find(|name| name.ends_with(TABLE));
    let name = name.expect("a table of tokens").clone();
    let width = tensors[&name].shape()[1];
    let value = |i: usize| (i * 37 % 101) as f32 * 0.01 - 0.5;
    let values = (0..ROWS * width).map(value);
    let bytes: Vec<u8> = match dtype {
        Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
        _ => values
            .flat_map(|x| half::bf16::from_f32(x).to_le_bytes())
            .collect(),
    };
    let table =
        TensorView::new(dtype, vec![ROWS, width], &bytes).expect("a copy of the golden model");
    tensors.insert(name, table);
    serialize_to_file(tensors, None, &to.join("model.safetensors"))
        .expect("a copy of the golden model");
    bytes.len()
}

#[test]
fn a_vocabulary_is_read_where_its_file_has_it() {
    let mut batch = Batch::new();
    batch.push(&[3, ROWS as u32 - 1, 77], &[]);
    let mut all = Vec::new();
    for dtype in [Dtype::F32, Dtype::BF16] {
        let folder = tempfile::tempdir().unwrap();
        let table = enlarged(folder.path(), dtype);
        let before = ALLOCATOR.allocated();
        let (_, engine) = open(folder.path(), Options::default()).unwrap();
        let held = ALLOCATOR.allocated() - before;
        let weights = engine.weight_bytes();
        assert!(
            weights > table,
            "{dtype:?}: {weights} bytes in all, the table {table}"
        );
        assert!(
            held <= weights - table + BESIDE_BYTES,
            "{dtype:?}: {held} bytes held, {weights} in all, the table {table}"
        );
        let mut vectors = Vec::new();
        engine.run(&batch, Rows::All, &mut vectors).unwrap();
        all.push(vectors);
    }
    // Rounded to eight bits, rows of the table are the same but for a hundredth.
    let far = all[0].iter().zip(&all[1]).map(|(x, y)| (x - y).abs());
    assert!(far.fold(0.0, f32::max) < 0.05);
}
