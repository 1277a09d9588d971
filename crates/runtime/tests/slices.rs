//! A batch is cut into slices and a long text into groups of heads; neither changes a bit.

use std::fs;
use std::path::Path;

use cloze_runtime::cpu::{CpuEngine, Options, Parameters, Storage};
use cloze_runtime::model::{Checkpoint, open};
use cloze_runtime::weights::Table;
use cloze_runtime::{Batch, Engine, Error, Rows};
use cloze_spec::Encoder;
use cloze_spec::encoder::Layer;
use cloze_spec::inventory::Parameter;

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn batch(lens: &[usize], vocab: usize) -> Batch {
    let mut batch = Batch::new();
    for (index, &len) in lens.iter().enumerate() {
        let token = |at: usize| ((at * at + 5 * at + 3 * index) % vocab) as u32;
        batch.push(&(0..len).map(token).collect::<Vec<_>>(), &[]);
    }
    batch
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// All rows, and some, of a batch are what every sequence gives alone, on any number of threads.
fn check(engine: &dyn Engine, lens: &[usize], what: &str) {
    let (vocab, width) = (engine.encoder().embed.vocab, engine.encoder().width);
    let all = batch(lens, vocab);
    let run = |batch: &Batch, rows: Rows<'_>| {
        let mut vectors = Vec::new();
        engine.run(batch, rows, &mut vectors).expect("it fits");
        bits(&vectors)
    };
    let mut alone = Vec::new();
    for index in 0..all.len() {
        let mut one = Batch::new();
        one.push(&all.tokens[all.range(index)], &[]);
        alone.extend(run(&one, Rows::All));
    }
    // Every seventh token, and none of the fourth sequence.
    let left_out = all.range(3);
    let some: Vec<u32> = (0..all.tokens.len() as u32)
        .step_by(7)
        .filter(|&row| !left_out.contains(&(row as usize)))
        .collect();
    let wanted: Vec<u32> = some
        .iter()
        .flat_map(|&row| &alone[row as usize * width..][..width])
        .copied()
        .collect();
    for threads in 1..4 {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads").install(|| {
            assert!(run(&all, Rows::All) == alone, "{what}, {threads} threads");
            assert!(
                run(&all, Rows::Some(&some)) == wanted,
                "{what}, {threads} threads, some"
            );
        });
    }
}

#[test]
fn a_batch_of_several_slices_gives_what_its_sequences_give_alone() {
    let folders = fs::read_dir(golden("")).expect("the folder is there");
    for folder in folders {
        let folder = folder.expect("it can be listed").path();
        for storage in [Storage::F32, Storage::Int8] {
            let options = Options {
                storage,
                ..Options::default()
            };
            let (_, engine) = open(&folder, options).expect("a model");
            let longest = engine.encoder().max_len;
            let lens: Vec<usize> = (0..80).map(|i| 1 + i * i % longest.min(25)).collect();
            check(&engine, &lens, &format!("{} {storage:?}", folder.display()));
        }
    }
}

/// Numbers that look random, the same for a name.
struct Made;

impl Parameters for Made {
    fn read(&self, parameter: &Parameter, out: &mut [f32]) -> Result<(), Error> {
        let mut state = parameter.name.len() as u32;
        for x in out {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *x = (state >> 8) as f32 / (1 << 25) as f32 - 0.25;
        }
        Ok(())
    }

    fn table(&self, _: &Parameter) -> Option<Table> {
        None
    }
}

#[test]
fn a_long_text_gives_the_same_beside_short_ones_and_in_groups_of_heads() {
    let checkpoint = Checkpoint::open(&golden("modernbert-v5")).expect("a model");
    let mut encoder: Encoder = checkpoint.encoder;
    encoder.head = None;
    encoder.max_len = 12_000;
    encoder.layers.truncate(2);
    for layer in &mut encoder.layers {
        let Layer::Attention(layer) = layer else {
            panic!("expected attention")
        };
        // Each head is a group at 12,000 tokens, whatever the instruction set.
        (layer.attention.heads, layer.attention.head_width) = (4, 32);
        layer.attention.window = Some(3);
    }
    let engine = CpuEngine::new(encoder, Options::default(), &Made).expect("it runs");
    check(&engine, &[7, 12_000, 600, 30, 513, 1, 512], "long");
    // A text of few tokens has all heads side by side; of a long one, the first tokens see the same.
    let long = batch(&[12_000], engine.encoder().embed.vocab);
    let mut short = Batch::new();
    short.push(&long.tokens[..600], &[]);
    let (mut of_long, mut of_short) = (Vec::new(), Vec::new());
    engine.run(&long, Rows::All, &mut of_long).expect("it fits");
    engine
        .run(&short, Rows::All, &mut of_short)
        .expect("it fits");
    let seen = 500 * engine.encoder().width;
    assert!(bits(&of_long[..seen]) == bits(&of_short[..seen]));
}
