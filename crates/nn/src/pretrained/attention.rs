use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use cloze_spec::encoder::{self, Activation, Disentangled, Position, Rotary, alibi_slopes};

use super::{Linear, Norm, Pass, Table, linear};
use crate::noise::Noise;
use crate::op::{self, Dropout, Group, HIDDEN, Padded};
use crate::weights::Source;

/// The table of distances that all layers use.
#[derive(Module, Debug)]
pub(super) struct Relative {
    weight: Param<Tensor<2>>,
    norm: Option<Norm>,
}

impl Relative {
    pub fn new(settings: &encoder::Relative, source: &Source<'_>) -> Self {
        let norm = match settings {
            encoder::Relative::Bias { .. } => None,
            encoder::Relative::Vectors { norm, .. } => norm.as_ref(),
        };
        Self {
            weight: Param::from_tensor(source.tensor("relative.weight")),
            norm: Norm::of(norm, source, "relative.norm"),
        }
    }

    pub fn table(&self) -> Tensor<2> {
        let table = self.weight.val();
        match &self.norm {
            Some(norm) => norm.forward(table, None, Dropout::NONE),
            None => table,
        }
    }
}

/// Multi-head softmax attention with any knowledge of distance.
#[derive(Module, Debug)]
pub(super) struct Attention {
    qkv: Linear,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    distance: Option<Table>,
    position_key: Option<Linear>,
    position_query: Option<Linear>,
    /// The map that follows; the layer applies it, to those rows that it carries on.
    pub output: Linear,
}

impl Attention {
    pub fn new(settings: &encoder::Attention, source: &Source<'_>, name: &str) -> Self {
        let norm = |part| Norm::of(settings.qk_norm.as_ref(), source, &format!("{name}.{part}"));
        let map = |exists: bool, part| {
            exists.then(|| Linear::new(true, source, &format!("{name}.{part}")))
        };
        let (mut distance, mut further) = (None, [false; 2]);
        match &settings.position {
            Position::None | Position::Rotary(_) | Position::Alibi | Position::Buckets => {}
            Position::Key(_) => {
                distance = Some(Table::new(source, &format!("{name}.distance")));
            }
            Position::Disentangled(meet) => {
                further = [meet.content_to_position, meet.position_to_content]
                    .map(|meets| meets && !meet.shared_maps);
            }
        }
        Self {
            qkv: Linear::new(settings.qkv_bias, source, &format!("{name}.qkv")),
            query_norm: norm("query_norm"),
            key_norm: norm("key_norm"),
            distance,
            position_key: map(further[0], "position_key"),
            position_query: map(further[1], "position_query"),
            output: Linear::new(settings.output_bias, source, &format!("{name}.output")),
        }
    }

    /// What each token takes from the others, before the output map.
    ///
    /// # Shapes
    /// `x: [N, D]` → `[N, H·K]`
    pub fn forward(
        &self,
        settings: &encoder::Attention,
        x: Tensor<2>,
        pass: Pass<'_>,
        noise: &mut Noise,
    ) -> Tensor<2> {
        let qkv = self.qkv.forward(x, Activation::Identity); // [N, 3·H·K]
        let (heads, width) = (settings.heads, settings.head_width);
        let usual = (settings.scale * (width as f32).sqrt() - 1.0).abs() < 1e-6;
        let plain = settings.position == Position::None
            && settings.qk_norm.is_none()
            && settings.window.is_none()
            && settings.log_scale.is_none();
        let mut dropout = || noise.dropout(pass.rates.attention);
        if plain && usual && pass.keys.is_none() {
            return op::attention(qkv, pass.offsets, heads, false, dropout());
        }
        let padded = Padded::new(pass.offsets);
        let groups = padded.groups.iter().zip(padded.spread(qkv));
        let mixed = groups.map(|(group, qkv)| self.mixed(settings, group, &qkv, pass, dropout()));
        padded.gather(mixed.collect())
    }

    /// # Shapes
    /// `qkv: [B·T, 3·H·K]` → `[B·T, H·K]`
    fn mixed(
        &self,
        settings: &encoder::Attention,
        group: &Group,
        qkv: &Tensor<2>,
        pass: Pass<'_>,
        dropout: Dropout,
    ) -> Tensor<2> {
        let device = qkv.device();
        let (count, len) = (group.sequences.len(), group.len);
        let (heads, width) = (settings.heads, settings.head_width);
        let inner = heads * width;
        let relative = pass.relative;
        let part = |index: usize| qkv.clone().narrow(1, index * inner, inner);
        let normed = |x: Tensor<2>, norm: &Option<Norm>| match norm {
            Some(norm) => norm.forward(x, None, Dropout::NONE),
            None => x,
        };
        // [B·T, H·K] → [B, H, T, K]
        let split = |x: Tensor<2>, count: usize| {
            let len = x.dims()[0] / count;
            x.reshape([count, len, heads, width]).swap_dims(1, 2)
        };
        let mut query = split(normed(part(0), &self.query_norm), count);
        let mut key = split(normed(part(1), &self.key_norm), count);
        let value = split(part(2), count);
        if let Position::Rotary(rotary) = &settings.position {
            query = turn(query, rotary);
            key = turn(key, rotary);
        }
        let mut scores = query.clone().matmul(key.clone().transpose()); // [B, H, T, T]
        // Row of the table that the pair of a query and a key meets, [T, T].
        let rows = |row: &dyn Fn(isize) -> usize| -> Tensor<2, Int> {
            let pairs = (0..len * len).map(|at| row((at / len) as isize - (at % len) as isize));
            let pairs: Vec<i32> = pairs.map(|row| row as i32).collect();
            Tensor::from_data(TensorData::new(pairs, [len, len]), &device)
        };
        match &settings.position {
            Position::None | Position::Rotary(_) => scores = scores.mul_scalar(settings.scale),
            Position::Alibi => {
                let slopes = alibi_slopes(heads);
                let fall = slopes.iter().flat_map(|slope| {
                    let pairs = (0..len * len).map(|at| (at / len).abs_diff(at % len));
                    pairs.map(move |distance| -slope * distance as f32)
                });
                let fall = op::floats(fall.collect(), [1, heads, len, len], &device);
                scores = scores.mul_scalar(settings.scale) + fall;
            }
            Position::Buckets => {
                let (buckets, table) = relative.expect("buckets come with their table");
                let picked = table
                    .clone()
                    .select(0, rows(&|distance| buckets.row(distance)).reshape([-1]));
                // [T·T, H] → [1, H, T, T]
                let added = picked.transpose().reshape([1, heads, len, len]);
                scores = scores.mul_scalar(settings.scale) + added;
            }
            Position::Key(meet) => {
                let table = self.distance.as_ref().expect("made with the layer");
                let max = meet.max_distance as isize;
                // Rows q − k + max for all pairs lie within len − 1 of the middle; where padding is further apart, no matter.
                let span = max.min(len as isize);
                let (from, to) = (max + 1 - span, max + span);
                let near = table
                    .weight
                    .val()
                    .slice([from as usize..to as usize, 0..width]);
                let near = near.transpose().unsqueeze::<4>(); // [1, 1, K, 2T − 1]
                let places =
                    rows(&|distance| (distance.clamp(1 - span, span - 1) + span - 1) as usize);
                scores = scores + meet_rows(&query, &near, &places);
                if meet.keys {
                    let places = places.transpose();
                    scores = scores + meet_rows(&key, &near, &places).transpose();
                }
                scores = scores.mul_scalar(settings.scale);
            }
            Position::Disentangled(meet) => {
                let (vectors, table) =
                    relative.expect("disentangled attention comes with its table");
                let places = rows(&|distance| vectors.row(distance));
                if meet.content_to_position {
                    let keys = self.position_map(*meet, 1, table.clone(), inner);
                    scores = scores + meet_rows(&query, &split(keys, 1).transpose(), &places);
                }
                if meet.position_to_content {
                    let queries = self.position_map(*meet, 0, table.clone(), inner);
                    let places = places.transpose();
                    let met = meet_rows(&key, &split(queries, 1).transpose(), &places);
                    scores = scores + met.transpose();
                }
                scores = scores.mul_scalar(settings.scale);
            }
        }
        if let Some(from) = settings.log_scale {
            let growth = |len: usize| ((len as f32).ln() / (from as f32).ln()).max(1.0);
            let growths = group.sequences.iter().map(|&(_, len)| growth(len));
            scores = scores * op::floats(growths.collect(), [count, 1, 1, 1], &device);
        }
        if let Some(window) = settings.window {
            scores = scores + beyond(window, len, &device);
        }
        let mut shares = activation::softmax(scores + group.unseen(pass.keys, &device), 3);
        if dropout.prob > 0.0 {
            let flat = shares.reshape([count * heads * len, len]);
            shares = op::dropout_add(flat, None, dropout).reshape([count, heads, len, len]);
        }
        // [B, H, T, K] → [B·T, H·K]
        let mixed = shares.matmul(value).swap_dims(1, 2);
        mixed.reshape([count * len, inner])
    }

    /// Position vectors as keys (`part` 1) or queries (0): by the layer's own maps of content, or by further ones.
    ///
    /// # Shapes
    /// `[2·span, D]` → `[2·span, H·K]`
    fn position_map(
        &self,
        meet: Disentangled,
        part: usize,
        table: Tensor<2>,
        inner: usize,
    ) -> Tensor<2> {
        if meet.shared_maps {
            let rows = part * inner..(part + 1) * inner;
            let weight = self.qkv.weight();
            let weight = weight.clone().slice([rows.clone(), 0..weight.dims()[1]]);
            let bias = match &self.qkv.bias {
                Some(bias) => bias.val().slice([rows]),
                None => Tensor::zeros([inner], &table.device()),
            };
            return linear(table, weight, bias, Activation::Identity);
        }
        let map = [&self.position_query, &self.position_key][part];
        let map = map.as_ref().expect("made with the layer");
        map.forward(table, Activation::Identity)
    }
}

/// [`HIDDEN`] for pairs of tokens that are further than `window` apart, 0 for the others: `[1, 1, T, T]`.
fn beyond(window: usize, len: usize, device: &Device) -> Tensor<4> {
    let hidden = (0..len * len).map(|at| {
        if (at / len).abs_diff(at % len) > window {
            HIDDEN
        } else {
            0.0
        }
    });
    op::floats(hidden.collect(), [1, 1, len, len], device)
}

/// Products of each token with the row of a table that each pair meets.
///
/// # Shapes
/// `x: [B, H, T, K]`, `table: [1, H or 1, K, R]`, `places: [T, T]` below `R` → `[B, H, T, T]`
fn meet_rows(x: &Tensor<4>, table: &Tensor<4>, places: &Tensor<2, Int>) -> Tensor<4> {
    let [count, heads, len, _] = x.dims();
    let places = places
        .clone()
        .unsqueeze::<4>()
        .expand([count, heads, len, len]);
    x.clone().matmul(table.clone()).gather(3, places)
}

/// Turns the first channels of every head by angles that grow with the position.
///
/// # Shapes
/// `[B, H, T, K]` → `[B, H, T, K]`
fn turn(x: Tensor<4>, rotary: &Rotary) -> Tensor<4> {
    let device = x.device();
    let [count, heads, len, width] = x.dims();
    let pairs = rotary.frequencies.len();
    let turned = 2 * pairs;
    let table = |of: fn(f64) -> f64| -> Tensor<4> {
        let angles = (0..len).flat_map(|place| {
            let angle = move |frequency: &f32| f64::from(place as f32 * frequency);
            rotary.frequencies.iter().map(angle)
        });
        let values = angles.map(|angle| of(angle) as f32 * rotary.amplitude);
        op::floats(values.collect(), [1, 1, len, pairs], &device)
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let rest = (turned < width).then(|| x.clone().narrow(3, turned, width - turned));
    let head = x.narrow(3, 0, turned);
    // The two of each pair, [B, H, T, R/2].
    let (a, b) = if rotary.interleaved {
        let both = head.reshape([count, heads, len, pairs, 2]);
        let pick = |index: usize| both.clone().narrow(4, index, 1).squeeze_dim::<4>(4);
        (pick(0), pick(1))
    } else {
        let pick = |from: usize| head.clone().narrow(3, from, pairs);
        (pick(0), pick(pairs))
    };
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    let second = a * sin + b * cos;
    let head = if rotary.interleaved {
        Tensor::stack::<5>(vec![first, second], 4).reshape([count, heads, len, turned])
    } else {
        Tensor::cat(vec![first, second], 3)
    };
    match rest {
        Some(rest) => Tensor::cat(vec![head, rest], 3),
        None => head,
    }
}
