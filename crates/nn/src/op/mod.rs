//! The few coarse operations that models are made of.
//!
//! Each file has one operation: its public function picks the kernels of `cloze-kernels` where the tensors lie in host
//! memory (Burn's Flex backend) and composes Burn's own operations on every other device. Both agree, in a test.

mod adamw;
mod attention;
mod bridge;
mod candidates;
mod cross_entropy;
mod dropout;
mod embed;
mod linear;
mod norm;
mod recurrent;
mod select;
mod selective_scan;

pub use adamw::{adamw, sum_of_squares};
pub use attention::attention;
use burn::backend::DispatchDevice;
use burn::tensor::{Device, Int, Tensor, TensorData};
pub use candidates::candidate_loss;
pub use cloze_kernels::op::adamw::AdamW;
pub use cloze_kernels::op::candidates::CandidateLoss;
pub use cloze_kernels::op::dropout::Dropout;
pub use cloze_kernels::op::linear::Activation;
pub use cross_entropy::cross_entropy;
pub use dropout::dropout_add;
pub use embed::embed;
pub use linear::linear;
pub use norm::add_norm;
pub use recurrent::recurrent;
pub use select::select_rows;
pub use selective_scan::selective_scan;

/// The same operations from Burn's own, for devices without kernels of ours and for the tests that compare both.
pub mod composed {
    pub use super::adamw::composed as adamw;
    pub use super::attention::composed as attention;
    pub use super::candidates::composed as candidate_loss;
    pub use super::cross_entropy::composed as cross_entropy;
    pub use super::dropout::composed as dropout_add;
    pub use super::embed::composed as embed;
    pub use super::linear::composed as linear;
    pub use super::norm::composed as add_norm;
    pub use super::recurrent::composed as recurrent;
    pub use super::select::composed as select_rows;
    pub use super::selective_scan::composed as selective_scan;
}

/// Whether tensors of `device` are slices of host memory that the kernels can work on.
fn on_host(device: &Device) -> bool {
    matches!(
        device.clone().inner().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}

fn indices(ids: &[u32], device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = ids
        .iter()
        .map(|&id| i32::try_from(id).expect("fewer than two thousand million rows"))
        .collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count]), device)
}

fn floats<const D: usize>(data: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(data, shape), device)
}

/// Factors that `dropout` puts on a `[rows, width]` matrix: 0, or one over the share kept.
fn dropout_factors(
    dropout: Dropout,
    rows: usize,
    width: usize,
    device: &Device,
) -> Option<Tensor<2>> {
    (dropout.prob > 0.0).then(|| {
        let kept = 1.0 / (1.0 - dropout.prob);
        let factors = (0..rows)
            .flat_map(|row| {
                (0..width).map(move |col| {
                    if dropout.keep(row as u64, col as u32) {
                        kept
                    } else {
                        0.0
                    }
                })
            })
            .collect();
        floats(factors, [rows, width], device)
    })
}
