//! Attention of encoders, and rotary positions, against plain loops.

mod agree;

use agree::{Odd, assert_close, assert_threads_do_not_matter, bits, numbers, wide};
use cloze_kernels::op::encode::attention::{Attention, Position, forward, forward_heads};
use cloze_kernels::op::encode::rotary::{Rotary, rotate};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// Rounding of sums of up to a thousand terms, and of an exponential good to two units in the last place.
const TOLERANCE: f64 = 5e-6;

fn offsets(lengths: &[usize]) -> Vec<u32> {
    let ends = lengths.iter().scan(0, |end, length| {
        *end += *length as u32;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

fn run(isa: Isa, shape: &Attention, qkv: &[f32]) -> Odd {
    let rows = shape.queries.map_or(
        shape.offsets[shape.offsets.len() - 1] as usize,
        <[u32]>::len,
    );
    let mut out = Odd::blank(rows * shape.heads * shape.head_width);
    forward(isa, shape, qkv, &mut out);
    out
}

/// Numbers for every kind of position.
struct Tables {
    slopes: Vec<f32>,
    bias: Vec<f32>,
    /// Vectors of 19 distances, or 9 rows for all heads.
    vectors: [Vec<f32>; 2],
    rows: Vec<u32>,
    size: usize,
}

const KINDS: usize = 8;

impl Tables {
    fn new(heads: usize, size: usize) -> Self {
        Self {
            vectors: [23, 24].map(|seed| numbers(seed, 19 * heads * size)),
            rows: (0..61).map(|distance| distance * distance % 9).collect(),
            size,
            slopes: numbers(21, heads).iter().map(|x| x.abs()).collect(),
            bias: numbers(22, heads * 21),
        }
    }

    fn position(&self, kind: usize) -> Position<'_> {
        match kind {
            0 => Position::None,
            1 => Position::Alibi {
                slopes: &self.slopes,
            },
            2 => Position::Bias { table: &self.bias },
            3 | 4 => Position::Key {
                table: &self.vectors[0][..19 * self.size],
                keys: kind == 4,
            },
            _ => Position::Disentangled {
                keys: (kind != 5).then_some(&self.vectors[0]),
                queries: (kind != 6).then_some(&self.vectors[1]),
                rows: &self.rows,
            },
        }
    }
}

fn some_of(tokens: usize, one_in: usize) -> Vec<u32> {
    (0..tokens as u32)
        .filter(|&token| {
            ((token.wrapping_mul(2_654_435_761) >> 16) as usize).is_multiple_of(one_in)
        })
        .collect()
}

fn check(
    lengths: &[usize],
    heads: usize,
    size: usize,
    kind: usize,
    window: Option<usize>,
    one_in: usize,
) {
    let offsets = offsets(lengths);
    let tables = Tables::new(heads, size);
    let tokens = lengths.iter().sum::<usize>();
    let queries = some_of(tokens, one_in);
    let shape = Attention {
        offsets: &offsets,
        heads,
        head_width: size,
        scale: 0.7,
        window,
        log_scale: Some(40),
        position: tables.position(kind),
        queries: (one_in > 1).then_some(&queries),
    };
    let qkv = Odd::new(&numbers(1, tokens * 3 * heads * size));
    let want = reference::encode::attention::forward(&shape, &wide(&qkv));
    for isa in Isa::available() {
        let what = format!("{isa:?} {lengths:?} {heads}×{size} {kind} {window:?} {one_in}");
        assert_close(&what, &run(isa, &shape, &qkv), &want, TOLERANCE);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_shape_agrees_with_loops(
        lengths in prop::collection::vec(0_usize..110, 0..4),
        heads in 1_usize..4,
        size in prop::sample::select(vec![1, 3, 7, 8, 16, 17, 20, 32, 33, 64]),
        kind in 0..KINDS,
        window in prop::option::of(0_usize..60),
        one_in in 1_usize..6,
    ) {
        check(&lengths, heads, size, kind, window, one_in);
    }
}

#[test]
fn edges_of_tiles_and_blocks_agree_with_loops() {
    for kind in 0..KINDS {
        check(&[1, 47, 0, 48, 49, 97], 2, 32, kind, None, 1);
        check(&[255, 256, 257, 1], 1, 32, kind, None, 1);
        check(&[900, 3], 2, 16, kind, None, 1);
        check(&[900, 3], 1, 24, kind, Some(64), 1);
        check(&[700, 300], 1, 128, kind, Some(300), 3);
        check(&[700, 300], 1, 64, kind, None, 97);
    }
}

#[test]
fn neighbours_threads_and_missing_queries_do_not_matter() {
    let lengths = [31, 600, 0, 5, 130, 1];
    let all = offsets(&lengths);
    let (heads, size) = (2, 20);
    let tokens = 767;
    let tables = Tables::new(heads, size);
    let qkv = numbers(7, tokens * 3 * heads * size);
    for isa in Isa::available() {
        for kind in 0..KINDS {
            for window in [None, Some(40)] {
                let shape = Attention {
                    offsets: &all,
                    heads,
                    head_width: size,
                    scale: 0.2,
                    window,
                    log_scale: Some(100),
                    position: tables.position(kind),
                    queries: None,
                };
                let width = heads * size;
                let together = bits(&run(isa, &shape, &qkv));
                assert_threads_do_not_matter("attention", || run(isa, &shape, &qkv).to_vec());
                for bounds in all.windows(2) {
                    let of = |row: usize| bounds[0] as usize * row..bounds[1] as usize * row;
                    let own = [0, bounds[1] - bounds[0]];
                    let alone = Attention {
                        offsets: &own,
                        ..shape
                    };
                    let alone = run(isa, &alone, &qkv[of(3 * width)]);
                    assert_eq!(bits(&alone), together[of(width)], "{isa:?} {kind}");
                }
                for one_in in [2, 7, 100] {
                    let queries = some_of(tokens, one_in);
                    let some = Attention {
                        queries: Some(&queries),
                        ..shape
                    };
                    let want: Vec<u32> = queries
                        .iter()
                        .flat_map(|&q| &together[q as usize * width..][..width])
                        .copied()
                        .collect();
                    assert_eq!(bits(&run(isa, &some, &qkv)), want, "{isa:?} {kind}");
                }
            }
        }
    }
}

#[test]
fn some_heads_are_those_of_all() {
    let lengths = [31, 300, 0, 5];
    let all = offsets(&lengths);
    let (heads, size, tokens) = (5, 12, 336);
    let (width, tables) = (heads * size, Tables::new(heads, size));
    let qkv = numbers(8, tokens * 3 * width);
    let queries = some_of(tokens, 3);
    for isa in Isa::available() {
        for kind in 0..KINDS {
            for queries in [None, Some(&queries[..])] {
                let shape = Attention {
                    offsets: &all,
                    heads,
                    head_width: size,
                    scale: 0.3,
                    window: Some(100),
                    log_scale: None,
                    position: tables.position(kind),
                    queries,
                };
                let together = run(isa, &shape, &qkv);
                let mut out = Odd::blank(together.len());
                for held in [1..3, 0..1, 3..5] {
                    let part = |row: &[f32], part: usize| {
                        row[part * width..][held.start * size..held.end * size].to_vec()
                    };
                    let rows = qkv.chunks(3 * width);
                    let qkv: Vec<f32> = rows
                        .flat_map(|row| [0, 1, 2].map(|of| part(row, of)).concat())
                        .collect();
                    forward_heads(isa, &shape, held, &Odd::new(&qkv), &mut out);
                }
                assert_eq!(bits(&out), bits(&together), "{isa:?} {kind}");
            }
        }
    }
}

#[test]
fn tokens_past_the_window_do_not_matter() {
    let offsets = offsets(&[700]);
    let shape = Attention {
        offsets: &offsets,
        heads: 1,
        head_width: 16,
        scale: 0.25,
        window: Some(50),
        log_scale: None,
        position: Position::None,
        queries: None,
    };
    let qkv = numbers(9, 700 * 48);
    let mut changed = qkv.clone();
    changed[400 * 48..401 * 48].fill(0.5);
    for isa in Isa::available() {
        let (before, after) = (run(isa, &shape, &qkv), run(isa, &shape, &changed));
        for token in 0..700 {
            let row = token * 16..(token + 1) * 16;
            let same = bits(&before[row.clone()]) == bits(&after[row]);
            assert_eq!(same, token.abs_diff(400) > 50, "{isa:?}: token {token}");
        }
    }
}

#[test]
fn huge_scores_stay_finite() {
    let offsets = offsets(&[600]);
    let shape = Attention {
        offsets: &offsets,
        heads: 1,
        head_width: 32,
        scale: 1.0,
        window: None,
        log_scale: None,
        position: Position::None,
        queries: None,
    };
    let qkv: Vec<f32> = numbers(11, 600 * 96).iter().map(|x| x * 1e4).collect();
    for isa in Isa::available() {
        let out = run(isa, &shape, &qkv);
        assert!(out.iter().all(|x| x.is_finite()), "{isa:?}");
    }
}

#[test]
#[should_panic(expected = "attention: length of out")]
fn wrong_lengths_are_refused() {
    let shape = Attention {
        offsets: &[0, 2],
        heads: 1,
        head_width: 4,
        scale: 0.5,
        window: None,
        log_scale: None,
        position: Position::None,
        queries: None,
    };
    forward(Isa::Scalar, &shape, &[0.0; 24], &mut [0.0; 7]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn turned_channels_agree_with_loops(
        lengths in prop::collection::vec(0_usize..40, 0..4),
        heads in 1_usize..4,
        pairs in 0_usize..20,
        unturned in 0_usize..5,
        interleaved: bool,
    ) {
        let offsets = offsets(&lengths);
        let size = 2 * pairs + unturned;
        let tokens = lengths.iter().sum::<usize>();
        let frequencies: Vec<f32> = numbers(3, pairs).iter().map(|x| x.abs()).collect();
        let qkv = numbers(4, tokens * 3 * heads * size);
        let mut want = wide(&qkv);
        let at = (&frequencies, 1.25, interleaved);
        reference::encode::rotary::rotate(at.0, at.1, at.2, &offsets, heads, size, &mut want);
        let rotary = Rotary::new(at.0, at.1, at.2, 40);
        for isa in Isa::available() {
            let mut got = Odd::new(&qkv);
            rotate(isa, &rotary, &offsets, heads, size, &mut got);
            assert_close(&format!("{isa:?}"), &got, &want, 1e-6);
        }
    }
}

#[test]
#[should_panic(expected = "rotary: a sequence of Some(3) tokens, the tables are for 2")]
fn sequences_longer_than_the_tables_are_refused() {
    let rotary = Rotary::new(&[1.0], 1.0, false, 2);
    rotate(Isa::Scalar, &rotary, &[0, 3], 1, 2, &mut [0.0; 18]);
}
