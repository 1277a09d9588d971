//! How the tokens of a sequence see each other.

mod attention;

use attention::Attention;
use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::mixer;

use crate::noise::Noise;
use crate::sequences::Sequences;
use crate::weights::Source;

/// Mixing between the tokens of each sequence.
pub(crate) trait Mixer {
    /// # Shapes
    /// `x: [N, D]` → `[N, D]`, or `[M, D]`, the batch's `rows` alone, if `selected`.
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        noise: &mut Noise,
    ) -> Tensor<2>;
}

/// A mixer of any kind.
#[derive(Module, Debug)]
pub(crate) enum AnyMixer {
    Attention(Attention),
}

impl AnyMixer {
    pub fn new(settings: &mixer::Mixer, width: usize, source: &Source<'_>, name: &str) -> Self {
        match settings {
            mixer::Mixer::Attention(attention) => {
                Self::Attention(Attention::new(attention, width, source, name))
            }
        }
    }
}

impl Mixer for AnyMixer {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        noise: &mut Noise,
    ) -> Tensor<2> {
        match self {
            Self::Attention(attention) => attention.forward(x, sequences, selected, noise),
        }
    }
}
