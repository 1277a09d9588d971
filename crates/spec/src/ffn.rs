//! What happens to each token by itself.

use serde::{Deserialize, Serialize};

use crate::Faults;
use crate::inventory::{List, Start};

/// A feed-forward component, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Ffn {
    /// Two linear layers with an activation between them.
    Mlp(Mlp),
    /// The same with one half of the inner layer as a gate of the other.
    Gated(Gated),
    /// Two linear layers with a learned polynomial between them.
    Polynomial(Polynomial),
    /// Tables looked up by the signs of channels.
    Memory(Memory),
    /// A step towards a sparse code.
    Sparse(Sparse),
    /// Nothing: a layer is its mixer alone.
    Absent(Absent),
}

/// `down(activation(up(x)))`, both with bias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    /// Width between the two layers, `F`.
    pub width: usize,
    /// What stands between them.
    pub activation: Activation,
}

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `x Φ(x)` with the exact normal distribution function, not the tanh approximation
    /// (Hendrycks and Gimpel, 2016, arXiv:1606.08415).
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// `x σ(x)` (Elfwing et al., 2017, arXiv:1702.03118).
    Silu,
}

/// `down(activation(a) ⊙ b)` with `[a, b] = up(x)`, neither with bias.
///
/// # Source
/// Shazeer, GLU Variants Improve Transformer, 2020, arXiv:2002.05202, eq. 6: with GELU its `GEGLU`, with `silu` its
/// `SwiGLU`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gated {
    /// Width between the two layers, `F`; the first has twice as many outputs.
    pub width: usize,
    /// What opens the gate.
    pub activation: Activation,
}

/// `down(a₀ + Σ aᵢ f(up(x), i))`, coefficients `a` learned, both layers with bias.
///
/// # Source
/// Zhuo et al., Polynomial Composition Activations, ICLR 2025, arXiv:2411.03884, §2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polynomial {
    /// Width between the two layers, `F`.
    pub width: usize,
    /// What the powers are of.
    pub of: PowersOf,
    /// Highest power; 3 in the paper.
    pub order: usize,
}

/// What a polynomial's powers are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowersOf {
    /// `max(x, 0)ⁱ`
    Relu,
    /// `xⁱ` over the root of its mean square in a token's channels.
    Norm,
}

/// `second(norm(first(x)))` where each map sums rows of tables that the signs of a few channels choose, as much of each
/// as those channels are large and sure.
///
/// # Source
/// Ding et al., Minimize Transformer Computation by Removing Fully-Connected Layers, `NeurIPS` 2024, arXiv:2411.12992,
/// §3; rows weighted as in its public code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Channels that choose a row of a table of the first map, a divisor of the width; a table has `2^bits` rows.
    pub bits: usize,
    /// So many more choose a row in the second.
    pub extra_bits: usize,
}

/// `max(z + step · Dᵀ(z − D z) − step · threshold, 0)`, one step of iterative shrinkage; takes the place of its input,
/// which is not added again.
///
/// # Source
/// Yu et al., White-Box Transformers via Sparse Rate Reduction, JMLR 2024, arXiv:2311.13110, §2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sparse {
    /// Length of the step; 0.1 in the paper.
    pub step: f32,
    /// Weight of the code's size against its error; 0.1 in the paper.
    pub threshold: f32,
}

/// Settings of no feed-forward part: none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {}

impl Memory {
    /// Channels between the two maps, for a model `width` wide.
    pub fn inner(&self, width: usize) -> usize {
        width / self.bits * (self.bits + self.extra_bits)
    }
}

impl Ffn {
    /// Whether the output takes the place of the input, rather than being added to it.
    pub fn replaces(&self) -> bool {
        match self {
            Self::Sparse(_) => true,
            Self::Mlp(_)
            | Self::Gated(_)
            | Self::Polynomial(_)
            | Self::Memory(_)
            | Self::Absent(_) => false,
        }
    }

    pub(crate) fn check(&self, path: &str, width: usize, faults: &mut Faults) {
        let positive = |key: &str, value: f32, faults: &mut Faults| {
            faults.check(
                value > 0.0 && value.is_finite(),
                &format!("{path}.{key}"),
                || format!("expected a positive number, found {value}"),
            );
        };
        match self {
            Self::Mlp(mlp) => faults.check_positive(&format!("{path}.width"), mlp.width),
            Self::Gated(gated) => faults.check_positive(&format!("{path}.width"), gated.width),
            Self::Polynomial(polynomial) => {
                faults.check_positive(&format!("{path}.width"), polynomial.width);
                faults.check_positive(&format!("{path}.order"), polynomial.order);
            }
            Self::Memory(memory) => {
                let bits = memory.bits;
                let fits = (1..=16).contains(&bits) && width.is_multiple_of(bits);
                faults.check(fits, &format!("{path}.bits"), || {
                    format!("expected a divisor of the width {width} from 1 to 16, found {bits}")
                });
                faults.check(
                    bits + memory.extra_bits <= 16,
                    &format!("{path}.extra_bits"),
                    || {
                        format!(
                            "expected at most 16 bits together, found {}",
                            bits + memory.extra_bits
                        )
                    },
                );
            }
            Self::Sparse(sparse) => {
                positive("step", sparse.step, faults);
                positive("threshold", sparse.threshold, faults);
            }
            Self::Absent(_) => {}
        }
    }

    pub(crate) fn list(&self, name: &str, width: usize, list: &mut List) {
        match self {
            Self::Mlp(mlp) => {
                list.linear(&format!("{name}.up"), mlp.width, width);
                list.linear(&format!("{name}.down"), width, mlp.width);
            }
            Self::Gated(gated) => {
                list.add(&format!("{name}.up.weight"), &[2 * gated.width, width]);
                list.add(&format!("{name}.down.weight"), &[width, gated.width]);
            }
            Self::Polynomial(polynomial) => {
                list.linear(&format!("{name}.up"), polynomial.width, width);
                list.start(
                    &format!("{name}.polynomial.weight"),
                    &[polynomial.order],
                    Start::Constant(1.0 / polynomial.order as f32),
                );
                list.add(&format!("{name}.polynomial.bias"), &[1]);
                list.linear(&format!("{name}.down"), width, polynomial.width);
            }
            Self::Memory(memory) => {
                let (tables, inner) = (width / memory.bits, memory.inner(width));
                let more = memory.bits + memory.extra_bits;
                let tables = |part: &str, bits: usize, outputs: usize, list: &mut List| {
                    let rows = tables << bits;
                    list.add(&format!("{name}.{part}.table"), &[rows, outputs]);
                    list.add(&format!("{name}.{part}.bias"), &[outputs]);
                };
                tables("first", memory.bits, inner, list);
                list.norm(&format!("{name}.norm"), inner);
                tables("second", more, width, list);
            }
            Self::Sparse(_) => list.start(
                &format!("{name}.dictionary"),
                &[width, width],
                // As its public code: even, of variance 1/(3 width).
                Start::Uniform(1.0 / (width as f32).sqrt()),
            ),
            Self::Absent(_) => {}
        }
    }
}
