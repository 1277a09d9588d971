use burn::tensor::Tensor;

use super::HIDDEN;

/// What attention over some of the keys gives each query; parts merge into attention over all of them.
///
/// Whoever has some of the keys and values makes a part of them, and passes on either them or the part: the parts of any
/// cut, in any order, give what attention over all keys at once gives, to rounding. [`Self::backward`] goes back through
/// one part by the whole's result alone, so that no part's weights need to be kept.
///
/// # Source
/// Liu et al., Ring Attention with Blockwise Transformers, 2023, arXiv:2310.01889, §3; the merge as in Milakov and
/// Gimelshein, 2018, arXiv:1805.02867, the way back as in Dao, `FlashAttention-2`, 2023, arXiv:2307.08691, §3.1.2.
#[derive(Debug, Clone)]
pub struct PartialAttention {
    /// Values weighted by the softmax over the part's keys; 0 where a query sees none of them: `[H, Q, K]`.
    pub output: Tensor<3>,
    /// Logarithm of the sum of the scores' exponentials, of great size below 0 where there are none: `[H, Q, 1]`.
    pub log_sum: Tensor<3>,
}

impl PartialAttention {
    /// Attention of all queries to the part's keys, scores scaled by `1/√K`; with autodiff, gradients follow it.
    ///
    /// # Shapes
    /// `query: [H, Q, K]`; `key, value: [H, M, K]`; `may_attend`, 1 where a query sees a key, else 0: `[H or 1, Q, M]`
    pub fn of(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>, may_attend: Tensor<3>) -> Self {
        let scores = scores(query, key, &may_attend);
        // What is subtracted here is added again: no gradient by it.
        let most = scores.clone().detach().max_dim(2); // [H, Q, 1]
        let powers = (scores - most.clone()).exp() * may_attend;
        let sum = powers.clone().sum_dim(2);
        let none = sum.clone().detach().equal_elem(0.0).float();
        let sum = sum + none;
        Self {
            output: powers.matmul(value) / sum.clone(),
            log_sum: most + sum.log(),
        }
    }

    /// Attention to the keys of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let most = self
            .log_sum
            .clone()
            .max_pair(other.log_sum.clone())
            .detach();
        let [mine, theirs] =
            [&self, &other].map(|part| (part.log_sum.clone() - most.clone()).exp());
        let sum = mine.clone() + theirs.clone();
        Self {
            output: (self.output * mine + other.output * theirs) / sum.clone(),
            log_sum: most + sum.log(),
        }
    }

    /// Gradients of the part's queries, keys and values, `self` being attention over the keys of all parts. Those of the
    /// queries are to be added up over the parts.
    ///
    /// # Shapes
    /// As in [`Self::of`]; `d_output: [H, Q, K]`
    pub fn backward(
        &self,
        query: Tensor<3>,
        key: Tensor<3>,
        value: Tensor<3>,
        may_attend: Tensor<3>,
        d_output: Tensor<3>,
    ) -> [Tensor<3>; 3] {
        let scale = scale(&query);
        let scores = scores(query.clone(), key.clone(), &may_attend);
        let weights = (scores - self.log_sum.clone()).exp() * may_attend; // [H, Q, M]
        let own = (d_output.clone() * self.output.clone()).sum_dim(2); // [H, Q, 1]
        let d_value = weights.clone().transpose().matmul(d_output.clone());
        let d_scores = weights * (d_output.matmul(value.transpose()) - own);
        let d_scores = d_scores.mul_scalar(scale);
        [
            d_scores.clone().matmul(key),
            d_scores.transpose().matmul(query),
            d_value,
        ]
    }
}

fn scale(query: &Tensor<3>) -> f32 {
    1.0 / (query.dims()[2] as f32).sqrt()
}

/// [`HIDDEN`] where a query does not see a key: `[H, Q, M]`.
fn scores(query: Tensor<3>, key: Tensor<3>, may_attend: &Tensor<3>) -> Tensor<3> {
    let scale = scale(&query);
    let hidden = may_attend.clone().sub_scalar(1.0).mul_scalar(-HIDDEN);
    query.mul_scalar(scale).matmul(key.transpose()) + hidden
}
