use burn::module::Module;
use burn::tensor::{Tensor, TensorData, activation};
use cloze_spec::encoder::{Activation, DropoutRates};
use cloze_spec::text::{ColumnReadout, Placed, Readout, RecurrentReadout};

use super::cross::{Cross, NORM, hidden, padded};
use super::scaffold::Scored;
use super::{Linear, Norm, Table};
use crate::noise::Noise;
use crate::op;
use crate::weights::Source;

/// Makes one vector of a text's states.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a model has one")]
pub(super) enum Reader {
    Columns(ColumnReader),
    Recurrent(PairReader),
}

/// Texts to make vectors of.
#[derive(Clone, Copy)]
pub(super) struct Texts<'a> {
    /// Text `b` is the states `offsets[b]..offsets[b + 1]`.
    pub offsets: &'a [u32],
    /// Segment of each token, `[N]`.
    pub segments: &'a [u32],
    /// The values of columns beside each text.
    pub beside: &'a [Placed],
}

impl Reader {
    pub fn new(settings: &Readout, source: &Source<'_>, name: &str) -> Self {
        match settings {
            Readout::Columns(columns) => Self::Columns(ColumnReader::new(*columns, source, name)),
            Readout::Recurrent(pair) => Self::Recurrent(PairReader::new(pair, source, name)),
        }
    }

    /// # Shapes
    /// `states: [N, D]` → `[B, D]`
    pub fn forward(
        &self,
        states: &Tensor<2>,
        texts: Texts<'_>,
        rates: DropoutRates,
        noise: &mut Noise,
    ) -> Tensor<2> {
        match self {
            Self::Columns(reader) => reader.forward(states, texts, rates.hidden, noise),
            Self::Recurrent(reader) => reader.forward(states, texts),
        }
    }
}

/// Columns beside a text attend to its states.
#[derive(Module, Debug)]
pub(super) struct ColumnReader {
    value: Table,
    column: Table,
    /// As in the encoder's embeddings: what asks is as large as what it asks from the first step on.
    norm: Norm,
    layer: Vec<Attended>,
}

#[derive(Module, Debug)]
struct Attended {
    cross: Cross,
    cross_norm: Norm,
    up: Linear,
    down: Linear,
    ffn_norm: Norm,
}

impl ColumnReader {
    fn new(settings: ColumnReadout, source: &Source<'_>, name: &str) -> Self {
        let layer = |layer: usize| {
            let name = |part: &str| format!("{name}.layer.{layer}.{part}");
            Attended {
                cross: Cross::new(settings.heads, source, &name("cross")),
                cross_norm: Norm::new(NORM, source, &name("cross_norm")),
                up: Linear::new(true, source, &name("up")),
                down: Linear::new(true, source, &name("down")),
                ffn_norm: Norm::new(NORM, source, &name("ffn_norm")),
            }
        };
        Self {
            value: Table::new(source, &format!("{name}.value")),
            column: Table::new(source, &format!("{name}.column")),
            norm: Norm::new(NORM, source, &format!("{name}.norm")),
            layer: (0..settings.layers).map(layer).collect(),
        }
    }

    fn forward(
        &self,
        states: &Tensor<2>,
        texts: Texts<'_>,
        rate: f32,
        noise: &mut Noise,
    ) -> Tensor<2> {
        let device = states.device();
        let batch = texts.offsets.len() - 1;
        let [columns, width] = self.column.weight.dims();
        assert_eq!(
            texts.beside.len(),
            batch * columns,
            "a value a column of each text"
        );
        let rows = texts.beside.iter().map(|(row, _)| *row).collect();
        let by: Vec<f32> = texts.beside.iter().map(|(_, by)| *by).collect();
        let by = Tensor::<2>::from_data(TensorData::new(by, [batch * columns, 1]), &device);
        let names = (0..batch).flat_map(|_| 0..columns as u32).collect();
        let values = op::embed(self.value.weight.val(), &rows, None) * by;
        let columns_of = op::embed(self.column.weight.val(), &names, None); // [B · M, D]
        let mut x = self
            .norm
            .forward(values, Some(columns_of), noise.dropout(0.0));
        let words = padded(states, texts.offsets);
        let unseen = hidden(texts.offsets, &device);
        for layer in &self.layer {
            let seen = layer.cross.see(&words);
            let asked = x.clone().reshape([batch, columns, width]);
            let mixed = layer.cross.forward(asked, &seen, unseen.clone());
            let mixed = mixed.reshape([batch * columns, width]);
            x = layer
                .cross_norm
                .forward(mixed, Some(x), noise.dropout(rate));
            let fed = layer.up.forward(x.clone(), Activation::Gelu);
            let fed = layer.down.forward(fed, Activation::Identity);
            x = layer.ffn_norm.forward(fed, Some(x), noise.dropout(rate));
        }
        x.reshape([batch, columns, width])
            .mean_dim(1)
            .squeeze_dim(1)
    }
}

/// Reads both texts of a pair in both directions, and compares them.
#[derive(Module, Debug)]
pub(super) struct PairReader {
    forward: Lstm,
    backward: Lstm,
    attention: Scored,
    pair: Linear,
}

/// Gates in the order input, forget, new, output.
#[derive(Module, Debug)]
struct Lstm {
    input: Linear,
    state: Table,
}

impl PairReader {
    fn new(_: &RecurrentReadout, source: &Source<'_>, name: &str) -> Self {
        let way = |way: &str| Lstm {
            input: Linear::new(true, source, &format!("{name}.{way}.input")),
            state: Table::new(source, &format!("{name}.{way}.state")),
        };
        Self {
            forward: way("forward"),
            backward: way("backward"),
            attention: Scored::new(source, &format!("{name}.attention")),
            pair: Linear::new(true, source, &format!("{name}.pair")),
        }
    }

    fn forward(&self, states: &Tensor<2>, texts: Texts<'_>) -> Tensor<2> {
        let device = states.device();
        let batch = texts.offsets.len() - 1;
        // Where each text of each pair ends.
        let mut ends = vec![0];
        for pair in texts.offsets.windows(2) {
            let first = (pair[0]..pair[1]).find(|&at| texts.segments[at as usize] > 0);
            ends.extend([first.unwrap_or(pair[1]), pair[1]]);
        }
        let unseen = hidden(&ends, &device); // [2B, 1, 1, T]
        let longest = unseen.dims()[3];
        let unseen = unseen.reshape([2 * batch, longest]);
        let is_token = unseen.clone().equal_elem(0.0).float(); // [2B, T]
        let ways = [
            self.forward.read(states, &ends, &is_token, false),
            self.backward.read(states, &ends, &is_token, true),
        ];
        let read = Tensor::cat(ways.to_vec(), 2); // [2B, T, 2H]
        let width = read.dims()[2];
        let flat = read.clone().reshape([2 * batch * longest, width]);
        let scores = self.attention.forward(flat, Activation::Tanh);
        let shares = activation::softmax(scores.reshape([2 * batch, longest]) + unseen, 1);
        let each = (read * shares.unsqueeze_dim(2))
            .sum_dim(1)
            .reshape([batch, 2 * width]);
        let one = |from: usize| {
            each.clone()
                .slice([0..batch, from * width..(from + 1) * width])
        };
        let apart = (one(0) - one(1)).abs();
        self.pair
            .forward(Tensor::cat(vec![each.clone(), apart], 1), Activation::Gelu)
    }
}

impl Lstm {
    /// What is known after each token, from the front or the back.
    ///
    /// # Shapes
    /// `states: [N, D]`, `is_token: [B, T]` → `[B, T, H]`
    fn read(
        &self,
        states: &Tensor<2>,
        ends: &[u32],
        is_token: &Tensor<2>,
        from_the_back: bool,
    ) -> Tensor<3> {
        let [batch, longest] = is_token.dims();
        let width = self.state.weight.dims()[1];
        let given = self.input.forward(states.clone(), Activation::Identity);
        let given = padded(&given, ends); // [B, T, 4H]
        let state = self.state.weight.val().transpose(); // [H, 4H]
        let mut known = Tensor::<2>::zeros([batch, width], &states.device());
        let mut cell = known.clone();
        let mut all = Vec::with_capacity(longest);
        for step in 0..longest {
            let at = if from_the_back {
                longest - 1 - step
            } else {
                step
            };
            let gates = given.clone().narrow(1, at, 1).squeeze_dim::<2>(1);
            let gates = gates + known.clone().matmul(state.clone());
            let gate = |which: usize| gates.clone().narrow(1, which * width, width);
            let [enter, keep, show] = [0, 1, 3].map(|which| activation::sigmoid(gate(which)));
            let next = keep * cell.clone() + enter * gate(2).tanh();
            let shown = show * next.clone().tanh();
            // Where a text is over, or has not begun, nothing changes.
            let goes_on = is_token.clone().narrow(1, at, 1); // [B, 1]
            cell = cell.clone() + (next - cell) * goes_on.clone();
            known = known.clone() + (shown - known) * goes_on;
            all.push(known.clone());
        }
        if from_the_back {
            all.reverse();
        }
        Tensor::stack(all, 1)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::Device;
    use cloze_runtime::model::Checkpoint;
    use cloze_spec::inventory::Parameter;
    use cloze_spec::text;

    use super::*;
    use crate::weights::{Values, fresh, gradients};

    const OFFSETS: [u32; 4] = [0, 3, 5, 12];
    const SEGMENTS: [u32; 12] = [0, 0, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1];
    /// Two columns, of five rows together.
    const BESIDE: [Placed; 6] = [(0, 1.5), (3, 1.0), (0, -0.5), (1, 0.0), (0, 0.0), (4, 1.0)];

    fn width() -> usize {
        encoder().width
    }

    fn encoder() -> cloze_spec::Encoder {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/golden");
        Checkpoint::open(&home.join("bert-mlm")).unwrap().encoder
    }

    fn columns() -> Readout {
        Readout::Columns(ColumnReadout {
            layers: 2,
            heads: 2,
        })
    }

    fn recurrent() -> Readout {
        Readout::Recurrent(RecurrentReadout {
            width: 3,
            start: None,
        })
    }

    fn parameters(readout: Readout) -> Vec<Parameter> {
        let scaffold = text::Scaffold {
            readout: Some((readout, [2, 5])),
            ..text::Scaffold::default()
        };
        scaffold.parameters(&encoder())
    }

    fn reader(readout: Readout, values: &Values, device: &Device) -> Reader {
        let parameters = parameters(readout).into_iter();
        let source = Source {
            values,
            shapes: parameters.map(|p| (p.name, p.shape)).collect(),
            device,
            lora_scale: 1.0,
        };
        Reader::new(&readout, &source, "scaffold.readout")
    }

    fn numbers(rows: std::ops::Range<usize>) -> Vec<f32> {
        let places = rows.start * width()..rows.end * width();
        places.map(|at| (at as f32 * 0.9).sin()).collect()
    }

    fn states(rows: std::ops::Range<usize>, device: &Device) -> Tensor<2> {
        let shape = [rows.len(), width()];
        Tensor::from_data(TensorData::new(numbers(rows), shape), device)
    }

    fn vectors(reader: &Reader, states: &Tensor<2>, texts: Texts<'_>) -> Tensor<2> {
        reader.forward(states, texts, DropoutRates::NONE, &mut Noise::none())
    }

    const ALL: Texts<'_> = Texts {
        offsets: &OFFSETS,
        segments: &SEGMENTS,
        beside: &BESIDE,
    };

    fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_into_vec().unwrap()
    }

    #[test]
    fn neighbours_change_nothing() {
        let device = Device::flex();
        for readout in [columns(), recurrent()] {
            let reader = reader(readout, &fresh(&parameters(readout), 0.5, 5), &device);
            let together = floats(vectors(&reader, &states(0..12, &device), ALL));
            for (at, ends) in OFFSETS.windows(2).enumerate() {
                let own = ends[0] as usize..ends[1] as usize;
                let texts = Texts {
                    offsets: &[0, ends[1] - ends[0]],
                    segments: &SEGMENTS[own.clone()],
                    beside: &BESIDE[2 * at..2 * at + 2],
                };
                let alone = floats(vectors(&reader, &states(own, &device), texts));
                let expected = &together[at * width()..];
                let pairs = alone.iter().zip(expected);
                assert!(
                    pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5),
                    "{readout:?}"
                );
            }
        }
    }

    #[test]
    fn every_parameter_learns_along_its_gradient() {
        let device = Device::flex().autodiff();
        for readout in [columns(), recurrent()] {
            let values = fresh(&parameters(readout), 0.5, 5);
            let loss = |values: &Values| {
                let reader = reader(readout, values, &device);
                let x = vectors(&reader, &states(0..12, &device), ALL);
                let by = states(20..23, &device);
                (reader, (x.powi_scalar(2) * by).sum())
            };
            let (reader, found) = loss(&values);
            let gradients = gradients(&reader, &found);
            assert_eq!(gradients.len(), values.len(), "{readout:?}");
            for (name, gradient) in &gradients {
                let norm = gradient
                    .iter()
                    .map(|&g| f64::from(g).powi(2))
                    .sum::<f64>()
                    .sqrt();
                let step = 4e-3 / norm.max(1e-2);
                let moved = |sign: f64| {
                    let mut values = values.clone();
                    let own = values.get_mut(&format!("scaffold.readout.{name}")).unwrap();
                    for (value, g) in own.iter_mut().zip(gradient) {
                        *value += (sign * step * f64::from(*g)) as f32;
                    }
                    f64::from(floats(loss(&values).1)[0])
                };
                let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
                let far = (slope - norm * norm).abs();
                assert!(
                    far <= 0.02 * norm * norm + 2e-3 * norm + 1e-4,
                    "{name}: {slope}, not {}",
                    norm * norm
                );
            }
        }
    }

    /// Softmax and weighted sum of one query, with plain loops.
    #[test]
    fn columns_attend_as_plain_loops_do() {
        let device = Device::flex();
        let readout = Readout::Columns(ColumnReadout {
            layers: 1,
            heads: 2,
        });
        let values = fresh(&parameters(readout), 0.5, 5);
        let own = |part: &str| values[&format!("scaffold.readout.{part}")].clone();
        let map = |part: &str, x: &[f32]| -> Vec<f32> {
            let (weight, bias) = (own(&format!("{part}.weight")), own(&format!("{part}.bias")));
            let rows = weight.chunks(x.len()).zip(bias);
            rows.map(|(row, bias)| bias + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>())
                .collect()
        };
        let norm = |x: Vec<f32>| -> Vec<f32> {
            let count = x.len() as f32;
            let mean = x.iter().sum::<f32>() / count;
            let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count;
            x.iter()
                .map(|x| (x - mean) / (square + NORM.eps).sqrt())
                .collect()
        };
        let add = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<f32>>();
        let (width, own_width) = (width(), width() / 2);
        let words: Vec<Vec<f32>> = numbers(5..12).chunks(width).map(<[f32]>::to_vec).collect();
        let mut expected = vec![0.0; width];
        for (column, (row, by)) in BESIDE[4..].iter().enumerate() {
            let value = &own("value.weight")[*row as usize * width..][..width];
            let name = &own("column.weight")[column * width..][..width];
            let asked = norm(value.iter().zip(name).map(|(v, n)| v * by + n).collect());
            let query = map("layer.0.cross.query", &asked);
            let mut mixed = vec![0.0; width];
            for head in 0..2 {
                let part = head * own_width..(head + 1) * own_width;
                let powers: Vec<f32> = words
                    .iter()
                    .map(|word| {
                        let key = map("layer.0.cross.key", word);
                        let pairs = query[part.clone()].iter().zip(&key[part.clone()]);
                        (pairs.map(|(q, k)| q * k).sum::<f32>() / (own_width as f32).sqrt()).exp()
                    })
                    .collect();
                for (power, word) in powers.iter().zip(&words) {
                    let value = map("layer.0.cross.value", word);
                    for at in part.clone() {
                        mixed[at] += power / powers.iter().sum::<f32>() * value[at];
                    }
                }
            }
            let x = norm(add(&asked, &map("layer.0.cross.output", &mixed)));
            let inner = map("layer.0.up", &x);
            let inner = TensorData::new(inner.clone(), [1, inner.len()]);
            let inner = floats(activation::gelu(Tensor::<2>::from_data(inner, &device)));
            let y = norm(add(&x, &map("layer.0.down", &inner)));
            expected = add(&expected, &y.iter().map(|y| y / 2.0).collect::<Vec<f32>>());
        }
        let found = vectors(
            &reader(readout, &values, &device),
            &states(0..12, &device),
            ALL,
        );
        for (found, expected) in floats(found)[2 * width..].iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
        }
    }

    #[test]
    fn memory_goes_on_as_plain_loops_do() {
        let device = Device::flex();
        let values = fresh(&parameters(recurrent()), 0.5, 5);
        let Reader::Recurrent(reader) = reader(recurrent(), &values, &device) else {
            unreachable!("as it was asked for");
        };
        let own = |part: &str| values[&format!("scaffold.readout.backward.{part}")].clone();
        let (input, state) = (own("input.weight"), own("state.weight"));
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        let (mut known, mut cell) = (vec![0.0; 3], vec![0.0_f32; 3]);
        let mut expected = Vec::new();
        for word in numbers(5..8).chunks(width()).rev() {
            let gates: Vec<f32> = (0..12)
                .map(|gate| {
                    let row = &input[gate * width()..][..width()];
                    let given: f32 = row.iter().zip(word).map(|(w, x)| w * x).sum();
                    let row = &state[gate * 3..][..3];
                    given + row.iter().zip(&known).map(|(w, h)| w * h).sum::<f32>()
                })
                .collect();
            for at in 0..3 {
                cell[at] =
                    sigmoid(gates[3 + at]) * cell[at] + sigmoid(gates[at]) * gates[6 + at].tanh();
                known[at] = sigmoid(gates[9 + at]) * cell[at].tanh();
            }
            expected.push(known.clone());
        }
        expected.reverse();
        let ends = [0, 5, 8, 12];
        let unseen = hidden(&ends, &device).reshape([3, 5]);
        let is_token = unseen.equal_elem(0.0).float();
        let found = floats(
            reader
                .backward
                .read(&states(0..12, &device), &ends, &is_token, true),
        );
        for (found, expected) in found[15..24].iter().zip(expected.concat()) {
            assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
        }
    }
}
