//! A gated recurrent unit along every sequence of a packed batch.
//!
//! `r = σ(a_r + U_r h)`, `z = σ(a_z + U_z h)`, `n = tanh(a_n + r ⊙ (U_n h))`, `h' = (1 − z) ⊙ n + z ⊙ h`, each `U` with
//! bias. What the inputs give, `a`, comes as one product for all tokens; here is what must go step by step. Sequences go
//! to threads, numbers of the state to vector lanes.
//!
//! # Source
//! Cho et al., EMNLP 2014, arXiv:1406.1078, with the reset gate after the product.

use rayon::prelude::*;

use crate::Isa;
use crate::arch::{Vector, dispatch, math, require};

/// What the unit runs over.
#[derive(Debug, Clone, Copy)]
pub struct Recurrent<'a> {
    /// Sequence `b` is the rows `offsets[b]..offsets[b + 1]`.
    pub offsets: &'a [u32],
    /// Numbers of the state, `U`.
    pub width: usize,
    /// Sequences are read from their end.
    pub backward: bool,
}

impl Recurrent<'_> {
    fn tokens(&self) -> usize {
        self.offsets.last().map_or(0, |&end| end as usize)
    }

    fn at(&self, step: usize, len: usize) -> usize {
        if self.backward { len - 1 - step } else { step }
    }

    fn check(&self, input: &[f32], weight: &[f32], bias: &[f32]) {
        let width = self.width;
        assert_eq!(
            input.len(),
            self.tokens() * 3 * width,
            "recurrent: length of input"
        );
        assert_eq!(
            weight.len(),
            3 * width * width,
            "recurrent: length of weight"
        );
        assert_eq!(bias.len(), 3 * width, "recurrent: length of bias");
    }
}

/// The states, and for the backward pass what each token's gates were.
///
/// # Shapes
/// `input: [N, 3U]`, reset, update and new side by side; `weight: [3U, U]`; `bias: [3U]`; `output: [N, U]`;
/// `gates: [N, 4U]`, the last quarter `U_n h`
/// # Panics
/// Where a slice has another length, or the machine lacks `isa`.
pub fn forward(
    isa: Isa,
    unit: &Recurrent<'_>,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    output: &mut [f32],
    gates: &mut [f32],
) {
    require(isa);
    unit.check(input, weight, bias);
    let width = unit.width;
    assert_eq!(
        output.len(),
        unit.tokens() * width,
        "recurrent: length of output"
    );
    assert_eq!(gates.len(), 4 * output.len(), "recurrent: length of gates");
    let (mut jobs, mut output, mut gates) = (Vec::new(), output, gates);
    for w in unit.offsets.windows(2) {
        let (from, len) = (w[0] as usize, (w[1] - w[0]) as usize);
        let (mine, rest) = output.split_at_mut(len * width);
        let (open, others) = gates.split_at_mut(len * 4 * width);
        jobs.push((&input[from * 3 * width..], len, mine, open));
        (output, gates) = (rest, others);
    }
    jobs.into_par_iter()
        .for_each(|(input, len, output, gates)| {
            let mut held = vec![0.0_f32; width];
            let mut product = vec![0.0_f32; 3 * width];
            for step in 0..len {
                let at = unit.at(step, len);
                let input = &input[at * 3 * width..][..3 * width];
                let gates = &mut gates[at * 4 * width..][..4 * width];
                // SAFETY: the instruction set and all lengths are checked above.
                unsafe {
                    go_on(
                        isa,
                        width,
                        input.as_ptr(),
                        weight.as_ptr(),
                        bias.as_ptr(),
                        product.as_mut_ptr(),
                        held.as_mut_ptr(),
                        gates.as_mut_ptr(),
                    );
                }
                output[at * width..][..width].copy_from_slice(&held);
            }
        });
}

/// Gradients of every input.
#[derive(Debug)]
pub struct Gradients {
    /// `[N, 3U]`
    pub input: Vec<f32>,
    /// `[3U, U]`
    pub weight: Vec<f32>,
    /// `[3U]`
    pub bias: Vec<f32>,
}

/// The gradients, given those of the output; `output` and `gates` as [`forward`] left them.
///
/// # Panics
/// Where a slice has another length, or the machine lacks `isa`.
pub fn backward(
    isa: Isa,
    unit: &Recurrent<'_>,
    weight: &[f32],
    output: &[f32],
    gates: &[f32],
    d_output: &[f32],
) -> Gradients {
    require(isa);
    let width = unit.width;
    let tokens = unit.tokens();
    assert_eq!(
        weight.len(),
        3 * width * width,
        "recurrent: length of weight"
    );
    for (name, slice) in [("output", output), ("d_output", d_output)] {
        assert_eq!(slice.len(), tokens * width, "recurrent: length of {name}");
    }
    assert_eq!(
        gates.len(),
        tokens * 4 * width,
        "recurrent: length of gates"
    );
    let mut d_input = vec![0.0; tokens * 3 * width];
    // The gradient of `U h` and its bias, and the state before each token.
    let mut d_product = vec![0.0; tokens * 3 * width];
    let mut before = vec![0.0; tokens * width];
    let mut jobs = Vec::new();
    let (mut inputs, mut products, mut states) = (
        d_input.as_mut_slice(),
        d_product.as_mut_slice(),
        before.as_mut_slice(),
    );
    for w in unit.offsets.windows(2) {
        let (from, len) = (w[0] as usize, (w[1] - w[0]) as usize);
        let (input, rest) = inputs.split_at_mut(len * 3 * width);
        let (product, others) = products.split_at_mut(len * 3 * width);
        let (state, more) = states.split_at_mut(len * width);
        jobs.push((from, len, input, product, state));
        (inputs, products, states) = (rest, others, more);
    }
    jobs.into_par_iter()
        .for_each(|(from, len, d_input, d_product, before)| {
            let mut d_held = vec![0.0_f32; width];
            for step in (0..len).rev() {
                let at = unit.at(step, len);
                let before = &mut before[at * width..][..width];
                if step > 0 {
                    let last = from + unit.at(step - 1, len);
                    before.copy_from_slice(&output[last * width..][..width]);
                }
                let gates = &gates[(from + at) * 4 * width..][..4 * width];
                let d_output = &d_output[(from + at) * width..][..width];
                let d_input = &mut d_input[at * 3 * width..][..3 * width];
                let d_product = &mut d_product[at * 3 * width..][..3 * width];
                for i in 0..width {
                    let [reset, update, new, inner] =
                        [0, 1, 2, 3].map(|part| gates[part * width + i]);
                    let d = d_held[i] + d_output[i];
                    let d_new = d * (1.0 - update) * (1.0 - new * new);
                    let d_reset = d_new * inner * reset * (1.0 - reset);
                    let d_update = d * (before[i] - new) * update * (1.0 - update);
                    d_held[i] = d * update;
                    for (part, value) in [d_reset, d_update, d_new].into_iter().enumerate() {
                        d_input[part * width + i] = value;
                    }
                    for (part, value) in [d_reset, d_update, d_new * reset].into_iter().enumerate()
                    {
                        d_product[part * width + i] = value;
                    }
                }
                for (&d, row) in d_product.iter().zip(weight.chunks_exact(width)) {
                    // SAFETY: the instruction set was checked above; both are `width` long.
                    unsafe { add(isa, d, row.as_ptr(), d_held.as_mut_ptr(), width) };
                }
            }
        });
    let mut d_weight = vec![0.0; 3 * width * width];
    let mut d_bias = vec![0.0; 3 * width];
    // Each row's terms in the order of the tokens.
    d_weight
        .par_chunks_mut(width.max(1))
        .zip(&mut d_bias)
        .enumerate()
        .for_each(|(row, (d_weight, d_bias))| {
            for (d_product, before) in d_product
                .chunks_exact(3 * width)
                .zip(before.chunks_exact(width))
            {
                let d = d_product[row];
                *d_bias += d;
                // SAFETY: the instruction set was checked above; both are `width` long.
                unsafe { add(isa, d, before.as_ptr(), d_weight.as_mut_ptr(), width) };
            }
        });
    Gradients {
        input: d_input,
        weight: d_weight,
        bias: d_bias,
    }
}

dispatch! {
    /// One token: `product = weight · held + bias`, then the gates and the next state.
    ///
    /// # Safety
    /// The machine has `isa`; `held` is valid for `width` floats, `input`, `bias` and `product` for three times as many,
    /// `gates` for four times, `weight` for `3 · width` rows of `width`; what is written overlaps nothing else.
    unsafe fn go_on(
        width: usize,
        input: *const f32,
        weight: *const f32,
        bias: *const f32,
        product: *mut f32,
        held: *mut f32,
        gates: *mut f32,
    ) = go_on_body;
}

#[inline(always)]
unsafe fn go_on_body<V: Vector>(
    width: usize,
    input: *const f32,
    weight: *const f32,
    bias: *const f32,
    product: *mut f32,
    held: *mut f32,
    gates: *mut f32,
) {
    for row in 0..3 * width {
        let weight = weight.add(row * width);
        let mut sum = V::zero();
        let mut i = 0;
        while i < width {
            let lanes = V::LANES.min(width - i);
            let held = V::load_up_to(held.add(i), lanes);
            sum = V::load_up_to(weight.add(i), lanes).fma(held, sum);
            i += V::LANES;
        }
        *product.add(row) = sum.reduce_sum() + *bias.add(row);
    }
    let mut i = 0;
    while i < width {
        let lanes = V::LANES.min(width - i);
        let of = |x: *const f32, part: usize| V::load_up_to(x.add(part * width + i), lanes);
        let reset = math::sigmoid(of(input, 0).add(of(product, 0)));
        let update = math::sigmoid(of(input, 1).add(of(product, 1)));
        let inner = of(product, 2);
        let new = math::tanh(reset.fma(inner, of(input, 2)));
        let was = V::load_up_to(held.add(i), lanes);
        let next = update.fma(was.sub(new), new);
        next.store_up_to(held.add(i), lanes);
        for (part, gate) in [reset, update, new, inner].into_iter().enumerate() {
            gate.store_up_to(gates.add(part * width + i), lanes);
        }
        i += V::LANES;
    }
}

dispatch! {
    /// `to += by · from`, over `n` floats.
    ///
    /// # Safety
    /// The machine has `isa`; both pointers are valid for `n` floats that do not overlap.
    unsafe fn add(by: f32, from: *const f32, to: *mut f32, n: usize) = add_body;
}

#[inline(always)]
unsafe fn add_body<V: Vector>(by: f32, from: *const f32, to: *mut f32, n: usize) {
    let by = V::splat(by);
    let mut i = 0;
    while i < n {
        let lanes = V::LANES.min(n - i);
        let sum = by.fma(
            V::load_up_to(from.add(i), lanes),
            V::load_up_to(to.add(i), lanes),
        );
        sum.store_up_to(to.add(i), lanes);
        i += V::LANES;
    }
}
