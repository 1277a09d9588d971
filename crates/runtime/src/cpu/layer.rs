use cloze_kernels::Isa;
use cloze_kernels::op::encode::convolution::{self, convolve};
use cloze_kernels::op::encode::norm::{add_norm, norm_here, norm_into};
use cloze_kernels::op::packed::{PackedLinear, Residual};
use cloze_spec::encoder::{self, Activation, Order};

use super::arena::{Arena, blocks, room};
use super::attention::{Attention, Shared};
use super::plan::{Norm, Reader, activation_of};
use crate::Error;

/// The parameters of one layer, or of several that share them.
pub(super) struct Layer {
    attention: Attention,
    mixer_norm: Option<Norm>,
    up: PackedLinear,
    down: PackedLinear,
    ffn_norm: Norm,
    convolution: Option<Convolution>,
}

struct Convolution {
    weight: Vec<f32>,
    bias: Vec<f32>,
    norm: Norm,
}

impl Layer {
    pub fn new(
        width: usize,
        settings: &encoder::AttentionLayer,
        shared: &Shared,
        reader: &Reader<'_>,
    ) -> Result<Self, Error> {
        let name = |part: &str| format!("layer.{}.{part}", settings.weights);
        let ffn = &settings.ffn;
        let (up, down) = (name("ffn.up"), name("ffn.down"));
        let required = |norm: Option<Norm>| norm.expect("asked for, so made");
        Ok(Self {
            attention: Attention::new(width, settings, shared, reader)?,
            mixer_norm: reader.norm(settings.mixer_norm.as_ref(), &name("mixer_norm"))?,
            up: reader.linear(&up, width, ffn.up_bias, ffn.activation, ffn.gated)?,
            down: reader.linear(&down, ffn.width, ffn.down_bias, Activation::Identity, false)?,
            ffn_norm: required(reader.norm(Some(&settings.ffn_norm), &name("ffn_norm"))?),
            convolution: match &settings.convolution {
                None => None,
                Some(settings) => Some(Convolution {
                    weight: reader.values(&name("convolution.weight"))?,
                    bias: reader.values(&name("convolution.bias"))?,
                    norm: required(reader.norm(Some(&settings.norm), &name("convolution_norm"))?),
                }),
            },
        })
    }

    /// Bytes of weights in memory.
    pub fn bytes(&self) -> usize {
        self.attention.bytes() + self.up.bytes() + self.down.bytes()
    }

    /// The layer's output in the arena's `x`; of the `last` layer, only the selected rows, one after the other.
    pub fn run(
        &self,
        isa: Isa,
        width: usize,
        settings: &encoder::AttentionLayer,
        shared: &Shared,
        arena: &mut Arena,
        last: bool,
    ) {
        let tokens = arena.tokens.len();
        let pre_norm = match settings.order {
            Order::PreNorm => true,
            Order::PostNorm => false,
        };
        if let Some(convolution) = &settings.convolution {
            // What the convolution adds depends on the layer's input, which is overwritten.
            let added = room(&mut arena.input, tokens * width);
            self.convolve(isa, width, convolution, &arena.x, &arena.offsets, added);
        }
        let norm = self.mixer_norm.as_ref().filter(|_| pre_norm);
        self.attention.run(isa, settings, shared, arena, last, norm);
        let rows = match &arena.selected {
            Some(selected) if last => {
                let parts = [&mut arena.x, &mut arena.input];
                for part in parts
                    .into_iter()
                    .filter(|part| part.len() >= tokens * width)
                {
                    // Ascending, so that no row is overwritten before it is moved.
                    for (to, &from) in selected.iter().enumerate() {
                        let from = from as usize * width;
                        part.copy_within(from..from + width, to * width);
                    }
                }
                selected.len()
            }
            _ => tokens,
        };
        let x = &mut arena.x[..rows * width];
        let mixed = &arena.mixed;
        let channels = self.attention.inner();
        let close = |map: &PackedLinear, from: &[f32], norm: &Norm, x: &mut [f32]| {
            let norm = norm.kernel();
            map.forward_then(from, Residual::InPlace, x, |_, rows| {
                norm_here(isa, &norm, rows);
            });
        };
        for rows in blocks(rows) {
            let mixed = &mixed[rows.start * channels..rows.end * channels];
            let x = &mut x[rows.start * width..rows.end * width];
            let output = &self.attention.output;
            let inner = room(&mut arena.inner, rows.len() * self.up.outputs());
            if pre_norm {
                output.forward(mixed, Residual::InPlace, x);
                let y = room(&mut arena.y, rows.len() * width);
                norm_into(isa, &self.ffn_norm.kernel(), x, y);
                self.up.forward(y, Residual::None, inner);
                self.down.forward(inner, Residual::InPlace, x);
            } else {
                match &self.mixer_norm {
                    Some(norm) => close(output, mixed, norm, x),
                    None => output.forward(mixed, Residual::InPlace, x),
                }
                self.up.forward(x, Residual::None, inner);
                close(&self.down, inner, &self.ffn_norm, x);
            }
        }
        if let Some(convolution) = &self.convolution {
            add_norm(
                isa,
                &convolution.norm.kernel(),
                &arena.input[..rows * width],
                x,
            );
        }
    }

    fn convolve(
        &self,
        isa: Isa,
        width: usize,
        settings: &encoder::Convolution,
        x: &[f32],
        offsets: &[u32],
        out: &mut [f32],
    ) {
        let parameters = self.convolution.as_ref().expect("made with the layer");
        let kernel = convolution::Convolution {
            width,
            kernel: settings.kernel,
            groups: settings.groups,
            weight: &parameters.weight,
            bias: &parameters.bias,
        };
        convolve(isa, &kernel, offsets, &x[..out.len()], out);
        cloze_kernels::op::packed::activate(isa, activation_of(settings.activation), out);
    }
}
