#![no_main]

use cloze_data_fuzz::{parser::Parser, run};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| run(Parser::Conll, bytes));
