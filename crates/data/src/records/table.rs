//! Rows of results in columns, and the formats they are written in.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use arrow_array::types::{Float16Type, Float32Type, Int8Type, UInt8Type};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, FixedSizeListArray, Float32Array, Int64Array, PrimitiveArray,
    RecordBatch, StringArray,
};
use arrow_schema::{DataType, Field as ArrowField, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::encoding::{self, Encoding};
use super::npy::Npy;

/// What a column of results holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Integers of 64 bits.
    Integer,
    /// Numbers in single precision.
    Float,
    /// As many numbers in every row.
    Vector {
        /// How many.
        width: usize,
        /// How they are stored.
        encoding: Encoding,
    },
    /// A list of entries in every row, with these columns of texts and numbers. JSON has a list of objects; tables have a
    /// row for each entry, the other columns repeated, and no row for an empty list.
    List(Vec<Field>),
}

/// A column's name and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

impl Field {
    /// A column.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
        }
    }

    /// The column in words that tell any two apart.
    pub(super) fn describe(&self) -> String {
        let kind = match &self.kind {
            Kind::Text => "text".to_owned(),
            Kind::Integer => "integer".to_owned(),
            Kind::Float => "float".to_owned(),
            Kind::Vector { width, encoding } => format!("vector of {width} {}", encoding.name()),
            Kind::List(entry) => {
                let entry: Vec<String> = entry.iter().map(Self::describe).collect();
                format!("list of ({})", entry.join(", "))
            }
        };
        format!("{}: {kind}", self.name)
    }

    fn scale_name(&self) -> String {
        format!("{}_scale", self.name)
    }
}

/// Values of one column in a run of rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Of [`Kind::Text`].
    Text(Vec<Option<String>>),
    /// Of [`Kind::Integer`].
    Integer(Vec<Option<i64>>),
    /// Of [`Kind::Float`]; JSON has `null` for what is not finite.
    Float(Vec<Option<f32>>),
    /// Of [`Kind::Vector`]: `[rows, width]`, not encoded yet.
    Vectors(Vec<f32>),
    /// Of [`Kind::List`].
    Lists {
        /// Row `r` has the entries `offsets[r]..offsets[r + 1]`: from 0 up, one more than there are rows.
        offsets: Vec<usize>,
        /// The entries of all rows, one after the other.
        entries: Vec<Column>,
    },
}

impl Column {
    /// Rows of the column.
    ///
    /// # Panics
    /// If it is not of the field's kind.
    pub(super) fn rows(&self, field: &Field) -> usize {
        match (self, &field.kind) {
            (Self::Text(values), Kind::Text) => values.len(),
            (Self::Integer(values), Kind::Integer) => values.len(),
            (Self::Float(values), Kind::Float) => values.len(),
            (Self::Vectors(values), Kind::Vector { width, .. }) => {
                assert_eq!(values.len() % width, 0, "whole vectors of {}", field.name);
                values.len() / width
            }
            (Self::Lists { offsets, entries }, Kind::List(entry)) => {
                assert_eq!(entries.len(), entry.len(), "columns of {}", field.name);
                for (column, part) in entries.iter().zip(entry) {
                    let (found, end) = (column.rows(part), offsets[offsets.len() - 1]);
                    assert_eq!(found, end, "{} of {}", part.name, field.name);
                }
                offsets.len() - 1
            }
            _ => panic!("column {} is not of the kind {:?}", field.name, field.kind),
        }
    }

    /// Rows `start..end`.
    pub(super) fn slice(&self, field: &Field, start: usize, end: usize) -> Self {
        match (self, &field.kind) {
            (Self::Text(values), _) => Self::Text(values[start..end].to_vec()),
            (Self::Integer(values), _) => Self::Integer(values[start..end].to_vec()),
            (Self::Float(values), _) => Self::Float(values[start..end].to_vec()),
            (Self::Vectors(values), Kind::Vector { width, .. }) => {
                Self::Vectors(values[start * width..end * width].to_vec())
            }
            (Self::Lists { offsets, entries }, Kind::List(entry)) => {
                let (first, last) = (offsets[start], offsets[end]);
                let columns = entries.iter().zip(entry);
                Self::Lists {
                    offsets: offsets[start..=end].iter().map(|at| at - first).collect(),
                    entries: columns.map(|(c, f)| c.slice(f, first, last)).collect(),
                }
            }
            (Self::Vectors(_) | Self::Lists { .. }, _) => {
                unreachable!("kinds are checked before columns are cut")
            }
        }
    }

    /// Each row as often as the lists at `offsets` have entries.
    fn repeated(&self, field: &Field, offsets: &[usize]) -> Self {
        fn repeat<T: Clone>(values: &[T], width: usize, offsets: &[usize]) -> Vec<T> {
            let rows = values.chunks_exact(width).zip(offsets.windows(2));
            rows.flat_map(|(row, ends)| (ends[0]..ends[1]).flat_map(move |_| row.iter().cloned()))
                .collect()
        }
        match (self, &field.kind) {
            (Self::Text(values), _) => Self::Text(repeat(values, 1, offsets)),
            (Self::Integer(values), _) => Self::Integer(repeat(values, 1, offsets)),
            (Self::Float(values), _) => Self::Float(repeat(values, 1, offsets)),
            (Self::Vectors(values), Kind::Vector { width, .. }) => {
                Self::Vectors(repeat(values, *width, offsets))
            }
            (Self::Vectors(_) | Self::Lists { .. }, _) => {
                unreachable!("{CHECKED}")
            }
        }
    }
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Apache Parquet, compressed by zstd; vectors are lists of fixed size.
    Parquet,
    /// Separated by commas, with a header; what is missing or not finite is empty.
    Csv,
    /// One JSON object per line.
    Jsonl,
    /// `NumPy`'s array file; for one column of vectors in `f32`, `f16` or `binary` and nothing beside it.
    Npy,
}

impl FileFormat {
    /// The extension of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Npy => "npy",
        }
    }

    /// Whether it has lists, rather than a row for each of their entries.
    pub fn has_lists(self) -> bool {
        self == Self::Jsonl
    }

    /// What keeps `fields` from being written in this format, if anything does.
    pub(super) fn objection(self, fields: &[Field]) -> Option<String> {
        let flat;
        let fields = if self.has_lists() {
            fields
        } else {
            let is_list = |field: &&Field| matches!(field.kind, Kind::List(_));
            if fields.iter().filter(is_list).count() > 1 {
                return Some("expected one column of lists, found several".to_owned());
            }
            flat = flat_fields(fields);
            &flat
        };
        let mut names: Vec<String> = Vec::new();
        for field in fields {
            names.push(field.name.clone());
            match &field.kind {
                Kind::Vector { .. } if self == Self::Csv => {
                    return Some(format!(
                        "expected texts and numbers for .csv, found vectors in {:?}; write .parquet or .jsonl",
                        field.name
                    ));
                }
                Kind::List(entry) => {
                    let is_nested =
                        |f: &&Field| matches!(f.kind, Kind::List(_) | Kind::Vector { .. });
                    if let Some(nested) = entry.iter().find(is_nested) {
                        let (outer, inner) = (&field.name, nested.describe());
                        return Some(format!(
                            "expected texts and numbers in the list {outer:?}, found {inner}"
                        ));
                    }
                    if let Some(objection) = self.objection(entry) {
                        return Some(objection);
                    }
                }
                Kind::Vector { width: 0, .. } => {
                    return Some(format!(
                        "expected vectors in {:?}, found width 0",
                        field.name
                    ));
                }
                Kind::Vector {
                    encoding: Encoding::Int8,
                    ..
                } => names.push(field.scale_name()),
                Kind::Vector { .. } | Kind::Text | Kind::Integer | Kind::Float => {}
            }
        }
        names.sort_unstable();
        if let Some([name, ..]) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Some(format!("two columns are named {name:?}; rename one"));
        }
        if self == Self::Npy && npy_kind(fields).is_none() {
            let found: Vec<String> = fields.iter().map(Field::describe).collect();
            return Some(format!(
                "expected one column of vectors in f32, f16 or binary for .npy, found {}; leave the others out or write .parquet",
                found.join(", ")
            ));
        }
        None
    }
}

/// The columns of tables: those of a list's entries in its place.
fn flat_fields(fields: &[Field]) -> Vec<Field> {
    let parts = fields.iter().flat_map(|field| match &field.kind {
        Kind::List(entry) => entry.as_slice(),
        Kind::Text | Kind::Integer | Kind::Float | Kind::Vector { .. } => {
            std::slice::from_ref(field)
        }
    });
    parts.cloned().collect()
}

/// The columns of [`flat_fields`], and how many rows they have; none if there is no list.
fn flat_columns(fields: &[Field], columns: &[Column]) -> Option<(Vec<Column>, usize)> {
    let offsets = columns.iter().find_map(|column| match column {
        Column::Lists { offsets, .. } => Some(offsets),
        Column::Text(_) | Column::Integer(_) | Column::Float(_) | Column::Vectors(_) => None,
    })?;
    let flat = fields.iter().zip(columns);
    let flat = flat.flat_map(|(field, column)| match column {
        Column::Lists { entries, .. } => entries.clone(),
        Column::Text(_) | Column::Integer(_) | Column::Float(_) | Column::Vectors(_) => {
            vec![column.repeated(field, offsets)]
        }
    });
    Some((flat.collect(), offsets[offsets.len() - 1]))
}

/// `NumPy`'s name of what is stored, the encoding, and the width given and stored.
fn npy_kind(fields: &[Field]) -> Option<(&'static str, Encoding, usize)> {
    let [
        Field {
            kind: Kind::Vector { width, encoding },
            ..
        },
    ] = fields
    else {
        return None;
    };
    let kind = match encoding {
        Encoding::F32 => "<f4",
        Encoding::F16 => "<f2",
        Encoding::Binary => "|u1",
        Encoding::Int8 => return None,
    };
    Some((kind, *encoding, *width))
}

/// A file of results being written.
pub(super) enum Table {
    Parquet(Box<ArrowWriter<File>>, Arc<Schema>),
    Csv(Box<csv::Writer<File>>),
    Jsonl(BufWriter<Box<dyn Write + Send>>, Option<File>),
    Npy(Npy<BufWriter<File>>, Encoding, usize),
}

impl Table {
    /// Starts a file. The fields have passed [`FileFormat::objection`].
    pub fn new(file: File, format: FileFormat, fields: &[Field]) -> io::Result<Self> {
        match format {
            FileFormat::Parquet => {
                let schema = Arc::new(schema(&flat_fields(fields)));
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .build();
                let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))?;
                Ok(Self::Parquet(Box::new(writer), schema))
            }
            FileFormat::Csv => {
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(flat_fields(fields).iter().map(|field| &field.name))?;
                Ok(Self::Csv(Box::new(writer)))
            }
            FileFormat::Jsonl => {
                let same = file.try_clone()?;
                Ok(Self::Jsonl(BufWriter::new(Box::new(file)), Some(same)))
            }
            FileFormat::Npy => {
                let (kind, encoding, width) =
                    npy_kind(fields).expect("the fields were checked against the format");
                let stored = encoding.stored_width(width);
                let npy = Npy::new(BufWriter::new(file), kind, stored)?;
                Ok(Self::Npy(npy, encoding, width))
            }
        }
    }

    /// JSON Lines to a stream.
    pub fn stream(out: Box<dyn Write + Send>) -> Self {
        Self::Jsonl(BufWriter::new(out), None)
    }

    /// Appends rows.
    pub fn write(&mut self, fields: &[Field], columns: &[Column], rows: usize) -> io::Result<()> {
        if let Self::Parquet(..) | Self::Csv(_) = self
            && let Some((columns, rows)) = flat_columns(fields, columns)
        {
            return self.write(&flat_fields(fields), &columns, rows);
        }
        match self {
            Self::Parquet(writer, schema) => {
                let arrays = fields.iter().zip(columns).flat_map(arrays).collect();
                let batch = RecordBatch::try_new(Arc::clone(schema), arrays)
                    .expect("columns are of the schema's types and equally long");
                writer.write(&batch)?;
                // Parquet holds a row group in memory until it is complete.
                if writer.in_progress_size() > ROW_GROUP_BYTES {
                    writer.flush()?;
                }
                Ok(())
            }
            Self::Csv(out) => (0..rows).try_for_each(|row| {
                let cells = columns.iter().map(|column| csv_cell(column, row));
                Ok(out.write_record(cells)?)
            }),
            Self::Jsonl(out, _) => (0..rows).try_for_each(|row| {
                let mut object = serde_json::Map::new();
                for (field, column) in fields.iter().zip(columns) {
                    put_json(field, column, row, &mut object);
                }
                serde_json::to_writer(&mut *out, &object)?;
                out.write_all(b"\n")
            }),
            Self::Npy(npy, encoding, width) => {
                let Column::Vectors(values) = &columns[0] else {
                    unreachable!("the fields were checked against the format")
                };
                let mut bytes = Vec::new();
                match encoding {
                    Encoding::F32 => bytes.extend(values.iter().flat_map(|x| x.to_le_bytes())),
                    Encoding::F16 => {
                        bytes.extend(encoding::halves(values).flat_map(half::f16::to_le_bytes));
                    }
                    Encoding::Binary => {
                        for vector in values.chunks_exact(*width) {
                            encoding::bits(vector, &mut bytes);
                        }
                    }
                    Encoding::Int8 => unreachable!("the fields were checked against the format"),
                }
                npy.write(&bytes, rows)
            }
        }
    }

    /// Ends the file and waits until it is on the disk.
    pub fn finish(self) -> io::Result<()> {
        let file = match self {
            Self::Parquet(writer, _) => Some(writer.into_inner()?),
            Self::Csv(writer) => Some(
                writer
                    .into_inner()
                    .map_err(csv::IntoInnerError::into_error)?,
            ),
            Self::Jsonl(mut out, file) => {
                out.flush()?;
                file
            }
            Self::Npy(npy, ..) => Some(npy.finish()?.into_inner()?),
        };
        file.map_or(Ok(()), |file| file.sync_all())
    }
}

const ROW_GROUP_BYTES: usize = 64 << 20;

fn item(data_type: DataType) -> Arc<ArrowField> {
    Arc::new(ArrowField::new("item", data_type, false))
}

fn schema(fields: &[Field]) -> Schema {
    let mut columns = Vec::new();
    for field in fields {
        let (data_type, nullable) = match &field.kind {
            Kind::Text => (DataType::Utf8, true),
            Kind::Integer => (DataType::Int64, true),
            Kind::Float => (DataType::Float32, true),
            Kind::Vector { width, encoding } => {
                let number = match encoding {
                    Encoding::F32 => DataType::Float32,
                    Encoding::F16 => DataType::Float16,
                    Encoding::Int8 => DataType::Int8,
                    Encoding::Binary => DataType::UInt8,
                };
                let stored = encoding.stored_width(*width) as i32;
                (DataType::FixedSizeList(item(number), stored), false)
            }
            Kind::List(_) => unreachable!("tables have the entries' columns"),
        };
        columns.push(ArrowField::new(&field.name, data_type, nullable));
        if let Kind::Vector {
            encoding: Encoding::Int8,
            ..
        } = field.kind
        {
            columns.push(ArrowField::new(
                field.scale_name(),
                DataType::Float32,
                false,
            ));
        }
    }
    Schema::new(columns)
}

fn list<T: ArrowPrimitiveType>(
    values: impl IntoIterator<Item = T::Native>,
    stored: usize,
) -> ArrayRef {
    let values = PrimitiveArray::<T>::from_iter_values(values);
    Arc::new(FixedSizeListArray::new(
        item(T::DATA_TYPE),
        stored as i32,
        Arc::new(values),
        None,
    ))
}

fn arrays((field, column): (&Field, &Column)) -> Vec<ArrayRef> {
    match (column, &field.kind) {
        (Column::Text(values), _) => vec![Arc::new(StringArray::from_iter(values))],
        (Column::Integer(values), _) => vec![Arc::new(Int64Array::from(values.clone()))],
        (Column::Float(values), _) => vec![Arc::new(Float32Array::from(values.clone()))],
        (Column::Vectors(values), &Kind::Vector { width, encoding }) => {
            let stored = encoding.stored_width(width);
            match encoding {
                Encoding::F32 => vec![list::<Float32Type>(values.iter().copied(), stored)],
                Encoding::F16 => vec![list::<Float16Type>(encoding::halves(values), stored)],
                Encoding::Int8 => {
                    let mut bytes = Vec::with_capacity(values.len());
                    let scales: Vec<f32> = values
                        .chunks_exact(width)
                        .map(|vector| encoding::int8(vector, &mut bytes))
                        .collect();
                    vec![
                        list::<Int8Type>(bytes, stored),
                        Arc::new(Float32Array::from(scales)),
                    ]
                }
                Encoding::Binary => {
                    let mut bytes = Vec::new();
                    for vector in values.chunks_exact(width) {
                        encoding::bits(vector, &mut bytes);
                    }
                    vec![list::<UInt8Type>(bytes, stored)]
                }
            }
        }
        (Column::Vectors(_) | Column::Lists { .. }, _) => unreachable!("{CHECKED}"),
    }
}

const CHECKED: &str = "kinds are checked before rows are written";

fn csv_cell(column: &Column, row: usize) -> String {
    match column {
        Column::Text(values) => values[row].clone().unwrap_or_default(),
        Column::Integer(values) => values[row].map_or_else(String::new, |x| x.to_string()),
        Column::Float(values) => {
            let value = values[row].filter(|x| x.is_finite());
            value.map_or_else(String::new, |x| x.to_string())
        }
        Column::Vectors(_) | Column::Lists { .. } => unreachable!("{CHECKED}"),
    }
}

fn put_json(
    field: &Field,
    column: &Column,
    row: usize,
    object: &mut serde_json::Map<String, Value>,
) {
    let value = match (column, &field.kind) {
        (Column::Text(values), _) => Value::from(values[row].as_deref()),
        (Column::Integer(values), _) => Value::from(values[row]),
        (Column::Float(values), _) => values[row].map_or(Value::Null, number),
        (Column::Vectors(values), &Kind::Vector { width, encoding }) => {
            let vector = &values[row * width..(row + 1) * width];
            match encoding {
                Encoding::F32 => vector.iter().copied().map(number).collect(),
                Encoding::F16 => encoding::halves(vector)
                    .map(|x| number(x.to_f32()))
                    .collect(),
                Encoding::Int8 => {
                    let mut bytes = Vec::new();
                    let scale = encoding::int8(vector, &mut bytes);
                    object.insert(field.scale_name(), number(scale));
                    Value::from(bytes)
                }
                Encoding::Binary => {
                    let mut bytes = Vec::new();
                    encoding::bits(vector, &mut bytes);
                    Value::from(bytes)
                }
            }
        }
        (Column::Lists { offsets, entries }, Kind::List(entry)) => {
            let object = |at| {
                let mut object = serde_json::Map::new();
                for (field, column) in entry.iter().zip(entries) {
                    put_json(field, column, at, &mut object);
                }
                Value::Object(object)
            };
            (offsets[row]..offsets[row + 1]).map(object).collect()
        }
        (Column::Vectors(_) | Column::Lists { .. }, _) => unreachable!("{CHECKED}"),
    };
    object.insert(field.name.clone(), value);
}

/// A number with no more digits than single precision has.
fn number(value: f32) -> Value {
    value
        .to_string()
        .parse()
        .ok()
        .and_then(serde_json::Number::from_f64)
        .map_or(Value::Null, Value::Number)
}
