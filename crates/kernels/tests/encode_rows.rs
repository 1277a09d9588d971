//! Row by row work of encoders against plain loops.

mod agree;

use agree::{Odd, assert_close, assert_threads_do_not_matter, bits, numbers, wide};
use cloze_kernels::op::encode::convolution::{Convolution, convolve};
use cloze_kernels::op::encode::embed::{Embed, Table, embed};
use cloze_kernels::op::encode::norm::{
    Norm, add_norm, add_norm_into, norm, norm_here, norm_into, norm_queries_and_keys,
};
use cloze_kernels::op::encode::pool::{Pool, normalize, pool};
use cloze_kernels::op::encode::score::{sigmoid, softmax};
use cloze_kernels::op::packed::Storage;
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// Rounding of means over a row, times the scale of rows that differ little: up to some tens with rows of two or three.
const TOLERANCE: f64 = 2e-5;
const EPS: f32 = 1e-3;
const POOLS: [Pool; 6] = [
    Pool::First,
    Pool::Last,
    Pool::Max,
    Pool::Mean,
    Pool::MeanSqrtLen,
    Pool::WeightedMean,
];

fn offsets(lengths: &[usize]) -> Vec<u32> {
    let ends = lengths.iter().scan(0, |end, length| {
        *end += *length as u32;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

fn sum(x: &[f32], y: &[f32]) -> Vec<f64> {
    let add = |(x, y): (&f32, &f32)| f64::from(*x) + f64::from(*y);
    x.iter().zip(y).map(add).collect()
}

fn check_norms(rows: usize, width: usize, centred: bool, with_bias: bool) {
    let n = rows * width;
    let [x, y] = [1, 2].map(|seed| Odd::new(&numbers(seed, n)));
    let [gain, bias] = [3, 4].map(|seed| Odd::new(&numbers(seed, width)));
    let by = Norm {
        gain: &gain,
        bias: with_bias.then_some(&*bias),
        eps: EPS,
        centred,
    };
    let alone = reference::encode::norm::norm(&by, &wide(&x));
    let both = sum(&x, &y);
    let of_both = reference::encode::norm::norm(&by, &both);
    for isa in Isa::available() {
        let what = format!("{isa:?} {rows}×{width} {centred} {with_bias}");
        let mut out = Odd::new(&x);
        norm(isa, &by, &mut out);
        assert_close(&what, &out, &alone, TOLERANCE);
        let in_place = bits(&out);
        let mut out = Odd::new(&x);
        norm_here(isa, &by, &mut out);
        assert_eq!(bits(&out), in_place, "{what}");
        let mut out = Odd::blank(n);
        norm_into(isa, &by, &x, &mut out);
        assert_eq!(bits(&out), in_place, "{what}");
        let mut out = Odd::new(&x);
        add_norm(isa, &by, &y, &mut out);
        assert_close(&what, &out, &of_both, TOLERANCE);
        let in_place = bits(&out);
        let (mut total, mut out) = (Odd::new(&x), Odd::blank(n));
        add_norm_into(isa, &by, &y, &mut total, &mut out);
        assert_eq!(bits(&out), in_place, "{what}");
        assert_close(&what, &total, &both, 1e-7);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn norms_agree_with_loops(
        rows in 0_usize..40,
        width in prop::sample::select(vec![1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 64, 101, 384]),
        centred: bool,
        bias: bool,
    ) {
        check_norms(rows, width, centred, bias);
    }

    #[test]
    fn embeddings_agree_with_loops(
        lengths in prop::collection::vec(0_usize..30, 0..4),
        width in prop::sample::select(vec![1, 3, 8, 17, 40]),
        positions: bool,
        segments in 0_usize..3,
        normed: bool,
        kept in 0_usize..3,
    ) {
        let offsets = offsets(&lengths);
        let tokens = lengths.iter().sum::<usize>();
        let ids: Vec<u32> = (0..tokens as u32).map(|n| n * 7 % 11).collect();
        let kinds: Vec<u32> = (0..tokens as u32).map(|n| n % 2).collect();
        let kinds = if segments == 2 { &kinds[..] } else { &[] };
        let table = |seed, rows: usize| numbers(seed, rows * width);
        let (by_token, by_place, by_kind) = (table(1, 11), table(2, 32), table(3, 2));
        let gain = numbers(4, width);
        // All signs, and exponents about zero, whichever of the two kinds it is: these end at infinity, which weights lack.
        let halves: Vec<u16> = (0..11 * width as u32).map(|i| ((i * 40_503) & 0xbfff) as u16).collect();
        let tables = Embed {
            width,
            tokens: [Table::F32(&by_token), Table::Bf16(&halves), Table::F16(&halves)][kept],
            positions: positions.then_some((&by_place[..], 2)),
            segments: (segments > 0).then_some(&by_kind[..]),
            norm: normed.then_some(Norm { gain: &gain, bias: None, eps: EPS, centred: true }),
        };
        let want = reference::encode::embed::embed(&tables, &ids, kinds, &offsets);
        for isa in Isa::available() {
            let mut out = Odd::blank(tokens * width);
            embed(isa, &tables, &ids, kinds, &offsets, &mut out);
            assert_close(&format!("{isa:?} {lengths:?}"), &out, &want, TOLERANCE);
        }
    }

    #[test]
    fn pools_agree_with_loops(
        lengths in prop::collection::vec(1_usize..150, 0..4),
        width in prop::sample::select(vec![1, 3, 8, 17, 40]),
        skipped in 0_u32..60,
        column in 0_usize..3,
    ) {
        let offsets = offsets(&lengths);
        let x = Odd::new(&numbers(1, lengths.iter().sum::<usize>() * width));
        let skip: Vec<u32> = (0..lengths.len() as u32).map(|b| b * 7 % 3 * skipped).collect();
        for skip in [&skip[..], &[]] {
            for how in POOLS {
                let want = reference::encode::pool::pool(how, width, &wide(&x), &offsets, skip);
                for isa in Isa::available() {
                    let stride = column + width + 1;
                    let mut out = Odd::new(&vec![9.0; lengths.len() * stride]);
                    pool(isa, how, width, &x, &offsets, skip, &mut out, stride, column);
                    let got: Vec<f32> = out
                        .chunks_exact(stride)
                        .flat_map(|row| row[column..column + width].to_vec())
                        .collect();
                    let rest = out.iter().filter(|&&x| x.to_bits() == 9.0_f32.to_bits()).count();
                    prop_assert_eq!(rest, lengths.len() * (column + 1));
                    assert_close(&format!("{isa:?} {how:?} {lengths:?}"), &got, &want, 2e-6);
                }
            }
        }
    }

    #[test]
    fn rows_become_unit_vectors_and_probabilities_as_in_loops(
        rows in 0_usize..20,
        width in prop::sample::select(vec![1, 2, 3, 7, 8, 9, 16, 17, 100]),
        size in prop::sample::select(vec![0.0, 1.0, 100.0]),
    ) {
        let x: Vec<f32> = numbers(1, rows * width).iter().map(|x| x * size).collect();
        let by = wide(&x);
        for isa in Isa::available() {
            let what = format!("{isa:?} {rows}×{width}");
            let run = |f: &dyn Fn(&mut [f32])| {
                let mut out = Odd::new(&x);
                f(&mut out);
                out
            };
            let want = reference::encode::pool::normalize(width, &by);
            assert_close(&what, &run(&|x| normalize(isa, width, x)), &want, 1e-6);
            let want = reference::encode::score::softmax(width, &by);
            assert_close(&what, &run(&|x| softmax(isa, width, x)), &want, 1e-6);
            let want = reference::encode::score::sigmoid(&by);
            assert_close(&what, &run(&|x| sigmoid(isa, x)), &want, 1e-6);
        }
    }

    #[test]
    fn convolutions_agree_with_loops(
        lengths in prop::collection::vec(0_usize..20, 0..4),
        part in 1_usize..9,
        groups in 1_usize..4,
        half in 0_usize..4,
    ) {
        let offsets = offsets(&lengths);
        let (width, kernel) = (part * groups, 2 * half + 1);
        let (weight, bias) = (numbers(1, width * part * kernel), numbers(2, width));
        let with = Convolution { width, kernel, groups, weight: &weight, bias: &bias };
        let x = Odd::new(&numbers(3, lengths.iter().sum::<usize>() * width));
        let want = reference::encode::convolution::convolve(&with, &offsets, &wide(&x));
        for isa in Isa::available() {
            let mut out = Odd::blank(x.len());
            convolve(isa, &with, &offsets, &x, &mut out);
            assert_close(&format!("{isa:?} {lengths:?} {groups}×{part}"), &out, &want, 5e-6);
        }
    }
}

#[test]
fn queries_and_keys_are_normed_and_values_stay() {
    let width = 21;
    let qkv = numbers(1, 50 * 3 * width);
    let (gains, bias) = (numbers(2, 2 * width), numbers(3, width));
    let of = |gain, bias| Norm {
        gain,
        bias,
        eps: EPS,
        centred: true,
    };
    let (queries, keys) = (
        of(&gains[..width], Some(&bias[..])),
        of(&gains[width..], None),
    );
    let want: Vec<f64> = wide(&qkv)
        .chunks_exact(width)
        .enumerate()
        .flat_map(|(part, row)| match part % 3 {
            0 => reference::encode::norm::norm(&queries, row),
            1 => reference::encode::norm::norm(&keys, row),
            _ => row.to_vec(),
        })
        .collect();
    for isa in Isa::available() {
        let mut got = Odd::new(&qkv);
        norm_queries_and_keys(isa, &queries, &keys, &mut got);
        assert_close(&format!("{isa:?}"), &got, &want, TOLERANCE);
    }
}

#[test]
fn rows_far_from_zero_are_normed_as_well() {
    let x: Vec<f32> = numbers(1, 10 * 384).iter().map(|x| x + 300.0).collect();
    let gain = vec![1.0; 384];
    let by = Norm {
        gain: &gain,
        bias: None,
        eps: 1e-12,
        centred: true,
    };
    let want = reference::encode::norm::norm(&by, &wide(&x));
    for isa in Isa::available() {
        let mut out = Odd::blank(x.len());
        norm_into(isa, &by, &x, &mut out);
        // A float near 300 is good to 1.5e-5, and the rows have a deviation of 0.58.
        assert_close(&format!("{isa:?}"), &out, &want, 1e-4);
    }
}

#[test]
fn threads_and_neighbours_do_not_matter() {
    let lengths = [300, 1, 700, 20];
    let all = offsets(&lengths);
    let (width, tokens) = (24, 1021);
    let x = numbers(1, tokens * width);
    let (gain, weight) = (numbers(2, width), numbers(3, width * width / 2 * 3));
    let by = Norm {
        gain: &gain,
        bias: Some(&gain),
        eps: EPS,
        centred: true,
    };
    let with = Convolution {
        width,
        kernel: 3,
        groups: 2,
        weight: &weight,
        bias: &gain,
    };
    let ids: Vec<u32> = (0..tokens as u32).collect();
    let tables = Embed {
        width,
        tokens: Table::F32(&x),
        positions: Some((&x, 5)),
        segments: None,
        norm: Some(by),
    };
    for isa in Isa::available() {
        let run = |offsets: &[u32], ids: &[u32], x: &[f32]| {
            let mut parts = [0; 3].map(|_| Odd::blank(x.len()));
            norm_into(isa, &by, x, &mut parts[0]);
            convolve(isa, &with, offsets, x, &mut parts[1]);
            embed(isa, &tables, ids, &[], offsets, &mut parts[2]);
            let sequences = offsets.len() - 1;
            let mut pools = Odd::blank(sequences * POOLS.len() * width);
            for (i, how) in POOLS.into_iter().enumerate() {
                let stride = POOLS.len() * width;
                pool(
                    isa,
                    how,
                    width,
                    x,
                    offsets,
                    &[],
                    &mut pools,
                    stride,
                    i * width,
                );
            }
            let [a, b, c] = parts;
            [a, b, c, pools]
        };
        assert_threads_do_not_matter("rows", || {
            run(&all, &ids, &x).map(|part| part.to_vec()).concat()
        });
        let together = run(&all, &ids, &x);
        for (b, bounds) in all.windows(2).enumerate() {
            let of = |row: usize| bounds[0] as usize * row..bounds[1] as usize * row;
            let alone = run(&[0, bounds[1] - bounds[0]], &ids[of(1)], &x[of(width)]);
            for (alone, together) in alone.iter().zip(&together).take(3) {
                assert_eq!(bits(alone), bits(&together[of(width)]), "{isa:?}");
            }
            let row = POOLS.len() * width;
            assert_eq!(
                bits(&alone[3]),
                bits(&together[3][b * row..(b + 1) * row]),
                "{isa:?}"
            );
        }
    }
}

#[test]
fn bytes_are_a_table_only_where_their_numbers_can_be_read() {
    let floats = [1.5_f32, -0.25, 3.0];
    // Room for the floats at an address that is a multiple of four, then at one that is not.
    let mut room = [0_u8; 16];
    let aligned = room.as_ptr().align_offset(4);
    for (at, is_readable) in [(aligned, true), (aligned + 1, false)] {
        for (place, float) in floats.iter().enumerate() {
            room[at + 4 * place..][..4].copy_from_slice(&float.to_le_bytes());
        }
        let bytes = &room[at..at + 12];
        let table = Table::from_bytes(bytes, Storage::F32);
        let found = table.map(|table| match table {
            Table::F32(found) => found.to_vec(),
            other => panic!("{other:?}"),
        });
        assert_eq!(found, is_readable.then(|| floats.to_vec()));
        let halves = Table::from_bytes(bytes, Storage::Bf16);
        assert_eq!(halves.is_some(), is_readable);
        assert!(Table::from_bytes(&bytes[..11], Storage::F32).is_none());
        assert!(Table::from_bytes(bytes, Storage::Int8).is_none());
    }
}

#[test]
#[should_panic(expected = "embed: id Some(2), the table has 2 rows")]
fn unknown_ids_are_refused() {
    let tables = Embed {
        width: 1,
        tokens: Table::F32(&[0.0; 2]),
        positions: None,
        segments: None,
        norm: None,
    };
    embed(Isa::Scalar, &tables, &[2], &[], &[0, 1], &mut [0.0]);
}

#[test]
#[should_panic(expected = "pool: an empty sequence")]
fn empty_sequences_have_no_vector() {
    pool(
        Isa::Scalar,
        Pool::Mean,
        1,
        &[],
        &[0, 0],
        &[],
        &mut [0.0],
        1,
        0,
    );
}
