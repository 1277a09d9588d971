//! Damaged and hostile model folders are refused or read, and nothing else happens.
//!
//! The same parsers and corpora serve the fuzz targets in `fuzz/`, which search deeper but need another compiler.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod corpus;
#[path = "../../../data/tests/malformed/damage.rs"]
mod damage;
mod hostile;
mod parser;
mod torch;

use std::alloc::System;
use std::sync::{Mutex, PoisonError};

use cap::Cap;
use corpus::corpus;
use damage::throw_damaged;
use parser::{PARSERS, Parser};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Memory is counted for the whole process: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Runs a parser, and checks what it asks of memory, all in all.
fn run(parser: Parser, bytes: &[u8], folder: &std::path::Path) -> bool {
    // Of every byte of a file some make a header's entries, and a value of 2 bytes becomes one of 4, read twice.
    let per_byte = 256;
    let fixed = match parser {
        Parser::Safetensors | Parser::Torch | Parser::Pickle | Parser::Index => 4 << 20,
        // What settings describe is bounded by itself, and the weights are not in the bytes.
        Parser::Config | Parser::Model | Parser::Sentence | Parser::Golden => 64 << 20,
    };
    let before = ALLOCATOR.total_allocated();
    let accepted = parser.run(bytes, folder);
    let asked = ALLOCATOR.total_allocated() - before;
    let most = per_byte * bytes.len() + fixed;
    assert!(
        asked <= most,
        "{asked} bytes for {} of a file, at most {most}",
        bytes.len()
    );
    accepted
}

fn throw_damaged_files_at(parser: Parser) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let run = |bytes: &[u8]| run(parser, bytes, folder.path());
    throw_damaged(parser.name(), &corpus(parser), run);
}

#[test]
fn undamaged_files_are_accepted() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    for parser in PARSERS {
        for (number, bytes) in corpus(parser).iter().enumerate() {
            assert!(
                run(parser, bytes, folder.path()),
                "{parser:?}, file {number}"
            );
        }
    }
}

#[test]
fn no_damaged_safetensors_panic() {
    throw_damaged_files_at(Parser::Safetensors);
}

#[test]
fn no_damaged_torch_file_panics() {
    throw_damaged_files_at(Parser::Torch);
}

#[test]
fn no_damaged_pickle_panics() {
    throw_damaged_files_at(Parser::Pickle);
}

#[test]
fn no_damaged_settings_panic() {
    throw_damaged_files_at(Parser::Config);
}

#[test]
fn no_model_of_damaged_settings_panics() {
    throw_damaged_files_at(Parser::Model);
}

#[test]
fn no_damaged_sentence_folder_panics() {
    throw_damaged_files_at(Parser::Sentence);
}

#[test]
fn no_damaged_index_panics() {
    throw_damaged_files_at(Parser::Index);
}

#[test]
fn no_damaged_reference_panics() {
    throw_damaged_files_at(Parser::Golden);
}
