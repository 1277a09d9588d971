//! Rows of tables against plain loops.

mod agree;

use agree::{Odd, assert_gradient, assert_threads_do_not_matter, bits, numbers, wide};
use cloze_kernels::op::embed::{gather, scatter_add};
use cloze_kernels::{Isa, reference};
use proptest::prelude::*;

fn some_ids(seed: u64, n: usize, classes: usize) -> Vec<u32> {
    numbers(seed, n)
        .iter()
        .map(|x| ((x.abs() * classes as f32) as u32).min(classes as u32 - 1))
        .collect()
}

proptest! {
    // Sums run in the order of the loops, so bits agree.
    #[test]
    fn any_shape_has_the_bits_of_loops(n in 0_usize..300, width in 0_usize..70, classes in 1_usize..50) {
        let ids = some_ids(1, n, classes);
        let table = Odd::new(&numbers(2, classes * width));
        let rows = Odd::new(&numbers(3, n * width));
        let (mut gathered, mut added) = (vec![f32::NAN; n * width], rows.to_vec());
        reference::embed::gather(width, &table, &ids, &mut gathered, false);
        reference::embed::gather(width, &table, &ids, &mut added, true);
        let mut scattered = table.to_vec();
        reference::embed::scatter_add(width, &rows, &ids, &mut scattered);
        for isa in Isa::available() {
            let (mut out, mut sum) = (Odd::blank(n * width), Odd::new(&rows));
            gather(isa, width, &table, &ids, &mut out, false);
            gather(isa, width, &table, &ids, &mut sum, true);
            let mut d_table = Odd::new(&table);
            scatter_add(isa, width, &rows, &ids, &mut d_table);
            prop_assert_eq!(bits(&out), bits(&gathered));
            prop_assert_eq!(bits(&sum), bits(&added));
            prop_assert_eq!(bits(&d_table), bits(&scattered));
        }
    }
}

#[test]
fn gradient_is_the_slope() {
    let (width, ids) = (3, [2, 0, 2, 4]);
    let (table, d_out) = (wide(&numbers(4, 15)), wide(&numbers(5, 12)));
    let mut d_table = vec![0.0; 15];
    reference::embed::scatter_add(width, &d_out, &ids, &mut d_table);
    assert_gradient("d_table", &table, &d_table, |table| {
        let mut out = vec![f64::NAN; 12];
        reference::embed::gather(width, table, &ids, &mut out, false);
        out.iter().zip(&d_out).map(|(out, d)| out * d).sum()
    });
}

#[test]
fn threads_do_not_matter() {
    let (width, classes) = (64, 1000);
    let ids = some_ids(6, 5000, classes);
    let d_out = numbers(7, ids.len() * width);
    for isa in Isa::available() {
        assert_threads_do_not_matter("scatter_add", || {
            let mut d_table = vec![0.0; classes * width];
            scatter_add(isa, width, &d_out, &ids, &mut d_table);
            d_table
        });
    }
}

#[test]
#[should_panic(expected = "ids[1] is 3, the table has 3 rows")]
fn ids_beyond_the_table_are_refused() {
    gather(Isa::Scalar, 2, &[0.0; 6], &[2, 3], &mut [0.0; 4], false);
}
