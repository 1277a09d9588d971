use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_kernels::Isa;
use cloze_kernels::op::selective_scan::{Inputs, SelectiveScan, backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::on_host;
use crate::layout::Layout;

/// `h_t = e^(Δ_t·A) h_(t−1) + Δ_t x_t B_t`, `y_t = C_t h_t` for each channel, along each sequence, from its end if
/// `reversed`.
///
/// # Shapes
/// `x, step: [N, E]`, `write_read: [N, 2S]`, `B` and `C` side by side, `rate: [E, S]` → `[N, E]`
///
/// # Source
/// Gu and Dao, 2023, arXiv:2312.00752, §3.2.
pub fn selective_scan(
    x: Tensor<2>,
    step: Tensor<2>,
    write_read: Tensor<2>,
    rate: Tensor<2>,
    offsets: &Arc<[u32]>,
    reversed: bool,
) -> Tensor<2> {
    if !on_host(&x.device()) {
        return composed(x, step, write_read, rate, offsets, reversed);
    }
    let inputs = Operands::Four(
        x.into_dispatch(),
        step.into_dispatch(),
        write_read.into_dispatch(),
        rate.into_dispatch(),
    );
    let op = Op {
        offsets: offsets.clone(),
        reversed,
    };
    apply(inputs, op)
}

/// [`selective_scan`] from Burn's operations: steps joined pairwise, then four by four, and so on.
pub fn composed(
    x: Tensor<2>,
    step: Tensor<2>,
    write_read: Tensor<2>,
    rate: Tensor<2>,
    offsets: &Arc<[u32]>,
    reversed: bool,
) -> Tensor<2> {
    let layout = Layout::padded(offsets, 1);
    let layout = if reversed { layout.reversed() } else { layout };
    let (rows, places) = (layout.rows, layout.places);
    let [width, state] = rate.dims();
    let step = layout.spread(step).unsqueeze_dim::<4>(3); // [B, T, E, 1]
    let write_read = layout.spread(write_read);
    let part = |index: usize| {
        write_read
            .clone()
            .slice([0..rows, 0..places, index * state..(index + 1) * state])
            .unsqueeze_dim::<4>(2) // [B, T, 1, S]
    };
    let mut decay = (step.clone() * rate.unsqueeze()).exp(); // [B, T, E, S]
    let mut held = step * layout.spread(x).unsqueeze_dim::<4>(3) * part(0);
    let mut reach = 1;
    while reach < places {
        // What stands `reach` places before, as if nothing happened before the first.
        let earlier = |x: &Tensor<4>, none: f32| {
            let before = Tensor::full([rows, reach, width, state], none, &x.device());
            let rest = x.clone().slice([0..rows, 0..places - reach]);
            Tensor::cat(vec![before, rest], 1)
        };
        held = held.clone() + decay.clone() * earlier(&held, 0.0);
        decay = decay.clone() * earlier(&decay, 1.0);
        reach *= 2;
    }
    layout.pack((held * part(1)).sum_dim(3).reshape([rows, places, width]))
}

#[derive(Debug)]
struct Op {
    offsets: Arc<[u32]>,
    reversed: bool,
}

impl Op {
    fn scan(&self, rate: &View<'_>) -> SelectiveScan<'_> {
        SelectiveScan {
            offsets: &self.offsets,
            width: rate.shape[0],
            state: rate.shape[1],
            backward: self.reversed,
        }
    }
}

fn inputs<'a>(views: &[View<'a>]) -> Inputs<'a> {
    Inputs {
        x: views[0].data,
        step: views[1].data,
        write_read: views[2].data,
        rate: views[3].data,
    }
}

impl HostOp for Op {
    fn forward(&self, views: &[View<'_>], _: bool) -> Forward {
        let scan = self.scan(&views[3]);
        let mut output = vec![0.0; views[0].data.len()];
        let mut kept = vec![0.0; scan.kept()];
        forward(Isa::detect(), &scan, &inputs(views), &mut output, &mut kept);
        Forward {
            shape: views[0].shape.to_vec(),
            output,
            saved: vec![kept],
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let scan = self.scan(&past.inputs[3]);
        let found = backward(
            Isa::detect(),
            &scan,
            &inputs(past.inputs),
            &past.saved[0],
            d_output,
        );
        [found.x, found.step, found.write_read, found.rate]
            .map(Some)
            .into()
    }

    fn keeps(&self, _: usize) -> bool {
        true
    }
}
