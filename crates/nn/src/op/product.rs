use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{DType, Device, FloatDType, Tensor};

use super::on_host;

/// Whether [`product`] takes its factors in bf16.
static IN_BF16: AtomicBool = AtomicBool::new(false);

/// Multiplies matrices in bf16 from now on, in all models of this process that do not lie in host memory; or in f32 again.
///
/// Returns whether `device` can; if not, nothing changes.
pub fn multiply_in_bf16(device: &Device, yes: bool) -> bool {
    let can = !yes || !on_host(device) && device.supports_dtype(DType::BF16);
    if can {
        IN_BF16.store(yes, Ordering::Relaxed);
    }
    can
}

/// `a · b`, as [`multiply_in_bf16`] has it.
pub(crate) fn product<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    if IN_BF16.load(Ordering::Relaxed) && !on_host(&a.device()) {
        in_bf16(a, b)
    } else {
        a.matmul(b)
    }
}

/// `a · b` of factors rounded to bf16, and rounded to it itself; so are the products of their gradients.
fn in_bf16<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    a.cast(FloatDType::BF16)
        .matmul(b.cast(FloatDType::BF16))
        .cast(FloatDType::F32)
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    /// Values of a sum over 32 terms, and of the gradients of its square.
    fn values(product: fn(Tensor<2>, Tensor<2>) -> Tensor<2>) -> [Vec<f32>; 3] {
        let device = Device::flex().autodiff();
        let leaf = |by: u32, shape: [usize; 2]| {
            let data = (0..shape[0] * shape[1]).map(|i| (i as f32 * by as f32 * 0.37).sin());
            let data = TensorData::new(data.collect::<Vec<f32>>(), shape);
            Tensor::from_data(data, &device).require_grad()
        };
        let (a, b) = (leaf(1, [20, 32]), leaf(3, [32, 24]));
        let out = product(a.clone(), b.clone());
        let gradients = out.clone().powi_scalar(2).sum().backward();
        let read = |x: Tensor<2>| x.into_data().iter().collect();
        let gradient = |x: &Tensor<2>| read(x.grad(&gradients).expect("a leaf has one"));
        [read(out), gradient(&a), gradient(&b)]
    }

    #[test]
    fn products_in_bf16_and_their_gradients_are_those_of_f32_to_the_digits_that_it_has() {
        for (narrow, exact) in values(in_bf16).iter().zip(&values(Tensor::matmul)) {
            let largest = exact.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let apart = narrow.iter().zip(exact).map(|(a, b)| (a - b).abs());
            let apart = apart.fold(0.0, f32::max) / largest;
            // 8 bits of each factor and of the sum, and of 24 or 20 of these once more in a gradient.
            assert!((1e-5..3e-2).contains(&apart), "{apart}");
        }
    }
}
