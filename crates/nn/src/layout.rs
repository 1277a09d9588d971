use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::op;
use crate::sequences::Sequences;

/// The tokens of a packed batch laid out as a grid, zeros where none stands: one row of places a sequence, or all
/// sequences in one row with room between them.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Rows of the grid, `B`.
    pub rows: usize,
    /// Places of a row, `T`.
    pub places: usize,
    /// Tokens of each sequence that has any.
    pub lens: Vec<usize>,
    /// The token of each place; the number of tokens where there is none.
    tokens: Arc<[u32]>,
    /// The place of each token.
    place: Arc<[u32]>,
}

impl Layout {
    /// A row a sequence, all of the [`size`] of the longest, rounded up to a multiple of `multiple`.
    pub fn padded(offsets: &[u32], multiple: usize) -> Self {
        let places = size(longest(offsets)).div_ceil(multiple) * multiple;
        Self::rows_of(offsets, places)
    }

    /// The same with no more than `most` places a row, the most tokens that a sequence has.
    pub fn within(offsets: &[u32], most: usize) -> Self {
        let longest = longest(offsets);
        assert!(
            longest <= most,
            "no sequence is longer than the model allows"
        );
        Self::rows_of(offsets, size(longest).min(most))
    }

    fn rows_of(offsets: &[u32], places: usize) -> Self {
        let spans = spans(offsets);
        Self::new(spans.len(), places, &spans, |row, at| row * places + at)
    }

    /// One row for all sequences, `gap` places before each and after the last.
    pub fn spaced(offsets: &[u32], gap: usize) -> Self {
        let spans = spans(offsets);
        let tokens: usize = spans.iter().map(|(_, len)| len).sum();
        let places = tokens + (spans.len() + 1) * gap;
        Self::new(1, places, &spans, |sequence, at| {
            (sequence + 1) * gap + spans[sequence].0 + at
        })
    }

    /// `stands(sequence, token of it)` tells the place in the whole grid.
    fn new(
        rows: usize,
        places: usize,
        spans: &[(usize, usize)],
        stands: impl Fn(usize, usize) -> usize,
    ) -> Self {
        let count: usize = spans.iter().map(|(_, len)| len).sum();
        let mut tokens = vec![count as u32; rows * places];
        let mut place = vec![0; count];
        for (sequence, &(first, len)) in spans.iter().enumerate() {
            for at in 0..len {
                let stands = stands(sequence, at);
                tokens[stands] = (first + at) as u32;
                place[first + at] = stands as u32;
            }
        }
        Self {
            rows,
            places,
            lens: spans.iter().map(|(_, len)| *len).collect(),
            tokens: tokens.into(),
            place: place.into(),
        }
    }

    /// A row a sequence, its tokens laid row by row into a grid of `columns`, and that cut into tiles of `tile` rows and
    /// columns: one tile after the other, each row by row. Tiles at the edges have places where no token stands.
    pub fn tiled(offsets: &[u32], columns: usize, tile: [usize; 2]) -> Self {
        let spans = spans(offsets);
        let [high, wide] = tile;
        let across = columns.div_ceil(wide);
        let down = size(longest(offsets)).div_ceil(columns).div_ceil(high);
        let places = down * across * high * wide;
        let of = |at: usize| {
            let (row, column) = (at / columns, at % columns);
            let tile = row / high * across + column / wide;
            (tile * high + row % high) * wide + column % wide
        };
        Self::new(spans.len(), places, &spans, |row, at| row * places + of(at))
    }

    /// The same grid with the last token of each block of places again wherever the block has none after it.
    pub fn filled(&self, block: usize) -> Self {
        let none = self.place.len() as u32;
        let mut tokens = self.tokens.to_vec();
        for at in 1..tokens.len() {
            if at % block != 0 && tokens[at] == none {
                tokens[at] = tokens[at - 1];
            }
        }
        Self {
            tokens: tokens.into(),
            ..self.clone()
        }
    }

    /// `[N, D]` → `[B, T, D]`
    pub fn spread(&self, x: Tensor<2>) -> Tensor<3> {
        let width = x.dims()[1];
        let nothing = Tensor::zeros([1, width], &x.device());
        op::select_rows(Tensor::cat(vec![x, nothing], 0), &self.tokens).reshape([
            self.rows,
            self.places,
            width,
        ])
    }

    /// `[B, T, D]` → `[N, D]`
    pub fn pack(&self, x: Tensor<3>) -> Tensor<2> {
        let width = x.dims()[2];
        op::select_rows(x.reshape([self.rows * self.places, width]), &self.place)
    }

    /// 1 where a token stands, else 0: `[B, T, 1]`.
    pub fn taken(&self, device: &Device) -> Tensor<3> {
        let none = self.place.len() as u32;
        let taken = self
            .tokens
            .iter()
            .map(|&token| if token == none { 0.0 } else { 1.0 });
        op::floats(taken.collect(), [self.rows, self.places, 1], device)
    }

    /// The tokens of each row: `[B, 1, 1]`.
    pub fn counts(&self, device: &Device) -> Tensor<3> {
        let counts = self.lens.iter().map(|&len| len as f32).collect();
        op::floats(counts, [self.lens.len(), 1, 1], device)
    }

    /// The same grid with the tokens of each sequence in reverse.
    pub fn reversed(&self) -> Self {
        let mut tokens = self.tokens.to_vec();
        let mut place = self.place.to_vec();
        let mut first = 0;
        for &len in &self.lens {
            place[first..first + len].reverse();
            for (index, &at) in place[first..first + len].iter().enumerate() {
                tokens[at as usize] = (first + index) as u32;
            }
            first += len;
        }
        Self {
            tokens: tokens.into(),
            place: place.into(),
            ..self.clone()
        }
    }
}

fn longest(offsets: &[u32]) -> usize {
    spans(offsets)
        .iter()
        .map(|(_, len)| *len)
        .max()
        .unwrap_or(0)
}

/// How many places a sequence of `len` tokens is given: its [room](op::room), 16 at least.
///
/// Few sizes make few groups in [`by_length`].
fn size(len: usize) -> usize {
    op::room(len).max(16)
}

/// Mixes sequences of the same [`size`] together, one size after the other.
///
/// A sequence's places, and with them the order of every sum over it, then follow from its own length: what it is mixed
/// with changes no bit, and a long one costs the short ones nothing.
///
/// # Shapes
/// As of a mixer's forward pass; `mix` gets the vectors of each size with their sequences, which name no tokens.
pub(crate) fn by_length(
    x: Tensor<2>,
    sequences: &Sequences,
    selected: bool,
    mut mix: impl FnMut(Tensor<2>, &Sequences) -> Tensor<2>,
) -> Tensor<2> {
    let mut groups = BTreeMap::<usize, Vec<(usize, usize)>>::new();
    for (first, len) in spans(&sequences.offsets) {
        groups.entry(size(len)).or_default().push((first, len));
    }
    if groups.len() <= 1 {
        return mix(x, sequences);
    }
    let all = &sequences.rows;
    let mut order = vec![0; if selected { all.len() } else { x.dims()[0] }];
    let (mut outputs, mut given) = (Vec::new(), 0);
    for spans in groups.values() {
        let (mut tokens, mut offsets, mut rows) = (Vec::new(), vec![0], Vec::new());
        for &(first, len) in spans {
            let start = tokens.len() as u32;
            let end = first + len;
            let wanted = all.partition_point(|&row| (row as usize) < first)
                ..all.partition_point(|&row| (row as usize) < end);
            let places = if selected { wanted.clone() } else { first..end };
            for place in places {
                order[place] = given;
                given += 1;
            }
            rows.extend(all[wanted].iter().map(|row| row - first as u32 + start));
            tokens.extend((first as u32)..(end as u32));
            offsets.push(tokens.len() as u32);
        }
        if selected && rows.is_empty() {
            continue;
        }
        let part = Sequences {
            tokens: Arc::default(),
            offsets: offsets.into(),
            rows: rows.into(),
        };
        outputs.push(mix(op::select_rows(x.clone(), &tokens.into()), &part));
    }
    op::select_rows(Tensor::cat(outputs, 0), &order.into())
}

/// First token and length of each sequence that has tokens.
fn spans(offsets: &[u32]) -> Vec<(usize, usize)> {
    offsets
        .windows(2)
        .map(|w| (w[0] as usize, (w[1] - w[0]) as usize))
        .filter(|&(_, len)| len > 0)
        .collect()
}

/// The tokens of each sequence, and of their neighbourhoods, one shift at a time.
///
/// `fold` gets, for each of `before + 1 + after` shifts from the furthest before to the furthest after, its number and
/// the rows that stand so far from each token, `empty` where the sequence has none.
///
/// # Shapes
/// `x: [N, D]` → `[N, D]`
pub(crate) fn neighbours(
    x: Tensor<2>,
    offsets: &[u32],
    (before, after): (usize, usize),
    empty: f32,
    mut fold: impl FnMut(Option<Tensor<2>>, usize, Tensor<2>) -> Tensor<2>,
) -> Tensor<2> {
    let gap = before.max(after);
    let layout = Layout::spaced(offsets, gap);
    let (device, width) = (x.device(), x.dims()[1]);
    let [places, tokens] = [layout.places, layout.places - 2 * gap];
    let mut spaced = layout.spread(x); // [1, T, D]
    if empty != 0.0 {
        let missing = layout.taken(&device).neg().add_scalar(1.0);
        spaced = spaced + missing.mul_scalar(empty);
    }
    let spaced = spaced.reshape([places, width]);
    let mut folded = None;
    for shift in 0..=before + after {
        let from = gap - before + shift;
        let rows = spaced.clone().slice([from..from + tokens, 0..width]);
        folded = Some(fold(folded, shift, rows));
    }
    let folded = folded.expect("there is one shift or more");
    let place: Arc<[u32]> = layout.place.iter().map(|&at| at - gap as u32).collect();
    op::select_rows(folded, &place)
}

/// A convolution of each channel by itself over a grid of `columns` into which each sequence is laid row by row.
///
/// # Shapes
/// `x: [N, D]`, `weight: [S · S, D]`, `S` odd, row by row → `[N, D]`
pub(crate) fn depthwise_grid(
    x: Tensor<2>,
    offsets: &[u32],
    columns: usize,
    weight: &Tensor<2>,
) -> Tensor<2> {
    let [tokens, width] = x.dims();
    let side = weight.dims()[0].isqrt();
    let nothing = Tensor::zeros([1, width], &x.device());
    let x = Tensor::cat(vec![x, nothing], 0);
    let mut sum = Tensor::zeros([tokens, width], &x.device());
    for tap in 0..side * side {
        let mut from = vec![tokens as u32; tokens];
        for (first, len) in spans(offsets) {
            for at in 0..len {
                let row = (at / columns + tap / side).checked_sub(side / 2);
                let column = (at % columns + tap % side).checked_sub(side / 2);
                if let (Some(row), Some(column)) = (row, column)
                    && column < columns
                    && row * columns + column < len
                {
                    from[first + at] = (first + row * columns + column) as u32;
                }
            }
        }
        let rows = op::select_rows(x.clone(), &from.into());
        sum = sum + rows * weight.clone().slice([tap..tap + 1, 0..width]);
    }
    sum
}

/// How far a kernel of so many tokens reaches before and after its own.
pub(crate) fn sides(kernel: usize, causal: bool) -> [usize; 2] {
    if causal {
        [kernel - 1, 0]
    } else {
        [kernel / 2, kernel / 2]
    }
}

/// The states before each of `n` steps `state ← keep · state + add`, the first from nothing; steps are joined two by two,
/// so that there are as many rounds as `n` has halves.
///
/// Also cheaper to go back through than a loop is: each part that a loop takes out of a tensor gets a gradient as large as
/// the tensor.
///
/// # Shapes
/// `add: [B, H, n, S, P]`, `keep: [B, H, n, ·, ·]` as `times(keep, add)` and `times(keep, keep)` take it → as `add`
///
/// # Source
/// Blelloch, Prefix Sums and Their Applications, 1990, §1.4.
pub(crate) fn states_before(
    keep: Tensor<5>,
    add: Tensor<5>,
    times: fn(Tensor<5>, Tensor<5>) -> Tensor<5>,
) -> Tensor<5> {
    let [rows, heads, steps, state, width] = add.dims();
    if steps == 1 {
        return add.zeros_like();
    }
    let pairs = steps.div_ceil(2);
    let halves = |x: Tensor<5>| {
        let [.., high, wide] = x.dims();
        let odd = Tensor::zeros([rows, heads, 2 * pairs - steps, high, wide], &x.device());
        let x = if steps < 2 * pairs {
            Tensor::cat(vec![x, odd], 2)
        } else {
            x
        };
        let x = x.reshape([rows * heads, pairs, 2, high, wide]);
        [0, 1].map(|half| {
            x.clone()
                .narrow(2, half, 1)
                .reshape([rows, heads, pairs, high, wide])
        })
    };
    let [keep_first, keep_second] = halves(keep);
    let [add_first, add_second] = halves(add);
    let before = states_before(
        times(keep_second.clone(), keep_first.clone()),
        times(keep_second, add_first.clone()) + add_second,
        times,
    );
    let between = times(keep_first, before.clone()) + add_first;
    Tensor::stack::<6>(vec![before, between], 3)
        .reshape([rows, heads, 2 * pairs, state, width])
        .narrow(2, 0, steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(layout: &Layout, x: Tensor<2>) -> Vec<f32> {
        layout.spread(x).into_data().try_into_vec().expect("f32")
    }

    #[test]
    fn tokens_go_to_the_grid_and_back() {
        let device = Device::flex();
        let x = || op::floats(vec![1.0, 2.0, 3.0, 4.0], [4, 1], &device);
        // An empty sequence in the middle has no row.
        let offsets = [0, 3, 3, 4];
        let padded = Layout::padded(&offsets, 2);
        let row = |tokens: &[f32]| {
            let mut row = tokens.to_vec();
            row.resize(16, 0.0);
            row
        };
        let [first, second, turned] = [&[1.0, 2.0, 3.0][..], &[4.0], &[3.0, 2.0, 1.0]].map(row);
        assert_eq!(rows(&padded, x()), [first, second.clone()].concat());
        assert_eq!(rows(&padded.reversed(), x()), [turned, second].concat());
        let spaced = Layout::spaced(&offsets, 1);
        assert_eq!(rows(&spaced, x()), [0.0, 1.0, 2.0, 3.0, 0.0, 4.0, 0.0]);
        for layout in [padded.clone(), padded.reversed(), spaced] {
            let back = layout.pack(layout.spread(x()));
            assert_eq!(back.into_data(), x().into_data());
        }
    }

    #[test]
    fn tiles_follow_each_other_and_blocks_are_filled_with_their_last_token() {
        let line = |tokens: usize| {
            let numbers = (1..=tokens).map(|at| at as f32).collect();
            op::floats(numbers, [tokens, 1], &Device::flex())
        };
        // Three rows of three, the last of one token, in tiles of two by two.
        let tiled = Layout::tiled(&[0, 7], 3, [2, 2]);
        let found = rows(&tiled, line(7));
        let want = [1.0, 2.0, 4.0, 5.0, 3.0, 0.0, 6.0, 0.0, 7.0, 0.0, 0.0, 0.0];
        assert_eq!(found[..12], want);
        assert!(found[12..].iter().all(|&x| x == 0.0));
        let back = tiled.pack(tiled.spread(line(7)));
        assert_eq!(back.into_data(), line(7).into_data());
        let filled = Layout::padded(&[0, 4], 3).filled(3);
        let found = rows(&filled, line(4));
        assert_eq!(found[..9], [1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn sizes_are_few_and_not_much_larger_than_lengths() {
        let sizes = [1, 16, 17, 24, 25, 33, 48, 49, 96, 97, 200, 1024, 1025].map(size);
        let want = [16, 16, 24, 24, 32, 48, 48, 64, 96, 128, 256, 1024, 1536];
        assert_eq!(sizes, want);
    }

    #[test]
    fn grouped_tokens_come_back_in_their_order() {
        let lens = [20, 3, 0, 50, 4, 18];
        let mut batch = cloze_data::batch::PackedBatch::new();
        for len in lens {
            batch.push(&vec![7; len]);
        }
        // None of the longest's.
        batch.rows = vec![1, 19, 21, 22, 74, 80];
        let count: usize = lens.iter().sum();
        let x = || {
            op::floats(
                (0..count).map(|at| at as f32).collect(),
                [count, 1],
                &Device::flex(),
            )
        };
        let sequences = Sequences::new(&batch);
        for selected in [false, true] {
            let mut sizes = Vec::new();
            let mixed = by_length(x(), &sequences, selected, |x, part| {
                assert_eq!(*part.offsets.last().unwrap() as usize, x.dims()[0]);
                sizes.push(part.offsets.len() - 1);
                part.wanted(x, selected)
            });
            let want = sequences.wanted(x(), selected);
            assert_eq!(mixed.into_data(), want.into_data());
            assert_eq!(sizes, if selected { vec![2, 2] } else { vec![2, 2, 1] });
        }
    }
}
