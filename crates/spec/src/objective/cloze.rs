use serde::{Deserialize, Serialize};

use super::{Loss, fault, no_settings};

/// Items are hidden at random and named again from what stands on both sides.
///
/// # Source
/// Sun et al., BERT4Rec, CIKM 2019, arXiv:1904.06690, §3.6, and the authors' code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cloze {
    /// Share of a window's items to predict; at least one is.
    pub mask_prob: f64,
    /// Most items of a window to predict; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_masked: Option<usize>,
    /// What stands in the place of an item to predict.
    pub replace: Replace,
    /// How the case that matters when recommending, a blank after all items, is practised.
    pub last_item: LastItem,
    /// Times that each window is taken an epoch, each time with other blanks.
    pub duplicates: usize,
    /// The loss of each prediction.
    pub loss: Loss,
}

/// What stands in the place of an item to predict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Replace {
    /// The blank (BERT4Rec).
    #[serde(deserialize_with = "no_settings")]
    Always,
    /// The blank, some item, or itself.
    Mixed(Mixed),
}

/// Shares of the places of items to predict; in those left over the item itself stays.
///
/// # Source
/// Devlin et al., BERT, NAACL 2019, arXiv:1810.04805, §3.1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixed {
    /// Share with the blank.
    pub mask: f64,
    /// Share with an item drawn uniformly from all.
    pub random: f64,
}

/// How the blank after all items is practised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastItem {
    /// Not by itself: the last item is hidden as often as any other.
    Never,
    /// Each window is taken once more an epoch, with only its last item hidden (BERT4Rec).
    Extra,
    /// This share of the windows taken hide only their last item (`RecBole`'s `ft_ratio`).
    Share(f64),
}

impl Replace {
    /// What is wrong with values whose types are right, each fault with its key under `path`.
    pub(crate) fn faults(&self, path: &str) -> Vec<String> {
        let mut faults = Vec::new();
        if let Replace::Mixed(Mixed { mask, random }) = *self {
            for (key, share) in [("mask", mask), ("random", random)] {
                fault(&mut faults, (0.0..=1.0).contains(&share), || {
                    format!("{path}.{key}: expected a share from 0 to 1, found {share}")
                });
            }
            // 0.9 + 0.1 need not be 1 in binary.
            fault(&mut faults, mask + random <= 1.0 + 1e-9, || {
                format!(
                    "{path}: expected mask and random to add up to 1 at most, found {mask} and {random}"
                )
            });
        }
        faults
    }
}

impl Cloze {
    /// How many items of a window of `len` are hidden: `min(max_masked, max(1, round(mask_prob · len)))`, halves up.
    pub fn masked_count(&self, len: usize) -> usize {
        let wanted = (self.mask_prob * len as f64).round() as usize;
        wanted
            .max(1)
            .min(self.max_masked.unwrap_or(usize::MAX))
            .min(len)
    }

    pub(super) fn faults(&self, path: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        fault(
            &mut faults,
            self.mask_prob > 0.0 && self.mask_prob <= 1.0,
            || {
                format!(
                    "{path}.mask_prob: expected a share above 0, up to 1, found {}",
                    self.mask_prob
                )
            },
        );
        fault(&mut faults, self.max_masked != Some(0), || {
            format!("{path}.max_masked: expected at least 1, found 0; leave it out for no limit")
        });
        fault(&mut faults, self.duplicates > 0, || {
            format!("{path}.duplicates: expected at least 1, found 0")
        });
        faults.extend(self.replace.faults(&format!("{path}.replace")));
        if let LastItem::Share(share) = self.last_item {
            fault(&mut faults, is_share(share), || {
                format!("{path}.last_item.share: expected a share from 0 to 1, found {share}")
            });
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::super::Objective;
    use super::*;

    const FULL: &str = r#"
        kind = "cloze"
        mask_prob = 0.2
        max_masked = 40
        replace = { kind = "mixed", mask = 0.8, random = 0.1 }
        last_item = { share = 0.5 }
        duplicates = 10
        loss = { kind = "sampled-softmax", negatives = 256, sampler = "popularity", log_q = true }
    "#;

    fn cloze(text: &str) -> Cloze {
        match toml::from_str(text).unwrap() {
            Objective::Cloze(cloze) => cloze,
            Objective::NextItem(_) => panic!("expected a cloze objective"),
        }
    }

    #[test]
    fn a_table_is_read_and_written_back() {
        let other = FULL
            .replace(
                r#"{ kind = "mixed", mask = 0.8, random = 0.1 }"#,
                r#"{ kind = "always" }"#,
            )
            .replace("{ share = 0.5 }", "\"extra\"")
            .replace("max_masked = 40", "");
        assert_eq!(cloze(FULL).last_item, LastItem::Share(0.5));
        assert_eq!(
            (cloze(&other).last_item, cloze(&other).max_masked),
            (LastItem::Extra, None)
        );
        for text in [FULL, &other] {
            let objective: Objective = toml::from_str(text).unwrap();
            assert_eq!(objective.faults("objective"), [""; 0]);
            let again: Objective = toml::from_str(&toml::to_string(&objective).unwrap()).unwrap();
            assert_eq!(again, objective);
        }
    }

    #[test]
    fn misspelt_and_misplaced_keys_are_refused() {
        for (right, wrong) in [
            ("mask_prob", "mask_share"),
            ("random = 0.1", "radnom = 0.1"),
            ("share =", "part ="),
            ("log_q", "logq"),
            (
                r#"replace = { kind = "mixed","#,
                r#"replace = { kind = "always","#,
            ),
            (
                r#"loss = { kind = "sampled-softmax","#,
                r#"loss = { kind = "softmax","#,
            ),
        ] {
            let text = FULL.replace(right, wrong);
            assert_ne!(text, FULL);
            assert!(toml::from_str::<Objective>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn all_faults_are_reported_together() {
        let text = FULL
            .replace("mask_prob = 0.2", "mask_prob = 0.0")
            .replace("max_masked = 40", "max_masked = 0")
            .replace("random = 0.1", "random = 0.3")
            .replace("share = 0.5", "share = nan")
            .replace("duplicates = 10", "duplicates = 0")
            .replace("negatives = 256", "negatives = 0");
        let faults = Objective::Cloze(cloze(&text)).faults("objective");
        let keys: Vec<_> = faults
            .iter()
            .map(|fault| fault.split_once(": ").unwrap().0)
            .collect();
        assert_eq!(
            keys,
            [
                "objective.mask_prob",
                "objective.max_masked",
                "objective.duplicates",
                "objective.replace",
                "objective.last_item.share",
                "objective.loss.negatives"
            ]
        );
        let exact = FULL.replace("mask = 0.8, random = 0.1", "mask = 0.7, random = 0.3");
        assert_eq!(Objective::Cloze(cloze(&exact)).faults("objective"), [""; 0]);
    }

    #[test]
    fn the_number_of_blanks_is_a_rounded_share_but_at_least_one_and_at_most_the_limit() {
        let cloze = cloze(FULL);
        let counts: Vec<_> = [1, 2, 7, 8, 12, 13, 100, 199, 200, 1000]
            .map(|len| cloze.masked_count(len))
            .into();
        assert_eq!(counts, [1, 1, 1, 2, 2, 3, 20, 40, 40, 40]);
        let all = Cloze {
            mask_prob: 1.0,
            max_masked: None,
            ..cloze
        };
        assert_eq!([1, 2, 300].map(|len| all.masked_count(len)), [1, 2, 300]);
        let half = Cloze {
            mask_prob: 0.5,
            ..all
        };
        assert_eq!([3, 5].map(|len| half.masked_count(len)), [2, 3]);
    }
}
