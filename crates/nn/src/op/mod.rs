//! The few coarse operations that models are made of.
//!
//! Each file has one operation: its public function picks the kernels of `cloze-kernels` where the tensors lie in host
//! memory (Burn's Flex backend) and composes Burn's own operations on every other device. Both agree, in a test.

mod adamw;
mod attention;
mod bridge;
mod candidates;
mod cross_entropy;
mod delta_rule;
mod depthwise;
mod dropout;
mod embed;
mod granular_pool;
mod linear;
mod norm;
mod padded;
mod partial_attention;
mod pool;
mod product;
mod quasiseparable;
mod recurrent;
mod rms;
mod rotary;
mod select;
mod selective_scan;
mod softplus;

pub use adamw::{adamw, adamw_of_read_rows, sum_of_squares};
pub use attention::{Sight, attention};
pub(crate) use attention::{beyond, future};
use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
pub use candidates::candidate_loss;
pub use cloze_kernels::op::adamw::AdamW;
pub use cloze_kernels::op::candidates::CandidateLoss;
pub use cloze_kernels::op::dropout::Dropout;
use cloze_kernels::op::dropout::{COLUMN_STEP, LOWBIAS};
pub use cloze_kernels::op::linear::Activation;
pub use cross_entropy::cross_entropy;
pub use delta_rule::delta_rule;
pub use depthwise::depthwise;
pub use dropout::dropout_add;
pub use embed::embed;
pub use granular_pool::{Grain, granular_pool};
pub use linear::{gelu, linear};
pub use norm::add_norm;
pub(crate) use padded::{Group, HIDDEN, Padded, room};
pub use partial_attention::PartialAttention;
pub use pool::pool;
pub use product::multiply_in_bf16;
pub(crate) use product::product;
pub use quasiseparable::quasiseparable;
pub use recurrent::recurrent;
pub use rms::rms;
pub use rotary::turn;
pub use select::select_rows;
pub use selective_scan::selective_scan;
pub use softplus::softplus;

/// The same operations from Burn's own, for devices without kernels of ours and for the tests that compare both.
pub mod composed {
    pub use super::adamw::composed as adamw;
    pub use super::attention::composed as attention;
    pub use super::candidates::composed as candidate_loss;
    pub use super::cross_entropy::composed as cross_entropy;
    pub use super::delta_rule::composed as delta_rule;
    pub use super::depthwise::composed as depthwise;
    pub use super::dropout::composed as dropout_add;
    pub use super::embed::composed as embed;
    pub use super::granular_pool::composed as granular_pool;
    pub use super::linear::composed as linear;
    pub use super::norm::composed as add_norm;
    pub use super::pool::composed as pool;
    pub use super::quasiseparable::composed as quasiseparable;
    pub use super::recurrent::composed as recurrent;
    pub use super::rms::composed as rms;
    pub use super::rotary::composed as turn;
    pub use super::select::composed as select_rows;
    pub use super::selective_scan::composed as selective_scan;
    pub use super::softplus::composed as softplus;
}

/// Whether tensors of `device` are slices of host memory that the kernels can work on.
pub(crate) fn on_host(device: &Device) -> bool {
    matches!(
        device.clone().inner().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}

pub(crate) fn indices(ids: &[u32], device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = ids
        .iter()
        .map(|&id| i32::try_from(id).expect("fewer than two thousand million rows"))
        .collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count]), device)
}

/// A tensor of `data`.
pub(crate) fn floats<const D: usize>(
    data: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(data, shape), device)
}

/// Factors that `dropout` puts on a matrix of `width` columns: 0, or one over the share kept. The hash that
/// [`Dropout::keep`] takes of each element, taken where the tensors lie.
///
/// # Shapes
/// `rows: N` row numbers → `[N, width]`
fn dropout_factors(
    dropout: Dropout,
    rows: impl Iterator<Item = u64>,
    width: usize,
    device: &Device,
) -> Option<Tensor<2>> {
    if dropout.prob == 0.0 {
        return None;
    }
    let ints = |values: Vec<u32>, shape| {
        let values: Vec<i32> = values.into_iter().map(u32::cast_signed).collect();
        Tensor::<2, Int>::from_data(TensorData::new(values, shape), (device, DType::I32))
    };
    let keys: Vec<u32> = rows.map(|row| dropout.row_key(row)).collect();
    let cols = (0..width as u32).map(|col| col.wrapping_mul(COLUMN_STEP));
    let shape = [keys.len(), width];
    // Signed numbers shift their sign in: it is masked out again.
    let shifted = |hash: Tensor<2, Int>, by: u32| {
        let low = hash.clone().bitwise_right_shift_scalar(by as i32);
        hash.bitwise_xor(low.bitwise_and_scalar((u32::MAX >> by).cast_signed()))
    };
    let rows = ints(keys, [shape[0], 1]).expand(shape);
    let mut hash = rows.bitwise_xor(ints(cols.collect(), [1, width]).expand(shape));
    hash = shifted(hash, 16).mul_scalar(LOWBIAS[0].cast_signed());
    hash = shifted(hash, 15).mul_scalar(LOWBIAS[1].cast_signed());
    // With the top bit turned, signed numbers lie in the order of unsigned ones.
    let hash = shifted(hash, 16).bitwise_xor_scalar(i32::MIN);
    let threshold = (dropout.threshold() ^ (1 << 31)).cast_signed();
    let kept = hash.greater_equal_elem(threshold).float();
    Some(kept.mul_scalar(1.0 / (1.0 - dropout.prob)))
}
