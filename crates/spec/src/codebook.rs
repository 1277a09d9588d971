//! Bottlenecks through which a branch of a layer says what it adds in a few codes.

use serde::{Deserialize, Serialize};

use crate::Faults;
use crate::inventory::List;

/// What a branch of each layer adds becomes the sum of the few of its codes that are likest to it.
///
/// The choice has no gradient; what reaches the sum goes on to the branch as if there were no bottleneck.
///
/// # Source
/// Tamkin et al., Codebook Features, 2023, arXiv:2310.17230, §2.
///
/// # Departures
/// Codes of attention stand behind its output map, as of any other mixer, not before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Codebook {
    /// Which branches have one, in every layer.
    pub sites: Vec<Branch>,
    /// Codes of a group.
    pub codes: usize,
    /// Codes that are summed for a token, of each group.
    #[serde(default = "one")]
    pub k: usize,
    /// Groups that the channels are cut into, each with codes of its own; as many as heads for one a head.
    #[serde(default = "one")]
    pub groups: usize,
    /// What makes a code likest.
    #[serde(default)]
    pub similarity: Similarity,
    /// What codes learn from beside the model's loss.
    #[serde(default)]
    pub loss: CodeLoss,
    /// Every so many steps codes that were not chosen since the last time become vectors that were to be said by them; absent:
    /// they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_after: Option<u64>,
}

fn one() -> usize {
    1
}

/// A branch of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Branch {
    /// Between tokens.
    Mixer,
    /// Within a token.
    Ffn,
}

/// What makes a code likest to a vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// The cosine of their angle.
    #[default]
    Cosine,
    /// Their inner product.
    Inner,
    /// The least distance.
    Euclidean,
}

/// What codes learn from beside the model's loss: mean squares of the difference between vectors and sums of codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeLoss {
    /// Nothing.
    None,
    /// The difference moves codes.
    #[default]
    Reconstruction,
    /// The difference alone moves codes, not the model's loss, and a quarter of it vectors.
    ///
    /// # Source
    /// van den Oord et al., VQ-VAE, `NeurIPS` 2017, arXiv:1711.00937, eq. 3.
    Commitment,
    /// The difference moves both.
    Both,
}

/// Codes of a model at most, so that settings alone cannot ask for any amount.
const MOST: usize = 1 << 20;

impl Codebook {
    pub(crate) fn check(&self, path: &str, width: usize, faults: &mut Faults) {
        faults.check(!self.sites.is_empty(), &format!("{path}.sites"), || {
            "expected \"mixer\", \"ffn\" or both, found none".to_owned()
        });
        let codes = (2..=MOST).contains(&self.codes);
        faults.check(codes, &format!("{path}.codes"), || {
            format!("expected 2 to {MOST}, found {}", self.codes)
        });
        let k = (1..=self.codes).contains(&self.k);
        faults.check(k, &format!("{path}.k"), || {
            format!("expected 1 to the {} codes, found {}", self.codes, self.k)
        });
        let groups = self.groups > 0 && width.is_multiple_of(self.groups);
        faults.check(groups, &format!("{path}.groups"), || {
            format!(
                "expected a divisor of the width {width}, found {}",
                self.groups
            )
        });
        let dead = self.dead_after != Some(0);
        faults.check(dead, &format!("{path}.dead_after"), || {
            "expected at least 1, found 0; leave it out for never".to_owned()
        });
    }

    /// Lists the codes of a branch: `[G · K, D / G]`, group after group.
    pub(crate) fn list(&self, branch: Branch, name: &str, width: usize, list: &mut List) {
        if self.sites.contains(&branch) {
            let shape = [self.groups * self.codes, width / self.groups];
            list.add(&format!("{name}.weight"), &shape);
        }
    }
}
