//! How mixer, feed-forward and norms are wired into a layer.

use serde::{Deserialize, Serialize};

use crate::Faults;

/// The wiring, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Block {
    /// `x = norm(x + dropout(f(x)))` for mixer and feed-forward in turn (BERT).
    PostNorm(Residual),
    /// `x = x + dropout(f(norm(x)))`, and one more norm after the last layer (GPT-2; Xiong et al., ICML 2020).
    PreNorm(Residual),
    /// `x = x + dropout(norm(f(norm(x))))`, and one more norm after the last layer (Ding et al., `NeurIPS` 2021,
    /// arXiv:2105.13290, §2.4).
    Sandwich(Residual),
}

/// Settings of the residual connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// Share of each branch's output dropped while training.
    pub dropout: f32,
    /// What a learned factor a channel on each branch begins with (Touvron et al., ICCV 2021, arXiv:2103.17239); absent:
    /// no factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f32>,
}

impl Residual {
    /// Connections without factors.
    pub const fn plain(dropout: f32) -> Self {
        Self {
            dropout,
            layer_scale: None,
        }
    }
}

impl Block {
    /// Settings of the residual connections.
    pub fn residual(&self) -> &Residual {
        match self {
            Self::PostNorm(residual) | Self::PreNorm(residual) | Self::Sandwich(residual) => {
                residual
            }
        }
    }

    /// Whether one more norm follows the last layer.
    pub fn ends_with_norm(&self) -> bool {
        match self {
            Self::PostNorm(_) => false,
            Self::PreNorm(_) | Self::Sandwich(_) => true,
        }
    }

    pub(crate) fn check(&self, path: &str, faults: &mut Faults) {
        let residual = self.residual();
        faults.check_dropout(&format!("{path}.dropout"), residual.dropout);
        if let Some(scale) = residual.layer_scale {
            faults.check(
                scale > 0.0 && scale.is_finite(),
                &format!("{path}.layer_scale"),
                || format!("expected a positive number, found {scale}"),
            );
        }
    }
}
