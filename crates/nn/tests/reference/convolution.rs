use cloze_spec::mixer::{GatedConvolution, Room};

use super::{Point, Rows};

pub fn gated(settings: &GatedConvolution, room: Room, point: &Point) -> Rows {
    let widths = settings.widths(room.width);
    let input = point.linears("input", &point.x);
    let convolved = input.iter().map(|row| row[widths[0]..].to_vec()).collect();
    let before = if settings.causal {
        settings.kernel - 1
    } else {
        settings.kernel / 2
    };
    let convolved = point.depthwise("convolution", &convolved, before);
    let token = |(input, convolved): (&Vec<f64>, &Vec<f64>)| {
        let mut factors = convolved.iter().map(|q| q * f64::from(settings.scale));
        let mut product: Vec<f64> = input[..widths[0]].to_vec();
        for (step, &width) in widths.iter().enumerate() {
            if step > 0 {
                product = point.linear(&format!("widen.{}", step - 1), &product);
            }
            assert_eq!(product.len(), width);
            for p in &mut product {
                *p *= factors.next().expect("a factor a channel");
            }
        }
        point.linear("output", &product)
    };
    input.iter().zip(&convolved).map(token).collect()
}
