use serde::{Deserialize, Serialize};

use super::{Room, Settings};
use crate::Faults;
use crate::inventory::List;

/// Recurrent states of both directions, and what heads of low rank pool from them by the sequence's own mean.
///
/// # Source
/// Mehta et al., Low Rank Factorization for Compact Multi-Head Self-Attention, 2019, arXiv:1912.00835, §3; the
/// recurrence is that of Cho et al., EMNLP 2014, arXiv:1406.1078, with the reset gate after the product.
/// # Departures
/// The paper pools one matrix a text for a classifier. Here every token gets a map of its own state plus a map of that
/// matrix, so that it is a layer like others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowRankRecurrent {
    /// Channels of a direction's state.
    pub hidden: usize,
    /// Heads that pool.
    pub heads: usize,
}

impl Settings for LowRankRecurrent {
    fn check(&self, path: &str, _: Room, faults: &mut Faults) {
        faults.check_positive(&format!("{path}.hidden"), self.hidden);
        faults.check_positive(&format!("{path}.heads"), self.heads);
    }

    fn list(&self, name: &str, room: Room, list: &mut List) {
        let (hidden, both) = (self.hidden, 2 * self.hidden);
        list.linear(&format!("{name}.input"), 6 * hidden, room.width);
        for pass in ["forward", "backward"] {
            list.linear(&format!("{name}.{pass}"), 3 * hidden, hidden);
        }
        list.add(&format!("{name}.context.weight"), &[self.heads, both]);
        list.add(&format!("{name}.state.weight"), &[self.heads, both]);
        list.linear(&format!("{name}.output"), room.width, both);
        list.add(
            &format!("{name}.pooled.weight"),
            &[room.width, self.heads * both],
        );
    }

    fn sees_future(&self) -> bool {
        true
    }
}
