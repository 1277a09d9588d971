//! Packed linear maps against plain loops in f64, and their rows against themselves in other company.

use cloze_kernels::Isa;
use cloze_kernels::op::packed::{Activation, PackedLinear, Residual, Storage};
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

fn activate(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Identity => x,
        Activation::Gelu => cloze_kernels::reference::linear::gelu(x),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
        Activation::Silu => x * sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
    }
}

/// Numbers in −1..1 that look random.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

struct Case {
    inputs: usize,
    outputs: usize,
    gated: bool,
    activation: Activation,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn new(inputs: usize, outputs: usize, gated: bool, activation: Activation) -> Self {
        let all = if gated { 2 * outputs } else { outputs };
        Self {
            inputs,
            outputs,
            gated,
            activation,
            weight: numbers(all * inputs, 1),
            bias: numbers(all, 2),
        }
    }

    fn pack(&self, isa: Isa, storage: Storage) -> PackedLinear {
        let (weight, bias) = (&self.weight, Some(self.bias.as_slice()));
        PackedLinear::new(
            isa,
            self.inputs,
            weight,
            bias,
            self.activation,
            self.gated,
            storage,
        )
    }

    fn expected(&self, x: &[f32], weight: &[f32], row: usize, output: usize) -> f64 {
        let sum = |output: usize| {
            let x = &x[row * self.inputs..][..self.inputs];
            let weight = &weight[output * self.inputs..][..self.inputs];
            let products = x
                .iter()
                .zip(weight)
                .map(|(x, w)| f64::from(*x) * f64::from(*w));
            products.sum::<f64>() + f64::from(self.bias[output])
        };
        let first = activate(self.activation, sum(output));
        if self.gated {
            first * sum(self.outputs + output)
        } else {
            first
        }
    }
}

fn run(map: &PackedLinear, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / map.inputs() * map.outputs()];
    map.forward(x, Residual::None, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn packed_maps_agree_with_plain_loops(
        rows in 0_usize..30,
        inputs in prop::sample::select(vec![1_usize, 3, 8, 17, 48, 97, 512]),
        outputs in prop::sample::select(vec![1_usize, 7, 15, 16, 17, 33, 96, 131]),
        gated: bool,
        activation in prop::sample::select(ACTIVATIONS.to_vec()),
    ) {
        let case = Case::new(inputs, outputs, gated, activation);
        let x = numbers(rows * inputs, 3);
        for isa in Isa::available() {
            let out = run(&case.pack(isa, Storage::F32), &x);
            for (at, &value) in out.iter().enumerate() {
                let want = case.expected(&x, &case.weight, at / outputs, at % outputs);
                let scale = (inputs as f64).sqrt() * if gated { 4.0 * (inputs as f64).sqrt() } else { 2.0 };
                prop_assert!(
                    (f64::from(value) - want).abs() < 1e-6 * scale,
                    "{isa:?}: output {at} is {value}, not {want}"
                );
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_company(
        rows in 1_usize..300,
        shape in prop::sample::select(vec![(48_usize, 144_usize), (512, 33), (97, 131), (384, 384)]),
        gated: bool,
        threads in 1_usize..4,
        storage in prop::sample::select(vec![Storage::F32, Storage::Bf16, Storage::F16, Storage::Int8]),
    ) {
        let case = Case::new(shape.0, shape.1, gated, Activation::Gelu);
        let x = numbers(rows * case.inputs, 3);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for isa in Isa::available() {
            let map = case.pack(isa, storage);
            let together = pool.install(|| run(&map, &x));
            for row in [0, rows / 2, rows - 1] {
                let alone = run(&map, &x[row * case.inputs..][..case.inputs]);
                let within = &together[row * case.outputs..][..case.outputs];
                prop_assert_eq!(alone.as_slice(), within, "{:?}: row {}", isa, row);
            }
        }
    }

    #[test]
    fn residuals_are_added_to_the_outputs(rows in 1_usize..20, outputs in 1_usize..40) {
        let case = Case::new(24, outputs, false, Activation::Relu);
        let x = numbers(rows * 24, 3);
        let residual = numbers(rows * outputs, 4);
        for isa in Isa::available() {
            let map = case.pack(isa, Storage::F32);
            let plain = run(&map, &x);
            let sum: Vec<f32> = plain.iter().zip(&residual).map(|(a, b)| a + b).collect();
            let mut out = vec![f32::NAN; sum.len()];
            map.forward(&x, Residual::Add(&residual), &mut out);
            prop_assert_eq!(&out, &sum, "{:?}", isa);
            let mut out = residual.clone();
            map.forward(&x, Residual::InPlace, &mut out);
            prop_assert_eq!(&out, &sum, "{:?}", isa);
        }
    }
}

#[test]
fn half_precision_weights_are_rounded_to_the_nearest() {
    // A map whose weight is one number, run on 1: the output is that number, rounded.
    let cases: Vec<f32> = numbers(2000, 5)
        .into_iter()
        .enumerate()
        .map(|(index, x)| x * 10_f32.powi(index as i32 % 12 - 8))
        .chain([0.0, -0.0, 1.0, 6e-8, 65_504.0, 1.000_488_3])
        .collect();
    let weight = |storage, isa| {
        let map = PackedLinear::new(isa, 1, &cases, None, Activation::Identity, false, storage);
        run(&map, &[1.0])
    };
    for isa in Isa::available() {
        for (got, &x) in weight(Storage::Bf16, isa).iter().zip(&cases) {
            assert_eq!(*got, half::bf16::from_f32(x).to_f32(), "{isa:?}: {x}");
        }
        for (got, &x) in weight(Storage::F16, isa).iter().zip(&cases) {
            assert_eq!(*got, half::f16::from_f32(x).to_f32(), "{isa:?}: {x}");
        }
    }
}
