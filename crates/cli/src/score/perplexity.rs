use std::path::Path;

use cloze_data::records::Value;
use cloze_train::metric::perplexity::Perplexity as Sums;

use super::Judged;
use super::arguments::Perplexity;
use super::input::cells;

pub fn judge(args: &Perplexity, path: &Path) -> anyhow::Result<Judged> {
    anyhow::ensure!(
        args.common.references.is_empty(),
        "--references: perplexity is not measured against any"
    );
    let names: Vec<&str> = std::iter::once(args.log_probs.as_str())
        .chain(args.tokens.as_deref())
        .collect();
    let columns = cells(&args.common, path, &names)?;
    let log_prob = |value: &Value| value.number().filter(|&value| value <= 0.0);
    let texts: Vec<(f64, u64)> = if let Some(tokens) = columns.get(1) {
        let sums = columns[0].each("a log probability: a number of at most 0", log_prob)?;
        let whole = |value: &Value| value.number().filter(|n| *n >= 0.0 && n.fract() == 0.0);
        let tokens = tokens.each("a number of tokens", whole)?;
        sums.into_iter()
            .zip(tokens.into_iter().map(|count| count as u64))
            .collect()
    } else {
        columns[0].each("log probabilities: numbers of at most 0", |value| {
            let values = value.list(None)?;
            let values = values.iter().map(log_prob).collect::<Option<Vec<f64>>>()?;
            Some((values.iter().sum(), values.len() as u64))
        })?
    };
    anyhow::ensure!(
        texts.iter().any(|(_, tokens)| *tokens > 0),
        "{}: expected log probabilities of tokens, found none",
        path.display()
    );
    let names = ["perplexity", "mean_perplexity"];
    Ok(Judged::new("texts", texts.len(), &names, move |draw| {
        let mut sums = Sums::default();
        for &index in draw {
            sums.add(texts[index].0, texts[index].1);
        }
        [sums.over_tokens(), sums.mean_over_texts()]
            .map(|value| value.unwrap_or(f64::NAN))
            .to_vec()
    }))
}
