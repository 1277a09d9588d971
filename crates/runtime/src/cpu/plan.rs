use cloze_kernels::Isa;
use cloze_kernels::op::encode::embed;
use cloze_kernels::op::encode::norm::{self, norm, norm_into};
use cloze_kernels::op::packed::{self, PackedLinear, Residual, Storage};
use cloze_spec::Encoder;
use cloze_spec::encoder::{self, Activation, NormKind};
use cloze_spec::inventory::{Parameter, encoder_parameters};

use super::arena::{Arena, room};
use super::attention::Shared;
use super::layer::Layer;
use crate::Error;
use crate::weights::Table;

/// Everything of an encoder that does not depend on the batch.
pub(super) struct Plan {
    isa: Isa,
    embed: Embed,
    layers: Vec<Layer>,
    shared: Shared,
    final_norm: Option<Norm>,
    head: Head,
}

/// Where an encoder's parameters come from.
pub trait Parameters {
    /// The values of one into a slice as long as it.
    ///
    /// # Errors
    /// If they cannot be read, or are no floats.
    fn read(&self, parameter: &Parameter, out: &mut [f32]) -> Result<(), Error>;

    /// One where it lies, if it can be used there.
    fn table(&self, parameter: &Parameter) -> Option<Table>;
}

/// Is shown the vectors of a stage, `[N, D]`.
type See<'a> = dyn FnMut(&[f32]) + Send + 'a;

/// Hands out parameters by their canonical names.
pub(super) struct Reader<'a> {
    pub isa: Isa,
    pub storage: Storage,
    inventory: Vec<Parameter>,
    parameters: &'a dyn Parameters,
}

impl Reader<'_> {
    /// A parameter of which few rows are read at a time, in place if possible.
    fn table(&self, name: &str) -> Result<Rows, Error> {
        Ok(match self.parameters.table(self.find(name)) {
            Some(table) => Rows::Mapped(table),
            None => Rows::Owned(self.values(name)?),
        })
    }

    /// The values of a parameter that the inventory lists.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, Error> {
        let parameter = self.find(name);
        let mut values = vec![0.0; parameter.shape.iter().product()];
        self.parameters.read(parameter, &mut values)?;
        Ok(values)
    }

    fn find(&self, name: &str) -> &Parameter {
        let parameter = self.inventory.iter().find(|p| p.name == name);
        parameter.unwrap_or_else(|| panic!("the inventory lists {name}"))
    }

    /// The values, or none if there is no such parameter.
    pub fn optional(&self, exists: bool, name: &str) -> Result<Option<Vec<f32>>, Error> {
        exists.then(|| self.values(name)).transpose()
    }

    /// A linear map from `inputs` channels.
    pub fn linear(
        &self,
        name: &str,
        inputs: usize,
        bias: bool,
        activation: Activation,
        gated: bool,
    ) -> Result<PackedLinear, Error> {
        let weight = self.values(&format!("{name}.weight"))?;
        let bias = self.optional(bias, &format!("{name}.bias"))?;
        Ok(PackedLinear::new(
            self.isa,
            inputs,
            &weight,
            bias.as_deref(),
            activation_of(activation),
            gated,
            self.storage,
        ))
    }

    pub fn norm(
        &self,
        settings: Option<&encoder::Norm>,
        name: &str,
    ) -> Result<Option<Norm>, Error> {
        let Some(settings) = settings else {
            return Ok(None);
        };
        Ok(Some(Norm {
            gain: self.values(&format!("{name}.gain"))?,
            bias: self.optional(settings.bias, &format!("{name}.bias"))?,
            eps: settings.eps,
            centred: match settings.kind {
                NormKind::Layer => true,
                NormKind::Rms => false,
                NormKind::DynamicTanh { .. } => unreachable!("{RUNS}"),
            },
        }))
    }
}

pub(crate) fn activation_of(activation: Activation) -> packed::Activation {
    match activation {
        Activation::Identity => packed::Activation::Identity,
        Activation::Gelu => packed::Activation::Gelu,
        Activation::GeluTanh => packed::Activation::GeluTanh,
        Activation::QuickGelu => packed::Activation::QuickGelu,
        Activation::Relu => packed::Activation::Relu,
        Activation::Silu => packed::Activation::Silu,
        Activation::Tanh => packed::Activation::Tanh,
        Activation::Sigmoid => packed::Activation::Sigmoid,
    }
}

/// Why there is nothing else in a plan.
const RUNS: &str = "refused before, by CpuEngine::runs";

fn attention_of(layer: &encoder::Layer) -> &encoder::AttentionLayer {
    layer.attention().expect(RUNS)
}

/// A norm's parameters.
pub(super) struct Norm {
    gain: Vec<f32>,
    bias: Option<Vec<f32>>,
    eps: f32,
    centred: bool,
}

impl Norm {
    /// As the kernels take it.
    pub fn kernel(&self) -> norm::Norm<'_> {
        norm::Norm {
            gain: &self.gain,
            bias: self.bias.as_deref(),
            eps: self.eps,
            centred: self.centred,
        }
    }
}

/// A table in memory, or in its file.
enum Rows {
    Owned(Vec<f32>),
    Mapped(Table),
}

impl Rows {
    /// As the kernels take it.
    fn kernel(&self) -> embed::Table<'_> {
        match self {
            Self::Owned(values) => embed::Table::F32(values),
            Self::Mapped(table) => table.numbers(),
        }
    }
}

/// Tables of the embedding.
struct Embed {
    token: Rows,
    position: Option<Vec<f32>>,
    segment: Option<Vec<f32>>,
    norm: Option<Norm>,
    projection: Option<PackedLinear>,
}

/// Maps of the head.
struct Head {
    transform: Option<PackedLinear>,
    norm: Option<Norm>,
    output: Option<PackedLinear>,
}

impl Plan {
    pub fn new(
        encoder: &Encoder,
        isa: Isa,
        storage: Storage,
        parameters: &dyn Parameters,
    ) -> Result<Self, Error> {
        let reader = Reader {
            isa,
            storage,
            inventory: encoder_parameters(encoder),
            parameters,
        };
        let embed = Embed::new(encoder, &reader)?;
        let shared = Shared::new(encoder, &reader)?;
        let groups = encoder.layers.iter().map(|layer| layer.weights() + 1);
        let layers = (0..groups.max().unwrap_or(0))
            .map(|group| {
                let user = encoder.layers.iter().find(|layer| layer.weights() == group);
                let user = user.expect("sets of weights are numbered without gaps");
                Layer::new(encoder.width, attention_of(user), &shared, &reader)
            })
            .collect::<Result<_, _>>()?;
        let final_norm = reader.norm(encoder.final_norm.as_ref(), "final_norm")?;
        let head = Head::new(encoder, &reader)?;
        Ok(Self {
            isa,
            embed,
            layers,
            shared,
            final_norm,
            head,
        })
    }

    /// Bytes of weights in memory.
    pub fn bytes(&self) -> usize {
        let embed = &self.embed;
        let tables = [&embed.position, &embed.segment].into_iter().flatten();
        let tables =
            embed.token.kernel().bytes() + tables.map(|table| 4 * table.len()).sum::<usize>();
        let maps = [&embed.projection, &self.head.transform, &self.head.output];
        let maps: usize = maps.into_iter().flatten().map(PackedLinear::bytes).sum();
        tables + maps + self.layers.iter().map(Layer::bytes).sum::<usize>()
    }

    /// Runs the arena's slice; the vectors are then in its `x`, those of the selected tokens first to last if some are.
    pub fn run(&self, encoder: &Encoder, arena: &mut Arena, mut see: Option<&mut See<'_>>) {
        let width = encoder.width;
        self.embed.run(self.isa, encoder, arena);
        let tokens = arena.tokens.len();
        let mut show = |arena: &Arena| {
            if let Some(see) = &mut see {
                see(&arena.x[..tokens * width]);
            }
        };
        show(arena);
        for (index, settings) in encoder.layers.iter().enumerate() {
            let last = index + 1 == encoder.layers.len();
            let settings = attention_of(settings);
            self.layers[settings.weights].run(self.isa, width, settings, &self.shared, arena, last);
            show(arena);
        }
        if let Some(final_norm) = &self.final_norm {
            let rows = arena.selected.as_ref().map_or(tokens, Vec::len);
            norm(self.isa, &final_norm.kernel(), &mut arena.x[..rows * width]);
        }
    }

    /// The head's outputs for `vectors`.
    pub fn head(&self, vectors: &[f32], width: usize, arena: &mut Arena, output: &mut Vec<f32>) {
        let rows = vectors.len() / width;
        let Arena { x, y, .. } = arena;
        let mut vectors = vectors;
        if let Some(map) = &self.head.transform {
            let inner = room(x, rows * map.outputs());
            map.forward(vectors, Residual::None, inner);
            vectors = inner;
        }
        if let Some(after) = &self.head.norm {
            let normed = room(y, vectors.len());
            norm_into(self.isa, &after.kernel(), vectors, normed);
            vectors = normed;
        }
        if let Some(map) = &self.head.output {
            output.resize(rows * map.outputs(), 0.0);
            map.forward(vectors, Residual::None, output);
        } else {
            output.clear();
            output.extend_from_slice(vectors);
        }
    }
}

impl Embed {
    fn new(encoder: &Encoder, reader: &Reader<'_>) -> Result<Self, Error> {
        let embed = &encoder.embed;
        let projection = embed.projection.map(|map| {
            let identity = Activation::Identity;
            reader.linear("embed.projection", embed.width, map.bias, identity, false)
        });
        Ok(Self {
            projection: projection.transpose()?,
            token: reader.table("embed.token.weight")?,
            position: reader.optional(embed.positions.is_some(), "embed.position.weight")?,
            segment: reader.optional(embed.segments.is_some(), "embed.segment.weight")?,
            norm: reader.norm(embed.norm.as_ref(), "embed.norm")?,
        })
    }

    fn run(&self, isa: Isa, encoder: &Encoder, arena: &mut Arena) {
        let settings = &encoder.embed;
        let before_norm = settings.projection.is_some_and(|map| map.before_norm);
        let norm_of = |wanted: bool| self.norm.as_ref().filter(|_| wanted).map(Norm::kernel);
        let position = self.position.as_deref();
        let tables = embed::Embed {
            width: settings.width,
            tokens: self.token.kernel(),
            positions: position.zip(settings.positions.map(|positions| positions.offset)),
            segments: self.segment.as_deref(),
            norm: norm_of(!before_norm),
        };
        let tokens = arena.tokens.len();
        let x = room(&mut arena.x, tokens * encoder.width);
        let (ids, segments, offsets) = (&arena.tokens, &arena.segments, &arena.offsets);
        match &self.projection {
            None => embed::embed(isa, &tables, ids, segments, offsets, x),
            Some(map) => {
                let narrow = room(&mut arena.y, tokens * settings.width);
                embed::embed(isa, &tables, ids, segments, offsets, narrow);
                map.forward(narrow, Residual::None, x);
                if let Some(after) = norm_of(before_norm) {
                    norm(isa, &after, x);
                }
            }
        }
    }
}

impl Head {
    fn new(encoder: &Encoder, reader: &Reader<'_>) -> Result<Self, Error> {
        let Some(head) = &encoder.head else {
            return Ok(Self {
                transform: None,
                norm: None,
                output: None,
            });
        };
        let mut inputs = encoder.width;
        let mut transform = None;
        let mut norm = None;
        if let Some(map) = head.transform {
            transform =
                Some(reader.linear("head.transform", inputs, map.bias, map.activation, false)?);
            norm = reader.norm(map.norm.as_ref(), "head.norm")?;
            inputs = map.width;
        }
        let mut output = None;
        if let Some(map) = head.output {
            let weight = if map.tied {
                "embed.token.weight"
            } else {
                "head.output.weight"
            };
            let bias = reader.optional(map.bias, "head.output.bias")?;
            output = Some(PackedLinear::new(
                reader.isa,
                inputs,
                &reader.values(weight)?,
                bias.as_deref(),
                packed::Activation::Identity,
                false,
                // Close scores decide here, and the work is small.
                Storage::F32,
            ));
        }
        Ok(Self {
            transform,
            norm,
            output,
        })
    }
}
