//! NumPy's array file, version 1.0, as described in `numpy.lib.format`.

use std::io::{self, Seek, SeekFrom, Write};

/// Length of the header with everything before the data: room for any number of rows, and a multiple of 64 as the
/// format asks for.
const HEADER_BYTES: usize = 128;

/// Writes a matrix whose number of rows is known at the end.
pub(super) struct Npy<W> {
    out: W,
    /// NumPy's name of a number's type.
    kind: &'static str,
    width: usize,
    rows: u64,
}

impl<W: Write + Seek> Npy<W> {
    pub fn new(mut out: W, kind: &'static str, width: usize) -> io::Result<Self> {
        out.write_all(&header(kind, 0, width))?;
        Ok(Self {
            out,
            kind,
            width,
            rows: 0,
        })
    }

    /// Appends `rows` rows, given as the bytes of little-endian numbers.
    pub fn write(&mut self, bytes: &[u8], rows: usize) -> io::Result<()> {
        self.rows += rows as u64;
        self.out.write_all(bytes)
    }

    /// Puts the number of rows into the header.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.seek(SeekFrom::Start(0))?;
        self.out
            .write_all(&header(self.kind, self.rows, self.width))?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn header(kind: &str, rows: u64, width: usize) -> [u8; HEADER_BYTES] {
    let dictionary =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    let mut header = [b' '; HEADER_BYTES];
    header[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    header[8..10].copy_from_slice(&(HEADER_BYTES as u16 - 10).to_le_bytes());
    header[10..10 + dictionary.len()].copy_from_slice(dictionary.as_bytes());
    header[HEADER_BYTES - 1] = b'\n';
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_header_fits() {
        let header = header("<f4", u64::MAX, usize::MAX);
        assert_eq!(header[HEADER_BYTES - 1], b'\n');
        assert_eq!(header[HEADER_BYTES - 2], b' ');
    }
}
