//! The learning rate over a run.

use serde::{Deserialize, Serialize};

/// A schedule, by kind. Each warms up linearly from 0 over `warmup_steps` and ends with the stage's last step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Schedule {
    /// Full rate throughout.
    Constant(Warmup),
    /// Down to 0 in a straight line.
    Linear(Warmup),
    /// Down to 0 along half a cosine.
    Cosine(Warmup),
    /// Warm-up, stable, then decay to 0 in a straight line (Hu et al., `MiniCPM`, 2024, arXiv:2404.06395).
    Wsd(Wsd),
}

/// Settings of a schedule that only warms up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// Steps until the full rate.
    #[serde(default)]
    pub warmup_steps: u64,
    /// The same as a share of all steps; the larger of both counts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub warmup_share: f64,
}

/// Settings of the warm-up, stable, decay schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wsd {
    /// Steps until the full rate.
    #[serde(default)]
    pub warmup_steps: u64,
    /// The same as a share of all steps; the larger of both counts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub warmup_share: f64,
    /// Share of all steps that the decay takes, at the end.
    pub decay_share: f64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

impl Schedule {
    /// The share of all steps that warm-up takes at least.
    pub(crate) fn warmup_share(&self) -> f64 {
        match self {
            Self::Constant(s) | Self::Linear(s) | Self::Cosine(s) => s.warmup_share,
            Self::Wsd(s) => s.warmup_share,
        }
    }

    /// The factor on the learning rate at `step` (counted from 0) of `total` steps.
    pub fn factor(&self, step: u64, total: u64) -> f64 {
        let (steps, share) = match self {
            Self::Constant(s) | Self::Linear(s) | Self::Cosine(s) => {
                (s.warmup_steps, s.warmup_share)
            }
            Self::Wsd(s) => (s.warmup_steps, s.warmup_share),
        };
        let warmup = steps.max((share * total as f64).ceil() as u64);
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let done = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        let left = (1.0 - done).max(0.0);
        match self {
            Self::Constant(_) => 1.0,
            Self::Linear(_) => left,
            Self::Cosine(_) => 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()),
            Self::Wsd(s) => {
                let decay_steps = (s.decay_share * total as f64).max(1.0);
                (total.saturating_sub(step) as f64 / decay_steps).min(1.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_warm_up_and_reach_their_ends() {
        let linear = Schedule::Linear(Warmup {
            warmup_steps: 10,
            warmup_share: 0.0,
        });
        assert!((linear.factor(0, 110) - 0.1).abs() < 1e-12);
        assert!((linear.factor(10, 110) - 1.0).abs() < 1e-12);
        assert!((linear.factor(60, 110) - 0.5).abs() < 1e-12);
        assert!(linear.factor(110, 110).abs() < 1e-12);
        let cosine = Schedule::Cosine(Warmup {
            warmup_steps: 0,
            warmup_share: 0.0,
        });
        assert!((cosine.factor(50, 100) - 0.5).abs() < 1e-12);
        let wsd = Schedule::Wsd(Wsd {
            warmup_steps: 0,
            warmup_share: 0.05,
            decay_share: 0.2,
        });
        assert!((wsd.factor(79, 100) - 1.0).abs() < 1e-12);
        assert!((wsd.factor(90, 100) - 0.5).abs() < 1e-12);
        let constant = Schedule::Constant(Warmup {
            warmup_steps: 0,
            warmup_share: 0.0,
        });
        assert!((constant.factor(1_000, 10) - 1.0).abs() < 1e-12);
    }
}
