use burn::tensor::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::op;

/// Directions in which outputs are taken: each channel where there are no more, else as many by chance.
const DIRECTIONS: usize = 64;
/// Rows that are computed together.
const ROWS: usize = 4096;

/// How much each token's output depends on each token's input, whatever lies between: for a small change of a token's vector in a
/// direction by chance, the root mean square of how much larger the change of the output is.
///
/// That is `‖∂y_t/∂x_s‖ / √D`, Frobenius' norm of a block of the Jacobian. With more than 64 channels it is estimated from 64
/// directions, signs by chance and always the same: within a few percent.
///
/// # Shapes
/// `x: [T, D]`, on a device with autodiff; `mix` gets copies of it one after the other, `[C·T, D]`, and where each begins,
/// `[C + 1]`, and gives `[C·T, E]` → `[T, T]`, a row an output.
///
/// # Source
/// Hutchinson, Communications in Statistics 18, 1989, for what directions by chance tell of a norm.
pub fn influence(x: &Tensor<2>, mix: impl Fn(Tensor<2>, &[u32]) -> Tensor<2>) -> Vec<f32> {
    let ([tokens, width], device) = (x.dims(), x.device());
    let outputs = mix(x.clone(), &[0, tokens as u32]).dims()[1];
    let directions = directions(outputs);
    // One copy for each output token and direction.
    let asked: Vec<(usize, &Vec<f32>)> = (0..tokens)
        .flat_map(|token| directions.iter().map(move |direction| (token, direction)))
        .collect();
    let mut squares = vec![0.0_f64; tokens * tokens];
    for asked in asked.chunks((ROWS / tokens.max(1)).max(1)) {
        let copies = asked.len();
        let x = x.clone().detach().repeat_dim(0, copies).require_grad();
        let offsets: Vec<u32> = (0..=copies).map(|copy| (copy * tokens) as u32).collect();
        let mut wanted = vec![0.0; copies * tokens * outputs];
        for (copy, (token, direction)) in asked.iter().enumerate() {
            wanted[(copy * tokens + token) * outputs..][..outputs].copy_from_slice(direction);
        }
        let wanted = op::floats(wanted, [copies * tokens, outputs], &device);
        let mut gradients = (mix(x.clone(), &offsets) * wanted).sum().backward();
        // What does not depend on the tokens at all has no gradient.
        let Some(slopes) = x.grad_remove(&mut gradients) else {
            continue;
        };
        let found = slopes.powi_scalar(2).sum_dim(1).into_data();
        let found = found.as_slice::<f32>().expect("encoders compute in f32");
        for ((token, _), of) in asked.iter().zip(found.chunks(tokens)) {
            let row = squares[token * tokens..][..tokens].iter_mut();
            row.zip(of)
                .for_each(|(sum, square)| *sum += f64::from(*square));
        }
    }
    // Channels add up to the whole norm; each direction by chance tells of all of it.
    let told = if outputs <= DIRECTIONS { 1 } else { DIRECTIONS };
    let share = 1.0 / (told * width) as f64;
    squares
        .into_iter()
        .map(|sum| (sum * share).sqrt() as f32)
        .collect()
}

/// `[R, E]`
fn directions(outputs: usize) -> Vec<Vec<f32>> {
    if outputs <= DIRECTIONS {
        let unit = |own| (0..outputs).map(move |at| if at == own { 1.0 } else { 0.0 });
        return (0..outputs).map(|own| unit(own).collect()).collect();
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut sign = move || if rng.next_u32() & 1 == 0 { 1.0 } else { -1.0 };
    (0..DIRECTIONS)
        .map(|_| (0..outputs).map(|_| sign()).collect())
        .collect()
}
