//! Packed attention against plain loops.

mod agree;

use agree::{
    Odd, assert_close, assert_gradient, assert_threads_do_not_matter, bits, numbers, wide,
};
use cloze_kernels::op::attention::{Attention, Dropout, backward, forward};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

/// Rounding of sums of up to 512 terms, and of an exponential good to two units in the last place.
const TOLERANCE: f64 = 5e-6;

const SOME: Dropout = Dropout {
    prob: 0.3,
    seed: 11,
};

fn offsets(lengths: &[usize]) -> Vec<u32> {
    let ends = lengths.iter().scan(0, |end, length| {
        *end += *length as u32;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

fn run(isa: Isa, shape: &Attention, qkv: &[f32], d_out: &[f32]) -> [Odd; 3] {
    let tokens = shape.offsets[shape.offsets.len() - 1] as usize;
    let mut out = Odd::blank(tokens * shape.width);
    let mut lse = Odd::blank(tokens * shape.heads);
    let mut d_qkv = Odd::blank(tokens * 3 * shape.width);
    forward(isa, shape, qkv, &mut out, &mut lse);
    backward(isa, shape, qkv, &out, &lse, d_out, &mut d_qkv);
    [out, lse, d_qkv]
}

/// Whether later tokens are hidden, how far a token sees, and how many see and are seen by all.
type Sight = (bool, Option<usize>, usize);

fn check(lengths: &[usize], heads: usize, size: usize, sight: Sight, dropout: Dropout) {
    let offsets = offsets(lengths);
    let width = heads * size;
    let shape = Attention {
        offsets: &offsets,
        heads,
        width,
        causal: sight.0,
        window: sight.1,
        global: sight.2,
        dropout,
    };
    let tokens = lengths.iter().sum::<usize>();
    let qkv = Odd::new(&numbers(1, tokens * 3 * width));
    let d_out = Odd::new(&numbers(2, tokens * width));

    let mut out = vec![f64::NAN; tokens * width];
    let mut lse = vec![f64::NAN; tokens * heads];
    let mut d_qkv = vec![f64::NAN; tokens * 3 * width];
    reference::attention::forward(&shape, &wide(&qkv), &mut out, &mut lse);
    reference::attention::backward(&shape, &wide(&qkv), &out, &lse, &wide(&d_out), &mut d_qkv);
    for isa in Isa::available() {
        let got = run(isa, &shape, &qkv, &d_out);
        assert_close(&format!("{isa:?} {shape:?}: out"), &got[0], &out, TOLERANCE);
        assert_close(&format!("{isa:?} {shape:?}: lse"), &got[1], &lse, TOLERANCE);
        assert_close(
            &format!("{isa:?} {shape:?}: d_qkv"),
            &got[2],
            &d_qkv,
            TOLERANCE,
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_shape_agrees_with_loops(
        lengths in prop::collection::vec(0_usize..110, 0..4),
        heads in 1_usize..4,
        size in prop::sample::select(vec![1, 3, 7, 8, 16, 17, 20, 32, 33, 64]),
        causal: bool,
        window in prop::option::of(0_usize..70),
        global in prop::sample::select(vec![0, 0, 1, 3, 31, 40, 64]),
        drop: bool,
    ) {
        check(&lengths, heads, size, (causal, window, global), if drop { SOME } else { Dropout::NONE });
    }
}

#[test]
fn edges_of_tiles_agree_with_loops() {
    for causal in [false, true] {
        for window in [
            None,
            Some(0),
            Some(31),
            Some(32),
            Some(64),
            Some(usize::MAX),
        ] {
            for global in [0, 1, 32, 49] {
                let sight = (causal, window, global);
                check(&[1, 47, 0, 48, 49, 97], 2, 32, sight, Dropout::NONE);
                check(&[200, 1, 512], 1, 32, sight, SOME);
                check(&[131, 2, 16, 17], 1, 64, sight, SOME);
            }
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    let offsets = offsets(&[4, 1, 3]);
    for (causal, window, global, dropout) in [
        (false, None, 0, Dropout::NONE),
        (true, None, 0, Dropout::NONE),
        (false, Some(1), 0, SOME),
        (false, Some(0), 1, SOME),
    ] {
        let shape = Attention {
            offsets: &offsets,
            heads: 2,
            width: 6,
            causal,
            window,
            global,
            dropout,
        };
        let qkv = wide(&numbers(3, 8 * 18));
        let d_out = wide(&numbers(4, 8 * 6));
        let forward = |qkv: &[f64]| {
            let (mut out, mut lse) = (vec![f64::NAN; 8 * 6], vec![f64::NAN; 8 * 2]);
            reference::attention::forward(&shape, qkv, &mut out, &mut lse);
            (out, lse)
        };
        let (out, lse) = forward(&qkv);
        let mut d_qkv = vec![f64::NAN; qkv.len()];
        reference::attention::backward(&shape, &qkv, &out, &lse, &d_out, &mut d_qkv);
        assert_gradient("d_qkv", &qkv, &d_qkv, |qkv| {
            forward(qkv)
                .0
                .iter()
                .zip(&d_out)
                .map(|(out, d)| out * d)
                .sum()
        });
    }
}

#[test]
fn threads_do_not_matter() {
    let lengths: Vec<usize> = (0..23).map(|i| i * 37 % 101).collect();
    let offsets = offsets(&lengths);
    let tokens = lengths.iter().sum::<usize>();
    let (qkv, d_out) = (numbers(5, tokens * 3 * 32), numbers(6, tokens * 32));
    let shape = Attention {
        offsets: &offsets,
        heads: 2,
        width: 32,
        causal: true,
        window: None,
        global: 0,
        dropout: SOME,
    };
    for isa in Isa::available() {
        assert_threads_do_not_matter("attention", || {
            run(isa, &shape, &qkv, &d_out)
                .iter()
                .flat_map(|part| part.to_vec())
                .collect()
        });
    }
}

#[test]
fn batch_neighbours_do_not_matter() {
    let lengths = [31, 75, 5, 130];
    let all = offsets(&lengths);
    let (heads, width) = (2, 40);
    let (qkv, d_out) = (numbers(7, 241 * 3 * width), numbers(8, 241 * width));
    for isa in Isa::available() {
        for sight in [
            (false, None, 0),
            (true, None, 0),
            (false, Some(20), 0),
            (false, Some(20), 3),
        ] {
            fn shape(offsets: &[u32], sight: Sight) -> Attention<'_> {
                Attention {
                    offsets,
                    heads: 2,
                    width: 40,
                    causal: sight.0,
                    window: sight.1,
                    global: sight.2,
                    dropout: Dropout::NONE,
                }
            }
            let together = run(isa, &shape(&all, sight), &qkv, &d_out);
            for (bounds, &length) in all.windows(2).zip(&lengths) {
                let of = |row: usize| bounds[0] as usize * row..bounds[1] as usize * row;
                let own = offsets(&[length]);
                let alone = run(
                    isa,
                    &shape(&own, sight),
                    &qkv[of(3 * width)],
                    &d_out[of(width)],
                );
                for ((alone, together), row) in
                    alone.iter().zip(&together).zip([width, heads, 3 * width])
                {
                    assert_eq!(bits(alone), bits(&together[of(row)]), "{isa:?}");
                }
            }
        }
    }
}

#[test]
fn causal_output_ignores_later_tokens() {
    let own = offsets(&[120]);
    let shape = Attention {
        offsets: &own,
        heads: 1,
        width: 16,
        causal: true,
        window: None,
        global: 0,
        dropout: Dropout::NONE,
    };
    let (qkv, d_out) = (numbers(9, 120 * 48), numbers(10, 120 * 16));
    let mut changed = qkv.clone();
    changed[71 * 48..].fill(0.5);
    for isa in Isa::available() {
        let (before, after) = (
            run(isa, &shape, &qkv, &d_out),
            run(isa, &shape, &changed, &d_out),
        );
        assert_eq!(
            bits(&before[0][..71 * 16]),
            bits(&after[0][..71 * 16]),
            "{isa:?}"
        );
        assert_ne!(
            bits(&before[0][71 * 16..]),
            bits(&after[0][71 * 16..]),
            "{isa:?}"
        );
    }
}

#[test]
fn huge_scores_stay_finite() {
    let own = offsets(&[60]);
    let shape = Attention {
        offsets: &own,
        heads: 1,
        width: 32,
        causal: false,
        window: None,
        global: 0,
        dropout: Dropout::NONE,
    };
    let qkv: Vec<f32> = numbers(11, 60 * 96).iter().map(|x| x * 1e4).collect();
    for isa in Isa::available() {
        for part in run(isa, &shape, &qkv, &numbers(12, 60 * 32)) {
            assert!(part.iter().all(|x| x.is_finite()), "{isa:?}");
        }
    }
}

#[test]
#[should_panic(expected = "attention: length of out")]
fn wrong_lengths_are_refused() {
    let own = offsets(&[2]);
    let shape = Attention {
        offsets: &own,
        heads: 1,
        width: 4,
        causal: false,
        window: None,
        global: 0,
        dropout: Dropout::NONE,
    };
    forward(
        Isa::Scalar,
        &shape,
        &[0.0; 24],
        &mut [0.0; 7],
        &mut [0.0; 2],
    );
}
