//! What happens to each token by itself.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, activation};
use cloze_spec::ffn;
use cloze_spec::norm::{Layer, Norm};

use crate::linear::Linear;
use crate::norm::AnyNorm;
use crate::op::Activation;
use crate::weights::{Source, Weight};

/// A feed-forward component of any kind.
#[derive(Module, Debug)]
pub(crate) enum AnyFfn {
    Mlp(Mlp),
    Gated(Gated),
    Polynomial(Polynomial),
    Memory(Memory),
    Sparse(Sparse),
}

impl AnyFfn {
    /// The part that `settings` ask for; none if they ask for none.
    pub fn new(settings: &ffn::Ffn, source: &Source<'_>, name: &str) -> Option<Self> {
        Some(match settings {
            ffn::Ffn::Absent(_) => return None,
            ffn::Ffn::Mlp(mlp) => Self::Mlp(Mlp::new(mlp, source, name)),
            ffn::Ffn::Gated(gated) => Self::Gated(Gated::new(gated, source, name)),
            ffn::Ffn::Polynomial(polynomial) => {
                Self::Polynomial(Polynomial::new(polynomial, source, name))
            }
            ffn::Ffn::Memory(memory) => Self::Memory(Memory::new(memory, source, name)),
            ffn::Ffn::Sparse(sparse) => Self::Sparse(Sparse::new(sparse, source, name)),
        })
    }

    /// # Shapes
    /// `[N, D]` → `[N, D]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Mlp(mlp) => mlp.forward(x),
            Self::Gated(gated) => gated.forward(x),
            Self::Polynomial(polynomial) => polynomial.forward(x),
            Self::Memory(memory) => memory.forward(x),
            Self::Sparse(sparse) => sparse.forward(x),
        }
    }
}

fn activate(activation: ffn::Activation, x: Tensor<2>) -> Tensor<2> {
    match activation {
        ffn::Activation::Gelu => activation::gelu(x),
        ffn::Activation::Relu => activation::relu(x),
        ffn::Activation::Silu => activation::silu(x),
    }
}

/// `down(activation(up(x)))`.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    up: Linear,
    down: Linear,
    #[module(skip)]
    activation: ffn::Activation,
}

impl Mlp {
    fn new(settings: &ffn::Mlp, source: &Source<'_>, name: &str) -> Self {
        Self {
            up: Linear::new(source, &format!("{name}.up")),
            down: Linear::new(source, &format!("{name}.down")),
            activation: settings.activation,
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let inner = match self.activation {
            ffn::Activation::Gelu => self.up.forward(x, Activation::Gelu),
            other @ (ffn::Activation::Relu | ffn::Activation::Silu) => {
                activate(other, self.up.forward(x, Activation::Identity))
            }
        };
        self.down.forward(inner, Activation::Identity)
    }
}

/// `down(activation(a) ⊙ b)` with `[a, b] = up(x)`.
///
/// # Source
/// Shazeer, 2020, arXiv:2002.05202, eq. 6.
#[derive(Module, Debug)]
pub(crate) struct Gated {
    up: Linear,
    down: Linear,
    #[module(skip)]
    activation: ffn::Activation,
}

impl Gated {
    fn new(settings: &ffn::Gated, source: &Source<'_>, name: &str) -> Self {
        Self {
            up: Linear::unbiased(source, &format!("{name}.up")),
            down: Linear::unbiased(source, &format!("{name}.down")),
            activation: settings.activation,
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let tokens = x.dims()[0];
        let both = self.up.forward(x, Activation::Identity); // [N, 2F]
        let width = both.dims()[1] / 2;
        let half = |from: usize| both.clone().slice([0..tokens, from..from + width]);
        let inner = activate(self.activation, half(0)) * half(width);
        self.down.forward(inner, Activation::Identity)
    }
}

/// `down(a₀ + Σ aᵢ f(up(x), i))`.
///
/// # Source
/// Zhuo et al., ICLR 2025, arXiv:2411.03884, §2; the mean square with 1e-6 added, as in its public code.
#[derive(Module, Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "fields are named as their parameters are"
)]
pub(crate) struct Polynomial {
    up: Linear,
    polynomial: Coefficients,
    down: Linear,
    #[module(skip)]
    of: ffn::PowersOf,
}

/// `a₁, a₂, …` and `a₀`.
#[derive(Module, Debug)]
struct Coefficients {
    weight: Weight<1>,
    bias: Weight<1>,
}

impl Polynomial {
    fn new(settings: &ffn::Polynomial, source: &Source<'_>, name: &str) -> Self {
        Self {
            up: Linear::new(source, &format!("{name}.up")),
            polynomial: Coefficients {
                weight: source.parameter(&format!("{name}.polynomial.weight")),
                bias: source.parameter(&format!("{name}.polynomial.bias")),
            },
            down: Linear::new(source, &format!("{name}.down")),
            of: settings.of,
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let inner = self.up.forward(x, Activation::Identity);
        let inner = match self.of {
            ffn::PowersOf::Relu => activation::relu(inner),
            ffn::PowersOf::Norm => inner,
        };
        let weight = self.polynomial.weight.val();
        let mut sum = self.polynomial.bias.val().unsqueeze::<2>();
        let mut power = inner.clone();
        for index in 0..weight.dims()[0] {
            if index > 0 {
                power = power * inner.clone();
            }
            let term = match self.of {
                ffn::PowersOf::Relu => power.clone(),
                ffn::PowersOf::Norm => {
                    let square = power.clone().square().mean_dim(1).add_scalar(1e-6);
                    power.clone() / square.sqrt()
                }
            };
            let factor = weight.clone().slice([index..=index]).unsqueeze::<2>();
            sum = sum + term * factor;
        }
        self.down.forward(sum, Activation::Identity)
    }
}

/// `second(norm(first(x)))`, both maps of tables.
///
/// # Source
/// Ding et al., `NeurIPS` 2024, arXiv:2411.12992, §3.
#[derive(Module, Debug)]
pub(crate) struct Memory {
    first: Tables,
    norm: AnyNorm,
    second: Tables,
}

impl Memory {
    fn new(settings: &ffn::Memory, source: &Source<'_>, name: &str) -> Self {
        let tables = |part: &str, bits: usize| Tables {
            table: source.parameter(&format!("{name}.{part}.table")),
            bias: source.parameter(&format!("{name}.{part}.bias")),
            bits,
        };
        let norm = Norm::Layer(Layer { eps: 1e-5 });
        Self {
            first: tables("first", settings.bits),
            norm: AnyNorm::new(&norm, source, &format!("{name}.norm")),
            second: tables("second", settings.bits + settings.extra_bits),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let inner = self.norm.forward(self.first.forward(x));
        self.second.forward(inner)
    }
}

/// A table for each `bits` channels, all `[K · 2^bits, O]`, and a bias.
#[derive(Module, Debug)]
struct Tables {
    table: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    bits: usize,
}

impl Tables {
    /// A table's row is the number whose bits say which of its channels are not below 0, the first the highest; it
    /// counts as much as the sum of their sizes, times the chance `Π σ(2|z|)` of just these signs.
    ///
    /// # Shapes
    /// `[N, K · bits]` → `[N, O]`
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let device = x.device();
        let [tokens, width] = x.dims();
        let (bits, tables) = (self.bits, width / self.bits);
        let groups = x.reshape([tokens, tables, bits]);
        let places: Vec<i32> = (0..bits).rev().map(|bit| 1 << bit).collect();
        let places = Tensor::<1, Int>::from_data(places.as_slice(), &device);
        let first: Vec<i32> = (0..tables as i32).map(|table| table << bits).collect();
        let first = Tensor::<1, Int>::from_data(first.as_slice(), &device);
        let set = groups.clone().greater_equal_elem(0.0).int() * places.reshape([1, 1, bits]);
        let row = set.sum_dim(2) + first.reshape([1, tables, 1]); // [N, K, 1]

        let size = groups.abs();
        let sure = activation::log_sigmoid(size.clone().mul_scalar(2.0))
            .sum_dim(2)
            .exp();
        let weight = size.sum_dim(2) * sure; // [N, K, 1]
        let table = self.table.val();
        let outputs = table.dims()[1];
        let found = table
            .select(0, row.reshape([tokens * tables]))
            .reshape([tokens, tables, outputs]);
        let sum = (found * weight).sum_dim(1).reshape([tokens, outputs]);
        sum + self.bias.val().unsqueeze()
    }
}

/// `max(z + step · Dᵀ(z − D z) − step · threshold, 0)`.
///
/// # Source
/// Yu et al., JMLR 2024, arXiv:2311.13110, §2.
#[derive(Module, Debug)]
pub(crate) struct Sparse {
    dictionary: Param<Tensor<2>>,
    step: f32,
    threshold: f32,
}

impl Sparse {
    fn new(settings: &ffn::Sparse, source: &Source<'_>, name: &str) -> Self {
        Self {
            dictionary: source.parameter(&format!("{name}.dictionary")),
            step: settings.step,
            threshold: settings.threshold,
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        // Tokens are rows here, so D z is x Dᵀ.
        let dictionary = self.dictionary.val();
        let error = x.clone() - x.clone().matmul(dictionary.clone().transpose());
        let towards = error.matmul(dictionary).mul_scalar(self.step);
        activation::relu(x + towards.sub_scalar(self.step * self.threshold))
    }
}
