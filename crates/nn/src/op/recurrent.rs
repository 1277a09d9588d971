use std::sync::Arc;

use burn::tensor::{Tensor, activation};
use cloze_kernels::Isa;
use cloze_kernels::op::recurrent::{Recurrent, backward, forward};

use super::bridge::{Forward, HostOp, Operands, Past, View, apply};
use super::on_host;
use crate::layout::Layout;

/// The states of a gated recurrent unit along each sequence, from its end if `reversed`; `input` is what the tokens give
/// its reset and update gates and its new state.
///
/// # Shapes
/// `input: [N, 3U]`, `weight: [3U, U]`, `bias: [3U]` → `[N, U]`
///
/// # Source
/// Cho et al., EMNLP 2014, arXiv:1406.1078, with the reset gate after the product.
pub fn recurrent(
    input: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    offsets: &Arc<[u32]>,
    reversed: bool,
) -> Tensor<2> {
    if !on_host(&input.device()) {
        return composed(input, weight, bias, offsets, reversed);
    }
    let inputs = Operands::Three(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    );
    let op = Op {
        offsets: offsets.clone(),
        reversed,
    };
    apply(inputs, op)
}

/// [`recurrent`] from Burn's operations, place by place of all sequences.
pub fn composed(
    input: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    offsets: &Arc<[u32]>,
    reversed: bool,
) -> Tensor<2> {
    let layout = Layout::padded(offsets, 1);
    let layout = if reversed { layout.reversed() } else { layout };
    let (rows, places) = (layout.rows, layout.places);
    let width = weight.dims()[1];
    let input = layout.spread(input); // [B, T, 3U]
    let (weight, bias) = (weight.transpose(), bias.unsqueeze::<2>());
    let mut held = Tensor::<2>::zeros([rows, width], &input.device());
    let mut states = Vec::with_capacity(places);
    for place in 0..places {
        let input = input
            .clone()
            .slice([0..rows, place..place + 1])
            .reshape([rows, 3 * width]);
        let product = held.clone().matmul(weight.clone()) + bias.clone();
        let part = |x: &Tensor<2>, index: usize| {
            x.clone()
                .slice([0..rows, index * width..(index + 1) * width])
        };
        let gate = |index: usize| activation::sigmoid(part(&input, index) + part(&product, index));
        let (reset, update) = (gate(0), gate(1));
        let new = (part(&input, 2) + reset * part(&product, 2)).tanh();
        held = new.clone() + update * (held - new);
        states.push(held.clone());
    }
    layout.pack(Tensor::stack(states, 1))
}

#[derive(Debug)]
struct Op {
    offsets: Arc<[u32]>,
    reversed: bool,
}

impl Op {
    fn unit(&self, weight: &View<'_>) -> Recurrent<'_> {
        Recurrent {
            offsets: &self.offsets,
            width: weight.shape[1],
            backward: self.reversed,
        }
    }
}

impl HostOp for Op {
    fn forward(&self, inputs: &[View<'_>], _: bool) -> Forward {
        let [input, weight, bias] = inputs else {
            unreachable!("recurrent has three inputs")
        };
        let (rows, width) = (input.shape[0], weight.shape[1]);
        let mut output = vec![0.0; rows * width];
        let mut gates = vec![0.0; 4 * output.len()];
        forward(
            Isa::detect(),
            &self.unit(weight),
            input.data,
            weight.data,
            bias.data,
            &mut output,
            &mut gates,
        );
        Forward {
            shape: vec![rows, width],
            output,
            saved: vec![gates],
        }
    }

    fn backward(&self, past: &Past<'_>, d_output: &[f32], _: &[bool]) -> Vec<Option<Vec<f32>>> {
        let weight = &past.inputs[1];
        let found = backward(
            Isa::detect(),
            &self.unit(weight),
            weight.data,
            past.output,
            &past.saved[0],
            d_output,
        );
        [found.input, found.weight, found.bias].map(Some).into()
    }

    fn keeps(&self, index: usize) -> bool {
        index == 1
    }

    fn keeps_output(&self) -> bool {
        true
    }
}
