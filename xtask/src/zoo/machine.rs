//! Walks of a machine of states that is drawn by chance, told in digits: who reads them never sees a state's name.

use serde::Deserialize;

use super::make::Draws;

/// Which walks to make. Walks of one machine that are drawn from different seeds share nothing else.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// States, at most 100: each is written with two digits.
    pub states: usize,
    /// States that may follow a state, all alike.
    pub edges: usize,
    /// What the edges are drawn from.
    pub edges_seed: u64,
    /// Walks.
    pub count: usize,
    /// States of a walk.
    pub length: usize,
    /// What the walks are drawn from.
    pub seed: u64,
}

impl Machine {
    /// The states that may follow each.
    fn successors(&self) -> Vec<Vec<usize>> {
        let mut draws = Draws(self.edges_seed);
        let of_state = |_| {
            let mut all: Vec<usize> = (0..self.states).collect();
            draws.shuffle(&mut all);
            all.truncate(self.edges);
            all
        };
        (0..self.states).map(of_state).collect()
    }

    /// The walks: digits, and beside the second digit of a state its name, `O` beside the first.
    pub fn walks(&self) -> Vec<Vec<[String; 2]>> {
        let successors = self.successors();
        let mut draws = Draws(self.seed);
        let walk = |_| {
            let mut state = draws.below(self.states);
            let mut digits = Vec::with_capacity(2 * self.length);
            for _ in 0..self.length {
                digits.push([(state / 10).to_string(), "O".to_owned()]);
                digits.push([(state % 10).to_string(), format!("s{state:02}")]);
                let next = &successors[state];
                state = next[draws.below(next.len())];
            }
            digits
        };
        (0..self.count).map(walk).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn walks_keep_to_the_machine_whatever_they_are_drawn_from() {
        let machine = |seed| Machine {
            states: 30,
            edges: 5,
            edges_seed: 1,
            count: 300,
            length: 16,
            seed,
        };
        assert_eq!(machine(2).walks(), machine(2).walks());
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for seed in [2, 3] {
            for walk in machine(seed).walks() {
                assert_eq!(walk.len(), 32);
                let states: Vec<&String> = walk.iter().skip(1).step_by(2).map(|w| &w[1]).collect();
                for (pair, state) in walk.chunks(2).zip(&states) {
                    assert_eq!(format!("s{}{}", pair[0][0], pair[1][0]), **state);
                }
                for pair in states.windows(2) {
                    let next = found.entry(pair[0].clone()).or_default();
                    if !next.contains(pair[1]) {
                        next.push(pair[1].clone());
                    }
                }
            }
        }
        assert_eq!(found.len(), 30);
        assert!(found.values().all(|next| next.len() == 5));
    }
}
