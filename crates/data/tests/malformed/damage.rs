//! Injuries to files, the same for the same seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

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
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x80\x02}(",
    b"[0,18446744073709551615]",
    b"\"__metadata__\":{},",
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

/// Runs a parser on damaged `files`: it says whether it accepts them, and never panics or hangs.
pub fn throw_damaged(name: &str, files: &[Vec<u8>], run: impl Fn(&[u8]) -> bool) {
    const SLOWEST: Duration = Duration::from_secs(10);
    let mut random = SplitMix(SEED);
    let mut accepted = 0;
    for number in 0..FILES {
        let bytes = damaged(files, &mut random);
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&bytes)));
        let took = start.elapsed();
        assert!(
            outcome.is_ok() && took < SLOWEST,
            "{name}, file {number}: {outcome:?} after {took:?}: {bytes:?}"
        );
        accepted += usize::from(outcome.is_ok_and(|accepted| accepted));
    }
    // Where all or none are accepted the damage does not reach the parser's choices.
    assert!(
        (FILES / 100..FILES * 99 / 100).contains(&accepted),
        "{name} accepted {accepted} of {FILES}"
    );
}
