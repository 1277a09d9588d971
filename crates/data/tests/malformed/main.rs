//! Damaged files are refused or read, and nothing else happens.
//!
//! The same parsers and corpora serve the fuzz targets in `fuzz/`, which search deeper but need another compiler.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod corpus;
mod damage;
mod parser;

use corpus::corpus;
use damage::throw_damaged;
use parser::{PARSERS, Parser};

fn throw_damaged_files_at(parser: Parser) {
    let folder = tempfile::tempdir().unwrap();
    let run = |bytes: &[u8]| parser.run(bytes, folder.path());
    throw_damaged(parser.name(), &corpus(parser), run);
}

#[test]
fn undamaged_files_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for parser in PARSERS {
        let files = corpus(parser);
        let accepted = files
            .iter()
            .filter(|bytes| parser.run(bytes, folder.path()))
            .count();
        assert!(accepted > 0, "{parser:?} accepted none of {}", files.len());
    }
}

#[test]
fn no_damaged_csv_panics() {
    throw_damaged_files_at(Parser::Csv);
}

#[test]
fn no_damaged_json_lines_panic() {
    throw_damaged_files_at(Parser::Jsonl);
}

#[test]
fn no_damaged_parquet_panics() {
    throw_damaged_files_at(Parser::Parquet);
}

#[test]
fn no_damaged_pairs_panic() {
    throw_damaged_files_at(Parser::Pairs);
}

#[test]
fn no_damaged_titles_panic() {
    throw_damaged_files_at(Parser::Titles);
}

#[test]
fn no_damaged_vocabulary_panics() {
    throw_damaged_files_at(Parser::ItemsParquet);
}

#[test]
fn no_damaged_histories_panic() {
    throw_damaged_files_at(Parser::Histories);
}

#[test]
fn no_damaged_time_panics() {
    throw_damaged_files_at(Parser::Times);
}

#[test]
fn no_damaged_csv_of_texts_panics() {
    throw_damaged_files_at(Parser::TextsCsv);
}

#[test]
fn no_damaged_json_lines_of_texts_panic() {
    throw_damaged_files_at(Parser::TextsJsonl);
}

#[test]
fn no_damaged_tokenizer_panics() {
    throw_damaged_files_at(Parser::TokenizerJson);
}

#[test]
fn no_damaged_word_pieces_panic() {
    throw_damaged_files_at(Parser::WordPieces);
}

#[test]
fn no_damaged_byte_pairs_panic() {
    throw_damaged_files_at(Parser::BytePairs);
}

#[test]
fn no_damaged_tokenizer_settings_panic() {
    throw_damaged_files_at(Parser::TokenizerConfig);
}

#[test]
fn no_damaged_sentence_panics() {
    throw_damaged_files_at(Parser::Conll);
}

#[test]
fn no_damaged_question_panics() {
    throw_damaged_files_at(Parser::Squad);
}
