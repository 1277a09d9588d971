//! Sequences of a packed batch side by side, for operations that want them in one tensor.

use std::sync::Arc;

#[cfg(any(feature = "cuda", feature = "metal", feature = "vulkan"))]
use burn::backend::Cube;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Device, Tensor, TensorData};

use super::floats;

/// Most scores of pairs of tokens, for one head, that a [`Group`] has: 64 MiB of them.
const MAX_PAIRS: usize = 1 << 24;

/// Raises the score of a key that is not to be seen: far below all others, and a number, so that padding that sees no key
/// has a gradient all the same.
pub(crate) const HIDDEN: f32 = -1e30;

/// Sequences of similar lengths, each with room for `len` tokens.
#[derive(Debug)]
pub(crate) struct Group {
    /// First row in the batch, and length, of each sequence.
    pub sequences: Vec<(usize, usize)>,
    /// Rows that each has when padded.
    pub len: usize,
}

impl Group {
    /// For each padded row, sequence after sequence: its row in the batch, or none where there is no such token.
    fn rows(&self) -> impl Iterator<Item = Option<usize>> {
        self.sequences.iter().flat_map(|&(from, len)| {
            (0..self.len).map(move |place| (place < len).then_some(from + place))
        })
    }

    /// What scores of keys are raised by: 0, or [`HIDDEN`] for padding, and for tokens of the batch that are not `seen`.
    ///
    /// # Shapes
    /// `seen: [N]` → `[B, 1, 1, T]`
    pub fn unseen(&self, seen: Option<&[bool]>, device: &Device) -> Tensor<4> {
        let is_seen = |row: usize| seen.is_none_or(|seen| seen[row]);
        let values = self.rows().map(|row| {
            if row.is_some_and(is_seen) {
                0.0
            } else {
                HIDDEN
            }
        });
        let shape = [self.sequences.len(), 1, 1, self.len];
        floats(values.collect(), shape, device)
    }
}

/// How the rows of a packed batch lie when its sequences are padded, those of similar lengths together.
#[derive(Debug)]
pub(crate) struct Padded {
    /// From the shortest sequences to the longest.
    pub groups: Vec<Group>,
    spread: Arc<Moves>,
    gather: Arc<Moves>,
}

impl Padded {
    /// # Panics
    /// If the batch has 2³¹ rows or more.
    pub fn new(offsets: &[u32]) -> Self {
        let mut sequences: Vec<(usize, usize)> = offsets
            .windows(2)
            .filter(|w| w[0] < w[1])
            .map(|w| (w[0] as usize, (w[1] - w[0]) as usize))
            .collect();
        sequences.sort_by_key(|&(from, len)| (room(len), from));
        let mut groups: Vec<Group> = Vec::new();
        for (from, len) in sequences {
            let fits = |group: &Group| {
                group.len == room(len)
                    && (group.sequences.len() + 1) * group.len.pow(2) <= MAX_PAIRS
            };
            match groups.last_mut().filter(|group| fits(group)) {
                Some(group) => group.sequences.push((from, len)),
                None => groups.push(Group {
                    sequences: vec![(from, len)],
                    len: room(len),
                }),
            }
        }
        let spread: Vec<Option<u32>> = groups
            .iter()
            .flat_map(Group::rows)
            .map(|row| row.map(|row| row as u32))
            .collect();
        let mut gather = vec![None; offsets.last().map_or(0, |&end| end as usize)];
        for (at, row) in spread.iter().enumerate() {
            if let Some(row) = row {
                gather[*row as usize] = Some(at as u32);
            }
        }
        let there = Moves {
            take: spread,
            back: gather,
        };
        let back = Moves {
            take: there.back.clone(),
            back: there.take.clone(),
        };
        Self {
            groups,
            spread: Arc::new(there),
            gather: Arc::new(back),
        }
    }

    /// One tensor a group.
    ///
    /// # Shapes
    /// `[N, D]` → `[B·T, D]` of each group, padding 0
    pub fn spread(&self, x: Tensor<2>) -> Vec<Tensor<2>> {
        let x = take_rows(x, &self.spread);
        let mut from = 0;
        let groups = self.groups.iter().map(|group| {
            let rows = group.sequences.len() * group.len;
            from += rows;
            x.clone().narrow(0, from - rows, rows)
        });
        groups.collect()
    }

    /// The packed rows again.
    ///
    /// # Shapes
    /// `[B·T, D]` of each group → `[N, D]`
    pub fn gather(&self, groups: Vec<Tensor<2>>) -> Tensor<2> {
        take_rows(Tensor::cat(groups, 0), &self.gather)
    }
}

/// Rows that a sequence of this length gets: a power of two or one and a half of it, so that there are few groups and less
/// than a third of each is padding.
pub(crate) fn room(len: usize) -> usize {
    let power = len.next_power_of_two().max(8);
    if len <= power / 4 * 3 {
        power / 4 * 3
    } else {
        power
    }
}

/// Where each row of the output comes from, and where each row of the input went: none twice.
#[derive(Debug)]
pub struct Moves {
    /// Rows of the input, `[M]`; none gives a row of zeros.
    take: Vec<Option<u32>>,
    /// Rows of the output, `[N]`; none for those that went nowhere.
    back: Vec<Option<u32>>,
}

/// Burn's own gradient of picked rows adds them up one after the other, since one may be picked twice; here none is, so it
/// picks them back.
#[backend_extension(
    Flex,
    Cube: cfg(any(feature = "cuda", feature = "metal", feature = "vulkan")),
    Autodiff
)]
pub trait RowsBackend: Backend {
    fn take_rows(x: FloatTensor<Self>, moves: Arc<Moves>) -> FloatTensor<Self>;
}

impl RowsBackend for Flex {
    fn take_rows(x: FloatTensor<Self>, moves: Arc<Moves>) -> FloatTensor<Self> {
        taken::<Self>(x, &moves.take)
    }
}

#[cfg(any(feature = "cuda", feature = "metal", feature = "vulkan"))]
impl RowsBackend for Cube {
    fn take_rows(x: FloatTensor<Self>, moves: Arc<Moves>) -> FloatTensor<Self> {
        taken::<Self>(x, &moves.take)
    }
}

impl<B: Backend, C: CheckpointStrategy> RowsBackend for Autodiff<B, C> {
    fn take_rows(x: FloatTensor<Self>, moves: Arc<Moves>) -> FloatTensor<Self> {
        let node = x.node();
        let taken = taken::<B>(x.into_primitive(), &moves.take);
        match TakeRows.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(moves, taken),
            OpsKind::UnTracked(prep) => prep.finish(taken),
        }
    }
}

#[derive(Debug)]
struct TakeRows;

impl<B: Backend> Backward<B, 1> for TakeRows {
    type State = Arc<Moves>;

    fn backward(self, ops: Ops<Arc<Moves>, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_output = grads.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            grads.register::<B>(parent.id, taken::<B>(d_output, &ops.state.back));
        }
    }
}

fn taken<B: Backend>(x: FloatTensor<B>, rows: &[Option<u32>]) -> FloatTensor<B> {
    let device = x.device();
    let dtype = x.dtype();
    let ids: Vec<i32> = rows.iter().map(|row| row.unwrap_or(0) as i32).collect();
    let picked = B::float_select(
        x,
        0,
        B::int_from_data(TensorData::new(ids, [rows.len()]), &device),
    );
    if rows.iter().all(Option::is_some) {
        return picked;
    }
    let kept: Vec<f32> = rows
        .iter()
        .map(|row| f32::from(u8::from(row.is_some())))
        .collect();
    let kept = TensorData::new(kept, [rows.len(), 1]).convert_dtype(dtype);
    B::float_mul(picked, B::float_from_data(kept, &device))
}

fn take_rows(x: Tensor<2>, moves: &Arc<Moves>) -> Tensor<2> {
    let taken = <Dispatch as RowsBackend>::take_rows(x.into_dispatch(), moves.clone());
    Tensor::from_dispatch(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_of_similar_lengths_lie_together_and_come_back() {
        let offsets: Vec<u32> = vec![0, 5, 5, 14, 15, 31];
        let padded = Padded::new(&offsets);
        let shapes: Vec<(usize, usize)> = padded
            .groups
            .iter()
            .map(|group| (group.sequences.len(), group.len))
            .collect();
        assert_eq!(shapes, [(2, 6), (1, 12), (1, 16)]);
        let device = Device::flex();
        let x = Tensor::<1>::from_floats(
            (0..31)
                .map(|i| i as f32 + 1.0)
                .collect::<Vec<_>>()
                .as_slice(),
            &device,
        )
        .reshape([31, 1]);
        let groups = padded.spread(x.clone());
        let first: Vec<f32> = groups[0].to_data().try_into_vec().unwrap();
        assert_eq!(
            first,
            [1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 15.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        );
        padded
            .gather(groups)
            .to_data()
            .assert_eq(&x.to_data(), true);
    }

    #[test]
    fn a_third_is_padding_at_most() {
        for len in 7..5000 {
            let room = room(len);
            assert!(len <= room && 3 * len > 2 * room, "{len} tokens in {room}");
        }
    }

    #[test]
    fn groups_are_bounded() {
        let offsets: Vec<u32> = (0..=20).map(|i| i * 2048).collect();
        let padded = Padded::new(&offsets);
        let sizes: Vec<usize> = padded.groups.iter().map(|g| g.sequences.len()).collect();
        assert_eq!(sizes, [4; 5]);
    }
}
