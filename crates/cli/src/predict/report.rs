//! How predictions are written down: rows of cells, for files and for a table on the terminal.

use cloze_data::records::{Column, Field, Kind};
use cloze_data::text::{Answer, Entity};
use cloze_runtime::predict::{
    Answerer, Classifier, FeatureClassifier, FillMask, Filled, Label, Predict, TokenClassifier,
    Transcript, Transcripts,
};

/// One value of a row.
pub enum Cell {
    Text(Option<String>),
    Integer(Option<i64>),
    Float(f32),
}

/// A task whose predictions are rows.
pub trait Report: Predict {
    /// Name of the list of a text's rows; none if each text has exactly one.
    fn list(&self) -> Option<&'static str>;

    /// Columns of the rows.
    fn fields(&self) -> Vec<Field>;

    /// A text's rows.
    fn rows(&self, prediction: Self::Prediction) -> Vec<Vec<Cell>>;

    /// What a text without rows lacks, if that is worth a warning.
    fn lacks(&self) -> Option<String> {
        None
    }
}

/// Rows as columns.
pub fn columns(fields: &[Field], rows: Vec<Vec<Cell>>) -> Vec<Column> {
    let mut columns: Vec<Column> = fields
        .iter()
        .map(|field| match field.kind {
            Kind::Integer => Column::Integer(Vec::new()),
            Kind::Float => Column::Float(Vec::new()),
            Kind::Text | Kind::Vector { .. } | Kind::List(_) => Column::Text(Vec::new()),
        })
        .collect();
    for row in rows {
        for (column, cell) in columns.iter_mut().zip(row) {
            match (column, cell) {
                (Column::Text(values), Cell::Text(value)) => values.push(value),
                (Column::Integer(values), Cell::Integer(value)) => values.push(value),
                (Column::Float(values), Cell::Float(value)) => values.push(Some(value)),
                (column, _) => unreachable!("a cell of another kind than {column:?}"),
            }
        }
    }
    columns
}

impl Cell {
    /// As it is shown to people.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => text
                .as_deref()
                .unwrap_or("")
                .replace(['\n', '\r', '\t'], " "),
            Self::Integer(number) => number.map_or_else(String::new, |number| number.to_string()),
            // Four digits, of probabilities close to 0 too.
            Self::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:.1e}"),
            Self::Float(number) => format!("{number:.4}"),
        }
    }
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(Some(text.into()))
}

fn integer(number: impl Into<i64>) -> Cell {
    Cell::Integer(Some(number.into()))
}

fn fields<const N: usize>(fields: [(&str, Kind); N]) -> Vec<Field> {
    let fields = fields.into_iter();
    fields.map(|(name, kind)| Field::new(name, kind)).collect()
}

impl Report for FillMask {
    fn list(&self) -> Option<&'static str> {
        Some("fills")
    }

    fn fields(&self) -> Vec<Field> {
        fields([
            ("mask", Kind::Integer),
            ("token", Kind::Text),
            ("token_id", Kind::Integer),
            ("score", Kind::Float),
            ("filled", Kind::Text),
        ])
    }

    fn rows(&self, filled: Filled) -> Vec<Vec<Cell>> {
        let count = filled.masks.len();
        let masks = filled.masks.iter().enumerate();
        masks
            .flat_map(|(mask, fills)| fills.iter().enumerate().map(move |fill| (mask, fill)))
            .map(|(mask, (rank, fill))| {
                // One copy of the text for each token is too much of a text full of masks.
                let whole = match (count, mask, rank) {
                    (1, ..) => Some(filled.with(|_| fill)),
                    (_, 0, 0) => Some(filled.text()),
                    _ => None,
                };
                let (mask, id) = (integer(mask as i64), integer(fill.id));
                let score = Cell::Float(fill.score);
                vec![mask, text(&fill.token), id, score, Cell::Text(whole)]
            })
            .collect()
    }

    fn lacks(&self) -> Option<String> {
        Some(format!("no mask, {}", self.mask()))
    }
}

impl Report for Classifier {
    fn list(&self) -> Option<&'static str> {
        (self.labels().len() > 1).then_some("labels")
    }

    fn fields(&self) -> Vec<Field> {
        let all = fields([("label", Kind::Text), ("score", Kind::Float)]);
        all[usize::from(self.list().is_none())..].to_vec()
    }

    fn rows(&self, labels: Vec<Label>) -> Vec<Vec<Cell>> {
        let row = |label: Label| {
            let score = Cell::Float(label.score);
            if self.list().is_some() {
                vec![text(label.label), score]
            } else {
                vec![score]
            }
        };
        labels.into_iter().map(row).collect()
    }
}

impl Report for FeatureClassifier {
    fn list(&self) -> Option<&'static str> {
        Some("labels")
    }

    fn fields(&self) -> Vec<Field> {
        fields([("label", Kind::Text), ("score", Kind::Float)])
    }

    fn rows(&self, labels: Vec<Label>) -> Vec<Vec<Cell>> {
        let rows = labels.into_iter();
        rows.map(|Label { label, score }| vec![text(label), Cell::Float(score)])
            .collect()
    }
}

impl Report for TokenClassifier {
    fn list(&self) -> Option<&'static str> {
        Some(if self.aggregation.is_some() {
            "entities"
        } else {
            "tokens"
        })
    }

    fn fields(&self) -> Vec<Field> {
        fields([
            ("label", Kind::Text),
            ("score", Kind::Float),
            ("start", Kind::Integer),
            ("end", Kind::Integer),
            ("text", Kind::Text),
        ])
    }

    fn rows(&self, entities: Vec<Entity>) -> Vec<Vec<Cell>> {
        let row = |entity: Entity| {
            let (start, end) = (integer(entity.chars.start), integer(entity.chars.end));
            let score = Cell::Float(entity.score);
            vec![text(entity.label), score, start, end, text(entity.text)]
        };
        entities.into_iter().map(row).collect()
    }
}

impl Report for Transcripts {
    fn list(&self) -> Option<&'static str> {
        None
    }

    fn fields(&self) -> Vec<Field> {
        fields([("label", Kind::Text), ("score", Kind::Float)])
    }

    fn rows(&self, found: Transcript) -> Vec<Vec<Cell>> {
        let labels = found.labels.join(&self.separator().to_string());
        vec![vec![text(labels), Cell::Float(found.score)]]
    }
}

impl Report for Answerer {
    fn list(&self) -> Option<&'static str> {
        Some("answers")
    }

    fn fields(&self) -> Vec<Field> {
        fields([
            ("answer", Kind::Text),
            ("score", Kind::Float),
            ("start", Kind::Integer),
            ("end", Kind::Integer),
        ])
    }

    fn rows(&self, answers: Vec<Answer>) -> Vec<Vec<Cell>> {
        let row = |answer: Answer| {
            let score = Cell::Float(answer.score);
            if answer.chars.is_empty() {
                let (start, end) = (Cell::Integer(None), Cell::Integer(None));
                return vec![Cell::Text(None), score, start, end];
            }
            let (start, end) = (integer(answer.chars.start), integer(answer.chars.end));
            vec![text(answer.text), score, start, end]
        };
        answers.into_iter().map(row).collect()
    }
}
