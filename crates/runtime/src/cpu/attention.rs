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
        for layer in &encoder.layers {
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
        layer: &encoder::Layer,
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
        layer: &encoder::Layer,
        shared: &Shared,
        arena: &mut Arena,
        last: bool,
        norm: Option<&Norm>,
    ) {
        let settings = &layer.attention;
        let (heads, head_width) = (settings.heads, settings.head_width);
        let tokens = arena.tokens.len();
        let (width, all) = (self.qkv.inputs(), self.qkv.outputs());
        let x = &arena.x[..tokens * width];
        let qkv = room(&mut arena.qkv, tokens * all);
        match norm {
            None => self.qkv.forward(x, Residual::None, qkv),
            Some(norm) => {
                for rows in blocks(tokens) {
                    let normed = room(&mut arena.y, rows.len() * width);
                    norm_into(
                        isa,
                        &norm.kernel(),
                        &x[rows.start * width..rows.end * width],
                        normed,
                    );
                    let qkv = &mut qkv[rows.start * all..rows.end * all];
                    self.qkv.forward(normed, Residual::None, qkv);
                }
            }
        }
        if let Some((queries, keys)) = &self.query_key_norm {
            norm_queries_and_keys(isa, &queries.kernel(), &keys.kernel(), qkv);
        }
        let position = match &settings.position {
            encoder::Position::None => Position::None,
            encoder::Position::Rotary(wanted) => {
                let known = shared.rotaries.iter().find(|(known, _)| known == wanted);
                let (_, table) = known.expect("made for every layer's setting");
                rotate(isa, table, &arena.offsets, heads, head_width, qkv);
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
        attention::forward(isa, &kernel, qkv, mixed);
    }
}
