use burn::backend::Flex;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use cloze_kernels::Isa;

use super::{AdamW, on_host};

/// One step of Adam with decoupled weight decay: the new parameter, mean and mean square. Tensors without autodiff.
///
/// # Shapes
/// All four of one shape.
pub fn adamw<const D: usize>(
    config: &AdamW,
    param: Tensor<D>,
    gradient: Tensor<D>,
    mean: Tensor<D>,
    square: Tensor<D>,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    if !on_host(&param.device()) {
        return composed(config, param, gradient, mean, square);
    }
    let (mut param, gradient, mut mean, mut square) =
        (host(param), host(gradient), host(mean), host(square));
    cloze_kernels::op::adamw::step(
        Isa::detect(),
        config,
        param.storage_mut(),
        gradient.storage(),
        mean.storage_mut(),
        square.storage_mut(),
    );
    let back = Tensor::from_primitive::<Flex>;
    (back(param), back(mean), back(square))
}

/// [`adamw`] of those rows of a table whose gradient is not 0 throughout, the others and their moments as they were.
///
/// # Shapes
/// All four of one shape, rows along the first dimension.
pub fn adamw_of_read_rows(
    config: &AdamW,
    param: Tensor<2>,
    gradient: Tensor<2>,
    mean: Tensor<2>,
    square: Tensor<2>,
) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    if !on_host(&param.device()) {
        let unread = gradient.clone().abs().sum_dim(1).equal_elem(0.0);
        let unread = unread.expand(param.shape());
        let before = [param.clone(), mean.clone(), square.clone()];
        let (param, mean, square) = composed(config, param, gradient, mean, square);
        let [old_param, old_mean, old_square] = before;
        return (
            param.mask_where(unread.clone(), old_param),
            mean.mask_where(unread.clone(), old_mean),
            square.mask_where(unread, old_square),
        );
    }
    let width = param.dims()[1];
    let (mut param, gradient, mut mean, mut square) =
        (host(param), host(gradient), host(mean), host(square));
    let (values, means, squares) = (
        param.storage_mut::<f32>(),
        mean.storage_mut::<f32>(),
        square.storage_mut::<f32>(),
    );
    for (row, gradient) in gradient.storage::<f32>().chunks(width).enumerate() {
        if gradient.iter().all(|&g| g == 0.0) {
            continue;
        }
        let at = row * width..(row + 1) * width;
        cloze_kernels::op::adamw::step(
            Isa::detect(),
            config,
            &mut values[at.clone()],
            gradient,
            &mut means[at.clone()],
            &mut squares[at],
        );
    }
    let back = Tensor::from_primitive::<Flex>;
    (back(param), back(mean), back(square))
}

/// [`adamw`] from Burn's operations.
pub fn composed<const D: usize>(
    config: &AdamW,
    param: Tensor<D>,
    gradient: Tensor<D>,
    mean: Tensor<D>,
    square: Tensor<D>,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let gradient = gradient.mul_scalar(config.grad_scale);
    let mean = mean.mul_scalar(config.beta1) + gradient.clone().mul_scalar(1.0 - config.beta1);
    let square =
        square.mul_scalar(config.beta2) + gradient.powi_scalar(2).mul_scalar(1.0 - config.beta2);
    let unbias = |beta: f32| {
        1.0 / (1.0 - f64::from(beta).powi(i32::try_from(config.step).unwrap_or(i32::MAX)))
    };
    let root = square
        .clone()
        .mul_scalar(unbias(config.beta2))
        .sqrt()
        .add_scalar(config.eps);
    let step = mean.clone().mul_scalar(unbias(config.beta1)) / root;
    let param =
        param.mul_scalar(1.0 - config.lr * config.weight_decay) - step.mul_scalar(config.lr);
    (param, mean, square)
}

/// The sum of the squares of all values of all tensors, in an order that does not depend on the number of threads.
pub fn sum_of_squares(tensors: &[&Tensor<1>]) -> f64 {
    let Some(first) = tensors.first() else {
        return 0.0;
    };
    if on_host(&first.device()) {
        let host = tensors.iter().map(|&x| host(x.clone()));
        return host
            .map(|x| cloze_kernels::op::adamw::sum_of_squares(Isa::detect(), x.storage()))
            .sum();
    }
    // One tensor for all of them, since each reading back waits for the device.
    let sums = tensors.iter().map(|&x| x.clone().powi_scalar(2).sum());
    let sums = Tensor::cat(sums.collect(), 0).into_data();
    sums.iter::<f64>().sum()
}

/// The tensor as a slice of its own: contiguous, from its first value to its last.
fn host<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    let tensor = tensor
        .try_into_primitive::<Flex>()
        .expect("a tensor on a Flex device, without autodiff");
    let whole = tensor.layout().contiguous_offsets() == Some((0, tensor.storage::<f32>().len()));
    if whole {
        tensor
    } else {
        tensor.to_contiguous()
    }
}
