use serde::{Deserialize, Serialize};

use super::{Room, Settings};
use crate::Faults;
use crate::inventory::List;

/// The real part of a Fourier transform over channels and then over the tokens of each sequence. Has no parameters.
///
/// # Source
/// Lee-Thorp et al., Mixing Tokens with Fourier Transforms, NAACL 2022, arXiv:2105.03824, §3.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fourier {}

impl Settings for Fourier {
    fn check(&self, _: &str, _: Room, _: &mut Faults) {}

    fn list(&self, _: &str, _: Room, _: &mut List) {}

    fn sees_future(&self) -> bool {
        true
    }
}
