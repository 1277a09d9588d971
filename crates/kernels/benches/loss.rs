//! Losses at the shapes of recommenders, forward and gradients together. GFLOP/s is items per second.

use cloze_kernels::Isa;
use cloze_kernels::op::candidates::{self, CandidateLoss};
use cloze_kernels::op::cross_entropy::{self, Shape};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

fn floats(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 17) as f32 * 0.02 - 0.16).collect()
}

/// Rows, width, classes: MovieLens-1M in BERT4Rec, then a shop.
#[divan::bench(args = [(2560, 64, 3420), (2560, 64, 54_000), (2560, 256, 3420)])]
fn all_classes(bencher: Bencher, (rows, width, classes): (usize, usize, usize)) {
    run(bencher, (rows, width, classes), Isa::detect(), true);
}

#[divan::bench(args = [(2560, 64, 3420)])]
fn all_classes_avx2(bencher: Bencher, shape: (usize, usize, usize)) {
    if Isa::Avx2.is_available() {
        run(bencher, shape, Isa::Avx2, true);
    }
}

#[divan::bench(args = [(2560, 64, 3420)])]
fn all_classes_without_gradients(bencher: Bencher, shape: (usize, usize, usize)) {
    run(bencher, shape, Isa::detect(), false);
}

fn run(bencher: Bencher, (rows, width, classes): (usize, usize, usize), isa: Isa, gradients: bool) {
    let (hidden, table, bias) = (
        floats(rows * width),
        floats(classes * width),
        floats(classes),
    );
    let targets: Vec<u32> = (0..rows).map(|row| (row * 7919 % classes) as u32).collect();
    let (mut d_hidden, mut d_table) = (floats(rows * width), floats(classes * width));
    let (mut d_bias, mut losses) = (floats(classes), floats(rows));
    let shape = Shape {
        rows,
        width,
        classes,
    };
    let products = if gradients { 3 } else { 1 };
    bencher
        .counter(ItemsCount::new(2 * products * rows * width * classes))
        .bench_local(|| {
            let grads = gradients.then_some(cross_entropy::Grads {
                d_hidden: &mut d_hidden,
                d_table: &mut d_table,
                d_bias: Some(&mut d_bias),
            });
            let scale = 1.0 / rows as f32;
            cross_entropy::forward(
                isa,
                shape,
                &hidden,
                &table,
                Some(&bias),
                &targets,
                scale,
                grads,
                black_box(&mut losses),
            );
        });
}

/// One positive and 256 negatives for each of 2560 rows, of 54,000 classes.
#[divan::bench(args = [CandidateLoss::SampledSoftmax, CandidateLoss::Gbce { beta: 0.5 }])]
fn candidate_classes(bencher: Bencher, loss: CandidateLoss) {
    let shape = candidates::Shape {
        rows: 2560,
        width: 64,
        classes: 54_000,
        candidates: 257,
    };
    let (rows, width, classes) = (shape.rows, shape.width, shape.classes);
    let pairs = rows * shape.candidates;
    let (hidden, table) = (floats(rows * width), floats(classes * width));
    let ids: Vec<u32> = (0..pairs).map(|at| (at * 7919 % classes) as u32).collect();
    let (mut d_hidden, mut d_table) = (floats(rows * width), floats(classes * width));
    let mut losses = floats(rows);
    let flops = ItemsCount::new(6 * pairs * width);
    bencher.counter(flops).bench_local(|| {
        let grads = Some(cross_entropy::Grads {
            d_hidden: &mut d_hidden,
            d_table: &mut d_table,
            d_bias: None,
        });
        let (isa, losses) = (Isa::detect(), black_box(&mut losses));
        candidates::forward(
            isa, shape, &hidden, &table, None, &ids, None, loss, 1.0, grads, losses,
        );
    });
}
