use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_kernels::Isa;
use cloze_kernels::op::quasiseparable::{self, Inputs, backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::on_host;
use crate::layout::{Layout, states_before};

/// What an exponent is where a chunk's token looks ahead; far enough that nothing is left, and finite.
const NEVER: f32 = -1e4;

/// `h_t = e^(Δ_t r) h_(t−1) + Δ_t B_t v_tᵀ` of each head, of which the next token gets `h_tᵀ C_t`, along each sequence and from its
/// end, plus each token's share of its own value.
///
/// # Shapes
/// `mixed: [N, H·P + 4S]`, values, then B and C of the scan forward and of the scan backward; `steps: [N, 2H]`, Δ of both;
/// `own: [N, H]`; `rate: [H]` → `[N, H·P]`
///
/// # Source
/// Hwang et al., `NeurIPS` 2024, arXiv:2407.09941, §4.
pub fn quasiseparable(
    mixed: Tensor<2>,
    steps: Tensor<2>,
    own: Tensor<2>,
    rate: Tensor<1>,
    offsets: &Arc<[u32]>,
    head_width: usize,
    chunk: usize,
) -> Tensor<2> {
    if !on_host(&mixed.device()) {
        return composed(mixed, steps, own, rate, offsets, head_width, chunk);
    }
    let inputs = Operands::Four(
        mixed.into_dispatch(),
        steps.into_dispatch(),
        own.into_dispatch(),
        rate.into_dispatch(),
    );
    let op = Op {
        offsets: offsets.clone(),
        head_width,
    };
    apply(inputs, op)
}

/// [`quasiseparable`] from Burn's operations, `chunk` tokens at once.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of its fused twin"
)]
pub fn composed(
    mixed: Tensor<2>,
    steps: Tensor<2>,
    own: Tensor<2>,
    rate: Tensor<1>,
    offsets: &Arc<[u32]>,
    head_width: usize,
    chunk: usize,
) -> Tensor<2> {
    let [tokens, heads] = own.dims();
    let inner = heads * head_width;
    let state = (mixed.dims()[1] - inner) / 4;
    let value = mixed.clone().slice([0..tokens, 0..inner]);
    let layout = Layout::padded(offsets, chunk);
    let one = |layout: &Layout, direction: usize| {
        let of = |index: usize| {
            let from = inner + (2 * direction + index) * state;
            mixed.clone().slice([0..tokens, from..from + state])
        };
        let steps = steps
            .clone()
            .slice([0..tokens, direction * heads..(direction + 1) * heads]);
        scan(
            layout,
            chunk,
            value.clone(),
            steps,
            of(0),
            of(1),
            rate.clone(),
        )
    };
    let by_head = value.clone().reshape([tokens, heads, head_width]);
    let own = (own.reshape([tokens, heads, 1]) * by_head).reshape([tokens, inner]);
    one(&layout, 0) + one(&layout.reversed(), 1) + own
}

/// `h_t = e^(Δ_t·rate) h_(t−1) + Δ_t B_t v_tᵀ`, and what the state before each token gives it: `C_(t−1)ᵀ h_(t−1)`, along
/// each row of the layout.
///
/// Within a chunk as a matrix of its tokens, from chunk to chunk as a state: Dao and Gu, ICML 2024, arXiv:2405.21060, §6.
///
/// # Shapes
/// `value: [N, H·P]`, `steps: [N, H]`, `write, read: [N, S]`, `rate: [H]` → `[N, H·P]`
fn scan(
    layout: &Layout,
    chunk: usize,
    value: Tensor<2>,
    steps: Tensor<2>,
    write: Tensor<2>,
    read: Tensor<2>,
    rate: Tensor<1>,
) -> Tensor<2> {
    let device = value.device();
    let (rows, places) = (layout.rows, layout.places);
    let (heads, chunks) = (steps.dims()[1], places / chunk);
    let inner = value.dims()[1];
    // [N, H·X] → [B, H, c, C, X]
    let blocks = |x: Tensor<2>, heads: usize| {
        let wide = x.dims()[1] / heads;
        layout
            .spread(x)
            .reshape([rows, chunks, chunk, heads, wide])
            .permute([0, 3, 1, 2, 4])
    };
    let steps = blocks(steps, heads); // [B, H, c, C, 1]; 0 where no token is, so that the state stays
    let value = blocks(value, heads) * steps.clone();
    let (write, read) = (blocks(write, 1), blocks(read, 1)); // [B, 1, c, C, S]

    let decay = (steps * rate.reshape([1, heads, 1, 1, 1])).cumsum(3); // [B, H, c, C, 1]
    let ahead = Tensor::<2>::full([chunk, chunk], NEVER, &device).triu(1);
    let between = decay.clone() - decay.clone().transpose();
    let between = (between.tril(0) + ahead.unsqueeze()).exp(); // [B, H, c, C, C]
    let near = (read.clone().matmul(write.clone().transpose()) * between).matmul(value.clone());

    let whole = decay
        .clone()
        .slice([0..rows, 0..heads, 0..chunks, chunk - 1..chunk]); // [B, H, c, 1, 1]
    let kept = value * (whole.clone() - decay.clone()).exp();
    let added = write.transpose().matmul(kept); // [B, H, c, S, P]
    let before = states_before(whole.exp(), added, |keep, state| keep * state);
    let far = read.matmul(before) * decay.exp();
    let given = (near + far)
        .permute([0, 2, 3, 1, 4])
        .reshape([rows, places, inner]);
    let late = given.slice([0..rows, 0..places - 1]);
    let late = Tensor::cat(vec![Tensor::zeros([rows, 1, inner], &device), late], 1);
    layout.pack(late)
}

#[derive(Debug)]
struct Op {
    offsets: Arc<[u32]>,
    head_width: usize,
}

impl Op {
    fn scan(&self, views: &[View<'_>]) -> quasiseparable::Quasiseparable<'_> {
        let heads = views[3].shape[0];
        quasiseparable::Quasiseparable {
            offsets: &self.offsets,
            heads,
            head_width: self.head_width,
            state: (views[0].shape[1] - heads * self.head_width) / 4,
        }
    }
}

fn inputs<'a>(views: &[View<'a>]) -> Inputs<'a> {
    Inputs {
        mixed: views[0].data,
        steps: views[1].data,
        own: views[2].data,
        rate: views[3].data,
    }
}

impl HostOp for Op {
    fn forward(&self, views: &[View<'_>], tracked: bool) -> Forward {
        let scan = self.scan(views);
        let shape = vec![views[0].shape[0], scan.heads * self.head_width];
        let mut output = vec![0.0; shape[0] * shape[1]];
        let mut kept = tracked.then(|| vec![0.0; scan.kept()]);
        forward(
            Isa::detect(),
            &scan,
            &inputs(views),
            &mut output,
            kept.as_deref_mut(),
        );
        Forward {
            shape,
            output,
            saved: kept.into_iter().collect(),
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let scan = self.scan(past.inputs);
        let (inputs, kept) = (inputs(past.inputs), &past.saved[0]);
        let found = backward(Isa::detect(), &scan, &inputs, kept, d_output);
        [found.mixed, found.steps, found.own, found.rate]
            .map(Some)
            .into()
    }

    fn keeps(&self, _: usize) -> bool {
        true
    }
}
