//! Files and pipes as streams of plain text, whatever they are compressed with.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use crate::Error;

/// The longest record of a text file; more is a wrong file or an attack, and would only fill the memory.
const MAX_RECORD_BYTES: u64 = 16 << 20;
const BUFFER_BYTES: usize = 128 << 10;

/// An open text file.
pub(crate) struct Text {
    /// Decompressed, without byte order mark.
    pub stream: Box<dyn BufRead>,
    /// Whether it is no text but a Parquet file.
    pub is_parquet: bool,
    /// How far the file has been read.
    pub meter: Rc<Meter>,
}

/// What has been read.
#[derive(Default)]
pub(crate) struct Meter {
    /// Bytes of the file as it lies on the disk.
    raw_bytes: Cell<u64>,
    /// Bytes of text since the last call to [`Meter::record_read`].
    record_bytes: Cell<u64>,
}

impl Meter {
    /// Bytes read of the file as it lies on the disk.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes.get()
    }

    /// Notes that a record has been read whole, so that the next one may be as long as any.
    pub fn record_read(&self) {
        self.record_bytes.set(0);
    }
}

/// Opens `path`, or standard input if it is `-`.
pub(crate) fn open(path: &Path) -> Result<Text, Error> {
    open_stream(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })
}

fn open_stream(path: &Path) -> io::Result<Text> {
    let meter = Rc::new(Meter::default());
    let file: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path)?)
    };
    let raw = RawMeter {
        inner: file,
        meter: Rc::clone(&meter),
    };
    let (head, raw) = peek(BufReader::with_capacity(BUFFER_BYTES, raw))?;
    let plain: Box<dyn Read> = match head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(raw)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(raw)?),
        _ => Box::new(raw),
    };
    let plain = TextMeter {
        inner: plain,
        meter: Rc::clone(&meter),
    };
    let (head, mut stream) = peek(BufReader::with_capacity(BUFFER_BYTES, plain))?;
    if head.starts_with(&[0xef, 0xbb, 0xbf]) {
        stream.consume(3);
    }
    Ok(Text {
        is_parquet: head == b"PAR1",
        stream: Box::new(stream),
        meter,
    })
}

/// The first four bytes, or all if there are fewer, and the stream with them still in front.
fn peek<R: BufRead>(mut stream: R) -> io::Result<(Vec<u8>, impl BufRead)> {
    let mut head = Vec::new();
    stream.by_ref().take(4).read_to_end(&mut head)?;
    Ok((head.clone(), io::Cursor::new(head).chain(stream)))
}

struct RawMeter<R> {
    inner: R,
    meter: Rc<Meter>,
}

impl<R: Read> Read for RawMeter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let read = &self.meter.raw_bytes;
        read.set(read.get() + count as u64);
        Ok(count)
    }
}

struct TextMeter<R> {
    inner: R,
    meter: Rc<Meter>,
}

impl<R: Read> Read for TextMeter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = &self.meter.record_bytes;
        if read.get() > MAX_RECORD_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a record of more than 16 MiB",
            ));
        }
        let count = self.inner.read(buffer)?;
        read.set(read.get() + count as u64);
        Ok(count)
    }
}
