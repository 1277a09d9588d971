//! Made-up reviews of which a reader cares for one aspect: whether they like it depends on that alone.

use serde::Deserialize;

use super::make::Draws;

/// Which reviews to make.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tastes {
    /// Reviews.
    pub count: usize,
    /// What they are drawn from.
    pub seed: u64,
}

/// A review, and who reads it.
#[derive(Debug, PartialEq, Eq)]
pub struct Review {
    /// The review.
    pub text: String,
    /// What the reader cares for.
    pub cares: &'static str,
    /// The reader's age, of which nothing depends; missing of some.
    pub age: String,
    /// Whether the reader likes the place.
    pub label: &'static str,
}

const ASPECTS: [&str; 4] = ["food", "music", "price", "service"];
const GOOD: [&str; 6] = [
    "great",
    "lovely",
    "excellent",
    "perfect",
    "very good",
    "wonderful",
];
const BAD: [&str; 6] = [
    "awful",
    "terrible",
    "bad",
    "disappointing",
    "poor",
    "horrible",
];
const BETWEEN: [&str; 4] = ["and", "but", "while", "though"];

impl Tastes {
    /// The reviews: each speaks of all aspects, in an order of its own.
    pub fn reviews(&self) -> Vec<Review> {
        let mut draws = Draws(self.seed);
        let reviews = (0..self.count).map(|_| {
            let mut order = [0, 1, 2, 3];
            draws.shuffle(&mut order);
            let likes = [(); 4].map(|()| draws.below(2) == 0);
            let parts = order.map(|aspect| {
                let words = if likes[aspect] { GOOD } else { BAD };
                format!("the {} was {}", ASPECTS[aspect], words[draws.below(6)])
            });
            let [a, b, c, d] = parts;
            let [first, second] = [(); 2].map(|()| BETWEEN[draws.below(4)]);
            let cares = draws.below(4);
            let age = match draws.below(10) {
                0 => String::new(),
                _ => (18 + draws.below(60)).to_string(),
            };
            Review {
                text: format!("{a} {first} {b}, {c} {second} {d}."),
                cares: ASPECTS[cares],
                age,
                label: if likes[cares] { "likes" } else { "dislikes" },
            }
        });
        reviews.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_cares_for_decides() {
        let reviews = Tastes {
            count: 400,
            seed: 3,
        }
        .reviews();
        assert_eq!(
            reviews,
            Tastes {
                count: 400,
                seed: 3
            }
            .reviews()
        );
        for review in &reviews {
            let (_, rest) = review
                .text
                .split_once(&format!("the {} was ", review.cares))
                .unwrap();
            let is_good = GOOD.iter().any(|word| rest.starts_with(word));
            assert_eq!(is_good, review.label == "likes", "{review:?}");
        }
        let likes = reviews
            .iter()
            .filter(|review| review.label == "likes")
            .count();
        assert!((160..240).contains(&likes), "{likes}");
    }
}
