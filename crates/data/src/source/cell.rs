//! One value of one row, whatever format it comes from.

use std::borrow::Cow;
use std::fmt::Write;

use super::time::{self, Kind};
use crate::error::quoted;

/// One value of one row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Integer(i128),
    Float(f64),
    /// Microseconds since 1970.
    Moment(i64),
    List(Vec<Cell<'a>>),
    /// Something of no use, in words.
    Other(&'static str),
}

impl<'a> From<&'a [u8]> for Cell<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => Cell::Text(text.into()),
            Err(_) => Cell::Other("bytes that are not UTF-8"),
        }
    }
}

/// Integers above this may have been rounded on their way through a float.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

impl Cell<'_> {
    /// The value as an id; numbers are written into `buffer`. Floats without a fraction are integers: a column of
    /// integers becomes one of floats in a data frame as soon as one of them is missing.
    ///
    /// # Errors
    /// What was found instead of an id.
    pub fn id<'b>(&'b self, buffer: &'b mut String) -> Result<&'b str, String> {
        buffer.clear();
        match self {
            Cell::Text(text) if text.trim().is_empty() => return Err(self.describe()),
            Cell::Text(text) if text.contains(['\n', '\r']) => {
                return Err(format!("{} (a quote left open?)", self.describe()));
            }
            Cell::Text(text) => return Ok(text),
            Cell::Integer(integer) => match i64::try_from(*integer) {
                Ok(small) => write!(buffer, "{small}"),
                Err(_) => write!(buffer, "{integer}"),
            },
            Cell::Float(float) if float.abs() < MAX_EXACT && float.fract() == 0.0 => {
                write!(buffer, "{}", *float as i64)
            }
            Cell::Float(float) if float.abs() < MAX_EXACT => write!(buffer, "{float}"),
            Cell::Moment(micros) => match jiff::Timestamp::from_microsecond(*micros) {
                Ok(timestamp) => write!(buffer, "{timestamp}"),
                Err(_) => return Err(self.describe()),
            },
            Cell::Null | Cell::Float(_) | Cell::List(_) | Cell::Other(_) => {
                return Err(self.describe());
            }
        }
        .expect("writing to a string cannot fail");
        Ok(buffer)
    }

    /// The value as a time.
    ///
    /// # Errors
    /// What was found instead of a time.
    pub fn time(&self) -> Result<(Kind, i64), String> {
        match self {
            Cell::Text(text) => time::parse(text),
            Cell::Integer(integer) => i64::try_from(*integer).ok().map(|i| (Kind::Integer, i)),
            Cell::Float(seconds) => time::float(*seconds).map(|micros| (Kind::Float, micros)),
            Cell::Moment(micros) => Some((Kind::Date, *micros)),
            Cell::Null | Cell::List(_) | Cell::Other(_) => None,
        }
        .ok_or_else(|| self.describe())
    }

    /// The value in words, for a message.
    pub fn describe(&self) -> String {
        match self {
            Cell::Null => "nothing".into(),
            Cell::Text(text) if text.is_empty() => "nothing".into(),
            Cell::Text(text) => quoted(text),
            Cell::Integer(integer) => integer.to_string(),
            Cell::Float(float) => format!("the float {float:e}"),
            Cell::Moment(micros) => format!("a moment {micros} µs from 1970"),
            Cell::List(_) => "a list".into(),
            Cell::Other(what) => (*what).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(cell: &Cell) -> Option<String> {
        cell.id(&mut String::new()).ok().map(str::to_owned)
    }

    #[test]
    fn numbers_are_written_as_ids_only_while_exact() {
        assert_eq!(id(&Cell::Float(17850.0)).as_deref(), Some("17850"));
        assert_eq!(id(&Cell::Float(0.5)).as_deref(), Some("0.5"));
        assert_eq!(id(&Cell::Float(-0.0)).as_deref(), Some("0"));
        assert_eq!(id(&Cell::Integer(-7)).as_deref(), Some("-7"));
        assert_eq!(
            id(&Cell::Integer(i128::MAX)),
            Some("170141183460469231731687303715884105727".into())
        );
        assert_eq!(
            id(&Cell::Moment(0)).as_deref(),
            Some("1970-01-01T00:00:00Z")
        );
        for cell in [
            Cell::Float(1e16),
            Cell::Float(f64::NAN),
            Cell::Float(f64::INFINITY),
            Cell::Moment(i64::MAX),
            Cell::Null,
            Cell::Text(" ".into()),
            Cell::Text("a\nb".into()),
            Cell::from(&[0xff][..]),
        ] {
            assert_eq!(id(&cell), None, "{cell:?}");
        }
    }

    #[test]
    fn integers_beyond_64_bits_are_no_times() {
        assert_eq!(Cell::Integer(3).time(), Ok((Kind::Integer, 3)));
        assert_eq!(
            Cell::Integer(1 << 70).time(),
            Err("1180591620717411303424".into())
        );
        assert_eq!(Cell::Null.time(), Err("nothing".into()));
    }
}
