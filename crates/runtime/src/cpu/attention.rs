use std::ops::Range;

use cloze_kernels::Isa;
use cloze_kernels::op::encode::attention::{self, Position};
use cloze_kernels::op::encode::norm::{norm_into, norm_queries_and_keys};
use cloze_kernels::op::encode::rotary::{Rotary, rotate};
use cloze_kernels::op::packed::{PackedLinear, Residual};
use cloze_spec::Encoder;
use cloze_spec::encoder::{self, Activation, Relative, alibi_slopes};

use super::arena::{Arena, blocks, room};
use super::plan::{Norm, Reader};
use crate::Error;

/// Most floats of queries, keys and values that lie side by side, if that many hold a few heads: of a long text, all heads'
/// would be the largest thing in memory.
const TOGETHER: usize = 2 << 20;

/// What all layers' attention is told of distance.
pub(super) struct Shared {
    /// Cosines and sines, one table for each setting that layers have.
    rotaries: Vec<(encoder::Rotary, Rotary)>,
    slopes: Vec<f32>,
    /// `[H, 2·max + 1]`, by distance.
    buckets: Vec<f32>,
    /// Position vectors, normed, `[2·span, D]`.
    vectors: Vec<f32>,
    /// Row of `vectors` for each distance `query − key`, from `1 − max_len` on.
    rows: Vec<u32>,
}

impl Shared {
    pub fn new(encoder: &Encoder, reader: &Reader<'_>) -> Result<Self, Error> {
        let mut shared = Self {
            rotaries: Vec::new(),
            slopes: Vec::new(),
            buckets: Vec::new(),
            vectors: Vec::new(),
            rows: Vec::new(),
        };
        for layer in encoder.layers.iter().filter_map(encoder::Layer::attention) {
            match &layer.attention.position {
                encoder::Position::Rotary(settings) => {
                    if !shared.rotaries.iter().any(|(known, _)| known == settings) {
                        let table = Rotary::new(
                            &settings.frequencies,
                            settings.amplitude,
                            settings.interleaved,
                            encoder.max_len,
                        );
                        shared.rotaries.push((settings.clone(), table));
                    }
                }
                encoder::Position::Alibi => shared.slopes = alibi_slopes(layer.attention.heads),
                encoder::Position::None
                | encoder::Position::Buckets
                | encoder::Position::Key(_)
                | encoder::Position::Disentangled(_) => {}
            }
        }
        match &encoder.relative {
            None => {}
            Some(
                relative @ Relative::Bias {
                    max_distance,
                    heads,
                    ..
                },
            ) => {
                let table = reader.values("relative.weight")?;
                let max = *max_distance as isize;
                let head = |head| (-max..=max).map(move |ahead| (head, ahead));
                let entry =
                    |(head, ahead): (usize, isize)| table[relative.row(-ahead) * heads + head];
                shared.buckets = (0..*heads).flat_map(head).map(entry).collect();
            }
            Some(relative @ Relative::Vectors { norm, .. }) => {
                shared.vectors = reader.values("relative.weight")?;
                if let Some(norm) = reader.norm(norm.as_ref(), "relative.norm")? {
                    let isa = reader.isa;
                    cloze_kernels::op::encode::norm::norm(isa, &norm.kernel(), &mut shared.vectors);
                }
                let far = encoder.max_len as isize - 1;
                shared.rows = (-far..=far)
                    .map(|distance| relative.row(distance) as u32)
                    .collect();
            }
        }
        Ok(shared)
    }
}

/// A layer's attention.
pub(super) struct Attention {
    qkv: PackedLinear,
    pub output: PackedLinear,
    query_key_norm: Option<(Norm, Norm)>,
    /// Vectors per distance, `[2·max + 1, K]`.
    distance: Option<Vec<f32>>,
    /// Position vectors as keys, `[2·span, H·K]`.
    position_keys: Option<Vec<f32>>,
    /// Position vectors as queries, `[2·span, H·K]`.
    position_queries: Option<Vec<f32>>,
}

impl Attention {
    pub fn new(
        width: usize,
        layer: &encoder::AttentionLayer,
        shared: &Shared,
        reader: &Reader<'_>,
    ) -> Result<Self, Error> {
        let settings = &layer.attention;
        let name = |part: &str| format!("layer.{}.mixer.{part}", layer.weights);
        let inner = settings.heads * settings.head_width;
        let identity = Activation::Identity;
        let norm = settings.qk_norm.as_ref();
        let queries = reader.norm(norm, &name("query_norm"))?;
        let keys = reader.norm(norm, &name("key_norm"))?;
        let (mut distance, mut position_keys, mut position_queries) = (None, None, None);
        match &settings.position {
            encoder::Position::None
            | encoder::Position::Rotary(_)
            | encoder::Position::Alibi
            | encoder::Position::Buckets => {}
            encoder::Position::Key(_) => distance = Some(reader.values(&name("distance.weight"))?),
            encoder::Position::Disentangled(meet) => {
                // Positions are the same for every input: their maps are applied once, here.
                let map = |further: &str, part: usize| -> Result<Vec<f32>, Error> {
                    let (weight, bias) = if meet.shared_maps {
                        let rows = part * inner..(part + 1) * inner;
                        let weight = reader.values(&name("qkv.weight"))?;
                        let bias = reader.optional(settings.qkv_bias, &name("qkv.bias"))?;
                        (
                            weight[rows.start * width..rows.end * width].to_vec(),
                            bias.map(|bias| bias[rows].to_vec()),
                        )
                    } else {
                        let weight = reader.values(&name(&format!("{further}.weight")))?;
                        (
                            weight,
                            Some(reader.values(&name(&format!("{further}.bias")))?),
                        )
                    };
                    let map = PackedLinear::new(
                        reader.isa,
                        width,
                        &weight,
                        bias.as_deref(),
                        super::plan::activation_of(identity),
                        false,
                        cloze_kernels::op::packed::Storage::F32,
                    );
                    let mut mapped = vec![0.0; shared.vectors.len() / width * inner];
                    map.forward(&shared.vectors, Residual::None, &mut mapped);
                    Ok(mapped)
                };
                if meet.content_to_position {
                    position_keys = Some(map("position_key", 1)?);
                }
                if meet.position_to_content {
                    position_queries = Some(map("position_query", 0)?);
                }
            }
        }
        Ok(Self {
            qkv: reader.linear(&name("qkv"), width, settings.qkv_bias, identity, false)?,
            output: reader.linear(
                &name("output"),
                inner,
                settings.output_bias,
                identity,
                false,
            )?,
            query_key_norm: queries.zip(keys),
            distance,
            position_keys,
            position_queries,
        })
    }

    /// Bytes of weights in memory.
    pub fn bytes(&self) -> usize {
        let tables = [&self.distance, &self.position_keys, &self.position_queries];
        let tables: usize = tables
            .into_iter()
            .flatten()
            .map(|table| 4 * table.len())
            .sum();
        self.qkv.bytes() + self.output.bytes() + tables
    }

    /// Channels of all heads, `H·K`.
    pub fn inner(&self) -> usize {
        self.output.inputs()
    }

    /// Mixes the arena's `x`, after the `norm` if there is one, into `mixed`; of the `last` layer, only the selected rows.
    pub fn run(
        &self,
        isa: Isa,
        layer: &encoder::AttentionLayer,
        shared: &Shared,
        arena: &mut Arena,
        last: bool,
        norm: Option<&Norm>,
    ) {
        let settings = &layer.attention;
        let (heads, head_width) = (settings.heads, settings.head_width);
        let tokens = arena.tokens.len();
        let mut rotary = None;
        let position = match &settings.position {
            encoder::Position::None => Position::None,
            encoder::Position::Rotary(wanted) => {
                let known = shared.rotaries.iter().find(|(known, _)| known == wanted);
                rotary = known.map(|(_, table)| table);
                Position::None
            }
            encoder::Position::Alibi => Position::Alibi {
                slopes: &shared.slopes,
            },
            encoder::Position::Buckets => Position::Bias {
                table: &shared.buckets,
            },
            encoder::Position::Key(key) => Position::Key {
                table: self.distance.as_deref().expect("made with the layer"),
                keys: key.keys,
            },
            encoder::Position::Disentangled(_) => Position::Disentangled {
                keys: self.position_keys.as_deref(),
                queries: self.position_queries.as_deref(),
                rows: &shared.rows,
            },
        };
        let queries = arena.selected.as_deref().filter(|_| last);
        let rows = queries.map_or(tokens, <[u32]>::len);
        let kernel = attention::Attention {
            offsets: &arena.offsets,
            heads,
            head_width,
            scale: settings.scale,
            window: settings.window,
            log_scale: settings.log_scale,
            position,
            queries,
        };
        let mixed = room(&mut arena.mixed, rows * self.inner());
        let x = &arena.x[..tokens * self.qkv.inputs()];
        let group = self.group(head_width, tokens);
        for first in (0..heads).step_by(group) {
            let held = first..heads.min(first + group);
            let qkv = room(&mut arena.inner, tokens * 3 * held.len() * head_width);
            self.project(isa, &held, head_width, norm, x, &mut arena.y, qkv);
            if let Some((queries, keys)) = &self.query_key_norm {
                norm_queries_and_keys(isa, &queries.kernel(), &keys.kernel(), qkv);
            }
            if let Some(table) = rotary {
                rotate(isa, table, &arena.offsets, held.len(), head_width, qkv);
            }
            attention::forward_heads(isa, &kernel, held, qkv, mixed);
        }
    }

    /// How many heads go together: their queries, keys and values fill up to [`TOGETHER`].
    fn group(&self, head_width: usize, tokens: usize) -> usize {
        let (inner, panel) = (self.inner(), self.qkv.panel());
        let heads = inner / head_width;
        if self.query_key_norm.is_some() || !inner.is_multiple_of(panel) {
            // Norms are of all heads together; the map gives whole panels.
            return heads;
        }
        let whole = (1..=panel).find(|count| (count * head_width).is_multiple_of(panel));
        let whole = whole.expect("a panel of heads is whole panels");
        let fit = (TOGETHER / (tokens * 3 * head_width)).max(1);
        heads.div_ceil(heads.div_ceil(fit)).next_multiple_of(whole)
    }

    /// Queries, keys and values of some heads, from rows of `x`, after the `norm` if there is one.
    fn project(
        &self,
        isa: Isa,
        held: &Range<usize>,
        head_width: usize,
        norm: Option<&Norm>,
        x: &[f32],
        y: &mut Vec<f32>,
        qkv: &mut [f32],
    ) {
        let channels = held.len() * head_width;
        let parts = [0, 1, 2].map(|part| {
            let first = part * self.inner() + held.start * head_width;
            first..first + channels
        });
        let all = 0..self.qkv.outputs();
        let columns = if channels == self.inner() {
            std::slice::from_ref(&all)
        } else {
            &parts
        };
        let Some(norm) = norm else {
            self.qkv.forward_columns(x, columns, qkv);
            return;
        };
        let width = self.qkv.inputs();
        let channels = 3 * channels;
        for rows in blocks(x.len() / width) {
            let normed = room(y, rows.len() * width);
            let block = &x[rows.start * width..rows.end * width];
            norm_into(isa, &norm.kernel(), block, normed);
            let qkv = &mut qkv[rows.start * channels..rows.end * channels];
            self.qkv.forward_columns(normed, columns, qkv);
        }
    }
}
