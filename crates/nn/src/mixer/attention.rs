use burn::module::Module;
use burn::tensor::{Tensor, activation};
use cloze_spec::mixer::{self, Score};

use super::{Mixer, scored};
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{self, Activation};
use crate::sequences::Sequences;
use crate::weights::{Source, Weight};

/// Multi-head softmax attention with one projection for queries, keys and values.
///
/// Without a window, another score or positions it runs fused; with one of them, from Burn's operations.
///
/// # Source
/// Vaswani et al., NeurIPS 2017, §3.2; options as in their settings.
#[derive(Module, Debug)]
pub(crate) struct Attention {
    qkv: Linear,
    output: Linear,
    sink: Option<Sink>,
    gate: Option<Gate>,
    #[module(skip)]
    settings: mixer::Attention,
}

/// A score a head for nothing, `[H]`.
#[derive(Module, Debug)]
struct Sink {
    bias: Weight<1>,
}

/// Weights of each head's slice of the input, `[H, K]`, and `[H]`.
#[derive(Module, Debug)]
struct Gate {
    weight: Weight<2>,
    bias: Weight<1>,
}

impl Attention {
    pub fn new(settings: &mixer::Attention, width: usize, source: &Source<'_>, name: &str) -> Self {
        assert!(
            width.is_multiple_of(settings.heads),
            "heads divide the width, as validated"
        );
        Self {
            qkv: Linear::new(source, &format!("{name}.qkv")),
            output: Linear::new(source, &format!("{name}.output")),
            sink: matches!(settings.score, Some(Score::Sink(_))).then(|| Sink {
                bias: source.parameter(&format!("{name}.sink.bias")),
            }),
            gate: settings.gate.as_ref().map(|_| Gate {
                weight: source.parameter(&format!("{name}.gate.weight")),
                bias: source.parameter(&format!("{name}.gate.bias")),
            }),
            settings: settings.clone(),
        }
    }

    /// Whether one kernel does it: without a window, another score or positions.
    pub fn is_fused(&self) -> bool {
        let settings = &self.settings;
        settings.window.is_none() && settings.score.is_none() && settings.position.is_none()
    }
}

impl Mixer for Attention {
    fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        noise: &mut Noise,
    ) -> Tensor<2> {
        let settings = &self.settings;
        let qkv = self.qkv.forward(x.clone(), Activation::Identity); // [N, 3D]
        let dropout = noise.dropout(settings.dropout);
        let offsets = &sequences.offsets;
        let mut mixed = if self.is_fused() {
            op::attention(
                qkv,
                offsets,
                settings.heads,
                op::Sight {
                    causal: settings.causal,
                    window: None,
                },
                dropout,
            )
        } else {
            let sink = self.sink.as_ref().map(|sink| sink.bias.val());
            scored::attend(settings, qkv, offsets, sink.as_ref(), dropout)
        };
        if let Some(gate) = &self.gate {
            let [tokens, width] = x.dims();
            let by_head = [tokens, settings.heads, width / settings.heads];
            let open = (x.reshape(by_head) * gate.weight.val().unsqueeze()).sum_dim(2)
                + gate.bias.val().reshape([1, settings.heads, 1]);
            mixed = (mixed.reshape(by_head) * activation::sigmoid(open)).reshape([tokens, width]);
        }
        self.output
            .forward(sequences.wanted(mixed, selected), Activation::Identity)
    }
}
