//! A model folder, ready to run.

use std::collections::BTreeMap;
use std::path::Path;

use cloze_data::text::{Encoding, Input, Limit, Long, Shorten, Tokenizer};
use cloze_kernels::Isa;
use cloze_kernels::op::encode::pool::{self, Pool, normalize};
use cloze_kernels::op::packed::{PackedLinear, Residual, Storage};
use cloze_spec::hugging_face::{Folder, Resolved, Source};
use cloze_spec::inventory::Parameter;
use cloze_spec::sentence::{Dense, Embedder, Module, Pooling, PoolingMode};
use cloze_spec::{Encoder, Faults};

use crate::cpu::{CpuEngine, Options, activation_of};
use crate::weights::Weights;
use crate::{Batch, Engine, Error, Rows};

/// A folder's encoder and the values of its parameters, for any engine.
pub struct Checkpoint {
    /// What the folder's files say.
    pub folder: Folder,
    /// What is computed.
    pub encoder: Encoder,
    weights: Weights,
    shapes: BTreeMap<String, Vec<usize>>,
    sources: Vec<Source>,
}

impl Checkpoint {
    /// Opens a folder; values are read when they are asked for.
    ///
    /// # Errors
    /// If the folder lacks a file, its settings are not understood, or its weights are not those that the settings need.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = Folder::read(path)?;
        let weights = Weights::open(&folder.weights)?;
        let shapes = weights.shapes();
        let Resolved {
            encoder,
            parameters,
        } = folder.resolve(&shapes)?;
        Ok(Self {
            folder,
            encoder,
            weights,
            shapes,
            sources: parameters,
        })
    }

    /// The values of one of the encoder's parameters into `out`.
    ///
    /// # Errors
    /// If they are not floats.
    ///
    /// # Panics
    /// If it is none of the encoder's, or `out` has another length.
    pub fn read(&self, wanted: &Parameter, out: &mut [f32]) -> Result<(), Error> {
        let source = self
            .sources
            .iter()
            .find(|source| source.parameter == *wanted);
        let source = source.unwrap_or_else(|| panic!("{} is a parameter", wanted.name));
        let mut rest = out;
        for piece in &source.pieces {
            let row: usize = self.shapes[&piece.tensor].iter().skip(1).product();
            let (here, after) = rest.split_at_mut(piece.rows.len() * row);
            self.weights.read(&piece.tensor, piece.rows.clone(), here)?;
            rest = after;
        }
        assert!(rest.is_empty(), "{}: its pieces fill it", wanted.name);
        Ok(())
    }
}

/// Opens the encoder of a folder on the CPU engine, and tells what the folder says.
///
/// # Errors
/// As [`Checkpoint::open`] and [`CpuEngine::new`].
pub fn open(path: &Path, options: Options) -> Result<(Folder, CpuEngine), Error> {
    let checkpoint = Checkpoint::open(path)?;
    let engine = CpuEngine::new(checkpoint.encoder.clone(), options, &mut |wanted, out| {
        checkpoint.read(wanted, out)
    })?;
    Ok((checkpoint.folder, engine))
}

/// Makes embeddings of texts: tokenizer, encoder, and what a sentence-transformers folder puts behind it.
pub struct TextEncoder {
    tokenizer: Tokenizer,
    engine: CpuEngine,
    embedder: Embedder,
    dense: Vec<PackedLinear>,
    max_len: usize,
    isa: Isa,
}

impl TextEncoder {
    /// Opens a folder; one without settings for embeddings takes the mean of the token vectors.
    ///
    /// # Errors
    /// As [`open`], and if there is no tokenizer.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let (folder, engine) = open(path, options)?;
        let embedder = folder.embedder.unwrap_or_else(|| Embedder {
            modules: vec![Module::Pooling(Pooling {
                modes: vec![PoolingMode::Mean],
                include_prompt: true,
            })],
            ..Embedder::default()
        });
        let isa = options.isa.unwrap_or_else(Isa::detect);
        let dense = embedder.modules.iter().filter_map(|module| match module {
            Module::Dense(dense) => Some(read_dense(isa, path, dense)),
            Module::Pooling(_) | Module::Normalize => None,
        });
        let home = folder.tokenizer.first().and_then(|file| file.parent());
        let tokenizer = Tokenizer::open(home.unwrap_or(path))?.with_strip(true);
        let tokenizer = if embedder.lowercase {
            tokenizer.with_lowercase(true)
        } else {
            tokenizer
        };
        let limits = [
            embedder.max_len,
            folder.tokenizer_max_len,
            tokenizer.max_len(),
        ];
        let longest = engine.encoder().max_len;
        Ok(Self {
            max_len: limits.into_iter().flatten().fold(longest, usize::min),
            dense: dense.collect::<Result<_, _>>()?,
            tokenizer,
            engine,
            embedder,
            isa,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What runs.
    pub fn engine(&self) -> &CpuEngine {
        &self.engine
    }

    /// What follows the encoder.
    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }

    /// Longest input in tokens, special ones included.
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// Dimensions of an embedding.
    pub fn dimensions(&self) -> usize {
        let mut width = self.engine.encoder().width;
        for module in &self.embedder.modules {
            match module {
                Module::Pooling(pooling) => width *= pooling.modes.len(),
                Module::Dense(dense) => width = dense.outputs,
                Module::Normalize => {}
            }
        }
        self.embedder
            .truncate_dim
            .map_or(width, |kept| kept.min(width))
    }

    /// A text's tokens, after the prompt of that name, or the folder's default one; cut to what the model takes.
    ///
    /// # Errors
    /// If there is no such prompt, or the tokenizer cannot take the text.
    pub fn encode(&self, text: &str, prompt: Option<&str>) -> Result<Encoding, Error> {
        let long = Long::Truncate(Shorten::LongestFirst);
        let windows = self.windows(text, prompt, long)?;
        Ok(windows.into_iter().next().expect("a text has a window"))
    }

    /// A text's tokens in as many windows as `long` makes of it.
    ///
    /// # Errors
    /// As [`Self::encode`], and if the text is too long and may not be cut.
    pub fn windows(
        &self,
        text: &str,
        prompt: Option<&str>,
        long: Long,
    ) -> Result<Vec<Encoding>, Error> {
        let name = prompt.or(self.embedder.default_prompt.as_deref());
        let prompt = match name {
            None => None,
            Some(name) => {
                let known = &self.embedder.prompts;
                let Some(text) = known.get(name) else {
                    let known: Vec<_> = known.keys().map(String::as_str).collect();
                    return Err(Error::Batch(format!(
                        "expected a prompt that the model has ({}), found {name:?}",
                        known.join(", ")
                    )));
                };
                Some(self.tokenizer.prompt(text)?)
            }
        };
        let input = Input {
            prompt: prompt.as_ref(),
            first: text,
            second: None,
        };
        let limit = Limit {
            max_len: self.max_len,
            long,
        };
        Ok(self.tokenizer.encode(input, limit)?)
    }

    /// The embeddings of tokenised texts, one after the other: `[B, E]`.
    ///
    /// # Errors
    /// If a text is longer than the model takes.
    pub fn embed(&self, texts: &[&Encoding]) -> Result<Vec<f32>, Error> {
        let encoder = self.engine.encoder();
        let mut batch = Batch::new();
        for text in texts {
            let segments: &[u32] = if encoder.embed.segments.is_some() {
                &text.segments
            } else {
                &[]
            };
            batch.push(&text.ids, segments);
        }
        let firsts = &batch.offsets[..batch.len()];
        let only_first = self.embedder.modules.iter().all(|module| match module {
            Module::Pooling(pooling) => pooling.modes == [PoolingMode::First],
            Module::Dense(_) | Module::Normalize => true,
        });
        let mut vectors = Vec::new();
        if only_first {
            self.engine.run(&batch, Rows::Some(firsts), &mut vectors)?;
        } else {
            self.engine.run(&batch, Rows::All, &mut vectors)?;
        }
        let mut width = encoder.width;
        let mut dense = self.dense.iter();
        for module in &self.embedder.modules {
            match module {
                Module::Pooling(_) if only_first => {}
                Module::Pooling(pooling) => {
                    vectors = self.pool(pooling, texts, &batch, &vectors);
                    width *= pooling.modes.len();
                }
                Module::Dense(settings) => {
                    let map = dense.next().expect("opened with the folder");
                    let mut out = vec![0.0; batch.len() * map.outputs()];
                    let residual = if settings.residual {
                        Residual::Add(&vectors)
                    } else {
                        Residual::None
                    };
                    map.forward(&vectors, residual, &mut out);
                    (vectors, width) = (out, settings.outputs);
                }
                Module::Normalize => normalize(self.isa, width, &mut vectors),
            }
        }
        let kept = self.dimensions();
        if kept < width {
            let rows = vectors.chunks_exact(width);
            vectors = rows.flat_map(|row| &row[..kept]).copied().collect();
        }
        Ok(vectors)
    }

    fn pool(
        &self,
        pooling: &Pooling,
        texts: &[&Encoding],
        batch: &Batch,
        vectors: &[f32],
    ) -> Vec<f32> {
        let width = self.engine.encoder().width;
        let stride = width * pooling.modes.len();
        let skip: Vec<u32> = if pooling.include_prompt {
            Vec::new()
        } else {
            texts.iter().map(|text| text.prompt as u32).collect()
        };
        let mut out = vec![0.0; batch.len() * stride];
        for (index, mode) in pooling.modes.iter().enumerate() {
            let how = match mode {
                PoolingMode::First => Pool::First,
                PoolingMode::Max => Pool::Max,
                PoolingMode::Mean => Pool::Mean,
                PoolingMode::MeanSqrtLen => Pool::MeanSqrtLen,
                PoolingMode::WeightedMean => Pool::WeightedMean,
                PoolingMode::Last => Pool::Last,
            };
            let column = index * width;
            let (isa, offsets) = (self.isa, &batch.offsets);
            pool::pool(
                isa, how, width, vectors, offsets, &skip, &mut out, stride, column,
            );
        }
        out
    }
}

fn read_dense(isa: Isa, home: &Path, dense: &Dense) -> Result<PackedLinear, Error> {
    let folder = home.join(&dense.folder);
    let files = ["model.safetensors", "pytorch_model.bin"].map(|name| folder.join(name));
    let Some(file) = files.iter().find(|file| file.is_file()) else {
        return Err(Error::Weights {
            path: folder,
            message: "expected model.safetensors or pytorch_model.bin, found neither".to_owned(),
        });
    };
    let weights = Weights::open(std::slice::from_ref(file))?;
    let shapes = weights.shapes();
    let mut wanted = vec![("linear.weight", vec![dense.outputs, dense.inputs])];
    if dense.bias {
        wanted.push(("linear.bias", vec![dense.outputs]));
    }
    let mut faults = Faults::default();
    for (name, shape) in &wanted {
        let found = shapes.get(*name);
        faults.check(found == Some(shape), &format!("tensor {name:?}"), || {
            let found = found.map_or("nothing".to_owned(), |found| format!("{found:?}"));
            format!("expected {shape:?}, found {found}")
        });
    }
    for (name, shape) in &shapes {
        let is_wanted = wanted.iter().any(|(wanted, _)| wanted == name);
        faults.check(is_wanted, &format!("tensor {name:?}"), || {
            format!("not expected, found {shape:?}")
        });
    }
    faults.into_result(&file.display().to_string())?;
    let read = |(name, shape): (&str, Vec<usize>)| {
        let mut values = vec![0.0; shape.iter().product()];
        weights.read(name, 0..shape[0], &mut values)?;
        Ok::<_, Error>(values)
    };
    let mut values = wanted.into_iter().map(read);
    let weight = values.next().expect("it is the first wanted")?;
    let bias = values.next().transpose()?;
    let activation = activation_of(dense.activation);
    let (inputs, storage) = (dense.inputs, Storage::F32);
    Ok(PackedLinear::new(
        isa,
        inputs,
        &weight,
        bias.as_deref(),
        activation,
        false,
        storage,
    ))
}
