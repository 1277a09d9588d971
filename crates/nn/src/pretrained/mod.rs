//! Pretrained text encoders in Burn: every setting of [`cloze_spec::Encoder`], on every device, trainable.
//!
//! Where a layer computes what the fused operations of [`op`](crate::op) do, it uses them; the rest is made of Burn's own.
//! The CPU engine of `cloze-runtime` computes the same without a framework, and must agree.

mod attention;
mod chain;
mod checkpoints;
mod cross;
mod ctc;
mod engine;
mod layer;
mod parts;
mod readout;
mod scaffold;
mod train;
mod transcript;

pub use engine::BurnEngine;
pub use parts::BurnParts;

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Gradients, Tensor, activation};
use cloze_runtime::Batch;
use cloze_runtime::model::Checkpoint;
use cloze_spec::encoder::{self, Activation, DropoutRates, NormKind, Order};
use cloze_spec::inventory::{Parameter, encoder_parameters};
use cloze_spec::text::{self, Lora};

use crate::codebook::{Codebook, Coded};
use crate::linear::LowRank;
use crate::noise::Noise;
use crate::norm::bent;
use crate::op::{self, Dropout};
use crate::pretrained::attention::Relative;
use crate::pretrained::checkpoints::{Tape, constant};
use crate::pretrained::layer::Layer;
use crate::pretrained::scaffold::Scaffold;
use crate::site::{Hook, Site};
use crate::weights::{Source, Values};

pub use scaffold::Replaced;
pub use train::LabelLoss;

/// A pretrained text encoder with its head; parameters are named as in
/// [`encoder_parameters`].
#[derive(Module, Debug)]
pub struct Pretrained {
    embed: Embed,
    layer: Vec<Layer>,
    relative: Option<Relative>,
    final_norm: Option<Norm>,
    head: Option<Head>,
    scaffold: Scaffold,
    #[module(skip)]
    settings: Arc<cloze_spec::Encoder>,
    #[module(skip)]
    tape: Option<Tape>,
}

impl Pretrained {
    /// The encoder of a folder, on `device`.
    ///
    /// # Errors
    /// If its weights cannot be read.
    pub fn open(checkpoint: &Checkpoint, device: &Device) -> Result<Self, cloze_runtime::Error> {
        let mut values = Values::new();
        for parameter in encoder_parameters(&checkpoint.encoder) {
            let mut of = vec![0.0; parameter.shape.iter().product()];
            checkpoint.read(&parameter, &mut of)?;
            values.insert(parameter.name, of);
        }
        let settings = Arc::new(checkpoint.encoder.clone());
        Ok(Self::new(settings, &values, device))
    }

    /// Puts an encoder together from `values`, on `device`.
    ///
    /// # Panics
    /// If `values` lack a parameter of the inventory or have one of another length.
    pub fn new(settings: Arc<cloze_spec::Encoder>, values: &Values, device: &Device) -> Self {
        let scaffold = text::Scaffold::default();
        Self::in_scaffold(settings, &scaffold, None, values, device)
    }

    /// As [`Self::new`], with what it needs to learn, with updates of low rank for those maps of which `values` have one, and
    /// scores between labels if they have [`TRANSITIONS`].
    ///
    /// # Panics
    /// As there.
    pub fn in_scaffold(
        settings: Arc<cloze_spec::Encoder>,
        scaffold: &text::Scaffold,
        lora: Option<&Lora>,
        values: &Values,
        device: &Device,
    ) -> Self {
        let mut parameters = encoder_parameters(&settings);
        parameters.extend(scaffold.parameters(&settings));
        if let Some(lora) = lora {
            parameters.extend(lora.parameters(&parameters));
        }
        if values.contains_key(TRANSITIONS) {
            parameters.push(transitions(&settings));
        }
        let source = Source {
            values,
            shapes: parameters.into_iter().map(|p| (p.name, p.shape)).collect(),
            device,
            lora_scale: lora.map_or(1.0, Lora::scale),
        };
        let groups = settings.layers.iter().map(|layer| layer.weights() + 1);
        let layer = (0..groups.max().unwrap_or(0))
            .map(|group| {
                let user = settings
                    .layers
                    .iter()
                    .find(|layer| layer.weights() == group);
                let user = user.expect("sets of weights are numbered without gaps");
                Layer::new(user, &source, &format!("layer.{group}"))
            })
            .collect();
        Self {
            embed: Embed::new(&settings.embed, &source),
            layer,
            relative: settings
                .relative
                .as_ref()
                .map(|relative| Relative::new(relative, &source)),
            final_norm: Norm::of(settings.final_norm.as_ref(), &source, "final_norm"),
            head: settings
                .head
                .as_ref()
                .map(|head| Head::new(head, &source, "head")),
            scaffold: Scaffold::new(scaffold, &settings, &source),
            settings,
            tape: None,
        }
    }

    /// The same encoder, which computes its layers once more on the way back from a loss instead of keeping what they are made
    /// of: as long as [`Self::gradients`] is asked for each loss.
    #[must_use]
    pub fn with_checkpoints(self) -> Self {
        Self {
            tape: Some(Tape::default()),
            ..self
        }
    }

    /// The gradients of a loss that this encoder computed last, each parameter's the sum of those that it has in the parts.
    pub fn gradients(&self, loss: &Tensor<1>) -> Vec<Gradients> {
        match &self.tape {
            Some(tape) => tape.back(loss),
            None => vec![loss.backward()],
        }
    }

    /// What it computes.
    pub fn settings(&self) -> &cloze_spec::Encoder {
        &self.settings
    }

    /// The token vectors after the final norm, looked into on the way. With checkpoints, nothing is seen within layers.
    ///
    /// # Shapes
    /// `N` tokens → `[N, D]`
    pub fn forward(&self, batch: &Batch, hook: &mut Hook<'_>) -> Tensor<2> {
        self.pass(batch, None, DropoutRates::NONE, &mut Noise::none(), hook)
    }

    /// As [`Self::forward`], of some tokens if `rows` are given: once tokens have been mixed for the last time, each is by
    /// itself, and what nobody reads is not computed.
    ///
    /// # Shapes
    /// `N` tokens, `M` rows → `[M, D]`
    fn pass(
        &self,
        batch: &Batch,
        rows: Option<&Arc<[u32]>>,
        rates: DropoutRates,
        noise: &mut Noise,
        hook: &mut Hook<'_>,
    ) -> Tensor<2> {
        let mut x = self.embed.forward(batch);
        x = op::dropout_add(x, None, noise.dropout(rates.hidden));
        x = hook.at(|_| Site::Embedding, x);
        let sight = Sight { rows, keys: None };
        x = self.through(&self.stack(), x, &batch.offsets, sight, rates, noise, hook);
        self.normed(x)
    }

    /// The layers, first to last, with what each computes.
    fn stack(&self) -> Vec<(&Layer, &encoder::Layer)> {
        let layers = self.settings.layers.iter();
        layers
            .map(|settings| (&self.layer[settings.weights()], settings))
            .collect()
    }

    /// Through some layers.
    ///
    /// # Shapes
    /// `[N, D]` → `[N, D]`, or `[M, D]` of `M` rows in sight.
    fn through(
        &self,
        layers: &[(&Layer, &encoder::Layer)],
        mut x: Tensor<2>,
        offsets: &[u32],
        sight: Sight<'_>,
        rates: DropoutRates,
        noise: &mut Noise,
        hook: &mut Hook<'_>,
    ) -> Tensor<2> {
        let relative = self.relative.as_ref().map(Relative::table);
        let offsets: Arc<[u32]> = offsets.into();
        for (index, &(layer, settings)) in layers.iter().enumerate() {
            let pass = Pass {
                offsets: &offsets,
                relative: self.settings.relative.as_ref().zip(relative.as_ref()),
                rows: sight.rows.filter(|_| index + 1 == layers.len()),
                keys: sight.keys,
                rates,
            };
            hook.enter(index);
            x = match &self.tape {
                Some(tape) if x.device().is_autodiff() => {
                    self.cut(tape, layer, settings, x, pass, noise)
                }
                _ => layer.forward(settings, x, pass, noise, hook),
            };
            x = hook.at(Site::Layer, x);
        }
        x
    }

    /// Through a layer of which nothing is kept but what went into it.
    fn cut(
        &self,
        tape: &Tape,
        layer: &Layer,
        settings: &encoder::Layer,
        x: Tensor<2>,
        pass: Pass<'_>,
        noise: &mut Noise,
    ) -> Tensor<2> {
        let (model, layer, settings) = (self.clone(), layer.clone(), settings.clone());
        let (offsets, rows) = (pass.offsets.clone(), pass.rows.cloned());
        let keys = pass.keys.map(<[bool]>::to_vec);
        let (rates, mut same_noise) = (pass.rates, noise.clone());
        let relative = pass
            .relative
            .map(|(settings, table)| (settings, constant(table.clone())));
        let pass = Pass {
            relative: relative
                .as_ref()
                .map(|(settings, table)| (*settings, table)),
            ..pass
        };
        let untracked = layer.clone().no_grad();
        let output = untracked.forward(
            &settings,
            constant(x.clone()),
            pass,
            noise,
            &mut Hook::none(),
        );
        tape.cut(x, output, move |x| {
            let relative = model.relative.as_ref().map(Relative::table);
            let pass = Pass {
                offsets: &offsets,
                relative: model.settings.relative.as_ref().zip(relative.as_ref()),
                rows: rows.as_ref(),
                keys: keys.as_deref(),
                rates,
            };
            layer.forward(&settings, x, pass, &mut same_noise, &mut Hook::none())
        })
    }

    /// What a layer's mixer makes of what it is given, [`Site::Input`].
    ///
    /// # Shapes
    /// `[N, D]` → `[N, D]`
    pub fn mixed(&self, layer: usize, x: Tensor<2>, offsets: &[u32]) -> Tensor<2> {
        let relative = self.relative.as_ref().map(Relative::table);
        let offsets = offsets.into();
        let (layer, settings) = self.stack()[layer];
        layer.mixed(settings, x, self.plain_pass(&offsets, relative.as_ref()))
    }

    /// How much each token of one sequence takes of each in a layer, by head, of what the mixer is given; none where the mixer
    /// does not sum values by such numbers alone.
    ///
    /// # Shapes
    /// `[T, D]` → `[H, T, T]`
    pub fn shares(&self, layer: usize, x: Tensor<2>) -> Option<Tensor<3>> {
        let relative = self.relative.as_ref().map(Relative::table);
        let offsets = Arc::from([0, x.dims()[0] as u32]);
        let (layer, settings) = self.stack()[layer];
        layer.shares(settings, x, self.plain_pass(&offsets, relative.as_ref()))
    }

    /// What a layer adds at [`Site::Mixer`] where its mixer sums values by `shares` and not by its own; none where it does not sum
    /// by such, or what it sums goes through a norm or codes first. It is affine in the shares.
    ///
    /// # Shapes
    /// `x: [T, D]`, of [`Site::Input`]; `shares: [H, T, T]` → `[T, D]`
    pub fn summed(&self, layer: usize, x: Tensor<2>, shares: Tensor<3>) -> Option<Tensor<2>> {
        let (layer, settings) = self.stack()[layer];
        layer.summed(settings, x, shares)
    }

    /// All tokens, all seen, nothing dropped.
    fn plain_pass<'a>(
        &'a self,
        offsets: &'a Arc<[u32]>,
        relative: Option<&'a Tensor<2>>,
    ) -> Pass<'a> {
        Pass {
            offsets,
            relative: self.settings.relative.as_ref().zip(relative),
            rows: None,
            keys: None,
            rates: DropoutRates::NONE,
        }
    }

    /// The vectors that the head is given, of the residual stream after the last layer, or of any other that is to be read as
    /// if it were that.
    ///
    /// # Shapes
    /// `[N, D]` → `[N, D]`
    pub fn normed(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.final_norm {
            Some(norm) => norm.forward(x, None, Dropout::NONE),
            None => x,
        }
    }

    /// The head's outputs for vectors of tokens, or pooled ones.
    ///
    /// # Shapes
    /// `[M, D]` → `[M, C]`
    ///
    /// # Panics
    /// If the encoder has no head.
    pub fn head(&self, x: Tensor<2>) -> Tensor<2> {
        let head = self.head.as_ref().expect("the encoder has a head");
        head.forward(x, &self.embed.token.weight, Dropout::NONE)
    }
}

impl Coded for Pretrained {
    fn codebooks(&self) -> Vec<(String, &Codebook)> {
        let layers = self.layer.iter().enumerate();
        let blocks = layers.filter_map(|(at, layer)| match layer {
            Layer::Mixer(block) => Some((at, block)),
            Layer::Attention(_) => None,
        });
        let codebooks = blocks.flat_map(|(at, block)| block.codebooks(&format!("layer.{at}")));
        codebooks.collect()
    }
}

/// Which tokens some layers are about.
#[derive(Clone, Copy, Default)]
struct Sight<'a> {
    /// Those that are carried on once mixed for the last time; all if none.
    rows: Option<&'a Arc<[u32]>>,
    /// Whether each token is seen by those of its sequence, itself among them, `[N]`; all are if none.
    keys: Option<&'a [bool]>,
}

/// Name of the scores of each label after each other, where sequences of labels are judged as wholes: see
/// [`Chain`](cloze_data::text::Chain).
pub const TRANSITIONS: &str = "head.transition.weight";

/// The parameter [`TRANSITIONS`] of an encoder whose head labels tokens.
///
/// # Panics
/// If its head has no outputs.
pub fn transitions(settings: &cloze_spec::Encoder) -> Parameter {
    let output = settings.head.as_ref().and_then(|head| head.output);
    let side = output
        .expect("a head with labels has an output map")
        .outputs
        + 1;
    Parameter {
        name: TRANSITIONS.to_owned(),
        shape: vec![side, side],
    }
}

/// What all layers of a pass are told.
#[derive(Clone, Copy)]
struct Pass<'a> {
    offsets: &'a Arc<[u32]>,
    relative: Option<(&'a encoder::Relative, &'a Tensor<2>)>,
    /// The tokens that are carried on once mixed; all if none.
    rows: Option<&'a Arc<[u32]>>,
    /// Whether each token is seen, `[N]`; all are if none.
    keys: Option<&'a [bool]>,
    rates: DropoutRates,
}

/// Tokens into vectors.
#[derive(Module, Debug)]
struct Embed {
    token: Table,
    position: Option<Table>,
    segment: Option<Table>,
    norm: Option<Norm>,
    projection: Option<Linear>,
    offset: usize,
    project_first: bool,
}

/// A table of vectors.
#[derive(Module, Debug)]
struct Table {
    weight: Param<Tensor<2>>,
}

impl Table {
    fn new(source: &Source<'_>, name: &str) -> Self {
        Self {
            weight: Param::from_tensor(source.tensor(&format!("{name}.weight"))),
        }
    }
}

impl Embed {
    fn new(settings: &encoder::Embed, source: &Source<'_>) -> Self {
        let table = |exists: bool, name: &str| exists.then(|| Table::new(source, name));
        Self {
            token: Table::new(source, "embed.token"),
            position: table(settings.positions.is_some(), "embed.position"),
            segment: table(settings.segments.is_some(), "embed.segment"),
            norm: Norm::of(settings.norm.as_ref(), source, "embed.norm"),
            projection: settings
                .projection
                .map(|map| Linear::new(map.bias, source, "embed.projection")),
            offset: settings.positions.map_or(0, |positions| positions.offset),
            project_first: settings.projection.is_some_and(|map| map.before_norm),
        }
    }

    /// # Shapes
    /// `N` tokens → `[N, D]`
    fn forward(&self, batch: &Batch) -> Tensor<2> {
        self.vectors(batch, true, self.projection.as_ref())
    }

    /// The same with the projection of others, and without positions unless they are `placed`.
    fn vectors(&self, batch: &Batch, placed: bool, projection: Option<&Linear>) -> Tensor<2> {
        let positions = self.position.as_ref().filter(|_| placed).map(|table| {
            let places = (0..batch.len()).flat_map(|index| 0..batch.range(index).len());
            let places = places.map(|place| (self.offset + place) as u32).collect();
            (table.weight.val(), places)
        });
        let tokens = batch.tokens.as_slice().into();
        let mut x = op::embed(self.token.weight.val(), &tokens, positions);
        if let Some(table) = &self.segment {
            let segments = if batch.segments.is_empty() {
                vec![0; batch.tokens.len()]
            } else {
                batch.segments.clone()
            };
            x = x + op::embed(table.weight.val(), &segments.into(), None);
        }
        let project = |x| match projection {
            Some(map) => map.forward(x, Activation::Identity),
            None => x,
        };
        if self.project_first {
            x = project(x);
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(x, None, Dropout::NONE);
        }
        if self.project_first { x } else { project(x) }
    }
}

/// `activation(x · weightᵀ + bias)`, with or without the bias.
#[derive(Module, Debug)]
struct Linear {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
    lora: Option<LowRank>,
}

impl Linear {
    fn new(bias: bool, source: &Source<'_>, name: &str) -> Self {
        Self {
            weight: Param::from_tensor(source.tensor(&format!("{name}.weight"))),
            bias: bias.then(|| Param::from_tensor(source.tensor(&format!("{name}.bias")))),
            lora: LowRank::of(source, name),
        }
    }

    /// The weight with its update.
    fn weight(&self) -> Tensor<2> {
        let weight = self.weight.val();
        match &self.lora {
            Some(lora) => lora.update(weight),
            None => weight,
        }
    }

    /// # Shapes
    /// `[N, I]` → `[N, O]`
    fn forward(&self, x: Tensor<2>, activation: Activation) -> Tensor<2> {
        let weight = self.weight();
        let bias = match &self.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([weight.dims()[0]], &x.device()),
        };
        linear(x, weight, bias, activation)
    }
}

fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, then: Activation) -> Tensor<2> {
    if then == Activation::Gelu {
        return op::linear(x, weight, bias, op::Activation::Gelu);
    }
    activate(op::linear(x, weight, bias, op::Activation::Identity), then)
}

fn activate(x: Tensor<2>, then: Activation) -> Tensor<2> {
    match then {
        Activation::Identity => x,
        Activation::Gelu => op::gelu(x),
        Activation::GeluTanh => activation::gelu_approximate(x),
        Activation::QuickGelu => x.clone() * activation::sigmoid(x.mul_scalar(1.702)),
        Activation::Relu => activation::relu(x),
        Activation::Silu => activation::silu(x),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => activation::sigmoid(x),
    }
}

/// A norm of any kind.
#[derive(Module, Debug)]
struct Norm {
    gain: Param<Tensor<1>>,
    bias: Option<Param<Tensor<1>>>,
    /// Of the hyperbolic tangent in a norm's place.
    slope: Option<Param<Tensor<1>>>,
    eps: f32,
    centred: bool,
}

impl Norm {
    fn new(settings: encoder::Norm, source: &Source<'_>, name: &str) -> Self {
        Self {
            gain: Param::from_tensor(source.tensor(&format!("{name}.gain"))),
            bias: settings
                .bias
                .then(|| Param::from_tensor(source.tensor(&format!("{name}.bias")))),
            slope: match settings.kind {
                NormKind::DynamicTanh { .. } => Some(source.parameter(&format!("{name}.slope"))),
                NormKind::Layer | NormKind::Rms => None,
            },
            eps: settings.eps,
            centred: settings.kind == NormKind::Layer,
        }
    }

    fn of(settings: Option<&encoder::Norm>, source: &Source<'_>, name: &str) -> Option<Self> {
        settings.map(|settings| Self::new(*settings, source, name))
    }

    /// `norm(dropout(x) + residual)`: `[N, D]` → `[N, D]`.
    fn forward(&self, x: Tensor<2>, residual: Option<Tensor<2>>, dropout: Dropout) -> Tensor<2> {
        let gain = self.gain.val();
        let bias = match &self.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros(gain.dims(), &x.device()),
        };
        if self.centred {
            return op::add_norm(x, residual, gain, bias, self.eps, dropout);
        }
        let x = op::dropout_add(x, residual, dropout);
        if let Some(slope) = &self.slope {
            return bent(x, slope.val(), gain, bias);
        }
        let square = x.clone().powi_scalar(2).mean_dim(1);
        x / square.add_scalar(self.eps).sqrt() * gain.unsqueeze() + bias.unsqueeze()
    }
}

/// Vectors into scores.
#[derive(Module, Debug)]
struct Head {
    transform: Option<Linear>,
    norm: Option<Norm>,
    output: Option<Output>,
    transition: Option<Table>,
    #[module(skip)]
    activation: Activation,
}

/// An output map; without a weight of its own, the token table is its weight.
#[derive(Module, Debug)]
struct Output {
    weight: Option<Param<Tensor<2>>>,
    bias: Option<Param<Tensor<1>>>,
}

impl Head {
    fn new(settings: &encoder::Head, source: &Source<'_>, name: &str) -> Self {
        let transform = settings.transform.as_ref();
        let name = |part: &str| format!("{name}.{part}");
        Self {
            transform: transform.map(|map| Linear::new(map.bias, source, &name("transform"))),
            norm: Norm::of(
                transform.and_then(|map| map.norm.as_ref()),
                source,
                &name("norm"),
            ),
            output: settings.output.map(|map| Output {
                weight: (!map.tied)
                    .then(|| Param::from_tensor(source.tensor(&name("output.weight")))),
                bias: map
                    .bias
                    .then(|| Param::from_tensor(source.tensor(&name("output.bias")))),
            }),
            transition: source
                .values
                .contains_key(TRANSITIONS)
                .then(|| Table::new(source, "head.transition")),
            activation: transform.map_or(Activation::Identity, |map| map.activation),
        }
    }

    /// What is compared with the output map's rows: `[M, D]` → `[M, I]`.
    fn transformed(&self, mut x: Tensor<2>) -> Tensor<2> {
        if let Some(map) = &self.transform {
            x = map.forward(x, self.activation);
        }
        match &self.norm {
            Some(norm) => norm.forward(x, None, Dropout::NONE),
            None => x,
        }
    }

    /// The output map's weight `[O, I]`, which is the token table if it has none of its own, and its bias `[O]`; none without
    /// such a map.
    fn output_map(&self, table: &Param<Tensor<2>>) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        let map = self.output.as_ref()?;
        let weight = map.weight.as_ref().unwrap_or(table).val();
        Some((weight, map.bias.as_ref().map(Param::val)))
    }

    fn forward(&self, x: Tensor<2>, table: &Param<Tensor<2>>, dropout: Dropout) -> Tensor<2> {
        let x = op::dropout_add(self.transformed(x), None, dropout);
        let Some((weight, bias)) = self.output_map(table) else {
            return x;
        };
        let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[0]], &x.device()));
        linear(x, weight, bias, Activation::Identity)
    }
}

/// Which of a layer's norms come first.
fn norms_first(order: Order) -> bool {
    match order {
        Order::PreNorm => true,
        Order::PostNorm => false,
    }
}
