use serde::{Deserialize, Serialize};

use super::{Room, Settings};
use crate::Faults;
use crate::inventory::List;

/// No mixing: each token keeps to itself. What is left of a layer is its feed-forward part.
///
/// Counts as bidirectional, as a blank is what it would be asked about.
///
/// # Source
/// Yu et al., `MetaFormer` Is Actually What You Need for Vision, CVPR 2022, arXiv:2111.11418, table 5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {}

impl Settings for Identity {
    fn check(&self, _: &str, _: Room, _: &mut Faults) {}

    fn list(&self, _: &str, _: Room, _: &mut List) {}

    fn sees_future(&self) -> bool {
        true
    }
}
