//! Apache Parquet.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::cell::Cell;
use super::{Scan, find_columns};
use crate::Error;
use crate::error::Place;

const BATCH_ROWS: usize = 8192;

pub(super) fn scan(path: &Path, columns: &[&str], scan: &mut dyn Scan) -> Result<(), Error> {
    let (builder, total_bytes) = open(path)?;
    let total_rows = builder.metadata().file_metadata().num_rows().max(1) as u64;
    let names: Vec<String> = builder
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let picks = find_columns(path, &names, columns)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), picks.iter().copied());
    let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
    let mut row = 0;
    for batch in batches(path, builder)? {
        scan_batch(path, &batch?, columns, &mut row, scan)?;
        let share = row as f64 / total_rows as f64;
        scan.bytes(((total_bytes as f64 * share) as u64).min(total_bytes));
    }
    Ok(())
}

/// Opens a Parquet file and checks what its footer says; also gives its size in bytes.
pub(crate) fn open(path: &Path) -> Result<(ParquetRecordBatchReaderBuilder<File>, u64), Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let total_bytes = file.metadata().map_err(io)?.len();
    // Without the embedded Arrow schema there are fewer types to meet: no dictionaries, no views.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = guard(path, || {
        ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
    })?;
    for group in builder.metadata().row_groups() {
        let sound = |column: &ColumnChunkMetaData| {
            let start = column
                .dictionary_page_offset()
                .map_or(column.data_page_offset(), |dictionary| {
                    dictionary.min(column.data_page_offset())
                });
            let end = start.checked_add(column.compressed_size());
            start >= 0
                && column.compressed_size() >= 0
                && end.is_some_and(|end| end as u64 <= total_bytes)
                && column.num_values() >= 0
        };
        if group.num_rows() < 0 || !group.columns().iter().all(sound) {
            let what = "the footer places data outside of the file";
            return Err(broken(path, ParquetError::General(what.into())));
        }
    }
    Ok((builder, total_bytes))
}

/// The rows of an opened file. After an error there are no more.
pub(crate) fn batches(
    path: &Path,
    builder: ParquetRecordBatchReaderBuilder<File>,
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>>, Error> {
    let mut reader = Some(guard(path, || builder.build())?);
    Ok(std::iter::from_fn(move || {
        let open = reader.as_mut()?;
        let next = guard(path, || {
            open.next().transpose().map_err(|error| match error {
                ArrowError::ParquetError(message) => ParquetError::General(message),
                other => ParquetError::External(Box::new(other)),
            })
        });
        if !matches!(next, Ok(Some(_))) {
            reader = None;
        }
        next.transpose()
    }))
}

/// Turns a panic into an error: the Parquet reader checks less than damaged files need. What it was working on is
/// given up with it.
fn guard<T>(path: &Path, work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref().cloned());
            let text = text.unwrap_or_else(|| "for no stated reason".into());
            Err(ParquetError::General(format!("its reader gave up: {text}")))
        })
        .map_err(|source| broken(path, source))
}

fn broken(path: &Path, source: ParquetError) -> Error {
    Error::Parquet {
        path: path.to_owned(),
        source,
    }
}

fn scan_batch(
    path: &Path,
    batch: &RecordBatch,
    columns: &[&str],
    row: &mut u64,
    scan: &mut dyn Scan,
) -> Result<(), Error> {
    let readers = columns
        .iter()
        .map(|name| {
            let array = batch
                .column_by_name(name)
                .expect("the projection has every column asked for");
            let of_use = scan.takes_lists()
                || !matches!(array.data_type(), DataType::List(_) | DataType::Boolean);
            let cells = of_use.then(|| cells_of(array)).flatten();
            cells.ok_or_else(|| Error::Format {
                path: path.to_owned(),
                expected: format!("numbers, strings, dates or timestamps in column {name:?}"),
                found: format!("the type {}", array.data_type()),
                advice: "name another column or convert this one".into(),
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut cells = Vec::with_capacity(columns.len());
    for index in 0..batch.num_rows() {
        *row += 1;
        cells.clear();
        cells.extend(readers.iter().map(|cell| cell(index)));
        scan.row(Place::Row(*row), Ok(&cells))?;
    }
    Ok(())
}

/// Gives the cell of a row.
type CellReader<'a> = Box<dyn Fn(usize) -> Cell<'a> + 'a>;

/// Reads the cells of a column, if it is of a type that has any.
fn cells_of(array: &dyn Array) -> Option<CellReader<'_>> {
    macro_rules! cells {
        ($type:ty, |$value:ident| $cell:expr) => {{
            let array = array.as_primitive::<$type>();
            Box::new(move |row| {
                let $value = array.value(row);
                $cell
            })
        }};
    }
    let cell: CellReader = match array.data_type() {
        DataType::Int8 => cells!(Int8Type, |value| Cell::Integer(value.into())),
        DataType::Int16 => cells!(Int16Type, |value| Cell::Integer(value.into())),
        DataType::Int32 => cells!(Int32Type, |value| Cell::Integer(value.into())),
        DataType::Int64 => cells!(Int64Type, |value| Cell::Integer(value.into())),
        DataType::UInt8 => cells!(UInt8Type, |value| Cell::Integer(value.into())),
        DataType::UInt16 => cells!(UInt16Type, |value| Cell::Integer(value.into())),
        DataType::UInt32 => cells!(UInt32Type, |value| Cell::Integer(value.into())),
        DataType::UInt64 => cells!(UInt64Type, |value| Cell::Integer(value.into())),
        DataType::Decimal128(_, 0) => cells!(Decimal128Type, |value| Cell::Integer(value)),
        DataType::Float16 => cells!(Float16Type, |value| Cell::Float(value.into())),
        DataType::Float32 => cells!(Float32Type, |value| Cell::Float(value.into())),
        DataType::Float64 => cells!(Float64Type, |value| Cell::Float(value)),
        DataType::Date32 => cells!(Date32Type, |days| moment(days.into(), 86_400_000_000)),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => cells!(TimestampSecondType, |time| moment(time, 1_000_000)),
            TimeUnit::Millisecond => cells!(TimestampMillisecondType, |time| moment(time, 1000)),
            TimeUnit::Microsecond => cells!(TimestampMicrosecondType, |time| Cell::Moment(time)),
            TimeUnit::Nanosecond => cells!(TimestampNanosecondType, |time| Cell::Moment(
                time.div_euclid(1000)
            )),
        },
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            Box::new(move |row| Cell::Text(array.value(row).into()))
        }
        DataType::Boolean => {
            let array = array.as_boolean();
            Box::new(move |row| Cell::Other(if array.value(row) { "true" } else { "false" }))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let cell = cells_of(list.values().as_ref())?;
            Box::new(move |row| {
                let ends = &list.value_offsets()[row..=row + 1];
                Cell::List((ends[0]..ends[1]).map(|at| cell(at as usize)).collect())
            })
        }
        // Some writers leave out the note that says their bytes are text.
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            Box::new(move |row| Cell::from(array.value(row)))
        }
        _ => return None,
    };
    if array.null_count() == 0 {
        return Some(cell);
    }
    Some(Box::new(move |row| {
        if array.is_null(row) {
            Cell::Null
        } else {
            cell(row)
        }
    }))
}

fn moment(time: i64, unit_micros: i64) -> Cell<'static> {
    time.checked_mul(unit_micros)
        .map_or(Cell::Other("a time out of range"), Cell::Moment)
}
