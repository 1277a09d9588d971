//! What makes one vector of a text's states where a family's own way is not enough.

use serde::{Deserialize, Serialize};

use super::Columns;
use crate::Faults;

/// What makes one vector of a text's states, before the head.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Readout {
    /// Columns beside the text say which of its words matter: each value is a vector, which attends to the text's states.
    Columns(ColumnReadout),
    /// The texts of a pair are read word by word, in both directions, and compared.
    Recurrent(RecurrentReadout),
}

/// Layers of attention from columns to words, each with a feed-forward part; the mean over the columns is the text's vector.
///
/// # Source
/// Niimi, 2024, arXiv:2405.07435: a context model beside a text model, joined by cross-attention. A vector a value as in
/// Gorishniy et al., Revisiting Deep Learning Models for Tabular Data, `NeurIPS` 2021, arXiv:2106.11959, §3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnReadout {
    /// Layers, as wide as the encoder.
    pub layers: usize,
    /// Heads of each attention.
    pub heads: usize,
}

/// A network with long short-term memory reads the states of each text of a pair from both ends, the same one both texts; attention
/// makes one vector of each, `r`, and a map one of `[r₁, r₂, |r₁ − r₂|]`.
///
/// # Source
/// Moravvej et al., 2023, arXiv:2305.02374; the network as of Hochreiter and Schmidhuber, Neural Computation 9(8), 1997, with the
/// forget gate of Gers et al., 2000.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecurrentReadout {
    /// Width of the network, in each direction.
    pub width: usize,
    /// Search for where to begin to learn; none: one draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Evolution>,
}

/// A search for where to begin: candidates for all new parameters are crossed and moved by differences between each other, and the
/// best stay. None is worse than where learning would have begun without.
///
/// # Source
/// Storn and Price, Differential Evolution, Journal of Global Optimization 11, 1997; clusters as in Moravvej et al., 2023,
/// arXiv:2305.02374.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evolution {
    /// Candidates.
    pub population: usize,
    /// Times that as many new ones are made.
    pub generations: usize,
    /// What a difference counts.
    pub step: f64,
    /// Chance of a value to come from the moved candidate.
    pub crossover: f64,
}

/// Columns beside texts, as the training part has them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The columns, in order.
    pub columns: Vec<TableColumn>,
}

/// A column beside texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableColumn {
    /// What it is called in files.
    pub name: String,
    /// What its values are.
    pub values: TableValues,
}

/// What the values of a column are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TableValues {
    /// Numbers; what is learned from is their distance to the mean, in deviations.
    Number {
        /// Mean of the training part.
        mean: f64,
        /// Deviation there; 1 where all are the same.
        deviation: f64,
    },
    /// Names of classes; others are one more.
    Category {
        /// Those of the training part, in order.
        names: Vec<String>,
    },
}

/// A value beside a text: a row of the table of vectors, and what it is multiplied with.
pub type Placed = (u32, f32);

impl Table {
    /// How many columns there are, and how many rows they have in the table of vectors.
    pub fn size(&self) -> [usize; 2] {
        let rows = self.columns.iter().map(TableColumn::rows).sum();
        [self.columns.len(), rows]
    }

    /// The places of a text's values; what is empty is missing, and then only the column itself is known.
    ///
    /// # Errors
    /// If something is no number where it should be: the column, and what is there.
    ///
    /// # Panics
    /// If there are more or fewer values than columns.
    pub fn placed(&self, values: &[String]) -> Result<Vec<Placed>, (&str, String)> {
        assert_eq!(values.len(), self.columns.len(), "a value a column");
        let mut first = 0;
        let columns = self.columns.iter().zip(values);
        columns
            .map(|(column, value)| {
                let row = first;
                first += column.rows() as u32;
                let value = value.trim();
                match &column.values {
                    _ if value.is_empty() => Ok((row, 0.0)),
                    TableValues::Number { mean, deviation } => {
                        let number = number(value).ok_or((&*column.name, value.to_owned()))?;
                        Ok((row, ((number - mean) / deviation) as f32))
                    }
                    TableValues::Category { names } => {
                        let known = names.binary_search_by(|name| name.as_str().cmp(value));
                        Ok((row + known.map_or(0, |at| at as u32 + 1), 1.0))
                    }
                }
            })
            .collect()
    }
}

impl TableColumn {
    fn rows(&self) -> usize {
        match &self.values {
            TableValues::Number { .. } => 1,
            TableValues::Category { names } => names.len() + 1,
        }
    }

    /// A column of numbers, of those of the training part.
    pub fn of_numbers(name: &str, values: &[f64]) -> Self {
        let count = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / count;
        let square = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let deviation = if square > 0.0 { square.sqrt() } else { 1.0 };
        Self {
            name: name.to_owned(),
            values: TableValues::Number { mean, deviation },
        }
    }

    /// A column of classes, of those of the training part.
    pub fn of_names<'a>(name: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let names: std::collections::BTreeSet<&str> = values.into_iter().collect();
        Self {
            name: name.to_owned(),
            values: TableValues::Category {
                names: names.into_iter().map(str::to_owned).collect(),
            },
        }
    }
}

/// A finite number, as text.
pub fn number(text: &str) -> Option<f64> {
    let number: f64 = text.trim().parse().ok()?;
    number.is_finite().then_some(number)
}

/// How a trained model makes one vector of a text, as its folder says it: the value of [`Self::KEY`] in `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadOut {
    /// What makes it.
    pub readout: Readout,
    /// The columns beside the text.
    #[serde(default)]
    pub table: Table,
}

impl ReadOut {
    /// Name of the setting; of this project alone.
    pub const KEY: &str = "cloze_readout";
}

impl Readout {
    pub(super) fn check(&self, path: &str, columns: &Columns, faults: &mut Faults) {
        match self {
            Self::Columns(ColumnReadout { layers, heads }) => {
                faults.check_positive(&format!("{path}.layers"), *layers);
                faults.check_positive(&format!("{path}.heads"), *heads);
            }
            Self::Recurrent(RecurrentReadout { width, start }) => {
                faults.check_positive(&format!("{path}.width"), *width);
                faults.check(columns.second.is_some(), path, || {
                    "expected pairs of texts, found single ones; name the second in data.columns.second"
                        .to_owned()
                });
                if let Some(start) = start {
                    faults.check(
                        start.population >= 4,
                        &format!("{path}.start.population"),
                        || format!("expected at least 4, found {}", start.population),
                    );
                    faults.check(
                        start.step > 0.0 && start.step.is_finite(),
                        &format!("{path}.start.step"),
                        || format!("expected a number above 0, found {}", start.step),
                    );
                    faults.check(
                        (0.0..=1.0).contains(&start.crossover),
                        &format!("{path}.start.crossover"),
                        || format!("expected a chance from 0 to 1, found {}", start.crossover),
                    );
                }
            }
        }
    }

    /// Whether columns beside the text are read.
    pub fn reads_columns(&self) -> bool {
        match self {
            Self::Columns(_) => true,
            Self::Recurrent(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            columns: vec![
                TableColumn::of_numbers("age", &[20.0, 40.0]),
                TableColumn::of_names("city", ["Oslo", "Lima", "Oslo"]),
                TableColumn::of_numbers("same", &[3.0, 3.0]),
            ],
        }
    }

    fn placed(values: [&str; 3]) -> Result<Vec<Placed>, String> {
        let values = values.map(str::to_owned);
        let table = table();
        let placed = table.placed(&values);
        placed.map_err(|(column, found)| format!("{column}: {found}"))
    }

    #[test]
    fn values_have_rows_of_their_columns() {
        assert_eq!(table().size(), [3, 5]);
        let known = placed(["50", "Oslo", "3"]);
        assert_eq!(known, Ok(vec![(0, 2.0), (3, 1.0), (4, 0.0)]));
        let unknown = placed([" 30.0 ", "Rome", "4"]);
        assert_eq!(unknown, Ok(vec![(0, 0.0), (1, 1.0), (4, 1.0)]));
        let missing = placed(["", " ", ""]);
        assert_eq!(missing, Ok(vec![(0, 0.0), (1, 0.0), (4, 0.0)]));
        for wrong in ["old", "inf", "1,5"] {
            assert_eq!(placed([wrong, "", ""]), Err(format!("age: {wrong}")));
        }
    }
}
