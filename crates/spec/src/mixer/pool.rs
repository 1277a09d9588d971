use serde::{Deserialize, Serialize};

use super::{Room, Settings};
use crate::Faults;
use crate::inventory::List;

/// The mean of the tokens around each, less the token itself. Has no parameters.
///
/// # Source
/// Yu et al., `MetaFormer` Is Actually What You Need for Vision, CVPR 2022, arXiv:2111.11418, §3.2; along a sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Tokens to each side; where the sequence ends, fewer.
    pub radius: usize,
    /// A token sees itself and earlier tokens only.
    pub causal: bool,
}

impl Settings for Pool {
    fn check(&self, path: &str, _: Room, faults: &mut Faults) {
        faults.check_positive(&format!("{path}.radius"), self.radius);
    }

    fn list(&self, _: &str, _: Room, _: &mut List) {}

    fn sees_future(&self) -> bool {
        !self.causal
    }
}
