//! What the codes of a model stand for, and what it says if some are set.

use std::collections::{BTreeMap, BTreeSet};

use cloze_data::text::examples::TextPlan;
use cloze_nn::{Hook, op};
use cloze_spec::text::{Objective, Texts};
use rayon::prelude::*;
use serde::Serialize;

use super::probe::{Asked, Of, vectors};
use super::{Sequence, Site, Subject, breadth, titled};
use crate::Error;
use crate::metric::counts::Counts;
use crate::report::analysis::Part;

/// Tokens shown before and after one at which a code is chosen.
const AROUND: usize = 4;
/// Tokens that are named of a code.
const TOKENS: usize = 5;
/// Places that are shown of a code.
const PLACES: usize = 3;

/// What the codes of a model are chosen for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Codes {
    /// Tokens looked at.
    pub tokens: usize,
    /// The share of all codes that were chosen at all.
    pub share_used: f64,
    /// The sites that have codes.
    pub sites: Vec<SiteCodes>,
}

/// The codes of a site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteCodes {
    /// The site's name.
    pub site: String,
    /// How many codes it has.
    pub codes: usize,
    /// How many were chosen at all.
    pub used: usize,
    /// How many would be if all were chosen alike: exp of the entropy.
    pub breadth: f64,
    /// Those that were chosen, the most often first.
    pub chosen: Vec<Code>,
}

/// What a code is chosen for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Code {
    /// Its number; of several groups, codes of the first come first.
    pub code: usize,
    /// How often it was chosen.
    pub count: usize,
    /// The tokens it was chosen at, the most frequent first, and how often.
    pub tokens: Vec<(String, usize)>,
    /// Some places: what stands before, the token, what stands after.
    pub places: Vec<[String; 3]>,
}

impl Codes {
    /// Looks at sequences.
    ///
    /// # Errors
    /// If the model has no codes, or a sequence does not fit it.
    pub fn of(subject: &Subject, sequences: &[Sequence]) -> Result<Self, Error> {
        let sizes = sizes(subject)?;
        let mut all: BTreeMap<Site, BTreeMap<u32, Vec<(usize, usize)>>> = BTreeMap::new();
        for (at, sequence) in sequences.iter().enumerate() {
            for (site, (each, chosen)) in chosen(subject, &subject.batch(sequence))? {
                let of_site = all.entry(site).or_default();
                for (token, codes) in chosen.chunks(each).enumerate() {
                    for &code in codes {
                        of_site.entry(code).or_default().push((at, token));
                    }
                }
            }
        }
        let code = |(code, places): (&u32, &Vec<(usize, usize)>)| {
            let mut tokens: BTreeMap<&str, usize> = BTreeMap::new();
            for &(at, token) in places {
                *tokens.entry(&sequences[at].names[token]).or_default() += 1;
            }
            let mut tokens: Vec<(String, usize)> = tokens
                .into_iter()
                .map(|(token, count)| (token.to_owned(), count))
                .collect();
            tokens.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            tokens.truncate(TOKENS);
            // From all over the sequences.
            let step = places.len().div_ceil(PLACES);
            let shown = places.iter().step_by(step).map(|&(at, token)| {
                let names = &sequences[at].names;
                let (from, to) = (
                    token.saturating_sub(AROUND),
                    (token + 1 + AROUND).min(names.len()),
                );
                [
                    names[from..token].join(" "),
                    names[token].clone(),
                    names[token + 1..to].join(" "),
                ]
            });
            Code {
                code: *code as usize,
                count: places.len(),
                tokens,
                places: shown.collect(),
            }
        };
        let sites = sizes.into_iter().map(|(site, [groups, codes])| {
            let none = BTreeMap::new();
            let of_site = all.get(&site).unwrap_or(&none);
            let mut chosen: Vec<Code> = of_site.iter().map(code).collect();
            chosen.sort_by(|a, b| b.count.cmp(&a.count).then(a.code.cmp(&b.code)));
            let total = chosen.iter().map(|code| code.count).sum::<usize>() as f64;
            let shares = chosen.iter().map(|code| code.count as f64 / total);
            SiteCodes {
                site: site.to_string(),
                codes: groups * codes,
                used: chosen.len(),
                breadth: breadth(shares),
                chosen,
            }
        });
        let sites: Vec<SiteCodes> = sites.collect();
        let sum = |of: fn(&SiteCodes) -> usize| sites.iter().map(of).sum::<usize>() as f64;
        Ok(Self {
            share_used: sum(|site| site.used) / sum(|site| site.codes),
            tokens: sequences.iter().map(|sequence| sequence.ids.len()).sum(),
            sites,
        })
    }

    /// A row for each site.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let rows = self.sites.iter().map(|site| {
            let share = site.used as f64 / site.codes as f64;
            vec![
                site.site.clone(),
                site.codes.to_string(),
                site.used.to_string(),
                format!("{share:.3}"),
                format!("{:.1}", site.breadth),
            ]
        });
        (
            vec!["site", "codes", "used", "share", "breadth"],
            rows.collect(),
        )
    }

    /// A row for each of the `most` most frequent codes of each site, or of `site` alone, or for `code` alone.
    pub fn tops(
        &self,
        site: Option<Site>,
        code: Option<usize>,
        most: usize,
    ) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let wanted = |of: &&SiteCodes| site.is_none_or(|site| site.to_string() == of.site);
        let sites = self.sites.iter().filter(wanted);
        let rows = sites.flat_map(|of| {
            let chosen = of
                .chosen
                .iter()
                .filter(|own| code.is_none_or(|code| code == own.code));
            chosen.take(most).map(|own| {
                let tokens = own
                    .tokens
                    .iter()
                    .map(|(token, count)| format!("{token} {count}"));
                let place = own
                    .places
                    .first()
                    .map(|[before, token, after]| format!("{before} [{token}] {after}"));
                vec![
                    of.site.clone(),
                    own.code.to_string(),
                    own.count.to_string(),
                    tokens.collect::<Vec<_>>().join(", "),
                    place.unwrap_or_default(),
                ]
            })
        });
        (
            vec!["site", "code", "chosen", "at tokens", "such as"],
            rows.collect(),
        )
    }

    /// The same for a page.
    pub fn parts(&self, tops: (Vec<&'static str>, Vec<Vec<String>>)) -> Vec<Part> {
        let note = "Breadth: as many codes would be chosen if all were alike, exp of the entropy. What a code is chosen for is shown with the tokens around.";
        vec![
            Part::Table(titled("Codes in use", self.table()), vec![note.to_owned()]),
            Part::Table(titled("What codes are chosen for", tops), Vec::new()),
        ]
    }
}

pub(super) fn sizes(subject: &Subject) -> Result<Vec<(Site, [usize; 2])>, Error> {
    let sizes = subject.codebooks();
    if sizes.is_empty() {
        return Err(Error::Asked(
            "expected a model that speaks in codes, found one without; train one with model.stack.codebook, or of texts with \
             model.config.codebook"
                .to_owned(),
        ));
    }
    Ok(sizes)
}

/// The codes chosen at each site, so many of each token, token after token.
fn chosen(
    subject: &Subject,
    batch: &cloze_runtime::Batch,
) -> Result<BTreeMap<Site, (usize, Vec<u32>)>, Error> {
    let mut all = BTreeMap::new();
    let mut see = |_, x| x;
    let mut note = |site, each, chosen: Vec<u32>| {
        all.insert(site, (each, chosen.clone()));
        chosen
    };
    subject.pass(batch, &mut Hook::new(&mut see).with_codes(&mut note))?;
    Ok(all)
}

/// What tells a label, of codes and of single channels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detectors {
    /// Texts or words that detectors are found by.
    pub train: usize,
    /// Texts or words that they are judged by.
    pub test: usize,
    /// One for each label that both parts have.
    pub labels: Vec<Detected>,
    /// Mean F1 of the codes; none without codes.
    pub code_f1: Option<f64>,
    /// Mean F1 of the channels.
    pub channel_f1: f64,
}

/// What tells a label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detected {
    /// The label.
    pub label: String,
    /// Texts or words of the test part that are of it.
    pub support: u64,
    /// The code that tells it best in the training part; none without codes.
    pub code: Option<Detector>,
    /// The channel of a site that does, above or below a number.
    pub channel: Detector,
}

/// What tells a label, and how well in the test part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detector {
    /// Which it is.
    pub what: String,
    /// Share of what it tells that is of the label.
    pub precision: f64,
    /// Share of the label that it tells.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

impl Detector {
    fn new(what: String, counts: Counts) -> Self {
        let prf = counts.prf();
        Self {
            what,
            precision: prf.precision,
            recall: prf.recall,
            f1: prf.f1,
        }
    }
}

/// What stands outside of all stretches, in files of words: no label to tell.
const OUTSIDE: &str = "O";

impl Detectors {
    /// Finds them: a text has a code if one of its tokens has, and the mean of its tokens' channels; a word those of its first
    /// token. The label `O` is left out.
    ///
    /// # Errors
    /// As of probes, and if the labels are numbers.
    pub fn of(
        subject: &Subject,
        texts: &Texts,
        objective: &Objective,
        seed: u64,
    ) -> Result<Self, Error> {
        let asked = Asked::read(subject, texts, objective, seed)?;
        let [train, test] = asked.truth.each_ref().map(|truth| match &truth.kind {
            Of::Classes(classes) => Ok(classes),
            Of::Numbers(_) => Err(Error::Asked(
                "expected labels that a code could tell, found numbers".to_owned(),
            )),
        });
        let (train, test) = (train?, test?);
        let labels: Vec<u32> = (0..asked.labels.len() as u32)
            .filter(|&label| asked.labels[label as usize] != OUTSIDE)
            .filter(|label| train.contains(label) && test.contains(label))
            .collect();
        let has_codes = !subject.codebooks().is_empty();
        let by_code = if has_codes {
            let [own, held] = asked.plans.each_ref().map(|plan| holders(subject, plan));
            let (own, held) = (own?, held?);
            let of = labels
                .par_iter()
                .map(|&label| best_code(&own, &held, train, test, label));
            of.map(Some).collect()
        } else {
            vec![None; labels.len()]
        };
        let channels = best_channels(subject, &asked, train, test, &labels)?;
        let each = labels.iter().zip(by_code.into_iter().zip(channels));
        let labels: Vec<Detected> = each
            .map(|(&label, (code, channel))| Detected {
                label: asked.labels[label as usize].clone(),
                support: test.iter().filter(|&&own| own == label).count() as u64,
                code,
                channel,
            })
            .collect();
        let mean = |of: &dyn Fn(&Detected) -> f64| {
            labels.iter().map(of).sum::<f64>() / labels.len().max(1) as f64
        };
        Ok(Self {
            train: train.len(),
            test: test.len(),
            code_f1: has_codes.then(|| mean(&|own| own.code.as_ref().map_or(0.0, |code| code.f1))),
            channel_f1: mean(&|own| own.channel.f1),
            labels,
        })
    }

    /// A row for each label.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let three = |value: f64| format!("{value:.3}");
        let cells = |found: &Detector| {
            let numbers = [found.precision, found.recall, found.f1].map(three);
            std::iter::once(found.what.clone()).chain(numbers)
        };
        let rows = self.labels.iter().map(|own| {
            let mut row = vec![own.label.clone(), own.support.to_string()];
            row.extend(own.code.iter().flat_map(&cells));
            row.extend(cells(&own.channel));
            row
        });
        let mut header = vec!["label", "support"];
        if self.code_f1.is_some() {
            header.extend(["code", "precision", "recall", "f1"]);
        }
        header.extend(["channel", "precision", "recall", "f1"]);
        (header, rows.collect())
    }

    /// What must be known to read the numbers.
    pub fn notes(&self) -> Vec<String> {
        let means = match self.code_f1 {
            Some(code) => format!(
                "mean F1 {code:.4} of codes, {:.4} of channels",
                self.channel_f1
            ),
            None => format!(
                "mean F1 {:.4} of channels; the model has no codes",
                self.channel_f1
            ),
        };
        vec![format!(
            "{means}; each found by {} texts or words, and judged by {} others",
            self.train, self.test
        )]
    }

    /// The same for a page.
    pub fn part(&self) -> Part {
        Part::Table(titled("What tells each label", self.table()), self.notes())
    }
}

/// Which texts or words have each code, rising.
type Holders = BTreeMap<(Site, u32), Vec<usize>>;

fn holders(subject: &Subject, plan: &TextPlan) -> Result<Holders, Error> {
    let mut all = Holders::new();
    let mut first = 0;
    for at in 0..plan.len() {
        let (batch, rows) = subject.text_batch(plan.build(at));
        let count = rows.as_ref().map_or(batch.len(), Vec::len);
        for (site, (each, chosen)) in chosen(subject, &batch)? {
            let of = |token: usize| &chosen[token * each..(token + 1) * each];
            for own in 0..count {
                let codes: BTreeSet<u32> = match &rows {
                    Some(rows) => of(rows[own] as usize).iter().copied().collect(),
                    None => batch.range(own).flat_map(of).copied().collect(),
                };
                for code in codes {
                    all.entry((site, code)).or_default().push(first + own);
                }
            }
        }
        first += count;
    }
    Ok(all)
}

fn counts(holders: &[usize], classes: &[u32], label: u32) -> Counts {
    Counts {
        hits: holders.iter().filter(|&&at| classes[at] == label).count() as u64,
        predicted: holders.len() as u64,
        support: classes.iter().filter(|&&class| class == label).count() as u64,
    }
}

/// The first of the best in the training part.
fn best_code(own: &Holders, held: &Holders, train: &[u32], test: &[u32], label: u32) -> Detector {
    let mut best: Option<(f64, (Site, u32))> = None;
    for (&code, holders) in own {
        let f1 = counts(holders, train, label).prf().f1;
        if best.is_none_or(|(most, _)| f1 > most) {
            best = Some((f1, code));
        }
    }
    let Some((_, (site, code))) = best else {
        return Detector::new("none".to_owned(), Counts::default());
    };
    let holders = held.get(&(site, code)).map_or(&[][..], Vec::as_slice);
    Detector::new(format!("{site} {code}"), counts(holders, test, label))
}

/// Of each label the channel that tells it best in the training part, at any site, above or below a number.
fn best_channels(
    subject: &Subject,
    asked: &Asked,
    train: &[u32],
    test: &[u32],
    labels: &[u32],
) -> Result<Vec<Detector>, Error> {
    let width = subject.width();
    let of = [Site::Mixer, Site::Ffn, Site::Layer];
    let sites = (0..subject.layers()).flat_map(|layer| of.map(|site| site(layer)));
    let mut best: Vec<Option<Cut>> = vec![None; labels.len()];
    // One site after the other, so that not all vectors are in memory.
    for site in sites {
        let own = vectors(subject, &asked.plans[0], &[site])?;
        let Some(own) = own.get(&site) else { continue };
        let found: Vec<Vec<Cut>> = (0..width)
            .into_par_iter()
            .map(|channel| {
                let values: Vec<f32> = own.iter().skip(channel).step_by(width).copied().collect();
                cuts(site, channel, &values, train, labels)
            })
            .collect();
        for cuts in found {
            for (best, cut) in best.iter_mut().zip(cuts) {
                if best.is_none_or(|best| cut.f1 > best.f1) {
                    *best = Some(cut);
                }
            }
        }
    }
    let wanted: BTreeSet<Site> = best.iter().flatten().map(|cut| cut.site).collect();
    let wanted: Vec<Site> = wanted.into_iter().collect();
    let held = vectors(subject, &asked.plans[1], &wanted)?;
    let each = labels.iter().zip(best).map(|(&label, cut)| {
        let cut = cut.expect("a stack has a channel");
        let values = held[&cut.site].iter().skip(cut.channel).step_by(width);
        let holders: Vec<usize> = values
            .enumerate()
            .filter(|(_, value)| cut.tells(**value))
            .map(|(at, _)| at)
            .collect();
        let sign = if cut.is_above { ">" } else { "<" };
        let what = format!("{} {} {sign} {:.3}", cut.site, cut.channel, cut.at);
        Detector::new(what, counts(&holders, test, label))
    });
    Ok(each.collect())
}

/// A channel and a number that it is above or below of.
#[derive(Clone, Copy)]
struct Cut {
    site: Site,
    channel: usize,
    at: f32,
    is_above: bool,
    f1: f64,
}

impl Cut {
    fn tells(&self, value: f32) -> bool {
        if self.is_above {
            value > self.at
        } else {
            value < self.at
        }
    }
}

/// The best cut of a channel for each label.
fn cuts(site: Site, channel: usize, values: &[f32], classes: &[u32], labels: &[u32]) -> Vec<Cut> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[b].total_cmp(&values[a]));
    let each = labels.iter().map(|&label| {
        let support = classes.iter().filter(|&&class| class == label).count() as f64;
        let mut best = Cut {
            site,
            channel,
            at: f32::INFINITY,
            is_above: true,
            f1: 0.0,
        };
        let (mut hits, count) = (0.0, values.len() as f64);
        for (before, pair) in order.windows(2).enumerate() {
            hits += f64::from(u8::from(classes[pair[0]] == label));
            let (high, low) = (values[pair[0]], values[pair[1]]);
            if high <= low {
                continue;
            }
            let taken = before as f64 + 1.0;
            let sides = [(true, hits, taken), (false, support - hits, count - taken)];
            for (is_above, hits, predicted) in sides {
                let f1 = 2.0 * hits / (predicted + support);
                if f1 > best.f1 {
                    let at = f32::midpoint(high, low);
                    // Of neighbouring numbers the middle may be one of them.
                    let at = if at >= high { low } else { at };
                    best = Cut {
                        at,
                        is_above,
                        f1,
                        ..best
                    };
                }
            }
        }
        best
    });
    each.collect()
}

/// A code that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// Where.
    pub site: Site,
    /// At which token; at all if none.
    pub at: Option<usize>,
    /// The code's number.
    pub code: u32,
}

/// What a model says as it is, and with codes set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Steered {
    /// The places asked about.
    pub places: Vec<SteeredPlace>,
}

/// What is said at a place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SteeredPlace {
    /// What the token is called.
    pub token: String,
    /// Which it is.
    pub at: usize,
    /// How far both distributions are apart, by Jensen and Shannon, in nats: 0 to ln 2.
    pub divergence: f64,
    /// The likeliest words as it is, and their probabilities.
    pub before: Vec<(String, f64)>,
    /// The same with the codes set.
    pub after: Vec<(String, f64)>,
}

impl Steered {
    /// Asks twice.
    ///
    /// # Errors
    /// If the model has no codes or does not name words, a code is none of its site, or the sequence does not fit the model.
    pub fn of(
        subject: &Subject,
        sequence: &Sequence,
        sets: &[Set],
        top: usize,
    ) -> Result<Self, Error> {
        subject.names_words()?;
        let sizes: BTreeMap<Site, [usize; 2]> = sizes(subject)?.into_iter().collect();
        for set in sets {
            let Some([groups, codes]) = sizes.get(&set.site) else {
                let sites: Vec<String> = sizes.keys().map(Site::to_string).collect();
                return Err(Error::Asked(format!(
                    "expected a site that has codes ({}), found {}",
                    sites.join(", "),
                    set.site
                )));
            };
            if set.code as usize >= groups * codes {
                return Err(Error::Asked(format!(
                    "{}: expected a code below {}, found {}",
                    set.site,
                    groups * codes,
                    set.code
                )));
            }
            if set.at.is_some_and(|at| at >= sequence.ids.len()) {
                return Err(Error::Asked(format!(
                    "{}: expected one of the {} tokens, from 0, found {}",
                    set.site,
                    sequence.ids.len(),
                    set.at.unwrap_or_default()
                )));
            }
        }
        let places = subject.asked(sequence);
        let rows = places.iter().map(|&at| at as u32).collect();
        let batch = subject.batch(sequence);
        let last = Site::Layer(subject.layers() - 1);
        let ask = |sets: &[Set]| {
            let mut end = None;
            let mut see = |site, x: burn::tensor::Tensor<2>| {
                if site == last {
                    end = Some(op::select_rows(x.clone(), &rows));
                }
                x
            };
            let mut choose = |site, each: usize, mut chosen: Vec<u32>| {
                for set in sets.iter().filter(|set| set.site == site) {
                    let [groups, codes] = sizes[&site];
                    let (k, group) = (each / groups, set.code as usize / codes);
                    for (at, own) in chosen.chunks_mut(each).enumerate() {
                        let own = &mut own[group * k..(group + 1) * k];
                        if set.at.is_none_or(|wanted| wanted == at) && !own.contains(&set.code) {
                            own[0] = set.code;
                        }
                    }
                }
                chosen
            };
            subject.pass(&batch, &mut Hook::new(&mut see).with_codes(&mut choose))?;
            Ok::<_, Error>(subject.log_probs(end.expect("the last layer is passed")))
        };
        let (before, after) = (ask(&[])?, ask(sets)?);
        let vocab = before.len() / places.len().max(1);
        let rows = before.chunks(vocab).zip(after.chunks(vocab));
        let places = places
            .into_iter()
            .zip(rows)
            .map(|(at, (before, after))| SteeredPlace {
                token: sequence.names[at].clone(),
                at,
                divergence: divergence(before, after),
                before: subject.likeliest(before, top),
                after: subject.likeliest(after, top),
            });
        Ok(Self {
            places: places.collect(),
        })
    }

    /// A row for each place.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let said = |words: &[(String, f64)]| {
            let words = words
                .iter()
                .map(|(word, share)| format!("{word} {share:.2}"));
            words.collect::<Vec<_>>().join("  ")
        };
        let rows = self.places.iter().map(|place| {
            vec![
                format!("{} at {}", place.token, place.at),
                format!("{:.4}", place.divergence),
                said(&place.before),
                said(&place.after),
            ]
        });
        (
            vec!["place", "divergence", "says", "with the codes set"],
            rows.collect(),
        )
    }

    /// The same for a page.
    pub fn part(&self) -> Part {
        let note = "Divergence: by Jensen and Shannon, in nats, from 0 to ln 2.";
        Part::Table(
            titled("What is said with codes set", self.table()),
            vec![note.to_owned()],
        )
    }
}

/// Of two rows of log probabilities.
pub(super) fn divergence(a: &[f64], b: &[f64]) -> f64 {
    let half = a.iter().zip(b).map(|(&a, &b)| {
        let middle = f64::midpoint(a.exp(), b.exp());
        if middle == 0.0 {
            return 0.0;
        }
        let to = |log: f64| {
            if log.exp() > 0.0 {
                log.exp() * (log - middle.ln())
            } else {
                0.0
            }
        };
        f64::midpoint(to(a), to(b))
    });
    half.sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_tells_what_is_above_or_below_it() {
        let values = [0.5, 3.0, -1.0, 2.0, 0.5, -2.0];
        let classes = [0, 1, 2, 1, 0, 2];
        let found = cuts(Site::Layer(0), 4, &values, &classes, &[0, 1, 2]);
        // The middle class is told by no one cut.
        assert!(found[0].f1 < 1.0);
        for (label, cut) in [(1, found[1]), (2, found[2])] {
            assert!((cut.f1 - 1.0).abs() < 1e-12);
            let told: Vec<bool> = values.iter().map(|&value| cut.tells(value)).collect();
            assert_eq!(told, classes.map(|class| class == label));
        }
        assert!(found[1].is_above && !found[2].is_above);
    }

    #[test]
    fn divergence_is_none_of_equals_and_ln_2_of_what_has_nothing_in_common() {
        let a = [1.0_f64, 0.0].map(f64::ln);
        let b = [0.0_f64, 1.0].map(f64::ln);
        assert_eq!(divergence(&a, &a).to_bits(), 0);
        assert!((divergence(&a, &b) - std::f64::consts::LN_2).abs() < 1e-12);
    }
}
