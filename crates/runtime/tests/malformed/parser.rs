//! The readers of model folders, which take whatever others publish.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cloze_kernels::Isa;
use cloze_runtime::cpu::{CpuEngine, Options};
use cloze_runtime::golden::Golden;
use cloze_runtime::model::{self, Checkpoint, TextEncoder};
use cloze_runtime::weights::Weights;
use cloze_runtime::{Batch, Engine, Rows};
use cloze_spec::hugging_face::Folder;
use zip::CompressionMethod;

use crate::torch;

/// A reader of outside bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parser {
    /// Weights as safetensors.
    Safetensors,
    /// Weights as `torch.save` writes them, in both containers.
    Torch,
    /// The pickle in them.
    Pickle,
    /// A `config.json`, and after a [`CUT`] the shapes of the tensors beside it.
    Config,
    /// The name of a folder of `tests/golden`, a line feed, and a `config.json` to stand in it.
    Model,
    /// What is in a sentence-transformers folder beside the encoder, with [`CUT`]s between: [`SENTENCE_FILES`].
    Sentence,
    /// The index of sharded weights.
    Index,
    /// Reference outputs.
    Golden,
}

/// What stands between files that are damaged together.
pub const CUT: &str = "\n====\n";

/// The files of [`Parser::Sentence`].
pub const SENTENCE_FILES: [&str; 6] = [
    "modules.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer_config.json",
];

/// All of them.
pub const PARSERS: [Parser; 8] = [
    Parser::Safetensors,
    Parser::Torch,
    Parser::Pickle,
    Parser::Config,
    Parser::Model,
    Parser::Sentence,
    Parser::Index,
    Parser::Golden,
];

/// Values of the storages that pickles speak of.
pub const STORAGES: [(&str, &[u8]); 3] = [("0", &[0x3f; 64]), ("1", &[0x40; 64]), ("2", &[1; 64])];

impl Parser {
    /// The name of its fuzz target.
    pub fn name(self) -> &'static str {
        match self {
            Parser::Safetensors => "safetensors",
            Parser::Torch => "torch",
            Parser::Pickle => "pickle",
            Parser::Config => "config",
            Parser::Model => "model",
            Parser::Sentence => "sentence",
            Parser::Index => "index",
            Parser::Golden => "golden",
        }
    }

    /// Reads `bytes` by way of files in `folder`; whether they were accepted.
    ///
    /// # Panics
    /// If the reader does, or what it accepts is not what it promises.
    pub fn run(self, bytes: &[u8], folder: &Path) -> bool {
        match self {
            Parser::Safetensors => weights(bytes, "model.safetensors", folder),
            Parser::Torch => weights(bytes, "pytorch_model.bin", folder),
            Parser::Pickle => {
                let file = torch::zip(bytes, &STORAGES, CompressionMethod::Stored);
                weights(&file, "pytorch_model.bin", folder)
            }
            Parser::Config => config(bytes, folder),
            Parser::Model => model(bytes, folder),
            Parser::Sentence => sentence(bytes, folder),
            Parser::Index => {
                let folder = like("bert-qa", folder);
                write(&folder, "model.safetensors.index.json", bytes);
                Checkpoint::open(&folder).is_ok()
            }
            Parser::Golden => golden(bytes, folder),
        }
    }
}

/// A folder of references.
pub fn references(name: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The fuzz targets are built one folder below.
    let home = home
        .ancestors()
        .find(|home| home.join("tests/golden").is_dir());
    home.expect("the folder is there")
        .join("tests/golden")
        .join(name)
}

/// A copy of a folder of references, made once.
fn like(name: &str, folder: &Path) -> PathBuf {
    let copy = folder.join(name);
    if !copy.exists() {
        copy_all(&references(name), &copy);
    }
    copy
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy_all(&entry, &target);
        } else {
            fs::copy(&entry, &target).unwrap();
        }
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let file = folder.join(name);
    // Some file systems flush a file that is overwritten, which takes longer than all the rest.
    if file.exists() {
        fs::remove_file(&file).unwrap();
    }
    fs::write(&file, bytes).unwrap();
    file
}

fn weights(bytes: &[u8], name: &str, folder: &Path) -> bool {
    let file = write(folder, name, bytes);
    let Ok(weights) = Weights::open(&[file]) else {
        return false;
    };
    for (name, shape) in weights.shapes() {
        let Some(&rows) = shape.first() else { continue };
        let row: usize = shape[1..].iter().product();
        // What compression and ties may make of a file, at most.
        assert!(rows * row <= bytes.len() * 32 * 16, "{name} {shape:?}");
        let mut values = vec![f32::NAN; rows * row];
        // Integers are refused.
        if weights.read(&name, 0..rows, &mut values).is_ok() && rows > 1 {
            let mut last = vec![f32::NAN; row];
            weights.read(&name, rows - 1..rows, &mut last).unwrap();
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
            assert!(values[(rows - 1) * row..].iter().zip(&last).all(same));
        }
    }
    true
}

/// A text before a cut, and the rest.
fn cut(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let cut = CUT.as_bytes();
    let at = bytes.windows(cut.len()).position(|window| window == cut)?;
    Some((&bytes[..at], &bytes[at + cut.len()..]))
}

fn config(bytes: &[u8], folder: &Path) -> bool {
    let Some((config, shapes)) = cut(bytes) else {
        return false;
    };
    let Ok(shapes) = serde_json::from_slice::<BTreeMap<String, Vec<usize>>>(shapes) else {
        return false;
    };
    let home = folder.join("config");
    fs::create_dir_all(&home).unwrap();
    write(&home, "config.json", config);
    write(&home, "model.safetensors", b"");
    let resolved = Folder::read(&home).and_then(|folder| folder.resolve(&shapes));
    let Ok(resolved) = resolved else { return false };
    for source in resolved.parameters {
        let mut values = 0;
        for piece in &source.pieces {
            let shape = &shapes[&piece.tensor];
            assert!(piece.rows.end <= shape[0], "{source:?}");
            values += piece.rows.len() * shape[1..].iter().product::<usize>();
        }
        assert_eq!(
            values,
            source.parameter.shape.iter().product::<usize>(),
            "{source:?}"
        );
    }
    true
}

const OPTIONS: Options = Options {
    other: None,
    further: None,
    threads: None,
    storage: cloze_runtime::cpu::Storage::F32,
    isa: Some(Isa::Scalar),
};

fn model(bytes: &[u8], folder: &Path) -> bool {
    let Some(at) = bytes.iter().position(|&byte| byte == b'\n') else {
        return false;
    };
    let name = str::from_utf8(&bytes[..at]).unwrap_or_default();
    if !crate::corpus::MODELS.contains(&name) {
        return false;
    }
    let home = like(name, folder);
    write(&home, "config.json", &bytes[at + 1..]);
    let Ok((_, engine)) = model::open(&home, OPTIONS) else {
        return false;
    };
    let encoder = engine.encoder();
    let mut batch = Batch::new();
    for len in [1, 7] {
        let len = encoder.max_len.min(len);
        let last = encoder.embed.vocab as u32 - 1;
        let tokens: Vec<u32> = (0..len as u32).map(|token| token.min(last)).collect();
        batch.push(&tokens, &[]);
    }
    let mut vectors = Vec::new();
    engine.run(&batch, Rows::All, &mut vectors).unwrap();
    assert_eq!(vectors.len(), batch.tokens.len() * encoder.width);
    if let Some(head) = &encoder.head {
        let mut outputs = Vec::new();
        engine.head(&vectors, &mut outputs).unwrap();
        let width = match (head.output, head.transform) {
            (Some(output), _) => output.outputs,
            (None, Some(transform)) => transform.width,
            (None, None) => encoder.width,
        };
        assert_eq!(outputs.len(), batch.tokens.len() * width);
    }
    true
}

fn sentence(bytes: &[u8], folder: &Path) -> bool {
    let home = like("sentence", folder);
    let mut rest = bytes;
    for (place, name) in SENTENCE_FILES.iter().enumerate() {
        let (file, after) = match cut(rest) {
            Some(parts) => parts,
            None if place + 1 == SENTENCE_FILES.len() => (rest, &[][..]),
            None => return false,
        };
        write(&home, name, file);
        rest = after;
    }
    let Ok(model) = TextEncoder::open(&home, OPTIONS) else {
        return false;
    };
    let Ok(encoding) = model.encode("a text", None) else {
        return false;
    };
    assert!(encoding.ids.len() <= model.max_len());
    let vectors = model.embed(&[&encoding, &encoding]).unwrap();
    assert_eq!(vectors.len(), 2 * model.dimensions());
    true
}

fn golden(bytes: &[u8], folder: &Path) -> bool {
    static ENGINE: OnceLock<CpuEngine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| model::open(&references("bert"), OPTIONS).unwrap().1);
    let file = write(folder, "golden.safetensors", bytes);
    let Ok(golden) = Golden::read(&file) else {
        return false;
    };
    golden.compare(engine).is_ok()
}
