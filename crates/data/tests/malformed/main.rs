//! Damaged files are refused or read, and nothing else happens.
//!
//! The same parsers and corpora serve the fuzz targets in `fuzz/`, which search deeper but need another compiler.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod corpus;
mod parser;

use std::time::{Duration, Instant};

use corpus::corpus;
use parser::{PARSERS, Parser};

const FILES: usize = 10_000;
const SEED: u64 = 20_111_209;

/// Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) as usize % end.max(1)
    }
}

/// What formats count, quote, escape and end with, and numbers where they overflow.
const JUNK: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b",",
    b"\\",
    b"{",
    b"[[[[[[[[",
    b"}",
    b"null",
    b"PAR1",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xef\xbb\xbf",
    b"\xc3",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"99999999999999999999999999999999999999999999",
    b"1e999",
    b"NaN",
    b"-9999-01-01",
    b"9999-12-31T23:59:60Z",
    b"\x1f\x8b\x08\x00",
    b"\x28\xb5\x2f\xfd",
    b"\\ud800",
];

/// One to four injuries to one of `files`.
fn damaged(files: &[Vec<u8>], random: &mut SplitMix) -> Vec<u8> {
    let mut bytes = files[random.below(files.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.below(256) as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = (at + 1 + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let other = &files[random.below(files.len())];
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            5 => {
                let end = (at + random.below(32)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let junk = JUNK[random.below(JUNK.len())].iter().copied();
                bytes.splice(at..at, junk);
            }
        }
    }
    bytes
}

fn throw_damaged_files_at(parser: Parser) {
    const SLOWEST: Duration = Duration::from_secs(10);
    let folder = tempfile::tempdir().unwrap();
    let files = corpus(parser);
    let mut random = SplitMix(SEED);
    let mut accepted = 0;
    for number in 0..FILES {
        let bytes = damaged(&files, &mut random);
        let start = Instant::now();
        let outcome = std::panic::catch_unwind(|| parser.run(&bytes, folder.path()));
        let took = start.elapsed();
        assert!(
            outcome.is_ok() && took < SLOWEST,
            "{parser:?}, file {number}: {outcome:?} after {took:?}: {bytes:?}"
        );
        accepted += usize::from(outcome.is_ok_and(|accepted| accepted));
    }
    // Where all or none are accepted the damage does not reach the parser's choices.
    assert!(
        (FILES / 100..FILES * 99 / 100).contains(&accepted),
        "{parser:?} accepted {accepted} of {FILES}"
    );
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
