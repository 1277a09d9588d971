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
    // One pool for all engines: threads of pools that are gone allocate a last time, whenever they come to it.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.expect("a thread").install(check_every_folder);
}

fn check_every_folder() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folders = fs::read_dir(home).expect("the folder is there");
    for folder in folders {
        let folder = folder.expect("it can be listed").path();
        for storage in [Storage::F32, Storage::Int8] {
            let options = Options {
                storage,
                ..Options::default()
            };
            let (_, engine) = open(&folder, options).expect("a model");
            let (vocab, longest) = (engine.encoder().embed.vocab, engine.encoder().max_len);
            let mut batch = Batch::new();
            // More than one slice.
            for len in [longest.min(40), 1, longest.min(17)].repeat(20) {
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
                // What runs tests allocates now and then, an engine that allocates would each time.
                let asked = (0..8).map(|_| {
                    let before = ALLOCATOR.total_allocated();
                    engine.run(&batch, rows, &mut vectors).expect("it fits");
                    ALLOCATOR.total_allocated() - before
                });
                assert_eq!(
                    asked.min(),
                    Some(0),
                    "bytes: {}, {storage:?}, {rows:?}",
                    folder.display()
                );
            }
        }
    }
}
