use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::module::conv1d;
use burn::tensor::ops::ConvOptions;
use cloze_spec::encoder::{self, Activation};

use super::attention::Attention;
use super::{Linear, Norm, Pass, activate, norms_first};
use crate::block::Block;
use crate::noise::Noise;
use crate::op::{self, Dropout};
use crate::sequences::Sequences;
use crate::site::{Hook, Site};
use crate::weights::Source;

/// One layer.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a model has few layers, and modules cannot be boxed"
)]
pub(super) enum Layer {
    Attention(AttentionLayer),
    Mixer(Block),
}

impl Layer {
    pub fn new(settings: &encoder::Layer, source: &Source<'_>, name: &str) -> Self {
        match settings {
            encoder::Layer::Attention(layer) => {
                Self::Attention(AttentionLayer::new(layer, source, name))
            }
            encoder::Layer::Mixer(layer) => {
                Self::Mixer(Block::new(&layer.parts, layer.room, source, name))
            }
        }
    }

    /// # Shapes
    /// `x: [N, D]` → `[N, D]`, or `[M, D]` if the pass carries on `M` rows.
    pub fn forward(
        &self,
        settings: &encoder::Layer,
        x: Tensor<2>,
        pass: Pass<'_>,
        noise: &mut Noise,
        hook: &mut Hook<'_>,
    ) -> Tensor<2> {
        match (self, settings) {
            (Self::Attention(layer), encoder::Layer::Attention(settings)) => {
                layer.forward(settings, x, pass, noise, hook)
            }
            (Self::Mixer(block), _) => mixed(block, x, pass, noise, hook),
            (Self::Attention(_), encoder::Layer::Mixer(_)) => {
                unreachable!("a layer is made of its settings")
            }
        }
    }

    /// What the mixer makes of what it is given: `[N, D]` → `[N, D]`.
    pub fn mixed(&self, settings: &encoder::Layer, x: Tensor<2>, pass: Pass<'_>) -> Tensor<2> {
        match (self, settings.attention()) {
            (Self::Attention(layer), Some(settings)) => {
                let noise = &mut Noise::none();
                let mixed = layer.mixer.forward(&settings.attention, x, pass, noise);
                layer.mixer.output.forward(mixed, Activation::Identity)
            }
            (Self::Mixer(block), _) => {
                let sequences = Sequences::of_vectors(pass.offsets.clone(), Arc::default());
                block.mixed(x, &sequences)
            }
            (Self::Attention(_), None) => unreachable!("a layer is made of its settings"),
        }
    }

    /// How much each token of one sequence takes of each, by head: `[T, D]` → `[H, T, T]`; none where the mixer does not sum
    /// values by such numbers alone.
    pub fn shares(
        &self,
        settings: &encoder::Layer,
        x: Tensor<2>,
        pass: Pass<'_>,
    ) -> Option<Tensor<3>> {
        match (self, settings.attention()) {
            (Self::Attention(layer), Some(settings)) => {
                Some(layer.mixer.shares(&settings.attention, x, pass))
            }
            (Self::Mixer(block), _) => block.shares(x),
            (Self::Attention(_), None) => unreachable!("a layer is made of its settings"),
        }
    }

    /// As of [`Block::summed`].
    pub fn summed(
        &self,
        settings: &encoder::Layer,
        x: Tensor<2>,
        shares: Tensor<3>,
    ) -> Option<Tensor<2>> {
        match (self, settings.attention()) {
            (Self::Attention(layer), Some(settings)) => {
                Some(layer.mixer.summed(&settings.attention, x, shares))
            }
            (Self::Mixer(block), _) => block.summed(x, shares),
            (Self::Attention(_), None) => unreachable!("a layer is made of its settings"),
        }
    }
}

/// As of [`Layer::forward`].
fn mixed(
    block: &Block,
    x: Tensor<2>,
    pass: Pass<'_>,
    noise: &mut Noise,
    hook: &mut Hook<'_>,
) -> Tensor<2> {
    assert!(
        pass.keys.is_none(),
        "no token is out of a mixer's sight, as validated"
    );
    // Those of a pair's beginnings stand behind the hidden ones.
    let rows = pass.rows.cloned().unwrap_or_default();
    let rising = rows.is_sorted_by(|a, b| a < b);
    let sequences = Sequences::of_vectors(pass.offsets.clone(), rows);
    let selected = pass.rows.is_some();
    let few = selected && rising;
    let x = block.forward(x, &sequences, few, pass.rates.hidden, noise, hook);
    sequences.wanted(x, selected && !rising)
}

/// Attention and feed-forward part, each with its residual connection and norm.
#[derive(Module, Debug)]
pub(super) struct AttentionLayer {
    mixer: Attention,
    mixer_norm: Option<Norm>,
    ffn: Ffn,
    ffn_norm: Norm,
    convolution: Option<Convolution>,
    convolution_norm: Option<Norm>,
}

impl AttentionLayer {
    fn new(settings: &encoder::AttentionLayer, source: &Source<'_>, name: &str) -> Self {
        let norm = |settings, part| Norm::of(settings, source, &format!("{name}.{part}"));
        let convolution = settings.convolution.as_ref();
        Self {
            mixer: Attention::new(&settings.attention, source, &format!("{name}.mixer")),
            mixer_norm: norm(settings.mixer_norm.as_ref(), "mixer_norm"),
            ffn: Ffn {
                up: Linear::new(settings.ffn.up_bias, source, &format!("{name}.ffn.up")),
                down: Linear::new(settings.ffn.down_bias, source, &format!("{name}.ffn.down")),
            },
            ffn_norm: Norm::new(settings.ffn_norm, source, &format!("{name}.ffn_norm")),
            convolution: convolution.map(|_| Convolution {
                weight: Param::from_tensor(source.tensor(&format!("{name}.convolution.weight"))),
                bias: Param::from_tensor(source.tensor(&format!("{name}.convolution.bias"))),
            }),
            convolution_norm: norm(convolution.map(|c| &c.norm), "convolution_norm"),
        }
    }

    fn forward(
        &self,
        settings: &encoder::AttentionLayer,
        x: Tensor<2>,
        pass: Pass<'_>,
        noise: &mut Noise,
        hook: &mut Hook<'_>,
    ) -> Tensor<2> {
        let hidden = pass.rates.hidden;
        let input = x.clone();
        let normed = match &self.mixer_norm {
            Some(norm) if norms_first(settings.order) => {
                norm.forward(x.clone(), None, Dropout::NONE)
            }
            _ => x.clone(),
        };
        let normed = hook.at(Site::Input, normed);
        // A convolution sees every token's neighbours once more.
        let rows = pass.rows.filter(|_| self.convolution.is_none());
        let few = |x| match rows {
            Some(rows) => op::select_rows(x, rows),
            None => x,
        };
        let mixed = self.mixer.forward(&settings.attention, normed, pass, noise);
        let mixed = self.mixer.output.forward(few(mixed), Activation::Identity);
        let mixed = hook.at(Site::Mixer, mixed);
        let (x, drop) = (few(x), noise.dropout(hidden));
        let x = if norms_first(settings.order) {
            let x = hook.at(Site::Middle, op::dropout_add(mixed, Some(x), drop));
            let normed = self.ffn_norm.forward(x.clone(), None, Dropout::NONE);
            let fed = hook.at(Site::Ffn, self.ffn.forward(&settings.ffn, normed));
            op::dropout_add(fed, Some(x), noise.dropout(hidden))
        } else {
            let x = match &self.mixer_norm {
                Some(norm) => norm.forward(mixed, Some(x), drop),
                None => op::dropout_add(mixed, Some(x), drop),
            };
            let x = hook.at(Site::Middle, x);
            let fed = hook.at(Site::Ffn, self.ffn.forward(&settings.ffn, x.clone()));
            self.ffn_norm.forward(fed, Some(x), noise.dropout(hidden))
        };
        match (
            &settings.convolution,
            &self.convolution,
            &self.convolution_norm,
        ) {
            (Some(settings), Some(convolution), Some(norm)) => {
                let convolved = convolution.forward(settings, &input, pass.offsets);
                let x = norm.forward(convolved, Some(x), Dropout::NONE);
                match pass.rows {
                    Some(rows) => op::select_rows(x, rows),
                    None => x,
                }
            }
            _ => x,
        }
    }
}

/// `down(activation(up(x)))`, or `down(activation(a)·b)` for the halves `a` and `b` of `up(x)`.
#[derive(Module, Debug)]
struct Ffn {
    up: Linear,
    down: Linear,
}

impl Ffn {
    fn forward(&self, settings: &encoder::Ffn, x: Tensor<2>) -> Tensor<2> {
        let inner = if settings.gated {
            let both = self.up.forward(x, Activation::Identity);
            let rows = both.dims()[0];
            let half = |from: usize| both.clone().slice([0..rows, from..from + settings.width]);
            activate(half(0), settings.activation) * half(settings.width)
        } else {
            self.up.forward(x, settings.activation)
        };
        self.down.forward(inner, Activation::Identity)
    }
}

/// A convolution along each sequence; beyond its ends is zero.
#[derive(Module, Debug)]
struct Convolution {
    weight: Param<Tensor<3>>,
    bias: Param<Tensor<1>>,
}

impl Convolution {
    fn forward(
        &self,
        settings: &encoder::Convolution,
        x: &Tensor<2>,
        offsets: &[u32],
    ) -> Tensor<2> {
        let width = x.dims()[1];
        let padding = settings.kernel / 2;
        let sequences = offsets.windows(2).map(|w| {
            // [T, D] → [1, D, T] → [T, D]
            let one = x.clone().slice([w[0] as usize..w[1] as usize, 0..width]);
            let options = ConvOptions::new([1], [padding], [1], settings.groups);
            let one = one.transpose().unsqueeze::<3>();
            let one = conv1d(one, self.weight.val(), Some(self.bias.val()), options);
            one.squeeze_dim::<2>(0).transpose()
        });
        activate(Tensor::cat(sequences.collect(), 0), settings.activation)
    }
}
