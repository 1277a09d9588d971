//! What a model would say after each layer, and how much each layer adds to what it says at last.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, activation};
use cloze_nn::{Hook, op};
use serde::Serialize;

use super::{Sequence, Site, Subject, floats};
use crate::Error;
use crate::metric::bootstrap::intervals;
use crate::metric::classification::largest;
use crate::report::analysis::{Curve, Part};
use crate::report::scores::Table;

/// Draws of places for an interval.
const DRAWS: u64 = 1000;
/// Words that are kept of what a model would say.
const TOP: usize = 3;
/// Places of a sequence that a page has columns for.
const COLUMNS: usize = 8;

/// What is said at some places of a sequence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lens {
    /// What the tokens are called, `T`.
    pub tokens: Vec<String>,
    /// The places looked at.
    pub places: Vec<Place>,
}

/// What is said at a place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// Which token.
    pub at: usize,
    /// The word that everything is about: the likeliest at last, unless one was named.
    pub word: String,
    /// Its probability at last.
    pub share: f64,
    /// What would be said from each state of the residual stream, in the order of the pass.
    pub stream: Vec<Said>,
    /// What each part of a layer adds, in the order of the pass.
    pub added: Vec<Added>,
}

/// What would be said from a state of the residual stream, read as if it were the last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Said {
    /// The site's name.
    pub site: String,
    /// How far its distribution is from the last one, `KL(last ‖ this)`, in nats.
    pub kl: f64,
    /// How many words are likelier than the word, plus 1.
    pub rank: usize,
    /// The word's log probability.
    pub log_prob: f64,
    /// The likeliest words and their probabilities.
    pub top: Vec<(String, f64)>,
}

/// What a part of a layer adds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Added {
    /// The site's name.
    pub site: String,
    /// By how much the word's log probability at last is less without what the part adds to any token, in nats.
    pub log_prob: f64,
}

impl Lens {
    /// Looks at the places that are to be filled, or else at all tokens; of a history at where the next item is foretold. With
    /// `word` at how likely that is, whatever is likeliest.
    ///
    /// # Errors
    /// If the sequence does not fit the model, the model does not name tokens, or `word` is not one of them.
    pub fn of(subject: &Subject, sequence: &Sequence, word: Option<&str>) -> Result<Self, Error> {
        subject.names_words()?;
        let word = word.map(|word| subject.word(word)).transpose()?;
        let places = subject.asked(sequence);
        let rows = places.iter().map(|&at| at as u32).collect();
        let batch = subject.batch(sequence);
        let mut stream: BTreeMap<usize, (Site, Tensor<2>)> = BTreeMap::new();
        let mut see = |site, x: Tensor<2>| {
            if matches!(site, Site::Embedding | Site::Middle(_) | Site::Layer(_)) {
                stream.insert(stream.len(), (site, op::select_rows(x.clone(), &rows)));
            }
            x
        };
        subject.pass(&batch, &mut Hook::new(&mut see))?;
        let (_, (_, last)) = stream.last_key_value().expect("a stack has a state");
        let last = subject.log_probs(last.clone());
        let vocab = last.len() / places.len().max(1);
        let words: Vec<usize> = last
            .chunks(vocab)
            .map(|row| word.unwrap_or_else(|| largest(row)))
            .collect();
        let mut all: Vec<Place> = places
            .iter()
            .zip(last.chunks(vocab).zip(&words))
            .map(|(&at, (row, &word))| Place {
                at,
                word: subject.name(word as u32),
                share: row[word].exp(),
                stream: Vec::new(),
                added: Vec::new(),
            })
            .collect();
        for (site, x) in stream.into_values() {
            let found = subject.log_probs(x);
            let rows = found.chunks(vocab).zip(last.chunks(vocab));
            for ((place, (own, last)), &word) in all.iter_mut().zip(rows).zip(&words) {
                place.stream.push(said(subject, site, own, last, word));
            }
        }
        for layer in 0..subject.layers() {
            for part in [Site::Mixer, Site::Ffn] {
                let site = part(layer);
                let mut is_there = false;
                let mut end = None;
                let mut see = |found, mut x: Tensor<2>| {
                    if found == site {
                        is_there = true;
                        x = x.zeros_like();
                    }
                    if found == Site::Layer(subject.layers() - 1) {
                        end = Some(op::select_rows(x.clone(), &rows));
                    }
                    x
                };
                subject.pass(&batch, &mut Hook::new(&mut see))?;
                let end = end.expect("the last layer is passed");
                if !is_there {
                    continue;
                }
                let found = subject.log_probs(end);
                let each = found.chunks(vocab).zip(last.chunks(vocab)).zip(&words);
                for (place, ((own, last), &word)) in all.iter_mut().zip(each) {
                    place.added.push(Added {
                        site: site.to_string(),
                        log_prob: last[word] - own[word],
                    });
                }
            }
        }
        Ok(Self {
            tokens: sequence.names.clone(),
            places: all,
        })
    }

    /// What would be said along the layers: a row a site, a column a place, as many as a page has room for.
    fn table(&self) -> Option<Table> {
        let places = &self.places[..self.places.len().min(COLUMNS)];
        let first = places.first()?;
        let mut header = vec!["site".to_owned()];
        header.extend(
            places
                .iter()
                .map(|place| format!("{} ({})", self.tokens[place.at], place.at)),
        );
        let rows = (0..first.stream.len()).map(|step| {
            let said = places.iter().map(|place| {
                let (word, share) = &place.stream[step].top[0];
                format!("{word} {share:.2}")
            });
            std::iter::once(first.stream[step].site.clone())
                .chain(said)
                .collect()
        });
        Some(Table {
            title: "What would be said after each part".to_owned(),
            header,
            rows: rows.collect(),
            leads: false,
        })
    }
}

fn said(subject: &Subject, site: Site, own: &[f64], last: &[f64], word: usize) -> Said {
    let kl = last
        .iter()
        .zip(own)
        .map(|(last, own)| last.exp() * (last - own));
    Said {
        site: site.to_string(),
        kl: kl.sum(),
        rank: 1 + own.iter().filter(|&&other| other > own[word]).count(),
        log_prob: own[word],
        top: subject.likeliest(own, TOP),
    }
}

/// What the places of several sequences have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Depth {
    /// Places looked at.
    pub places: usize,
    /// Each state of the residual stream, in the order of the pass.
    pub stream: Vec<DepthSaid>,
    /// Each part of a layer, in the order of the pass.
    pub added: Vec<DepthAdded>,
    /// The share of steps from a layer to the next at which what would be said comes nearer to what is said at last.
    pub nearer: f64,
}

/// A mean over places.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DepthSaid {
    /// The site's name.
    pub site: String,
    /// Mean distance from the last distribution, in nats.
    pub kl: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The share of places where the likeliest word is the one at last.
    pub agrees: f64,
    /// Mean of one over the rank of the word.
    pub reciprocal_rank: f64,
}

/// A mean over places.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DepthAdded {
    /// The site's name.
    pub site: String,
    /// Mean of what the part adds to the word's log probability, in nats.
    pub log_prob: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Depth {
    /// Of all places of some sequences; none without any.
    pub fn of<'a>(all: impl Iterator<Item = &'a Lens>) -> Option<Self> {
        let places: Vec<&Place> = all.flat_map(|lens| &lens.places).collect();
        let first = places.first()?;
        let count = places.len();
        let mean = |of: &dyn Fn(&Place) -> f64| {
            let values: Vec<f64> = places.iter().map(|place| of(place)).collect();
            let average = |places: &mut dyn Iterator<Item = f64>, count: usize| {
                places.sum::<f64>() / count as f64
            };
            let ends = intervals(count, DRAWS, 0, |draw| {
                vec![average(&mut draw.iter().map(|&at| values[at]), count)]
            });
            let (low, high) = ends[0].unwrap_or((f64::NAN, f64::NAN));
            (average(&mut values.iter().copied(), count), low, high)
        };
        let stream = (0..first.stream.len()).map(|step| {
            let (kl, low, high) = mean(&|place| place.stream[step].kl);
            DepthSaid {
                site: first.stream[step].site.clone(),
                kl,
                low,
                high,
                agrees: mean(&|place| {
                    let last = place.stream.last().expect("a last state");
                    f64::from(place.stream[step].top[0].0 == last.top[0].0)
                })
                .0,
                reciprocal_rank: mean(&|place| 1.0 / place.stream[step].rank as f64).0,
            }
        });
        let added = (0..first.added.len()).map(|step| {
            let (log_prob, low, high) = mean(&|place| place.added[step].log_prob);
            DepthAdded {
                site: first.added[step].site.clone(),
                log_prob,
                low,
                high,
            }
        });
        let layers = |place: &Place| -> Vec<f64> {
            let after =
                |said: &&Said| matches!(said.site.parse(), Ok(Site::Embedding | Site::Layer(_)));
            place
                .stream
                .iter()
                .filter(after)
                .map(|said| said.kl)
                .collect()
        };
        let steps: Vec<bool> = places
            .iter()
            .flat_map(|place| {
                let kl = layers(place);
                kl.windows(2)
                    .map(|pair| pair[1] < pair[0])
                    .collect::<Vec<_>>()
            })
            .collect();
        Some(Self {
            places: count,
            stream: stream.collect(),
            added: added.collect(),
            nearer: steps.iter().filter(|nearer| **nearer).count() as f64
                / steps.len().max(1) as f64,
        })
    }

    /// Two tables: what would be said, and what is added.
    pub fn tables(&self) -> [(Vec<&'static str>, Vec<Vec<String>>); 2] {
        let four = |value: f64| format!("{value:.4}");
        let stream = self.stream.iter().map(|of| {
            let mut row = vec![of.site.clone()];
            row.extend([of.kl, of.low, of.high, of.agrees, of.reciprocal_rank].map(four));
            row
        });
        let added = self.added.iter().map(|of| {
            let mut row = vec![of.site.clone()];
            row.extend([of.log_prob, of.low, of.high].map(four));
            row
        });
        [
            (
                vec!["site", "kl", "low", "high", "agrees", "1/rank"],
                stream.collect(),
            ),
            (vec!["without", "costs", "low", "high"], added.collect()),
        ]
    }

    /// What must be known to read the numbers.
    pub fn notes(&self) -> Vec<String> {
        vec![
            format!(
                "places: {}, over which all are means; low and high: 95 % by bootstrap over places, {DRAWS} draws",
                self.places
            ),
            format!(
                "kl: how far what would be said, the stream read as if it were the last, is from what is said at last, in nats; it falls at {:.0} % of the steps from layer to layer. agrees: how often the likeliest word is the last one. 1/rank: of the word",
                100.0 * self.nearer
            ),
            "costs: by how much the word's log probability at last is less where what the part adds is set to 0 for every token".to_owned(),
        ]
    }

    /// The same for a page, with what would be said in each of `all`, which have these headings.
    pub fn parts(&self, all: &[(String, Lens)]) -> Vec<Part> {
        let of_layers = |of: fn(&DepthSaid) -> f64| {
            let layers = self
                .stream
                .iter()
                .filter(|said| matches!(said.site.parse(), Ok(Site::Layer(_))));
            layers.map(of).collect()
        };
        let curve = |title: &str, unit: &str, values: Vec<f64>, is_gain| Curve {
            title: title.to_owned(),
            unit: unit.to_owned(),
            values,
            mark: None,
            is_gain,
        };
        let mut parts = vec![Part::Curves(vec![
            curve(
                "Distance from what is said at last",
                "nats, after each layer",
                of_layers(|said| said.kl),
                false,
            ),
            curve(
                "The likeliest word is the last one",
                "share of places",
                of_layers(|said| said.agrees),
                true,
            ),
        ])];
        for (heading, lens) in all {
            let Some(table) = lens.table() else { continue };
            parts.push(Part::Heading(heading.clone()));
            let words = lens.places.iter().take(COLUMNS).map(|place| {
                let mut added: Vec<&Added> = place.added.iter().collect();
                added.sort_by(|a, b| b.log_prob.total_cmp(&a.log_prob));
                let most = added
                    .iter()
                    .take(3)
                    .map(|of| format!("{} {:+.2}", of.site, of.log_prob));
                format!(
                    "{} at {}, probability {:.3}; most is added by {}",
                    place.word,
                    place.at,
                    place.share,
                    most.collect::<Vec<_>>().join(", ")
                )
            });
            parts.push(Part::Table(table, words.collect()));
        }
        let titles = [
            "What would be said, over all places",
            "What each part adds to the word's log probability",
        ];
        for ((title, (header, rows)), is_first) in
            titles.into_iter().zip(self.tables()).zip([true, false])
        {
            let table = Table {
                title: title.to_owned(),
                header: header.into_iter().map(str::to_owned).collect(),
                rows,
                leads: false,
            };
            parts.push(Part::Table(
                table,
                if is_first { self.notes() } else { Vec::new() },
            ));
        }
        parts
    }
}

impl Subject {
    /// Log probabilities of all words, of the residual stream read as if it were the last: `[M, D]` → `[M, V]`, row after row.
    pub(super) fn log_probs(&self, x: Tensor<2>) -> Vec<f64> {
        let scores = activation::log_softmax(self.scores(x), 1);
        floats(scores).into_iter().map(f64::from).collect()
    }

    /// The likeliest words of a row of log probabilities, and their probabilities; of equals the first.
    pub(super) fn likeliest(&self, row: &[f64], most: usize) -> Vec<(String, f64)> {
        let mut order: Vec<usize> = (0..row.len()).collect();
        let by_share = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
        if most < order.len() {
            order.select_nth_unstable_by(most, by_share);
            order.truncate(most);
        }
        order.sort_unstable_by(by_share);
        let named = order
            .into_iter()
            .map(|id| (self.name(id as u32), row[id].exp()));
        named.collect()
    }
}
