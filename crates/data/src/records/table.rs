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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        let kind = match self.kind {
            Kind::Text => "text".to_owned(),
            Kind::Integer => "integer".to_owned(),
            Kind::Float => "float".to_owned(),
            Kind::Vector { width, encoding } => format!("vector of {width} {}", encoding.name()),
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
}

impl Column {
    /// Rows of the column.
    ///
    /// # Panics
    /// If it is not of the field's kind.
    pub(super) fn rows(&self, field: &Field) -> usize {
        match (self, field.kind) {
            (Self::Text(values), Kind::Text) => values.len(),
            (Self::Integer(values), Kind::Integer) => values.len(),
            (Self::Float(values), Kind::Float) => values.len(),
            (Self::Vectors(values), Kind::Vector { width, .. }) => {
                assert_eq!(values.len() % width, 0, "whole vectors of {}", field.name);
                values.len() / width
            }
            _ => panic!("column {} is not of the kind {:?}", field.name, field.kind),
        }
    }

    /// Rows `start..end`.
    pub(super) fn slice(&self, field: &Field, start: usize, end: usize) -> Self {
        match (self, field.kind) {
            (Self::Text(values), _) => Self::Text(values[start..end].to_vec()),
            (Self::Integer(values), _) => Self::Integer(values[start..end].to_vec()),
            (Self::Float(values), _) => Self::Float(values[start..end].to_vec()),
            (Self::Vectors(values), Kind::Vector { width, .. }) => {
                Self::Vectors(values[start * width..end * width].to_vec())
            }
            (Self::Vectors(_), _) => unreachable!("kinds are checked before columns are cut"),
        }
    }
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Apache Parquet, compressed by zstd; vectors are lists of fixed size.
    Parquet,
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
            Self::Jsonl => "jsonl",
            Self::Npy => "npy",
        }
    }

    /// What keeps `fields` from being written in this format, if anything does.
    pub(super) fn objection(self, fields: &[Field]) -> Option<String> {
        let mut names: Vec<String> = Vec::new();
        for field in fields {
            names.push(field.name.clone());
            match field.kind {
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
                _ => {}
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
    Jsonl(BufWriter<Box<dyn Write + Send>>, Option<File>),
    Npy(Npy<BufWriter<File>>, Encoding, usize),
}

impl Table {
    /// Starts a file. The fields have passed [`FileFormat::objection`].
    pub fn new(file: File, format: FileFormat, fields: &[Field]) -> io::Result<Self> {
        match format {
            FileFormat::Parquet => {
                let schema = Arc::new(schema(fields));
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .build();
                let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties))?;
                Ok(Self::Parquet(Box::new(writer), schema))
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
        let (data_type, nullable) = match field.kind {
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
                let stored = encoding.stored_width(width) as i32;
                (DataType::FixedSizeList(item(number), stored), false)
            }
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
    match (column, field.kind) {
        (Column::Text(values), _) => vec![Arc::new(StringArray::from_iter(values))],
        (Column::Integer(values), _) => vec![Arc::new(Int64Array::from(values.clone()))],
        (Column::Float(values), _) => vec![Arc::new(Float32Array::from(values.clone()))],
        (Column::Vectors(values), Kind::Vector { width, encoding }) => {
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
        (Column::Vectors(_), _) => unreachable!("kinds are checked before rows are written"),
    }
}

fn put_json(
    field: &Field,
    column: &Column,
    row: usize,
    object: &mut serde_json::Map<String, Value>,
) {
    let value = match (column, field.kind) {
        (Column::Text(values), _) => Value::from(values[row].as_deref()),
        (Column::Integer(values), _) => Value::from(values[row]),
        (Column::Float(values), _) => values[row].map_or(Value::Null, number),
        (Column::Vectors(values), Kind::Vector { width, encoding }) => {
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
        (Column::Vectors(_), _) => unreachable!("kinds are checked before rows are written"),
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
