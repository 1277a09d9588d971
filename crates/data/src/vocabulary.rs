//! The items a model knows.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};

use crate::Error;
use crate::error::{nearest, quoted};
use crate::source::parquet;

/// Items by token id, with what people call them and how often they occur in the training part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemVocabulary {
    ids: Vec<String>,
    titles: Vec<Option<String>>,
    counts: Vec<u64>,
    index: HashMap<String, u32>,
}

impl ItemVocabulary {
    /// A vocabulary of parallel columns.
    ///
    /// # Panics
    /// If the columns differ in length or an id occurs twice.
    pub fn new(ids: Vec<String>, titles: Vec<Option<String>>, counts: Vec<u64>) -> Self {
        assert!(
            ids.len() == titles.len() && ids.len() == counts.len(),
            "{} ids, {} titles, {} counts",
            ids.len(),
            titles.len(),
            counts.len()
        );
        let index: HashMap<_, _> = ids.iter().cloned().zip(0..).collect();
        assert_eq!(index.len(), ids.len(), "item ids are unique");
        Self {
            ids,
            titles,
            counts,
            index,
        }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The token of the item called `id` in the data.
    pub fn index(&self, id: &str) -> Option<u32> {
        self.index.get(id).copied()
    }

    /// What the data calls the item of `token`.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn id(&self, token: u32) -> &str {
        &self.ids[token as usize]
    }

    /// What people call the item of `token`, if known.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn title(&self, token: u32) -> Option<&str> {
        self.titles[token as usize].as_deref()
    }

    /// Events of each item in the training part, by token; 0 for items that occur only in held-out parts.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The known id most similar to `id`, for a message; none if none is similar.
    pub fn nearest(&self, id: &str) -> Option<&str> {
        nearest(id, self.ids.iter().map(String::as_str))
    }

    /// Writes the vocabulary as Parquet: columns `id`, `title` and `count`, one row per token in order.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let schema = Arc::new(schema());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(&self.ids)),
            Arc::new(StringArray::from_iter(&self.titles)),
            Arc::new(UInt64Array::from_iter_values(self.counts.iter().copied())),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
            .expect("three columns of one length, as the schema says");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let file = File::create(path).map_err(|source| io(path, source))?;
        let mut writer =
            ArrowWriter::try_new(file, schema, Some(properties)).map_err(|e| broken(path, e))?;
        writer.write(&batch).map_err(|e| broken(path, e))?;
        let file = writer.into_inner().map_err(|e| broken(path, e))?;
        file.sync_all().map_err(|source| io(path, source))
    }

    /// Reads what [`ItemVocabulary::write`] wrote.
    ///
    /// # Errors
    /// If the file is damaged, has other columns, or an id is missing, empty or not unique.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (builder, _) = parquet::open(path)?;
        check_columns(path, builder.schema())?;
        let mut vocabulary = Self::default();
        for batch in parquet::batches(path, builder)? {
            vocabulary.extend(path, &batch?)?;
        }
        if vocabulary.is_empty() {
            return Err(fault(path, 0, "at least one item", "none"));
        }
        Ok(vocabulary)
    }

    fn extend(&mut self, path: &Path, batch: &RecordBatch) -> Result<(), Error> {
        let ids = batch.column(0).as_string::<i32>();
        let titles = batch.column(1).as_string::<i32>();
        let counts = batch.column(2).as_primitive::<UInt64Type>();
        for row in 0..batch.num_rows() {
            let token = self.ids.len();
            if ids.is_null(row) || ids.value(row).is_empty() {
                return Err(fault(path, token, "an id", "nothing"));
            }
            if counts.is_null(row) {
                return Err(fault(path, token, "a count", "nothing"));
            }
            let id = ids.value(row).to_owned();
            if let Some(before) = self.index.insert(id.clone(), token as u32) {
                let found = format!("{}, which is in row {before} too", quoted(&id));
                return Err(fault(path, token, "ids that differ", found));
            }
            self.ids.push(id);
            self.titles
                .push((!titles.is_null(row)).then(|| titles.value(row).to_owned()));
            self.counts.push(counts.value(row));
        }
        Ok(())
    }
}

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("title", DataType::Utf8, true),
        Field::new("count", DataType::UInt64, false),
    ])
}

fn check_columns(path: &Path, found: &Schema) -> Result<(), Error> {
    let describe = |schema: &Schema| {
        let fields = schema.fields().iter();
        let columns: Vec<_> = fields
            .map(|field| format!("{} ({})", field.name(), field.data_type()))
            .collect();
        columns.join(", ")
    };
    let (expected, found) = (describe(&schema()), describe(found));
    if expected == found {
        return Ok(());
    }
    Err(Error::Format {
        path: path.to_owned(),
        expected: format!("the columns {expected}"),
        found,
        advice: "use the items.parquet of a model folder".into(),
    })
}

fn fault(path: &Path, row: usize, expected: &'static str, found: impl Into<String>) -> Error {
    Error::Vocabulary {
        path: path.to_owned(),
        row,
        expected,
        found: found.into(),
    }
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

fn broken(path: &Path, source: ParquetError) -> Error {
    Error::Parquet {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> ItemVocabulary {
        ItemVocabulary::new(
            vec!["85123A".into(), "71053".into(), "ü".into()],
            vec![
                Some("WHITE HANGING HEART".into()),
                None,
                Some(String::new()),
            ],
            vec![2369, 0, u64::MAX],
        )
    }

    #[test]
    fn what_is_written_is_read_back_and_written_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
        vocabulary().write(&first).unwrap();
        let read = ItemVocabulary::read(&first).unwrap();
        assert_eq!(read, vocabulary());
        assert_eq!(read.index("71053"), Some(1));
        assert_eq!(
            (read.id(0), read.title(0)),
            ("85123A", Some("WHITE HANGING HEART"))
        );
        assert_eq!(read.title(1), None);
        read.write(&second).unwrap();
        assert_eq!(
            std::fs::read(first).unwrap(),
            std::fs::read(second).unwrap()
        );
    }

    fn write_columns(columns: Vec<(&str, ArrayRef)>, path: &Path) {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn broken_vocabularies_are_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("items.parquet");
        for (ids, message) in [
            (
                vec!["a", "b", "a"],
                r#"row 2: expected ids that differ, found "a", which is in row 0 too"#,
            ),
            (vec!["a", ""], "row 1: expected an id, found nothing"),
            (vec![], "row 0: expected at least one item, found none"),
        ] {
            let count = ids.len();
            let ids: ArrayRef = Arc::new(StringArray::from(ids));
            let titles: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; count]));
            let counts: ArrayRef = Arc::new(UInt64Array::from(vec![1; count]));
            write_columns(
                vec![("id", ids), ("title", titles), ("count", counts)],
                &path,
            );
            let error = ItemVocabulary::read(&path).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        write_columns(vec![("item", ids)], &path);
        let error = ItemVocabulary::read(&path).unwrap_err().to_string();
        assert!(
            error.contains(
                "expected the columns id (Utf8), title (Utf8), count (UInt64), found item (Utf8)"
            ),
            "{error}"
        );
    }

    #[test]
    fn the_nearest_id_is_one_that_could_be_meant() {
        assert_eq!(vocabulary().nearest("85123"), Some("85123A"));
        assert_eq!(vocabulary().nearest("qqqq"), None);
    }
}
