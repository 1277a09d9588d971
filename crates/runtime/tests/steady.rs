//! A warm engine asks the allocator for nothing. Alone in its program: the count is of every thread.

use std::alloc::System;
use std::fs;
use std::path::Path;

use cap::Cap;
use cloze_runtime::cpu::{Options, Storage};
use cloze_runtime::model::open;
use cloze_runtime::{Batch, Engine, Rows};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

#[test]
fn a_second_run_allocates_nothing() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folders = fs::read_dir(home).expect("the folder is there");
    for folder in folders {
        let folder = folder.expect("it can be listed").path();
        for storage in [Storage::F32, Storage::Int8] {
            let options = Options {
                threads: Some(1),
                storage,
                ..Options::default()
            };
            let (_, engine) = open(&folder, options).expect("a model");
            let (vocab, longest) = (engine.encoder().embed.vocab, engine.encoder().max_len);
            let mut batch = Batch::new();
            for len in [longest.min(40), 1, longest.min(17)] {
                let tokens: Vec<u32> = (0..len).map(|i| (i * 7 % vocab) as u32).collect();
                batch.push(&tokens, &[]);
            }
            let firsts = batch.offsets[..batch.len()].to_vec();
            let mut vectors = Vec::new();
            let before = ALLOCATOR.total_allocated();
            engine
                .run(&batch, Rows::All, &mut vectors)
                .expect("it fits");
            assert!(
                ALLOCATOR.total_allocated() > before,
                "what a first run needs is counted"
            );
            for rows in [Rows::All, Rows::Some(&firsts)] {
                engine.run(&batch, rows, &mut vectors).expect("it fits");
                let before = ALLOCATOR.total_allocated();
                engine.run(&batch, rows, &mut vectors).expect("it fits");
                assert_eq!(
                    ALLOCATOR.total_allocated() - before,
                    0,
                    "bytes: {}, {storage:?}, {rows:?}",
                    folder.display()
                );
            }
        }
    }
}
