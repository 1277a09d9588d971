//! What running takes beside the weights. Alone in its program: the count is of every thread.

use std::alloc::System;
use std::path::Path;

use cap::Cap;
use cloze_runtime::cpu::{CpuEngine, Options, Parameters};
use cloze_runtime::model::Checkpoint;
use cloze_runtime::weights::Table;
use cloze_runtime::{Batch, Engine, Error, Rows};
use cloze_spec::encoder::{Layer, Position};
use cloze_spec::inventory::Parameter;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Every parameter is a little.
struct Same;

impl Parameters for Same {
    fn read(&self, _: &Parameter, out: &mut [f32]) -> Result<(), Error> {
        out.fill(0.01);
        Ok(())
    }

    fn table(&self, _: &Parameter) -> Option<Table> {
        None
    }
}

#[test]
fn a_text_of_8192_tokens_takes_60_mib_in_the_shape_of_modernbert_base() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/modernbert-v5");
    let mut encoder = Checkpoint::open(&folder).expect("a model").encoder;
    (encoder.width, encoder.embed.width, encoder.max_len) = (768, 768, 8192);
    encoder.head = None;
    // What is between layers is the same memory for all of them.
    encoder.layers.truncate(1);
    for layer in &mut encoder.layers {
        let Layer::Attention(layer) = layer else {
            panic!("expected attention")
        };
        (layer.attention.heads, layer.attention.head_width) = (12, 64);
        layer.attention.window = Some(64);
        layer.ffn.width = 1152;
        if let Position::Rotary(rotary) = &mut layer.attention.position {
            rotary.frequencies = vec![0.1; 32];
        }
    }
    let options = Options {
        threads: Some(2),
        ..Options::default()
    };
    let engine = CpuEngine::new(encoder, options, &Same).expect("it runs");
    let mut batch = Batch::new();
    batch.push(&vec![3; 8192], &[]);
    let before = ALLOCATOR.allocated();
    let limit = before + (60 << 20);
    // Past it, an allocation fails and so does the test.
    ALLOCATOR.set_limit(limit).expect("less is allocated");
    let mut vectors = Vec::new();
    engine
        .run(&batch, Rows::All, &mut vectors)
        .expect("it fits");
    assert_eq!(vectors.len(), 8192 * 768);
}
