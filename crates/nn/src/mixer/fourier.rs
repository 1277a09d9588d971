use burn::module::Module;
use burn::tensor::{Device, Tensor};
use cloze_spec::mixer;

use super::Mixer;
use crate::layout::Layout;
use crate::noise::Noise;
use crate::op;
use crate::sequences::Sequences;

/// The real part of a Fourier transform over channels and over the tokens of each sequence, whatever its length.
///
/// # Source
/// Lee-Thorp et al., NAACL 2022, arXiv:2105.03824, §3.2. Lengths that are no power of two by Bluestein's convolution
/// (IEEE Transactions on Audio and Electroacoustics, 1970); powers of two by Cooley and Tukey's splitting (1965).
#[derive(Module, Debug)]
pub(crate) struct Fourier {}

impl Fourier {
    pub fn new(mixer::Fourier {}: &mixer::Fourier) -> Self {
        Self {}
    }
}

impl Mixer for Fourier {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        _: &mut Noise,
    ) -> Tensor<2> {
        let (device, width) = (x.device(), x.dims()[1]);
        let root = Complex::roots(width, &device); // [D, D]
        let channels = Complex {
            re: x.clone().matmul(root.re),
            im: x.matmul(root.im),
        };
        let layout = Layout::padded(&sequences.offsets, 1);
        let grid = Complex {
            re: layout.spread(channels.re),
            im: layout.spread(channels.im),
        };
        let mixed = layout.pack(along(&grid, &layout.lens));
        sequences.wanted(mixed, selected)
    }
}

/// The real part of the transform of the first `lens[b]` places of each row: `[B, T, D]` → `[B, T, D]`.
fn along(x: &Complex<3>, lens: &[usize]) -> Tensor<3> {
    let device = x.re.device();
    let [rows, places, width] = x.re.dims();
    let size = (2 * places - 1).next_power_of_two();
    // X[k] = c[k] Σ_m (c[m] x[m]) c̄[k − m] with c[m] = e^(−iπm²/n); the convolution over a circle of `size`.
    let (mut down, mut around) = (
        vec![(0.0, 0.0); rows * places],
        vec![(0.0, 0.0); rows * size],
    );
    for (row, &len) in lens.iter().enumerate() {
        for at in 0..len {
            // The square is taken modulo the period, so that the angle stays exact.
            let turn = (at * at % (2 * len)) as f64 / len as f64;
            let (sin, cos) = (std::f64::consts::PI * turn).sin_cos();
            down[row * places + at] = (cos as f32, -sin as f32);
            let chirp = (cos as f32, sin as f32);
            around[row * size + at] = chirp;
            around[row * size + (size - at) % size] = chirp;
        }
    }
    let down = Complex::of(&down, [rows, places, 1], &device);
    let around = Complex::of(&around, [rows, size, 1], &device).transform();
    let wide = |x: Tensor<3>| {
        let more = Tensor::zeros([rows, size - places, width], &device);
        Tensor::cat(vec![x, more], 1)
    };
    let turned = x.clone().times(&down);
    let spectrum = Complex {
        re: wide(turned.re),
        im: wide(turned.im),
    }
    .transform()
    .times(&around);
    // The inverse: real and imaginary parts change places before and after.
    let back = spectrum.swapped().transform().swapped();
    let first = |x: Tensor<3>| x.slice([0..rows, 0..places, 0..width]);
    let convolved = Complex {
        re: first(back.re),
        im: first(back.im),
    };
    convolved.times(&down).re.div_scalar(size as f32)
}

/// Complex numbers, real and imaginary parts apart.
#[derive(Debug, Clone)]
struct Complex<const D: usize> {
    re: Tensor<D>,
    im: Tensor<D>,
}

impl<const D: usize> Complex<D> {
    fn of(values: &[(f32, f32)], shape: [usize; D], device: &Device) -> Self {
        let (re, im) = values.iter().copied().unzip();
        Self {
            re: op::floats(re, shape, device),
            im: op::floats(im, shape, device),
        }
    }

    /// The product, either side spread over the other where it has one place.
    fn times(self, other: &Self) -> Self {
        Self {
            re: self.re.clone() * other.re.clone() - self.im.clone() * other.im.clone(),
            im: self.re * other.im.clone() + self.im * other.re.clone(),
        }
    }

    fn swapped(self) -> Self {
        Self {
            re: self.im,
            im: self.re,
        }
    }
}

impl Complex<2> {
    /// `e^(−2πi·jk/n)` in row `j` and column `k`: `[n, n]`.
    fn roots(size: usize, device: &Device) -> Self {
        let values: Vec<(f32, f32)> = (0..size * size)
            .map(|index| root(index / size * (index % size), size))
            .collect();
        Self::of(&values, [size, size], device)
    }
}

/// `e^(−2πi·step/size)`.
fn root(step: usize, size: usize) -> (f32, f32) {
    let turn = (step % size) as f64 / size as f64;
    let (sin, cos) = (std::f64::consts::TAU * turn).sin_cos();
    (cos as f32, -sin as f32)
}

impl Complex<3> {
    /// The transform along the second dimension, a power of two long: `[B, L, D]` → `[B, L, D]`.
    fn transform(self) -> Self {
        /// Up to here a product with the matrix of roots is quick.
        const DENSE: usize = 32;
        let device = self.re.device();
        let [rows, size, width] = self.re.dims();
        if size <= DENSE {
            return self.by_roots();
        }
        let few = DENSE.min(size / 2);
        let rest = size / few;
        // Input place j = rest · j₁ + j₂, output place k = k₁ + few · k₂.
        let fold = |x: Tensor<3>| x.reshape([rows, few, rest * width]);
        let first = Self {
            re: fold(self.re),
            im: fold(self.im),
        }
        .by_roots();
        let twiddles: Vec<(f32, f32)> = (0..size)
            .map(|index| root(index / rest * (index % rest), size))
            .collect();
        let twiddles = Complex::<4>::of(&twiddles, [1, few, rest, 1], &device);
        let unfold = |x: Tensor<3>| x.reshape([rows, few, rest, width]);
        let turned = Complex::<4> {
            re: unfold(first.re),
            im: unfold(first.im),
        }
        .times(&twiddles);
        let flat = |x: Tensor<4>| x.reshape([rows * few, rest, width]);
        let second = Self {
            re: flat(turned.re),
            im: flat(turned.im),
        }
        .transform();
        let order = |x: Tensor<3>| {
            x.reshape([rows, few, rest, width])
                .swap_dims(1, 2)
                .reshape([rows, size, width])
        };
        Self {
            re: order(second.re),
            im: order(second.im),
        }
    }

    fn by_roots(self) -> Self {
        let size = self.re.dims()[1];
        let roots = Complex::roots(size, &self.re.device());
        let (re, im) = (roots.re.unsqueeze::<3>(), roots.im.unsqueeze::<3>());
        Self {
            re: re.clone().matmul(self.re.clone()) - im.clone().matmul(self.im.clone()),
            im: re.matmul(self.im) + im.matmul(self.re),
        }
    }
}
