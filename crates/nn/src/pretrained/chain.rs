use burn::tensor::{Tensor, TensorData};

/// How unlikely the true labels of all sequences are, by word: `(Σ ln Z − Σ score) / M`, where `Z` sums the powers of all
/// sequences' scores.
///
/// # Shapes
/// `logits: [M, C]`, those of each sequence together, `lengths` of them; `steps: [C + 1, C + 1]` as of
/// [`Chain`](cloze_data::text::Chain); `classes: [M]` → `[1]`
/// # Source
/// Lample et al., NAACL 2016, arXiv:1603.01360, §2.2; `Z` by the forward algorithm, in logarithms.
/// # Departures
/// The mean is over words, not sentences, so that the rates of other losses fit.
pub(super) fn loss(
    logits: &Tensor<2>,
    steps: Tensor<2>,
    lengths: &[usize],
    classes: &[u32],
) -> Tensor<1> {
    let [rows, count] = logits.dims();
    let device = logits.device();
    let mut own = vec![0.0_f32; rows * count];
    let mut taken = vec![0.0_f32; (count + 1) * (count + 1)];
    let mut rest = classes;
    for &length in lengths {
        let (sequence, others) = rest.split_at(length);
        rest = others;
        let mut from = count;
        for &to in sequence
            .iter()
            .chain((length > 0).then_some(&(count as u32)))
        {
            taken[from * (count + 1) + to as usize] += 1.0;
            from = to as usize;
        }
    }
    for (row, &class) in classes.iter().enumerate() {
        own[row * count + class as usize] = 1.0;
    }
    let own = Tensor::<2>::from_data(TensorData::new(own, [rows, count]), &device);
    let taken = Tensor::<2>::from_data(TensorData::new(taken, [count + 1, count + 1]), &device);
    let score = (logits.clone() * own).sum() + (steps.clone() * taken).sum();

    // The longest first: those that still go on are always the first ones.
    let mut first = 0;
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(lengths.len());
    for &length in lengths.iter().filter(|length| **length > 0) {
        order.push((length, first));
        first += length;
    }
    order.sort_by_key(|&(length, _)| std::cmp::Reverse(length));
    let words = |at: usize| {
        let going = order.iter().take_while(|(length, _)| *length > at);
        let rows: Vec<i32> = going.map(|(_, first)| (first + at) as i32).collect();
        let count = rows.len();
        let rows = Tensor::from_data(TensorData::new(rows, [count]), &device);
        (count, logits.clone().select(0, rows)) // [B, C]
    };
    let inner = steps
        .clone()
        .slice([0..count, 0..count])
        .unsqueeze_dim::<3>(0); // [1, C, C]
    let begin = steps.clone().slice([count..count + 1, 0..count]);
    let end = steps.slice([0..count, count..count + 1]).transpose(); // [1, C]
    let (mut going, scores) = words(0);
    let mut sums = scores + begin;
    let mut ended = Vec::new();
    for at in 1..order.first().map_or(0, |(length, _)| *length) {
        let (count, scores) = words(at);
        if count < going {
            ended.push(sums.clone().narrow(0, count, going - count));
            sums = sums.narrow(0, 0, count);
            going = count;
        }
        let paths = sums.unsqueeze_dim::<3>(2) + inner.clone(); // [B, C, C], from by to
        sums = log_sum(paths).squeeze_dim::<2>(1) + scores;
    }
    ended.push(sums);
    let sums = Tensor::cat(ended, 0) + end;
    let whole = log_sum(sums.unsqueeze_dim::<3>(2)).sum();
    (whole - score).div_scalar(rows as f32)
}

/// `ln Σ eˣ` over the middle dimension. The largest is taken out first, as a constant: its gradient would be 0.
fn log_sum(x: Tensor<3>) -> Tensor<3> {
    let most = x.clone().max_dim(1).detach();
    (x - most.clone()).exp().sum_dim(1).log() + most
}
