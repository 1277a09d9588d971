//! Products of matrices in bf16: in a process of its own, since all models of a process have one precision.

mod tiny;

use burn::tensor::{Device, Tensor, TensorData};
use cloze_nn::op::{Activation, composed, linear, multiply_in_bf16};
use tiny::{COARSER, device_under_test, numbers, read};

/// What a map gives, and the gradient of its input and weight.
fn run(device: &Device, is_composed: bool) -> [Vec<f32>; 3] {
    let device = device.clone().autodiff();
    let leaf = |seed, rows: usize| {
        let data = TensorData::new(numbers(seed, rows * 64), [rows, 64]);
        Tensor::<2>::from_data(data, &device).require_grad()
    };
    let (x, weight) = (leaf(1, 40), leaf(2, 48));
    let bias = Tensor::zeros([48], &device);
    let map = if is_composed {
        composed::linear
    } else {
        linear
    };
    let out = map(x.clone(), weight.clone(), bias, Activation::Gelu);
    let gradients = out.clone().powi_scalar(2).sum().backward();
    let gradient = |x: &Tensor<2>| read(&x.grad(&gradients).expect("a leaf has one"));
    [read(&out), gradient(&x), gradient(&weight)]
}

/// Largest distance, as a share of the largest value.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let most = |x: &mut dyn Iterator<Item = f32>| x.fold(0.0, |a: f32, b| a.max(b.abs()));
    let apart = most(&mut a.iter().zip(b).map(|(a, b)| a - b));
    apart / most(&mut b.iter().copied())
}

#[test]
fn bf16_is_near_f32_where_a_device_has_it_and_refused_where_it_has_not() {
    let (host, device) = (Device::flex(), device_under_test());
    assert!(!multiply_in_bf16(&host, true));
    assert!(multiply_in_bf16(&host, false));
    let exact = run(&host, false);
    if multiply_in_bf16(&device, true) {
        let narrow = run(&device, true);
        for (narrow, exact) in narrow.iter().zip(&exact) {
            let apart = distance(narrow, exact);
            // bf16 keeps 8 bits of each factor and of the sum.
            assert!((1e-5..2e-2).contains(&apart), "{apart}");
        }
        assert!(multiply_in_bf16(&device, false));
    }
    for (composed, exact) in run(&device, true).iter().zip(&exact) {
        assert!(distance(composed, exact) < 1e-5 * COARSER as f32);
    }
}
