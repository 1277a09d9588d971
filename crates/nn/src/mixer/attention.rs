use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use cloze_spec::encoder;
use cloze_spec::mixer::{self, Position, Rotary, Score};

use super::scored::{self, Learned};
use super::{Mixer, read_shares, sum_by};
use crate::linear::Linear;
use crate::noise::Noise;
use crate::op::{self, Activation, Dropout};
use crate::sequences::Sequences;
use crate::weights::{Source, Weight};

/// Multi-head softmax attention with one projection for queries, keys and values.
///
/// Plain, causal, turned, and in host memory with a window, it runs fused; otherwise from Burn's operations.
///
/// # Source
/// Vaswani et al., NeurIPS 2017, §3.2; options as in their settings.
#[derive(Module, Debug)]
pub(crate) struct Attention {
    qkv: Linear,
    output: Linear,
    sink: Option<Sink>,
    gate: Option<Gate>,
    position: Option<Table>,
    #[module(skip)]
    settings: mixer::Attention,
    /// Tells layers apart.
    #[module(skip)]
    name: String,
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

/// A row a distance: numbers of each head, or vectors.
#[derive(Module, Debug)]
struct Table {
    weight: Weight<2>,
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
            position: match &settings.position {
                Some(Position::Buckets(_) | Position::Disentangled(_)) => Some(Table {
                    weight: source.parameter(&format!("{name}.position.weight")),
                }),
                Some(Position::Alibi(_) | Position::Rotary(_)) | None => None,
            },
            settings: settings.clone(),
            name: name.to_owned(),
        }
    }

    /// Whether one kernel does it on `device`. Where there are none of ours, a window costs less by blocks.
    pub fn is_fused(&self, device: &Device) -> bool {
        let settings = &self.settings;
        (settings.window.is_none() || op::on_host(device))
            && settings.blocks.is_none()
            && settings.score.is_none()
            && matches!(settings.position, None | Some(Position::Rotary(_)))
    }

    /// Queries, keys and values side by side: `[N, D]` → `[N, 3D]`.
    fn maps(&self, x: Tensor<2>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let maps = self.qkv.forward(x, Activation::Identity);
        if !self.settings.tied {
            return maps;
        }
        let same = maps.clone().slice([0..rows, 0..width]);
        Tensor::cat(vec![same, maps], 1)
    }

    /// The same, turned.
    fn turned(&self, x: Tensor<2>, offsets: &Arc<[u32]>) -> Tensor<2> {
        let heads = self.settings.heads;
        let width = x.dims()[1] / heads;
        let qkv = self.maps(x);
        match &self.settings.position {
            Some(Position::Rotary(rotary)) => op::turn(qkv, offsets, heads, &angles(rotary, width)),
            _ => qkv,
        }
    }

    /// What each token takes from the others, before the output map: `qkv: [N, 3D]` of `x: [N, D]` → `[N, D]`.
    fn take(
        &self,
        qkv: Tensor<2>,
        x: Tensor<2>,
        offsets: &Arc<[u32]>,
        dropout: Dropout,
    ) -> Tensor<2> {
        let settings = &self.settings;
        let mut mixed = if self.is_fused(&x.device()) {
            op::attention(
                qkv,
                offsets,
                settings.heads,
                op::Sight {
                    causal: settings.causal,
                    window: settings.window,
                    global: settings.global.unwrap_or(0),
                },
                dropout,
            )
        } else {
            let table = self.position.as_ref().map(|table| table.weight.val());
            let learned = Learned {
                sink: self.sink.as_ref().map(|sink| sink.bias.val()),
                table: match &settings.position {
                    Some(Position::Disentangled(_)) => table.map(|vectors| self.maps(vectors)),
                    _ => table,
                },
            };
            scored::attend(settings, &self.name, qkv, offsets, &learned, dropout)
        };
        if let Some(gate) = &self.gate {
            let [tokens, width] = x.dims();
            let by_head = [tokens, settings.heads, width / settings.heads];
            let open = (x.reshape(by_head) * gate.weight.val().unsqueeze()).sum_dim(2)
                + gate.bias.val().reshape([1, settings.heads, 1]);
            mixed = (mixed.reshape(by_head) * activation::sigmoid(open)).reshape([tokens, width]);
        }
        mixed
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
        let qkv = self.turned(x.clone(), &sequences.offsets);
        let dropout = noise.dropout(self.settings.dropout);
        let mixed = self.take(qkv, x, &sequences.offsets, dropout);
        self.output
            .forward(sequences.wanted(mixed, selected), Activation::Identity)
    }

    fn shares(&self, x: Tensor<2>) -> Option<Tensor<3>> {
        let [tokens, width] = x.dims();
        let offsets = Arc::from([0, tokens as u32]);
        let heads = self.settings.heads;
        let query_key = self.turned(x.clone(), &offsets).narrow(1, 0, 2 * width);
        let sides = [tokens, heads, width / heads];
        Some(read_shares(sides, &x.device(), |values| {
            let qkv = Tensor::cat(vec![query_key.clone(), values], 1);
            self.take(qkv, x.clone(), &offsets, Dropout::NONE)
        }))
    }

    fn summed(&self, x: Tensor<2>, shares: Tensor<3>) -> Option<Tensor<2>> {
        let width = x.dims()[1];
        let values = self.maps(x).narrow(1, 2 * width, width);
        Some(
            self.output
                .forward(sum_by(shares, values), Activation::Identity),
        )
    }
}

/// The angles of heads of `width` channels, pair `i` being channels `i` and `i + K/2`.
fn angles(rotary: &Rotary, width: usize) -> encoder::Rotary {
    let frequency = |pair| f64::from(rotary.base).powf(-2.0 * pair as f64 / width as f64) as f32;
    encoder::Rotary {
        frequencies: (0..width / 2).map(frequency).collect(),
        amplitude: 1.0,
        interleaved: false,
    }
}
