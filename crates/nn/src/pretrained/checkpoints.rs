//! Activations that are not kept: on the way back each layer is computed once more from what went into it.
//!
//! # Source
//! Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, arXiv:1604.06174.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Gradients, Tensor};

/// A layer that was passed.
struct Span {
    input: Tensor<2>,
    /// Cut off from what it was computed from.
    output: Tensor<2>,
    again: Box<dyn FnOnce(Tensor<2>) -> Tensor<2> + Send>,
}

/// The layers passed since the last way back, in their order.
#[derive(Clone, Default)]
pub(super) struct Tape(Arc<Mutex<Vec<Span>>>);

impl Tape {
    /// `output`, without a gradient, was computed from `input`, and would be once more by `again`, with one.
    pub fn cut(
        &self,
        input: Tensor<2>,
        output: Tensor<2>,
        again: impl FnOnce(Tensor<2>) -> Tensor<2> + Send + 'static,
    ) -> Tensor<2> {
        let output = leaf(output);
        self.spans().push(Span {
            input,
            output: output.clone(),
            again: Box::new(again),
        });
        output
    }

    /// The gradients of all that `loss` was computed from, a part of the way each.
    pub fn back(&self, loss: &Tensor<1>) -> Vec<Gradients> {
        let spans = std::mem::take(&mut *self.spans());
        let mut all = vec![loss.backward()];
        for span in spans.into_iter().rev() {
            let parts = all
                .iter()
                .filter_map(|gradients| span.output.grad(gradients));
            let Some(d_output) = parts.reduce(|sum, part| sum + part) else {
                continue;
            };
            let input = leaf(span.input.clone());
            let output = (span.again)(input.clone());
            let gradients = along(output, d_output);
            let d_input = input.grad(&gradients);
            all.push(gradients);
            if let Some(d_input) = d_input.filter(|_| span.input.is_tracked()) {
                all.push(along(span.input, d_input));
            }
        }
        all
    }

    fn spans(&self) -> impl std::ops::DerefMut<Target = Vec<Span>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tape({} layers)", self.spans().len())
    }
}

/// The same values, of which a gradient is taken by themselves.
fn leaf(x: Tensor<2>) -> Tensor<2> {
    constant(x).require_grad()
}

/// The same values, of which no gradient is taken: `detach` leaves that to those that ask for one.
pub(super) fn constant(x: Tensor<2>) -> Tensor<2> {
    Tensor::from_inner(x.inner())
}

/// Gradients of what `x` was computed from, where that of `x` is `d_x`.
fn along(x: Tensor<2>, d_x: Tensor<2>) -> Gradients {
    (x * Tensor::from_inner(d_x)).sum().backward()
}
