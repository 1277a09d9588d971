use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData, activation};
use cloze_spec::encoder::{self, Activation, Disentangled, Position, alibi_slopes};

use super::{Linear, Norm, Pass, Table, linear};
use crate::mixer::{read_shares, sum_by};
use crate::noise::Noise;
use crate::op::{self, Dropout, Group, Padded};
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
        let qkv = self.turned(settings, x, pass.offsets);
        self.take(settings, qkv, pass, noise)
    }

    /// How much each token of one sequence takes of each, by head: `[T, D]` → `[H, T, T]`.
    pub fn shares(&self, settings: &encoder::Attention, x: Tensor<2>, pass: Pass<'_>) -> Tensor<3> {
        let (tokens, device) = (x.dims()[0], x.device());
        let sides = [tokens, settings.heads, settings.head_width];
        let qkv = self.turned(settings, x, pass.offsets);
        let query_key = qkv.narrow(1, 0, 2 * settings.heads * settings.head_width);
        read_shares(sides, &device, |values| {
            let qkv = Tensor::cat(vec![query_key.clone(), values], 1);
            self.take(settings, qkv, pass, &mut Noise::none())
        })
    }

    /// What it gives where values are summed by `shares`, by head: `x: [T, D]`, `[H, T, T]` → `[T, D]`.
    pub fn summed(
        &self,
        settings: &encoder::Attention,
        x: Tensor<2>,
        shares: Tensor<3>,
    ) -> Tensor<2> {
        let inner = settings.heads * settings.head_width;
        let qkv = self.qkv.forward(x, Activation::Identity);
        let mixed = sum_by(shares, qkv.narrow(1, 2 * inner, inner));
        self.output.forward(mixed, Activation::Identity)
    }

    /// Queries, keys and values side by side, as positions turn them: `[N, D]` → `[N, 3·H·K]`.
    fn turned(
        &self,
        settings: &encoder::Attention,
        x: Tensor<2>,
        offsets: &Arc<[u32]>,
    ) -> Tensor<2> {
        let mut qkv = self.qkv.forward(x, Activation::Identity); // [N, 3·H·K]
        let (heads, width) = (settings.heads, settings.head_width);
        if let Some((query, key)) = self.query_norm.as_ref().zip(self.key_norm.as_ref()) {
            let inner = heads * width;
            let part = |index: usize| qkv.clone().narrow(1, index * inner, inner);
            let normed = |norm: &Norm, x| norm.forward(x, None, Dropout::NONE);
            let parts = vec![normed(query, part(0)), normed(key, part(1)), part(2)];
            qkv = Tensor::cat(parts, 1);
        }
        if let Position::Rotary(rotary) = &settings.position {
            qkv = op::turn(qkv, offsets, heads, rotary);
        }
        qkv
    }

    /// `[N, 3·H·K]` → `[N, H·K]`
    fn take(
        &self,
        settings: &encoder::Attention,
        qkv: Tensor<2>,
        pass: Pass<'_>,
        noise: &mut Noise,
    ) -> Tensor<2> {
        let (heads, width) = (settings.heads, settings.head_width);
        let usual = (settings.scale * (width as f32).sqrt() - 1.0).abs() < 1e-6;
        let plain = matches!(settings.position, Position::None | Position::Rotary(_))
            && settings.log_scale.is_none();
        let mut dropout = || noise.dropout(pass.rates.attention);
        if plain && usual && pass.keys.is_none() {
            let sight = op::Sight {
                window: settings.window,
                ..op::Sight::default()
            };
            return op::attention(qkv, pass.offsets, heads, sight, dropout());
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
        // [B·T, H·K] → [B, H, T, K]
        let split = |x: Tensor<2>, count: usize| {
            let len = x.dims()[0] / count;
            x.reshape([count, len, heads, width]).swap_dims(1, 2)
        };
        let [query, key, value] = [0, 1, 2].map(|index| split(part(index), count));
        let mut scores = op::product(query.clone(), key.clone().transpose()); // [B, H, T, T]
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
            scores = scores + op::beyond(window, 0, len, &device);
        }
        let mut shares = activation::softmax(scores + group.unseen(pass.keys, &device), 3);
        if dropout.prob > 0.0 {
            let flat = shares.reshape([count * heads * len, len]);
            shares = op::dropout_add(flat, None, dropout).reshape([count, heads, len, len]);
        }
        // [B, H, T, K] → [B·T, H·K]
        let mixed = op::product(shares, value).swap_dims(1, 2);
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
    op::product(x.clone(), table.clone()).gather(3, places)
}
