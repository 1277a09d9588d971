//! Tokens of more texts than memory holds: written to files once, read from there batch by batch.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cloze_spec::folder::write_text;
use serde::{Deserialize, Serialize};

use super::Encoding;
use super::examples::{Examples, pack};
use super::learn::{Ask, Corpus, encode, held_out, plain};
use crate::Error;

/// Where tokens are kept, and what they are made by.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The folder of the run.
    pub folder: &'a Path,
    /// The files of the tokenizer.
    pub tokenizer: &'a [PathBuf],
}

/// Texts of a chunk, which are tokenised together.
const CHUNK: usize = 8192;
const CHUNK_BYTES: usize = 16 << 20;
/// Every so many texts it is remembered where one begins.
const STRIDE: usize = 64;

/// Tokens in a file, as [`pack`] has them, in four bytes each, the least first; then the length of each text in two bytes, and
/// their number in eight.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    file: Mutex<File>,
    /// Where every [`STRIDE`]th text begins, in tokens, and where the last one ends.
    starts: Vec<u64>,
    lens: Vec<u16>,
}

impl Store {
    fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let damaged = || Error::Format {
            path: path.to_owned(),
            expected: "tokens as they were written".to_owned(),
            found: "less or more".to_owned(),
            advice: "remove the file, and it is made anew".to_owned(),
        };
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut read = |end: u64, count: u64| {
            let start = size.checked_sub(end).ok_or_else(damaged)?;
            let mut bytes = vec![0; count as usize];
            file.seek(SeekFrom::Start(start))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(io)?;
            Ok::<_, Error>(bytes)
        };
        let texts = read(8, 8)?.first_chunk().copied();
        let texts = texts
            .map(u64::from_le_bytes)
            .expect("eight bytes were read");
        let end = texts.checked_mul(2).and_then(|lens| lens.checked_add(8));
        let end = end.ok_or_else(damaged)?;
        let lens = read(end, end - 8)?;
        let lens = lens.as_chunks().0.iter().copied().map(u16::from_le_bytes);
        let store = Self::new(path.to_owned(), file, lens.collect());
        if 4 * store.tokens() as u64 + end != size {
            return Err(damaged());
        }
        Ok(store)
    }

    fn new(path: PathBuf, file: File, lens: Vec<u16>) -> Self {
        let mut end = 0;
        let mut starts = vec![0];
        starts.extend(lens.chunks(STRIDE).map(|lens| {
            end += lens.iter().map(|&len| u64::from(len)).sum::<u64>();
            end
        }));
        Self {
            path,
            file: Mutex::new(file),
            starts,
            lens,
        }
    }

    /// The length of each text in tokens.
    pub(super) fn lens(&self) -> &[u16] {
        &self.lens
    }

    /// Number of tokens.
    pub(super) fn tokens(&self) -> usize {
        self.starts[self.starts.len() - 1] as usize
    }

    /// The tokens of a text.
    ///
    /// # Panics
    /// If the file can no longer be read.
    pub(super) fn text(&self, text: usize) -> Vec<u32> {
        let first = text - text % STRIDE;
        let before = self.lens[first..text].iter().map(|&len| u64::from(len));
        let start = self.starts[text / STRIDE] + before.sum::<u64>();
        let mut bytes = vec![0; 4 * usize::from(self.lens[text])];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file
            .seek(SeekFrom::Start(4 * start))
            .and_then(|_| file.read_exact(&mut bytes));
        if let Err(error) = read {
            panic!(
                "{}: {error}; tokens were there when the run began",
                self.path.display()
            );
        }
        let tokens = bytes.as_chunks().0.iter().copied();
        tokens.map(u32::from_le_bytes).collect()
    }
}

/// A store under way.
struct Writer {
    path: PathBuf,
    /// Where it stands until it is whole.
    temporary: PathBuf,
    out: BufWriter<File>,
    lens: Vec<u16>,
}

impl Writer {
    fn create(path: PathBuf) -> Result<Self, Error> {
        let mut temporary = path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary);
        match file {
            Ok(file) => Ok(Self {
                path,
                temporary,
                out: BufWriter::with_capacity(1 << 20, file),
                lens: Vec::new(),
            }),
            Err(source) => Err(Error::Io {
                path: temporary,
                source,
            }),
        }
    }

    fn push(&mut self, encoding: &Encoding) -> Result<(), Error> {
        let len = u16::try_from(encoding.len()).map_err(|_| {
            Error::Text(format!(
                "expected at most {} tokens to keep in a file, found {}; lower model.max_len",
                u16::MAX,
                encoding.len()
            ))
        })?;
        self.lens.push(len);
        let mut tokens = pack(encoding);
        let written = tokens.try_for_each(|token| self.out.write_all(&token.to_le_bytes()));
        written.map_err(|source| self.fault(source))
    }

    fn finish(mut self) -> Result<Store, Error> {
        let mut close = || {
            for len in &self.lens {
                self.out.write_all(&len.to_le_bytes())?;
            }
            self.out
                .write_all(&(self.lens.len() as u64).to_le_bytes())?;
            self.out.flush()?;
            self.out.get_ref().sync_all()?;
            std::fs::rename(&self.temporary, &self.path)?;
            self.out.get_ref().try_clone()
        };
        match close() {
            Ok(file) => Ok(Store::new(self.path, file, self.lens)),
            Err(source) => Err(self.fault(source)),
        }
    }

    fn fault(&self, source: std::io::Error) -> Error {
        Error::Io {
            path: self.temporary.clone(),
            source,
        }
    }
}

/// What is learned from and chosen by, in files.
pub(super) struct Parts {
    pub(super) train: Examples,
    pub(super) validation: Examples,
    /// Their texts.
    pub(super) corpora: Vec<Corpus>,
    pub(super) fingerprint: u64,
}

/// What the files of tokens were made from, and what is in them.
#[derive(Serialize, Deserialize)]
struct Index {
    key: u64,
    fingerprint: u64,
    corpora: Vec<Corpus>,
}

impl Parts {
    /// The parts in the folder of a run; made anew where there are none, or they were made from something else.
    pub(super) fn open(ask: &Ask<'_>) -> Result<Self, Error> {
        let at = |name: &str| ask.place.folder.join(name);
        let (path, key) = (at("tokens.json"), key(ask)?);
        let index = std::fs::read(&path).ok();
        let index = index.and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
        let files = [at("tokens.train"), at("tokens.validation")];
        let is_whole = |index: &Index| index.key == key && files.iter().all(|file| file.exists());
        if let Some(index) = index.filter(is_whole) {
            let [train, validation] = files;
            return Ok(Self {
                train: Examples::stored(Store::open(&train)?),
                validation: Examples::stored(Store::open(&validation)?),
                corpora: index.corpora,
                fingerprint: index.fingerprint,
            });
        }
        std::fs::create_dir_all(ask.place.folder).map_err(|source| Error::Io {
            path: ask.place.folder.to_owned(),
            source,
        })?;
        let [train, validation] = files.map(Writer::create);
        let mut parts = [train?, validation?];
        let texts = ask.texts;
        let mut corpora = Vec::new();
        if texts.corpus.is_empty() {
            split(ask, &mut parts)?;
        }
        for corpus in &texts.corpus {
            let starts = [0, 1].map(|part| parts[part].lens.len());
            let texts = &texts.only(corpus);
            split(&Ask { texts, ..*ask }, &mut parts)?;
            let [train, validation] = [0, 1].map(|part| starts[part]..parts[part].lens.len());
            corpora.push(Corpus {
                name: corpus.name.clone(),
                train,
                validation,
            });
        }
        let [train, validation] = parts.map(Writer::finish);
        let train = Examples::stored(train?);
        let index = Index {
            key,
            fingerprint: train.fingerprint(),
            corpora,
        };
        let json = serde_json::to_string(&index).expect("an index can be written");
        write_text(&path, &json).map_err(|error| Error::Output {
            path,
            message: error.to_string(),
        })?;
        Ok(Self {
            train,
            validation: Examples::stored(validation?),
            corpora: index.corpora,
            fingerprint: index.fingerprint,
        })
    }
}

/// Tokenises texts into what is learned from, and what is chosen by.
fn split(ask: &Ask<'_>, parts: &mut [Writer; 2]) -> Result<(), Error> {
    let texts = ask.texts;
    if texts.files.is_empty() {
        return Err(Error::NoFiles);
    }
    if !texts.validation.is_empty() {
        fill(ask, &texts.files, parts, &|_| 0)?;
        return fill(ask, &texts.validation, parts, &|_| 1);
    }
    // Which ones are held out depends on how many there are.
    let mut count = 0;
    plain(texts, &texts.files, &mut |_| {
        count += 1;
        Ok(())
    })?;
    let is_held = held_out(count, texts.validation_share, ask.seed);
    fill(ask, &texts.files, parts, &|text| usize::from(is_held[text]))
}

fn fill(
    ask: &Ask<'_>,
    files: &[PathBuf],
    parts: &mut [Writer; 2],
    part: &dyn Fn(usize) -> usize,
) -> Result<(), Error> {
    let mut done = 0;
    let mut flush = |chunk: &mut Vec<String>| -> Result<(), Error> {
        for encodings in encode(chunk.as_slice(), |text| ask.windows(text))? {
            let own = encodings.iter().filter(|one| !one.body().is_empty());
            for encoding in own {
                parts[part(done)].push(encoding)?;
            }
            done += 1;
        }
        chunk.clear();
        Ok(())
    };
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    plain(ask.texts, files, &mut |text| {
        bytes += text.len();
        chunk.push(text);
        if chunk.len() < CHUNK && bytes < CHUNK_BYTES {
            return Ok(());
        }
        bytes = 0;
        flush(&mut chunk)
    })?;
    flush(&mut chunk)
}

/// A hash of all that tokens depend on; of texts, their files' names, sizes and times.
fn key(ask: &Ask<'_>) -> Result<u64, Error> {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    // FNV-1a (Fowler, Noll and Vo).
    let mut add = |bytes: &[u8]| {
        hash = bytes.iter().fold(hash, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    };
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    add(&serde_json::to_vec(ask.texts).expect("settings can be written"));
    add(&ask.seed.to_le_bytes());
    add(&ask.max_len.to_le_bytes());
    for file in ask.place.tokenizer {
        add(&std::fs::read(file).map_err(io(file))?);
    }
    let of_corpora = ask.texts.corpus.iter();
    let of_corpora = of_corpora.flat_map(|corpus| corpus.files.iter().chain(&corpus.validation));
    for file in ask
        .texts
        .files
        .iter()
        .chain(&ask.texts.validation)
        .chain(of_corpora)
    {
        let found = std::fs::metadata(file).map_err(io(file))?;
        add(&found.len().to_le_bytes());
        let changed = found.modified().map_err(io(file))?;
        let since = changed.duration_since(std::time::UNIX_EPOCH);
        add(&since.map_or(0, |since| since.as_nanos()).to_le_bytes());
    }
    Ok(hash)
}
