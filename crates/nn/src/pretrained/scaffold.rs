use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData, activation};
use cloze_data::text::batch::TextBatch;
use cloze_runtime::Batch;
use cloze_spec::encoder::{self, Activation, DropoutRates};
use cloze_spec::text::{self, DecoderMix, MixShare};
use rand::Rng;

use super::layer::Layer;
use super::readout::Reader;
use super::transcript::Writer;
use super::{Head, Linear, Norm, Pretrained, Sight};
use crate::noise::Noise;
use crate::op::{self, Dropout};
use crate::site::Hook;
use crate::weights::Source;

/// What an encoder learns with and then does without.
#[derive(Module, Debug)]
pub(super) struct Scaffold {
    pub pair: Option<Scored>,
    decoder: Vec<Layer>,
    position: Option<Places>,
    generator: Option<Generator>,
    replaced: Option<Scored>,
    pub transcript: Option<Writer>,
    pub chunks: Option<Scored>,
    pub readout: Option<Reader>,
    #[module(skip)]
    settings: Arc<text::Scaffold>,
}

impl Scaffold {
    pub fn new(settings: &text::Scaffold, encoder: &encoder::Encoder, source: &Source<'_>) -> Self {
        let layers = settings
            .decoder
            .as_ref()
            .map_or(0, |decoder| decoder.visible.len());
        let last = encoder.layers.last().expect("an encoder has a layer");
        let generator = settings.generator.as_ref();
        let score = |exists: bool, name: &str| exists.then(|| Scored::new(source, name));
        Self {
            pair: score(settings.pair, "scaffold.pair"),
            decoder: (0..layers)
                .map(|layer| Layer::new(last, source, &format!("scaffold.decoder.{layer}")))
                .collect(),
            position: settings.positions.map(|_| Places {
                norm: Norm::new(NORM, source, "scaffold.position.norm"),
                output: Linear::new(true, source, "scaffold.position.output"),
            }),
            generator: generator.map(|generator| Generator::new(&generator.encoder, source)),
            replaced: score(generator.is_some(), "scaffold.replaced"),
            transcript: settings
                .transcript
                .as_ref()
                .map(|own| Writer::new(own, source, "scaffold.transcript")),
            chunks: score(settings.chunks, "scaffold.chunks"),
            readout: settings
                .readout
                .as_ref()
                .map(|(own, _)| Reader::new(own, source, "scaffold.readout")),
            settings: Arc::new(settings.clone()),
        }
    }

    /// Whether there are layers between the encoder and its head.
    pub fn decodes(&self) -> bool {
        !self.decoder.is_empty()
    }
}

/// A linear map, a function, and a second map.
#[derive(Module, Debug)]
pub(super) struct Scored {
    transform: Linear,
    output: Linear,
}

impl Scored {
    pub fn new(source: &Source<'_>, name: &str) -> Self {
        Self {
            transform: Linear::new(true, source, &format!("{name}.transform")),
            output: Linear::new(true, source, &format!("{name}.output")),
        }
    }

    /// # Shapes
    /// `[M, D]` → `[M, C]`
    pub fn forward(&self, x: Tensor<2>, between: Activation) -> Tensor<2> {
        let x = self.transform.forward(x, between);
        self.output.forward(x, Activation::Identity)
    }

    /// The mean of rows, each with a share of its own.
    ///
    /// # Shapes
    /// `[M, D]` → `[1, D]`
    pub fn mean(&self, x: Tensor<2>) -> Tensor<2> {
        let shares = activation::softmax(self.forward(x.clone(), Activation::Tanh), 0); // [M, 1]
        (x * shares).sum_dim(0)
    }
}

/// Scores of positions.
#[derive(Module, Debug)]
struct Places {
    norm: Norm,
    output: Linear,
}

/// As of the head in the paper's code; encoders whose layers end with norms of their own have another before.
const NORM: encoder::Norm = encoder::Norm {
    kind: encoder::NormKind::Layer,
    eps: 1e-6,
    bias: true,
};

/// A smaller encoder on the same embedding, which names hidden tokens.
#[derive(Module, Debug)]
struct Generator {
    projection: Option<Linear>,
    layer: Vec<Layer>,
    head: Head,
    #[module(skip)]
    settings: Arc<encoder::Encoder>,
}

impl Generator {
    fn new(settings: &Arc<encoder::Encoder>, source: &Source<'_>) -> Self {
        let name = |part: &str| format!("scaffold.generator.{part}");
        let head = settings.head.as_ref().expect("a generator names tokens");
        let layers = settings.layers.iter();
        Self {
            projection: settings
                .embed
                .projection
                .map(|map| Linear::new(map.bias, source, &name("projection"))),
            layer: layers
                .map(|layer| {
                    Layer::new(layer, source, &name(&format!("layer.{}", layer.weights())))
                })
                .collect(),
            head: Head::new(head, source, &name("head")),
            settings: Arc::clone(settings),
        }
    }
}

/// What a generator put in the place of tokens, and what was found of it.
pub struct Replaced {
    /// What the generator's scores are compared from, `[M, E]`.
    hidden: Tensor<2>,
    /// The generator's probabilities of each token of the vocabulary, `[M, V]`, row after row.
    pub probabilities: Vec<f32>,
    /// Whether each token is another than the one that stood there, `[N]`.
    pub is_replaced: Vec<bool>,
    /// Above 0 where a token is held to be another, `[N, 1]`.
    pub scores: Tensor<2>,
}

impl Pretrained {
    /// Puts tokens in the place of the hidden ones, `targets`, and looks for them.
    ///
    /// # Panics
    /// If the encoder has no generator.
    pub fn replaced(
        &self,
        batch: &TextBatch,
        targets: &[u32],
        rates: DropoutRates,
        noise: &mut Noise,
    ) -> Replaced {
        let scaffold = &self.scaffold;
        let generator = scaffold.generator.as_ref().expect("there is a generator");
        let found = scaffold.replaced.as_ref().expect("and what finds its work");
        let mut tokens = self.tokens(batch);
        let rows: Arc<[u32]> = batch.rows.as_deref().unwrap_or_default().into();
        let x = self
            .embed
            .vectors(&tokens, true, generator.projection.as_ref());
        let x = op::dropout_add(x, None, noise.dropout(rates.hidden));
        let layers = generator.settings.layers.iter();
        let layers: Vec<_> = layers
            .map(|settings| (&generator.layer[settings.weights()], settings))
            .collect();
        let sight = Sight {
            rows: Some(&rows),
            keys: None,
        };
        let x = self.through(
            &layers,
            x,
            &tokens.offsets,
            sight,
            rates,
            noise,
            &mut Hook::none(),
        );
        let hidden = generator.head.transformed(x);
        // What is drawn has no gradient.
        let (table, bias) = self.named_by(generator);
        let bias = bias.map_or_else(
            || Tensor::zeros([table.dims()[0]], &hidden.device()),
            Tensor::detach,
        );
        let logits = op::linear(
            hidden.clone().detach(),
            table.detach(),
            bias,
            op::Activation::Identity,
        );
        let vocab = logits.dims()[1];
        let probabilities: Vec<f32> = activation::softmax(logits, 1)
            .into_data()
            .try_into_vec()
            .expect("encoders compute in f32");
        let mut numbers = noise.numbers();
        let mut is_replaced = vec![false; tokens.tokens.len()];
        let drawn = probabilities.chunks(vocab).zip(rows.iter().zip(targets));
        for (shares, (&row, &target)) in drawn {
            let token = draw(shares, &mut numbers);
            tokens.tokens[row as usize] = token;
            is_replaced[row as usize] = token != target;
        }
        let x = self.pass(&tokens, None, rates, noise, &mut Hook::none());
        let layer = self.settings.layers[0].attention();
        let between = layer.expect("ELECTRA has attention").ffn.activation;
        Replaced {
            hidden,
            probabilities,
            is_replaced,
            scores: found.forward(x, between),
        }
    }

    /// The weight and bias of the generator's output map.
    fn named_by(&self, generator: &Generator) -> (Tensor<2>, Option<Tensor<1>>) {
        let map = generator.head.output_map(&self.embed.token.weight);
        map.expect("it names tokens")
    }

    /// The generator's loss, and that of finding its tokens times its weight, `[1]`.
    pub(super) fn replaced_loss(
        &self,
        batch: &TextBatch,
        targets: &[u32],
        rates: DropoutRates,
        noise: &mut Noise,
    ) -> Tensor<1> {
        let replaced = self.replaced(batch, targets, rates, noise);
        let generator = self.scaffold.generator.as_ref().expect("as it replaced");
        let (table, bias) = self.named_by(generator);
        let vocab = table.dims()[0];
        let own = op::cross_entropy(replaced.hidden, table, bias, vocab, &targets.into());
        let truth: Vec<f32> = replaced
            .is_replaced
            .iter()
            .map(|&replaced| if replaced { 1.0 } else { -1.0 })
            .collect();
        let truth = TensorData::new(truth, replaced.scores.dims());
        let truth = Tensor::<2>::from_data(truth, &replaced.scores.device());
        let found = activation::log_sigmoid(replaced.scores * truth)
            .mean()
            .neg();
        own + found.mul_scalar(self.weight())
    }

    /// What finding replaced tokens counts beside the generator's loss; 0 without a generator.
    pub fn weight(&self) -> f32 {
        let generator = self.scaffold.settings.generator.as_ref();
        generator.map_or(0.0, |generator| generator.weight)
    }

    /// Vectors to compare with positions, of tokens that have none.
    fn unplaced(&self, batch: &TextBatch, rates: DropoutRates, noise: &mut Noise) -> Tensor<2> {
        let places = self.scaffold.position.as_ref().expect("positions are told");
        let x = self
            .embed
            .vectors(&self.tokens(batch), false, self.embed.projection.as_ref());
        let x = op::dropout_add(x, None, noise.dropout(rates.hidden));
        let sight = Sight {
            rows: None,
            keys: batch.keys.as_deref(),
        };
        let x = self.through(
            &self.stack(),
            x,
            &batch.offsets,
            sight,
            rates,
            noise,
            &mut Hook::none(),
        );
        places.norm.forward(self.normed(x), None, Dropout::NONE)
    }

    /// Scores of each token standing at each position, `[N, positions]`.
    ///
    /// # Panics
    /// If the encoder does not learn positions.
    pub fn position_scores(&self, batch: &TextBatch) -> Tensor<2> {
        let x = self.unplaced(batch, DropoutRates::NONE, &mut Noise::none());
        let places = self.scaffold.position.as_ref().expect("positions are told");
        places.output.forward(x, Activation::Identity)
    }

    /// The mean loss of saying where tokens stand, `[1]`.
    pub(super) fn position_loss(
        &self,
        batch: &TextBatch,
        places: &[u32],
        rates: DropoutRates,
        noise: &mut Noise,
    ) -> Tensor<1> {
        let x = self.unplaced(batch, rates, noise);
        let map = &self.scaffold.position.as_ref().expect("as above").output;
        let weight = map.weight();
        let count = weight.dims()[0];
        let bias = map.bias.as_ref().map(Param::val);
        op::cross_entropy(x, weight, bias, count, &places.into())
    }

    /// What the encoder and the decoder on it make of `rows`, of which the first are `hidden`.
    ///
    /// # Shapes
    /// `[M, D]`
    pub(super) fn decoded(
        &self,
        tokens: &Batch,
        hidden: &[u32],
        rows: &Arc<[u32]>,
        rates: DropoutRates,
        noise: &mut Noise,
    ) -> Tensor<2> {
        let decoder = &self.scaffold.decoder;
        let settings = self.scaffold.settings.decoder.as_ref();
        let settings = settings.expect("it is made by them");
        let (kind, offsets) = (self.settings.layers.last(), &tokens.offsets);
        let kind = kind.expect("an encoder has a layer");
        let x = self.embed.forward(tokens);
        let x = op::dropout_add(x, None, noise.dropout(rates.hidden));
        let all = Sight::default();
        let encoded = self.through(
            &self.stack(),
            x,
            offsets,
            all,
            rates,
            noise,
            &mut Hook::none(),
        );
        let order = order(offsets, hidden, &mut noise.numbers());
        let mut decoded = encoded.clone();
        for (index, (layer, &share)) in decoder.iter().zip(&settings.visible).enumerate() {
            let keys = (share < 1.0).then(|| in_sight(offsets, &order, share));
            let sight = Sight {
                rows: (index + 1 == decoder.len()).then_some(rows),
                keys: keys.as_deref(),
            };
            decoded = self.through(
                &[(layer, kind)],
                decoded,
                offsets,
                sight,
                rates,
                noise,
                &mut Hook::none(),
            );
        }
        let shares = shares(
            settings.mix,
            offsets,
            hidden,
            rows.len(),
            &mut noise.numbers(),
        );
        let shares = TensorData::new(shares, [rows.len(), 1]);
        let shares = Tensor::<2>::from_data(shares, &decoded.device());
        let encoded = op::select_rows(encoded, rows);
        let rest = shares.clone().neg().add_scalar(1.0);
        self.normed(decoded * shares + encoded * rest)
    }
}

/// A place of `shares`, each as often as its share.
fn draw(shares: &[f32], numbers: &mut impl Rng) -> u32 {
    let wanted = f64::from(numbers.next_u32()) / (f64::from(u32::MAX) + 1.0);
    let mut sum = 0.0;
    let total: f64 = shares.iter().map(|&share| f64::from(share)).sum();
    let reached = shares.iter().position(|&share| {
        sum += f64::from(share);
        sum > wanted * total
    });
    // Rounding may leave the sum below: then the last that has a share.
    let last = || shares.iter().rposition(|&share| share > 0.0);
    reached.or_else(last).unwrap_or(0) as u32
}

/// The hidden tokens of each sequence in an order drawn at random.
fn order(offsets: &[u32], hidden: &[u32], numbers: &mut impl Rng) -> Vec<Vec<u32>> {
    let sequences = offsets.windows(2).map(|ends| {
        let own = hidden.partition_point(|&row| row < ends[0])
            ..hidden.partition_point(|&row| row < ends[1]);
        let mut own: Vec<(u64, u32)> = hidden[own]
            .iter()
            .map(|&row| (numbers.next_u64(), row))
            .collect();
        own.sort_unstable();
        own.into_iter().map(|(_, row)| row).collect()
    });
    sequences.collect()
}

/// Whether each token is in sight, `[N]`, if a share of the hidden ones is, the first of their order; at least one of each
/// sequence.
fn in_sight(offsets: &[u32], order: &[Vec<u32>], share: f64) -> Vec<bool> {
    let mut keys = vec![true; offsets.last().map_or(0, |&end| end as usize)];
    for (ends, own) in offsets.windows(2).zip(order) {
        let seen = (share * own.len() as f64).round() as usize;
        let seen = seen.max(usize::from(own.len() == (ends[1] - ends[0]) as usize));
        for &row in own.iter().skip(seen) {
            keys[row as usize] = false;
        }
    }
    keys
}

/// What of each row comes from the decoder; of rows that are not hidden nothing does.
fn shares(
    mix: DecoderMix,
    offsets: &[u32],
    hidden: &[u32],
    rows: usize,
    numbers: &mut impl Rng,
) -> Vec<f32> {
    let mut drawn = |share: f64| {
        let number = f64::from(numbers.next_u32()) / (f64::from(u32::MAX) + 1.0);
        f32::from(number < share)
    };
    let mut shares: Vec<f32> = match mix {
        DecoderMix::Mean => vec![0.5; hidden.len()],
        DecoderMix::Token(MixShare { decoder }) => hidden.iter().map(|_| drawn(decoder)).collect(),
        DecoderMix::Sequence(MixShare { decoder }) => {
            let sequences: Vec<f32> = offsets.windows(2).map(|_| drawn(decoder)).collect();
            let of = |&row: &u32| sequences[offsets.partition_point(|&first| first <= row) - 1];
            hidden.iter().map(of).collect()
        }
    };
    shares.resize(rows, 0.0);
    shares
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::Device;
    use cloze_data::text::batch::Wanted;
    use cloze_runtime::model::Checkpoint;
    use cloze_spec::inventory::encoder_parameters;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::pretrained::LabelLoss;
    use crate::weights::{fresh, gradients, summed};

    const OFFSETS: [u32; 4] = [0, 5, 7, 14];

    /// A small encoder in a scaffold, its weights drawn at random.
    fn model(scaffold: &text::Scaffold) -> Pretrained {
        let encoder = encoder();
        let mut parameters = encoder_parameters(&encoder);
        parameters.extend(scaffold.parameters(&encoder));
        let values = fresh(&parameters, 0.2, 3);
        let device = Device::flex().autodiff();
        Pretrained::in_scaffold(Arc::new(encoder), scaffold, None, &values, &device)
    }

    fn encoder() -> encoder::Encoder {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/golden");
        Checkpoint::open(&home.join("bert-mlm")).unwrap().encoder
    }

    fn batch(wanted: Wanted) -> TextBatch {
        TextBatch {
            tokens: (0..14).map(|at| at + 3).collect(),
            segments: vec![0; 14],
            offsets: OFFSETS.to_vec(),
            rows: Some(vec![1, 3, 6, 8, 9]),
            wanted,
            ..TextBatch::default()
        }
    }

    fn decoder(visible: &[f64]) -> text::Scaffold {
        text::Scaffold {
            decoder: Some(text::Decoder {
                visible: visible.to_vec(),
                mix: DecoderMix::Token(MixShare { decoder: 0.5 }),
            }),
            ..text::Scaffold::default()
        }
    }

    fn loss(model: &Pretrained, batch: &TextBatch, seed: u64) -> Tensor<1> {
        let settings = text::LabelLoss::default();
        let how = LabelLoss {
            settings: &settings,
            class_weights: None,
        };
        model.loss(batch, how, DropoutRates::NONE, &mut Noise::new(seed))
    }

    fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_into_vec().unwrap()
    }

    #[test]
    fn what_is_computed_once_more_on_the_way_back_has_the_same_gradients() {
        let targets = vec![4, 6, 9, 1, 2];
        let generator = text::Scaffold {
            generator: Some(text::Generator {
                encoder: Arc::new(encoder()),
                weight: 5.0,
            }),
            ..text::Scaffold::default()
        };
        for (scaffold, wanted) in [
            (decoder(&[0.3, 1.0]), Wanted::Tokens(targets.clone())),
            (generator, Wanted::Replaced(targets.clone())),
        ] {
            let (model, batch) = (model(&scaffold), batch(wanted));
            let of = |model: &Pretrained| summed(model, model.gradients(&loss(model, &batch, 2)));
            let (kept, again) = (of(&model), of(&model.clone().with_checkpoints()));
            assert!(kept.keys().eq(again.keys()));
            for (name, want) in &kept {
                let size = want.iter().fold(0.01_f32, |size, w| size.max(w.abs()));
                for (got, want) in again[name].iter().zip(want) {
                    assert!(
                        (got - want).abs() <= 1e-6 * size,
                        "{name}: {got}, needs {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_token_out_of_sight_reaches_its_own_row_alone() {
        let model = model(&decoder(&[0.5]));
        let encoder = model.settings().clone();
        let kind = encoder.layers.last().unwrap();
        let width = encoder.width;
        let mut keys = vec![true; 14];
        keys[9] = false;
        let sight = Sight {
            rows: None,
            keys: Some(&keys),
        };
        let device = Device::flex().autodiff();
        let values: Vec<f32> = (0..14 * width).map(|at| (at as f32 * 0.7).sin()).collect();
        let values = TensorData::new(values, [14, width]);
        let layers = [(&model.scaffold.decoder[0], kind), (&model.layer[0], kind)];
        // How row `to` changes with each of the rows it came from.
        let reached = |to: usize| -> Vec<bool> {
            let x = Tensor::<2>::from_data(values.clone(), &device).require_grad();
            let noise = &mut Noise::none();
            let rates = DropoutRates::NONE;
            let y = model.through(
                &layers,
                x.clone(),
                &OFFSETS,
                sight,
                rates,
                noise,
                &mut Hook::none(),
            );
            let y = y.slice([to..to + 1, 0..width]).powi_scalar(3).sum();
            let gradient = floats(x.grad(&y.backward()).unwrap());
            let rows = gradient.chunks(width);
            rows.map(|row| row.iter().any(|&g| g != 0.0)).collect()
        };
        // Of its own sequence, without the one that is out of sight.
        let expected = |also: usize| -> Vec<bool> {
            (0..14)
                .map(|row| (row >= 7 && keys[row]) || row == also)
                .collect()
        };
        assert_eq!(reached(8), expected(8));
        assert_eq!(reached(9), expected(9));
    }

    #[test]
    fn a_decoder_without_layers_is_none() {
        let batch = batch(Wanted::Tokens(vec![4, 6, 9, 1, 2]));
        let [plain, none, two] = [
            text::Scaffold::default(),
            decoder(&[]),
            decoder(&[0.5, 1.0]),
        ]
        .map(|scaffold| model(&scaffold));
        let of = |model: &Pretrained, seed| floats(loss(model, &batch, seed))[0].to_bits();
        assert_eq!(of(&plain, 5), of(&none, 5));
        // One draw in 32 gives the head nothing of the decoder.
        assert!((5..9).any(|seed| of(&two, seed) != of(&plain, seed)));
    }

    #[test]
    fn drawing_follows_its_seed_and_only_that() {
        let model = model(&decoder(&[0.3, 1.0]));
        let batch = batch(Wanted::Tokens(vec![4, 6, 9, 1, 2]));
        let of = |seed| floats(loss(&model, &batch, seed))[0].to_bits();
        assert_eq!(of(1), of(1));
        assert!((2..9).any(|seed| of(seed) != of(1)));
    }

    #[test]
    fn nothing_is_learned_through_the_draw() {
        let targets = vec![4, 6, 9, 1, 2];
        let batch = batch(Wanted::Replaced(targets.clone()));
        let of = |weight: f32| {
            let generator = Some(text::Generator {
                encoder: Arc::new(encoder()),
                weight,
            });
            let model = model(&text::Scaffold {
                generator,
                ..text::Scaffold::default()
            });
            let loss = loss(&model, &batch, 7);
            (floats(loss.clone())[0], gradients(&model, &loss))
        };
        let ((low, light), (high, heavy)) = (of(1.0), of(50.0));
        assert!(high > low);
        let own = |name: &&String| name.starts_with("scaffold.generator.");
        assert!(light.keys().filter(own).count() > 20);
        for name in light.keys().filter(own) {
            assert_eq!(light[name], heavy[name], "{name}");
        }
        let other = "layer.0.mixer.qkv.weight";
        let ratio = heavy[other][0] / light[other][0];
        assert!((ratio - 50.0).abs() < 0.05, "{ratio}");
        // What the generator says of a text does not depend on what stands beside it.
        let model = model(&text::Scaffold {
            generator: Some(text::Generator {
                encoder: Arc::new(encoder()),
                weight: 1.0,
            }),
            ..text::Scaffold::default()
        });
        let all = model.replaced(&batch, &targets, DropoutRates::NONE, &mut Noise::new(1));
        let one = TextBatch {
            tokens: batch.tokens[..5].to_vec(),
            segments: vec![0; 5],
            offsets: vec![0, 5],
            rows: Some(vec![1, 3]),
            ..TextBatch::default()
        };
        let one = model.replaced(&one, &targets[..2], DropoutRates::NONE, &mut Noise::new(1));
        let count = one.probabilities.len();
        for (a, b) in one.probabilities.iter().zip(&all.probabilities[..count]) {
            assert!((a - b).abs() < 1e-6);
        }
        assert_eq!(one.is_replaced, all.is_replaced[..5]);
    }

    #[test]
    fn tokens_in_another_order_have_the_same_scores() {
        let model = model(&text::Scaffold {
            positions: Some(8),
            ..text::Scaffold::default()
        });
        let mut batch = batch(Wanted::Places(Vec::new()));
        batch.keys = Some((0..14).map(|at| at % 3 != 1).collect());
        let scores = floats(model.position_scores(&batch));
        let order = [3, 0, 4, 2, 1, 6, 5, 13, 7, 12, 8, 9, 11, 10];
        let mixed = TextBatch {
            tokens: order.iter().map(|&at| batch.tokens[at]).collect(),
            keys: batch
                .keys
                .as_ref()
                .map(|keys| order.iter().map(|&at| keys[at]).collect()),
            ..batch
        };
        let mixed = floats(model.position_scores(&mixed));
        for (row, &from) in mixed.chunks(8).zip(&order) {
            for (a, b) in row.iter().zip(&scores[8 * from..]) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
        // Nothing says where a token stands but the others.
        let places = &scores[..8];
        assert!(places.iter().any(|score| (score - places[0]).abs() > 1e-3));
    }

    #[test]
    fn windows_count_by_their_scores() {
        let settings = text::Scaffold {
            chunks: true,
            ..text::Scaffold::default()
        };
        let parameters = settings.parameters(&encoder());
        let values = fresh(&parameters, 0.5, 3);
        let width = encoder().width;
        let rows: Vec<f32> = (0..3 * width).map(|at| (at as f32 * 0.7).sin()).collect();
        let device = Device::flex().autodiff();
        let pooled = |values: &crate::weights::Values, rows: &[f32]| {
            let source = Source {
                values,
                shapes: parameters
                    .iter()
                    .map(|p| (p.name.clone(), p.shape.clone()))
                    .collect(),
                device: &device,
                lora_scale: 1.0,
            };
            let scores = Scaffold::new(&settings, &encoder(), &source)
                .chunks
                .unwrap();
            let rows = TensorData::new(rows.to_vec(), [rows.len() / width, width]);
            let x = scores.mean(Tensor::from_data(rows, &device));
            (scores, x)
        };
        let (scores, found) = pooled(&values, &rows);
        // By hand, with plain loops.
        let of = |part: &str| &values[&format!("scaffold.chunks.{part}")];
        let powers: Vec<f32> = rows
            .chunks(width)
            .map(|row| {
                let maps = of("transform.weight")
                    .chunks(width)
                    .zip(of("output.weight"));
                let terms = maps.map(|(map, out)| {
                    let sum: f32 = map.iter().zip(row).map(|(w, x)| w * x).sum();
                    out * sum.tanh()
                });
                terms.sum::<f32>().exp()
            })
            .collect();
        let total: f32 = powers.iter().sum();
        assert!(
            powers
                .iter()
                .any(|power| (power / total - 1.0 / 3.0).abs() > 0.1),
            "{powers:?}"
        );
        for (at, found) in floats(found.clone()).into_iter().enumerate() {
            let each = powers.iter().zip(rows.chunks(width));
            let expected: f32 = each.map(|(power, row)| power / total * row[at]).sum();
            assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
        }
        // Their order changes nothing, and a window alone is what it is.
        let mixed = [&rows[width..], &rows[..width]].concat();
        let pairs = floats(pooled(&values, &mixed).1)
            .into_iter()
            .zip(floats(found.clone()));
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!(floats(pooled(&values, &rows[..width]).1), rows[..width]);
        // Every parameter learns along its gradient, but the bias that all scores share.
        let loss = |x: Tensor<2>| x.powi_scalar(3).sum();
        for (name, gradient) in gradients(&scores, &loss(found)) {
            let norm = gradient.iter().map(|g| g * g).sum::<f32>();
            let moved = |sign: f32| {
                let mut values = values.clone();
                let own = values.get_mut(&format!("scaffold.chunks.{name}")).unwrap();
                for (value, g) in own.iter_mut().zip(&gradient) {
                    *value += sign * 0.01 * g;
                }
                floats(loss(pooled(&values, &rows).1))[0]
            };
            let slope = (moved(1.0) - moved(-1.0)) / 0.02;
            assert!(
                (slope - norm).abs() <= 0.03 * norm + 1e-4,
                "{name}: {slope}, not {norm}"
            );
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_their_share() {
        let mut numbers = ChaCha8Rng::seed_from_u64(3);
        let shares = [0.0, 0.5, 0.2, 0.0, 0.3, 0.0];
        let mut counts = [0_u32; 6];
        for _ in 0..20_000 {
            counts[draw(&shares, &mut numbers) as usize] += 1;
        }
        for (count, share) in counts.iter().zip(shares) {
            // Five standard deviations of the widest.
            assert!(
                (f64::from(*count) - 20_000.0 * f64::from(share)).abs() < 360.0,
                "{counts:?}"
            );
            assert!(share > 0.0 || *count == 0, "{counts:?}");
        }
    }

    #[test]
    fn what_is_in_sight_stays_there_layer_by_layer() {
        let offsets = [0, 6, 8, 14];
        let hidden = [1, 2, 4, 5, 6, 7, 9];
        let order = order(&offsets, &hidden, &mut ChaCha8Rng::seed_from_u64(1));
        let layers = [0.0, 0.5, 1.0].map(|share| in_sight(&offsets, &order, share));
        for pair in layers.windows(2) {
            assert!(
                pair[0]
                    .iter()
                    .zip(&pair[1])
                    .all(|(before, after)| before <= after)
            );
        }
        let seen = |layer: &[bool], of: std::ops::Range<usize>| {
            layer[of].iter().filter(|seen| **seen).count()
        };
        assert_eq!(layers.each_ref().map(|layer| seen(layer, 0..6)), [2, 4, 6]);
        // A sequence whose tokens are all hidden has one in sight.
        assert_eq!(layers.each_ref().map(|layer| seen(layer, 6..8)), [1, 1, 2]);
        assert!(layers.iter().all(|layer| layer[8] && layer[10]));
    }

    #[test]
    fn the_head_is_given_either_side_or_the_mean() {
        let (offsets, hidden) = ([0, 100, 200], (0..200).collect::<Vec<u32>>());
        let of = |mix| {
            let mut numbers = ChaCha8Rng::seed_from_u64(1);
            shares(mix, &offsets, &hidden, 202, &mut numbers)
        };
        let tokens = of(DecoderMix::Token(MixShare { decoder: 0.3 }));
        assert!((40.0..80.0).contains(&tokens.iter().sum::<f32>()));
        let sequences = of(DecoderMix::Sequence(MixShare { decoder: 0.5 }));
        assert!(
            sequences[..100]
                .iter()
                .all(|share| share.to_bits() == sequences[0].to_bits())
        );
        assert_eq!(of(DecoderMix::Mean)[199..], [0.5, 0.0, 0.0]);
    }
}
