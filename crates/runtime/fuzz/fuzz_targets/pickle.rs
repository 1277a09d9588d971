#![no_main]

use cloze_runtime_fuzz::{parser::Parser, run};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| run(Parser::Pickle, bytes));
