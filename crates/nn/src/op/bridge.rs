//! Kernels on slices as operations of Burn's CPU backend, with their own backward.
//!
//! One backend extension carries every operation: a [`HostOp`] computes on slices, and this file turns Burn's tensors
//! into slices and the gradients back into tensors. An operation's file therefore holds arithmetic only.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_flex::{FlexTensor, Layout};

/// A tensor as an operation sees it: row-major, without gaps.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub shape: &'a [usize],
    pub data: &'a [f32],
}

/// What a forward pass gives.
pub(crate) struct Forward {
    pub shape: Vec<usize>,
    pub output: Vec<f32>,
    /// For the backward pass; left empty if none will follow.
    pub saved: Vec<Vec<f32>>,
}

/// What a backward pass may read.
pub(crate) struct Past<'a> {
    /// The inputs named by [`HostOp::keeps`]; the data of the others is empty.
    pub inputs: &'a [View<'a>],
    /// The output, if [`HostOp::keeps_output`].
    pub output: &'a [f32],
    pub saved: &'a [Vec<f32>],
}

/// An operation on slices with a hand-written backward.
pub(crate) trait HostOp: Debug + Send + Sync + 'static {
    /// Computes the output. `tracked`: a backward pass will follow.
    fn forward(&self, inputs: &[View<'_>], tracked: bool) -> Forward;

    /// The gradient of each input for which `wanted`; the others may be `None`.
    fn backward(&self, past: &Past<'_>, d_output: &[f32], wanted: &[bool])
    -> Vec<Option<Vec<f32>>>;

    /// Whether the backward reads input `index`.
    fn keeps(&self, index: usize) -> bool;

    /// Whether the backward reads the output.
    fn keeps_output(&self) -> bool {
        false
    }
}

/// An operation that travels through Burn's dispatch.
pub(crate) type SharedOp = Arc<dyn HostOp>;

/// The inputs of an operation. Burn's extension macro carries tensors in structs and enums, not in vectors.
#[derive(ExtensionType)]
pub enum Operands<B: Backend> {
    One(FloatTensor<B>),
    Two(FloatTensor<B>, FloatTensor<B>),
    Three(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
    Four(
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
    ),
}

#[backend_extension(Flex, Autodiff)]
pub trait HostBackend: Backend {
    fn host_op(#[extension_type] inputs: Operands<Self>, op: SharedOp) -> FloatTensor<Self>;
}

impl HostBackend for Flex {
    fn host_op(inputs: Operands<Self>, op: SharedOp) -> FloatTensor<Self> {
        let inputs = match inputs {
            Operands::One(a) => vec![a],
            Operands::Two(a, b) => vec![a, b],
            Operands::Three(a, b, c) => vec![a, b, c],
            Operands::Four(a, b, c, d) => vec![a, b, c, d],
        };
        run(&op, &contiguous(inputs), false).0
    }
}

impl<C: CheckpointStrategy> HostBackend for Autodiff<Flex, C> {
    fn host_op(inputs: Operands<Self>, op: SharedOp) -> FloatTensor<Self> {
        match inputs {
            Operands::One(a) => tracked::<1, C>([a], op),
            Operands::Two(a, b) => tracked::<2, C>([a, b], op),
            Operands::Three(a, b, c) => tracked::<3, C>([a, b, c], op),
            Operands::Four(a, b, c, d) => tracked::<4, C>([a, b, c, d], op),
        }
    }
}

#[derive(Debug)]
struct HostBackward;

#[derive(Clone, Debug)]
struct State {
    op: SharedOp,
    inputs: Vec<FlexTensor>,
    shapes: Vec<Vec<usize>>,
    output: Option<FlexTensor>,
    saved: Arc<Vec<Vec<f32>>>,
}

impl<const N: usize> Backward<Flex, N> for HostBackward {
    type State = State;

    fn backward(self, ops: Ops<State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_output = contiguous(vec![grads.consume::<Flex>(&ops.node)]);
        let state = ops.state;
        let wanted: Vec<bool> = ops.parents.iter().map(Option::is_some).collect();
        let mut kept = state.inputs.iter();
        let inputs: Vec<View<'_>> = state
            .shapes
            .iter()
            .enumerate()
            .map(|(index, shape)| View {
                shape,
                data: if state.op.keeps(index) {
                    slice(kept.next().expect("kept by forward"))
                } else {
                    &[]
                },
            })
            .collect();
        let past = Past {
            inputs: &inputs,
            output: state.output.as_ref().map_or(&[], slice),
            saved: &state.saved,
        };
        let d_inputs = state.op.backward(&past, slice(&d_output[0]), &wanted);
        for ((parent, gradient), shape) in ops.parents.into_iter().zip(d_inputs).zip(&state.shapes)
        {
            if let Some(parent) = parent {
                let gradient = gradient.expect("a wanted gradient is given");
                grads.register::<Flex>(parent.id, tensor(gradient, shape));
            }
        }
    }
}

fn tracked<const N: usize, C: CheckpointStrategy>(
    inputs: [FloatTensor<Autodiff<Flex, C>>; N],
    op: SharedOp,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = inputs
        .each_ref()
        .map(FloatTensor::<Autodiff<Flex, C>>::node);
    let inputs = contiguous(
        inputs
            .into_iter()
            .map(FloatTensor::<Autodiff<Flex, C>>::into_primitive)
            .collect(),
    );
    match HostBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (output, saved) = run(&op, &inputs, true);
            let state = State {
                shapes: inputs.iter().map(|t| t.layout().shape().to_vec()).collect(),
                inputs: inputs
                    .into_iter()
                    .enumerate()
                    .filter(|(i, _)| op.keeps(*i))
                    .map(|(_, t)| t)
                    .collect(),
                output: op.keeps_output().then(|| output.clone()),
                saved: Arc::new(saved),
                op,
            };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(run(&op, &inputs, false).0),
    }
}

fn run(op: &SharedOp, inputs: &[FlexTensor], tracked: bool) -> (FlexTensor, Vec<Vec<f32>>) {
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|t| t.layout().shape().to_vec()).collect();
    let views: Vec<View<'_>> = inputs
        .iter()
        .zip(&shapes)
        .map(|(t, shape)| View {
            shape,
            data: slice(t),
        })
        .collect();
    let Forward {
        shape,
        output,
        saved,
    } = op.forward(&views, tracked);
    (tensor(output, &shape), saved)
}

fn contiguous(tensors: Vec<FlexTensor>) -> Vec<FlexTensor> {
    tensors
        .into_iter()
        .map(|t| {
            if t.layout().contiguous_offsets().is_some() {
                t
            } else {
                t.to_contiguous()
            }
        })
        .collect()
}

fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor
        .as_slice()
        .expect("operations take f32, made contiguous on the way in")
}

fn tensor(data: Vec<f32>, shape: &[usize]) -> FlexTensor {
    let shape = Shape::from(shape.to_vec());
    FlexTensor::new(
        burn::tensor::Bytes::from_elems(data),
        Layout::contiguous(shape),
        DType::F32,
    )
}

/// Runs `op` on tensors of Burn's CPU backend, with or without autodiff.
pub(crate) fn apply<const D: usize>(inputs: Operands<Dispatch>, op: impl HostOp) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as HostBackend>::host_op(inputs, Arc::new(op)))
}
