//! Times as people write them.

use jiff::civil::DateTime;
use jiff::tz::Offset;

/// How a time is written. Times of different kinds do not compare, so a column has one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An integer, kept as it is: only the order of times counts, so any unit will do.
    Integer,
    /// A number with a fraction or an exponent, taken as seconds and kept in microseconds.
    Float,
    /// A date, or a date and time, by ISO 8601, kept in microseconds since 1970; UTC unless it has an offset.
    Date,
}

impl Kind {
    /// The kind in words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Integer => "an integer",
            Kind::Float => "a float",
            Kind::Date => "an ISO 8601 date",
        }
    }
}

/// Reads an integer, a float, or a date by ISO 8601 such as `2011-12-09`, `2011-12-09 12:50` or
/// `2011-12-09T12:50:00.5+02:00`.
///
/// # Units
/// As said at each [`Kind`].
pub fn parse(text: &str) -> Option<(Kind, i64)> {
    let text = text.trim_ascii();
    if let Ok(integer) = text.parse() {
        return Some((Kind::Integer, integer));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return float(seconds).map(|micros| (Kind::Float, micros));
    }
    date(text).map(|micros| (Kind::Date, micros))
}

/// Seconds in microseconds, unless not finite or out of range.
pub(crate) fn float(seconds: f64) -> Option<i64> {
    let micros = (seconds * 1e6).round();
    // 2^63 is the first float beyond the range of i64; NaN fails the comparison too.
    (micros.abs() < 9_223_372_036_854_775_808.0).then_some(micros as i64)
}

fn date(text: &str) -> Option<i64> {
    // Text that does not start like a year is refused here, before a date parser words its error.
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') {
        return None;
    }
    let has_offset =
        text.ends_with(['Z', 'z']) || text.get(10..).is_some_and(|rest| rest.contains(['+', '-']));
    let timestamp = if has_offset {
        text.parse().ok()?
    } else {
        let civil: DateTime = text.parse().ok()?;
        Offset::UTC.to_timestamp(civil).ok()?
    };
    Some(jiff::Timestamp::as_microsecond(timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_time_is_read() {
        const DAY: i64 = 86_400_000_000;
        for (text, expected) in [
            ("978300760", (Kind::Integer, 978_300_760)),
            (" -5 ", (Kind::Integer, -5)),
            ("9223372036854775807", (Kind::Integer, i64::MAX)),
            ("978300760.25", (Kind::Float, 978_300_760_250_000)),
            ("1.5e3", (Kind::Float, 1_500_000_000)),
            ("1970-01-02", (Kind::Date, DAY)),
            ("1970-01-02T00:00", (Kind::Date, DAY)),
            ("1970-01-02 00:00:00.000001", (Kind::Date, DAY + 1)),
            ("1970-01-02T02:00:00+02:00", (Kind::Date, DAY)),
            ("1970-01-01 23:00:00-01", (Kind::Date, DAY)),
            ("1970-01-02T00:00:00Z", (Kind::Date, DAY)),
            ("1969-12-31T23:59:59", (Kind::Date, -1_000_000)),
        ] {
            assert_eq!(parse(text), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            " ",
            "yesterday",
            "NaN",
            "inf",
            "1e300",
            "99999999999999999999",
            "2011-13-01",
            "2011-02-30",
            "2011-12-09T25:00",
            "09/12/2011",
            "2011-12-09T12:00:00+99:00",
            "२०११-१२-०९",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
