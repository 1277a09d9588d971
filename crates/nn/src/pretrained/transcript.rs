use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, activation};
use cloze_data::text::batch::TextBatch;
use cloze_data::text::path;
use cloze_spec::encoder::{Activation, DropoutRates};
use cloze_spec::text::{LabelDecoder, Transcribing};

use super::cross::{Cross, NORM, Seen, hidden, padded};
use super::train::label_loss;
use super::{LabelLoss, Linear, Norm, Pretrained, Table};
use crate::noise::Noise;
use crate::op;
use crate::site::Hook;
use crate::weights::Source;

/// Writes sequences of labels, each label seeing those before it and the states of a text.
#[derive(Module, Debug)]
pub(super) struct Writer {
    token: Table,
    position: Table,
    layer: Vec<Step>,
    output: Linear,
    labels: usize,
    most: usize,
    beam: usize,
}

#[derive(Module, Debug)]
struct Step {
    own: Cross,
    own_norm: Norm,
    cross: Cross,
    cross_norm: Norm,
    up: Linear,
    down: Linear,
    ffn_norm: Norm,
}

impl Writer {
    pub fn new(settings: &Transcribing, source: &Source<'_>, name: &str) -> Self {
        let Transcribing { labels, decoder } = *settings;
        let LabelDecoder {
            layers,
            heads,
            most,
            beam,
        } = decoder;
        let step = |layer: usize| {
            let name = |part: &str| format!("{name}.layer.{layer}.{part}");
            let norm = |part: &str| Norm::new(NORM, source, &name(part));
            Step {
                own: Cross::new(heads, source, &name("own")),
                own_norm: norm("own_norm"),
                cross: Cross::new(heads, source, &name("cross")),
                cross_norm: norm("cross_norm"),
                up: Linear::new(true, source, &name("up")),
                down: Linear::new(true, source, &name("down")),
                ffn_norm: norm("ffn_norm"),
            }
        };
        Self {
            token: Table::new(source, &format!("{name}.token")),
            position: Table::new(source, &format!("{name}.position")),
            layer: (0..layers).map(step).collect(),
            output: Linear::new(true, source, &format!("{name}.output")),
            labels,
            most,
            beam,
        }
    }

    /// Scores of what comes after each place of each of the `sequences`, which are padded to `U` and begin with the beginning.
    ///
    /// # Shapes
    /// `seen`: of each layer, of `B` texts → `[B · U, C + 1]`
    fn scores(
        &self,
        sequences: &[Vec<u32>],
        seen: &[Seen],
        unseen: &Tensor<4>,
        rate: f32,
        noise: &mut Noise,
    ) -> Tensor<2> {
        let count = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let place = |sequence: &Vec<u32>, at| sequence.get(at).copied().unwrap_or(0);
        let tokens = sequences
            .iter()
            .flat_map(|sequence| (0..count).map(move |at| place(sequence, at)));
        let places = sequences.iter().flat_map(|_| 0..count as u32).collect();
        let positions = Some((self.position.weight.val(), places));
        let x = op::embed(self.token.weight.val(), &tokens.collect(), positions);
        let mut x = op::dropout_add(x, None, noise.dropout(rate));
        let width = x.dims()[1];
        let wide = |x: Tensor<2>| x.reshape([sequences.len(), count, width]);
        let flat = |x: Tensor<3>| x.reshape([sequences.len() * count, width]);
        let later = op::future(count, &x.device());
        for (step, seen) in self.layer.iter().zip(seen) {
            let before = wide(x.clone());
            let own = step.own.see(&before);
            let mixed = step.own.forward(before, &own, later.clone());
            x = step
                .own_norm
                .forward(flat(mixed), Some(x), noise.dropout(rate));
            let mixed = step.cross.forward(wide(x.clone()), seen, unseen.clone());
            x = step
                .cross_norm
                .forward(flat(mixed), Some(x), noise.dropout(rate));
            let fed = step.up.forward(x.clone(), Activation::Gelu);
            let fed = step.down.forward(fed, Activation::Identity);
            x = step.ffn_norm.forward(fed, Some(x), noise.dropout(rate));
        }
        self.output.forward(x, Activation::Identity)
    }

    /// The mean cross-entropy of the labels of texts, and of their ends.
    ///
    /// # Shapes
    /// `states: [N, D]`, `offsets: [B + 1]`, `labels: B` → `[1]`
    pub fn loss(
        &self,
        states: &Tensor<2>,
        offsets: &[u32],
        labels: &[Vec<u32>],
        how: LabelLoss<'_>,
        (rates, noise): (DropoutRates, &mut Noise),
    ) -> Tensor<1> {
        let texts = padded(states, offsets);
        let seen: Vec<Seen> = self
            .layer
            .iter()
            .map(|step| step.cross.see(&texts))
            .collect();
        let unseen = hidden(offsets, &states.device());
        let begun: Vec<Vec<u32>> = labels.iter().map(|labels| self.begun(labels)).collect();
        let scores = self.scores(&begun, &seen, &unseen, rates.hidden, noise);
        let count = begun.iter().map(Vec::len).max().unwrap_or(0);
        let rows = begun.iter().enumerate().flat_map(|(text, begun)| {
            let first = text * count;
            (first..first + begun.len()).map(|row| row as u32)
        });
        let rows: Arc<[u32]> = rows.collect();
        let end = [self.labels as u32];
        let truth = labels.iter().flat_map(|labels| labels.iter().chain(&end));
        let truth: Vec<u32> = truth.copied().collect();
        label_loss(op::select_rows(scores, &rows), &truth, how)
    }

    /// Labels behind the beginning.
    fn begun(&self, labels: &[u32]) -> Vec<u32> {
        let begin = self.labels as u32;
        std::iter::once(begin)
            .chain(labels.iter().copied())
            .collect()
    }

    /// The likeliest labels of each text that a search along the likeliest beginnings finds, and how likely they are, end
    /// included.
    ///
    /// # Shapes
    /// `states: [N, D]`, `offsets: [B + 1]` → `B`
    pub fn write(&self, states: &Tensor<2>, offsets: &[u32]) -> Vec<(Vec<u32>, f64)> {
        let texts = padded(states, offsets);
        let seen: Vec<Seen> = self
            .layer
            .iter()
            .map(|step| step.cross.see(&texts))
            .collect();
        let unseen = hidden(offsets, &states.device());
        let width = self.labels + 1;
        let mut all = vec![vec![Prefix::default()]; offsets.len() - 1];
        for length in 0..=self.most {
            let open = |paths: &Vec<Prefix>| paths.iter().filter(|path| !path.ended).count();
            let owners = (0..).zip(&all);
            let owners = owners.flat_map(|(text, paths)| std::iter::repeat_n(text, open(paths)));
            let owners: Vec<u32> = owners.collect();
            if owners.is_empty() {
                break;
            }
            let begun = all.iter().flatten().filter(|path| !path.ended);
            let begun: Vec<Vec<u32>> = begun.map(|path| self.begun(&path.labels)).collect();
            let own: Vec<Seen> = seen.iter().map(|seen| seen.select(&owners)).collect();
            let hidden = unseen
                .clone()
                .select(0, op::indices(&owners, &states.device()));
            let scores = self.scores(&begun, &own, &hidden, 0.0, &mut Noise::none());
            let last = (1..=owners.len()).map(|path| (path * (length + 1) - 1) as u32);
            let scores = op::select_rows(scores, &last.collect());
            let logs: Vec<f32> = activation::log_softmax(scores, 1)
                .into_data()
                .try_into_vec()
                .expect("encoders compute in f32");
            let mut rows = logs.chunks(width);
            for paths in &mut all {
                let mut next = Vec::new();
                for path in std::mem::take(paths) {
                    if path.ended {
                        next.push(path);
                        continue;
                    }
                    let row = rows.next().expect("a row for each path");
                    // At last only the end may come.
                    let first = if length == self.most { self.labels } else { 0 };
                    next.extend((first..width).map(|label| path.with(label, row[label], width)));
                }
                // Of paths alike the first stays first.
                next.sort_by(|a, b| b.log.total_cmp(&a.log));
                next.truncate(self.beam);
                *paths = next;
            }
        }
        let best = all.into_iter().map(|paths| paths.into_iter().next());
        best.map(|path| path.expect("a beam has a path"))
            .map(|path| (path.labels, path.log.exp()))
            .collect()
    }
}

/// A sequence that is being written.
#[derive(Clone, Default)]
struct Prefix {
    labels: Vec<u32>,
    log: f64,
    ended: bool,
}

impl Prefix {
    /// The same and a label more, or the end.
    fn with(&self, label: usize, log: f32, width: usize) -> Self {
        let mut path = self.clone();
        path.log += f64::from(log);
        if label + 1 == width {
            path.ended = true;
        } else {
            path.labels.push(label as u32);
        }
        path
    }
}

impl Pretrained {
    /// The sequence of labels that each text of a batch is found to have, and how likely it is.
    ///
    /// # Panics
    /// If the encoder has neither a head of labels nor what writes them.
    pub fn transcripts(&self, batch: &TextBatch) -> Vec<(Vec<u32>, f64)> {
        if let Some(writer) = &self.scaffold.transcript {
            let states = self.forward(&self.tokens(batch), &mut Hook::none());
            return writer.write(&states, &batch.offsets);
        }
        let logits = self.outputs(batch, DropoutRates::NONE, &mut Noise::none());
        let width = logits.dims()[1];
        let logits: Vec<f32> = logits
            .into_data()
            .try_into_vec()
            .expect("encoders compute in f32");
        let texts = batch.offsets.windows(2);
        texts
            .map(|ends| {
                path::best(
                    &logits[ends[0] as usize * width..ends[1] as usize * width],
                    width,
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::{Device, TensorData};
    use cloze_runtime::model::Checkpoint;
    use cloze_spec::inventory::Parameter;
    use cloze_spec::text;

    use super::*;
    use crate::weights::{Values, fresh, gradients};

    const OFFSETS: [u32; 4] = [0, 3, 4, 9];

    fn encoder() -> cloze_spec::Encoder {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/golden");
        Checkpoint::open(&home.join("bert-mlm")).unwrap().encoder
    }

    fn parameters(beam: usize) -> (Transcribing, Vec<Parameter>) {
        let decoder = LabelDecoder {
            layers: 2,
            heads: 2,
            most: 3,
            beam,
        };
        let settings = Transcribing { labels: 2, decoder };
        let scaffold = text::Scaffold {
            transcript: Some(settings),
            ..text::Scaffold::default()
        };
        (settings, scaffold.parameters(&encoder()))
    }

    fn writer(beam: usize, values: &Values, device: &Device) -> Writer {
        let (settings, parameters) = parameters(beam);
        let source = Source {
            values,
            shapes: parameters.into_iter().map(|p| (p.name, p.shape)).collect(),
            device,
            lora_scale: 1.0,
        };
        Writer::new(&settings, &source, "scaffold.transcript")
    }

    fn values() -> Values {
        fresh(&parameters(1).1, 0.7, 5)
    }

    fn states(rows: std::ops::Range<usize>, device: &Device) -> Tensor<2> {
        let width = encoder().width;
        let places = rows.start * width..rows.end * width;
        let values = places.map(|at| (at as f32 * 0.9).sin());
        let values = TensorData::new(values.collect::<Vec<f32>>(), [rows.len(), width]);
        Tensor::from_data(values, device)
    }

    fn loss(writer: &Writer, states: &Tensor<2>, offsets: &[u32], labels: &[Vec<u32>]) -> f64 {
        let settings = text::LabelLoss::default();
        let how = LabelLoss {
            settings: &settings,
            class_weights: None,
        };
        let noise = &mut Noise::none();
        let loss = writer.loss(states, offsets, labels, how, (DropoutRates::NONE, noise));
        f64::from(loss.into_data().try_into_vec::<f32>().unwrap()[0])
    }

    /// All sequences of up to three of two labels.
    fn all() -> Vec<Vec<u32>> {
        let lengths =
            (0..=3_u32).flat_map(|length| (0..1_u32 << length).map(move |bits| (length, bits)));
        lengths
            .map(|(length, bits)| (0..length).map(|at| bits >> at & 1).collect())
            .collect()
    }

    #[test]
    fn a_wide_beam_finds_the_likeliest_sequence() {
        let (device, values) = (Device::flex(), values());
        let (wide, greedy) = (writer(40, &values, &device), writer(1, &values, &device));
        let mut differ = 0;
        for (first, last) in (0..30).map(|first| (first, first + 1 + first % 4)) {
            let states = states(first..last, &device);
            let offsets = [0, (last - first) as u32];
            // The loss is a mean over the labels and the end; after the most labels there may be others than the end.
            let share = |labels: &Vec<u32>| {
                let rows = labels.len() + 1;
                (-loss(&wide, &states, &offsets, std::slice::from_ref(labels)) * rows as f64).exp()
            };
            let shares: Vec<f64> = all().iter().map(share).collect();
            let best = (0..shares.len())
                .max_by(|&a, &b| shares[a].total_cmp(&shares[b]))
                .unwrap();
            let (labels, found) = wide.write(&states, &offsets).remove(0);
            assert_eq!(labels, all()[best]);
            assert!(
                (found - shares[best]).abs() < 1e-5,
                "{found}, not {}",
                shares[best]
            );
            differ += usize::from(greedy.write(&states, &offsets)[0].0 != labels);
        }
        assert!(differ > 0, "the narrow beam is never misled");
    }

    #[test]
    fn neighbours_change_nothing() {
        let (device, values) = (Device::flex(), values());
        let writer = writer(2, &values, &device);
        let together = writer.write(&states(0..9, &device), &OFFSETS);
        let labels = [vec![0, 1], vec![], vec![1, 1, 0]];
        let whole = loss(&writer, &states(0..9, &device), &OFFSETS, &labels);
        let mut sum = 0.0;
        for (at, ends) in OFFSETS.windows(2).enumerate() {
            let own = states(ends[0] as usize..ends[1] as usize, &device);
            let offsets = [0, ends[1] - ends[0]];
            let alone = writer.write(&own, &offsets).remove(0);
            assert_eq!(alone.0, together[at].0);
            assert!((alone.1 - together[at].1).abs() < 1e-6);
            let rows = labels[at].len() as f64 + 1.0;
            sum += loss(&writer, &own, &offsets, &labels[at..=at]) * rows;
        }
        assert!(
            (whole - sum / 8.0).abs() < 1e-5,
            "{whole}, not {}",
            sum / 8.0
        );
    }

    #[test]
    fn every_parameter_learns_along_its_gradient() {
        let device = Device::flex().autodiff();
        let values = values();
        let labels = [vec![0, 1], vec![], vec![1, 1, 0]];
        let model = writer(1, &values, &device);
        let settings = text::LabelLoss::default();
        let how = LabelLoss {
            settings: &settings,
            class_weights: None,
        };
        let states = states(0..9, &device);
        let noise = &mut Noise::none();
        let found = model.loss(&states, &OFFSETS, &labels, how, (DropoutRates::NONE, noise));
        let gradients = gradients(&model, &found);
        assert_eq!(gradients.len(), values.len());
        for (name, gradient) in &gradients {
            let full = format!("scaffold.transcript.{name}");
            let norm = gradient
                .iter()
                .map(|&g| f64::from(g).powi(2))
                .sum::<f64>()
                .sqrt();
            let step = 4e-3 / norm.max(1e-3);
            let moved = |sign: f64| {
                let mut values = values.clone();
                for (value, g) in values.get_mut(&full).unwrap().iter_mut().zip(gradient) {
                    *value += (sign * step * f64::from(*g)) as f32;
                }
                loss(&writer(1, &values, &device), &states, &OFFSETS, &labels)
            };
            let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
            // Of squares, in f32.
            assert!(
                (slope - norm * norm).abs() <= 0.02 * norm * norm + 1e-4,
                "{name}: {slope}, not {}",
                norm * norm
            );
        }
    }
}
