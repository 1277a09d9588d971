//! Packed linear maps against plain loops, and against themselves with other rows and threads.

mod agree;

use agree::{Odd, assert_close, assert_threads_do_not_matter, bits, numbers, wide};
use cloze_kernels::op::packed::{Activation, PackedLinear, Residual, Storage};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

const ACTIVATIONS: [Activation; 8] = [
    Activation::Identity,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
];

const STORAGES: [Storage; 4] = [Storage::F32, Storage::Bf16, Storage::F16, Storage::Int8];

/// Sums of `inputs` products of numbers in −1..1, and an activation, in floats.
fn tolerance(inputs: usize) -> f64 {
    (inputs as f64 + 16.0) * f64::from(f32::EPSILON)
}

struct Case {
    rows: usize,
    inputs: usize,
    outputs: usize,
    gated: bool,
    activation: Activation,
    storage: Storage,
}

impl Case {
    fn halves(&self) -> usize {
        1 + usize::from(self.gated)
    }

    fn x(&self) -> Vec<f32> {
        numbers(1, self.rows * self.inputs)
    }

    fn map(&self, isa: Isa, bias: bool) -> PackedLinear {
        let all = self.outputs * self.halves();
        let bias = bias.then(|| numbers(3, all));
        PackedLinear::new(
            isa,
            self.inputs,
            &numbers(2, all * self.inputs),
            bias.as_deref(),
            self.activation,
            self.gated,
            self.storage,
        )
    }

    /// What the map should give, in `f64`.
    fn want(&self, bias: bool, residual: Option<&[f32]>) -> Vec<f64> {
        let all = self.outputs * self.halves();
        let bias = bias.then(|| wide(&numbers(3, all)));
        let sums = reference::packed::product(
            self.rows,
            self.inputs,
            &self.x(),
            &numbers(2, all * self.inputs),
            self.storage,
        );
        let residual = residual.map(wide);
        reference::packed::finish(
            self.rows,
            self.outputs,
            &sums,
            bias.as_deref(),
            self.activation,
            self.gated,
            residual.as_deref(),
        )
    }

    fn check(&self, isa: Isa) {
        let what = format!(
            "{isa:?} {}×{}→{} {:?} {:?} gated {}",
            self.rows, self.inputs, self.outputs, self.activation, self.storage, self.gated
        );
        let len = self.rows * self.outputs;
        let (x, residual) = (Odd::new(&self.x()), Odd::new(&numbers(4, len)));
        let tolerance = tolerance(self.inputs);
        let mut out = Odd::blank(len);
        self.map(isa, false).forward(&x, Residual::None, &mut out);
        assert_close(&what, &out, &self.want(false, None), tolerance);

        let map = self.map(isa, true);
        let want = self.want(true, Some(&residual));
        out.fill(f32::NAN);
        map.forward(&x, Residual::Add(&residual), &mut out);
        assert_close(&format!("{what} residual"), &out, &want, tolerance);
        let added = bits(&out);
        out.copy_from_slice(&residual);
        map.forward(&x, Residual::InPlace, &mut out);
        assert_eq!(bits(&out), added, "{what}: residual in place");
    }
}

#[test]
fn every_activation_and_storage_agrees_with_loops() {
    for isa in Isa::available() {
        for activation in ACTIVATIONS {
            for storage in STORAGES {
                for gated in [false, true] {
                    let (rows, inputs, outputs) = (13, 19, 37);
                    Case {
                        rows,
                        inputs,
                        outputs,
                        gated,
                        activation,
                        storage,
                    }
                    .check(isa);
                }
            }
        }
    }
}

#[test]
fn long_and_crowded_rows_agree_with_loops() {
    for isa in Isa::available() {
        for storage in STORAGES {
            for (rows, inputs, outputs) in [(1, 400, 17), (31, 512, 33), (103, 769, 5)] {
                let activation = Activation::Identity;
                let gated = inputs == 512;
                Case {
                    rows,
                    inputs,
                    outputs,
                    gated,
                    activation,
                    storage,
                }
                .check(isa);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn sizes_agree_with_loops(
        rows in prop_oneof![Just(0_usize), 1..26_usize],
        inputs in prop_oneof![Just(1_usize), 2..40_usize],
        outputs in prop_oneof![Just(1_usize), 2..70_usize],
        gated: bool,
        storage in prop::sample::select(&STORAGES[..]),
    ) {
        for isa in Isa::available() {
            let activation = Activation::Gelu;
            Case { rows, inputs, outputs, gated, activation, storage }.check(isa);
        }
    }

    #[test]
    fn a_row_has_the_same_bits_whatever_the_others_are(
        rows in 1..140_usize,
        inputs in prop::sample::select(&[7_usize, 64, 385, 512][..]),
        outputs in 1..70_usize,
        gated: bool,
        storage in prop::sample::select(&STORAGES[..]),
        from in 0..1_000_usize,
        count in 1..1_000_usize,
        threads in 1..4_usize,
    ) {
        let case = Case { rows, inputs, outputs, gated, activation: Activation::Gelu, storage };
        let from = from % rows;
        let count = count.min(rows - from);
        let x = case.x();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for isa in Isa::available() {
            let map = case.map(isa, true);
            let mut all = vec![f32::NAN; rows * outputs];
            map.forward(&x, Residual::None, &mut all);
            let mut some = vec![f32::NAN; count * outputs];
            pool.install(|| {
                map.forward(&x[from * inputs..(from + count) * inputs], Residual::None, &mut some);
            });
            prop_assert_eq!(bits(&some), bits(&all[from * outputs..(from + count) * outputs]));
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for storage in STORAGES {
        for (rows, inputs, outputs) in [(1, 640, 1000), (16, 384, 384), (301, 96, 100)] {
            let (activation, gated) = (Activation::Gelu, true);
            let case = Case {
                rows,
                inputs,
                outputs,
                gated,
                activation,
                storage,
            };
            let map = case.map(Isa::detect(), true);
            assert_threads_do_not_matter("packed", || {
                let mut out = vec![f32::NAN; rows * outputs];
                map.forward(&case.x(), Residual::None, &mut out);
                out
            });
        }
    }
}

#[test]
fn some_columns_are_those_of_all() {
    for (rows, inputs, panels) in [(1, 40, 9), (50, 96, 7), (301, 16, 5)] {
        for storage in STORAGES {
            for isa in Isa::available() {
                let (activation, gated) = (Activation::Silu, rows == 50);
                let mut case = Case {
                    rows,
                    inputs,
                    outputs: 8,
                    gated,
                    activation,
                    storage,
                };
                let width = case.map(isa, true).panel();
                // The last panel is not full.
                case.outputs = panels * width - 3;
                let (x, map, outputs) = (case.x(), case.map(isa, true), case.outputs);
                let mut all = vec![f32::NAN; rows * outputs];
                map.forward(&x, Residual::None, &mut all);
                let columns = [width..3 * width, 0..0, 0..width, 4 * width..outputs];
                let wanted: Vec<f32> = all
                    .chunks(outputs)
                    .flat_map(|row| columns.iter().flat_map(|part| row[part.clone()].to_vec()))
                    .collect();
                assert_threads_do_not_matter("columns", || {
                    let mut out = Odd::blank(wanted.len());
                    map.forward_columns(&x, &columns, &mut out);
                    assert_eq!(bits(&out), bits(&wanted), "{isa:?} {rows} {storage:?}");
                    out.to_vec()
                });
            }
        }
    }
}

#[test]
#[should_panic(expected = "not whole panels")]
fn columns_within_a_panel_are_refused() {
    let (activation, gated, storage) = (Activation::Identity, false, Storage::F32);
    let case = Case {
        rows: 1,
        inputs: 2,
        outputs: 9,
        gated,
        activation,
        storage,
    };
    let columns = [1..9, 0..0];
    case.map(Isa::Scalar, false)
        .forward_columns(&case.x(), &columns, &mut [0.0; 8]);
}

#[test]
fn what_follows_sees_every_finished_row_once() {
    for (rows, outputs) in [(0, 3), (1, 40), (16, 640), (333, 48)] {
        let inputs = 64;
        let (activation, gated, storage) = (Activation::Tanh, false, Storage::F32);
        let case = Case {
            rows,
            inputs,
            outputs,
            gated,
            activation,
            storage,
        };
        let map = case.map(Isa::detect(), true);
        let mut want = vec![f32::NAN; rows * outputs];
        map.forward(&case.x(), Residual::None, &mut want);
        for (row, want) in want.chunks_exact_mut(outputs).enumerate() {
            for x in want {
                *x = 2.0 * *x + row as f32;
            }
        }
        for threads in 1..4 {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut out = vec![f32::NAN; rows * outputs];
            pool.install(|| {
                map.forward_then(&case.x(), Residual::None, &mut out, |first, block| {
                    for (row, out) in block.chunks_exact_mut(outputs).enumerate() {
                        for x in out {
                            *x = 2.0 * *x + (first + row) as f32;
                        }
                    }
                });
            });
            assert_eq!(
                bits(&out),
                bits(&want),
                "{rows}×{outputs}, {threads} threads"
            );
        }
    }
}

#[test]
fn integer_sums_are_the_same_on_every_instruction_set() {
    // Without an activation, floats meet the sums in the same few operations everywhere.
    let (rows, inputs, outputs) = (23, 1001, 71);
    let (activation, gated, storage) = (Activation::Identity, false, Storage::Int8);
    let case = Case {
        rows,
        inputs,
        outputs,
        gated,
        activation,
        storage,
    };
    let run = |isa| {
        let mut out = vec![f32::NAN; rows * outputs];
        case.map(isa, true)
            .forward(&case.x(), Residual::None, &mut out);
        bits(&out)
    };
    let scalar = run(Isa::Scalar);
    for isa in Isa::available() {
        assert!(run(isa) == scalar, "{isa:?}");
    }
}

#[test]
fn the_largest_integers_do_not_saturate() {
    for isa in Isa::available() {
        let inputs = 4096;
        let (x, weight) = (
            vec![1.0; inputs],
            [vec![1.0; inputs], vec![-1.0; inputs]].concat(),
        );
        let storage = Storage::Int8;
        let map = PackedLinear::new(
            isa,
            inputs,
            &weight,
            None,
            Activation::Identity,
            false,
            storage,
        );
        let mut out = [f32::NAN; 2];
        map.forward(&x, Residual::None, &mut out);
        for (out, want) in out.into_iter().zip([4096.0_f32, -4096.0]) {
            assert!(
                (out - want).abs() <= 4096.0 * 3.0 * f32::EPSILON,
                "{isa:?}: {out}"
            );
        }
    }
}

#[test]
fn eight_bits_keep_a_dot_product_within_a_hundredth() {
    let (rows, inputs, outputs) = (9, 384, 64);
    let (activation, gated) = (Activation::Identity, false);
    let of = |storage| Case {
        rows,
        inputs,
        outputs,
        gated,
        activation,
        storage,
    };
    let exact = of(Storage::F32).want(false, None);
    let mut out = vec![f32::NAN; rows * outputs];
    let case = of(Storage::Int8);
    case.map(Isa::detect(), false)
        .forward(&case.x(), Residual::None, &mut out);
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(
        &mut out
            .iter()
            .zip(&exact)
            .map(|(&out, want)| f64::from(out) - want),
    );
    assert!(error < 0.01 * norm(&mut exact.iter().copied()), "{error}");
}

#[test]
fn a_row_that_is_not_finite_stays_so_and_alone() {
    for storage in STORAGES {
        let (rows, inputs, outputs) = (3, 20, 5);
        let (activation, gated) = (Activation::Identity, false);
        let case = Case {
            rows,
            inputs,
            outputs,
            gated,
            activation,
            storage,
        };
        let mut x = case.x();
        x[inputs + 3] = f32::NAN;
        let mut out = vec![0.0; rows * outputs];
        case.map(Isa::detect(), true)
            .forward(&x, Residual::None, &mut out);
        let lost: Vec<_> = out
            .chunks(outputs)
            .map(|row| row.iter().all(|x| x.is_nan()))
            .collect();
        assert_eq!(lost, [false, true, false], "{storage:?}");
        let kept = out.iter().filter(|x| x.is_finite()).count();
        assert_eq!(kept, 2 * outputs, "{storage:?}");
    }
}

#[test]
fn storage_halves_and_quarters_the_bytes() {
    let bytes = STORAGES.map(|storage| {
        let (rows, inputs, outputs, gated) = (0, 512, 512, false);
        let activation = Activation::Identity;
        Case {
            rows,
            inputs,
            outputs,
            gated,
            activation,
            storage,
        }
        .map(Isa::detect(), false)
        .bytes()
    });
    let weights = 512 * 512;
    let bias = 4 * 512;
    assert_eq!(
        bytes,
        [
            4 * weights + bias,
            2 * weights + bias,
            2 * weights + bias,
            weights + 3 * bias
        ]
    );
}
