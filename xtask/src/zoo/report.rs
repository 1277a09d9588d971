//! Made-up reports of chest scans in Japanese: each finding is there or denied, and which of the two only its sentence says.

use serde::Deserialize;

use super::make::Draws;

/// Which reports to make.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reports {
    /// Reports.
    pub count: usize,
    /// What they are drawn from.
    pub seed: u64,
    /// Findings that a report speaks of, from and to, 18 at most; the others it passes over.
    pub findings: [usize; 2],
}

/// A report, and which findings there are.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// The report.
    pub text: String,
    /// The findings, with commas between, in the order of [`FINDINGS`].
    pub findings: String,
}

/// The 18 of CT-RATE, arXiv:2403.17834.
const FINDINGS: [&str; 18] = [
    "医療器具",
    "動脈壁石灰化",
    "心拡大",
    "心嚢水",
    "冠動脈石灰化",
    "食道裂孔ヘルニア",
    "リンパ節腫大",
    "肺気腫",
    "無気肺",
    "肺結節",
    "肺野濃度上昇",
    "線維化瘢痕",
    "胸水",
    "モザイク濃度",
    "気管支壁肥厚",
    "浸潤影",
    "気管支拡張",
    "小葉間隔壁肥厚",
];
const THERE: [&str; 4] = ["を認めます", "がみられます", "があります", "が疑われます"];
const DENIED: [&str; 4] = [
    "を認めません",
    "はみられません",
    "はありません",
    "は指摘できません",
];
/// Of no finding, some with words that deny.
const ASIDE: [&str; 4] = [
    "前回と比較して著変ありません",
    "骨に異常を認めません",
    "撮影は吸気で行われました",
    "経過観察をお勧めします",
];

impl Reports {
    /// The reports: sentences of one to three findings, all there or all denied, or of two of which one is and one is not.
    pub fn reports(&self) -> Vec<Report> {
        let mut draws = Draws(self.seed);
        let all = FINDINGS.len();
        let reports = (0..self.count).map(|_| {
            let mut order: Vec<usize> = (0..all).collect();
            draws.shuffle(&mut order);
            let [least, most] = self.findings.map(|findings| findings.min(all));
            order.truncate(least + draws.below(most.saturating_sub(least) + 1));
            let (mut sentences, mut there) = (Vec::new(), [false; FINDINGS.len()]);
            let mut rest = order.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at((1 + draws.below(3)).min(rest.len()));
                rest = later;
                let is_there = draws.below(2) == 0;
                let verdicts = |is_there: bool| if is_there { THERE } else { DENIED };
                let [first, second] = [is_there, !is_there].map(|is| verdicts(is)[draws.below(4)]);
                there[now[0]] = is_there;
                if let (&[a, b], 0) = (now, draws.below(2)) {
                    there[b] = !is_there;
                    sentences.push(format!(
                        "{}{first}が、{}{second}。",
                        FINDINGS[a], FINDINGS[b]
                    ));
                } else {
                    let names = now.iter().map(|&at| {
                        there[at] = is_there;
                        FINDINGS[at]
                    });
                    let names = names.collect::<Vec<_>>().join("、");
                    sentences.push(format!("{names}{first}。"));
                }
                if draws.below(4) == 0 {
                    sentences.push(format!("{}。", ASIDE[draws.below(4)]));
                }
            }
            let findings = (0..all).filter(|&at| there[at]).map(|at| FINDINGS[at]);
            let findings = findings.collect::<Vec<_>>().join(",");
            Report {
                text: sentences.concat(),
                findings,
            }
        });
        reports.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_there_where_its_sentence_says_so() {
        let make = |count, least| {
            Reports {
                count,
                seed: 5,
                findings: [least, 18],
            }
            .reports()
        };
        let reports = make(300, 6);
        assert_eq!(reports[..10], make(10, 6));
        let mut shares = [0, 0];
        for Report { text, findings } in &reports {
            let spoken = FINDINGS.iter().filter(|finding| text.contains(**finding));
            for finding in spoken {
                let (_, rest) = text.split_once(finding).unwrap();
                // The next verdict is its own.
                let first =
                    |verdicts: [&str; 4]| verdicts.iter().filter_map(|word| rest.find(word)).min();
                let is_there = first(THERE) < first(DENIED) && first(THERE).is_some()
                    || first(DENIED).is_none();
                assert_eq!(
                    is_there,
                    findings.split(',').any(|own| own == *finding),
                    "{text} {finding}"
                );
                shares[usize::from(is_there)] += 1;
            }
        }
        assert!(
            shares[0] * 5 > shares[1] * 4 && shares[1] * 5 > shares[0] * 4,
            "{shares:?}"
        );
        let full = make(20, 99);
        assert!(
            full.iter()
                .all(|report| FINDINGS.iter().all(|finding| report.text.contains(finding)))
        );
    }
}
