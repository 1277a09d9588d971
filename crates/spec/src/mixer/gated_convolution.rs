use serde::{Deserialize, Serialize};

use super::{Room, Settings};
use crate::Faults;
use crate::inventory::List;

/// Products of convolved neighbours, taken again and again: order `n` gives products of `n + 1` factors.
///
/// # Source
/// Rao et al., Efficient High-Order Spatial Interactions with Recursive Gated Convolutions, `NeurIPS` 2022,
/// arXiv:2207.14284, §3.1; along a sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatedConvolution {
    /// How often a product is taken, `n`; `2^(n−1)` divides the width.
    pub order: usize,
    /// Tokens that the convolution sees; its own is the last of them if causal, else the middle one, and the number odd.
    pub kernel: usize,
    /// Factor on what is convolved; 1/3 in the public code.
    pub scale: f32,
    /// A token sees itself and earlier tokens only.
    pub causal: bool,
}

impl GatedConvolution {
    /// Channels of each product, first to last.
    pub fn widths(&self, width: usize) -> Vec<usize> {
        (0..self.order).rev().map(|half| width >> half).collect()
    }
}

impl Settings for GatedConvolution {
    fn check(&self, path: &str, room: Room, faults: &mut Faults) {
        let fits =
            (1..=16).contains(&self.order) && room.width.is_multiple_of(1 << (self.order - 1));
        faults.check(fits, &format!("{path}.order"), || {
            format!(
                "expected an order of which 2^(order − 1) divides the width {}, found {}",
                room.width, self.order
            )
        });
        if self.causal {
            faults.check_positive(&format!("{path}.kernel"), self.kernel);
        } else {
            super::check_odd(path, self.kernel, faults);
        }
        faults.check(
            self.scale > 0.0 && self.scale.is_finite(),
            &format!("{path}.scale"),
            || format!("expected a positive number, found {}", self.scale),
        );
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        let widths = self.widths(room.width);
        let convolved = widths.iter().sum();
        list.linear(&format!("{name}.input"), 2 * room.width, room.width);
        list.add(
            &format!("{name}.convolution.weight"),
            &[self.kernel, convolved],
        );
        list.add(&format!("{name}.convolution.bias"), &[convolved]);
        for (index, pair) in widths.windows(2).enumerate() {
            list.linear(&format!("{name}.widen.{index}"), pair[1], pair[0]);
        }
        list.linear(&format!("{name}.output"), room.width, room.width);
    }

    fn sees_future(&self) -> bool {
        !self.causal
    }
}
